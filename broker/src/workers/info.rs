//! What is told about workers: to operators, to metrics, to the audit.

use std::time::SystemTime;

use foldhash::HashMap;

use super::{
    Workers,
    state::{RecipeId, Serving, State},
};
use crate::{batch::Owner, metrics::readings};

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
    /// What it serves, in the order in which it was registered.
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

/// How a recipe of workers stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whose it is.
    pub owner: Owner,
    /// Workers that serve it now.
    pub workers: usize,
    /// Items that wait for them.
    pub waiting: usize,
    /// The mean running time of a call, in microseconds; none as long as none is known.
    pub mean_us: Option<u64>,
}

/// What there is now of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that wait.
    pub waiting: usize,
    /// Those that workers have and have not answered.
    pub leased: usize,
}

impl Workers {
    /// The workers that are connected, the oldest first.
    pub(crate) fn list(&self) -> Vec<WorkerInfo> {
        let mut all = self.look(|state| state.list());
        all.sort_unstable_by_key(|w| w.id);
        all
    }

    /// How the recipes of workers stand, by the indexes of their entries. With a tenant, only its
    /// own items count as waiting. An index is another entry's once nobody has its entry: hold the
    /// entries while this is asked.
    pub(crate) fn standings(&self, tenant: Option<u32>) -> HashMap<u32, Standing> {
        self.look(|state| state.standings(tenant))
    }

    /// What there is now of calls.
    pub(crate) fn counts(&self) -> Counts {
        self.look(|state| Counts {
            waiting: state.pools.values().map(|p| p.queue.len()).sum(),
            leased: state.sessions.values().map(|s| s.leases.len()).sum(),
        })
    }

    /// What metrics show.
    pub(crate) fn readings(&self) -> readings::Workers {
        self.look(|state| state.readings())
    }

    /// Streams of workers, of each tenant that has any.
    pub(crate) fn by_tenant(&self) -> HashMap<u32, u64> {
        let mut counts = HashMap::default();
        self.look(|state| {
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
        let name = |id: &RecipeId| Some(self.recipes.get(id)?.entry.name().to_string());
        let info = |(id, s): (&u64, &Serving)| WorkerInfo {
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

    fn standings(&self, tenant: Option<u32>) -> HashMap<u32, Standing> {
        let mut waiting: HashMap<RecipeId, usize> = HashMap::default();
        for (key, class, n) in self.pools.values().flat_map(|pool| pool.queue.classes()) {
            if tenant.is_none_or(|t| t == *key) {
                *waiting.entry(class.recipe).or_default() += n;
            }
        }
        let known = self.recipes.iter().map(|(id, known)| {
            let standing = Standing {
                owner: known.owner,
                workers: known.serving.len(),
                waiting: waiting.get(id).copied().unwrap_or(0),
                mean_us: (known.mean_ns > 0).then_some(known.mean_ns / 1_000),
            };
            (known.entry.index(), standing)
        });
        known.collect()
    }

    fn readings(&self) -> readings::Workers {
        let mut read = readings::Workers {
            dispatches: self.dispatched,
            succeeded: self.succeeded,
            failed: self.failed,
            late: self.late,
            lost: self.lost,
            reports_dropped: self.reports_dropped,
            ..readings::Workers::default()
        };
        for serving in self.sessions.values() {
            match serving.owner {
                Owner::Everyone => read.platform += 1,
                Owner::Tenant(_) => read.tenant += 1,
            }
            if !serving.draining {
                read.credit += u64::from(serving.credit);
            }
            read.leases += serving.leases.len() as u64;
        }
        for (_, class, n) in self.pools.values().flat_map(|pool| pool.queue.classes()) {
            match self.is_served(class.recipe) {
                true => read.waiting += n as u64,
                false => read.unserved += n as u64,
            }
        }
        read
    }
}
