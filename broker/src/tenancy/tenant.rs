//! One tenant while the process lives: its settings, and everything that is counted for it.
//!
//! Verbs live beside it: permits in `permit`, charges in `admission`, waiting in `pace`, reports in
//! `usage`. A tenant never knows the registry that holds it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tollgate_protocol::id::TenantId;

use super::{
    pace::Meters,
    permit::COUNTED,
    quotas::Quotas,
    settings::{Settings, State},
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
    pub(super) settings: ArcSwap<Settings>,
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
}

/// What every tenant of a registry has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub base: Instant,
    pub shape: Shape,
    pub in_flight_max: u32,
}

impl Tenant {
    pub(super) fn new(id: TenantId, index: u32, common: Common, settings: Settings) -> Arc<Tenant> {
        let Common { base, shape, in_flight_max } = common;
        let limits = limits(shape, &settings.quotas);
        Arc::new(Tenant {
            id,
            index,
            base,
            shape,
            meters: Mutex::new(Meters::new(shape, limits, settings.policy)),
            settings: ArcSwap::from_pointee(settings),
            counts: Default::default(),
            running: AtomicU32::new(0),
            item_ended: Notify::new(),
            in_flight: Semaphore::new(in_flight_max as usize),
            in_flight_max,
        })
    }

    /// Its id.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Its number in this process: small, and never another tenant's.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What is set for it now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Whether it may do anything.
    pub fn state(&self) -> State {
        self.settings.load().state
    }

    /// What happens to items beyond a rate.
    pub fn policy(&self) -> Policy {
        self.settings.load().policy
    }

    /// Its share among tenants that wait; at least 1.
    pub fn weight(&self) -> u32 {
        self.settings.load().weight.max(1)
    }

    /// Whether a gateway may act for it.
    pub fn admits_gateway(&self, name: &str) -> bool {
        self.settings.load().gateways.iter().any(|g| g == name)
    }

    /// Puts other settings in force, at once and for what is open too: permits that are out stay,
    /// and who waits for a rate looks again.
    pub(super) fn change(&self, settings: Settings) {
        let (limits, policy) = (limits(self.shape, &settings.quotas), settings.policy);
        self.settings.store(Arc::new(settings));
        let wakers = self.meters().change(limits, policy);
        wakers.into_iter().flatten().for_each(std::task::Waker::wake);
        self.item_ended.notify_waiters();
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
