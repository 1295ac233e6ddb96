//! What is told of one tenant, or of all in pages: what statistics and usage have in common.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tollgate_protocol::id::TenantId;
use utoipa::IntoParams;

use super::{
    api::Api,
    extract::Named,
    page::{self, Page},
    problem::{Answer, Problem},
    tenants,
};
use crate::tenancy::{Filter, Registry, State as Standing, Tenant};

/// Something that is told of a tenant.
pub(super) trait Figures: for<'a> From<&'a Tenant> + Serialize {
    /// Whose they are.
    fn tenant_id(&self) -> &str;
}

/// Which page of tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
    /// Only those that hold something, or did so a moment ago.
    in_use: Option<bool>,
}

/// The figures of one tenant.
pub(super) async fn one<F: Figures>(State(api): State<Api>, Named(id): Named) -> Answer<Json<F>> {
    let tenant = api.tenant(&id).ok_or_else(Problem::no_tenant)?;
    Ok(Json(F::from(&*tenant)))
}

/// The figures of each tenant on a page, in the order of their ids.
pub(super) fn page<F: Figures>(api: &Api, params: &Params) -> Answer<Page<F>> {
    let limit = page::limit(params.limit)?;
    let after = tenants::after(params.cursor.as_deref())?;
    let all = &api.services.tenants;
    let tenants = match params.in_use {
        Some(true) => in_use(all, after.as_ref(), limit + 1),
        _ => all.page(after.as_ref(), limit + 1, Filter::default()),
    };
    let items = tenants.iter().map(|t| F::from(&**t)).collect();
    Ok(Page::of(items, limit, |f: &F| f.tenant_id().to_owned()))
}

/// The tenants in use after an id, in the order of their ids, so many at most.
fn in_use(all: &Registry, after: Option<&TenantId>, limit: usize) -> Vec<Arc<Tenant>> {
    let mut tenants = all.in_use();
    let follows = |t: &Arc<Tenant>| after.is_none_or(|after| t.id() > after);
    tenants.retain(|t| t.state() != Standing::Deleted && follows(t));
    tenants.sort_unstable_by(|a, b| a.id().cmp(b.id()));
    tenants.truncate(limit);
    tenants
}
