//! What metrics show of the parts that count for themselves: read when the page is asked for.
//!
//! The cost of it is the reader's: one look at each labelled tenant and at those that were active
//! lately, never at all tenants.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use tollgate_certs::{Snapshot, validity};

use super::{Drain, Services};
use crate::{
    config,
    jobs::State as JobState,
    metrics::{
        Format, Readings,
        readings::{
            Jobs as JobsReading, Pool, Quota as QuotaReading, Slots, Store as StoreReading,
            Tenant as TenantReading, Topics as TopicsReading,
        },
    },
    store,
    tenancy::{Bounds, Quantiles, Quota, Row, Tenant},
};

/// The bounds of statistics, as configured.
pub(super) fn bounds(config: &config::Metrics) -> Bounds {
    Bounds {
        labels_max: config.tenant_labels_max,
        pinned: config.tenants_pinned.iter().cloned().collect(),
        latencies_max: config.tenant_latencies_max,
    }
}

impl Services {
    /// Every metric as text.
    pub(crate) fn metrics_page(&self, format: Format) -> String {
        self.metrics.render(self.readings(), format)
    }

    fn readings(&self) -> Readings {
        let (slots, pool) = (&self.engine.slots, self.engine.pool.stats());
        let trust = self.trust.borrow().clone();
        let (active, suspended) = self.tenants.states();
        Readings {
            version: env!("CARGO_PKG_VERSION"),
            draining: *self.drain.borrow() != Drain::No,
            certificate_expires: expires(&trust),
            memory_pressure: self.memory.pressure() as u8,
            store_bytes: self.store.system().bytes(),
            // Ready once it has failed, and only then.
            store_poisoned: self.store.failed().now_or_never().is_some(),
            store: self.store.look().as_ref().map(stored),
            streams: self.live.streams(),
            slots: Slots {
                running: slots.running(),
                waiting: slots.waiting(),
                max: self.engine.config.concurrency_max,
            },
            pool: Pool {
                threads: self.engine.pool.threads(),
                running: pool.running,
                queued: pool.queued,
            },
            workers: self.workers.readings(),
            jobs: self.jobs_by_tenant(),
            jobs_ended: self.jobs_ended(),
            topics: self.topics_by_tenant(),
            messages: {
                let tallies = self.topics.tallies();
                (tallies.appended_count(), tallies.delivered_count())
            },
            tenants: vec![("active", active as u64), ("suspended", suspended as u64)],
            by_tenant: self.by_tenant(),
            upstreams: self.upstreams.readings(),
            drift: self.tenants.drift(),
        }
    }

    /// Whoever has jobs is active: a label is theirs as long as there are any.
    fn jobs_by_tenant(&self) -> Vec<JobsReading> {
        let book = self.tenants.book();
        let mut all: BTreeMap<Arc<str>, ([u64; 7], u64)> = BTreeMap::new();
        for (tenant, counts, bytes) in self.jobs.by_tenant() {
            let sum = all.entry(book.label_of(&tenant)).or_default();
            sum.0.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            sum.1 += bytes;
        }
        let reading = |(label, (counts, bytes)): (Arc<str>, ([u64; 7], u64))| {
            let states = JobState::ALL.map(JobState::name).into_iter().zip(counts).collect();
            let waits = [JobState::Queued, JobState::Retrying];
            let waiting = waits.iter().map(|s| counts[usize::from(s.number())]).sum();
            JobsReading { label, states, bytes, waiting }
        };
        all.into_iter().map(reading).collect()
    }

    /// Whoever has topics is active, too.
    fn topics_by_tenant(&self) -> Vec<TopicsReading> {
        let book = self.tenants.book();
        let mut all: BTreeMap<Arc<str>, TopicsReading> = BTreeMap::new();
        for (tenant, amounts) in self.topics.by_tenant() {
            let label = book.label_of(&tenant);
            let sum = all.entry(label.clone()).or_default();
            sum.label = label;
            sum.topics += amounts.topics;
            sum.partitions += amounts.partitions;
            sum.messages += amounts.messages;
            sum.bytes += amounts.bytes;
            sum.groups += amounts.groups;
            sum.lag += amounts.lag;
            sum.dead += amounts.dead;
        }
        all.into_values().collect()
    }

    fn jobs_ended(&self) -> Vec<(&'static str, u64)> {
        let tallies = self.jobs.tallies();
        let over = JobState::ALL.into_iter().filter(|state| state.is_over());
        over.map(|state| (state.name(), tallies.count(state))).collect()
    }

    fn by_tenant(&self) -> Vec<TenantReading> {
        let now = Instant::now();
        let rows = self.tenants.book().rows();
        let others = self.tenants.book().busy_without_label();
        rows.into_iter()
            .map(|row| {
                let quotas = match &row.tenant {
                    Some(tenant) => quotas(tenant, now),
                    None => most(&others, now),
                };
                reading(row, quotas)
            })
            .collect()
    }
}

fn expires(trust: &Snapshot) -> Option<SystemTime> {
    let leaf = trust.server.chain().first()?;
    validity(leaf).ok().map(|v| v.not_after)
}

fn stored(store: &store::Look) -> StoreReading {
    let stats = &store.stats;
    StoreReading {
        groups: stats.groups.load(Relaxed),
        entries: stats.entries.load(Relaxed),
        written: stats.bytes.load(Relaxed),
        syncs: stats.syncs.clone(),
        free: store.free,
        reserve: store.reserve,
        checkpoint_age: stats.checkpoint_age(),
        put_off: stats.put_off.load(Relaxed),
    }
}

fn reading(row: Row, quotas: Vec<QuotaReading>) -> TenantReading {
    let Quantiles { p50, p99, p999, count, .. } = row.latency_us;
    let latencies = match count {
        0 => Vec::new(),
        _ => vec![("0.5", p50), ("0.99", p99), ("0.999", p999)],
    };
    TenantReading {
        label: row.label,
        succeeded: row.succeeded,
        failed: row.failed,
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        throttles: row.throttles,
        throttled: row.throttled,
        latencies: latencies.into_iter().map(|(q, us)| (q, Duration::from_micros(us))).collect(),
        quotas,
    }
}

/// How much of its quotas a tenant uses: of those that are always in use, and of what else it uses.
fn quotas(tenant: &Tenant, now: Instant) -> Vec<QuotaReading> {
    let lines = tenant.usage(now).into_iter();
    let shown = lines.filter(|line| ALWAYS_SHOWN.contains(&line.quota) || line.current > 0);
    shown
        .map(|line| {
            let percent = line.utilisation();
            let (name, level) = (line.quota.name(), line.level as u8);
            QuotaReading { name, utilisation: percent / 100.0, level }
        })
        .collect()
}

/// The most that any of these tenants uses of each quota.
fn most(tenants: &[Arc<Tenant>], now: Instant) -> Vec<QuotaReading> {
    let mut most: Vec<QuotaReading> = Vec::new();
    for one in tenants.iter().flat_map(|tenant| quotas(tenant, now)) {
        match most.iter_mut().find(|m| m.name == one.name) {
            Some(m) if m.utilisation >= one.utilisation => {}
            Some(m) => *m = one,
            None => most.push(one),
        }
    }
    most
}

const ALWAYS_SHOWN: [Quota; 4] =
    [Quota::Connections, Quota::BatchesInFlight, Quota::RequestsPerSecond, Quota::BytesPerSecond];
