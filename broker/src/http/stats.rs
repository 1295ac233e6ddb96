//! What became of items since the process started.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Named, Query},
    figures::{self, Figures, Params},
    problem::Answer,
};
use crate::tenancy::{StatsSnapshot, Tenant};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(one)).routes(routes!(all))
}

/// What became of the items of a tenant, since the process started.
#[derive(Debug, Serialize, ToSchema)]
struct Stats {
    /// The tenant.
    tenant_id: String,
    #[serde(flatten)]
    counts: Counts,
}

/// What became of items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatsCounts)]
struct Counts {
    /// Items that ended well.
    items_succeeded: u64,
    /// Items that failed.
    items_failed: u64,
    /// Why they did, by the name of the code.
    failures: BTreeMap<&'static str, u64>,
    /// Payload bytes that came in.
    bytes_in: u64,
    /// Payload bytes that went out.
    bytes_out: u64,
    /// Time from an item's arrival to its answer, to two digits. Of a tenant only while it is among
    /// the busiest; all 0 otherwise.
    latency_us: Latency,
}

/// Quantiles of latencies, in microseconds.
#[derive(Debug, Serialize, ToSchema)]
struct Latency {
    /// Half of the items took no longer.
    p50: u64,
    /// 90 % took no longer.
    p90: u64,
    /// 99 % took no longer.
    p99: u64,
    /// 99.9 % took no longer.
    p999: u64,
    /// None took longer.
    max: u64,
    /// How many items these are.
    count: u64,
}

impl From<StatsSnapshot> for Counts {
    fn from(s: StatsSnapshot) -> Self {
        let q = s.latency_us;
        Counts {
            items_succeeded: s.items_succeeded,
            items_failed: s.items_failed,
            failures: s.failures,
            bytes_in: s.bytes_in,
            bytes_out: s.bytes_out,
            latency_us: Latency {
                p50: q.p50,
                p90: q.p90,
                p99: q.p99,
                p999: q.p999,
                max: q.max,
                count: q.count,
            },
        }
    }
}

impl From<&Tenant> for Stats {
    fn from(tenant: &Tenant) -> Self {
        Stats { tenant_id: tenant.id().to_string(), counts: tenant.stats().into() }
    }
}

impl Figures for Stats {
    fn tenant_id(&self) -> &str {
        &self.tenant_id
    }
}

/// What became of a tenant's items
///
/// Since the process started.
#[utoipa::path(get, path = "/api/v1/tenants/{id}/stats", tag = "quotas",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "Its statistics", body = Stats)))]
async fn one(api: State<Api>, id: Named) -> Answer<Json<Stats>> {
    figures::one(api, id).await
}

/// The statistics of all, and a page of those of each.
#[derive(Debug, Serialize, ToSchema)]
struct AllStats {
    /// Of all tenants together, those that are gone among them.
    total: Counts,
    /// Of each tenant on this page.
    items: Vec<Stats>,
    /// Where the next page begins. Null on the last one.
    next_cursor: Option<String>,
}

/// What became of all tenants' items
///
/// Since the process started: of all together, and of each in pages, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/stats", tag = "quotas", params(Params),
    responses((status = 200, description = "A page of statistics", body = AllStats)))]
async fn all(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<AllStats>> {
    let page = figures::page(&api, &params)?;
    let total = api.services.tenants.stats().into();
    Ok(Json(AllStats { total, items: page.items, next_cursor: page.next_cursor }))
}
