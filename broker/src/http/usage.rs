//! What tenants use of their quotas.

use std::time::{Instant, SystemTime};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::Named,
    problem::{Answer, Problem},
    time::rfc3339,
};
use crate::tenancy::{Tenant, UsageLine};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(one))
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
            level: match percent {
                95.0.. => "critical",
                80.0.. => "warning",
                _ => "normal",
            },
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
