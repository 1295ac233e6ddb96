//! Workers: services outside of this process that run recipes, and the fair turns in which they are
//! given work.
//!
//! A worker registers recipes with a credit, is handed calls as leases, and answers each once. Knows
//! no socket: a [`Session`] is what the transport drives. Never reads a payload.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use foldhash::HashSet;
use serde::{Deserialize, Serialize};
use tollgate_protocol::limits::WORK_CREDIT_MAX;

use crate::{
    batch::{Directory, Engine, RECIPES_MAX, Slots},
    events::Events,
    metrics::Metrics,
    store::{Fence, Store, keyed::Keyed},
    tenancy::Registry,
};

mod after;
mod call;
mod dispatch;
mod info;
mod kept;
mod lease;
mod pools;
mod register;
mod session;
mod state;

pub(crate) use info::Standing;
pub use info::WorkerInfo;
pub use kept::RestoreError;
pub(crate) use lease::{Dispatch, Outgoing};
pub(crate) use register::{NotForgotten, Prepared, Registration};
pub(crate) use session::{Answered, Expected, NotLeased, Session, Who, WorkError};

use after::After;
use state::State;

/// The settings of workers, under `[workers]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Items of one tenant that stand in line for the workers of one recipe: 1 024. Beyond it they
    /// wait in their batches, as far as those hold any, for room in the line.
    pub queue_per_tenant_max: usize,
    /// Calls that one worker may take at once: 1 024, at most 65 536. A worker that asks for more
    /// is given this.
    pub credit_max: u32,
    /// Recipes that the workers of one tenant may make known: 256.
    pub recipes_per_tenant_max: usize,
    /// For how long a recipe stays known after its last worker left, in milliseconds: a day.
    pub recipe_ttl_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            queue_per_tenant_max: 1_024,
            credit_max: 1_024,
            recipes_per_tenant_max: 256,
            recipe_ttl_ms: 24 * 3_600 * 1_000,
        }
    }
}

/// A setting that can not be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("workers.{key} = {found}: {why}")]
pub struct BadSetting {
    /// The key, without its section.
    pub key: &'static str,
    /// What it is set to.
    pub found: u64,
    /// What is allowed.
    pub why: &'static str,
}

impl Config {
    /// Finds the first setting that can not be honoured.
    ///
    /// # Errors
    /// [`BadSetting`], naming the key and what is allowed.
    pub fn check(&self) -> Result<(), BadSetting> {
        let queue = self.queue_per_tenant_max as u64;
        let recipes = self.recipes_per_tenant_max as u64;
        let bounds = [
            ("queue_per_tenant_max", queue, 1..=1_000_000, "must be from 1 to 1000000"),
            (
                "credit_max",
                self.credit_max.into(),
                1..=u64::from(WORK_CREDIT_MAX),
                "must be from 1 to 65536",
            ),
            ("recipes_per_tenant_max", recipes, 0..=RECIPES_MAX as u64, "must be from 0 to 4096"),
            ("recipe_ttl_ms", self.recipe_ttl_ms, 0..=TTL_MS_MAX, "must be from 0 to 2592000000"),
        ];
        match bounds.into_iter().find(|(_, found, allowed, _)| !allowed.contains(found)) {
            Some((key, found, _, why)) => Err(BadSetting { key, found, why }),
            None => Ok(()),
        }
    }
}

/// Everything about workers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Inner>);

struct Inner {
    config: Config,
    directory: Directory,
    slots: Slots,
    metrics: Metrics,
    events: Events,
    base: Instant,
    /// Never held while a task is woken, a slot given back or a value of a recipe's dropped: see
    /// [`After`].
    state: Mutex<State>,
    /// Held by whoever keeps something, to the end; none where nothing is kept.
    kept: tokio::sync::Mutex<Option<Keyed>>,
}

impl Workers {
    /// No workers yet, and the recipes that are known from before. Call it once for an engine's
    /// slots.
    ///
    /// # Errors
    /// [`RestoreError`] when they can not be read.
    pub(crate) async fn open(
        config: &Config,
        (store, fence): (&Store, Fence),
        tenants: &Registry,
        engine: &Engine,
        events: Events,
    ) -> Result<Self, RestoreError> {
        let all: HashSet<u32> = tenants.all().iter().map(|tenant| tenant.index()).collect();
        let (keyed, known) = kept::open(store, fence, |index| all.contains(&index)).await?;
        let (directory, slots) = (engine.directory.clone(), engine.slots.clone());
        let metrics = engine.metrics.clone();
        let workers = Workers::new(config, directory, slots, metrics, events);
        workers.know(known);
        *workers.0.kept.lock().await = Some(keyed);
        Ok(workers)
    }

    /// No workers, and nothing is kept of their recipes.
    fn new(
        config: &Config,
        directory: Directory,
        slots: Slots,
        metrics: Metrics,
        events: Events,
    ) -> Self {
        let inner = Inner {
            config: config.clone(),
            directory,
            slots,
            metrics,
            events,
            base: Instant::now(),
            state: Mutex::new(State::new(config.queue_per_tenant_max)),
            kept: tokio::sync::Mutex::new(None),
        };
        let workers = Workers(Arc::new(inner));
        let weak = Arc::downgrade(&workers.0);
        workers.0.slots.on_room(move || {
            if let Some(workers) = Workers::upgrade(&weak) {
                let now = workers.now();
                workers.with(|state, after| workers.dispatch_all(state, now, after));
            }
        });
        workers
    }

    fn upgrade(weak: &Weak<Inner>) -> Option<Workers> {
        weak.upgrade().map(Workers)
    }

    /// Does something with the state; what must not happen under its lock is done after it.
    fn with<R>(&self, run: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = run(&mut state, &mut after);
        drop(state);
        after.happen();
        result
    }

    /// As [`with`](Self::with), where nothing is left to do after it.
    fn look<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        run(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Now {
        let at = Instant::now();
        let since = at.saturating_duration_since(self.0.base);
        Now { at, ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// One reading of the clock: the moment, and nanoseconds since the start.
#[derive(Debug, Clone, Copy)]
struct Now {
    at: Instant,
    ns: u64,
}

impl Now {
    /// For when there is no start any more to count from.
    fn start() -> Self {
        Now { at: Instant::now(), ns: 0 }
    }
}

/// A recipe that nobody serves is kept for 30 days at most.
const TTL_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests;
