//! Counts and running times of what a layer wraps, kept in atomics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tower_layer::Layer;

use crate::batch::{Context, Error, Inline, InlineContext, Recipe, Reply};

/// Counts items and measures how long they run, over everything that one value of this layer (or a
/// clone of it) wraps. Some 60 ns an item: two readings of the clock and four atomic additions.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    total_ns: AtomicU64,
    /// How many took from 2^n to 2^(n+1) ns; the last holds all longer ones.
    buckets: Buckets,
}

#[derive(Debug)]
struct Buckets([AtomicU64; BUCKETS]);

impl Default for Buckets {
    fn default() -> Self {
        Buckets([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was counted so far. Each number is exact; between two of them items may have ended.
    pub fn snapshot(&self) -> Snapshot {
        let c = &*self.0;
        // Ends are read before starts, so that `running` is never below nothing.
        let succeeded = c.succeeded.load(Relaxed);
        let failed = c.failed.load(Relaxed);
        let abandoned = c.abandoned.load(Relaxed);
        let buckets = c.buckets.0.each_ref().map(|b| b.load(Relaxed));
        let total = Duration::from_nanos(c.total_ns.load(Relaxed));
        Snapshot { started: c.started.load(Relaxed), succeeded, failed, abandoned, total, buckets }
    }

    fn start(&self) -> Guard<'_> {
        self.0.started.fetch_add(1, Relaxed);
        Guard { counters: &self.0, since: Instant::now(), ended: &self.0.abandoned }
    }
}

impl<R> Layer<R> for Metrics {
    type Service = Measured<R>;

    fn layer(&self, inner: R) -> Measured<R> {
        Measured { inner, metrics: self.clone() }
    }
}

/// What a [`Metrics`] layer counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Items started.
    pub started: u64,
    /// Items that ended well.
    pub succeeded: u64,
    /// Items that ended with an error.
    pub failed: u64,
    /// Items that did not come to their own end: cancelled, timed out or panicked.
    pub abandoned: u64,
    /// The running time of all that ended, in whatever way.
    pub total: Duration,
    buckets: [u64; BUCKETS],
}

impl Snapshot {
    /// Items that run.
    pub fn running(&self) -> u64 {
        self.started.saturating_sub(self.succeeded + self.failed + self.abandoned)
    }

    /// The running time that a share `q` (0.0 to 1.0) of the items did not exceed: at most twice
    /// the true one. Zero when nothing ended yet.
    pub fn quantile(&self, q: f64) -> Duration {
        let ended: u64 = self.buckets.iter().sum();
        let rank = (q.clamp(0.0, 1.0) * ended as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (n, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(1 << (n + 1));
            }
        }
        Duration::ZERO
    }
}

/// A recipe in a [`Metrics`] layer.
#[derive(Debug, Clone)]
pub struct Measured<R> {
    inner: R,
    metrics: Metrics,
}

impl<R: Recipe> Recipe for Measured<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let mut guard = self.metrics.start();
        let outcome = self.inner.run(ctx, payload).await;
        guard.ended(outcome.is_ok());
        outcome
    }
}

impl<R: Inline> Inline for Measured<R> {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        let mut guard = self.metrics.start();
        let outcome = self.inner.run(ctx, payload, out);
        guard.ended(outcome.is_ok());
        outcome
    }
}

/// Counts the end of an item on every path, a dropped future and a panic among them.
struct Guard<'a> {
    counters: &'a Counters,
    since: Instant,
    ended: &'a AtomicU64,
}

impl Guard<'_> {
    fn ended(&mut self, well: bool) {
        self.ended = if well { &self.counters.succeeded } else { &self.counters.failed };
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let bucket = (took.max(1).ilog2() as usize).min(BUCKETS - 1);
        self.counters.buckets.0[bucket].fetch_add(1, Relaxed);
        self.counters.total_ns.fetch_add(took, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }
}

/// Up to 2^42 ns, more than an hour.
const BUCKETS: usize = 42;
