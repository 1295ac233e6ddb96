//! Deciding what happens next: each answer is an event to commit, and nothing else.
//!
//! What an event under way is about is locked until it was applied or given up, so that nothing is
//! decided twice.

use tollgate_protocol::id::{BatchId, JobId};

use super::{
    At, AttemptError, Event, How, Job, State, Submitted,
    jobs::Jobs,
    plant::{self, Bug},
};
use crate::rules::retry::Backoff;

/// A job that a client wants accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitting {
    /// The job as it will be: its name is used when it is a new one.
    pub job: Submitted,
    /// Whether its batch is durable: then its item may have been accepted before.
    pub durable: bool,
}

/// Why there is no new job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is one already, with the same payload.
    Existing(JobId),
    /// The key, within its recipe, names a job with another payload.
    KeyTaken(JobId),
    /// The batch has this item with another payload, or for another recipe.
    ItemTaken(JobId),
    /// The durable batch is sealed.
    Sealed,
    /// Something about it is under way: ask again after that.
    Locked,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It has a result, of so many bytes.
    Succeeded {
        /// How many.
        result_len: u32,
    },
    /// It failed.
    Failed {
        /// A number of the table of codes.
        code: u16,
        /// For people.
        message: Box<str>,
        /// Whether another attempt may help.
        transient: bool,
        /// Whether nothing is known against the job itself: another attempt needs no wait.
        lost: bool,
        /// How long to wait at least, in milliseconds, when whoever failed said so.
        after_ms: Option<u64>,
        /// How many bytes its failure has, if it is the last word.
        result_len: u32,
    },
}

/// How much of something is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// What does not run.
    Pending,
    /// What runs, too.
    All,
}

/// The most attempts a job may have.
pub const ATTEMPTS_MAX: u32 = 1_000;

impl Jobs {
    /// Whether a job is accepted.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn submit(&mut self, s: Submitting, now: At) -> Result<Event, Refused> {
        let Submitting { job: s, durable } = s;
        if durable && let Some(batch) = self.batches.get(&s.batch) {
            if let Some(known) = batch.job_of(s.item).and_then(|id| self.jobs.get(&id)) {
                return Err(same_or(known, &s, Refused::ItemTaken(known.id)));
            }
            if batch.sealed.is_some() {
                return Err(Refused::Sealed);
            }
        }
        let key = s.key.clone().map(|key| (s.recipe.clone(), key));
        if let Some(key) = &key {
            if self.locked_keys.contains(key) {
                return Err(Refused::Locked);
            }
            let known = self.keys.get(key).and_then(|id| self.jobs.get(id));
            if let Some(known) = known
                && known.created.saturating_add(self.keep.key_ms) > now
            {
                return Err(same_or(known, &s, Refused::KeyTaken(known.id)));
            }
        }
        if durable && !self.locked_items.insert((s.batch, s.item)) {
            return Err(Refused::Locked);
        }
        self.locked_keys.extend(key);
        Ok(Event::Submitted(Box::new(s)))
    }

    /// Begins a job's next attempt, if it waits for one.
    pub fn start(&mut self, id: JobId, attempts_max: u32, now: At) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        if !matches!(job.state, State::Queued | State::Retrying) || !job.lock() {
            return None;
        }
        let attempts_max = attempts_max.clamp(1, ATTEMPTS_MAX);
        Some(Event::Started { job: id, attempt: job.attempts + 1, attempts_max, at: now })
    }

    /// What follows from the end of an attempt. Nothing, when it is not the one that runs: a late
    /// answer changes nothing.
    pub fn attempt_ended(
        &mut self,
        id: JobId,
        attempt: u32,
        came_to: Attempt,
        (backoff, random): (Backoff, u64),
        now: At,
    ) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        let runs = job.state == State::Running && job.attempts == attempt;
        if !(runs || plant::is(Bug::AnyAttempt)) || !job.lock() {
            return None;
        }
        Some(match came_to {
            Attempt::Succeeded { result_len } => Event::Ended {
                job: id,
                state: State::Succeeded,
                code: 0,
                error: None,
                at: now,
                result_len,
            },
            Attempt::Failed { code, message, transient, lost, after_ms, result_len } => {
                let error = AttemptError { attempt, at: now, code, message };
                let more = job.attempts < job.attempts_max;
                if transient && more {
                    let wait = if lost { 0 } else { backoff.wait_ms(attempt, random) };
                    let wait = wait.max(after_ms.unwrap_or(0));
                    Event::AttemptFailed { job: id, error, due: now.saturating_add(wait) }
                } else {
                    let state = if transient { State::Dead } else { State::Failed };
                    Event::Ended { job: id, state, code, error: Some(error), at: now, result_len }
                }
            }
        })
    }

    /// Gives a job up, if it is not over and, with [`Cancel::Pending`], does not run. `to` is how it
    /// ends then; `code` and `message` are what it is told.
    pub fn give_it_up(
        &mut self,
        id: JobId,
        scope: Cancel,
        (to, code, message): (State, u16, &str),
        now: At,
    ) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        let meant = !job.state.is_over() && (scope == Cancel::All || job.state != State::Running);
        if !meant || !job.lock() {
            return None;
        }
        let error = AttemptError { attempt: job.attempts, at: now, code, message: message.into() };
        let error = Some(error);
        Some(Event::Ended { job: id, state: to, code, error, at: now, result_len: 0 })
    }

    /// Runs a job again that is over and did not succeed.
    pub fn replay(&mut self, id: JobId, now: At) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        let meant = matches!(job.state, State::Failed | State::Cancelled | State::Dead);
        (meant && job.lock()).then_some(Event::Replayed { job: id, at: now })
    }

    /// Forgets a job that is over.
    pub fn remove(&mut self, id: JobId) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        (job.state.is_over() && job.lock()).then_some(Event::Removed { job: id })
    }

    /// Opens a durable batch, unless it is there.
    pub fn open_batch(&self, batch: BatchId, fail_fast: bool, now: At) -> Option<Event> {
        let there = self.batches.get(&batch).is_some_and(|b| b.durable);
        (!there).then_some(Event::BatchOpened { batch, at: now, fail_fast })
    }

    /// Seals a durable batch, unless it is sealed.
    pub fn seal(
        &self,
        id: BatchId,
        how: How,
        last_item: Option<u64>,
        refused: Vec<(u16, u64)>,
        now: At,
    ) -> Option<Event> {
        let batch = self.batches.get(&id).filter(|b| b.durable && b.sealed.is_none())?;
        // Its client's clock and ours never mix: both are ours.
        let at = now.max(batch.opened);
        Some(Event::BatchSealed { batch: id, at, how, last_item, refused })
    }

    /// Ends a durable batch that is sealed and whose jobs are all over.
    pub fn end_batch(&self, id: BatchId, now: At) -> Option<Event> {
        let batch = self.batches.get(&id)?;
        let over = batch.durable && batch.sealed.is_some() && batch.open == 0;
        let counts = Some(batch.counts());
        (over && batch.ended.is_none()).then_some(Event::BatchEnded { batch: id, at: now, counts })
    }

    /// Forgets a durable batch that is over and has no jobs left.
    pub fn remove_batch(&self, id: BatchId) -> Option<Event> {
        let batch = self.batches.get(&id)?;
        let spent = batch.durable && batch.ended.is_some() && batch.jobs == 0;
        spent.then_some(Event::BatchRemoved { batch: id })
    }
}

/// The job that is there already, when it is the same one; else why not.
fn same_or(known: &Job, s: &Submitted, other: Refused) -> Refused {
    if known.digest == s.digest && known.recipe == s.recipe {
        Refused::Existing(known.id)
    } else {
        other
    }
}
