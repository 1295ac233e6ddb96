//! The recipes that there are.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tollgate_protocol::describe::{self, Encoding, RecipeKind};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::Query,
    page::{self, Page},
    problem::Answer,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
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
}

impl From<describe::Recipe<'_>> for Recipe {
    fn from(r: describe::Recipe<'_>) -> Self {
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
        }
    }
}

/// Which page of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// List the recipes
///
/// In the order of their names.
#[utoipa::path(get, path = "/api/v1/recipes", tag = "recipes", params(Params),
    responses((status = 200, description = "A page of recipes", body = Page<Recipe>)))]
async fn list(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<Page<Recipe>>> {
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let entries = api.services.engine.catalog.iter();
    let entries = entries.filter(|e| after.as_deref().is_none_or(|a| e.name().as_str() > a));
    let items = entries.take(limit + 1).map(|e| e.describe().into()).collect();
    Ok(Json(Page::of(items, limit, |r: &Recipe| r.name.clone())))
}
