//! Why nothing more of a batch is started, and what its items are told.

use tollgate_protocol::{Code, batch::Ended};

use super::outcome::Failure;

/// A reason to start nothing more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    ended: Ended,
    code: Code,
    why: &'static str,
}

impl Ending {
    pub(crate) const CANCELLED: Self =
        Self::new(Ended::Cancelled, Code::Cancelled, "the client cancelled it");
    /// Nobody asked for the end: the client's side, or its reader, is just gone.
    pub(crate) const LEFT: Self =
        Self::new(Ended::Cancelled, Code::Cancelled, "the client went away");
    pub(crate) const CUT: Self =
        Self::new(Ended::Cut, Code::Cancelled, "the stream ended without a seal");
    pub(crate) const DEADLINE: Self =
        Self::new(Ended::DeadlineExceeded, Code::DeadlineExceeded, "the batch's deadline passed");
    pub(crate) const FAIL_FAST: Self = Self::new(
        Ended::FailFast,
        Code::Cancelled,
        "an earlier item failed and the batch is fail-fast",
    );
    pub(crate) const DRAINING: Self =
        Self::new(Ended::Draining, Code::Draining, "the broker is shutting down");
    /// The batch ends with an `Error` frame, which says why.
    pub(crate) const FAILED: Self =
        Self::new(Ended::Cancelled, Code::Cancelled, "the batch failed as a whole");

    const fn new(ended: Ended, code: Code, why: &'static str) -> Self {
        Ending { ended, code, why }
    }

    pub(crate) fn ended(self) -> Ended {
        self.ended
    }

    /// Whether somebody wants the jobs of the batch to end as well: what merely happens to a batch
    /// does not end them.
    pub(crate) fn gives_up_jobs(self) -> bool {
        self.ended == Ended::FailFast || self.why == Self::CANCELLED.why
    }

    /// What an item that was never started is told.
    pub(crate) fn never_started(self) -> Failure {
        Failure::never_started(self.code, self.why)
    }

    /// What an item that was running is told.
    pub(crate) fn stopped(self) -> Failure {
        Failure { side_effect_free: false, retryable: false, ..self.never_started() }
    }
}
