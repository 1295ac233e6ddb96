//! What was measured, of one tenant: counts and histograms of each slot behind one lock, taken once
//! an operation.

mod timeline;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;

pub use timeline::{Point, Timeline};

use crate::check::Wrong;

/// What came of one operation.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From when it was due to its end.
    pub latency: Duration,
    /// From when the operation was due to each result.
    pub item_ns: Vec<u64>,
    /// From when the operation was due to each job's acceptance.
    pub accepted_ns: Vec<u64>,
    pub succeeded: u64,
    /// Items that failed, and operations that did, by name; and whether the scenario allows it.
    pub errors: Vec<(String, u64, bool)>,
    /// Items without a result in an operation that failed.
    pub unanswered: u64,
    pub wrong: Wrong,
    pub throttled: Duration,
    /// `Throttled` events.
    pub throttlings: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Whether it ended as it should.
    pub complete: bool,
}

/// A message that came to a reader for the first time.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// The slot in which its operation was due.
    pub slot: Option<usize>,
    /// From when that was until a reader had it.
    pub latency: Duration,
    pub bytes: u64,
}

/// Sums of outcomes.
#[derive(Debug, Clone)]
pub struct Stats {
    pub operations: u64,
    pub operations_failed: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub accepted: u64,
    pub unanswered: u64,
    pub errors: BTreeMap<String, u64>,
    /// Those that the scenario does not allow.
    pub unexpected: BTreeMap<String, u64>,
    pub wrong: Wrong,
    pub throttled: Duration,
    pub throttlings: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Operations that were due and never sent: the broker, or the generator, did not keep up.
    pub not_sent: u64,
    pub latency: Histogram<u64>,
    pub item_latency: Histogram<u64>,
    pub accepted_latency: Histogram<u64>,
    /// From when an operation was due until a reader had each of its messages.
    pub delivered_latency: Histogram<u64>,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            operations: 0,
            operations_failed: 0,
            succeeded: 0,
            failed: 0,
            accepted: 0,
            unanswered: 0,
            errors: BTreeMap::new(),
            unexpected: BTreeMap::new(),
            wrong: Wrong::default(),
            throttled: Duration::ZERO,
            throttlings: 0,
            bytes_in: 0,
            bytes_out: 0,
            not_sent: 0,
            latency: histogram(),
            item_latency: histogram(),
            accepted_latency: histogram(),
            delivered_latency: histogram(),
        }
    }
}

impl Stats {
    /// Items that have a result.
    pub fn answered(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// Errors of any kind.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Errors that the scenario does not allow.
    pub fn unexpected(&self) -> u64 {
        self.unexpected.values().sum()
    }

    /// Takes other sums in.
    pub fn add(&mut self, other: &Stats) {
        self.operations += other.operations;
        self.operations_failed += other.operations_failed;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.accepted += other.accepted;
        self.unanswered += other.unanswered;
        add(&mut self.errors, &other.errors);
        add(&mut self.unexpected, &other.unexpected);
        self.wrong.add(&other.wrong);
        self.throttled += other.throttled;
        self.throttlings += other.throttlings;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.not_sent += other.not_sent;
        self.latency.add(&other.latency).expect(GROWS);
        self.item_latency.add(&other.item_latency).expect(GROWS);
        self.accepted_latency.add(&other.accepted_latency).expect(GROWS);
        self.delivered_latency.add(&other.delivered_latency).expect(GROWS);
    }

    fn bad(&mut self, o: &Outcome) {
        self.wrong.add(&o.wrong);
        for (name, n, _) in o.errors.iter().filter(|(.., allowed)| !allowed) {
            *self.unexpected.entry(name.clone()).or_default() += n;
        }
    }

    fn outcome(&mut self, o: &Outcome) {
        self.bad(o);
        self.operations += 1;
        self.operations_failed += u64::from(!o.complete);
        self.succeeded += o.succeeded;
        self.failed += (o.item_ns.len() as u64).saturating_sub(o.succeeded);
        self.accepted += o.accepted_ns.len() as u64;
        self.unanswered += o.unanswered;
        for (name, n, _) in &o.errors {
            *self.errors.entry(name.clone()).or_default() += n;
        }
        self.throttled += o.throttled;
        self.throttlings += o.throttlings;
        self.bytes_in += o.bytes_in;
        self.bytes_out += o.bytes_out;
        // An operation that failed took long too: leaving it out would flatter.
        record(&mut self.latency, nanos(o.latency));
        o.item_ns.iter().for_each(|ns| record(&mut self.item_latency, *ns));
        o.accepted_ns.iter().for_each(|ns| record(&mut self.accepted_latency, *ns));
    }
}

/// Where a tenant's outcomes go.
#[derive(Debug)]
pub struct Recorder {
    /// One for each slot, and the last for what belongs to none.
    stats: Mutex<Vec<Stats>>,
    /// Items answered since the start, for the live display.
    pub answered: AtomicU64,
}

impl Recorder {
    pub fn new(slots: usize) -> Self {
        Recorder {
            stats: Mutex::new(vec![Stats::default(); slots + 1]),
            answered: AtomicU64::new(0),
        }
    }

    /// What is wrong is wrong at any time; the rest counts within the slot that it was due in.
    pub fn outcome(&self, o: &Outcome, slot: Option<usize>) {
        // Relaxed: a number to look at.
        self.answered.fetch_add(o.item_ns.len() as u64, Relaxed);
        let mut stats = self.lock();
        match slot {
            Some(slot) => stats[slot].outcome(o),
            None => stats.last_mut().expect(ONE_MORE).bad(o),
        }
    }

    /// Messages came to a reader.
    pub fn delivered(&self, all: &[Delivered]) {
        let mut stats = self.lock();
        for d in all {
            let Some(slot) = d.slot else { continue };
            record(&mut stats[slot].delivered_latency, nanos(d.latency));
            stats[slot].bytes_out += d.bytes;
        }
    }

    /// Something went wrong with an operation that was recorded as good.
    pub fn late_error(&self, name: &str, allowed: bool, slot: Option<usize>) {
        let mut stats = self.lock();
        let last = stats.len() - 1;
        let stats = &mut stats[slot.unwrap_or(last)];
        if !allowed {
            *stats.unexpected.entry(name.to_owned()).or_default() += 1;
        }
        if slot.is_some() {
            *stats.errors.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// What was found wrong after all.
    pub fn wrong(&self, wrong: &Wrong) {
        self.lock().last_mut().expect(ONE_MORE).wrong.add(wrong);
    }

    pub fn not_sent(&self, slot: usize, operations: u64) {
        self.lock()[slot].not_sent += operations;
    }

    /// What each slot came to, and what belongs to none.
    pub fn stats(&self) -> (Vec<Stats>, Stats) {
        let mut all = self.lock().clone();
        let rest = all.pop().expect(ONE_MORE);
        (all, rest)
    }

    /// A quantile of latency so far, and how much went wrong.
    pub fn glance(&self, slot: usize) -> (Duration, u64) {
        let stats = self.lock();
        let p99 = Duration::from_nanos(stats[slot].latency.value_at_quantile(0.99));
        (p99, stats.iter().map(|s| s.wrong.total() + s.unexpected()).sum())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stats>> {
        // Sums are of use whatever happened to another operation.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, n) in from {
        *to.entry(name.clone()).or_default() += n;
    }
}

pub fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// A histogram of nanoseconds: from 100 on, three digits; it grows with what is recorded.
pub fn histogram() -> Histogram<u64> {
    let mut h = Histogram::new_with_bounds(100, 200, 3).expect("the bounds are in order");
    h.auto(true);
    h
}

/// Adds a value; what is beyond an hour counts as an hour, so that growing has an end.
pub fn record(h: &mut Histogram<u64>, ns: u64) {
    h.record(ns.min(3_600_000_000_000)).expect(GROWS);
}

const GROWS: &str = "a histogram that grows takes every value";
const ONE_MORE: &str = "there is one more than slots";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_counts_only_what_is_wrong() {
        let r = Recorder::new(2);
        let o = Outcome {
            latency: Duration::from_millis(3),
            item_ns: vec![1_000, 2_000],
            succeeded: 1,
            errors: vec![("TIMEOUT".into(), 1, false)],
            wrong: Wrong { payload: 1, ..Wrong::default() },
            complete: true,
            ..Outcome::default()
        };
        r.outcome(&o, None);
        let (slots, rest) = r.stats();
        assert_eq!((slots[0].operations, slots[0].answered()), (0, 0));
        assert_eq!((rest.operations, rest.unexpected(), rest.wrong.payload), (0, 1, 1));
        r.outcome(&o, Some(1));
        r.late_error("LOST", true, Some(1));
        let (mut slots, _) = r.stats();
        let mut s = slots.remove(1);
        assert_eq!((s.operations, s.succeeded, s.failed, s.wrong.payload), (1, 1, 1, 1));
        let twice = s.clone();
        s.add(&twice);
        assert_eq!((s.errors["TIMEOUT"], s.item_latency.len(), s.latency.len()), (2, 4, 2));
        assert_eq!((s.errors["LOST"], s.unexpected()), (2, 2));
    }

    #[test]
    fn a_histogram_takes_what_is_far_apart() {
        let mut h = histogram();
        for ns in [0, 1, 1_000, 1_000_000_000, u64::MAX] {
            record(&mut h, ns);
        }
        assert_eq!(h.len(), 5);
        assert!(h.max() >= 3_600_000_000_000);
    }
}
