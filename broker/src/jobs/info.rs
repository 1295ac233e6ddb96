//! What is told of a job to whoever asks for it.

use tollgate_protocol::{
    batch::Number,
    id::{BatchId, JobId, RecipeName},
};

use super::service;
use crate::rules::job::{AttemptError, Job, Progress, State};

/// A job, as it was when it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct JobInfo {
    pub id: JobId,
    pub batch: BatchId,
    pub item: u64,
    pub recipe: RecipeName,
    pub state: State,
    pub priority: u8,
    pub attempts: u32,
    /// How many it may have; 0 when its recipe is not known now and it was never started.
    pub attempts_max: u32,
    pub payload_bytes: u64,
    pub result_bytes: u64,
    /// Unix milliseconds, as all times here.
    pub created: u64,
    pub started: Option<u64>,
    /// When it may start, while it waits for that.
    pub due: Option<u64>,
    pub ended: Option<u64>,
    /// When it is forgotten, once it is over; a dead one never is by itself.
    pub expires: Option<u64>,
    /// How it ended: a number of the table of codes.
    pub code: u16,
    pub progress: Option<Progress>,
    pub key: Option<Box<str>>,
    pub accepted: Number,
    pub finished: Number,
    pub errors: Vec<AttemptError>,
}

/// A page of jobs.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub jobs: Vec<JobInfo>,
    /// After which one the next page begins, when there may be one.
    pub next: Option<JobId>,
}

/// What is known beside the job itself.
pub(super) struct Known<'a> {
    pub epoch: u64,
    /// How long jobs are kept that are over.
    pub job_ms: u64,
    /// What a recipe says now.
    pub attempts_max: &'a dyn Fn(&RecipeName) -> u32,
}

impl JobInfo {
    pub(super) fn of(job: &Job, state: &Known<'_>) -> JobInfo {
        let Known { epoch, job_ms, attempts_max } = state;
        let epoch = *epoch;
        let expires = job.ended.filter(|_| job.state != State::Dead);
        let waits = matches!(job.state, State::Queued | State::Retrying);
        JobInfo {
            id: job.id,
            batch: job.batch,
            item: job.item,
            recipe: job.recipe.clone(),
            state: job.state,
            priority: job.priority,
            attempts: job.attempts,
            attempts_max: if job.attempts_max == 0 {
                attempts_max(&job.recipe)
            } else {
                job.attempts_max
            },
            payload_bytes: job.payload.len.into(),
            result_bytes: job.result.len.into(),
            created: job.created,
            started: job.started,
            due: job.due.filter(|due| waits && *due > job.created),
            ended: job.ended,
            expires: expires.map(|at| at.saturating_add(*job_ms)),
            code: job.code,
            progress: job.progress.clone(),
            key: job.key.clone(),
            accepted: service::number(epoch, job.accepted),
            finished: service::number(epoch, job.finished),
            errors: job.errors.clone(),
        }
    }
}

/// The bits of some states, for [`Which`](super::Which).
pub(crate) fn from_states(states: impl IntoIterator<Item = State>) -> u8 {
    states.into_iter().fold(0, |bits, state| bits | 1 << state.number())
}
