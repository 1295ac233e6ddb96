//! Adding events up. Never decides: what is applied has happened.

use std::mem;

use tollgate_protocol::id::{BatchId, JobId, RecipeName};

use super::{
    At, AttemptError, Body, ERRORS_MAX, Event, Job, Progress, Sequence, State, Submitted,
    jobs::{Batch, JOB_BYTES, Jobs, Sealed, What},
    plant::{self, Bug},
    queue::{Due, Waiting},
};

impl Jobs {
    /// Adds an event that was committed at an offset of the tenant's stream. What it is about and
    /// is not known (any more) is no matter: it was removed later.
    pub fn apply(&mut self, event: &Event, offset: u64) {
        let number: Sequence = offset + 1;
        match event {
            Event::BatchOpened { batch, at, fail_fast } => {
                let opened =
                    Batch { durable: true, fail_fast: *fail_fast, opened: *at, ..Batch::default() };
                self.batches.entry(*batch).or_insert(opened);
            }
            Event::Submitted(submitted) => self.submitted(submitted, offset),
            Event::Started { job, attempt, attempts_max, at } => self.change(*job, |job| {
                let uncounted = job.attempts > 0 && plant::is(Bug::RetryNotCounted);
                let attempt = if uncounted { job.attempts } else { *attempt };
                (job.state, job.attempts, job.attempts_max) =
                    (State::Running, attempt, *attempts_max);
                (job.started, job.progress) = (Some(*at), None);
            }),
            Event::Progressed { job, progress } => {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.progress = Some(progress.clone());
                }
            }
            Event::AttemptFailed { job, error, due } => self.change(*job, |job| {
                (job.state, job.due) = (State::Retrying, Some(*due));
                job.note(error.clone());
            }),
            Event::Ended { job, state, code, error, at, result_len } => {
                let result = Body { at: offset, len: *result_len };
                self.change(*job, |job| {
                    (job.state, job.code, job.ended) = (*state, *code, Some(*at));
                    (job.finished, job.result, job.due) = (number, result, None);
                    if let Some(progress) =
                        job.progress.as_mut().filter(|_| *state == State::Succeeded)
                    {
                        // A success ends at its total, whatever was reported last.
                        progress.done = progress.done.max(progress.total);
                    }
                    error.iter().for_each(|error| job.note(error.clone()));
                });
            }
            Event::Replayed { job, at } => self.change(*job, |job| {
                (job.state, job.attempts, job.due) = (State::Queued, 0, Some(*at));
                (job.finished, job.result, job.ended) = (0, Body::default(), None);
                (job.code, job.deadline, job.progress) = (0, None, None);
            }),
            Event::Moved { job, from } => {
                let Some(job) = self.jobs.get_mut(job) else { return };
                let body = if job.payload.at == *from {
                    &mut job.payload
                } else if job.result.at == *from && job.result != Body::default() {
                    &mut job.result
                } else {
                    return;
                };
                body.at = offset;
                let id = job.id;
                self.wanted.remove(from);
                self.wanted.insert(offset, id);
            }
            Event::Removed { job } => self.removed(*job),
            Event::BatchSealed { batch, at, how, last_item, refused } => {
                self.leave_unsealed(*batch);
                if let Some(batch) = self.batches.get_mut(batch) {
                    let (at, how, refused) = (*at, *how, refused.clone());
                    batch.sealed = Some(Sealed { at, how, refused });
                    batch.last_item = batch.last_item.max(*last_item);
                }
            }
            Event::BatchEnded { batch: id, at, counts } => {
                if let Some(batch) = self.batches.get_mut(id) {
                    batch.ended = Some((*at, number));
                    let counts = counts.clone().unwrap_or_else(|| batch.counts());
                    batch.counts.get_or_insert(counts);
                    batch.frames.insert(number, What::Summary);
                    let forget = at.saturating_add(self.keep.job_ms);
                    self.queue.at(forget, Due::ForgetBatch(*id));
                }
                self.forget_if_empty(*id);
            }
            Event::BatchRemoved { batch } => {
                self.leave_batch_alone(*batch);
                match self.batches.get_mut(batch) {
                    // A view knows jobs already of one that was opened later under the same id:
                    // what was said of the earlier one goes, and what follows says the rest.
                    Some(later) if later.jobs > 0 => later.begin_again(),
                    _ => _ = self.batches.remove(batch),
                }
            }
        }
    }

    /// What is under way came to nothing: it may be decided about again.
    pub fn give_up(&mut self, event: &Event) {
        if let Some(job) = event.job().and_then(|job| self.jobs.get_mut(&job)) {
            job.locked = false;
        }
        if let Event::Submitted(submitted) = event {
            self.unlock(submitted);
        }
    }

    fn unlock(&mut self, submitted: &Submitted) {
        if let Some(key) = &submitted.key {
            self.locked_keys.remove(&(submitted.recipe.clone(), key.clone()));
        }
        self.locked_items.remove(&(submitted.batch, submitted.item));
    }

    fn submitted(&mut self, s: &Submitted, offset: u64) {
        self.unlock(s);
        let mut job = Job::named(s.job, s.batch, s.item, s.recipe.clone());
        (job.priority, job.timeout_ms, job.deadline) = (s.priority, s.timeout_ms, s.deadline);
        (job.key, job.digest) = (s.key.clone(), s.digest);
        job.payload = Body { at: offset, len: s.payload_len };
        (job.created, job.due) = (s.at, Some(s.due.unwrap_or(s.at)));
        job.accepted = offset + 1;
        self.insert(job);
    }

    /// Adds a job as it was kept.
    pub fn insert(&mut self, job: Job) {
        // Names rise: mostly it is the newest, and known to be new without being looked for.
        if self.jobs.last_key_value().is_some_and(|(last, _)| *last >= job.id) {
            self.removed(job.id);
        }
        let batch = self
            .batches
            .entry(job.batch)
            .or_insert_with(|| Batch { opened: job.created, ..Batch::default() });
        batch.jobs += 1;
        batch.bytes_in += u64::from(job.payload.len);
        batch.last_item = batch.last_item.max(Some(job.item));
        batch.frames.insert(job.accepted, What::Accepted(job.id));
        if batch.durable {
            batch.items.insert(job.item, job.id);
        }
        if let Some(key) = &job.key {
            self.keys.insert((job.recipe.clone(), key.clone()), job.id);
        }
        self.wanted.insert(job.payload.at, job.id);
        self.bytes += JOB_BYTES + u64::from(job.payload.len);
        self.enter(&job);
        self.jobs.insert(job.id, job);
    }

    /// Adds a durable batch as it was kept: before its jobs.
    pub fn insert_batch(&mut self, id: BatchId, kept: Batch) {
        if let Some((at, number)) = kept.ended {
            self.queue.at(at.saturating_add(self.keep.job_ms), Due::ForgetBatch(id));
            let batch = self.batches.entry(id).or_insert(kept);
            batch.frames.insert(number, What::Summary);
        } else {
            self.batches.insert(id, kept);
        }
    }

    fn removed(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.leave(&job);
        self.wanted.remove(&job.payload.at);
        self.bytes -= JOB_BYTES + u64::from(job.payload.len);
        if let Some(key) = &job.key {
            let key = (job.recipe.clone(), key.clone());
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        if let Some(batch) = self.batches.get_mut(&job.batch) {
            batch.jobs -= 1;
            batch.bytes_in -= u64::from(job.payload.len);
            batch.frames.remove(&job.accepted);
            batch.items.remove(&job.item);
            if batch.jobs == 0 && !batch.durable {
                self.batches.remove(&job.batch);
            }
        }
        self.forget_if_empty(job.batch);
    }

    /// A durable batch that is over and has no jobs, or none any more, is not kept for as long as
    /// they would be: whoever opens many of nothing must not fill the memory with them.
    pub fn forget_if_empty(&mut self, id: BatchId) {
        let Some(batch) = self.batches.get(&id).filter(|b| b.durable && b.jobs == 0) else {
            return;
        };
        if let Some((at, _)) = batch.ended {
            let forget = at.saturating_add(self.keep.unsealed_ms);
            self.queue.at(forget, Due::ForgetBatch(id));
        }
    }

    /// Changes a job, and where it stands.
    fn change(&mut self, id: JobId, change: impl FnOnce(&mut Job)) {
        let Some(mut job) = self.jobs.remove(&id) else { return };
        self.leave(&job);
        change(&mut job);
        job.locked = false;
        self.enter(&job);
        self.jobs.insert(id, job);
    }

    /// A job enters all that depends on its state.
    fn enter(&mut self, job: &Job) {
        self.counts[usize::from(job.state.number())] += 1;
        for (at, due) in self.timers(job) {
            self.queue.at(at, due);
        }
        let Some(batch) = self.batches.get_mut(&job.batch) else { return };
        if !job.state.is_over() {
            batch.open += 1;
            return;
        }
        batch.frames.insert(job.finished, What::Finished(job.id));
        batch.bytes_out += u64::from(job.result.len);
        count(&mut batch.codes, job.code, true);
        if !plant::is(Bug::TrimResults) {
            self.wanted.insert(job.result.at, job.id);
        }
        self.bytes += u64::from(job.result.len);
    }

    /// The opposite of [`enter`](Self::enter).
    fn leave(&mut self, job: &Job) {
        self.counts[usize::from(job.state.number())] -= 1;
        for (at, due) in self.timers(job) {
            self.queue.not_at(at, due);
        }
        if let Some(waiting) = waiting(job) {
            self.queue.remove(&job.recipe, waiting);
        }
        let Some(batch) = self.batches.get_mut(&job.batch) else { return };
        if !job.state.is_over() {
            batch.open -= 1;
            return;
        }
        batch.frames.remove(&job.finished);
        batch.bytes_out -= u64::from(job.result.len);
        count(&mut batch.codes, job.code, false);
        self.wanted.remove(&job.result.at);
        self.bytes -= u64::from(job.result.len);
    }

    fn timers(&self, job: &Job) -> impl Iterator<Item = (At, Due)> + use<> {
        let (id, state) = (job.id, job.state);
        let waits = matches!(state, State::Queued | State::Retrying);
        let start = job.due.filter(|_| waits).map(|at| (at, Due::Start(id)));
        let deadline = job.deadline.filter(|_| waits).map(|at| (at, Due::Deadline(id)));
        let kept = matches!(state, State::Succeeded | State::Failed | State::Cancelled);
        let forget = |at: At| (at.saturating_add(self.keep.job_ms), Due::Forget(id));
        let forget = job.ended.filter(|_| kept).map(forget);
        [start, deadline, forget].into_iter().flatten()
    }

    /// An attempt that runs reported how far it is: newest wins, and it never falls.
    pub fn report(&mut self, id: JobId, progress: Progress) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.state.is_over()) else { return };
        if job.progress.as_ref().is_none_or(|before| before.done <= progress.done) {
            job.progress = Some(progress);
        }
    }

    /// A job's time to start has come: it may, from now on.
    pub fn wake(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(at) = job.due {
            self.queue.not_at(at, Due::Start(id));
        }
        if let Some(waiting) = waiting(job) {
            self.queue.push(&job.recipe, waiting);
        }
    }

    /// A job that may start does so at `at` at the earliest, for a reason that is not kept.
    pub fn postpone(&mut self, id: JobId, at: At) {
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(waiting) = waiting(job) {
            self.queue.remove(&job.recipe, waiting);
            self.queue.at(at, Due::Start(id));
        }
    }

    /// Nobody is connected to a durable batch since `at`, or somebody is again.
    pub fn left(&mut self, id: BatchId, at: Option<At>) {
        self.leave_unsealed(id);
        let unsealed_ms = self.keep.unsealed_ms;
        let Some(batch) = self.batches.get_mut(&id) else { return };
        if batch.durable && batch.sealed.is_none() {
            batch.left = at;
            if let Some(at) = at {
                self.queue.at(at.saturating_add(unsealed_ms), Due::Seal(id));
            }
        }
    }

    /// Nothing seals a batch any more for want of its client.
    fn leave_unsealed(&mut self, id: BatchId) {
        let at = self.batches.get_mut(&id).and_then(|batch| batch.left.take());
        if let Some(at) = at {
            self.queue.not_at(at.saturating_add(self.keep.unsealed_ms), Due::Seal(id));
        }
    }

    /// Forgets the timers of a batch.
    fn leave_batch_alone(&mut self, id: BatchId) {
        self.leave_unsealed(id);
        if let Some((at, _)) = self.batches.get(&id).and_then(|batch| batch.ended) {
            for keep in [self.keep.job_ms, self.keep.unsealed_ms] {
                self.queue.not_at(at.saturating_add(keep), Due::ForgetBatch(id));
            }
        }
    }
}

/// How a job stands among those that may start, if it is one of them.
fn waiting(job: &Job) -> Option<Waiting> {
    let waits = matches!(job.state, State::Queued | State::Retrying);
    let since = job.due.unwrap_or(job.created);
    waits.then(|| Waiting::new(job.id, job.accepted, since, job.priority))
}

/// Counts a code once more, or once less.
fn count(codes: &mut Vec<(u16, u64)>, code: u16, more: bool) {
    match (codes.binary_search_by_key(&code, |c| c.0), more) {
        (Ok(at), true) => codes[at].1 += 1,
        (Err(at), true) => codes.insert(at, (code, 1)),
        (Ok(at), false) => {
            codes[at].1 -= 1;
            if codes[at].1 == 0 {
                codes.remove(at);
            }
        }
        (Err(_), false) => {}
    }
}

impl Job {
    fn note(&mut self, error: AttemptError) {
        // A view may be ahead of the events that are added to it.
        if self.errors.contains(&error) {
            return;
        }
        if self.errors.len() == ERRORS_MAX {
            self.errors.remove(0);
        }
        self.errors.push(error);
    }

    /// A job of which nothing more is known than what it is.
    pub fn named(id: JobId, batch: BatchId, item: u64, recipe: RecipeName) -> Job {
        Job {
            id,
            batch,
            item,
            recipe,
            state: State::Queued,
            priority: 0,
            timeout_ms: None,
            deadline: None,
            key: None,
            digest: [0; 16],
            payload: Body::default(),
            result: Body::default(),
            attempts: 0,
            attempts_max: 0,
            created: 0,
            started: None,
            due: None,
            ended: None,
            code: 0,
            accepted: 0,
            finished: 0,
            errors: Vec::new(),
            progress: None,
            locked: false,
        }
    }

    /// Whether an event about it is under way.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    pub(super) fn lock(&mut self) -> bool {
        !mem::replace(&mut self.locked, true)
    }
}

impl Event {
    /// The job it is about, if it is about one that is known.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Event::Started { job, .. }
            | Event::Progressed { job, .. }
            | Event::AttemptFailed { job, .. }
            | Event::Ended { job, .. }
            | Event::Replayed { job, .. }
            | Event::Moved { job, .. }
            | Event::Removed { job } => Some(*job),
            Event::Submitted(_)
            | Event::BatchOpened { .. }
            | Event::BatchSealed { .. }
            | Event::BatchEnded { .. }
            | Event::BatchRemoved { .. } => None,
        }
    }
}
