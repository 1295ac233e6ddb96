//! How a run went over time: counts and quantiles of short intervals, of all tenants.
//!
//! By when answers came, not by when they were due: what stalls shows as a gap. Bounded: a run has
//! some hundred intervals, however long it lasts.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{Outcome, histogram, nanos, record};
use crate::plan::Plan;

/// The course of a run.
pub struct Timeline {
    start: Instant,
    interval: Duration,
    tenants: usize,
    inner: Mutex<Inner>,
    under_way: AtomicU64,
}

struct Inner {
    /// All but the newest are complete.
    points: Vec<Point>,
    /// Latencies of the newest.
    latency: Histogram<u64>,
}

/// One interval.
#[derive(Debug, Clone, Default)]
pub struct Point {
    pub operations: u64,
    pub errors: u64,
    /// Items that succeeded, by tenant.
    pub items: Vec<u64>,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    /// The most operations under way at an end of one.
    pub under_way: u64,
}

impl Timeline {
    pub fn new(plan: &Plan, tenants: usize) -> Self {
        let whole = plan.end + plan.limit - plan.start;
        Timeline {
            start: plan.start,
            interval: interval(plan.end - plan.start, whole),
            tenants,
            inner: Mutex::new(Inner { points: Vec::new(), latency: histogram() }),
            under_way: AtomicU64::new(0),
        }
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// An operation begins.
    pub fn begins(&self) {
        // Relaxed, as everywhere here: a number to look at.
        self.under_way.fetch_add(1, Relaxed);
    }

    /// An operation ends.
    pub fn ends(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// Operations under way now.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Relaxed)
    }

    /// An operation of a tenant was answered now.
    pub fn outcome(&self, tenant: usize, o: &Outcome) {
        let under_way = self.under_way();
        let mut inner = self.lock();
        // Within the lock: so time does not run back.
        let at = (self.start.elapsed().as_nanos() / self.interval.as_nanos().max(1)) as usize;
        inner.reach(at.min(POINTS_MAX - 1), self.tenants);
        record(&mut inner.latency, nanos(o.latency));
        let point = inner.points.last_mut().expect("reached");
        point.operations += 1;
        point.errors += o.errors.iter().map(|(_, n, _)| n).sum::<u64>();
        point.items[tenant] += o.succeeded;
        point.under_way = point.under_way.max(under_way);
    }

    /// All intervals so far.
    pub fn points(&self) -> Vec<Point> {
        let mut inner = self.lock();
        inner.settle();
        inner.points.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn reach(&mut self, at: usize, tenants: usize) {
        if self.points.len() > at {
            return;
        }
        self.settle();
        self.latency.reset();
        let empty = Point { items: vec![0; tenants], ..Point::default() };
        self.points.resize(at + 1, empty);
    }

    /// Tells the newest its quantiles.
    fn settle(&mut self) {
        if let Some(newest) = self.points.last_mut() {
            newest.p50_ns = self.latency.value_at_quantile(0.5);
            newest.p99_ns = self.latency.value_at_quantile(0.99);
            newest.max_ns = self.latency.max();
        }
    }
}

/// A length that people like, with some hundred of them in a run and never more than the most.
fn interval(planned: Duration, whole: Duration) -> Duration {
    const NICE_MS: [u64; 12] =
        [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000];
    let fits = |ms: &&u64| {
        let ms = u128::from(**ms);
        planned.as_millis() / ms <= POINTS_GOOD && whole.as_millis() / ms < POINTS_MAX as u128
    };
    let nice = NICE_MS.iter().find(fits).copied();
    nice.map_or(whole / (POINTS_MAX as u32 - 1), Duration::from_millis)
}

const POINTS_GOOD: u128 = 150;
const POINTS_MAX: usize = 3_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, ScenarioFile};

    #[test]
    fn intervals_are_round_and_bounded() {
        let secs = Duration::from_secs;
        assert_eq!(interval(secs(11), secs(41)), Duration::from_millis(100));
        assert_eq!(interval(secs(600), secs(630)), secs(5));
        assert!(interval(secs(604_800), secs(700_000)) >= secs(700_000) / 3_000);
        assert!(interval(secs(1), secs(36_000)) >= secs(12));
    }

    #[test]
    fn what_is_answered_now_is_in_the_newest_interval() {
        let text = "[[tenants]]\ncerts = \"a\"\n[[tenants]]\ncerts = \"b\"";
        let file: ScenarioFile = toml::from_str(text).expect("TOML");
        let scenario = file.parse(Overrides::default()).expect("fine");
        let now = Instant::now();
        let start = now.checked_sub(Duration::from_secs(5)).unwrap_or(now);
        let t = Timeline::new(&Plan::new(&scenario, start), 2);
        let o = Outcome {
            latency: Duration::from_millis(7),
            succeeded: 3,
            errors: vec![("X".into(), 2, true)],
            ..Outcome::default()
        };
        t.begins();
        t.outcome(1, &o);
        let points = t.points();
        let last = points.last().expect("there is one");
        assert_eq!((last.items.as_slice(), last.errors, last.under_way), ([0, 3].as_slice(), 2, 1));
        assert!((6_900_000..7_100_000).contains(&last.p99_ns));
        assert!(points.len() == 1 || points[0].operations == 0);
    }
}
