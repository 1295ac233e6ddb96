//! The audit: what is counted beside what there is, found by looking at it.
//!
//! A permit that was lost, or given back twice, shows as a difference that stays. It repairs
//! nothing: a difference is a defect of the broker, and is told.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use foldhash::HashMap;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tollgate_protocol::id::TenantId;

use super::{quotas::Quota, registry::Registry, tenant::Tenant};
use crate::events::{Events, Kind};

/// A count that is not what was found, at two recounts in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub holder: Holder,
    /// Of what: a quota, or `bytes_in_flight`, or `items_running`.
    pub quota: &'static str,
    /// What is counted.
    pub counted: u64,
    /// What there is.
    pub found: u64,
}

/// Whose a count is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A tenant's.
    Tenant(TenantId),
    /// A gateway's.
    Gateway(String),
}

impl Drift {
    /// By how much the count is wrong.
    pub fn difference(&self) -> u64 {
        self.counted.abs_diff(self.found)
    }

    /// Whether it is the same count that is wrong.
    fn is_of(&self, other: &Drift) -> bool {
        self.holder == other.holder && self.quota == other.quota
    }
}

/// What there is, by looking at it: tenants by their number, gateways by their name.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Connections that are open.
    pub connections: HashMap<u32, u64>,
    /// Batches that are open.
    pub batches: HashMap<u32, u64>,
    /// Streams of tenants' workers.
    pub consumers: HashMap<u32, u64>,
    /// Whether a batch is open that is no one tenant's: it may hold something of any.
    pub mixed_batches: bool,
    /// Items that hold a slot.
    pub items_running: HashMap<u32, u64>,
    /// What the jobs of a tenant hold of `jobs_queued` and `storage_bytes`: counted, and found at the
    /// same moment. None where that changes just now; a tenant that is not here has no jobs.
    pub jobs: HashMap<u32, Option<[(u64, u64); 2]>>,
    /// What the topics of a tenant hold of `storage_bytes`, `topics`, `partitions` and
    /// `consumer_groups`, in the same way.
    pub topics: HashMap<u32, Option<[(u64, u64); 4]>>,
    /// Streams that produce, and streams that consume.
    pub streams: HashMap<u32, (u64, u64)>,
    /// Connections and streams of gateways.
    pub gateways: HashMap<String, (u64, u64)>,
}

/// What the last audit said.
#[derive(Debug, Default)]
pub(super) struct Audited(Mutex<Vec<Drift>>);

impl Registry {
    /// By how much counts differ from what there is, in all; as of the last audit. Not 0 is a
    /// defect.
    pub fn drift(&self) -> u64 {
        self.drifts().iter().map(Drift::difference).sum()
    }

    /// The counts that differ from what there is, as of the last audit.
    pub fn drifts(&self) -> Vec<Drift> {
        self.common().audited.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_drifts(&self, drifts: Vec<Drift>) {
        *self.common().audited.0.lock().unwrap_or_else(PoisonError::into_inner) = drifts;
    }

    /// Compares all counts with what was found just now.
    fn compare(&self, found: &Found) -> Vec<Drift> {
        let mut drifts = Vec::new();
        for tenant in self.in_use() {
            tenant.compare(found, &mut drifts);
        }
        for gateway in self.gateways() {
            let (connections, streams) =
                found.gateways.get(gateway.name()).copied().unwrap_or_default();
            for (quota, found) in [(Quota::Connections, connections), (Quota::Streams, streams)] {
                let counted = gateway.used(quota);
                if counted != found {
                    let holder = Holder::Gateway(gateway.name().to_owned());
                    drifts.push(Drift { holder, quota: quota.name(), counted, found });
                }
            }
        }
        drifts
    }
}

impl Tenant {
    fn compare(&self, all: &Found, drifts: &mut Vec<Drift>) {
        let of = |map: &HashMap<u32, u64>| map.get(&self.index).copied().unwrap_or(0);
        let mut check = |quota, counted, found| {
            if counted != found {
                let holder = Holder::Tenant(self.id.clone());
                drifts.push(Drift { holder, quota, counted, found });
            }
        };
        let batches = of(&all.batches);
        let (producers, consumers) = all.streams.get(&self.index).copied().unwrap_or_default();
        for (quota, found) in [
            (Quota::Connections, of(&all.connections)),
            (Quota::BatchesInFlight, batches),
            (Quota::Producers, producers),
            (Quota::Consumers, of(&all.consumers) + consumers),
        ] {
            check(quota.name(), self.count_of(quota).map_or(0, |c| c.now()), found);
        }
        // Who has none is not listed: then nothing of it may be counted.
        let now = |quota| (self.count_of(quota).map_or(0, |c| c.now()), 0);
        let none = || Some([Quota::JobsQueued, Quota::StorageBytes].map(now));
        let jobs = all.jobs.get(&self.index).copied().unwrap_or_else(none);
        let held = [Quota::StorageBytes, Quota::Topics, Quota::Partitions, Quota::ConsumerGroups];
        let topics = all.topics.get(&self.index).copied().unwrap_or_else(|| Some(held.map(now)));
        if let Some([(counted, found), _]) = jobs {
            check(Quota::JobsQueued.name(), counted, found);
        }
        if let Some([_, (_, of_jobs)]) = jobs
            && let Some([(counted, of_topics), rest @ ..]) = topics
        {
            check(Quota::StorageBytes.name(), counted, of_jobs + of_topics);
            for (quota, (counted, found)) in held[1..].iter().zip(rest) {
                check(quota.name(), counted, found);
            }
        }
        // What items and messages hold ends with their stream at the latest; but attempts of jobs, and
        // of what is bound to a topic, have none.
        let has_jobs = jobs.is_none_or(|[(_, open), _]| open > 0);
        let has_groups = topics.is_none_or(|[.., (_, groups)]| groups > 0);
        let alone = has_jobs || has_groups;
        if batches == 0 && producers == 0 && !all.mixed_batches && !alone {
            check("bytes_in_flight", self.bytes_in_flight() as u64, 0);
            check("items_running", of(&all.items_running), 0);
        }
    }
}

/// Audits again and again; `recount` looks at everything there is. Runs until it is aborted.
pub(crate) async fn watch(
    tenants: Registry,
    events: Events,
    interval_ms: u64,
    recount: impl Fn() -> Found,
) {
    let mut tick = interval(Duration::from_millis(interval_ms.max(INTERVAL_MS_MIN)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Vec::new();
    loop {
        tick.tick().await;
        let look = || tenants.compare(&recount());
        let now = staying(look, || sleep(LOOK_AGAIN)).await;
        let both = now.iter().filter(|d: &&Drift| before.iter().any(|b| d.is_of(b)));
        let drifts: Vec<Drift> = both.cloned().collect();
        let told = tenants.drifts();
        for drift in drifts.iter().filter(|d| !told.iter().any(|t| d.is_of(t))) {
            tell(drift, &events);
        }
        tenants.set_drifts(drifts);
        before = now;
    }
}

/// What differs every time it is looked at: what changes while it is looked at is no difference.
async fn staying<P: Future>(look: impl Fn() -> Vec<Drift>, pause: impl Fn() -> P) -> Vec<Drift> {
    let mut stay = look();
    for _ in 1..LOOKS {
        if stay.is_empty() {
            break;
        }
        pause().await;
        let again = look();
        stay = again.into_iter().filter(|d| stay.iter().any(|s| d.is_of(s))).collect();
    }
    stay
}

fn tell(drift: &Drift, events: &Events) {
    let Drift { holder, quota, counted, found } = drift;
    tracing::error!(?holder, quota, counted, found, "a count differs from what there is");
    let (tenant, scope, gateway) = match holder {
        Holder::Tenant(id) => (Some(id), "tenant", None),
        Holder::Gateway(name) => (None, "gateway", Some(name.clone())),
    };
    let (counted, found) = (*counted, *found);
    events.publish(tenant, Kind::Drift { scope, gateway, quota, counted, found });
}

/// More often costs more than it tells.
const INTERVAL_MS_MIN: u64 = 100;
/// How often a recount looks before it says that something differs.
const LOOKS: usize = 5;
/// How long it waits between.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
