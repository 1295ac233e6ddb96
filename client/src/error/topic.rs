//! Why something about a topic did not happen, or there is no word of it.

use std::time::Duration;

use tollgate_protocol::{Code, close::CloseCode};

use super::{ConnectError, Disconnected, StreamReason, Violation};
use crate::item::Failure;

/// Why something about a topic did not happen, or there is no word of it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was lost before the answer came. Whether it happened is not known.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// The broker said no.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// What was to be sent can not be; it was not.
    #[error("the message can not be sent: {0}")]
    Invalid(Box<str>),
    /// The stream ended before the answer did.
    #[error("the answer was cut off")]
    Cut,
    /// The broker reset the stream.
    #[error("the broker reset the stream: {}", StreamReason(*.0))]
    Reset(u64),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] Violation),
    /// The broker could not be reached again for so long.
    #[error("the broker was out of reach for {after:?}: {last}")]
    OutOfReach {
        /// How long it was tried.
        after: Duration,
        /// Why the last attempt failed.
        last: Box<TopicError>,
    },
    /// The producer or consumer was closed here.
    #[error("it was closed")]
    Closed,
}

impl TopicError {
    /// The code of the table, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            TopicError::Connect(e) => e.code(),
            TopicError::Disconnected(e) => e.code(),
            TopicError::Failed(f) => f.code(),
            TopicError::Invalid(_) => Some(Code::ValidationError),
            TopicError::OutOfReach { last, .. } => last.code(),
            _ => None,
        }
    }

    /// What the broker said, if it is that.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            TopicError::Failed(f) => Some(f),
            TopicError::OutOfReach { last, .. } => last.failure(),
            _ => None,
        }
    }

    /// Why the broker closed the connection, if it did.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            TopicError::Connect(e) => e.close_code(),
            TopicError::Disconnected(e) => e.close_code(),
            TopicError::OutOfReach { last, .. } => last.close_code(),
            _ => None,
        }
    }

    /// Whether coming again may succeed.
    pub(crate) fn comes_back(&self) -> bool {
        match self {
            TopicError::Connect(e) => e.retryable(),
            TopicError::Disconnected(lost) => lost.retryable(),
            TopicError::Failed(f) => f.retryable,
            TopicError::Cut | TopicError::Reset(_) => true,
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            TopicError::Failed(f) => f.retry_after,
            _ => None,
        }
    }
}

impl From<tollgate_protocol::DecodeError> for TopicError {
    fn from(e: tollgate_protocol::DecodeError) -> Self {
        TopicError::Protocol(e.into())
    }
}

impl From<tollgate_protocol::FrameTooLarge> for TopicError {
    fn from(e: tollgate_protocol::FrameTooLarge) -> Self {
        TopicError::Protocol(e.into())
    }
}
