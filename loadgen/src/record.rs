//! What was measured, of one tenant: counts and histograms behind one lock, taken once a batch.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::check::Wrong;

/// What came of one batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when it was due to its end.
    pub latency: Duration,
    /// From when the batch was due to each result.
    pub item_ns: Vec<u64>,
    pub succeeded: u64,
    /// Items that failed, and batches that did, by name; and whether the scenario allows it.
    pub errors: Vec<(String, u64, bool)>,
    /// Items without a result in a batch that failed.
    pub unanswered: u64,
    pub wrong: Wrong,
    pub throttled: Duration,
    /// `Throttled` events.
    pub throttlings: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whether it ended with its summary.
    pub complete: bool,
}

/// Sums of outcomes.
#[derive(Debug, Clone)]
pub struct Stats {
    pub batches: u64,
    pub batches_failed: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub unanswered: u64,
    pub errors: BTreeMap<String, u64>,
    /// How many of the errors the scenario does not allow, in the warm-up too.
    pub unexpected: u64,
    /// In the warm-up too.
    pub wrong: Wrong,
    pub throttled: Duration,
    pub throttlings: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Batches that were due and never sent: the broker, or the generator, did not keep up.
    pub not_sent: u64,
    pub batch_latency: Histogram<u64>,
    pub item_latency: Histogram<u64>,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            batches: 0,
            batches_failed: 0,
            succeeded: 0,
            failed: 0,
            unanswered: 0,
            errors: BTreeMap::new(),
            unexpected: 0,
            wrong: Wrong::default(),
            throttled: Duration::ZERO,
            throttlings: 0,
            bytes_in: 0,
            bytes_out: 0,
            not_sent: 0,
            batch_latency: histogram(),
            item_latency: histogram(),
        }
    }
}

impl Stats {
    /// Items that have a result.
    pub fn answered(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// Takes another tenant's sums in.
    pub fn add(&mut self, other: &Stats) {
        self.batches += other.batches;
        self.batches_failed += other.batches_failed;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.unanswered += other.unanswered;
        for (name, n) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += n;
        }
        self.unexpected += other.unexpected;
        self.wrong.add(&other.wrong);
        self.throttled += other.throttled;
        self.throttlings += other.throttlings;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.not_sent += other.not_sent;
        self.batch_latency.add(&other.batch_latency).expect(SAME_BOUNDS);
        self.item_latency.add(&other.item_latency).expect(SAME_BOUNDS);
    }

    fn outcome(&mut self, o: &Outcome, measured: bool) {
        // What is wrong is wrong at any time; the rest counts within the window.
        self.wrong.add(&o.wrong);
        self.unexpected +=
            o.errors.iter().filter(|(.., allowed)| !allowed).map(|(_, n, _)| n).sum::<u64>();
        if !measured {
            return;
        }
        self.batches += 1;
        self.batches_failed += u64::from(!o.complete);
        self.succeeded += o.succeeded;
        self.failed += (o.item_ns.len() as u64).saturating_sub(o.succeeded);
        self.unanswered += o.unanswered;
        for (name, n, _) in &o.errors {
            *self.errors.entry(name.clone()).or_default() += n;
        }
        self.throttled += o.throttled;
        self.throttlings += o.throttlings;
        self.bytes_in += o.bytes_in;
        self.bytes_out += o.bytes_out;
        // A batch that failed took long too: leaving it out would flatter.
        self.batch_latency.saturating_record(nanos(o.latency));
        o.item_ns.iter().for_each(|ns| self.item_latency.saturating_record(*ns));
    }
}

/// Where a tenant's outcomes go.
#[derive(Debug, Default)]
pub struct Recorder {
    stats: Mutex<Stats>,
    /// Items answered since the start, for the live display.
    pub answered: AtomicU64,
}

impl Recorder {
    pub fn outcome(&self, o: &Outcome, measured: bool) {
        // Relaxed: a number to look at.
        self.answered.fetch_add(o.item_ns.len() as u64, Relaxed);
        self.lock().outcome(o, measured);
    }

    pub fn not_sent(&self, batches: u64) {
        self.lock().not_sent += batches;
    }

    pub fn stats(&self) -> Stats {
        self.lock().clone()
    }

    /// A quantile of batch latency so far, and how much went wrong.
    pub fn glance(&self) -> (Duration, u64) {
        let stats = self.lock();
        let p99 = Duration::from_nanos(stats.batch_latency.value_at_quantile(0.99));
        (p99, stats.wrong.total() + stats.unexpected)
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        // Sums are of use whatever happened to another batch.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

fn histogram() -> Histogram<u64> {
    // 100 ns to ten minutes, three digits.
    Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("the bounds are in order")
}

const SAME_BOUNDS: &str = "all histograms have the same bounds";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_counts_only_what_is_wrong() {
        let r = Recorder::default();
        let o = Outcome {
            latency: Duration::from_millis(3),
            item_ns: vec![1_000, 2_000],
            succeeded: 1,
            errors: vec![("TIMEOUT".into(), 1, false)],
            wrong: Wrong { payload: 1, ..Wrong::default() },
            complete: true,
            ..Outcome::default()
        };
        r.outcome(&o, false);
        let s = r.stats();
        assert_eq!((s.batches, s.answered(), s.unexpected, s.wrong.payload), (0, 0, 1, 1));
        r.outcome(&o, true);
        let mut s = r.stats();
        assert_eq!((s.batches, s.succeeded, s.failed, s.wrong.payload), (1, 1, 1, 2));
        let twice = s.clone();
        s.add(&twice);
        assert_eq!((s.errors["TIMEOUT"], s.item_latency.len(), s.batch_latency.len()), (2, 4, 2));
    }
}
