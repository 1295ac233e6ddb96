//! One tenant while the process lives: its settings, and everything that is counted for it.
//!
//! Verbs live beside it: permits in `permit`, charges in `admission`, waiting in `pace`, reports in
//! `usage`. A tenant never knows the registry that holds it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tollgate_protocol::id::TenantId;

use super::{
    Config,
    changes::Listeners,
    pace::Meters,
    permit::COUNTED,
    quotas::{Limit, Quota, Quotas},
    settings::{Record, Settings, State},
    stats::OfTenant,
};
use crate::rules::{
    quota::{Limits, Policy},
    window::Shape,
};

/// A tenant. Always shared; connections and batches keep theirs, even when another tenant has got
/// the same id meanwhile: then this one reads as [`State::Deleted`].
#[derive(Debug)]
pub struct Tenant {
    pub(super) id: TenantId,
    pub(super) index: u32,
    /// Time 0 of `rules`.
    pub(super) base: Instant,
    pub(super) shape: Shape,
    pub(super) record: ArcSwap<Record>,
    pub(super) listeners: Listeners,
    /// When what runs of a tenant that is being deleted is ended, in Unix milliseconds; 0 while it
    /// is not.
    leaves_at_ms: AtomicU64,
    /// Permits that are out, by their place in [`COUNTED`].
    pub(super) counts: [AtomicU64; COUNTED.len()],
    /// A leaf: nothing is locked or awaited under it.
    pub(super) meters: Mutex<Meters>,
    /// Items that run.
    pub(super) running: AtomicU32,
    pub(super) item_ended: Notify,
    /// Bytes that are free of those it may have in flight.
    pub(super) in_flight: Semaphore,
    pub(super) in_flight_max: u32,
    /// Nothing until it is active for the first time.
    pub(super) stats: OnceLock<Arc<OfTenant>>,
}

/// What every tenant of a registry has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub base: Instant,
    pub shape: Shape,
    pub in_flight_max: u32,
}

impl Common {
    pub(super) fn of(config: &Config) -> Common {
        Common {
            // tokio's, so that a paused clock counts from the same base.
            base: tokio::time::Instant::now().into_std(),
            shape: config.window.0,
            in_flight_max: config.tenant_in_flight_bytes.max(1),
        }
    }
}

impl Tenant {
    pub(super) fn new(id: TenantId, index: u32, common: Common, record: Record) -> Arc<Tenant> {
        let Common { base, shape, in_flight_max } = common;
        let limits = limits(shape, &record.quotas);
        Arc::new(Tenant {
            id,
            index,
            base,
            shape,
            meters: Mutex::new(Meters::new(shape, limits, record.settings.policy)),
            record: ArcSwap::from_pointee(record),
            listeners: Listeners::default(),
            leaves_at_ms: AtomicU64::new(0),
            counts: Default::default(),
            running: AtomicU32::new(0),
            item_ended: Notify::new(),
            in_flight: Semaphore::new(in_flight_max as usize),
            in_flight_max,
            stats: OnceLock::new(),
        })
    }

    /// Its id.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Its number in this broker: never another tenant's, not even after a restart.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What is set for it now.
    pub fn settings(&self) -> Arc<Settings> {
        self.record.load().settings.clone()
    }

    /// What is set for it, what it may use, and since when: all of one moment.
    pub fn record(&self) -> Arc<Record> {
        self.record.load_full()
    }

    /// What it may use: its profile's quotas, and its own over these.
    pub fn quotas(&self) -> Quotas {
        *self.record.load().quotas
    }

    /// What it may use of one quota.
    pub fn limit(&self, quota: Quota) -> Limit {
        self.record.load().quotas.get(quota)
    }

    /// Whether it may do anything.
    pub fn state(&self) -> State {
        self.record.load().settings.state
    }

    /// What happens to items beyond a rate.
    pub fn policy(&self) -> Policy {
        self.record.load().settings.policy
    }

    /// Its share among tenants that wait; at least 1.
    pub fn weight(&self) -> u32 {
        self.record.load().settings.weight.max(1)
    }

    /// Whether a gateway may act for it.
    pub fn admits_gateway(&self, name: &str) -> bool {
        self.record.load().settings.gateways.iter().any(|g| g == name)
    }

    /// When what runs of it is ended, while it is being deleted: nothing new begins, and what runs
    /// may finish until then.
    pub fn leaves_at(&self) -> Option<SystemTime> {
        match self.leaves_at_ms.load(Ordering::Acquire) {
            0 => None,
            ms => Some(UNIX_EPOCH + Duration::from_millis(ms)),
        }
    }

    /// Whether what runs of it may go on: it is active, or it is being deleted and has some time
    /// left.
    pub fn may_go_on(&self) -> bool {
        match self.state() {
            State::Active => true,
            State::Suspended => self.leaves_at().is_some(),
            State::Deleted => false,
        }
    }

    pub(super) fn leave_at(&self, until: SystemTime) {
        let ms = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.leaves_at_ms.store(u64::try_from(ms).unwrap_or(u64::MAX).max(1), Ordering::Release);
    }

    /// It is not deleted after all.
    pub(super) fn stay(&self) {
        self.leaves_at_ms.store(0, Ordering::Release);
        self.listeners.tell();
    }

    /// Puts another record in force, at once and for what is open too: permits that are out stay,
    /// who waits for a rate looks again, and who listens is told.
    pub(super) fn put(&self, record: Record) {
        let (limits, policy) = (limits(self.shape, &record.quotas), record.settings.policy);
        self.record.store(Arc::new(record));
        let wakers = self.meters().change(limits, policy);
        wakers.into_iter().flatten().for_each(std::task::Waker::wake);
        self.item_ended.notify_waiters();
        self.listeners.tell();
    }

    pub(super) fn meters(&self) -> MutexGuard<'_, Meters> {
        // What a panic under it leaves is whole: sums are added in one go.
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment as `rules` count it, in nanoseconds: 0 for what was before the base.
    pub(super) fn at(&self, now: Instant) -> u64 {
        // 584 years fit.
        now.saturating_duration_since(self.base).as_nanos() as u64
    }
}

fn limits(shape: Shape, quotas: &Quotas) -> Limits {
    Limits {
        requests: shape.limit(quotas.requests_per_second.get()),
        bytes: shape.limit(quotas.bytes_per_second.get()),
    }
}

/// A million tenants are to fit: what is counted for one stays within 1 KiB, whole.
const _: () = assert!(size_of::<Tenant>() <= 1_024);
