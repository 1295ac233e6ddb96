//! A count of what is out: checked and raised in one step, lowered when it comes back.
//!
//! Compiled twice: for the broker, and by its tests over scheduled atomics that try every order of
//! threads. So it knows its atomics only by `super::sync`.

use super::sync::{AtomicU64, Ordering};

/// How much of a limit is out.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Nothing is out.
    pub fn new() -> Count {
        Count(AtomicU64::new(0))
    }

    /// Counts `n` more when they fit under `limit`.
    ///
    /// # Errors
    /// What is out, when they do not.
    pub fn take(&self, n: u64, limit: u64) -> Result<(), u64> {
        let more = |out: u64| out.checked_add(n).filter(|&sum| sum <= limit);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map(|_| ())
    }

    /// Counts `n` less: they were taken before.
    pub fn give_back(&self, n: u64) {
        let before = self.0.fetch_sub(n, Ordering::AcqRel);
        debug_assert!(before >= n, "given back twice");
    }

    /// What is out now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
