//! How many took how long: buckets of powers of two, from a microsecond to a minute.
//!
//! What counts keeps a [`Lap`] of its own without atomics, and adds it here now and then.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts by duration, shared.
#[derive(Debug)]
pub(crate) struct Durations {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// Counts by duration that are one task's own.
#[derive(Debug, Clone)]
pub(crate) struct Lap {
    buckets: [u32; BUCKETS],
    sum_ns: u64,
}

impl Default for Lap {
    fn default() -> Self {
        Lap { buckets: [0; BUCKETS], sum_ns: 0 }
    }
}

impl Lap {
    /// Counts one that took so many nanoseconds.
    #[inline]
    pub(crate) fn note(&mut self, ns: u64) {
        self.sum_ns = self.sum_ns.wrapping_add(ns);
        self.buckets[bucket(ns)] += 1;
    }
}

impl Default for Durations {
    fn default() -> Self {
        Durations { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }
}

impl Durations {
    /// Counts one.
    pub(crate) fn note(&self, took: Duration) {
        let ns = nanos(took);
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Adds what a lap counted, and empties it.
    pub(crate) fn fold(&self, lap: &mut Lap) {
        for (all, lap) in self.buckets.iter().zip(&mut lap.buckets) {
            if *lap > 0 {
                all.fetch_add(u64::from(std::mem::take(lap)), Relaxed);
            }
        }
        self.sum_ns.fetch_add(std::mem::take(&mut lap.sum_ns), Relaxed);
    }

    /// The sum in seconds, the count, and the counts of each bucket with its bound in seconds.
    pub(super) fn read(&self) -> (f64, u64, [(f64, u64); BUCKETS]) {
        let mut buckets = [(0.0, 0); BUCKETS];
        for (at, (to, from)) in buckets.iter_mut().zip(&self.buckets).enumerate() {
            let bound = if at + 1 == BUCKETS { f64::INFINITY } else { bound(at) };
            *to = (bound, from.load(Relaxed));
        }
        let count = buckets.iter().map(|b| b.1).sum();
        (self.sum_ns.load(Relaxed) as f64 / 1e9, count, buckets)
    }
}

/// A duration in nanoseconds; 584 years fit.
#[inline]
pub(crate) fn nanos(d: Duration) -> u64 {
    d.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(d.subsec_nanos()))
}

/// The first bucket whose bound is not below `ns`: by its highest bit, as a division would be a
/// third of what an item costs here.
#[inline]
fn bucket(ns: u64) -> usize {
    let bits = u64::BITS - (ns.saturating_sub(1) | (FIRST_NS - 1)).leading_zeros();
    ((bits - FIRST_NS.ilog2()) as usize).min(BUCKETS - 1)
}

/// The bound of a bucket, in seconds.
fn bound(at: usize) -> f64 {
    (FIRST_NS << at) as f64 / 1e9
}

/// The bound of the first bucket.
const FIRST_NS: u64 = 1 << 10;
/// Up to 69 s; the last holds all that is longer.
const BUCKETS: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let cases = [
            (0, 1.024e-6),
            (1_024, 1.024e-6),
            (1_025, 2.048e-6),
            (2_048, 2.048e-6),
            (2_049, 4.096e-6),
            (1_000_000, 1.048576e-3),
            (1 << 36, 68.719476736),
            ((1 << 36) + 1, f64::INFINITY),
            (u64::MAX, f64::INFINITY),
        ];
        for (ns, expected) in cases {
            let d = Durations::default();
            d.note(Duration::from_nanos(ns));
            let (sum, count, buckets) = d.read();
            assert_eq!((sum, count), (ns as f64 / 1e9, 1));
            let found = buckets.iter().find(|b| b.1 == 1).map(|b| b.0);
            assert_eq!(found, Some(expected), "{ns} ns");
        }
    }

    #[test]
    fn a_lap_is_added_once() {
        let (d, mut lap) = (Durations::default(), Lap::default());
        lap.note(3_000);
        lap.note(3_000_000);
        d.fold(&mut lap);
        d.fold(&mut lap);
        let (sum, count, _) = d.read();
        assert_eq!((sum, count), (0.003003, 2));
    }
}
