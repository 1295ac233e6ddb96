//! What is told about workers: to operators, to metrics.

use std::time::SystemTime;

use super::{Workers, state::State};
use crate::batch::Owner;

/// A worker that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// Its number, which no other worker of this process has or had.
    pub id: u64,
    /// The SPIFFE ID of its certificate.
    pub identity: String,
    /// Whose it is; none serves every tenant.
    pub tenant: Option<String>,
    /// The number of its connection.
    pub connection: u64,
    /// When it came.
    pub since: SystemTime,
    /// What it serves.
    pub recipes: Vec<String>,
    /// Calls it takes at once.
    pub credit: u32,
    /// Calls it has and has not answered.
    pub leased: usize,
    /// Calls it answered well.
    pub answered: u64,
    /// Calls it answered with an error.
    pub failed: u64,
    /// Whether it takes no more.
    pub draining: bool,
}

/// A recipe of workers, and what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecipe {
    /// Its name.
    pub name: String,
    /// Whose it is, by the tenant's index; none is everyone's.
    pub tenant: Option<u32>,
    /// Workers that serve it now.
    pub workers: usize,
    /// Items that wait for them, with those of the recipes that share the line.
    pub waiting: usize,
    /// The mean running time of a call, in microseconds; 0 as long as none is known.
    pub mean_us: u64,
}

/// Sums over all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub workers: u64,
    pub recipes: u64,
    pub waiting: usize,
    pub leased: usize,
    pub dispatched: u64,
    pub answered: u64,
    pub late: u64,
    pub lost: u64,
    pub reports_dropped: u64,
}

impl Workers {
    /// The workers that are connected, the oldest first.
    pub(crate) fn list(&self) -> Vec<WorkerInfo> {
        let mut all = self.with(|state, _| state.list());
        all.sort_unstable_by_key(|w| w.id);
        all
    }

    /// The recipes of workers, by name.
    pub(crate) fn recipes(&self) -> Vec<WorkerRecipe> {
        let mut all = self.with(|state, _| state.known());
        all.sort_unstable_by(|a, b| (&a.name, a.tenant).cmp(&(&b.name, b.tenant)));
        all
    }

    pub(crate) fn counts(&self) -> Counts {
        self.with(|state, _| Counts {
            workers: state.sessions.len() as u64,
            recipes: state.recipes.len() as u64,
            waiting: state.pools.values().map(|p| p.queue.len()).sum(),
            leased: state.sessions.values().map(|s| s.leases.len()).sum(),
            dispatched: state.dispatched,
            answered: state.answered,
            late: state.late,
            lost: state.lost,
            reports_dropped: state.reports_dropped,
        })
    }

    /// Streams of workers, of each tenant that has any.
    pub(crate) fn by_tenant(&self) -> foldhash::HashMap<u32, u64> {
        let mut counts = foldhash::HashMap::default();
        self.with(|state, _| {
            for serving in state.sessions.values() {
                if let Owner::Tenant(tenant) = serving.owner {
                    *counts.entry(tenant).or_default() += 1;
                }
            }
        });
        counts
    }
}

impl State {
    fn list(&self) -> Vec<WorkerInfo> {
        let name = |id: &u32| self.recipes.get(id).map(|known| known.entry.name().to_string());
        let info = |(id, s): (&u64, &super::state::Serving)| WorkerInfo {
            id: *id,
            identity: s.identity.to_string(),
            tenant: s.tenant.clone(),
            connection: s.connection,
            since: s.since,
            recipes: s.recipes.iter().filter_map(name).collect(),
            credit: s.credit,
            leased: s.leases.len(),
            answered: s.answered,
            failed: s.failed,
            draining: s.draining,
        };
        self.sessions.iter().map(info).collect()
    }

    fn known(&self) -> Vec<WorkerRecipe> {
        let info = |known: &super::state::Known| WorkerRecipe {
            name: known.entry.name().to_string(),
            tenant: match known.owner {
                Owner::Everyone => None,
                Owner::Tenant(tenant) => Some(tenant),
            },
            workers: known.serving.len(),
            waiting: self.pools.get(&known.pool).map_or(0, |p| p.queue.len()),
            mean_us: known.mean_ns / 1_000,
        };
        self.recipes.values().map(info).collect()
    }
}
