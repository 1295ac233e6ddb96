//! Bugs of topics that tests can switch on, to see whether the suites notice. Nothing of it is in a
//! build that ships: there the answer is a constant.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A message is acknowledged before it is committed.
    EarlyAcknowledgement,
    /// A group's acknowledgements are not kept.
    PositionBack,
    /// After a restart the offsets of a topic begin anew.
    OffsetReused,
    /// Producers are not known again after a restart.
    ForgetProducers,
    /// A deleted message is known to be deleted until the restart only.
    DeletedComesBack,
    /// Topics of one tenant are shown to the next.
    ForeignRead,
    /// A group's position passes what nobody acknowledged.
    AckUnread,
    /// Retention lets go of one message more than it says.
    TrimTooFar,
    /// A partition is read by its new member while the old one is not done.
    TwoOwners,
}

/// All of them.
#[cfg(test)]
pub(crate) const ALL: [Bug; 9] = [
    Bug::EarlyAcknowledgement,
    Bug::PositionBack,
    Bug::OffsetReused,
    Bug::ForgetProducers,
    Bug::DeletedComesBack,
    Bug::ForeignRead,
    Bug::AckUnread,
    Bug::TrimTooFar,
    Bug::TwoOwners,
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
