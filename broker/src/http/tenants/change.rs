//! Changing a tenant. Every change acts at once, on what is open too.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    super::{
        api::Api,
        extract::{Body, Named},
        problem::{Answer, Document, Problem},
    },
    Tenant, if_match,
    patch::Patch,
};
use crate::tenancy::UpdateError;

impl From<UpdateError> for Problem {
    fn from(e: UpdateError) -> Self {
        let problem = Problem::new(e.code(), e.to_string());
        match e {
            UpdateError::Unknown => Problem::no_tenant(),
            UpdateError::Conflict { revision, .. } => {
                problem.status(StatusCode::PRECONDITION_FAILED).detail("revision", revision)
            }
            UpdateError::Invalid(bad) => problem.detail("field", bad.field),
            _ => problem,
        }
    }
}

/// Change a tenant
///
/// A JSON merge patch: what is left out stays, null takes a field back to its default.
#[utoipa::path(patch, path = "/api/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant"),
        ("if-match" = Option<String>, Header, description = "Change it only at this revision")),
    request_body(content((Patch = "application/merge-patch+json"), (Patch = "application/json"))),
    responses((status = 200, description = "The tenant as it is now", body = Tenant),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 409, description = "It is being deleted", body = Document,
            content_type = "application/problem+json"),
        (status = 412, description = "It has another revision", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn patch(
    State(api): State<Api>,
    Named(id): Named,
    headers: HeaderMap,
    Body(patch): Body<Patch>,
) -> Answer<Tenant> {
    let expected = if_match(&headers)?;
    patch.check()?;
    let changed = api.services.tenants.update(&id, expected, |s| patch.apply(s)).await?;
    Ok(Tenant::from(&*changed))
}

/// Suspend a tenant
///
/// Its connections are closed within a second, nothing new of it is let in, and its data is kept.
#[utoipa::path(post, path = "/api/v1/tenants/{id}/suspend", tag = "tenants",
    params(("id" = String, Path, description = "The tenant"),
        ("if-match" = Option<String>, Header, description = "Only at this revision")),
    responses((status = 200, description = "The tenant as it is now", body = Tenant),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 409, description = "It is being deleted", body = Document,
            content_type = "application/problem+json"),
        (status = 412, description = "It has another revision", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn suspend(
    State(api): State<Api>,
    Named(id): Named,
    headers: HeaderMap,
) -> Answer<Tenant> {
    let changed = api.services.tenants.suspend(&id, if_match(&headers)?).await?;
    Ok(Tenant::from(&*changed))
}

/// Let a suspended tenant in again
#[utoipa::path(post, path = "/api/v1/tenants/{id}/activate", tag = "tenants",
    params(("id" = String, Path, description = "The tenant"),
        ("if-match" = Option<String>, Header, description = "Only at this revision")),
    responses((status = 200, description = "The tenant as it is now", body = Tenant),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 409, description = "It is being deleted", body = Document,
            content_type = "application/problem+json"),
        (status = 412, description = "It has another revision", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn activate(
    State(api): State<Api>,
    Named(id): Named,
    headers: HeaderMap,
) -> Answer<Tenant> {
    let changed = api.services.tenants.activate(&id, if_match(&headers)?).await?;
    Ok(Tenant::from(&*changed))
}

/// How many items run at once for a tenant's bindings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Concurrency {
    /// Items that run at once for its bindings, each.
    workers: u32,
}

/// Set how many items run at once for a tenant's bindings
#[utoipa::path(put, path = "/api/v1/tenants/{id}/config/concurrency", tag = "tenants",
    params(("id" = String, Path, description = "The tenant"),
        ("if-match" = Option<String>, Header, description = "Only at this revision")),
    request_body = Concurrency,
    responses((status = 200, description = "The tenant as it is now", body = Tenant),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 409, description = "It is being deleted", body = Document,
            content_type = "application/problem+json"),
        (status = 412, description = "It has another revision", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn concurrency(
    State(api): State<Api>,
    Named(id): Named,
    headers: HeaderMap,
    Body(new): Body<Concurrency>,
) -> Answer<Tenant> {
    let expected = if_match(&headers)?;
    let workers = new.workers;
    let changed = api.services.tenants.update(&id, expected, |s| s.workers = workers).await?;
    Ok(Tenant::from(&*changed))
}
