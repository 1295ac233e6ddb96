//! Bugs of jobs that tests can switch on, to see whether the suites notice. Nothing of it is in a
//! build that ships: there the answer is a constant.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A job is acknowledged before it is committed.
    EarlyAcknowledgement,
    /// An attempt's end counts, whichever attempt is meant.
    AnyAttempt,
    /// Keys are not known again after a restart.
    ForgetKeys,
    /// Numbers are one more after a restart.
    NumbersShift,
    /// A job that was cancelled goes on running.
    CancelledRunsOn,
    /// Another attempt is not counted.
    RetryNotCounted,
    /// The view does not know that a batch is sealed.
    SealLost,
    /// Jobs of one tenant are shown to the next.
    ForeignRead,
    /// Records are let go while the results in them are wanted.
    TrimResults,
    /// The view does not know the epoch of the numbers.
    EpochLost,
    /// An end is applied and not committed.
    EndNotKept,
}

/// All of them.
#[cfg(test)]
pub(crate) const ALL: [Bug; 11] = [
    Bug::EarlyAcknowledgement,
    Bug::AnyAttempt,
    Bug::ForgetKeys,
    Bug::NumbersShift,
    Bug::CancelledRunsOn,
    Bug::RetryNotCounted,
    Bug::SealLost,
    Bug::ForeignRead,
    Bug::TrimResults,
    Bug::EpochLost,
    Bug::EndNotKept,
];

/// Whether the bug is on.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use planted::{is, with};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static NOW: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether the bug is on, for this thread: tests run side by side.
    pub(crate) fn is(bug: Bug) -> bool {
        NOW.get() == Some(bug)
    }

    /// Runs something with a bug on; gives nothing when it panicked.
    pub(crate) fn with<T>(bug: Bug, run: impl FnOnce() -> T) -> Option<T> {
        NOW.set(Some(bug));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        NOW.set(None);
        outcome.ok()
    }
}
