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
    pub workers: Workers,
    /// The jobs of those tenants that have a label, and `other`.
    pub jobs: Vec<Jobs>,
    /// How many jobs ended in which state.
    pub jobs_ended: Vec<(&'static str, u64)>,
    /// The topics of those tenants that have a label, and `other`.
    pub topics: Vec<Topics>,
    /// Messages that were appended, and delivered.
    pub messages: (u64, u64),
    /// How many tenants there are in each state.
    pub tenants: Vec<(&'static str, u64)>,
    /// Those that have a label, and `other`.
    pub by_tenant: Vec<Tenant>,
    /// The HTTP upstreams, by name.
    pub upstreams: Vec<Upstream>,
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

/// Services that run recipes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Workers {
    /// Those that serve every tenant.
    pub platform: u64,
    /// Those that serve their own.
    pub tenant: u64,
    /// Calls that those which do not drain take at once.
    pub credit: u64,
    /// Calls that are given and not answered.
    pub leases: u64,
    /// Items that wait for workers which are there.
    pub waiting: u64,
    /// Items that wait for a worker to come.
    pub unserved: u64,
    pub dispatches: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub late: u64,
    pub lost: u64,
    pub reports_dropped: u64,
}

/// The jobs of one tenant, or of all that have no label.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    pub label: Arc<str>,
    /// How many in each state.
    pub states: Vec<(&'static str, u64)>,
    pub bytes: u64,
    /// Those among them that wait.
    pub waiting: u64,
}

/// The topics of one tenant, or of all that have no label.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    pub label: Arc<str>,
    pub topics: u64,
    pub partitions: u64,
    pub messages: u64,
    pub bytes: u64,
    pub groups: u64,
    pub lag: u64,
    pub dead: u64,
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

/// One HTTP upstream.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub name: Arc<str>,
    /// 0 closed, 1 half-open, 2 open.
    pub breaker: u8,
    pub counts: Arc<super::Upstream>,
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub name: &'static str,
    /// 1 is all.
    pub utilisation: f64,
    pub level: u8,
}
