//! One tenant while the process lives: its settings, and everything that is counted for it.
//!
//! Verbs live beside it: permits in `permit`, charges in `admission`, waiting in `pace`, reports in
//! `usage`. What is counted is made when the tenant first does something: most of a million do
//! nothing. A tenant never knows the registry that holds it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tollgate_protocol::id::TenantId;

use super::{
    Config,
    alerts::Alerts,
    audit::Audited,
    changes::Listeners,
    count::Count,
    in_use::InUse,
    metered::Metered,
    permit::{Beyond, COUNTED},
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
    /// Whether it stands in the list of those in use.
    pub(super) listed: AtomicBool,
    pub(super) common: Arc<Common>,
    pub(super) record: ArcSwap<Record>,
    pub(super) listeners: Listeners,
    /// When what runs of a tenant that is being deleted is ended, in Unix milliseconds; 0 while it
    /// is not.
    leaves_at_ms: AtomicU64,
    counted: OnceLock<Box<Counted>>,
    /// Nothing until it is active for the first time.
    pub(super) stats: OnceLock<Arc<OfTenant>>,
}

/// Everything that is counted for one tenant.
#[derive(Debug)]
pub(super) struct Counted {
    /// Permits that are out, by their place in [`COUNTED`].
    pub counts: [Count; COUNTED.len()],
    /// The rates.
    pub metered: Metered,
    /// Bytes that are free of those it may have in flight.
    pub in_flight: Semaphore,
    /// What it has beyond that.
    pub beyond: Beyond,
    /// How close each quota is to its limit, as was last told: see `alerts`.
    pub levels: AtomicU32,
}

/// What every tenant of a registry has in common.
#[derive(Debug)]
pub(super) struct Common {
    /// Time 0 of `rules`.
    pub base: Instant,
    pub shape: Shape,
    pub in_flight_max: u32,
    pub alerts: Alerts,
    pub in_use: InUse,
    pub audited: Audited,
}

impl Common {
    pub(super) fn of(config: &Config) -> Common {
        Common {
            // tokio's, so that a paused clock counts from the same base.
            base: tokio::time::Instant::now().into_std(),
            shape: config.window.0,
            in_flight_max: config.tenant_in_flight_bytes.max(1),
            alerts: config.alerts,
            in_use: InUse::default(),
            audited: Audited::default(),
        }
    }
}

impl Tenant {
    pub(super) fn new(
        id: TenantId,
        index: u32,
        common: Arc<Common>,
        record: Record,
    ) -> Arc<Tenant> {
        Arc::new(Tenant {
            id,
            index,
            listed: AtomicBool::new(false),
            common,
            record: ArcSwap::from_pointee(record),
            listeners: Listeners::default(),
            leaves_at_ms: AtomicU64::new(0),
            counted: OnceLock::new(),
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
        self.record.store(Arc::new(record));
        self.meter();
        self.listeners.tell();
    }

    /// Everything that is counted for it; from now on it is in use.
    pub(super) fn counted(self: &Arc<Self>) -> &Counted {
        if !self.listed.load(Ordering::Relaxed) {
            self.enter();
        }
        match self.counted.get() {
            Some(counted) => counted,
            None => self.count(),
        }
    }

    /// Everything that is counted for it, if it ever did anything.
    pub(super) fn counted_yet(&self) -> Option<&Counted> {
        self.counted.get().map(|c| &**c)
    }

    #[cold]
    fn enter(self: &Arc<Self>) {
        if !self.listed.swap(true, Ordering::Relaxed) {
            self.common.in_use.enter(self);
        }
    }

    #[cold]
    fn count(&self) -> &Counted {
        let (limits, policy) = self.rates();
        let counted = self.counted.get_or_init(|| {
            Box::new(Counted {
                counts: std::array::from_fn(|_| Count::new()),
                metered: Metered::new(self.common.shape, limits, policy),
                in_flight: Semaphore::new(self.common.in_flight_max as usize),
                beyond: Beyond::new(),
                levels: AtomicU32::new(0),
            })
        });
        // The quotas may have changed since they were read, and the change may not have found
        // the meters.
        self.meter();
        counted
    }

    /// Puts the record in force in the meters, if there are any yet.
    fn meter(&self) {
        // Either this sees the meters that another thread has just made, or that thread sees the
        // record that this one has just stored.
        fence(Ordering::SeqCst);
        let first = self.counted.get().and_then(|c| c.metered.change(|| self.rates()));
        first.into_iter().for_each(Waker::wake);
    }

    fn rates(&self) -> (Limits, Policy) {
        let (record, shape) = (self.record.load(), self.common.shape);
        let limit = |quota| shape.limit(record.quotas.get(quota).get());
        let limits = Limits {
            requests: limit(Quota::RequestsPerSecond),
            bytes: limit(Quota::BytesPerSecond),
            messages: limit(Quota::MessagesPerSecond),
        };
        (limits, record.settings.policy)
    }

    /// A moment as `rules` count it, in nanoseconds: 0 for what was before the base.
    pub(super) fn at(&self, now: Instant) -> u64 {
        // 584 years fit.
        now.saturating_duration_since(self.common.base).as_nanos() as u64
    }
}

/// A million tenants are to fit: all that is counted for one, and the tenant itself, stay within
/// 1 KiB; one that never did anything costs a tenth of it.
const _: () = assert!(size_of::<Counted>() + size_of::<Tenant>() <= 1_024);
const _: () = assert!(size_of::<Tenant>() <= 128);
