//! The items of one batch that are handed over to whoever runs them elsewhere.
//!
//! A record each, and one list in which they come back: an item is no future here, is not polled and
//! wakes nobody. Decides nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Waker,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{
    catalog::Entry,
    context::Shared,
    outcome::Failure,
    pending::{About, End, outcome_of, timed_out},
    remote::{Common, Phase, Remote, Returned, Returns, Sent, Standing, Task},
    slots::Claim,
};
use crate::tenancy::{BytesPermit, Tenant};

/// What is away, what is to go, and what came back.
pub(super) struct Away {
    items: Slab<Absent>,
    /// What is to be handed over once there is room, the oldest first.
    unsent: VecDeque<Unsent>,
    /// Whether those may be of different tenants or recipes.
    is_mixed: bool,
    returns: Arc<Returns>,
    /// What came back and was not looked at yet, the newest first.
    back: Vec<Returned>,
    /// What the item before has in common with others of its tenant and recipe.
    common: Option<Arc<Common>>,
    /// Empty but while items are sent.
    tasks: Vec<Task>,
}

/// An item that is to be handed over.
pub(super) struct Unsent {
    pub task: Task,
    pub arrived: Instant,
    /// What it holds of its tenant's bytes in flight.
    pub bytes: BytesPermit,
}

/// An item that is away. Dropping it gives it up.
pub(super) struct Absent {
    sent: Sent,
    arrived: Instant,
    /// Since when it has waited for others.
    waits_since: Instant,
    bytes: BytesPermit,
}

impl Away {
    /// Nothing is away.
    pub(super) fn new() -> Away {
        Away {
            items: Slab::new(),
            unsent: VecDeque::new(),
            is_mixed: false,
            returns: Arc::default(),
            back: Vec::new(),
            common: None,
            tasks: Vec::new(),
        }
    }

    /// How many items are away.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is away or to go.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.unsent.is_empty()
    }

    /// How many items are to go.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
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
            once: None,
        });
        self.common = Some(common.clone());
        common
    }

    /// An item is to go, after those that are.
    pub(super) fn goes(&mut self, item: Unsent) {
        match self.unsent.back() {
            None => self.is_mixed = false,
            Some(last) => self.is_mixed |= !last.task.common.shares_line(&item.task.common),
        }
        self.unsent.push_back(item);
    }

    /// The next item that is to go, and is not of a tenant and recipe that were denied room: its place
    /// among them, and what it is.
    pub(super) fn next(&self, denied: &[Arc<Common>]) -> Option<(usize, &Unsent)> {
        if denied.is_empty() || !self.is_mixed {
            return self.unsent.front().filter(|_| denied.is_empty()).map(|next| (0, next));
        }
        let is_denied = |u: &Unsent| denied.iter().any(|c| c.shares_line(&u.task.common));
        self.unsent.iter().enumerate().find(|(_, unsent)| !is_denied(unsent))
    }

    /// How many items, from that at a place on, have the same in common; at most so many.
    pub(super) fn alike(&self, at: usize, max: usize) -> usize {
        let Some(first) = self.unsent.get(at) else { return 0 };
        let alike = |u: &&Unsent| Arc::ptr_eq(&u.task.common, &first.task.common);
        self.unsent.iter().skip(at).take(max).take_while(alike).count()
    }

    /// Brings so many items to the front, from that at a place on.
    pub(super) fn bring(&mut self, at: usize, n: usize) {
        if at > 0 {
            let brought: Vec<Unsent> = self.unsent.drain(at..at + n).collect();
            brought.into_iter().rev().for_each(|unsent| self.unsent.push_front(unsent));
        }
    }

    /// The last item that is to go.
    pub(super) fn last(&self) -> Option<&Unsent> {
        self.unsent.back()
    }

    /// What is known of so many items, from the next on.
    pub(super) fn next_ones(&self, n: usize) -> impl Iterator<Item = About<'_>> {
        self.unsent.iter().take(n).map(Unsent::about)
    }

    pub(super) fn take_next(&mut self) -> Option<Unsent> {
        self.unsent.pop_front()
    }

    /// Hands over so many items, from the next on; see [`Unsent::due`] for `held_until`.
    pub(super) fn send(&mut self, remote: &dyn Remote, n: usize, held_until: Instant) {
        let Away { items, unsent, tasks, .. } = self;
        items.reserve(n);
        let mut known = Vec::with_capacity(n);
        for Unsent { task, arrived, bytes } in unsent.drain(..n) {
            tasks.push(task);
            known.push((arrived, bytes));
        }
        let mut known = known.into_iter();
        remote.send(tasks, &mut |sent| {
            if let Some((arrived, bytes)) = known.next() {
                let entry = items.vacant_entry();
                sent.task().key.store(entry.key(), Relaxed);
                let waits_since = arrived.max(held_until);
                entry.insert(Absent { sent, arrived, waits_since, bytes });
            }
        });
    }

    /// Looks for what has come back, once all that came before was taken, and asks to be woken by
    /// more. Whether some time may be up sooner than it was.
    pub(super) fn look(&mut self, waker: &Waker) -> bool {
        if !self.back.is_empty() {
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
            // What was given up meanwhile is not here any more; another may have its place.
            let is_there = |absent: &Absent| absent.sent.task().seq == returned.seq;
            if self.items.get(returned.key).is_some_and(is_there) {
                let mut absent = self.items.remove(returned.key);
                absent.sent.is_back();
                return Some((absent, returned));
            }
        }
    }

    /// What is told of items that begin or come back.
    pub(super) fn returns(&self) -> &Arc<Returns> {
        &self.returns
    }

    /// The earliest moment at which the time of one is up, and whether any waits for its start.
    pub(super) fn due(&self, held_until: Instant) -> (Option<Instant>, bool) {
        let (mut due, mut waits) = (None::<Instant>, !self.unsent.is_empty());
        let unsent = self.unsent.iter().map(|unsent| unsent.due(held_until));
        let away = self.items.iter().map(|(_, absent)| {
            let standing = absent.sent.standing();
            waits |= matches!(standing.phase, Phase::Waits(_));
            absent.due_as(&standing)
        });
        for at in away.chain(unsent) {
            due = Some(due.map_or(at, |due| due.min(at)));
        }
        (due, waits)
    }

    /// Takes out those that are away of which this is so, in their order.
    pub(super) fn take(&mut self, mut which: impl FnMut(&Absent) -> bool) -> Vec<Absent> {
        let keys = self.items.iter().filter(|(_, absent)| which(absent)).map(|(key, _)| key);
        let keys: Vec<usize> = keys.collect();
        let mut taken: Vec<Absent> = keys.into_iter().map(|key| self.items.remove(key)).collect();
        taken.sort_unstable_by_key(|absent| absent.sent.task().seq);
        taken
    }

    /// Takes out those that are to go of which this is so, in their order.
    pub(super) fn take_unsent(&mut self, mut which: impl FnMut(&Unsent) -> bool) -> Vec<Unsent> {
        if !self.unsent.iter().any(&mut which) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        for unsent in std::mem::take(&mut self.unsent) {
            if which(&unsent) {
                taken.push(unsent);
            } else {
                self.unsent.push_back(unsent);
            }
        }
        taken
    }
}

/// What is known of an item, whether it was handed over or not.
fn about(task: &Task, arrived: Instant) -> About<'_> {
    About {
        seq: task.seq,
        id: task.item_id,
        tenant: &task.common.tenant,
        entry: &task.common.entry,
        payload_len: task.payload.len(),
        arrived,
    }
}

fn queue_timeout(task: &Task) -> Duration {
    task.common.entry.spec().queue_timeout
}

impl Unsent {
    pub(super) fn about(&self) -> About<'_> {
        about(&self.task, self.arrived)
    }

    /// Before this no time of its is up, wherever it is. The time-out is running time, and it first
    /// waits for its turn. Nobody tells when that comes, which would cost a wake-up; so this may be
    /// too early.
    pub(super) fn due_first(&self) -> Instant {
        self.arrived + self.task.timeout.min(queue_timeout(&self.task))
    }

    /// When it has waited too long. Until `held_until` its batch had as many items under way as it
    /// may: that is no wait for others.
    pub(super) fn due(&self, held_until: Instant) -> Instant {
        self.arrived.max(held_until) + queue_timeout(&self.task)
    }
}

impl Absent {
    pub(super) fn about(&self) -> About<'_> {
        about(self.sent.task(), self.arrived)
    }

    pub(super) fn into_bytes(self) -> BytesPermit {
        self.bytes
    }

    fn due_as(&self, standing: &Standing) -> Instant {
        let task = self.sent.task();
        match standing.phase {
            // It has waited here and there.
            Phase::Waits(_) if standing.attempts == 0 => self.waits_since + queue_timeout(task),
            phase => phase.due(queue_timeout(task), task.timeout),
        }
    }

    /// Whether its time is up, and it is not on its way back. One that never ran is withdrawn, so that
    /// it can not begin any more when that is said of it.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let standing = self.sent.standing();
        let may_begin = matches!(standing.phase, Phase::Waits(_)) && standing.attempts == 0;
        let late = !standing.is_over && self.due_as(&standing) <= now;
        late && (!may_begin || self.sent.withdraw())
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
        self.stops(failure)
    }

    /// Its end with this failure instead of its own.
    pub(super) fn stops(&self, failure: Failure) -> End {
        // From here on nothing is said of its progress.
        self.sent.give_up();
        let Standing { phase, attempts, reported, .. } = self.sent.standing();
        let (ended, outcome, panicked) = (Instant::now(), Err(failure), false);
        End { started: phase.began(ended), ended, attempts, outcome, panicked, reported }
    }
}
