//! The recipes that there are: those of the catalog, and those of workers.

use axum::{Extension, Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tollgate_protocol::{
    Code,
    describe::{self, Encoding, RecipeKind},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Caller,
    extract::{Named, Query},
    page::{self, Page},
    problem::{Answer, Document, Problem},
};
use crate::{
    batch::{Entry, Owner},
    workers::{NotForgotten, Standing},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(forget))
}

/// A recipe and what it promises.
#[derive(Debug, Serialize, ToSchema)]
struct Recipe {
    /// Its name.
    name: String,
    /// Where it runs: `embedded`, `upstream` or `worker`.
    kind: &'static str,
    /// How it reads its payload: `json`, `postcard` or `bytes`.
    encoding: &'static str,
    /// For people.
    description: String,
    /// The longest an attempt may run, in milliseconds.
    timeout_ms: u64,
    /// The longest an item waits to be started, in milliseconds.
    queue_timeout_ms: u64,
    /// How long it usually takes, in milliseconds.
    estimated_duration_ms: u64,
    /// How many run at once; null when only the tenant's and the broker's bounds apply.
    concurrency_max: Option<u32>,
    /// Whether it blocks a core while it runs.
    blocking: bool,
    /// Whether running it twice does no more than running it once.
    idempotent: bool,
    /// How often a job of it is tried.
    attempts_max: u32,
    /// The largest payload it takes, in bytes.
    payload_bytes_max: u64,
    /// The largest result it may give, in bytes.
    result_bytes_max: u64,
    /// JSON Schema of its payload.
    #[schema(value_type = Option<Object>)]
    schema: Option<serde_json::Value>,
    /// Whose workers made it known: `tenant` for the tenant's own, `platform` for those of everyone.
    /// Null for a recipe that is not workers'.
    owner: Option<&'static str>,
    /// Workers that serve it now; null for one that is not workers'.
    workers: Option<usize>,
    /// Items that wait for them: of the tenant that is asked about, or of all. Null for a recipe
    /// that is not workers'.
    waiting: Option<usize>,
    /// How long a call of it ran lately, the mean in microseconds. Null as long as none is known,
    /// and to a tenant when the recipe is everyone's.
    mean_duration_us: Option<u64>,
}

impl Recipe {
    fn of(r: &describe::Recipe<'_>, standing: Option<&Standing>, to_tenant: bool) -> Self {
        let is_told = |s: &&Standing| !to_tenant || s.owner != Owner::Everyone;
        Recipe {
            name: r.name.to_owned(),
            kind: match r.kind {
                RecipeKind::Embedded => "embedded",
                RecipeKind::Upstream => "upstream",
                RecipeKind::Worker => "worker",
            },
            encoding: match r.encoding {
                Encoding::Json => "json",
                Encoding::Postcard => "postcard",
                Encoding::Bytes => "bytes",
            },
            description: r.description.to_owned(),
            timeout_ms: r.timeout_ms,
            queue_timeout_ms: r.queue_timeout_ms,
            estimated_duration_ms: r.estimated_duration_ms,
            concurrency_max: Some(r.concurrency_max).filter(|n| *n > 0),
            blocking: r.blocking,
            idempotent: r.idempotent,
            attempts_max: r.attempts_max,
            payload_bytes_max: r.payload_bytes_max,
            result_bytes_max: r.result_bytes_max,
            schema: r.schema.and_then(|s| serde_json::from_str(s).ok()),
            owner: standing.map(|s| match s.owner {
                Owner::Everyone => "platform",
                Owner::Tenant(_) => "tenant",
            }),
            workers: standing.map(|s| s.workers),
            waiting: standing.map(|s| s.waiting),
            mean_duration_us: standing.filter(is_told).and_then(|s| s.mean_us),
        }
    }
}

/// Which page of whose list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// What this tenant can name: the recipes of its own workers too.
    tenant: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// List the recipes
///
/// In the order of their names: what everyone can name, or what one tenant can. A tenant is always
/// told what it can name itself.
#[utoipa::path(get, path = "/api/v1/recipes", tag = "recipes", params(Params),
    responses((status = 200, description = "A page of recipes", body = Page<Recipe>),
        (status = 404, description = "There is no such tenant", body = Document,
            content_type = "application/problem+json")))]
async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(params): Query<Params>,
) -> Answer<Json<Page<Recipe>>> {
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let own = match caller {
        Caller::Tenant { id, .. } => Some(id),
        Caller::Operator | Caller::Other => None,
    };
    let to_tenant = own.is_some();
    let id = match (own, params.tenant) {
        // Whether another tenant exists is not to be found out.
        (Some(own), Some(named)) if own != named => return Err(Problem::no_tenant()),
        (own, named) => own.or(named),
    };
    let tenant = match id {
        Some(id) => Some(api.tenant(&id).ok_or_else(Problem::no_tenant)?.index()),
        None => None,
    };
    let entries = api.services.engine.directory.list(tenant);
    let standings = api.services.workers.standings(tenant);
    let wanted = entries.iter().filter(|e| after.as_deref().is_none_or(|a| e.name().as_str() > a));
    let recipe =
        |e: &std::sync::Arc<Entry>| Recipe::of(&e.describe(), standings.get(&e.index()), to_tenant);
    let items = wanted.take(limit + 1).map(recipe).collect();
    Ok(Json(Page::of(items, limit, |r: &Recipe| r.name.clone())))
}

/// Whose recipe is forgotten.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// The tenant whose own workers made it known; platform workers did without it.
    tenant: Option<String>,
}

/// Forget a recipe of workers
///
/// A recipe stays known for a while after its last worker left, and stands before one of the same name
/// of the platform, an upstream or the broker. This ends that at once.
#[utoipa::path(delete, path = "/api/v1/recipes/{name}", tag = "recipes",
    params(("name" = String, Path, description = "The recipe"), Whose),
    responses((status = 204, description = "It is forgotten"),
        (status = 404, description = "No worker of theirs made it known, or there is no such tenant",
            body = Document, content_type = "application/problem+json"),
        (status = 409, description = "Workers serve it, or items wait for it", body = Document,
            content_type = "application/problem+json")))]
async fn forget(
    State(api): State<Api>,
    Named(name): Named,
    Query(whose): Query<Whose>,
) -> Answer<StatusCode> {
    let owner = match whose.tenant {
        None => Owner::Everyone,
        Some(id) => Owner::Tenant(api.tenant(&id).ok_or_else(Problem::no_tenant)?.index()),
    };
    api.services.workers.forget(owner, &name).await.map_err(|e| {
        let code = match e {
            NotForgotten::Unknown => Code::RecipeNotFound,
            NotForgotten::Served(_) | NotForgotten::Waiting(_) => Code::Conflict,
        };
        Problem::new(code, e.to_string())
    })?;
    Ok(StatusCode::NO_CONTENT)
}
