//! The clock of one batch, in nanoseconds, as cheap as an item needs it.
//!
//! The system's clock costs more than a short recipe. So it is read once a handful of items, and
//! between two of these readings the processor's own counter says how much time went by.

use std::time::{Duration, Instant};

use crate::metrics::duration::nanos;

/// The processor's counter, where it has one that runs evenly; elsewhere the system's clock.
#[derive(Debug, Clone)]
pub(crate) struct Counter(quanta::Clock);

impl Counter {
    /// The first one of a process finds out how fast the counter is: about a millisecond, at most
    /// 200.
    pub(crate) fn new() -> Counter {
        Counter(quanta::Clock::new())
    }
}

/// Counts from a minute before its batch was admitted: the first items may have come before.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    base: Instant,
    counter: Counter,
    /// The newest reading of the system's clock, and of the counter beside it.
    read: (u64, u64),
    /// The newest reading of all.
    newest: u64,
    /// The moment that was asked for last, and its answer: items come in handfuls.
    asked: (Instant, u64),
}

impl Stopwatch {
    /// That of a batch which is admitted now.
    pub(crate) fn new(now: Instant, counter: Counter) -> Self {
        let base = now.checked_sub(BEFORE).unwrap_or(now);
        let newest = nanos(now.saturating_duration_since(base));
        let read = (newest, counter.0.raw());
        Stopwatch { base, counter, read, newest, asked: (now, newest) }
    }

    /// Where it counts from.
    pub(crate) fn base(&self) -> Instant {
        self.base
    }

    /// Reads the system's clock.
    pub(crate) fn read(&mut self) {
        self.learn(Instant::now());
    }

    /// Takes a reading of the system's clock that somebody has just made.
    pub(crate) fn learn(&mut self, now: Instant) {
        self.newest = self.of(now);
        self.read = (self.newest, self.counter.0.raw());
    }

    /// What time it is, soon after a reading of the system's clock: a counter goes wrong by some
    /// nanoseconds in a millisecond. Never falls until the next one.
    #[inline]
    pub(crate) fn count(&mut self) -> u64 {
        let (at, raw) = self.read;
        let passed = self.counter.0.delta_as_nanos(raw, self.counter.0.raw());
        self.newest = self.newest.max(at.saturating_add(passed));
        self.newest
    }

    /// The newest reading.
    #[inline]
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// The newest reading, as a moment.
    pub(crate) fn now(&self) -> Instant {
        self.base + Duration::from_nanos(self.newest)
    }

    /// A moment, in nanoseconds.
    #[inline]
    pub(crate) fn of(&mut self, at: Instant) -> u64 {
        if self.asked.0 != at {
            self.asked = (at, nanos(at.saturating_duration_since(self.base)));
        }
        self.asked.1
    }
}

const BEFORE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_time_as_the_clock_does() {
        let now = Instant::now();
        let mut watch = Stopwatch::new(now, Counter::new());
        assert_eq!(watch.now(), now);
        let (soon, later) = (now + Duration::from_nanos(7), now + Duration::from_secs(3_600));
        assert_eq!(watch.of(soon) - watch.of(now), 7);
        assert_eq!(watch.of(now - Duration::from_secs(3_600)), 0, "before it counted");
        watch.learn(later);
        assert_eq!((watch.now(), watch.newest()), (later, watch.of(later)));
        assert!(watch.count() >= watch.of(later), "it goes on from there");
        watch.learn(now);
        assert_eq!(watch.now(), now, "the clock is right, whatever was counted");
    }

    #[test]
    fn what_it_counts_is_time() {
        let began = Instant::now();
        let mut watch = Stopwatch::new(began, Counter::new());
        let mut before = watch.newest();
        for _ in 0..10_000 {
            let now = watch.count();
            assert!(now >= before);
            before = now;
        }
        std::thread::sleep(Duration::from_millis(20));
        watch.count();
        let (counted, passed) = (watch.now() - began, began.elapsed());
        assert!(counted <= passed * 10, "{counted:?} in {passed:?}");
        assert!(counted >= Duration::from_millis(2), "{counted:?} in {passed:?}");
    }
}
