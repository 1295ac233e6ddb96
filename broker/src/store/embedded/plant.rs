//! Bugs that tests can switch on, to see whether the suites notice. Nothing of it is in a build
//! that ships: there the answer is a constant.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Commits are acknowledged before the journal's sync.
    EarlyAcknowledgement,
    /// Checksums are not compared.
    SkipChecksum,
    /// A group is not synced before the next one is written.
    SkipSync,
    /// A fence is not compared with the scope's owner.
    SkipFence,
    /// The journal is let go before the segments are synced.
    EarlyTrim,
    /// Trims are not journaled.
    ForgetTrim,
    /// A commit's records are checked one by one, not as one.
    HalfCommits,
    /// A failed sync is tried again.
    RetrySync,
    /// What a large record's file has is not synced before it is named.
    LargeUnsynced,
    /// Damage in the middle of the journal is taken for its end.
    DamageIsTheEnd,
}

/// Whether the bug is on.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn is(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(super) use planted::{Planted, is};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static NOW: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether the bug is on, for this thread: tests run side by side.
    pub(in super::super) fn is(bug: Bug) -> bool {
        NOW.get() == Some(bug)
    }

    /// A bug to be switched on in a thread; the store's threads take it over from who opened it.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Planted(Option<Bug>);

    impl Planted {
        /// The one of this thread.
        pub(in super::super) fn here() -> Planted {
            Planted(NOW.get())
        }

        /// This one, or none.
        pub(in super::super) fn new(bug: Option<Bug>) -> Planted {
            Planted(bug)
        }

        /// On, in this thread, from now on.
        pub(in super::super) fn plant(self) {
            NOW.set(self.0);
        }
    }
}
