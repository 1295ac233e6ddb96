//! Recipes that workers make known: whose a name is, and what counts as the same recipe.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Code, Frame,
    id::RecipeName,
    limits::WORK_RECIPES_MAX,
    work::{RecipeSpec, WorkerFrame},
};

use super::{
    Workers,
    call::Route,
    session::Session,
    state::{Known, RecipeId, SessionId, State},
};
use crate::{
    batch::{
        CatalogError, Entry, Failure, Handler, Owner, RECIPES_MAX, Retry, Spec, check_frugal,
        entry, parse_schema,
    },
    metrics::OTHER_LABEL,
};

/// A recipe as a worker describes it, not looked at yet.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub name: String,
    pub spec: Spec,
    /// The JSON Schema of its payload, as text.
    pub schema: Option<String>,
    /// The frame that said so.
    pub wire: Vec<u8>,
}

/// A recipe whose name and spec are in order.
pub(crate) struct Prepared {
    entry: Entry,
    wire: Vec<u8>,
}

impl Prepared {
    pub(super) fn name(&self) -> &RecipeName {
        self.entry.name()
    }

    /// The frame that described it.
    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }
}

impl Registration {
    /// What a worker says of a recipe.
    pub(crate) fn of(s: &RecipeSpec<'_>) -> Registration {
        let defaults = Spec::default();
        let ms = Duration::from_millis;
        let bytes = |n: Option<u64>, default| {
            n.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let spec = Spec {
            encoding: s.encoding,
            timeout: s.timeout_ms.map(ms),
            queue_timeout: s.queue_timeout_ms.map_or(defaults.queue_timeout, ms),
            estimated_duration: ms(s.estimated_duration_ms),
            concurrency_max: s.concurrency_max,
            blocking: false,
            inline_bytes_max: None,
            retry: Retry {
                attempts_max: s.attempts_max,
                first: ms(s.retry_first_ms),
                factor: f64::from(s.retry_factor_percent) / 100.0,
                cap: ms(s.retry_cap_ms),
            },
            idempotent: s.idempotent,
            payload_bytes_max: bytes(s.payload_bytes_max, defaults.payload_bytes_max),
            result_bytes_max: bytes(s.result_bytes_max, defaults.result_bytes_max),
            schema: None,
            description: s.description.to_owned(),
        };
        let mut wire = Vec::new();
        WorkerFrame::Register(*s).put_body(&mut wire);
        let (name, schema) = (s.name.to_owned(), s.schema.map(str::to_owned));
        Registration { name, spec, schema, wire }
    }

    /// Checks the name and the spec. A schema takes its time: not for a task that serves others.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, with what is wrong.
    pub(crate) fn prepare(mut self, owner: Owner) -> Result<Prepared, Failure> {
        if let Some(text) = &self.schema {
            let schema = parse_schema(text)?;
            if matches!(owner, Owner::Tenant(_)) {
                check_frugal(text, &schema)?;
            }
            self.spec.schema = Some(schema);
        }
        // It leads nowhere until it is registered.
        let route = Route { workers: Weak::new(), recipe: 0 };
        let entry = entry(&self.name, self.spec, Handler::Remote(Arc::new(route)));
        let wire = self.wire;
        entry.map(|entry| Prepared { entry, wire }).map_err(|e| refused(&e))
    }
}

impl Session {
    /// Serves a recipe from now on; its number on this worker's stream.
    ///
    /// # Errors
    /// `CONFLICT` when other workers serve it with another spec, `QUOTA_EXCEEDED` when there are
    /// too many recipes.
    pub(crate) fn register(&self, recipe: Prepared) -> Result<u32, Failure> {
        let workers = &self.workers;
        let name = recipe.name().clone();
        let owner = workers.look(|state| state.sessions.get(&self.id).map(|s| s.owner));
        let owner = owner.ok_or_else(gone)?;
        let label = workers.label(owner, &name);
        workers.with(|state, after| {
            let number = self.may_register(state, owner, &name)?;
            let known = state.names.get(&(owner, name.clone())).copied();
            let recipe = match known {
                Some(id) => workers.known_again(state, id, recipe.entry, label)?,
                None => workers.known_first(state, owner, recipe.entry, label),
            };
            state.serve(self.id, recipe, number);
            let pool = state.recipes.get(&recipe).map(|known| known.pool);
            if let Some(pool) = pool {
                workers.dispatch(state, pool, workers.now(), after);
            }
            Ok(number)
        })
    }

    /// Whether a recipe that may be registered is to be kept first.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub(crate) fn is_news(&self, recipe: &Prepared) -> Result<bool, Failure> {
        self.workers.look(|state| {
            self.may_register(state, self.owner(), recipe.name())?;
            let known = state.names.get(&(self.owner(), recipe.name().clone()));
            match known.and_then(|id| state.recipes.get(id)) {
                None => Ok(true),
                Some(known) => known.may_become(&recipe.entry),
            }
        })
    }

    /// What can be said against another recipe of this worker; its number, if nothing.
    fn may_register(&self, state: &State, owner: Owner, name: &RecipeName) -> Result<u32, Failure> {
        let serving = state.sessions.get(&self.id).ok_or_else(gone)?;
        if serving.recipes.len() >= WORK_RECIPES_MAX {
            return Err(too_many("a stream", WORK_RECIPES_MAX, None));
        }
        let Some(id) = state.names.get(&(owner, name.clone())) else {
            let of_owner = state.names.keys().filter(|(o, _)| *o == owner).count();
            let config = &self.workers.0.config;
            if matches!(owner, Owner::Tenant(_)) && of_owner >= config.recipes_per_tenant_max {
                let key = Some("workers.recipes_per_tenant_max");
                return Err(too_many("a tenant", config.recipes_per_tenant_max, key));
            }
            if of_owner >= RECIPES_MAX {
                return Err(too_many("a broker", RECIPES_MAX, None));
            }
            return Ok(serving.recipes.len() as u32);
        };
        if serving.recipes.contains(id) {
            let message = format!("the recipe `{name}` is registered twice on this stream");
            return Err(Failure::new(Code::Conflict, message).detail("recipe", name));
        }
        Ok(serving.recipes.len() as u32)
    }
}

impl Workers {
    /// A recipe that is known gets one more worker, or its first again.
    fn known_again(
        &self,
        state: &mut State,
        id: RecipeId,
        mut entry: Entry,
        label: u32,
    ) -> Result<RecipeId, Failure> {
        let Some(known) = state.recipes.get_mut(&id) else { return Err(gone()) };
        if !known.may_become(&entry)? {
            return Ok(id);
        }
        entry.handler = self.route(id);
        known.entry = self.0.directory.publish(known.owner, entry, label);
        Ok(id)
    }

    fn known_first(
        &self,
        state: &mut State,
        owner: Owner,
        mut entry: Entry,
        label: u32,
    ) -> RecipeId {
        let id = state.number();
        let pool = state.pool();
        entry.handler = self.route(id);
        let entry = self.0.directory.publish(owner, entry, label);
        state.names.insert((owner, entry.name().clone()), id);
        let known = Known {
            owner,
            entry,
            pool,
            serving: Vec::new(),
            ready: Default::default(),
            mean_ns: 0,
            blocked: Default::default(),
            left: None,
        };
        state.recipes.insert(id, known);
        if let Some(pool) = state.pools.get_mut(&pool) {
            pool.recipes.push(id);
        }
        id
    }

    fn route(&self, recipe: RecipeId) -> Handler {
        Handler::Remote(Arc::new(Route { workers: Arc::downgrade(&self.0), recipe }))
    }

    /// Makes recipes known that were before the start; nobody serves them yet.
    pub(super) fn know(&self, all: Vec<(Owner, Registration)>) {
        let now = Instant::now();
        for (owner, registration) in all {
            let name = registration.name.clone();
            // A newer program may be stricter; its worker is told when it comes.
            let Ok(recipe) = registration.prepare(owner) else {
                tracing::warn!(recipe = name, "a recipe that was known is not in order any more");
                continue;
            };
            let label = self.label(owner, recipe.name());
            self.look(|state| {
                let id = self.known_first(state, owner, recipe.entry, label);
                if let Some(known) = state.recipes.get_mut(&id) {
                    known.left = Some(now);
                }
            });
        }
    }

    fn label(&self, owner: Owner, name: &RecipeName) -> u32 {
        match owner {
            Owner::Everyone => self.0.metrics.items().label(name.as_str()),
            // Tenants choose their names: they must not use the labels up.
            Owner::Tenant(_) => OTHER_LABEL,
        }
    }

    /// Forgets a recipe that nobody serves or waits for, before its time.
    ///
    /// # Errors
    /// [`NotForgotten`].
    pub(crate) async fn forget(&self, owner: Owner, name: &str) -> Result<(), NotForgotten> {
        let name = RecipeName::parse(name).map_err(|_| NotForgotten::Unknown)?;
        let known = self.look(|state| state.forget(owner, name))?;
        self.0.directory.withdraw(known.owner, &known.entry);
        self.unkeep(&known).await;
        Ok(())
    }

    /// Forgets recipes that nobody has served for long and nobody waits for.
    pub(crate) async fn forget_old(&self, now: Instant) {
        let ttl = Duration::from_millis(self.0.config.recipe_ttl_ms);
        let old = self.look(|state| state.forget_old(now, ttl));
        for known in old {
            self.0.directory.withdraw(known.owner, &known.entry);
            self.unkeep(&known).await;
        }
    }
}

impl Known {
    /// Whether its spec would change; it can only while nobody serves it.
    fn may_become(&self, entry: &Entry) -> Result<bool, Failure> {
        let changes = self.entry.spec() != entry.spec();
        if !changes || self.serving.is_empty() {
            return Ok(changes);
        }
        let name = self.entry.name();
        let message = format!(
            "the recipe `{name}` is served with another spec: it can change once those workers are \
             gone"
        );
        Err(Failure::new(Code::Conflict, message).detail("recipe", name))
    }
}

impl State {
    /// A worker serves a recipe: their lines become one.
    fn serve(&mut self, session: SessionId, recipe: RecipeId, number: u32) {
        let Some(known) = self.recipes.get_mut(&recipe) else { return };
        known.serving.push((session, number));
        known.ready.push_back((session, number));
        known.left = None;
        let pool = known.pool;
        let Some(serving) = self.sessions.get_mut(&session) else { return };
        serving.recipes.push(recipe);
        serving.listed.push(true);
        match serving.pool {
            Some(own) => {
                self.merge(own, pool);
            }
            None => {
                serving.pool = Some(pool);
                let free = serving.free();
                if let Some(pool) = self.pools.get_mut(&pool) {
                    pool.sessions.push(session);
                    pool.free += free;
                }
            }
        }
    }

    fn forget(&mut self, owner: Owner, name: RecipeName) -> Result<Known, NotForgotten> {
        let id = *self.names.get(&(owner, name)).ok_or(NotForgotten::Unknown)?;
        let known = self.recipes.get(&id).ok_or(NotForgotten::Unknown)?;
        if !known.serving.is_empty() {
            return Err(NotForgotten::Served(known.serving.len()));
        }
        // One that nobody serves has a line of its own.
        let waiting = self.pools.get(&known.pool).map_or(0, |pool| pool.queue.len());
        if waiting > 0 {
            return Err(NotForgotten::Waiting(waiting));
        }
        self.forget_now(id).ok_or(NotForgotten::Unknown)
    }

    fn forget_now(&mut self, id: RecipeId) -> Option<Known> {
        let known = self.recipes.remove(&id)?;
        self.pools.remove(&known.pool);
        self.names.remove(&(known.owner, known.entry.name().clone()));
        Some(known)
    }

    fn forget_old(&mut self, now: Instant, ttl: Duration) -> Vec<Known> {
        let mut old = Vec::new();
        let ids: Vec<_> = self.recipes.keys().copied().collect();
        for id in ids {
            let Some(known) = self.recipes.get(&id) else { continue };
            let late = known.left.is_some_and(|at| now.saturating_duration_since(at) >= ttl);
            // One that nobody serves has a line of its own.
            let waits = self.pools.get(&known.pool).is_some_and(|p| !p.queue.is_empty());
            if !late || waits || !known.serving.is_empty() {
                continue;
            }
            old.extend(self.forget_now(id));
        }
        old
    }
}

/// Why a recipe is not forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotForgotten {
    #[error("no worker has made this recipe known")]
    Unknown,
    #[error("{0} workers serve it: drain them first")]
    Served(usize),
    #[error(
        "{0} items wait for it: they end within its queue time-out, jobs when they are cancelled"
    )]
    Waiting(usize),
}

fn refused(e: &CatalogError) -> Failure {
    Failure::validation("recipe", e.to_string())
}

fn too_many(whose: &str, max: usize, key: Option<&str>) -> Failure {
    let message = format!("{whose} may have {max} recipes of workers");
    let failure = Failure::new(Code::QuotaExceeded, message).detail("limit", max);
    match key {
        Some(key) => failure.detail("config_key", key),
        None => failure,
    }
}

fn gone() -> Failure {
    Failure::new(Code::InternalError, "the worker is not known any more")
}
