//! Statistics: what became of a tenant's items, and of everyone's.
//!
//! Whoever runs items counts in a [`Lap`] of its own and folds it in now and then: an item costs no
//! lock, no atomic and no reading of the clock here. A tenant that was never active costs a pointer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::tenant::Tenant;

mod counts;
mod latencies;

use counts::Counts;
pub(crate) use counts::Lap;
use latencies::Latencies;
pub use latencies::Quantiles;

/// What became of the items of a tenant, or of all, since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatsSnapshot {
    /// Items that ended well.
    pub items_succeeded: u64,
    /// Items that failed.
    pub items_failed: u64,
    /// Why they did, by the name of the code.
    pub failures: BTreeMap<&'static str, u64>,
    /// Payload bytes that came in.
    pub bytes_in: u64,
    /// Payload bytes that went out.
    pub bytes_out: u64,
    /// Time from an item's arrival to its answer, in microseconds, to two digits. Of a tenant only
    /// while it is among the busiest; empty otherwise.
    pub latency_us: Quantiles,
}

/// How statistics are bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Tenants that get a label of their own, the first to be active.
    pub labels_max: usize,
    /// Tenants that have one whatever happens.
    pub pinned: HashSet<String>,
    /// Tenants whose latencies are kept.
    pub latencies_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { labels_max: 100, pinned: HashSet::new(), latencies_max: 1_000 }
    }
}

/// The statistics of all tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Book(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Set before the first tenant is active, or the default.
    bounds: OnceLock<Bounds>,
    base: Instant,
    all: Mutex<All>,
    /// Those that have a label, by name; a tenant created again takes the place of the one before.
    labelled: Mutex<BTreeMap<Arc<str>, Arc<OfTenant>>>,
    /// Those whose latencies are kept.
    busy: Mutex<Vec<Arc<OfTenant>>>,
    /// No tenant is looked for to make room before this, in milliseconds after `base`.
    no_room_until: AtomicU64,
}

#[derive(Debug, Default)]
struct All {
    counts: Counts,
    latencies: Latencies<u64>,
    /// Of them those of tenants without a label.
    other: Counts,
}

/// The statistics of one tenant.
#[derive(Debug)]
pub(super) struct OfTenant {
    tenant: Weak<Tenant>,
    labelled: bool,
    /// When it was last folded into, in milliseconds after the book's base.
    touched: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Only while it is among the busiest.
    latencies: Option<Latencies<u32>>,
}

impl OfTenant {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One row of what is shown with a label.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub label: Arc<str>,
    /// The tenant, while it exists; `None` for all that have no label.
    pub tenant: Option<Arc<Tenant>>,
    pub succeeded: u64,
    pub failed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub throttles: u64,
    pub throttled: Duration,
    pub latency_us: Quantiles,
}

impl Tenant {
    /// What became of its items since the process started.
    pub fn stats(&self) -> StatsSnapshot {
        let Some(stats) = self.stats.get() else { return StatsSnapshot::default() };
        let state = stats.state();
        let latency_us = state.latencies.as_ref().map(Latencies::quantiles).unwrap_or_default();
        state.counts.snapshot(latency_us)
    }
}

impl Book {
    pub(super) fn new() -> Book {
        Book(Arc::new(Inner {
            bounds: OnceLock::new(),
            // tokio's, so that a paused clock counts from the same base.
            base: tokio::time::Instant::now().into_std(),
            all: Mutex::default(),
            labelled: Mutex::default(),
            busy: Mutex::default(),
            no_room_until: AtomicU64::new(0),
        }))
    }

    /// Sets the bounds, unless some are in force already.
    pub(crate) fn bound(&self, bounds: Bounds) {
        // Whoever was first is right: a label that was given stays.
        let _ = self.0.bounds.set(bounds);
    }

    fn bounds(&self) -> &Bounds {
        self.0.bounds.get_or_init(Bounds::default)
    }

    /// What became of everyone's items since the process started.
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        let all = self.all();
        all.counts.snapshot(all.latencies.quantiles())
    }

    /// A tenant is active: it gets its label, if there is one left.
    pub(crate) fn seen(&self, tenant: &Arc<Tenant>) {
        self.of(tenant);
    }

    /// The label of a tenant that is active: its own, or that of those that have none.
    pub(crate) fn label_of(&self, tenant: &Arc<Tenant>) -> Arc<str> {
        if self.of(tenant).labelled { tenant.id().as_str().into() } else { OTHER.into() }
    }

    /// Adds what was counted of a tenant's items, and empties the lap. `now` may be some moments
    /// old.
    pub(crate) fn fold(&self, tenant: &Arc<Tenant>, lap: &mut Lap, now: Instant) {
        if lap.is_empty() {
            return;
        }
        let stats = self.of(tenant);
        let ms = self.ms(now);
        stats.touched.store(ms, Relaxed);
        let mut state = stats.state();
        if state.latencies.is_none() && lap.has_latencies() {
            // Making room takes another tenant's lock.
            drop(state);
            self.make_busy(stats, ms);
            state = stats.state();
        }
        state.counts.add(lap);
        if let Some(latencies) = &mut state.latencies {
            latencies.add(lap);
        }
        drop(state);
        let mut all = self.all();
        all.counts.add(lap);
        if !stats.labelled {
            all.other.add(lap);
        }
        all.latencies.add(lap);
        drop(all);
        lap.clear();
    }

    /// The rows with a label of their own, then all others together.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let labelled = self.0.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let labelled: Vec<_> = labelled.iter().map(|(l, s)| (l.clone(), s.clone())).collect();
        let mut rows: Vec<Row> = labelled
            .into_iter()
            .map(|(label, stats)| {
                let state = stats.state();
                let latency = state.latencies.as_ref().map(Latencies::quantiles);
                state.counts.row(label, stats.tenant.upgrade(), latency.unwrap_or_default())
            })
            .collect();
        rows.push(self.all().other.row(OTHER.into(), None, Quantiles::default()));
        rows
    }

    /// Tenants that were active lately and have no label.
    pub(crate) fn busy_without_label(&self) -> Vec<Arc<Tenant>> {
        let busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.iter().filter(|s| !s.labelled).filter_map(|s| s.tenant.upgrade()).collect()
    }

    /// The statistics of a tenant, which begin here.
    fn of<'t>(&self, tenant: &'t Arc<Tenant>) -> &'t Arc<OfTenant> {
        tenant.stats.get_or_init(|| {
            let labelled = self.takes_label(tenant);
            let stats = Arc::new(OfTenant {
                tenant: Arc::downgrade(tenant),
                labelled: labelled.is_some(),
                touched: AtomicU64::new(0),
                state: Mutex::default(),
            });
            if let Some(label) = labelled {
                let mut all = self.0.labelled.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(label, stats.clone());
            }
            stats
        })
    }

    fn takes_label(&self, tenant: &Tenant) -> Option<Arc<str>> {
        let id = tenant.id().as_str();
        let Bounds { labels_max, pinned, .. } = self.bounds();
        let labelled = self.0.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let has_one = pinned.contains(id) || labelled.contains_key(id);
        let taken = || labelled.keys().filter(|l| !pinned.contains(&***l)).count();
        (id != OTHER && (has_one || taken() < *labels_max)).then(|| id.into())
    }

    /// Begins to keep a tenant's latencies, if there is room or room can be made.
    fn make_busy(&self, stats: &Arc<OfTenant>, now_ms: u64) {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.len() >= self.bounds().latencies_max {
            if now_ms < self.0.no_room_until.load(Relaxed) {
                return;
            }
            let idlest = busy.iter().enumerate().min_by_key(|(_, s)| s.touched.load(Relaxed));
            let idle = idlest.filter(|(_, s)| s.touched.load(Relaxed) + IDLE_MS <= now_ms);
            let Some((at, _)) = idle else {
                self.0.no_room_until.store(now_ms + LOOK_AGAIN_MS, Relaxed);
                return;
            };
            let idle = busy.swap_remove(at);
            idle.state().latencies = None;
        }
        let mut state = stats.state();
        // Another batch of the tenant may have been faster.
        if state.latencies.is_none() {
            state.latencies = Some(Latencies::default());
            drop(state);
            busy.push(stats.clone());
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.0.base).as_millis() as u64
    }
}

/// The label of those that have none.
const OTHER: &str = "other";
/// Who was not active for so long makes room for another's latencies.
const IDLE_MS: u64 = 10_000;
/// How long after a search for room the next one is worth its while.
const LOOK_AGAIN_MS: u64 = 1_000;

#[cfg(test)]
mod tests;
