//! When a job that failed is tried again: exponential backoff with full jitter.
//!
//! Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

/// How long the waits are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The longest wait before the second attempt, in milliseconds.
    pub first_ms: u64,
    /// How many times as long each later one may be; at least 1.
    pub factor: f64,
    /// The longest wait of all, in milliseconds.
    pub cap_ms: u64,
}

impl Backoff {
    /// The wait after `failed` attempts (at least 1), in milliseconds: drawn evenly between nothing
    /// and the longest one by `random`, any number.
    pub fn wait_ms(&self, failed: u32, random: u64) -> u64 {
        let exponent = f64::from(failed.saturating_sub(1).min(1_000));
        let longest = self.first_ms as f64 * self.factor.max(1.0).powf(exponent);
        let longest = if longest < self.cap_ms as f64 { longest as u64 } else { self.cap_ms };
        match longest.checked_add(1) {
            Some(n) => random % n,
            None => random,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Backoff = Backoff { first_ms: 1_000, factor: 2.0, cap_ms: 300_000 };

    #[test]
    fn waits_grow_up_to_their_cap_and_are_drawn_from_nothing_on() {
        for (failed, longest) in [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000)] {
            assert_eq!(B.wait_ms(failed, longest), longest, "after {failed}");
            assert_eq!(B.wait_ms(failed, longest + 1), 0, "after {failed}");
        }
        assert_eq!(B.wait_ms(u32::MAX, 300_000), 300_000);
    }

    #[test]
    fn odd_settings_do_no_harm() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let odd = Backoff { factor, ..B };
            for failed in [0, 1, 2, 50] {
                assert!(odd.wait_ms(failed, u64::MAX) <= 300_000);
            }
        }
        let none = Backoff { first_ms: 0, factor: 2.0, cap_ms: 0 };
        assert_eq!(none.wait_ms(3, 77), 0);
        let all = Backoff { first_ms: u64::MAX, factor: 2.0, cap_ms: u64::MAX };
        assert_eq!(all.wait_ms(3, u64::MAX), u64::MAX);
    }
}
