//! The view of a tenant's jobs: brought up to date now and then, so that a restart need not add up
//! everything that ever happened; and the end of records that nobody wants any more.

use foldhash::HashSet;
use futures::FutureExt;
use tokio::task::JoinHandle;
use tollgate_protocol::id::{BatchId, JobId, TenantId};

use super::{
    record::{self, JOBS},
    shelf::Shelf,
};
use crate::{
    rules::job::{
        Event,
        plant::{self, Bug},
    },
    store::{Change, Fence, Offset, Scope},
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
    /// The checkpoint that is being written.
    writing: Option<Writing>,
}

/// A checkpoint on its way to the disk: nobody waits for it, as a commit would have to.
struct Writing {
    task: JoinHandle<Option<Offset>>,
    /// The events before this are in it.
    upto: u64,
    /// How many records there must be for it to be worth moving the oldest.
    span_min: u64,
    jobs: HashSet<JobId>,
    batches: HashSet<BatchId>,
}

/// What a checkpoint says.
struct Said {
    changes: Vec<Change>,
    /// The events before this are in the view already, and those before that are in this.
    viewed: Offset,
    upto: Offset,
    /// The records before this are not wanted any more.
    spent: Offset,
}

impl Pages {
    /// The events before `viewed` are in the view; a checkpoint is due after every so many.
    pub(super) fn new(viewed: u64, every: u64) -> Pages {
        let due = viewed + every;
        let (jobs, batches) = (HashSet::default(), HashSet::default());
        Pages { viewed, every, due, full: false, trimmed: 0, jobs, batches, writing: None }
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

    /// Brings the view up to date once it has fallen behind, and lets go of the records that are
    /// spent; waits for that only when room is needed. What fails is tried again later: a view only
    /// saves time. After a checkpoint, how many records there must be for it to be worth moving the
    /// oldest.
    pub(super) async fn turn(&mut self, shelf: &Shelf, fence: &Fence, next: u64) -> Option<u64> {
        if self.full {
            self.settle().await;
        }
        if self.helps(shelf, next) {
            self.begin(shelf, fence, next, FULL_SPAN_MIN);
            return self.settle().await;
        }
        let ended = match &mut self.writing {
            Some(writing) => Some((&mut writing.task).now_or_never()?),
            None => None,
        };
        let span_min = ended.and_then(|ended| self.ended(ended.unwrap_or_default()));
        if next >= self.due {
            let span_min = self.every.saturating_mul(SPAN_FOR_EACH);
            self.begin(shelf, fence, next, span_min);
        }
        span_min
    }

    /// Waits for the checkpoint that is being written, if there is one; as [`turn`](Self::turn).
    pub(super) async fn settle(&mut self) -> Option<u64> {
        let ended = (&mut self.writing.as_mut()?.task).await;
        self.ended(ended.unwrap_or_default())
    }

    fn begin(&mut self, shelf: &Shelf, fence: &Fence, next: u64, span_min: u64) {
        (self.full, self.due) = (false, next + self.every);
        let (changes, spent) = self.changes(shelf);
        let spent = Offset(spent.unwrap_or(next));
        let said = Said { changes, viewed: Offset(self.viewed), upto: Offset(next), spent };
        let tenant = shelf.tenant.id().clone();
        let task = tokio::spawn(write(shelf.scope.clone(), fence.clone(), said, tenant));
        let (jobs, batches) = (std::mem::take(&mut self.jobs), std::mem::take(&mut self.batches));
        self.writing = Some(Writing { task, upto: next, span_min, jobs, batches });
    }

    /// A checkpoint was written, or was not: then what it was to say is to be said by the next.
    fn ended(&mut self, trimmed: Option<Offset>) -> Option<u64> {
        let Writing { upto, span_min, jobs, batches, .. } = self.writing.take()?;
        match trimmed {
            Some(trimmed) => {
                self.viewed = upto;
                self.trimmed = self.trimmed.max(trimmed.0);
                Some(span_min)
            }
            None => {
                self.jobs.extend(jobs);
                self.batches.extend(batches);
                None
            }
        }
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

/// Writes a checkpoint, and lets go of what is spent: up to where, once the view is kept.
async fn write(scope: Scope, fence: Fence, said: Said, tenant: TenantId) -> Option<Offset> {
    // A job that is in the view and not yet in the stream's part before `upto` is only ahead.
    let mut steps = said.changes.chunks(STEP).peekable();
    while let Some(step) = steps.next() {
        let upto = if steps.peek().is_some() { said.viewed } else { said.upto };
        if let Err(error) = scope.checkpoint(&fence, JOBS, upto, step.to_vec()).await {
            tracing::warn!(%tenant, %error, "jobs: no checkpoint");
            return None;
        }
    }
    match scope.trim(&fence, JOBS, said.spent).await {
        Ok(()) => Some(said.spent),
        Err(error) => {
            tracing::warn!(%tenant, %error, "jobs: records were not trimmed");
            Some(Offset(0))
        }
    }
}
