//! What the broker knows of one job, owned.

use std::time::SystemTime;

use tollgate_protocol::{
    Code,
    batch::Number,
    id::{BatchId, JobId},
    job::{self, JobState},
};

use crate::event::unix;

/// How one attempt of a job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended, by the broker's clock.
    pub at: SystemTime,
    /// A number of the table of codes.
    pub code_number: u16,
    /// For people; at most 512 bytes.
    pub message: Box<str>,
}

impl AttemptError {
    /// The code in the table of codes; `None` for a number that this version does not know.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code_number)
    }
}

/// What the broker knows of one job. Times are by its clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo {
    /// The broker's name for the job.
    pub id: JobId,
    /// The batch that it came in.
    pub batch_id: BatchId,
    /// The item that it is in that batch.
    pub item_id: u64,
    /// What it runs.
    pub recipe: Box<str>,
    /// How far it has come.
    pub state: JobState,
    /// From 0 to 7, 7 first.
    pub priority: u8,
    /// Attempts that were begun.
    pub attempts: u32,
    /// After how many it is dead.
    pub attempts_max: u32,
    /// Of its payload.
    pub payload_bytes: u64,
    /// Of its result's payload; 0 while there is none.
    pub result_bytes: u64,
    /// When it was accepted.
    pub created: SystemTime,
    /// When its last attempt began.
    pub started: Option<SystemTime>,
    /// When it may start, while it waits for that.
    pub due: Option<SystemTime>,
    /// When it was over.
    pub ended: Option<SystemTime>,
    /// When it is forgotten.
    pub expires: Option<SystemTime>,
    /// What is done, in units of the recipe's choice.
    pub done: u64,
    /// What there is to do in all; 0 when that is not known.
    pub total: u64,
    /// Of its newest progress, for people.
    pub message: Box<str>,
    /// The key that it is run once for.
    pub idempotency_key: Option<Box<str>>,
    /// The number of its acceptance.
    pub accepted_number: Number,
    /// The number of its result; (0, 0) while there is none.
    pub ended_number: Number,
    /// How its attempts failed, the oldest first; the newest 32 when there were more.
    pub errors: Vec<AttemptError>,
}

impl JobInfo {
    pub(super) fn own(x: &job::JobInfo<'_>) -> Self {
        let error = |e: &job::JobError<'_>| AttemptError {
            attempt: e.attempt,
            at: unix(e.at_unix_ms),
            code_number: e.code,
            message: e.message.into(),
        };
        JobInfo {
            id: x.job_id,
            batch_id: x.batch_id,
            item_id: x.item_id,
            recipe: x.recipe.into(),
            state: x.state,
            priority: x.priority,
            attempts: x.attempts,
            attempts_max: x.attempts_max,
            payload_bytes: x.payload_bytes,
            result_bytes: x.result_bytes,
            created: unix(x.created_unix_ms),
            started: x.started_unix_ms.map(unix),
            due: x.due_unix_ms.map(unix),
            ended: x.ended_unix_ms.map(unix),
            expires: x.expires_unix_ms.map(unix),
            done: x.done,
            total: x.total,
            message: x.message.into(),
            idempotency_key: x.idempotency_key.map(Into::into),
            accepted_number: x.accepted,
            ended_number: x.ended,
            errors: x.errors.iter().map(error).collect(),
        }
    }

    /// Whether nothing more happens to the job by itself.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }
}
