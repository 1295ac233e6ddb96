//! What can go wrong: one enum per operation, each with the code of the table where there is one.
//!
//! Messages say what happened and, where there is something to be done, what.

mod connect;
mod job;
mod topic;

use std::{fmt, time::Duration};

use tollgate_protocol::{
    Code, DecodeError, FrameTooLarge,
    close::{CloseCode, StreamCode},
};

pub use connect::{ConnectError, Disconnected};
pub use job::JobError;
pub use topic::TopicError;

use crate::item::Failure;

/// Why a batch came to no regular end. Single items that failed are results, not errors.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// There is no connection to run it on; nothing was started.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was lost while it ran: what became of unanswered items is not known.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// The broker ended it as a whole.
    #[error("the batch failed: {0}")]
    Failed(Box<Failure>),
    /// Its stream ended without the final frame: what became of unanswered items is not known.
    #[error("the batch was cut off: its stream ended without a summary")]
    Cut,
    /// The broker reset the stream of its results.
    #[error("the broker reset the stream of results: {}", StreamReason(*.0))]
    Reset(u64),
    /// The broker reads no more items; what it still has to say is among the events.
    #[error("the broker reads no more of the batch: {}", StreamReason(*.0))]
    Stopped(u64),
    /// The broker broke the protocol. The batch was cancelled.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] Violation),
    /// An item's id is not larger than the one before it. It was not sent.
    #[error("item id {id} follows {last}: ids must rise strictly within a batch")]
    IdNotIncreasing {
        /// The id at fault.
        id: u64,
        /// The last id sent.
        last: u64,
    },
    /// The batch was sealed: it takes no more items.
    #[error("the batch is sealed and takes no more items")]
    Sealed,
    /// The send side was finished together with the seal, so nothing can be said any more.
    #[error("the send side is finished: only dropping the batch can still cancel it")]
    Finished,
    /// The batch has come to its end.
    #[error("the batch has ended")]
    Ended,
    /// The caller cancelled the batch, or dropped the half that reads its events.
    #[error("the batch was cancelled here")]
    Cancelled,
    /// The deadline passed, and the broker's word on it did not come.
    #[error("the deadline of the batch passed {0:?} ago and the broker did not say so")]
    DeadlineExceeded(Duration),
    /// The broker knows nothing of items that it had taken as jobs: its records of them are gone.
    #[error("the broker no longer knows what became of {items} items")]
    Forgotten {
        /// How many.
        items: u64,
    },
    /// Items failed: given by [`into_result`](crate::BatchResult::into_result).
    #[error("{failed} of {total} items failed; the first is item {first_id}: {first}")]
    ItemsFailed {
        /// How many failed.
        failed: usize,
        /// How many there were.
        total: usize,
        /// The failed item with the lowest id.
        first_id: u64,
        /// Why it failed.
        first: Box<Failure>,
    },
}

impl BatchError {
    /// The code with the same meaning, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            BatchError::Connect(e) => e.code(),
            BatchError::Disconnected(e) => e.code(),
            BatchError::Failed(f) | BatchError::ItemsFailed { first: f, .. } => f.code(),
            BatchError::IdNotIncreasing { .. } => Some(Code::ValidationError),
            BatchError::Sealed | BatchError::Finished | BatchError::Ended => {
                Some(Code::InvalidAction)
            }
            BatchError::Cancelled => Some(Code::Cancelled),
            BatchError::DeadlineExceeded(_) => Some(Code::DeadlineExceeded),
            _ => None,
        }
    }

    /// Why the broker reset or stopped the stream, if it did and this version knows the code.
    pub fn stream_code(&self) -> Option<StreamCode> {
        match self {
            BatchError::Reset(n) | BatchError::Stopped(n) => StreamCode::from_number(*n),
            _ => None,
        }
    }

    /// Why the broker closed the connection, if it did.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            BatchError::Connect(e) => e.close_code(),
            BatchError::Disconnected(e) => e.close_code(),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            BatchError::Failed(f) => f.retry_after,
            _ => None,
        }
    }
}

/// The number of a stream code with its name, where it has one.
struct StreamReason(u64);

impl fmt::Display for StreamReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StreamCode::from_number(self.0) {
            Some(code) => code.fmt(f),
            None => write!(f, "code {:#x}", self.0),
        }
    }
}

/// How a broker broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame does not decode.
    #[error("a frame does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// A frame is longer than the client takes.
    #[error("{0} (`frame_bytes_max` of the client)")]
    TooLarge(#[from] FrameTooLarge),
    /// A frame that has no place here.
    #[error("frame {0} is not allowed here")]
    Unexpected(&'static str),
    /// A result or progress for an id that was never sent.
    #[error("item {0} was never sent")]
    StrangeItem(u64),
    /// A second result for one item.
    #[error("item {0} has a second result")]
    SecondResult(u64),
    /// One item became a job twice.
    #[error("item {0} became a job twice")]
    SecondJob(u64),
    /// The summary does not agree with the results that came.
    #[error("the summary says {field} {said}, the results say {counted}")]
    Summary {
        /// Which number.
        field: &'static str,
        /// What the summary says.
        said: u64,
        /// What was counted.
        counted: u64,
    },
    /// A call whose number is not the next one, or a cancellation of one that never was.
    #[error("lease {0} was not to be expected")]
    StrangeLease(u64),
    /// A recipe that was not registered, or is numbered out of turn.
    #[error("recipe {0} was not to be expected")]
    StrangeRecipe(u32),
    /// More calls than the worker takes at once.
    #[error("more calls than the {0} that the worker takes at once")]
    OverCredit(u32),
    /// A payload that is to be fetched apart, and is here or larger than any can be.
    #[error("the payload of lease {0} cannot be fetched apart")]
    Apart(u64),
    /// Bytes after the final frame.
    #[error("{0} bytes follow the final frame")]
    AfterEnd(usize),
    /// An extension that must be understood, and is not.
    #[error("extension {0} is critical and not known")]
    CriticalExtension(u32),
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The recipe, or the broker in its place, said no.
    #[error("{0}")]
    Failed(Box<Failure>),
    /// The batch of one that carried the call came to no regular end.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The input cannot be encoded; nothing was sent.
    #[error("the input cannot be encoded: {0}")]
    Encode(Box<str>),
    /// The answer is not what was asked for; the recipe did run.
    #[error("the answer cannot be decoded: {0}")]
    Decode(Box<str>),
}

impl CallError {
    /// The code of the table, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            CallError::Failed(f) => f.code(),
            CallError::Batch(e) => e.code(),
            CallError::Encode(_) => Some(Code::ValidationError),
            CallError::Decode(_) => None,
        }
    }

    /// What the recipe or the broker said, if it is that.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            CallError::Failed(f) | CallError::Batch(BatchError::Failed(f)) => Some(f),
            _ => None,
        }
    }
}

/// Why a question about the broker has no answer. Asking again is always safe.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// There is no connection to ask on.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection was lost before the answer came.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
    /// The broker refused to answer.
    #[error("the broker refused to answer: {0}")]
    Failed(Box<Failure>),
    /// The stream ended before the answer did.
    #[error("the answer was cut off")]
    Cut,
    /// The broker reset the stream.
    #[error("the broker reset the stream: {}", StreamReason(*.0))]
    Reset(u64),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] Violation),
}

impl DescribeError {
    /// The code of the table, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            DescribeError::Connect(e) => e.code(),
            DescribeError::Disconnected(e) => e.code(),
            DescribeError::Failed(f) => f.code(),
            _ => None,
        }
    }
}
