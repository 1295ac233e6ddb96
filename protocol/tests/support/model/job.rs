//! The frames of jobs in the model.

use serde::Serialize;
use tollgate_protocol::{
    batch,
    id::{BatchId, JobId},
    job,
};

use super::{CancelScope, Ext, Id16, extensions};

enums! {
    JobState = job::JobState { Queued, Running, Retrying, Succeeded, Failed, Cancelled, Dead }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Number {
    pub epoch: u64,
    pub sequence: u64,
}

impl Number {
    fn real(self) -> batch::Number {
        batch::Number { epoch: self.epoch, sequence: self.sequence }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum JobTarget {
    Job { job_id: Id16 },
    Batch { batch_id: Id16 },
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attach {
    pub target: JobTarget,
    pub tenant: Option<String>,
    pub after: Number,
    pub follow: bool,
    pub extensions: Vec<Ext>,
}

impl Attach {
    pub fn with<R>(&self, f: impl FnOnce(job::Attach<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(job::Attach {
            target: match self.target {
                JobTarget::Job { job_id } => job::JobTarget::Job(JobId(job_id.0)),
                JobTarget::Batch { batch_id } => job::JobTarget::Batch(BatchId(batch_id.0)),
            },
            tenant: self.tenant.as_deref(),
            after: self.after.real(),
            follow: self.follow,
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobFilter {
    pub states: u8,
    pub recipe: Option<String>,
    pub batch_id: Option<Id16>,
}

impl JobFilter {
    fn real(&self) -> job::JobFilter<'_> {
        job::JobFilter {
            states: job::JobStates::from_bits(self.states).expect("the model stays in bounds"),
            recipe: self.recipe.as_deref(),
            batch_id: self.batch_id.map(|id| BatchId(id.0)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum JobWhich {
    One { job_id: Id16 },
    Filter(JobFilter),
}

impl JobWhich {
    fn real(&self) -> job::JobWhich<'_> {
        match self {
            JobWhich::One { job_id } => job::JobWhich::One(JobId(job_id.0)),
            JobWhich::Filter(filter) => job::JobWhich::Filter(filter.real()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum JobAction {
    Get { job_id: Id16 },
    List { filter: JobFilter, cursor: Option<String>, limit: u32 },
    Cancel { which: JobWhich, scope: CancelScope },
    Replay { which: JobWhich },
    Purge { which: JobWhich },
}

impl JobAction {
    fn real(&self) -> job::JobAction<'_> {
        match self {
            JobAction::Get { job_id } => job::JobAction::Get { job_id: JobId(job_id.0) },
            JobAction::List { filter, cursor, limit } => job::JobAction::List {
                filter: filter.real(),
                cursor: cursor.as_deref(),
                limit: *limit,
            },
            JobAction::Cancel { which, scope } => {
                job::JobAction::Cancel { which: which.real(), scope: scope.real() }
            }
            JobAction::Replay { which } => job::JobAction::Replay { which: which.real() },
            JobAction::Purge { which } => job::JobAction::Purge { which: which.real() },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobAsk {
    pub tenant: Option<String>,
    pub action: JobAction,
    pub extensions: Vec<Ext>,
}

impl JobAsk {
    pub fn with<R>(&self, f: impl FnOnce(job::JobAsk<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(job::JobAsk {
            tenant: self.tenant.as_deref(),
            action: self.action.real(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobAccepted {
    pub id: u64,
    pub tenant: Option<String>,
    pub job_id: Id16,
    pub existing: bool,
    pub number: Number,
    pub extensions: Vec<Ext>,
}

impl JobAccepted {
    pub fn with<R>(&self, f: impl FnOnce(job::JobAccepted<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(job::JobAccepted {
            id: self.id,
            tenant: self.tenant.as_deref(),
            job_id: JobId(self.job_id.0),
            existing: self.existing,
            number: self.number.real(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    pub epoch: u64,
    pub extensions: Vec<Ext>,
}

impl Gap {
    pub fn with<R>(&self, f: impl FnOnce(job::Gap<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(job::Gap { epoch: self.epoch, extensions: extensions.as_extensions() })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobError {
    pub attempt: u32,
    pub at_unix_ms: u64,
    pub code: u16,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobInfo {
    pub job_id: Id16,
    pub batch_id: Id16,
    pub item_id: u64,
    pub recipe: String,
    pub state: JobState,
    pub priority: u8,
    pub attempts: u32,
    pub attempts_max: u32,
    pub payload_bytes: u64,
    pub result_bytes: u64,
    pub created_unix_ms: u64,
    pub started_unix_ms: Option<u64>,
    pub due_unix_ms: Option<u64>,
    pub ended_unix_ms: Option<u64>,
    pub expires_unix_ms: Option<u64>,
    pub done: u64,
    pub total: u64,
    pub message: String,
    pub idempotency_key: Option<String>,
    pub accepted: Number,
    pub ended: Number,
    pub errors: Vec<JobError>,
    pub extensions: Vec<Ext>,
}

impl JobInfo {
    pub fn with<R>(&self, f: impl FnOnce(job::JobInfo<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        let error = |e| {
            let JobError { attempt, at_unix_ms, code, message }: &JobError = e;
            job::JobError { attempt: *attempt, at_unix_ms: *at_unix_ms, code: *code, message }
        };
        f(job::JobInfo {
            job_id: JobId(self.job_id.0),
            batch_id: BatchId(self.batch_id.0),
            item_id: self.item_id,
            recipe: &self.recipe,
            state: self.state.real(),
            priority: self.priority,
            attempts: self.attempts,
            attempts_max: self.attempts_max,
            payload_bytes: self.payload_bytes,
            result_bytes: self.result_bytes,
            created_unix_ms: self.created_unix_ms,
            started_unix_ms: self.started_unix_ms,
            due_unix_ms: self.due_unix_ms,
            ended_unix_ms: self.ended_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            done: self.done,
            total: self.total,
            message: &self.message,
            idempotency_key: self.idempotency_key.as_deref(),
            accepted: self.accepted.real(),
            ended: self.ended.real(),
            errors: self.errors.iter().map(error).collect(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Jobs {
    pub count: u64,
    pub next: Option<String>,
}

impl Jobs {
    pub fn real(&self) -> job::Jobs<'_> {
        job::Jobs { count: self.count, next: self.next.as_deref() }
    }
}
