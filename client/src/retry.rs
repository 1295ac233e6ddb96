//! When to try again, and after how long: pure decisions.
//!
//! Never decides that something is safe to repeat: only an answer that says `retryable` is.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Waits that double from `first` to `max`; the actual wait lies between half of that and all of
/// it, so that many clients do not come back at the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How many tries in all before giving up; at least 1.
    pub tries_max: u32,
}

impl Backoff {
    /// For connecting again: 50 ms doubling to 2 s, four tries.
    pub const RECONNECT: Backoff =
        Backoff { first: Duration::from_millis(50), max: Duration::from_secs(2), tries_max: 4 };

    /// The wait after `failures` failures in a row (1 or more); `spread` from 0 to 1.
    pub(crate) fn wait(&self, failures: u32, spread: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
    }
}

/// Which items `execute` and `call` try again: those whose answer says `retryable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many tries in all, and the waits where the answer names none.
    pub backoff: Backoff,
    /// An answer that asks for a longer wait than this is not waited for: it stands.
    pub wait_max: Duration,
}

impl RetryPolicy {
    /// Never tries again; requests are then not kept while their batch runs.
    pub const fn none() -> Self {
        let backoff = Backoff { first: Duration::ZERO, max: Duration::ZERO, tries_max: 1 };
        RetryPolicy { backoff, wait_max: Duration::ZERO }
    }

    /// Sets how many tries there are in all (3 by default; 0 counts as 1).
    pub fn tries_max(mut self, tries_max: u32) -> Self {
        self.backoff.tries_max = tries_max;
        self
    }

    pub(crate) fn is_none(&self) -> bool {
        self.backoff.tries_max <= 1
    }

    /// How long to wait before another try after `tries` of them, or `None` to let it be. A hint
    /// is never undercut, and exceeded by at most a tenth.
    pub(crate) fn wait(&self, tries: u32, hint: Option<Duration>, spread: f64) -> Option<Duration> {
        if tries >= self.backoff.tries_max {
            return None;
        }
        match hint {
            Some(hint) if hint > self.wait_max => None,
            Some(hint) => Some(hint.mul_f64(1.0 + spread.clamp(0.0, 1.0) / 10.0)),
            None => Some(self.backoff.wait(tries, spread)),
        }
    }
}

impl Default for RetryPolicy {
    /// Three tries; waits of 200 ms doubling to 5 s where no hint is given; hints up to 30 s.
    fn default() -> Self {
        let backoff = Backoff {
            first: Duration::from_millis(200),
            max: Duration::from_secs(5),
            tries_max: 3,
        };
        RetryPolicy { backoff, wait_max: Duration::from_secs(30) }
    }
}

/// A number from 0 to 1, different at each call: good enough to spread waits.
pub(crate) fn spread() -> f64 {
    // Every `RandomState` has other keys, so even an empty hash differs.
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_longest_and_keep_at_least_half() {
        let b = Backoff { first: 50 * MS, max: 300 * MS, tries_max: 9 };
        assert_eq!(b.wait(1, 1.0), 50 * MS);
        assert_eq!(b.wait(2, 1.0), 100 * MS);
        assert_eq!(b.wait(2, 0.0), 50 * MS);
        assert_eq!(b.wait(4, 1.0), 300 * MS);
        assert_eq!(b.wait(u32::MAX, 1.0), 300 * MS);
    }

    #[test]
    fn a_hint_is_honoured_never_undercut_and_not_waited_for_when_too_long() {
        let p = RetryPolicy::default();
        assert_eq!(p.wait(1, Some(100 * MS), 0.0), Some(100 * MS));
        assert_eq!(p.wait(1, Some(100 * MS), 1.0), Some(110 * MS));
        assert_eq!(p.wait(1, Some(Duration::from_secs(31)), 0.0), None);
        assert_eq!(p.wait(3, Some(MS), 0.0), None);
        assert_eq!(RetryPolicy::none().wait(1, None, 0.0), None);
    }

    #[test]
    fn spreads_differ_and_stay_in_range() {
        let (a, b) = (spread(), spread());
        assert!(a != b && (0.0..1.0).contains(&a) && (0.0..1.0).contains(&b));
    }
}
