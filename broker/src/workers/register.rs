//! Recipes that workers make known: whose a name is, and what counts as the same recipe.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tollgate_protocol::{Code, id::RecipeName, limits::WORK_RECIPES_MAX};

use super::{
    Workers,
    call::Route,
    session::Session,
    state::{Known, RecipeId, SessionId, State},
};
use crate::{
    batch::{CatalogError, Entry, Failure, Handler, Owner, RECIPES_MAX, Spec, entry, parse_schema},
    metrics::OTHER_LABEL,
};

/// A recipe as a worker describes it, not looked at yet.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub name: String,
    pub spec: Spec,
    /// The JSON Schema of its payload, as text.
    pub schema: Option<String>,
}

/// A recipe whose name and spec are in order.
pub(crate) struct Prepared(Entry);

impl Registration {
    /// Checks the name and the spec. A schema takes its time: not for a task that serves others.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, with what is wrong.
    pub(crate) fn prepare(mut self) -> Result<Prepared, Failure> {
        self.spec.schema = self.schema.as_deref().map(parse_schema).transpose()?;
        // It leads nowhere until it is registered.
        let route = Route { workers: Weak::new(), recipe: 0 };
        let entry = entry(&self.name, self.spec, Handler::Remote(Arc::new(route)));
        entry.map(Prepared).map_err(|e| refused(&e))
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
        let name = recipe.0.name().clone();
        let owner = workers.with(|state, _| state.sessions.get(&self.id).map(|s| s.owner));
        let owner = owner.ok_or_else(gone)?;
        let label = match owner {
            Owner::Everyone => workers.0.metrics.items().label(name.as_str()),
            // Tenants choose their names: they must not use the labels up.
            Owner::Tenant(_) => OTHER_LABEL,
        };
        workers.with(|state, after| {
            let number = self.may_register(state, owner, &name)?;
            let known = state.names.get(&(owner, name.clone())).copied();
            let recipe = match known {
                Some(id) => workers.known_again(state, id, recipe.0, label)?,
                None => workers.known_first(state, owner, recipe.0, label),
            };
            state.serve(self.id, recipe, number);
            let pool = state.recipes.get(&recipe).map(|known| known.pool);
            if let Some(pool) = pool {
                workers.dispatch(state, pool, after);
            }
            Ok(number)
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
        if known.entry.spec() == entry.spec() {
            return Ok(id);
        }
        if !known.serving.is_empty() {
            let name = known.entry.name();
            let message = format!(
                "the recipe `{name}` is served with another spec: it can change once those workers \
                 are gone"
            );
            return Err(Failure::new(Code::Conflict, message).detail("recipe", name));
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
            next: 0,
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

    /// Forgets recipes that nobody has served for long and nobody waits for.
    pub(crate) fn forget_old(&self, now: Instant) {
        let ttl = Duration::from_millis(self.0.config.recipe_ttl_ms);
        let old = self.with(|state, _| state.forget_old(now, ttl));
        for (owner, entry) in old {
            self.0.directory.withdraw(owner, &entry);
        }
    }
}

impl State {
    /// A worker serves a recipe: their lines become one.
    fn serve(&mut self, session: SessionId, recipe: RecipeId, number: u32) {
        let Some(known) = self.recipes.get_mut(&recipe) else { return };
        known.serving.push((session, number));
        known.left = None;
        let pool = known.pool;
        let Some(serving) = self.sessions.get_mut(&session) else { return };
        serving.recipes.push(recipe);
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

    fn forget_old(&mut self, now: Instant, ttl: Duration) -> Vec<(Owner, Arc<Entry>)> {
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
            if let Some(known) = self.recipes.remove(&id) {
                self.pools.remove(&known.pool);
                self.names.remove(&(known.owner, known.entry.name().clone()));
                old.push((known.owner, known.entry));
            }
        }
        old
    }
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
