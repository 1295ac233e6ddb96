//! Whether the process lives, and whether it takes work.

use axum::{Json, extract::State};
use serde::Serialize;
use tollgate_protocol::Code;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    problem::{Answer, Problem},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready))
}

/// What a broker says of itself.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// The broker's version.
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Whether the process lives
///
/// Answers while the process can answer at all. Restart it when this does not.
#[utoipa::path(get, path = "/health", tag = "broker",
    responses((status = 200, description = "It lives", body = Health)))]
async fn health() -> Json<Health> {
    Json(OK)
}

/// Whether the broker takes work
///
/// Send it none while this answers 503: it drains, or its store has failed.
#[utoipa::path(get, path = "/ready", tag = "broker",
    responses((status = 200, description = "It takes work", body = Health)))]
async fn ready(State(api): State<Api>) -> Answer<Json<Health>> {
    if api.services.drain.borrow().until().is_some() {
        return Err(Problem::new(Code::Draining, "the broker is shutting down"));
    }
    if api.services.store_has_failed() {
        let detail = "the store has failed: the process should be started again";
        return Err(Problem::new(Code::StoreUnavailable, detail));
    }
    Ok(Json(OK))
}
