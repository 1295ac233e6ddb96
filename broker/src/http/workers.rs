//! The workers that are connected, and what waits for them.

use std::{collections::HashMap, net::SocketAddr};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::Query,
    page::{self, Page},
    problem::{Answer, Problem},
    time::rfc3339,
};
use crate::workers::WorkerInfo;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A worker: a stream on which a service runs recipes.
#[derive(Debug, Serialize, ToSchema)]
struct Worker {
    /// Its number, never used again by this process.
    id: u64,
    /// The SPIFFE ID of its certificate.
    identity: String,
    /// The tenant that it serves; null for one that serves every tenant.
    tenant: Option<String>,
    /// The number of its connection.
    connection: u64,
    /// Where it comes from, now; null when its connection is just ending.
    address: Option<String>,
    /// Since when it works.
    #[schema(format = DateTime)]
    connected_at: String,
    /// The recipes that it serves, in the order in which it registered them.
    recipes: Vec<String>,
    /// How many calls it takes at once.
    credit: u32,
    /// Calls that it has and has not answered.
    leased: usize,
    /// Calls that it answered well.
    answered: u64,
    /// Calls that it answered with an error.
    failed: u64,
    /// Whether it takes no more, and leaves once it has answered everything.
    draining: bool,
}

impl Worker {
    fn of(w: WorkerInfo, addresses: &HashMap<u64, SocketAddr>) -> Self {
        Worker {
            id: w.id,
            identity: w.identity,
            tenant: w.tenant,
            connection: w.connection,
            address: addresses.get(&w.connection).map(ToString::to_string),
            connected_at: rfc3339(w.since),
            recipes: w.recipes,
            credit: w.credit,
            leased: w.leased,
            answered: w.answered,
            failed: w.failed,
            draining: w.draining,
        }
    }
}

/// All workers together, whatever the page and the filters.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerTotal)]
struct Total {
    /// Workers that are connected.
    workers: u64,
    /// Calls that those which do not drain take at once.
    credit: u64,
    /// Calls that are given and not answered.
    leased: u64,
    /// Items that wait for workers.
    waiting: u64,
    /// Those among them for whose recipe no worker is there.
    waiting_unserved: u64,
}

/// A page of workers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkerPage)]
struct Workers {
    /// All workers together, whatever the page and the filters.
    total: Total,
    /// Those on this page.
    items: Vec<Worker>,
    /// Where the next page begins: pass it as `cursor`. Null on the last page.
    next_cursor: Option<String>,
}

/// Which page of which workers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Only the workers of this tenant's own.
    tenant: Option<String>,
    /// Only those that serve a recipe of this name.
    recipe: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// List the workers that are connected
///
/// The oldest first; `total` is about all of them.
#[utoipa::path(get, path = "/api/v1/workers", tag = "workers", params(Params),
    responses((status = 200, description = "A page of workers", body = Workers)))]
async fn list(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<Workers>> {
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let after = after.map(|a| a.parse::<u64>()).transpose();
    let after = after.map_err(|_| Problem::validation("cursor", "the cursor is another list's"))?;
    let services = &api.services;
    let read = services.workers.readings();
    let wanted = services.workers.list().into_iter().filter(|w| {
        after.is_none_or(|a| w.id > a)
            && params.tenant.as_ref().is_none_or(|t| w.tenant.as_ref() == Some(t))
            && params.recipe.as_ref().is_none_or(|r| w.recipes.contains(r))
    });
    let found: Vec<_> = wanted.take(limit + 1).collect();
    let connections = services.live.list().into_iter();
    let addresses = connections.map(|c| (c.id, c.address)).collect();
    let items = found.into_iter().map(|w| Worker::of(w, &addresses)).collect();
    let page = Page::of(items, limit, |w: &Worker| w.id.to_string());
    let total = Total {
        workers: read.platform + read.tenant,
        credit: read.credit,
        leased: read.leases,
        waiting: read.waiting + read.unserved,
        waiting_unserved: read.unserved,
    };
    Ok(Json(Workers { total, items: page.items, next_cursor: page.next_cursor }))
}
