//! From a decision to what is in force: changes are kept in groups, in order, and published then.
//!
//! A change is decided upon what the changes before it will have made, whether they are kept yet or
//! not. What cannot be kept takes what was decided upon it along. Readers see only what is kept.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;
use tollgate_protocol::id::TenantId;

use super::{Map, NotKept, Registry};
use crate::tenancy::{
    settings::{Record, State},
    tenant::Tenant,
};

/// What is decided and not in force yet. A leaf.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// What each tenant will be.
    ahead: Map<TenantId, Ahead>,
    queue: Vec<Waiting>,
    /// Whether a task keeps the queue moving.
    flushing: bool,
    /// The broker ended in the middle of it: nothing can be kept any more.
    stopped: bool,
    creating: usize,
    /// Counts the changes.
    changes: u64,
    /// The number of the next tenant.
    next_number: u32,
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
    /// None: only what comes before it.
    change: Option<Change>,
    answer: oneshot::Sender<Result<(), NotKept>>,
}

/// A change of one tenant.
#[derive(Debug)]
pub(super) struct Change {
    pub verb: Verb,
    pub tenant: Arc<Tenant>,
    pub record: Record,
    number: u64,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Update,
    /// Suspends, and lets finish what runs.
    BeginLeaving {
        until: SystemTime,
    },
    Delete,
}

impl Change {
    pub(super) fn new(verb: Verb, tenant: Arc<Tenant>, record: Record) -> Change {
        Change { verb, tenant, record, number: 0 }
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
        Box::pin(async { self.0.await.unwrap_or(Err(NotKept::Stopped)) })
    }
}

impl Staging {
    /// Tenants that are being created.
    pub(super) fn creating(&self) -> usize {
        self.creating
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
        staging.ahead.insert(change.tenant.id.clone(), ahead);
        self.wait(staging, Some(change))
    }

    /// Waits for everything that is on its way.
    pub(super) fn follow(&self, staging: &mut Staging) -> Landed {
        self.wait(staging, None)
    }

    fn wait(&self, staging: &mut Staging, change: Option<Change>) -> Landed {
        let (answer, landed) = oneshot::channel();
        if !staging.stopped {
            staging.queue.push(Waiting { change, answer });
            if !std::mem::replace(&mut staging.flushing, true) {
                tokio::spawn(Flush(self.clone()).run());
            }
        }
        Landed(landed)
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
            Verb::Update | Verb::BeginLeaving { .. } => {}
        }
        let after = &change.record.settings;
        if change.verb != Verb::Create && before.settings.state != after.state {
            self.know(|known| known.changed(before.settings.state, after.state));
        }
        drop(publishing);
        self.tell_gateways(before.settings.gateways.iter().chain(&after.gateways));
        let mut staging = self.staging();
        if change.verb == Verb::Create {
            staging.creating -= 1;
        }
        if staging.ahead.get(&tenant.id).is_some_and(|a| a.change == change.number) {
            staging.ahead.remove(&tenant.id);
        }
    }
}

/// Keeps the queue moving until it is empty.
struct Flush(Registry);

impl Flush {
    async fn run(self) {
        loop {
            let group = {
                let mut staging = self.0.staging();
                if staging.queue.is_empty() {
                    staging.flushing = false;
                    return;
                }
                let n = staging.queue.len().min(GROUP_MAX);
                staging.queue.drain(..n).collect::<Vec<_>>()
            };
            let changes = group.iter().filter_map(|w| w.change.as_ref());
            match self.0.keep(changes).await {
                Ok(()) => {
                    for Waiting { change, answer } in group {
                        change.iter().for_each(|change| self.0.publish(change));
                        // Whoever asked may have gone.
                        let _ = answer.send(Ok(()));
                    }
                }
                Err(error) => {
                    let rest = {
                        let mut staging = self.0.staging();
                        staging.ahead.clear();
                        staging.creating = 0;
                        std::mem::take(&mut staging.queue)
                    };
                    for Waiting { answer, .. } in group.into_iter().chain(rest) {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let mut staging = self.0.staging();
        if staging.flushing {
            // Its runtime ended: whoever waits is told by the end of its channel.
            staging.stopped = true;
            staging.queue.clear();
        }
    }
}

impl Registry {
    async fn keep(&self, _changes: impl Iterator<Item = &Change>) -> Result<(), NotKept> {
        Ok(())
    }
}

/// A moment to the millisecond, as it is kept.
pub(super) fn to_ms(at: SystemTime) -> SystemTime {
    let ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Changes that are kept in one go.
const GROUP_MAX: usize = 256;
