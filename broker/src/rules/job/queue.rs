//! What waits: jobs that may start, in the order of their turn, and what time brings about.
//!
//! A job's rank falls by 30 s with each step of priority, and ranks are times: so who waits 30 s
//! passes those that come then with one step more. No clock, and no renewed sorting.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_protocol::id::{BatchId, JobId, RecipeName};

use super::{At, Sequence};

/// What a step of priority is worth, in milliseconds of waiting.
const STEP_MS: u64 = 30_000;
/// The highest priority.
const PRIORITY_MAX: u8 = 7;

/// A job that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    rank: At,
    accepted: Sequence,
    /// Which.
    pub job: JobId,
}

impl Waiting {
    /// A job that waits since `since`.
    pub(super) fn new(job: JobId, accepted: Sequence, since: At, priority: u8) -> Waiting {
        let below = u64::from(PRIORITY_MAX.saturating_sub(priority));
        Waiting { rank: since.saturating_add(below * STEP_MS), accepted, job }
    }
}

/// What is to be done at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A job may start now.
    Start(JobId),
    /// A job must have been started by now.
    Deadline(JobId),
    /// A job that is over has been kept long enough.
    Forget(JobId),
    /// Nobody came back to a batch that is not sealed.
    Seal(BatchId),
    /// A batch that is over has been kept long enough.
    ForgetBatch(BatchId),
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: BTreeMap<RecipeName, BTreeSet<Waiting>>,
    timers: BTreeSet<(At, Due)>,
}

impl Queue {
    pub(super) fn push(&mut self, recipe: &RecipeName, waiting: Waiting) {
        match self.ready.get_mut(recipe) {
            Some(set) => _ = set.insert(waiting),
            None => _ = self.ready.insert(recipe.clone(), BTreeSet::from([waiting])),
        }
    }

    pub(super) fn remove(&mut self, recipe: &RecipeName, waiting: Waiting) {
        if let Some(set) = self.ready.get_mut(recipe) {
            set.remove(&waiting);
            if set.is_empty() {
                self.ready.remove(recipe);
            }
        }
    }

    /// The recipes that some job waits to run, and those jobs in the order of their turn.
    pub(super) fn ready(&self) -> impl Iterator<Item = (&RecipeName, &BTreeSet<Waiting>)> {
        self.ready.iter()
    }

    pub(super) fn at(&mut self, at: At, due: Due) {
        self.timers.insert((at, due));
    }

    pub(super) fn not_at(&mut self, at: At, due: Due) {
        self.timers.remove(&(at, due));
    }

    /// When the next thing is to be done.
    pub(super) fn next(&self) -> Option<At> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// All that is to be done, and when.
    #[cfg(test)]
    pub(super) fn timers(&self) -> impl Iterator<Item = &(At, Due)> {
        self.timers.iter()
    }

    /// Takes the oldest thing that is to be done by `now`.
    pub(super) fn take_due(&mut self, now: At) -> Option<Due> {
        let first = self.timers.first().filter(|(at, _)| *at <= now).copied()?;
        self.timers.remove(&first);
        Some(first.1)
    }
}
