//! The life of jobs: what can happen to them, and what that adds up to.
//!
//! Everything that ever happens to a tenant's jobs is an [`Event`]; [`Jobs`] is the sum of the
//! events, in the order in which they were committed. Whoever decides makes events (`decide`),
//! commits them, and applies them then (`apply`): so what is known is never ahead of what is kept,
//! and a restart is the same sum again.
//!
//! ```text
//!  Submitted ─▶ Queued ──Started─▶ Running ──Ended──▶ Succeeded, Failed, Cancelled, Dead
//!                 ▲  ▲               │                        │
//!                 │  └──── due ── Retrying ◀─Failed attempt   │
//!                 └───────────────── Replayed ◀───────────────┘ (Failed, Cancelled, Dead)
//! ```
//!
//! Times are milliseconds since the Unix epoch, of a clock that never steps back.

use tollgate_protocol::id::{BatchId, JobId, RecipeName};

mod apply;
#[cfg(test)]
mod check;
mod decide;
mod jobs;
pub(crate) mod plant;
mod queue;
#[cfg(test)]
mod tests;

pub use decide::{Attempt, Cancel, Refused, Submitting};
pub use jobs::{Batch, Counts, Frame, JOB_BYTES, Jobs, Keep, Sealed, What, Which};
pub use queue::Due;

/// Milliseconds since the Unix epoch.
pub type At = u64;

/// A place in the order in which the tenant's events were committed, from 1.
pub type Sequence = u64;

/// Attempts whose errors are kept, the newest ones.
pub const ERRORS_MAX: usize = 32;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It waits for its start.
    Queued,
    /// An attempt runs.
    Running,
    /// An attempt failed, and the next one is not due yet.
    Retrying,
    /// It has its result.
    Succeeded,
    /// It failed in a way that another attempt would not change.
    Failed,
    /// It was given up.
    Cancelled,
    /// Its attempts are used up.
    Dead,
}

impl State {
    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled | State::Dead)
    }

    /// All of them, in the order of their numbers.
    pub const ALL: [State; 7] = [
        State::Queued,
        State::Running,
        State::Retrying,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Dead,
    ];

    /// Its number: what is stored and what crosses the wire.
    pub fn number(self) -> u8 {
        State::ALL.iter().position(|s| *s == self).unwrap_or_default() as u8
    }

    /// The state of a number.
    pub fn from_number(n: u8) -> Option<State> {
        State::ALL.get(usize::from(n)).copied()
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Dead => "dead",
        }
    }
}

/// Where a payload or an answer lies: the record's offset in its stream, and how many bytes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Body {
    /// The record's offset.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
}

/// What an attempt came to that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it ended.
    pub at: At,
    /// A number of the table of codes.
    pub code: u16,
    /// For people.
    pub message: Box<str>,
}

/// How far a running job has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 while that is unknown.
    pub total: u64,
    /// When it was reported.
    pub at: At,
    /// For people.
    pub message: Box<str>,
}

/// What seals a durable batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its client.
    Client,
    /// Its client gave it up.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// One of its items failed, and it is fail-fast.
    FailFast,
    /// The broker: the client did not come back.
    Broker,
}

impl How {
    const ALL: [How; 5] = [How::Client, How::Cancelled, How::Deadline, How::FailFast, How::Broker];

    /// Its number: what is stored.
    pub fn number(self) -> u8 {
        How::ALL.iter().position(|h| *h == self).unwrap_or_default() as u8
    }

    /// That of a number.
    pub fn from_number(n: u8) -> Option<How> {
        How::ALL.get(usize::from(n)).copied()
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// The batch it came in.
    pub batch: BatchId,
    /// Its item's id there.
    pub item: u64,
    /// What it runs.
    pub recipe: RecipeName,
    /// Where it stands.
    pub state: State,
    /// 0 to 7, 7 first.
    pub priority: u8,
    /// The longest an attempt may run, in milliseconds, when it is less than the recipe's.
    pub timeout_ms: Option<u64>,
    /// Until when it must have been started; an attempt that runs then goes on.
    pub deadline: Option<At>,
    /// The client's key, if it gave one.
    pub key: Option<Box<str>>,
    /// Tells payloads apart.
    pub digest: [u8; 16],
    /// The bytes it was submitted with.
    pub payload: Body,
    /// The bytes of its result, once it is over.
    pub result: Body,
    /// The attempts begun since it was submitted, or replayed.
    pub attempts: u32,
    /// How many it may have; 0 until it was first started.
    pub attempts_max: u32,
    /// When it was submitted.
    pub created: At,
    /// When its last attempt began.
    pub started: Option<At>,
    /// When it may start: from the beginning, or after a failed attempt.
    pub due: Option<At>,
    /// When it was over.
    pub ended: Option<At>,
    /// How it ended: a number of the table of codes, 0 for success.
    pub code: u16,
    /// The number of its `JobAccepted`.
    pub accepted: Sequence,
    /// The number of its `Result`; 0 until it is over.
    pub finished: Sequence,
    /// What its attempts came to, oldest first; at most [`ERRORS_MAX`].
    pub errors: Vec<AttemptError>,
    /// The newest report of the attempt that runs.
    pub progress: Option<Progress>,
    /// An event about it is under way: nothing else may be decided until it was applied.
    pub(super) locked: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A durable batch was opened.
    BatchOpened {
        /// Which.
        batch: BatchId,
        /// When.
        at: At,
        /// Whether its first failure cancels what has not started.
        fail_fast: bool,
    },
    /// A job was accepted. Its payload lies in this event's record.
    Submitted(Box<Submitted>),
    /// An attempt begins.
    Started {
        /// Of which job.
        job: JobId,
        /// Which one, from 1.
        attempt: u32,
        /// How many there may be.
        attempts_max: u32,
        /// When.
        at: At,
    },
    /// An attempt reported how far it is.
    Progressed {
        /// Of which job.
        job: JobId,
        /// What it reported.
        progress: Progress,
    },
    /// An attempt failed, and another is to be made.
    AttemptFailed {
        /// Of which job.
        job: JobId,
        /// Why.
        error: AttemptError,
        /// When the next one is due.
        due: At,
    },
    /// A job is over. Its result lies in this event's record.
    Ended {
        /// Which.
        job: JobId,
        /// How: one of the last four.
        state: State,
        /// A number of the table of codes.
        code: u16,
        /// Why, when it did not succeed.
        error: Option<AttemptError>,
        /// When.
        at: At,
        /// How many bytes its answer has.
        result_len: u32,
    },
    /// A job that did not succeed is to run again, from its first attempt.
    Replayed {
        /// Which.
        job: JobId,
        /// When.
        at: At,
    },
    /// What an older record keeps of a job lies in this event's record now.
    Moved {
        /// Of which job.
        job: JobId,
        /// Where it was.
        from: u64,
    },
    /// A job is forgotten.
    Removed {
        /// Which.
        job: JobId,
    },
    /// Nothing more comes into a durable batch.
    BatchSealed {
        /// Which.
        batch: BatchId,
        /// When.
        at: At,
        /// What sealed it.
        how: How,
        /// The last item that was read.
        last_item: Option<u64>,
        /// Items that are no jobs of its own, because they were refused or another batch's jobs:
        /// how they ended (0: success) and how many, in rising order.
        refused: Vec<(u16, u64)>,
    },
    /// Every job of a sealed batch is over.
    BatchEnded {
        /// Which.
        batch: BatchId,
        /// When.
        at: At,
        /// What its jobs came to. None in what was stored before that was kept.
        counts: Option<Counts>,
    },
    /// A durable batch is forgotten.
    BatchRemoved {
        /// Which.
        batch: BatchId,
    },
}

/// A job as it is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// Its name.
    pub job: JobId,
    /// The batch it comes in.
    pub batch: BatchId,
    /// Its item's id there.
    pub item: u64,
    /// What it runs.
    pub recipe: RecipeName,
    /// 0 to 7.
    pub priority: u8,
    /// The longest an attempt may run, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Until when it must have been started.
    pub deadline: Option<At>,
    /// When it may start.
    pub due: Option<At>,
    /// The client's key.
    pub key: Option<Box<str>>,
    /// Tells payloads apart.
    pub digest: [u8; 16],
    /// When it was submitted.
    pub at: At,
    /// How many bytes its payload has.
    pub payload_len: u32,
}
