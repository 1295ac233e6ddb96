//! Commands, one by one: each makes events, or has to wait for those that are under way.

use std::time::Duration;

use tollgate_protocol::{
    Code,
    id::{BatchId, JobId},
};

use super::{
    super::{
        group::{Group, Then},
        service,
        shelf::{Act, Answer, Command, State, Target},
    },
    Owner, facts, lost,
};
use crate::{
    batch::{Failure, Ran, jitter},
    rules::job::{At, Attempt, Cancel, Event, State as JobState, Which},
};

/// Jobs looked at in one go, before others have their turn.
const LOOKED_AT_MAX: usize = 10_000;

impl Owner {
    /// Does what a command says. What has to wait for the events under way comes back.
    pub(super) fn take(
        &mut self,
        command: Command,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> Option<Command> {
        match command {
            Command::Submit(submit) => {
                return self.submit(*submit, state, group, now).map(Command::Submit);
            }
            Command::Open { batch, fail_fast, answer } => {
                match state.jobs.open_batch(batch, fail_fast, now) {
                    Some(event) => group.change(event, Then::Opened(answer)),
                    None => {
                        let resumed = resumed(state, batch);
                        state.jobs.left(batch, None);
                        if answer.send(resumed).is_err() {
                            // Whoever asked is gone: as if it had left.
                            state.jobs.left(batch, Some(now));
                        }
                    }
                }
            }
            Command::Left { batch } => state.jobs.left(batch, Some(now)),
            Command::Seal { batch, how, last_item, refused } => {
                if let Some(event) = state.jobs.seal(batch, how, last_item, refused, now) {
                    group.change(event, Then::Nothing);
                }
            }
            Command::Settle { batch } => self.settle(batch, state, group, now),
            Command::Act { act, target, after, count, answer } => {
                return self.act(act, target, (after, count), answer, state, group, now);
            }
            Command::Began { job, attempt, gate } => {
                return self.began(job, attempt, gate, state, group, now);
            }
            Command::Ran { job, attempt, ran } => {
                return self.ran(job, attempt, ran, state, group, now);
            }
            Command::Keep { job, progress } => {
                if state.jobs.get(job).is_some_and(|job| job.state == JobState::Running) {
                    group.change(Event::Progressed { job, progress }, Then::Nothing);
                }
            }
        }
        None
    }

    /// What follows from a job that is over, or from a seal.
    fn settle(&mut self, id: BatchId, state: &mut State, group: &mut Group, now: At) {
        if let Some(event) = state.jobs.end_batch(id, now) {
            group.change(event, Then::Nothing);
            return;
        }
        let Some(batch) = state.jobs.batch(id) else { return };
        let failed = batch.codes.iter().any(|(code, _)| *code != 0);
        if batch.fail_fast && failed && batch.open > 0 {
            let which = Which { batch: Some(id), ..Which::default() };
            self.backlog.push_back(Command::Act {
                act: Act::Cancel(Cancel::Pending),
                target: Target::All(which),
                after: None,
                count: 0,
                answer: None,
            });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one command, and the group")]
    fn act(
        &mut self,
        act: Act,
        target: Target,
        (mut after, mut count): (Option<JobId>, u64),
        answer: Option<Answer>,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> Option<Command> {
        let which = match &target {
            Target::All(which) => which,
            Target::One(id) => {
                let Some(job) = state.jobs.get(*id) else {
                    if let Some(answer) = answer {
                        let _ = answer.send(Err(service::no_such_job()));
                    }
                    return None;
                };
                if job.is_locked() {
                    return Some(Command::Act { act, target, after, count, answer });
                }
                count += u64::from(self.act_on(*id, act, state, group, now));
                group.answers.extend(answer.map(|answer| (answer, count)));
                return None;
            }
        };
        // Of one batch, or of all: the first are looked at, the rest in the next round.
        let ids: Vec<JobId> = match which.batch {
            Some(batch) => {
                let mut ids: Vec<_> = state.jobs.of_batch(batch).map(|job| job.id).collect();
                ids.sort_unstable();
                ids.into_iter().filter(|id| after.is_none_or(|after| *id > after)).collect()
            }
            None => state.jobs.after(after).take(LOOKED_AT_MAX).map(|job| job.id).collect(),
        };
        let mut all = which.batch.is_some() || ids.len() < LOOKED_AT_MAX;
        for id in ids {
            let Some(job) = state.jobs.get(id) else { continue };
            if !which.has(job) {
                after = Some(id);
                continue;
            }
            if job.is_locked() || !group.has_room() {
                all = false;
                break;
            }
            count += u64::from(self.act_on(id, act, state, group, now));
            after = Some(id);
        }
        if all {
            group.answers.extend(answer.map(|answer| (answer, count)));
            return None;
        }
        Some(Command::Act { act, target, after, count, answer })
    }

    /// Whether something comes of it.
    fn act_on(
        &mut self,
        id: JobId,
        act: Act,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> bool {
        match act {
            Act::Cancel(scope) => {
                let failure = Failure::job_cancelled();
                self.give_up(id, (scope, JobState::Cancelled, &failure), state, group, now)
            }
            Act::Replay => match state.jobs.replay(id, now) {
                Some(event) => {
                    group.change(event, Then::Nothing);
                    true
                }
                None => false,
            },
            Act::Purge => match state.jobs.remove(id) {
                Some(event) => {
                    group.change(event, Then::Nothing);
                    true
                }
                None => false,
            },
        }
    }

    /// Ends a job before its end. Whether it could be.
    pub(super) fn give_up(
        &mut self,
        id: JobId,
        (scope, to, failure): (Cancel, JobState, &Failure),
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> bool {
        let Some(job) = state.jobs.get(id) else { return false };
        let facts = facts(job);
        let words = (to, failure.code.number(), &*failure.message);
        let Some(event) = state.jobs.give_it_up(id, scope, words, now) else { return false };
        let side_effect_free = facts.attempts == 0;
        let failure = Failure { side_effect_free, retryable: false, ..failure.clone() };
        group.end(event, facts, &Err(failure));
        true
    }

    fn began(
        &mut self,
        id: JobId,
        attempt: u32,
        gate: Option<tokio::sync::oneshot::Sender<()>>,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> Option<Command> {
        // What was given up meanwhile is stopped.
        let on_its_way = self.running.get(&id).is_some_and(|r| r.attempt == attempt);
        let known = state.jobs.get(id).filter(|job| on_its_way && job.attempts + 1 == attempt)?;
        if known.is_locked() {
            return Some(Command::Began { job: id, attempt, gate });
        }
        let entry = service::find(&self.inner.engine, &self.shelf.tenant, &known.recipe);
        let attempts_max = entry.map_or(1, |entry| entry.spec().retry.attempts_max);
        match state.jobs.start(id, attempts_max, now) {
            Some(event) => group.change(event, gate.map_or(Then::Nothing, Then::Gate)),
            None => self.off_its_way(id),
        }
        None
    }

    fn ran(
        &mut self,
        id: JobId,
        attempt: u32,
        ran: Option<Box<Ran>>,
        state: &mut State,
        group: &mut Group,
        now: At,
    ) -> Option<Command> {
        let job = state.jobs.get(id)?;
        if job.is_locked() {
            return Some(Command::Ran { job: id, attempt, ran });
        }
        if job.state != JobState::Running || job.attempts != attempt {
            // It never began: it is tried again as if nothing had been.
            if self.running.get(&id).is_some_and(|r| r.attempt == attempt) {
                self.off_its_way(id);
                if !job.state.is_over() {
                    state.jobs.postpone(id, now + NEVER_BEGAN_WAIT_MS);
                }
            }
            return None;
        }
        let waited = job.started.unwrap_or(now).saturating_sub(job.due.unwrap_or(job.created));
        let recipe = job.recipe.clone();
        let mut facts = facts(job);
        facts.queued = Duration::from_millis(waited);
        let (outcome, was_lost) = match ran {
            Some(ran) => {
                let Ran { outcome, running, .. } = *ran;
                facts.running = running;
                (outcome, false)
            }
            None => (Err(lost(attempt, now).1), true),
        };
        let came_to = match &outcome {
            Ok(_) => Attempt::Succeeded { result_len: 0 },
            Err(failure) => Attempt::Failed {
                code: failure.code.number(),
                message: short(&failure.message),
                transient: failure.is_transient(),
                lost: was_lost || failure.code == Code::WorkerLost,
                after_ms: failure.retry_after.map(|d| d.as_millis() as u64),
                result_len: 0,
            },
        };
        let entry = service::find(&self.inner.engine, &self.shelf.tenant, &recipe);
        let retry = entry.map(|entry| entry.spec().retry).unwrap_or_default();
        let event =
            state.jobs.attempt_ended(id, attempt, came_to, (retry.backoff(), jitter()), now)?;
        match &event {
            Event::AttemptFailed { .. } => group.change(event, Then::Nothing),
            _ => group.end(event, facts, &outcome),
        }
        None
    }
}

/// How long a job waits that was on its way and did not begin, in milliseconds.
const NEVER_BEGAN_WAIT_MS: u64 = 1_000;

/// The message of an error as it is kept with a job.
fn short(message: &str) -> Box<str> {
    const MESSAGE_BYTES_MAX: usize = 512;
    tollgate_protocol::truncate(message, MESSAGE_BYTES_MAX).into()
}

/// A durable batch is opened again: the last item it has.
fn resumed(state: &State, id: BatchId) -> Result<Option<u64>, Failure> {
    let batch = state.jobs.batch(id).filter(|b| b.durable).ok_or_else(service::no_such_batch)?;
    if batch.sealed.is_some() {
        let message = format!("the batch {id} is sealed: attach to it to read its results");
        return Err(Failure::new(Code::Conflict, message).detail("field", "batch_id"));
    }
    Ok(batch.last_item)
}
