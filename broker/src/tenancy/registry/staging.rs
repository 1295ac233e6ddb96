//! From a decision to what is in force: changes are kept in groups, in order, and published then.
//!
//! A change is decided upon what the changes before it will have made, whether they are kept yet or
//! not. What cannot be kept takes what was decided upon it along. Readers see only what is kept.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use tokio::sync::oneshot;
use tollgate_protocol::id::TenantId;

use super::{Map, NotKept, Registry, Used, ledger, once::Keys};
use crate::{
    events,
    store::Space,
    tenancy::{
        settings::{Record, Settings, State},
        tenant::Tenant,
    },
};

/// What is decided and not in force yet. A leaf.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// What each tenant will be.
    ahead: Map<TenantId, Ahead>,
    queue: Vec<Waiting>,
    /// Whether a task keeps the queue moving.
    flushing: bool,
    /// That task ended in the middle of it: nothing can be kept any more.
    stopped: bool,
    creating: usize,
    /// Counts the changes.
    changes: u64,
    /// The number of the next tenant.
    next_number: u32,
    /// With which keys tenants were created.
    pub keys: Keys,
}

#[derive(Debug)]
struct Ahead {
    tenant: Arc<Tenant>,
    record: Record,
    /// By which change.
    change: u64,
    leaving: bool,
}

/// One thing that waits to be kept.
#[derive(Debug)]
struct Waiting {
    /// Whose change.
    tenant: TenantId,
    /// None: only what comes before it of the same tenant.
    change: Option<Change>,
    answer: oneshot::Sender<Result<(), NotKept>>,
}

/// A change of one tenant.
#[derive(Debug)]
pub(super) struct Change {
    pub verb: Verb,
    pub tenant: Arc<Tenant>,
    pub record: Record,
    /// The key that it was asked for with.
    pub used: Option<Used>,
    number: u64,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
    /// Suspends, and may change more.
    Suspend,
    /// Suspends, and lets finish what runs.
    BeginLeaving {
        until: SystemTime,
    },
    Delete,
}

impl Verb {
    /// Which room on the disk it may take.
    pub(super) fn space(self) -> Space {
        match self {
            Verb::Create => Space::Free,
            Verb::Update => Space::Reserve,
            Verb::Suspend | Verb::BeginLeaving { .. } | Verb::Delete => Space::LastReserve,
        }
    }
}

impl Change {
    pub(super) fn new(verb: Verb, tenant: Arc<Tenant>, record: Record) -> Change {
        Change { verb, tenant, record, used: None, number: 0 }
    }
}

/// A tenant as the last change will have made it.
pub(super) struct Newest {
    pub tenant: Arc<Tenant>,
    pub record: Record,
    /// Whether that is not kept yet.
    pub staged: bool,
    /// Whether it is being deleted by force.
    pub leaving: bool,
}

/// Resolves once a change is kept and in force, or could not be kept.
#[derive(Debug)]
pub(super) struct Landed(oneshot::Receiver<Result<(), NotKept>>);

impl IntoFuture for Landed {
    type Output = Result<(), NotKept>;
    type IntoFuture = futures::future::BoxFuture<'static, Self::Output>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.0.await.unwrap_or(Err(NotKept::Lost)) })
    }
}

impl Staging {
    /// Tenants that are being created.
    pub(super) fn creating(&self) -> usize {
        self.creating
    }

    /// The changes that are to be kept in one go, the oldest; none ends the flushing. Those that may
    /// take different room are kept apart.
    fn next_group(&mut self) -> Option<Vec<Waiting>> {
        if self.queue.is_empty() {
            self.flushing = false;
            return None;
        }
        let (mut bytes, mut space) = (0, None);
        let fits = |w: &&Waiting| {
            let Some(change) = &w.change else { return true };
            bytes += ledger::weight(change);
            let takes = change.verb.space();
            bytes <= GROUP_BYTES_MAX && *space.get_or_insert(takes) == takes
        };
        let n = self.queue.iter().take(GROUP_MAX).take_while(fits).count().max(1);
        Some(self.queue.drain(..n).collect())
    }

    /// Forgets changes that could not be kept, and what was decided upon them: all that is on its
    /// way of the same tenants.
    fn forget(&mut self, group: Vec<Waiting>) -> Vec<Waiting> {
        let tenants: HashSet<TenantId> = group.iter().map(|w| w.tenant.clone()).collect();
        let queue = std::mem::take(&mut self.queue);
        let (upon, others): (Vec<_>, _) =
            queue.into_iter().partition(|w| tenants.contains(&w.tenant));
        self.queue = others;
        self.ahead.retain(|id, _| !tenants.contains(id));
        let lost: Vec<Waiting> = group.into_iter().chain(upon).collect();
        for used in lost.iter().filter_map(|w| w.change.as_ref()?.used.as_ref()) {
            self.keys.free(&used.once.key);
        }
        let creates = |w: &&Waiting| w.change.as_ref().is_some_and(|c| c.verb == Verb::Create);
        self.creating -= lost.iter().filter(creates).count();
        lost
    }

    /// Nothing is on its way, the next tenant has this number, and these keys were used.
    pub(super) fn beginning_with(next_number: u32, used: Vec<Used>) -> Staging {
        let mut keys = Keys::default();
        used.into_iter().for_each(|used| keys.insert(used));
        Staging { next_number, keys, ..Staging::default() }
    }

    /// A number that no tenant has had; none when all are used up.
    pub(super) fn number(&mut self) -> Option<u32> {
        let number = self.next_number;
        self.next_number = number.checked_add(1)?;
        Some(number)
    }
}

impl Registry {
    /// A living tenant as the last change will have made it.
    pub(super) fn newest(&self, staging: &Staging, id: &str) -> Option<Newest> {
        if let Some(ahead) = staging.ahead.get(id) {
            if ahead.record.settings.state == State::Deleted {
                return None;
            }
            return Some(Newest {
                tenant: ahead.tenant.clone(),
                record: ahead.record.clone(),
                staged: true,
                leaving: ahead.leaving,
            });
        }
        let tenant = self.known().living(id)?;
        let record = Record::clone(&tenant.record.load());
        let leaving = tenant.leaves_at().is_some();
        Some(Newest { tenant, record, staged: false, leaving })
    }

    /// Sends a change on its way.
    pub(super) fn stage(&self, staging: &mut Staging, mut change: Change) -> Landed {
        staging.changes += 1;
        change.number = staging.changes;
        if change.verb == Verb::Create {
            staging.creating += 1;
        }
        let ahead = Ahead {
            tenant: change.tenant.clone(),
            record: change.record.clone(),
            change: change.number,
            leaving: matches!(change.verb, Verb::BeginLeaving { .. }),
        };
        if let Some(used) = &change.used {
            staging.keys.insert(used.clone());
        }
        let tenant = change.tenant.id.clone();
        staging.ahead.insert(tenant.clone(), ahead);
        self.wait(staging, tenant, Some(change))
    }

    /// Waits for everything of a tenant that is on its way.
    pub(super) fn follow(&self, staging: &mut Staging, tenant: &TenantId) -> Landed {
        self.wait(staging, tenant.clone(), None)
    }

    fn wait(&self, staging: &mut Staging, tenant: TenantId, change: Option<Change>) -> Landed {
        let (answer, landed) = oneshot::channel();
        if !staging.stopped {
            staging.queue.push(Waiting { tenant, change, answer });
            if !std::mem::replace(&mut staging.flushing, true) {
                self.spawn(Flush::new(self.clone()).run());
            }
        }
        Landed(landed)
    }

    async fn keep(&self, group: &[Waiting]) -> Result<(), NotKept> {
        let changes: Vec<_> = group.iter().filter_map(|w| w.change.as_ref()).collect();
        match &self.0.ledger {
            Some(ledger) if !changes.is_empty() => ledger.commit(&changes).await,
            _ => Ok(()),
        }
    }

    /// Starts a checkpoint when the view has fallen behind.
    pub(super) fn checkpoint_when_due(&self) {
        let due = self.0.ledger.as_ref().filter(|ledger| ledger.is_behind());
        if let Some(ledger) = due.cloned() {
            self.spawn(async move { ledger.checkpoint().await });
        }
    }

    /// Puts a change that is kept in force, and tells of it.
    fn publish(&self, change: &Change) {
        let publishing = self.publishing();
        let (tenant, before) = (&change.tenant, change.tenant.record.load_full());
        let quotas = self.0.profiles.load().quotas(&change.record.settings);
        if let Verb::BeginLeaving { until } = change.verb {
            tenant.leave_at(until);
        }
        tenant.put(Record { quotas, ..change.record.clone() });
        match change.verb {
            Verb::Create => self.know(|known| known.insert(tenant.clone())),
            Verb::Delete => self.know(|known| known.remove(tenant)),
            Verb::Update | Verb::Suspend | Verb::BeginLeaving { .. } => {}
        }
        let after = &change.record.settings;
        if change.verb != Verb::Create && before.settings.state != after.state {
            self.know(|known| known.changed(before.settings.state, after.state));
        }
        drop(publishing);
        self.tell_gateways(before.settings.gateways.iter().chain(&after.gateways));
        for event in events(change, &before) {
            self.0.events.publish(Some(&tenant.id), event);
        }
        let mut staging = self.staging();
        if change.verb == Verb::Create {
            staging.creating -= 1;
        }
        if staging.ahead.get(&tenant.id).is_some_and(|a| a.change == change.number) {
            staging.ahead.remove(&tenant.id);
        }
    }
}

/// What a change is told as.
fn events(change: &Change, before: &Record) -> impl Iterator<Item = events::Kind> {
    let (old, new) = (&*before.settings, &*change.record.settings);
    let only_the_state = Settings { state: old.state, ..new.clone() } == *old;
    let revision = change.record.revision;
    let (first, second) = match change.verb {
        Verb::Create => (Some(events::Kind::TenantCreated), None),
        Verb::Delete => (Some(events::Kind::TenantDeleted), None),
        Verb::Update | Verb::Suspend | Verb::BeginLeaving { .. } => {
            let updated = events::Kind::TenantUpdated { revision };
            let state = match (old.state, new.state) {
                (State::Active, State::Suspended) => Some(events::Kind::TenantSuspended),
                (State::Suspended, State::Active) => Some(events::Kind::TenantActivated),
                _ => None,
            };
            (state, (!only_the_state).then_some(updated))
        }
    };
    first.into_iter().chain(second)
}

/// Keeps the queue moving until it is empty.
struct Flush {
    registry: Registry,
    /// Whether it came to its end: what is queued from then on is another's.
    done: bool,
}

impl Flush {
    fn new(registry: Registry) -> Flush {
        Flush { registry, done: false }
    }

    async fn run(mut self) {
        while let Some(group) = self.next_group() {
            match self.registry.keep(&group).await {
                Ok(()) => {
                    for Waiting { change, answer, .. } in group {
                        change.iter().for_each(|change| self.registry.publish(change));
                        // Whoever asked may have gone.
                        let _ = answer.send(Ok(()));
                    }
                    self.registry.checkpoint_when_due();
                }
                Err(error) => {
                    let lost = self.registry.staging().forget(group);
                    for Waiting { answer, .. } in lost {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn next_group(&mut self) -> Option<Vec<Waiting>> {
        let group = self.registry.staging().next_group();
        self.done = group.is_none();
        group
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Its runtime ended, or it panicked: whoever waits is told by the end of its channel, and
        // the process that it is to end.
        let mut staging = self.registry.staging();
        staging.stopped = true;
        staging.queue.clear();
        drop(staging);
        self.registry.0.broken.send_replace(true);
    }
}

/// Changes that are kept in one go.
const GROUP_MAX: usize = 256;
/// And their bytes in the store, roughly; one larger change is kept alone.
const GROUP_BYTES_MAX: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Store,
        tenancy::{Config, settings::Settings},
    };

    async fn open() -> Registry {
        let store = Store::memory();
        let fence = store.system().claim().await.expect("claims");
        let config = Config::default();
        let opened = Registry::open(&config, store, fence, events::Events::default());
        let registry = opened.await.expect("opens");
        registry.create_named("acme", Settings::default()).await.expect("free");
        registry
    }

    #[tokio::test]
    async fn what_is_queued_while_a_flush_ends_is_the_next_ones() {
        let registry = open().await;
        let mut ending = Flush::new(registry.clone());
        assert!(ending.next_group().is_none(), "nothing is queued");
        let update = registry.update("acme", None, |s| s.weight = 2);
        let (updated, ()) = tokio::join!(update, async { drop(ending) });
        assert_eq!(updated.expect("kept").weight(), 2);
        registry.update("acme", None, |s| s.weight = 3).await.expect("kept");
    }

    #[tokio::test]
    async fn a_flush_that_ends_early_is_told_as_what_it_is() {
        let registry = open().await;
        drop(Flush::new(registry.clone()));
        registry.failed().await;
        let lost = registry.update("acme", None, |s| s.weight = 2).await.expect_err("not kept");
        assert_eq!(lost.code(), tollgate_protocol::Code::StoreUnavailable);
    }
}
