//! Why there is no word of a job.
//!
//! A job that failed is a result, not one of these.

use std::time::Duration;

use tollgate_protocol::{Code, close::CloseCode};

use super::{BatchError, ConnectError, Disconnected, StreamReason, Violation};
use crate::item::Failure;

/// Why a job was not submitted, or there is no word of one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was lost before the answer came. Whether an action was taken is not known;
    /// asking again is safe.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// The broker said no: to what was asked, or to the item that was to be a job.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// The batch that carried the submission came to no regular end.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The input cannot be encoded; nothing was sent.
    #[error("the input cannot be encoded: {0}")]
    Encode(Box<str>),
    /// The stream ended before the answer did.
    #[error("the answer was cut off")]
    Cut,
    /// The broker reset the stream.
    #[error("the broker reset the stream: {}", StreamReason(*.0))]
    Reset(u64),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] Violation),
    /// The broker could not be reached again for so long. The job goes on.
    #[error("the broker was out of reach for {after:?}: {last}")]
    OutOfReach {
        /// How long it was tried.
        after: Duration,
        /// Why the last attempt failed.
        last: Box<JobError>,
    },
    /// The job was not over in the time given. It goes on.
    #[error("the job was not over within {0:?}")]
    NotOver(Duration),
    /// The broker has nothing more to tell, and did not tell the result: it is no longer kept.
    #[error("the result is no longer kept")]
    Forgotten,
}

impl JobError {
    /// The code of the table, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            JobError::Connect(e) => e.code(),
            JobError::Disconnected(e) => e.code(),
            JobError::Failed(f) => f.code(),
            JobError::Batch(e) => e.code(),
            JobError::Encode(_) => Some(Code::ValidationError),
            JobError::OutOfReach { last, .. } => last.code(),
            JobError::NotOver(_) => Some(Code::Timeout),
            JobError::Forgotten => Some(Code::NotFound),
            _ => None,
        }
    }

    /// What the broker said, if it is that.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            JobError::Failed(f) | JobError::Batch(BatchError::Failed(f)) => Some(f),
            JobError::OutOfReach { last, .. } => last.failure(),
            _ => None,
        }
    }

    /// Why the broker closed the connection, if it did.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            JobError::Connect(e) => e.close_code(),
            JobError::Disconnected(e) => e.close_code(),
            JobError::Batch(e) => e.close_code(),
            JobError::OutOfReach { last, .. } => last.close_code(),
            _ => None,
        }
    }

    /// Whether reading again may succeed.
    pub(crate) fn comes_back(&self) -> bool {
        match self {
            JobError::Connect(e) => e.retryable(),
            JobError::Disconnected(lost) => lost.retryable(),
            JobError::Failed(f) => f.retryable,
            JobError::Cut | JobError::Reset(_) => true,
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            JobError::Failed(f) => f.retry_after,
            _ => None,
        }
    }
}

impl From<tollgate_protocol::DecodeError> for JobError {
    fn from(e: tollgate_protocol::DecodeError) -> Self {
        JobError::Protocol(e.into())
    }
}

impl From<tollgate_protocol::FrameTooLarge> for JobError {
    fn from(e: tollgate_protocol::FrameTooLarge) -> Self {
        JobError::Protocol(e.into())
    }
}
