//! Deleting a tenant: once it is suspended and idle, or by force.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::{
        api::Api,
        extract::{Named, Query},
        problem::{Answer, Document, Problem},
    },
    if_match,
};
use crate::tenancy::DeleteError;

impl From<DeleteError> for Problem {
    fn from(e: DeleteError) -> Self {
        let problem = Problem::new(e.code(), e.to_string());
        match e {
            DeleteError::Unknown => Problem::no_tenant(),
            DeleteError::Conflict { revision, .. } => {
                problem.status(StatusCode::PRECONDITION_FAILED).detail("revision", revision)
            }
            DeleteError::Active => problem.detail("state", "Active"),
            _ => problem,
        }
    }
}

/// How it is deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Params {
    /// Whatever it does: what runs may finish within `tenancy.delete_drain_ms`, what is left is
    /// closed.
    force: Option<bool>,
}

/// Delete a tenant with its data
///
/// It has to be suspended and idle, unless it is forced. It cannot be undone; the id is free then.
#[utoipa::path(delete, path = "/api/v1/tenants/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The tenant"), Params,
        ("if-match" = Option<String>, Header, description = "Only at this revision")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 409, description = "It is not suspended, not idle, or being deleted already",
            body = Document, content_type = "application/problem+json"),
        (status = 412, description = "It has another revision", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(api): State<Api>,
    Named(id): Named,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let expected = if_match(&headers)?;
    let tenants = &api.services.tenants;
    if params.force == Some(true) {
        tenants.delete_now(&id, expected).await?;
    } else {
        tenants.delete(&id, expected).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
