//! When the churn of a connection's streams is more than any client needs.

use std::time::Instant;

use super::{Config, stream::End};

/// Counts how the streams of one connection end.
#[derive(Debug)]
pub(super) struct Abuse {
    resets_max: u32,
    resets: u32,
    second: Instant,
    rate: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Abuse {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let burst = f64::from(config.unfinished_burst);
        Abuse {
            resets_max: config.resets_per_second,
            resets: 0,
            second: now,
            rate: f64::from(config.unfinished_per_second),
            burst,
            level: burst,
            at: now,
        }
    }

    /// Counts an end; says why the connection is to be closed, when it is.
    pub(super) fn note(&mut self, end: End, now: Instant) -> Option<&'static str> {
        if end == End::Completed {
            return None;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.burst);
        self.at = now;
        if self.level < 1.0 {
            return Some("too many streams end without a completed operation");
        }
        self.level -= 1.0;
        if end == End::Reset {
            if now.saturating_duration_since(self.second).as_secs_f64() >= 1.0 {
                (self.second, self.resets) = (now, 0);
            }
            self.resets += 1;
            if self.resets > self.resets_max {
                return Some("too many streams are reset");
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn completed_operations_are_never_too_many() {
        let now = Instant::now();
        let mut abuse = Abuse::new(&Config::default(), now);
        assert!((0..100_000).all(|_| abuse.note(End::Completed, now).is_none()));
    }

    #[test]
    fn unfinished_streams_have_a_burst_and_then_a_rate() {
        let now = Instant::now();
        let mut abuse = Abuse::new(&Config::default(), now);
        assert_eq!(
            (0..2_000).take_while(|_| abuse.note(End::Unfinished, now).is_none()).count(),
            1_000
        );
        let later = now + Duration::from_secs(1);
        assert_eq!(
            (0..2_000).take_while(|_| abuse.note(End::Unfinished, later).is_none()).count(),
            500
        );
    }

    #[test]
    fn resets_have_a_rate_of_their_own() {
        let now = Instant::now();
        let config = Config { resets_per_second: 5, ..Config::default() };
        let mut abuse = Abuse::new(&config, now);
        assert_eq!((0..100).take_while(|_| abuse.note(End::Reset, now).is_none()).count(), 5);
        let mut abuse = Abuse::new(&config, now);
        let slow = |i: u64| now + Duration::from_millis(300 * i);
        assert!((0..20).all(|i| abuse.note(End::Reset, slow(i)).is_none()));
    }
}
