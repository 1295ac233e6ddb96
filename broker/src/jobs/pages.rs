//! The view of a tenant's jobs: brought up to date now and then, so that a restart need not add up
//! everything that ever happened; and the end of records that nobody wants any more.

use foldhash::HashSet;
use tollgate_protocol::id::{BatchId, JobId};

use super::{
    record::{self, JOBS},
    shelf::Shelf,
};
use crate::{
    rules::job::{
        Event,
        plant::{self, Bug},
    },
    store::{Change, Fence, Offset},
};

/// Jobs of one step of a checkpoint.
const STEP: usize = if cfg!(test) { 3 } else { 4_096 };

/// Records, in events from one checkpoint to the next, from which on it is worth moving the oldest.
const SPAN_FOR_EACH: u64 = 4;
/// Likewise, in records, when there is no room for anything else.
const FULL_SPAN_MIN: u64 = 64;

/// What the view does not know yet.
pub(super) struct Pages {
    /// The events before this are in the view.
    viewed: u64,
    /// Events between two checkpoints.
    every: u64,
    /// The next checkpoint is due after this many events.
    due: u64,
    /// Something was refused for want of room since the last checkpoint.
    full: bool,
    /// What was let go of last.
    trimmed: u64,
    jobs: HashSet<JobId>,
    batches: HashSet<BatchId>,
}

impl Pages {
    /// The events before `viewed` are in the view; a checkpoint is due after every so many.
    pub(super) fn new(viewed: u64, every: u64) -> Pages {
        let due = viewed + every;
        let (jobs, batches) = (HashSet::default(), HashSet::default());
        Pages { viewed, every, due, full: false, trimmed: 0, jobs, batches }
    }

    /// Notes what events are about.
    pub(super) fn learn<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) {
        for event in events {
            match event {
                Event::Submitted(s) => {
                    self.jobs.insert(s.job);
                    self.batches.insert(s.batch);
                }
                Event::BatchOpened { batch, .. }
                | Event::BatchSealed { batch, .. }
                | Event::BatchEnded { batch, .. }
                | Event::BatchRemoved { batch } => _ = self.batches.insert(*batch),
                other => self.jobs.extend(other.job()),
            }
        }
    }

    /// The disk is full: what can be let go of is, with the next turn.
    pub(super) fn make_room(&mut self) {
        self.full = true;
    }

    /// Brings the view up to date once it has fallen behind, or room is needed, and lets go of the
    /// records that are spent. What fails is tried again later: a view only saves time. After a
    /// checkpoint, how many records there must be for it to be worth moving the oldest.
    pub(super) async fn turn(&mut self, shelf: &Shelf, fence: &Fence, next: u64) -> Option<u64> {
        let span_min = if self.helps(shelf, next) {
            FULL_SPAN_MIN
        } else if next >= self.due {
            self.every.saturating_mul(SPAN_FOR_EACH)
        } else {
            return None;
        };
        (self.full, self.due) = (false, next + self.every);
        let (changes, spent) = self.changes(shelf);
        let scope = &shelf.scope;
        // A job that is in the view and not yet in the stream's part before `upto` is only ahead.
        let mut steps = changes.chunks(STEP).peekable();
        while let Some(step) = steps.next() {
            let upto = if steps.peek().is_some() { self.viewed } else { next };
            let kept = scope.checkpoint(fence, JOBS, Offset(upto), step.to_vec()).await;
            if let Err(error) = kept {
                tracing::warn!(tenant = %shelf.tenant.id(), %error, "jobs: no checkpoint");
                return None;
            }
        }
        self.viewed = next;
        self.jobs.clear();
        self.batches.clear();
        let spent = spent.unwrap_or(next);
        match scope.trim(fence, JOBS, Offset(spent)).await {
            Ok(()) => self.trimmed = spent,
            Err(error) => {
                tracing::warn!(tenant = %shelf.tenant.id(), %error, "jobs: records were not trimmed");
            }
        }
        Some(span_min)
    }

    /// Whether room is needed, and a checkpoint now may make some.
    fn helps(&self, shelf: &Shelf, next: u64) -> bool {
        if !self.full {
            return false;
        }
        let state = shelf.lock();
        let spent = state.jobs.spent_before().unwrap_or(next);
        spent > self.trimmed || !state.jobs.to_move(next, FULL_SPAN_MIN, 1).is_empty()
    }

    fn changes(&self, shelf: &Shelf) -> (Vec<Change>, Option<u64>) {
        let state = shelf.lock();
        let (key, value) = record::epoch_pair(state.epoch);
        let mut changes = Vec::new();
        if !plant::is(Bug::EpochLost) {
            changes.push(Change::put(key, value));
        }
        for id in &self.batches {
            let key = record::batch_key(*id);
            changes.push(match state.jobs.batch(*id).filter(|b| b.durable) {
                Some(batch) => Change::put(key, record::batch_value(batch)),
                None => Change::delete(key),
            });
        }
        for id in &self.jobs {
            let key = record::job_key(*id);
            changes.push(match state.jobs.get(*id) {
                Some(job) => Change::put(key, record::job_value(job)),
                None => Change::delete(key),
            });
        }
        (changes, state.jobs.spent_before())
    }
}
