//! HTTP upstreams: recipes from the configuration whose code is a request to a service.
//!
//! Never follows where a service points to, never reads a proxy or a secret from anywhere but the
//! configuration, and never retries: an answer says whether that is safe.

use std::{collections::BTreeMap, sync::Arc};

use tollgate_protocol::describe::RecipeKind;

mod answer;
mod call;
mod config;
mod error;
mod files;
mod gate;
mod headers;
mod ndjson;
mod plan;
mod service;
mod template;
mod tls;

pub use config::{
    Breaker, Encoding, HeaderText, Method, Recipe, Retry, SecretEnv, SecretFile, Upstream,
};
pub use error::{Problem, UpstreamError};
pub use template::BadPath;

use self::{call::Call, service::Service};
use crate::{
    batch::{Catalog, Elsewhere, Group},
    events::Events,
    metrics::readings,
};

/// Every upstream, by name.
pub type Config = BTreeMap<String, Upstream>;

/// Judges what can be judged without reading a file.
///
/// # Errors
/// [`UpstreamError`], for the first that has a fault.
pub fn check(config: &Config) -> Result<(), UpstreamError> {
    plan::plan(config).map(drop)
}

/// Judges everything, the files that are named too, and reaches for no upstream.
///
/// # Errors
/// [`UpstreamError`], for the first that has a fault.
pub fn check_files(config: &Config) -> Result<(), UpstreamError> {
    Upstreams::load(config, &Events::default())?.recipes().map(drop)
}

/// The upstreams of a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Upstreams(Arc<[Arc<Service>]>);

impl Upstreams {
    /// Makes everything ready, and reaches for no upstream.
    ///
    /// # Errors
    /// [`UpstreamError`], for the first that has a fault.
    pub(crate) fn load(config: &Config, events: &Events) -> Result<Upstreams, UpstreamError> {
        let plans = plan::plan(config)?.into_iter();
        let services = plans.map(|plan| Service::new(plan, events.clone()).map(Arc::new));
        Ok(Upstreams(services.collect::<Result<_, _>>()?))
    }

    /// A catalog with the recipes of the upstreams, which go before embedded ones of the same name.
    ///
    /// # Errors
    /// [`UpstreamError`], for the first recipe that has a fault.
    pub(crate) fn extend(&self, catalog: &Catalog) -> Result<Catalog, UpstreamError> {
        if self.0.is_empty() {
            return Ok(catalog.clone());
        }
        let recipes = self.recipes()?;
        for recipe in recipes.iter().filter(|r| catalog.find(r.name()).is_some()) {
            tracing::warn!(recipe = recipe.name(), "an upstream takes the place of this recipe");
        }
        let last = self.0.last().map_or("", |service| &service.plan.name);
        catalog.extended(recipes).map_err(|e| Problem::Recipe(e).at(last, ".recipes"))
    }

    fn recipes(&self) -> Result<Vec<Elsewhere>, UpstreamError> {
        let mut recipes = Vec::new();
        for (index, service) in (0_u32..).zip(self.0.iter()) {
            let plan = &service.plan;
            let group = Group { index, max: plan.config.concurrency_max };
            for (at, recipe) in plan.recipes.iter().enumerate() {
                let wrong = |p: Problem| p.at(&plan.name, format!(".recipes.{}", recipe.name));
                let spec = recipe.spec().map_err(wrong)?;
                let call = Call { service: service.clone(), at, timeout: spec.timeout() };
                let remote = Elsewhere::new(&recipe.name, spec, RecipeKind::Upstream, group, call);
                recipes.push(remote.map_err(|e| wrong(e.into()))?);
            }
        }
        Ok(recipes)
    }

    /// Reads secrets and certificates again. What is under way ends with the old ones.
    ///
    /// # Errors
    /// [`UpstreamError`], for the first that has a fault; then nothing has changed.
    pub(crate) fn reload(&self) -> Result<(), UpstreamError> {
        let read = self.0.iter().map(|service| service.read_again());
        let read = read.collect::<Result<Vec<_>, _>>()?;
        for (service, live) in self.0.iter().zip(read) {
            service.replace(live);
        }
        Ok(())
    }

    /// What metrics show of them.
    pub(crate) fn readings(&self) -> Vec<readings::Upstream> {
        let one = |service: &Arc<Service>| readings::Upstream {
            name: service.plan.name.clone(),
            breaker: service.gate.level(),
            counts: service.gate.counts.clone(),
        };
        self.0.iter().map(one).collect()
    }
}
