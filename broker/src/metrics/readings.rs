//! What is read of the broker's parts when the page is asked for: nobody counts for its sake.
//!
//! Plain data: whoever knows the parts fills it in.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::duration::Durations;

/// One look at everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readings {
    pub version: &'static str,
    pub draining: bool,
    pub certificate_expires: Option<SystemTime>,
    pub memory_pressure: u8,
    pub store_bytes: u64,
    pub store_poisoned: bool,
    /// When it is on a disk.
    pub store: Option<Store>,
    pub streams: u32,
    pub slots: Slots,
    pub pool: Pool,
    /// How many tenants there are in each state.
    pub tenants: Vec<(&'static str, u64)>,
    /// Those that have a label, and `other`.
    pub by_tenant: Vec<Tenant>,
    /// By how much quotas' counts differ from a recount.
    pub drift: u64,
}

/// A store on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    pub groups: u64,
    pub entries: u64,
    pub written: u64,
    pub syncs: Arc<Durations>,
    pub free: u64,
    pub reserve: u64,
    pub checkpoint_age: Duration,
    pub put_off: u64,
}

/// The bounds on what runs at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slots {
    pub running: u32,
    pub waiting: usize,
    pub max: u32,
}

/// The threads for blocking recipes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pool {
    pub threads: usize,
    pub running: usize,
    pub queued: usize,
}

/// One tenant, or all that have no label.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub label: Arc<str>,
    pub succeeded: u64,
    pub failed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub throttles: u64,
    pub throttled: Duration,
    /// Quantiles, when it was busy lately.
    pub latencies: Vec<(&'static str, Duration)>,
    pub quotas: Vec<Quota>,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub name: &'static str,
    /// 1 is all.
    pub utilisation: f64,
    pub level: u8,
}
