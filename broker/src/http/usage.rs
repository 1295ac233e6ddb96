//! What tenants use of their quotas.

use std::time::{Instant, SystemTime};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Named, Query},
    figures::{self, Figures, Params},
    problem::Answer,
    time::rfc3339,
};
use crate::tenancy::{Quota, Tenant, UsageLine};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(one)).routes(routes!(all))
}

/// What a tenant uses of its quotas.
#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    /// The tenant.
    tenant_id: String,
    /// When this was.
    #[schema(format = DateTime)]
    at: String,
    /// A line a quota.
    quotas: Vec<Line>,
}

/// What is used of one quota.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageLine)]
struct Line {
    /// The quota's name.
    quota: &'static str,
    /// What is used now, in the quota's unit. Rates: in the current window.
    current: u64,
    /// What is allowed; -1 when there is no limit.
    limit: i64,
    /// How much of the limit that is.
    utilisation_percent: f64,
    /// `normal`; `warning` from `tenancy.alerts.warning_percent` on, 80 %; `critical` from
    /// `tenancy.alerts.critical_percent` on, 95 %.
    level: &'static str,
}

impl From<UsageLine> for Line {
    fn from(line: UsageLine) -> Self {
        let percent = line.utilisation();
        Line {
            quota: line.quota.name(),
            current: line.current,
            limit: line.limit.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
            utilisation_percent: (percent * 100.0).round() / 100.0,
            level: line.level.name(),
        }
    }
}

impl From<&Tenant> for Usage {
    fn from(tenant: &Tenant) -> Self {
        Usage {
            tenant_id: tenant.id().to_string(),
            at: rfc3339(SystemTime::now()),
            quotas: tenant.usage(Instant::now()).into_iter().map(Line::from).collect(),
        }
    }
}

impl Figures for Usage {
    fn tenant_id(&self) -> &str {
        &self.tenant_id
    }
}

/// What a tenant uses of its quotas
#[utoipa::path(get, path = "/api/v1/tenants/{id}/usage", tag = "quotas",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "A line a quota", body = Usage)))]
async fn one(api: State<Api>, id: Named) -> Answer<Json<Usage>> {
    figures::one(api, id).await
}

/// What all tenants use together of a quota.
#[derive(Debug, Serialize, ToSchema)]
struct Total {
    /// The quota's name.
    quota: &'static str,
    /// What is used now, in the quota's unit.
    current: u64,
}

/// What tenants use of their quotas.
#[derive(Debug, Serialize, ToSchema)]
struct AllUsage {
    /// When this was.
    #[schema(format = DateTime)]
    at: String,
    /// What all tenants use together, whatever page this is.
    total: Vec<Total>,
    /// What each tenant on this page uses.
    items: Vec<Usage>,
    /// Where the next page begins. Null on the last one.
    next_cursor: Option<String>,
}

/// What all tenants use of their quotas
///
/// All together, and each in pages, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/usage", tag = "quotas", params(Params),
    responses((status = 200, description = "A page of usage", body = AllUsage)))]
async fn all(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<AllUsage>> {
    let page = figures::page(&api, &params)?;
    // On this thread, which is not the engine's; others have their turn in between.
    let used = api.services.tenants.used_by_all().await;
    let total = Quota::ALL.iter().zip(used);
    Ok(Json(AllUsage {
        at: rfc3339(SystemTime::now()),
        total: total.map(|(quota, current)| Total { quota: quota.name(), current }).collect(),
        items: page.items,
        next_cursor: page.next_cursor,
    }))
}
