//! Jobs: items that outlive their batch. Kept before they are acknowledged, run again when they
//! fail, told to whoever asks, as long as they are kept.
//!
//! Each tenant's jobs have one owner, which begins with the first thing that is asked and ends when
//! there is nothing left. Runs nothing itself: attempts go through the engine, in the lines where
//! the items of batches wait.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashSet};
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_protocol::{
    Code,
    id::{BatchId, JobId, RecipeName},
};

use crate::{
    batch::{Durable, Engine, Failure, Line, Of, Told},
    clock::Clock,
    events::Events,
    rules::job::{
        self, Cancel, Keep,
        plant::{self, Bug},
    },
    store::{ScopeId, Store},
    tenancy::{Quota, Registry, Tenant},
};

mod attempt;
mod config;
mod group;
mod inbox;
mod info;
mod line;
mod load;
mod owner;
mod pages;
mod record;
mod result;
mod service;
mod shelf;
#[cfg(test)]
mod tests;

pub use config::{BadSetting, Config};
pub(crate) use info::{JobInfo, Listed, from_states};
pub(crate) use job::{State, Which};

use info::Known;
use line::{BatchLine, Follows, Reader};
use shelf::{Act, Command, Shelf, Target};

/// The jobs of every tenant. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Inner>);

struct Inner {
    config: Config,
    store: Store,
    tenants: Registry,
    engine: Engine,
    events: Events,
    clock: Clock,
    runtime: Handle,
    shelves: Mutex<HashMap<u32, Arc<Shelf>>>,
    draining: AtomicBool,
    stop: CancellationToken,
    owners: TaskTracker,
    tallies: Tallies,
}

/// How many jobs ended, and how, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tallies([AtomicU64; 7]);

impl Tallies {
    fn ended(&self, how: State) {
        self.0[usize::from(how.number())].fetch_add(1, Relaxed);
    }

    /// So many ended in a state.
    pub(crate) fn count(&self, how: State) -> u64 {
        self.0[usize::from(how.number())].load(Relaxed)
    }
}

impl Inner {
    fn keep(&self) -> Keep {
        let Config { job_ttl_ms, key_ttl_ms, seal_ttl_ms, .. } = self.config;
        Keep { job_ms: job_ttl_ms, key_ms: key_ttl_ms, unsealed_ms: seal_ttl_ms }
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<u32, Arc<Shelf>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// What is said when the broker stops.
fn stopped() -> Failure {
    Failure::new(Code::Draining, "the broker is shutting down: jobs go on when it is back")
}

/// What a reader attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// One job.
    Job(JobId),
    /// Every job of a batch.
    Batch(BatchId),
}

/// Which jobs are meant.
#[derive(Debug, Clone)]
pub(crate) enum Chosen {
    One(JobId),
    All(Which),
}

/// What is done to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// What does not run is given up.
    CancelPending,
    /// What runs, too.
    CancelAll,
    /// What did not succeed runs again.
    Replay,
    /// What is over is forgotten.
    Purge,
}

impl Jobs {
    /// The jobs that a store keeps. Nothing is read yet.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        tenants: &Registry,
        engine: &Engine,
        events: Events,
    ) -> Jobs {
        let inner = Arc::new(Inner {
            config: config.clone(),
            store: store.clone(),
            tenants: tenants.clone(),
            engine: engine.clone(),
            events,
            clock: Clock::new(),
            runtime: Handle::current(),
            shelves: Mutex::default(),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
            owners: TaskTracker::new(),
            tallies: Tallies::default(),
        });
        let durable: Weak<dyn Durable> = Arc::downgrade(&(inner.clone() as Arc<dyn Durable>));
        engine.durables.set(durable);
        Jobs(inner)
    }

    /// Reads the jobs of every tenant that has any, so that they go on.
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
        for tenant in tenants.filter(|tenant| kept.contains(&scope_of(tenant))) {
            let scope = self.0.store.scope(scope_of(&tenant));
            if scope.ends(record::JOBS).await.is_ok_and(|ends| ends.next.0 > 0) {
                // One after the other: what is asked for meanwhile is read at once.
                let _ = self.0.shelf(&tenant).opened().await;
            }
        }
    }

    /// Nothing new is started; what runs goes on.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Relaxed);
    }

    /// Resolves once no job runs.
    pub(crate) async fn quiet(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        while self.running() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Jobs that run now.
    pub(crate) fn running(&self) -> u64 {
        self.0.shelves().values().map(|shelf| shelf.lock().jobs.count(State::Running)).sum()
    }

    /// Ends every owner, and waits until none has the store any more. What was not kept yet is not
    /// acknowledged.
    pub(crate) async fn stop(&self) {
        /// What is committed now is waited for.
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

    /// How jobs ended since the start.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.0.tallies
    }

    /// Each tenant's open jobs, and the bytes of all it has: for those that are read.
    pub(crate) fn by_tenant(&self) -> Vec<(Arc<Tenant>, [u64; 7], u64)> {
        let shelves: Vec<Arc<Shelf>> = self.0.shelves().values().cloned().collect();
        let look = |shelf: Arc<Shelf>| {
            let state = shelf.lock();
            let counts = State::ALL.map(|s| state.jobs.count(s));
            (shelf.tenant.clone(), counts, state.jobs.bytes())
        };
        shelves.into_iter().map(look).collect()
    }

    /// What each tenant's jobs hold of `jobs_queued` and `storage_bytes`: counted, and found. None
    /// where something is on its way into them just now.
    pub(crate) fn holdings(&self) -> HashMap<u32, Option<[(u64, u64); 2]>> {
        let shelves: Vec<Arc<Shelf>> = self.0.shelves().values().cloned().collect();
        let look = |shelf: Arc<Shelf>| {
            // Under the lock: so counts and jobs are of the same moment.
            let (state, now) = (shelf.lock(), Instant::now());
            let found = [state.jobs.open(), state.jobs.bytes()];
            let counted =
                [Quota::JobsQueued, Quota::StorageBytes].map(|q| shelf.tenant.used(q, now));
            let settled = shelf.is_settled();
            (shelf.tenant.index(), settled.then(|| [0, 1].map(|at| (counted[at], found[at]))))
        };
        shelves.into_iter().map(look).collect()
    }

    /// Opens a durable batch, or goes on with it: the last item that it has then.
    ///
    /// # Errors
    /// `CONFLICT` when it is sealed.
    pub(crate) async fn open_batch(
        &self,
        tenant: &Arc<Tenant>,
        batch: BatchId,
        fail_fast: bool,
    ) -> Result<Option<u64>, Failure> {
        let shelf = self.0.shelf(tenant);
        let (answer, answered) = oneshot::channel();
        shelf.send(Command::Open { batch, fail_fast, answer });
        answered.await.unwrap_or_else(|_| Err(shelf.gone().unwrap_or_else(stopped)))
    }

    /// Reads what is kept of a job or batch after a number, then what happens to it.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is no such thing.
    pub(crate) async fn attach(
        &self,
        tenant: &Arc<Tenant>,
        subject: Subject,
        after: tollgate_protocol::batch::Number,
        follow: bool,
    ) -> Result<Attached, Failure> {
        let shelf = self.0.shelf(tenant);
        shelf.opened().await?;
        let epoch = {
            let state = shelf.lock();
            match subject {
                Subject::Job(id) if state.jobs.get(id).is_none() => {
                    return Err(service::no_such_job());
                }
                Subject::Batch(id) if state.jobs.batch(id).is_none() => {
                    return Err(service::no_such_batch());
                }
                _ => state.epoch,
            }
        };
        // Numbers of another epoch mean nothing here.
        let gap = after.sequence != 0 && after.epoch != epoch;
        let from = if gap { 0 } else { after.sequence };
        let follows = match subject {
            Subject::Job(id) => Follows::Job(id),
            Subject::Batch(id) => Follows::Batch(id),
        };
        let reader = Reader::attached(shelf, follows, from, follow);
        Ok(Attached { reader, gap: gap.then_some(epoch) })
    }

    /// One job.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn get(&self, tenant: &Arc<Tenant>, id: JobId) -> Result<JobInfo, Failure> {
        let shelf = self.0.shelf(tenant);
        shelf.opened().await?;
        let state = shelf.lock();
        let job = state.jobs.get(id).ok_or_else(service::no_such_job)?;
        Ok(JobInfo::of(job, &self.known(state.epoch, &self.attempts_of(tenant))))
    }

    /// Some jobs, the oldest first, after one; at most `limit`.
    ///
    /// # Errors
    /// When they can not be read.
    pub(crate) async fn list(
        &self,
        tenant: &Arc<Tenant>,
        which: &Which,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Listed, Failure> {
        /// Jobs looked at for one page.
        const LOOKED_AT_MAX: usize = 100_000;
        let shelf = self.0.shelf(tenant);
        shelf.opened().await?;
        let state = shelf.lock();
        let attempts = self.attempts_of(tenant);
        let known = self.known(state.epoch, &attempts);
        let (mut jobs, mut last, mut more) = (Vec::new(), after, false);
        for (looked, job) in state.jobs.after(after).enumerate() {
            if jobs.len() >= limit || looked >= LOOKED_AT_MAX {
                more = true;
                break;
            }
            last = Some(job.id);
            if which.has(job) {
                jobs.push(JobInfo::of(job, &known));
            }
        }
        Ok(Listed { jobs, next: last.filter(|_| more) })
    }

    /// The result of a job that is over, as its reader is told.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` when it is not over.
    pub(crate) async fn result(
        &self,
        tenant: &Arc<Tenant>,
        id: JobId,
    ) -> Result<crate::batch::JobEnd, Failure> {
        let shelf = self.0.shelf(tenant);
        shelf.opened().await?;
        let (recent, at, item, number) = {
            let state = shelf.lock();
            let job = state.jobs.get(id).ok_or_else(service::no_such_job)?;
            if !job.state.is_over() {
                let message = format!("the job is {}: it has no result yet", job.state.name());
                return Err(Failure::new(Code::Conflict, message).detail("state", job.state.name()));
            }
            let number = service::number(state.epoch, job.finished);
            (state.recent.get(job.finished), job.result.at, job.item, number)
        };
        let bytes = match recent {
            Some(bytes) => bytes,
            None => line::kept_result(&shelf.scope, at).await.map_err(|error| {
                tracing::error!(job = %id, error, "the result of a job can not be read");
                Failure::new(Code::StoreUnavailable, "the result of the job can not be read")
            })?,
        };
        Ok(result::decoded(&bytes, item, number))
    }

    /// How many jobs a tenant has in each state, and the bytes of all.
    ///
    /// # Errors
    /// When they can not be read.
    pub(crate) async fn counts(&self, tenant: &Arc<Tenant>) -> Result<([u64; 7], u64), Failure> {
        let shelf = self.0.shelf(tenant);
        shelf.opened().await?;
        let state = shelf.lock();
        Ok((State::ALL.map(|s| state.jobs.count(s)), state.jobs.bytes()))
    }

    fn known<'a>(&self, epoch: u64, attempts_max: &'a dyn Fn(&RecipeName) -> u32) -> Known<'a> {
        Known { epoch, job_ms: self.0.config.job_ttl_ms, attempts_max }
    }

    /// How many attempts a tenant's recipe has now.
    fn attempts_of<'a>(&'a self, tenant: &'a Tenant) -> impl Fn(&RecipeName) -> u32 + 'a {
        |recipe| {
            let entry = service::find(&self.0.engine, tenant, recipe);
            entry.map_or(0, |entry| entry.spec().retry.attempts_max)
        }
    }

    /// Does something to jobs; how many it was done to.
    ///
    /// # Errors
    /// `NOT_FOUND` when one is meant that is not there.
    pub(crate) async fn act(
        &self,
        tenant: &Arc<Tenant>,
        chosen: Chosen,
        deed: Deed,
    ) -> Result<u64, Failure> {
        let shelf = self.0.shelf(tenant);
        let act = match deed {
            Deed::CancelPending => Act::Cancel(Cancel::Pending),
            Deed::CancelAll => Act::Cancel(Cancel::All),
            Deed::Replay => Act::Replay,
            Deed::Purge => Act::Purge,
        };
        let target = match chosen {
            Chosen::One(id) => Target::One(id),
            Chosen::All(which) => Target::All(which),
        };
        let (answer, answered) = oneshot::channel();
        let answer = Some(answer);
        shelf.send(Command::Act { act, target, after: None, count: 0, answer });
        answered.await.unwrap_or_else(|_| Err(shelf.gone().unwrap_or_else(stopped)))
    }
}

/// A reader of what is kept, and of what happens.
pub(crate) struct Attached {
    reader: Reader,
    /// The epoch of all numbers, when the one that was asked for is not known.
    pub gap: Option<u64>,
}

impl Attached {
    /// The next thing; nothing once all is over.
    pub(crate) fn poll_next(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Told>> {
        self.reader.poll_next(cx)
    }
}

impl Inner {
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
        let scope = self.store.scope(scope_of(tenant));
        let (jobs, recent) = (job::Jobs::new(self.keep()), self.config.recent_bytes_max);
        let shelf = Arc::new(Shelf::new(tenant.clone(), scope, self.clock, jobs, recent));
        shelves.insert(tenant.index(), shelf.clone());
        drop(shelves);
        let owner = owner::run(self.clone(), shelf.clone());
        self.runtime.spawn(self.owners.track_future(owner));
        shelf
    }
}

impl Durable for Inner {
    fn line(self: Arc<Self>, tenant: &Arc<Tenant>, of: Of) -> Box<dyn Line> {
        Box::new(BatchLine::new(self.shelf(tenant), of))
    }

    fn async_threshold(&self) -> Duration {
        Duration::from_millis(self.config.async_threshold_ms)
    }
}

/// Where a tenant's jobs are kept.
fn scope_of(tenant: &Tenant) -> ScopeId {
    ScopeId::jobs(tenant.index())
}
