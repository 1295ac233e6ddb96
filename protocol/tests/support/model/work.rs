//! The frames of workers in the model.

use serde::Serialize;
use tollgate_protocol::{DispatchFrame, WorkerFrame, batch, id::BatchId, work};

use super::{Blob, Encoding, Ext, Failure, Id16, Map, Notice, extensions, pairs};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkOpen {
    pub credit: u32,
    pub extensions: Vec<Ext>,
}

impl WorkOpen {
    pub fn with<R>(&self, f: impl FnOnce(work::WorkOpen<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(work::WorkOpen { credit: self.credit, extensions: extensions.as_extensions() })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fetch {
    pub work: u64,
    pub lease: u64,
}

impl Fetch {
    pub fn real(&self) -> work::Fetch {
        work::Fetch { work: self.work, lease: self.lease }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deliver {
    pub work: u64,
    pub lease: u64,
    pub size: u64,
    pub metadata: Map,
}

impl Deliver {
    pub fn with<R>(&self, f: impl FnOnce(work::Deliver<'_>) -> R) -> R {
        let metadata = pairs(&self.metadata);
        f(work::Deliver {
            work: self.work,
            lease: self.lease,
            size: self.size,
            metadata: metadata.as_pairs(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipeSpec {
    pub name: String,
    pub encoding: Encoding,
    pub timeout_ms: Option<u64>,
    pub queue_timeout_ms: Option<u64>,
    pub estimated_duration_ms: u64,
    pub concurrency_max: Option<u32>,
    pub idempotent: bool,
    pub attempts_max: u32,
    pub retry_first_ms: u64,
    pub retry_factor_percent: u32,
    pub retry_cap_ms: u64,
    pub payload_bytes_max: Option<u64>,
    pub result_bytes_max: Option<u64>,
    pub description: String,
    pub schema: Option<String>,
    pub extensions: Vec<Ext>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallProgress {
    pub lease: u64,
    pub done: u64,
    pub total: u64,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub lease: u64,
    pub metadata: Map,
    pub payload: Blob,
}

impl Answer {
    pub fn with<R>(&self, f: impl FnOnce(work::Answer<'_>) -> R) -> R {
        let metadata = pairs(&self.metadata);
        f(work::Answer {
            lease: self.lease,
            metadata: metadata.as_pairs(),
            payload: &self.payload.0,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    pub lease: u64,
    pub code: u16,
    pub permanent: bool,
    pub message: String,
    pub retry_after_ms: Option<u64>,
    pub app_code: Option<String>,
    pub details: Map,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Worker {
    Register(RecipeSpec),
    Credit { add: u32 },
    Progress(CallProgress),
    Answer(Answer),
    Failed(Failed),
    Drain,
}

impl Worker {
    /// The crate's frame with these values.
    pub fn with<R>(&self, f: impl FnOnce(WorkerFrame<'_>) -> R) -> R {
        match self {
            Worker::Register(x) => f(WorkerFrame::Register(work::RecipeSpec {
                name: &x.name,
                encoding: x.encoding.real(),
                timeout_ms: x.timeout_ms,
                queue_timeout_ms: x.queue_timeout_ms,
                estimated_duration_ms: x.estimated_duration_ms,
                concurrency_max: x.concurrency_max,
                idempotent: x.idempotent,
                attempts_max: x.attempts_max,
                retry_first_ms: x.retry_first_ms,
                retry_factor_percent: x.retry_factor_percent,
                retry_cap_ms: x.retry_cap_ms,
                payload_bytes_max: x.payload_bytes_max,
                result_bytes_max: x.result_bytes_max,
                description: &x.description,
                schema: x.schema.as_deref(),
                extensions: extensions(&x.extensions).as_extensions(),
            })),
            Worker::Credit { add } => f(WorkerFrame::Credit { add: *add }),
            Worker::Progress(x) => f(WorkerFrame::Progress(work::Progress {
                lease: x.lease,
                done: x.done,
                total: x.total,
                message: &x.message,
            })),
            Worker::Answer(x) => x.with(|x| f(WorkerFrame::Answer(x))),
            Worker::Failed(x) => f(WorkerFrame::Failed(work::Failed {
                lease: x.lease,
                code: x.code,
                permanent: x.permanent,
                message: &x.message,
                retry_after_ms: x.retry_after_ms,
                app_code: x.app_code.as_deref(),
                details: pairs(&x.details).as_pairs(),
            })),
            Worker::Drain => f(WorkerFrame::Drain),
        }
    }

    /// The frame without its prefix, as postcard writes it.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("postcard writes every model")
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    pub lease: u64,
    pub recipe: u32,
    pub attempt: u32,
    pub timeout_ms: u64,
    pub item_id: u64,
    pub batch_id: Id16,
    pub tenant: String,
    pub traceparent: Option<String>,
    pub metadata: Map,
    pub apart: Option<u64>,
    pub payload: Blob,
}

impl Call {
    pub fn with<R>(&self, f: impl FnOnce(work::Dispatch<'_>) -> R) -> R {
        let metadata = pairs(&self.metadata);
        f(work::Dispatch {
            lease: self.lease,
            recipe: self.recipe,
            attempt: self.attempt,
            timeout_ms: self.timeout_ms,
            item_id: self.item_id,
            batch_id: BatchId(self.batch_id.0),
            tenant: &self.tenant,
            traceparent: self.traceparent.as_deref(),
            metadata: metadata.as_pairs(),
            apart: self.apart,
            payload: &self.payload.0,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum ToWorker {
    Registered { recipe: u32 },
    Dispatch(Call),
    Cancel { lease: u64 },
    Notice(Notice),
    Error { code: u16, failure: Failure },
    End,
}

impl ToWorker {
    /// The crate's frame with these values.
    pub fn with<R>(&self, f: impl FnOnce(DispatchFrame<'_>) -> R) -> R {
        match self {
            ToWorker::Registered { recipe } => f(DispatchFrame::Registered { recipe: *recipe }),
            ToWorker::Dispatch(x) => x.with(|x| f(DispatchFrame::Dispatch(x))),
            ToWorker::Cancel { lease } => f(DispatchFrame::Cancel { lease: *lease }),
            ToWorker::Notice(x) => f(DispatchFrame::Notice(batch::Notice {
                kind: x.kind.real(),
                at_unix_ms: x.at_unix_ms,
                message: &x.message,
            })),
            ToWorker::Error { code, failure } => {
                failure.with(|failure| f(DispatchFrame::Error { code: *code, failure }))
            }
            ToWorker::End => f(DispatchFrame::End),
        }
    }

    /// The frame without its prefix, as postcard writes it.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("postcard writes every model")
    }
}
