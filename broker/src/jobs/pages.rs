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

/// What the view does not know yet.
pub(super) struct Pages {
    /// The events before this are in the view.
    viewed: u64,
    /// Events between two checkpoints.
    every: u64,
    /// The next checkpoint is due after this many events.
    due: u64,
    jobs: HashSet<JobId>,
    batches: HashSet<BatchId>,
}

impl Pages {
    /// The events before `viewed` are in the view; a checkpoint is due after every so many.
    pub(super) fn new(viewed: u64, every: u64) -> Pages {
        let due = viewed + every;
        Pages { viewed, every, due, jobs: HashSet::default(), batches: HashSet::default() }
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

    /// Brings the view up to date once it has fallen behind, and lets go of the records that are
    /// spent. What fails is tried again later: a view only saves time. True when there was a
    /// checkpoint.
    pub(super) async fn turn(&mut self, shelf: &Shelf, fence: &Fence, next: u64) -> bool {
        if next < self.due {
            return false;
        }
        self.due = next + self.every;
        let (changes, spent) = self.changes(shelf);
        let scope = &shelf.scope;
        // A job that is in the view and not yet in the stream's part before `upto` is only ahead.
        let mut steps = changes.chunks(STEP).peekable();
        while let Some(step) = steps.next() {
            let upto = if steps.peek().is_some() { self.viewed } else { next };
            let kept = scope.checkpoint(fence, JOBS, Offset(upto), step.to_vec()).await;
            if let Err(error) = kept {
                tracing::warn!(tenant = %shelf.tenant.id(), %error, "jobs: no checkpoint");
                return false;
            }
        }
        self.viewed = next;
        self.jobs.clear();
        self.batches.clear();
        if let Err(error) = scope.trim(fence, JOBS, Offset(spent.unwrap_or(next))).await {
            tracing::warn!(tenant = %shelf.tenant.id(), %error, "jobs: records were not trimmed");
        }
        true
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
