//! What tenants use of their quotas.

use std::time::{Instant, SystemTime};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Named, Query},
    page,
    problem::{Answer, Problem},
    tenants,
    time::rfc3339,
};
use crate::tenancy::{Filter, Quota, Tenant, UsageLine};

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
    /// `normal`; `warning` from 80 %; `critical` from 95 %.
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

/// What a tenant uses of its quotas
#[utoipa::path(get, path = "/api/v1/tenants/{id}/usage", tag = "quotas",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "A line a quota", body = Usage)))]
async fn one(State(api): State<Api>, Named(id): Named) -> Answer<Json<Usage>> {
    let tenant = api.tenant(&id).ok_or_else(Problem::no_tenant)?;
    Ok(Json(Usage::from(&*tenant)))
}

/// Which page of tenants.
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

/// What all tenants on a page use together of a quota.
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
    /// What the tenants on this page use together.
    total: Vec<Total>,
    /// What each of them uses.
    items: Vec<Usage>,
    /// Where the next page begins. Null on the last one.
    next_cursor: Option<String>,
}

/// What all tenants use of their quotas
///
/// In pages, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/usage", tag = "quotas", params(Params),
    responses((status = 200, description = "A page of usage", body = AllUsage)))]
async fn all(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<AllUsage>> {
    let limit = page::limit(params.limit)?;
    let after = tenants::after(params.cursor.as_deref())?;
    let tenants = api.services.tenants.page(after.as_ref(), limit + 1, Filter::default());
    let items = tenants.iter().map(|t| Usage::from(&**t)).collect();
    let page = page::Page::of(items, limit, |u: &Usage| u.tenant_id.clone());
    let used = |quota: &Quota| {
        let lines = page.items.iter().flat_map(|usage| &usage.quotas);
        let of_it = lines.filter(|line| line.quota == quota.name());
        Total { quota: quota.name(), current: of_it.map(|line| line.current).sum() }
    };
    Ok(Json(AllUsage {
        at: rfc3339(SystemTime::now()),
        total: Quota::ALL.iter().map(used).collect(),
        items: page.items,
        next_cursor: page.next_cursor,
    }))
}
