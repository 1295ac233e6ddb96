//! Tenants: who may use the broker, and how much. Changes are kept before they are answered.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tollgate_protocol::id::TenantId;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Named, Query},
    page::{self, Page},
    problem::{Answer, Problem},
    quotas::{AllQuotas, SomeQuotas},
    time::rfc3339,
};
use crate::tenancy::{self, Filter, Overrides, Quotas, Tenant as Known};

mod change;
mod create;
mod delete;
mod patch;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, change::patch, delete::delete))
        .routes(routes!(change::suspend))
        .routes(routes!(change::activate))
        .routes(routes!(change::concurrency))
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
struct Tenant {
    /// Its id.
    id: String,
    /// For people.
    name: String,
    /// Whether it may do anything.
    state: Standing,
    /// The profile that its quotas come from.
    profile: String,
    /// What it may use: its profile's quotas, with its own over them.
    #[schema(value_type = AllQuotas)]
    quotas: Quotas,
    /// The quotas that it has its own way, whatever the profile says.
    #[schema(value_type = SomeQuotas)]
    overrides: Overrides,
    /// What happens to items beyond a rate.
    policy: Policy,
    /// Items that run at once.
    concurrency: u32,
    /// Items that run at once for its bindings, each.
    workers: u32,
    /// Its share among tenants that wait, against theirs.
    weight: u32,
    /// The gateways that may act for it.
    gateways: Vec<String>,
    /// Whatever the operator likes to note.
    metadata: BTreeMap<String, String>,
    /// When it was created.
    #[schema(format = DateTime)]
    created_at: String,
    /// When its settings were changed last.
    #[schema(format = DateTime)]
    updated_at: String,
    /// Grows by one with every change: also the `ETag`, for `If-Match`.
    revision: u64,
}

/// Whether a tenant may do anything.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = TenantState)]
enum Standing {
    /// It may.
    #[serde(alias = "active")]
    Active,
    /// Not now: its connections are closed and its data is kept.
    #[serde(alias = "suspended")]
    Suspended,
    /// Never again.
    #[serde(alias = "deleted")]
    Deleted,
}

impl From<tenancy::State> for Standing {
    fn from(state: tenancy::State) -> Self {
        match state {
            tenancy::State::Active => Standing::Active,
            tenancy::State::Suspended => Standing::Suspended,
            tenancy::State::Deleted => Standing::Deleted,
        }
    }
}

impl From<Standing> for tenancy::State {
    fn from(state: Standing) -> Self {
        match state {
            Standing::Active => tenancy::State::Active,
            Standing::Suspended => tenancy::State::Suspended,
            Standing::Deleted => tenancy::State::Deleted,
        }
    }
}

/// What happens to items beyond a rate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Policy {
    /// The stream is read no further until they fit.
    Pace,
    /// They fail at once, and say when to come back.
    Reject,
}

impl From<tenancy::Policy> for Policy {
    fn from(policy: tenancy::Policy) -> Self {
        match policy {
            tenancy::Policy::Pace => Policy::Pace,
            tenancy::Policy::Reject => Policy::Reject,
        }
    }
}

impl From<Policy> for tenancy::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Pace => tenancy::Policy::Pace,
            Policy::Reject => tenancy::Policy::Reject,
        }
    }
}

impl From<&Known> for Tenant {
    fn from(tenant: &Known) -> Self {
        let record = tenant.record();
        let settings = &record.settings;
        Tenant {
            id: tenant.id().to_string(),
            name: settings.name.clone(),
            state: settings.state.into(),
            profile: settings.profile.to_string(),
            quotas: *record.quotas,
            overrides: settings.overrides,
            policy: settings.policy.into(),
            concurrency: settings.concurrency,
            workers: settings.workers,
            weight: settings.weight,
            gateways: settings.gateways.clone(),
            metadata: settings.metadata.clone(),
            created_at: rfc3339(record.created_at),
            updated_at: rfc3339(record.updated_at),
            revision: record.revision,
        }
    }
}

impl IntoResponse for Tenant {
    fn into_response(self) -> Response {
        let tag = HeaderValue::from_str(&format!("\"{}\"", self.revision));
        let mut response = Json(self).into_response();
        response.headers_mut().extend(tag.ok().map(|tag| (header::ETAG, tag)));
        response
    }
}

/// The revision that a caller wants a tenant to have still.
fn if_match(headers: &HeaderMap) -> Answer<Option<u64>> {
    let wrong = || {
        let detail = "If-Match holds one revision in quotes, as ETag gave it";
        Problem::validation("if-match", detail)
    };
    let mut all = headers.get_all(header::IF_MATCH).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| wrong())?.trim(),
        _ => return Err(wrong()),
    };
    if value == "*" {
        return Ok(None);
    }
    let digits = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    digits.parse().map(Some).map_err(|_| wrong())
}

/// Which page of which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Only those in this state.
    state: Option<Standing>,
    /// Only those of this profile.
    profile: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// The id after which a page of tenants begins.
pub(super) fn after(cursor: Option<&str>) -> Answer<Option<TenantId>> {
    let other = |_| Problem::validation("cursor", "the cursor is another list's");
    page::after(cursor)?.map(|id| TenantId::parse(&id)).transpose().map_err(other)
}

/// List tenants
///
/// In the order of their ids.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(Params),
    responses((status = 200, description = "A page of tenants", body = Page<Tenant>)))]
async fn list(State(api): State<Api>, Query(params): Query<Params>) -> Answer<Json<Page<Tenant>>> {
    let limit = page::limit(params.limit)?;
    let after = after(params.cursor.as_deref())?;
    let state = params.state.map(Into::into);
    let filter = Filter { state, profile: params.profile.as_deref() };
    let tenants = api.services.tenants.page(after.as_ref(), limit + 1, filter);
    let items = tenants.iter().map(|t| Tenant::from(&**t)).collect();
    Ok(Json(Page::of(items, limit, |t: &Tenant| t.id.clone())))
}

/// Show a tenant
#[utoipa::path(get, path = "/api/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant")),
    responses((status = 200, description = "The tenant", body = Tenant,
        headers(("etag" = String, description = "Its revision, in quotes"))),
        (status = 404, description = "There is none", body = super::problem::Document,
            content_type = "application/problem+json")))]
async fn show(State(api): State<Api>, Named(id): Named) -> Answer<Tenant> {
    let tenant = api.tenant(&id).ok_or_else(Problem::no_tenant)?;
    Ok(Tenant::from(&*tenant))
}
