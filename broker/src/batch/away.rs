//! The items of one batch that were handed over to whoever runs them elsewhere.
//!
//! A record each, and one list in which they come back: an item is no future here, is not polled and
//! wakes nobody. Decides nothing.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use foldhash::{HashMap, HashMapExt};

use super::{
    catalog::Entry,
    context::Shared,
    outcome::Failure,
    pending::{About, End, outcome_of, timed_out},
    remote::{Common, Phase, Remote, Returned, Returns, Sent, Standing, Task},
    slots::Claim,
};
use crate::tenancy::{BytesPermit, Tenant};

/// What is away, and what came back.
pub(super) struct Away {
    items: HashMap<u64, Absent>,
    returns: Arc<Returns>,
    /// What came back and was not looked at yet, the newest first.
    back: Vec<Returned>,
    /// What the item before has in common with others of its tenant and recipe.
    common: Option<Arc<Common>>,
    /// What is handed over next, and what is to be known of it here.
    tasks: Vec<Task>,
    leaving: Vec<Leaving>,
}

/// An item that leaves.
pub(super) struct Leaving {
    pub arrived: Instant,
    pub handed_over: Instant,
    /// The longest it waits for its start.
    pub queue_timeout: Duration,
    pub bytes: BytesPermit,
}

/// An item that is away. Dropping it gives it up.
pub(super) struct Absent {
    sent: Sent,
    known: Leaving,
}

impl Away {
    /// Nothing is away.
    pub(super) fn new() -> Away {
        Away {
            items: HashMap::new(),
            returns: Arc::default(),
            back: Vec::new(),
            common: None,
            tasks: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// How many items are away.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What the next items have in common: mostly what those before them had.
    pub(super) fn common(
        &mut self,
        tenant: &Arc<Tenant>,
        entry: &Arc<Entry>,
        claim: Claim,
        shared: &Arc<Shared>,
    ) -> Arc<Common> {
        let of_these = |c: &&Arc<Common>| {
            Arc::ptr_eq(&c.tenant, tenant) && Arc::ptr_eq(&c.entry, entry) && c.claim == claim
        };
        if let Some(common) = self.common.as_ref().filter(of_these) {
            return common.clone();
        }
        let common = Arc::new(Common {
            tenant: tenant.clone(),
            entry: entry.clone(),
            shared: shared.clone(),
            claim,
            returns: self.returns.clone(),
        });
        self.common = Some(common.clone());
        common
    }

    /// An item leaves with the next [`send`](Self::send).
    pub(super) fn leaves(&mut self, task: Task, known: Leaving) {
        self.tasks.push(task);
        self.leaving.push(known);
    }

    /// Hands over what leaves.
    pub(super) fn send(&mut self, remote: &dyn Remote) {
        let Away { items, tasks, leaving, .. } = self;
        items.reserve(tasks.len());
        let mut leaving = leaving.drain(..);
        remote.send(tasks, &mut |sent| {
            if let Some(known) = leaving.next() {
                items.insert(sent.task().seq, Absent { sent, known });
            }
        });
    }

    /// Looks for what has come back, once all that came before was taken, and asks to be woken by
    /// more. Whether some time may be up sooner than it was.
    pub(super) fn look(&mut self, waker: &Waker) -> bool {
        if !self.back.is_empty() || self.items.is_empty() {
            return false;
        }
        let sooner = self.returns.take(&mut self.back, waker);
        self.back.reverse();
        sooner
    }

    /// The next item that has come back.
    pub(super) fn next_back(&mut self) -> Option<(Absent, Returned)> {
        loop {
            let returned = self.back.pop()?;
            // What was given up meanwhile is not here any more.
            if let Some(mut absent) = self.items.remove(&returned.seq) {
                absent.sent.is_back();
                return Some((absent, returned));
            }
        }
    }

    /// The earliest moment at which the time of one is up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.items.values().map(Absent::due).min()
    }

    /// Takes out those of which this is so, in their order.
    pub(super) fn take(&mut self, mut which: impl FnMut(&Absent) -> bool) -> Vec<Absent> {
        let mut seqs: Vec<u64> =
            self.items.iter().filter(|(_, absent)| which(absent)).map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        seqs.iter().filter_map(|seq| self.items.remove(seq)).collect()
    }
}

impl Absent {
    pub(super) fn about(&self) -> About<'_> {
        let task = self.sent.task();
        About {
            seq: task.seq,
            id: task.item_id,
            tenant: &task.common.tenant,
            entry: &task.common.entry,
            payload_len: task.payload.len(),
            arrived: self.known.arrived,
        }
    }

    /// What it holds of its tenant's bytes in flight.
    pub(super) fn into_bytes(self) -> BytesPermit {
        self.known.bytes
    }

    /// Before this its time is not up.
    pub(super) fn due_first(known: &Leaving, timeout: Duration) -> Instant {
        // The time-out is running time, and it first waits for its turn. Nobody tells when that
        // comes, which would cost a wake-up; so this may be too early.
        known.handed_over + timeout.min(known.queue_timeout)
    }

    fn due(&self) -> Instant {
        self.sent.standing().phase.due(self.known.queue_timeout, self.sent.task().timeout)
    }

    /// Whether its time is up, and it is not on its way back.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.due() <= now && !self.sent.standing().is_over
    }

    /// Gives it up if it never ran; whether it did.
    pub(super) fn withdraw(&self) -> bool {
        self.sent.withdraw()
    }

    /// The end of one that came back.
    pub(super) fn ends(&self, returned: Returned) -> End {
        let Returned { outcome, phase, ended, attempts, reported, .. } = returned;
        let (outcome, panicked) = outcome_of(outcome, self.about().entry);
        let started = phase.began(ended);
        End { started, ended, attempts, outcome, panicked, reported }
    }

    /// Its end, when its time is up.
    pub(super) fn gives_up(&self) -> End {
        let standing = self.sent.standing();
        let failure = match standing.phase {
            Phase::Waits(_) => self.sent.gave_up(),
            Phase::Runs(_) => timed_out(self.sent.task().timeout, self.about().entry),
        };
        Self::ends_as(standing, failure)
    }

    /// Its end with this failure instead of its own.
    pub(super) fn stops(&self, failure: Failure) -> End {
        Self::ends_as(self.sent.standing(), failure)
    }

    fn ends_as(standing: Standing, failure: Failure) -> End {
        let Standing { phase, attempts, reported, .. } = standing;
        let (ended, outcome, panicked) = (Instant::now(), Err(failure), false);
        End { started: phase.began(ended), ended, attempts, outcome, panicked, reported }
    }
}
