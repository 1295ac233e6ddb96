//! Topics: a tenant's durable logs, their consumer groups, and what is bound to them.
//!
//! Each tenant's topics have one owner, which begins with the first thing that is asked and ends
//! when there is nothing left. Messages are kept before they are acknowledged; whoever reads them
//! changes nothing by it, but for what a group acknowledges.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashSet};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_protocol::Code;

use crate::{
    batch::{Engine, Failure},
    clock::Clock,
    rules::topic::plant::{self, Bug},
    store::{ScopeId, Store},
    tenancy::{Permit, Quota, Registry, Tenant},
};

mod ask;
mod binding;
mod config;
mod consume;
mod letter;
mod load;
mod member;
mod message;
mod messages;
mod owner;
mod produce;
mod reader;
mod record;
mod service;
mod shelf;
mod staged;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use ask::{GroupInfo, GroupPart, PartInfo, TopicInfo};
pub(crate) use binding::BindingInfo;
pub use config::{BadSetting, Config};
pub(crate) use consume::{Consuming, Got, Reading, Start};
pub(crate) use member::{Joining, Member};
pub(crate) use produce::{Appended, Producing, Ready};
pub(crate) use shelf::Fate;

pub(crate) use crate::{rules::topic::Retention, store::Page};

use shelf::Shelf;

/// The topics of every tenant. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Topics(Arc<Inner>);

struct Inner {
    config: Config,
    store: Store,
    tenants: Registry,
    engine: Engine,
    clock: Clock,
    runtime: Handle,
    shelves: Mutex<HashMap<u32, Arc<Shelf>>>,
    draining: AtomicBool,
    stop: CancellationToken,
    owners: TaskTracker,
    tallies: Tallies,
    /// Streams that produce, and that consume, by the tenant's number.
    streams: Mutex<HashMap<u32, (u64, u64)>>,
}

/// A stream that produces or consumes: its share of the tenant's quota, and that it is there.
pub(crate) struct Stream {
    inner: Arc<Inner>,
    tenant: u32,
    produces: bool,
    _permit: Permit,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut streams = self.inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_tenant) = streams.get_mut(&self.tenant) else { return };
        *if self.produces { &mut of_tenant.0 } else { &mut of_tenant.1 } -= 1;
        if *of_tenant == (0, 0) {
            streams.remove(&self.tenant);
        }
    }
}

/// How many messages came and went, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    appended: AtomicU64,
    delivered: AtomicU64,
}

impl Tallies {
    fn appended(&self, messages: u64) {
        self.appended.fetch_add(messages, Relaxed);
    }

    pub(crate) fn delivered(&self, messages: u64) {
        self.delivered.fetch_add(messages, Relaxed);
    }

    /// Messages that were appended.
    pub(crate) fn appended_count(&self) -> u64 {
        self.appended.load(Relaxed)
    }

    /// Messages that were delivered.
    pub(crate) fn delivered_count(&self) -> u64 {
        self.delivered.load(Relaxed)
    }
}

/// What a tenant's topics come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub topics: u64,
    pub partitions: u64,
    pub groups: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Messages from the groups' positions to the ends.
    pub lag: u64,
    /// Messages among the dead letters.
    pub dead: u64,
}

/// What is said when the broker stops.
fn stopped() -> Failure {
    Failure::new(Code::Draining, "the broker is shutting down")
}

impl Inner {
    fn shelves(&self) -> MutexGuard<'_, HashMap<u32, Arc<Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// A shelf whose owner is gone is nobody's.
    fn forget(&self, shelf: &Arc<Shelf>) {
        let mut shelves = self.shelves();
        let index = shelf.tenant.index();
        if shelves.get(&index).is_some_and(|known| Arc::ptr_eq(known, shelf)) {
            shelves.remove(&index);
        }
    }

    /// Whether the owner of a shelf may go: nobody else has it.
    fn retire(&self, shelf: &Arc<Shelf>) -> bool {
        let mut shelves = self.shelves();
        // The map's, the owner's, and that of the task that runs the owner.
        if Arc::strong_count(shelf) > 3 {
            return false;
        }
        shelves.remove(&shelf.tenant.index());
        true
    }

    /// A tenant's shelf, and its owner: begun when there is none.
    fn shelf(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Arc<Shelf> {
        let mut shelves = self.shelves();
        let known = match shelves.values().next() {
            Some(any) if plant::is(Bug::ForeignRead) => Some(any),
            _ => shelves.get(&tenant.index()),
        };
        if let Some(shelf) = known {
            return shelf.clone();
        }
        let scope = self.store.scope(ScopeId::topics(tenant.index()));
        let recent = self.config.recent_bytes_max;
        let shelf = Arc::new(Shelf::new(tenant.clone(), scope, self.clock, recent));
        shelves.insert(tenant.index(), shelf.clone());
        drop(shelves);
        let owner = owner::run(self.clone(), shelf.clone());
        self.runtime.spawn(self.owners.track_future(owner));
        shelf
    }

    /// As [`shelf`](Self::shelf), once its topics are read.
    async fn open(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<Arc<Shelf>, Failure> {
        let shelf = self.shelf(tenant);
        shelf.opened().await?;
        Ok(shelf)
    }
}

impl Topics {
    /// The topics that a store keeps. Nothing is read yet.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        tenants: &Registry,
        engine: &Engine,
    ) -> Topics {
        Topics(Arc::new(Inner {
            config: config.clone(),
            store: store.clone(),
            tenants: tenants.clone(),
            engine: engine.clone(),
            clock: Clock::new(),
            runtime: Handle::current(),
            shelves: Mutex::default(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            owners: TaskTracker::new(),
            tallies: Tallies::default(),
            streams: Mutex::default(),
        }))
    }

    /// Reads the topics of every tenant that has any: what is old is let go of, what is bound runs,
    /// and what is used is known.
    pub(crate) async fn resume(&self) {
        /// Scopes that are looked up at once.
        const PAGE: usize = 1_024;
        let (mut kept, mut after) = (HashSet::default(), None);
        loop {
            let page = self.0.store.scopes(after, PAGE);
            let Some(last) = page.last() else { break };
            after = Some(*last);
            kept.extend(page);
        }
        let tenants = self.0.tenants.all().into_iter();
        for tenant in tenants.filter(|t| kept.contains(&ScopeId::topics(t.index()))) {
            // One after the other: what is asked for meanwhile is read at once.
            let _ = self.0.open(&tenant).await;
        }
    }

    /// What is bound begins no more messages; those under way go on.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Relaxed);
        self.0.shelves().values().for_each(|shelf| {
            shelf.lock().tails.values().for_each(|tail| tail.notify_waiters());
        });
    }

    /// Ends every owner, and waits until none has the store any more. What was not kept yet is not
    /// acknowledged.
    pub(crate) async fn stop(&self) {
        /// What is committed now is waited for, and views are brought up to date.
        const LAST_WORDS: Duration = Duration::from_secs(3);
        self.stop_now();
        self.0.owners.close();
        // Late ones end with the process.
        let _ = tokio::time::timeout(LAST_WORDS, self.0.owners.wait()).await;
    }

    /// Ends every owner.
    pub(crate) fn stop_now(&self) {
        self.0.stop.cancel();
    }

    /// How many messages came and went since the start.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.0.tallies
    }

    /// A place for a stream that produces, or that consumes.
    ///
    /// # Errors
    /// `QUOTA_EXCEEDED` for `producers`, or `consumers`.
    pub(crate) fn stream(&self, tenant: &Arc<Tenant>, produces: bool) -> Result<Stream, Failure> {
        let permit = if produces { tenant.producer() } else { tenant.consumer() };
        // A stream that ends makes room, nobody knows when.
        let permit =
            permit.map_err(|refusal| Failure { retryable: true, ..Failure::quota(refusal) })?;
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let (producers, consumers) = streams.entry(tenant.index()).or_default();
        *if produces { producers } else { consumers } += 1;
        let inner = self.0.clone();
        Ok(Stream { inner, tenant: tenant.index(), produces, _permit: permit })
    }

    /// Streams that produce, and that consume, by the tenant's number.
    pub(crate) fn streams(&self) -> HashMap<u32, (u64, u64)> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What each tenant's topics come to: of those that are read.
    pub(crate) fn by_tenant(&self) -> Vec<(Arc<Tenant>, Amounts)> {
        let shelves: Vec<Arc<Shelf>> = self.0.shelves().values().cloned().collect();
        shelves.into_iter().map(|shelf| (shelf.tenant.clone(), shelf.lock().amounts())).collect()
    }

    /// What each tenant's topics hold of `storage_bytes`, `topics`, `partitions` and
    /// `consumer_groups`: counted, and found. None where something is on its way into them.
    pub(crate) fn holdings(&self) -> HashMap<u32, Option<[(u64, u64); 4]>> {
        let shelves: Vec<Arc<Shelf>> = self.0.shelves().values().cloned().collect();
        let look = |shelf: Arc<Shelf>| {
            // Under the lock: so counts and topics are of the same moment.
            let (state, now) = (shelf.lock(), Instant::now());
            let (topics, partitions) = state.topics.counted();
            let found = [state.bytes, topics, partitions, state.topics.group_count()];
            let quotas =
                [Quota::StorageBytes, Quota::Topics, Quota::Partitions, Quota::ConsumerGroups];
            let counted = quotas.map(|quota| shelf.tenant.used(quota, now));
            let settled = shelf.is_settled();
            let both = || [0, 1, 2, 3].map(|at| (counted[at], found[at]));
            (shelf.tenant.index(), settled.then(both))
        };
        shelves.into_iter().map(look).collect()
    }

    /// What a tenant's topics come to.
    ///
    /// # Errors
    /// When they can not be read.
    pub(crate) async fn amounts(&self, tenant: &Arc<Tenant>) -> Result<Amounts, Failure> {
        Ok(self.0.open(tenant).await?.lock().amounts())
    }
}

impl shelf::State {
    fn amounts(&self) -> Amounts {
        let mut amounts = Amounts { bytes: self.bytes, ..Amounts::default() };
        for topic in self.topics.iter() {
            amounts.topics += 1;
            amounts.partitions += topic.parts.len() as u64;
            let dead = topic.name.as_str().ends_with(owner::DEAD);
            for (partition, part) in (0..).zip(&topic.parts) {
                let place = (topic.number, partition);
                let Some(run) = self.parts.get(&place) else { continue };
                let kept = run.next - part.first;
                amounts.messages += kept;
                amounts.dead += if dead { kept } else { 0 };
                let groups = self.topics.groups(topic.number).into_iter().flatten();
                let done = groups.filter_map(|(_, done)| done.get(partition as usize));
                amounts.lag += done.map(|d| run.next.saturating_sub(d.position)).sum::<u64>();
            }
        }
        amounts.groups = self.topics.group_count();
        amounts
    }
}
