//! Who may ask what: one row a route, and the layer that goes by them.
//!
//! A route without a row is not there: whoever adds one says here for whom it is.

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{Method, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use tollgate_protocol::Code;

use super::{
    api::Api,
    auth::{self, Caller},
    config::TokenRole,
    io::Peer,
    places::Known,
    problem::{Answer, Problem},
    trust::Certificate,
};
use crate::tenancy::State as Tenancy;

/// A route, and for whom it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
    pub kind: Kind,
}

/// For whom a route is. Operators are let in everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Whoever reaches the listener.
    Anyone,
    /// Operators and nobody else.
    Operator,
    /// Whoever has a credential of any tenant.
    Tenants,
    /// Holders of a credential in one of these roles, of the tenant that the path names.
    Own(&'static [TokenRole]),
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Within the bound of the listener.
    Whole,
    /// As long as it takes.
    Stream,
}

const fn row(method: &'static str, path: &'static str, who: Who) -> Row {
    Row { method, path, who, kind: Kind::Whole }
}

const fn stream(path: &'static str, who: Who) -> Row {
    Row { method: "GET", path, who, kind: Kind::Stream }
}

/// Every route.
pub(super) const ROWS: &[Row] = &[
    row("GET", "/health", Who::Anyone),
    row("GET", "/ready", Who::Anyone),
    row("GET", "/openapi.json", Who::Anyone),
    row("GET", "/swagger", Who::Anyone),
    row("GET", "/swagger/", Who::Anyone),
    row("GET", "/swagger/{*file}", Who::Anyone),
    row("GET", "/api/v1/recipes", Who::Tenants),
    row("DELETE", "/api/v1/recipes/{name}", Who::Operator),
    row("GET", "/api/v1/workers", Who::Operator),
    row("GET", "/api/v1/connections", Who::Operator),
    row("GET", "/api/v1/tenants", Who::Operator),
    row("POST", "/api/v1/tenants", Who::Operator),
    row("GET", "/api/v1/tenants/{id}", Who::Operator),
    row("PATCH", "/api/v1/tenants/{id}", Who::Operator),
    row("DELETE", "/api/v1/tenants/{id}", Who::Operator),
    row("POST", "/api/v1/tenants/{id}/suspend", Who::Operator),
    row("POST", "/api/v1/tenants/{id}/activate", Who::Operator),
    row("PUT", "/api/v1/tenants/{id}/config/concurrency", Who::Operator),
    row("GET", "/api/v1/tenants/{id}/usage", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/stats", CLIENTS),
    Row { method: "POST", path: "/api/v1/tenants/{id}/batches", who: CLIENTS, kind: Kind::Stream },
    row("GET", "/api/v1/tenants/{id}/jobs", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/jobs/stats", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/jobs/cancel", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/jobs/replay", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/jobs/purge", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/jobs/{job}", CLIENTS),
    row("DELETE", "/api/v1/tenants/{id}/jobs/{job}", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/jobs/{job}/result", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/jobs/{job}/cancel", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/jobs/{job}/replay", CLIENTS),
    stream("/api/v1/tenants/{id}/jobs/{job}/events", CLIENTS),
    stream("/api/v1/tenants/{id}/batches/{batch}/events", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/topics", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/topics", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/topics/{topic}", CLIENTS),
    row("PATCH", "/api/v1/tenants/{id}/topics/{topic}", CLIENTS),
    row("DELETE", "/api/v1/tenants/{id}/topics/{topic}", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/groups", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/topics/{topic}/groups/{group}", CLIENTS),
    row("DELETE", "/api/v1/tenants/{id}/topics/{topic}/groups/{group}", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/topics/{topic}/groups/{group}/reset", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/bindings", CLIENTS),
    row("POST", "/api/v1/tenants/{id}/bindings", CLIENTS),
    row("GET", "/api/v1/tenants/{id}/topics/{topic}/bindings/{binding}", CLIENTS),
    row("DELETE", "/api/v1/tenants/{id}/topics/{topic}/bindings/{binding}", CLIENTS),
    row("GET", "/api/v1/messages", Who::Tenants),
    row("POST", "/api/v1/messages/{id}", CLIENTS),
    row("GET", "/api/v1/messages/{id}", Who::Tenants),
    row("DELETE", "/api/v1/messages/{id}", Who::Tenants),
    row("GET", "/api/v1/stats/tenants/{id}/messages", CLIENTS),
    row("GET", "/api/v1/usage", Who::Operator),
    row("GET", "/api/v1/stats", Who::Operator),
    row("GET", "/api/v1/quota-profiles", Who::Operator),
    stream("/api/v1/events", Who::Operator),
    row("GET", "/api/v1/revocations", Who::Operator),
    row("POST", "/api/v1/revocations", Who::Operator),
    row("DELETE", "/api/v1/revocations/{id}", Who::Operator),
    row("GET", "/metrics", Who::Operator),
];

/// The tenant's own clients.
const CLIENTS: Who = Who::Own(&[TokenRole::Client]);

/// The rows of a path.
fn rows(path: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.path == path)
}

/// The row of a request. `HEAD` asks for what `GET` would.
fn find(path: &str, method: &Method) -> Answer<&'static Row> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    if let Some(row) = rows(path).find(|row| row.method == method) {
        return Ok(row);
    }
    let mut allowed: Vec<_> = rows(path).map(|row| row.method).collect();
    if allowed.is_empty() {
        return Err(Problem::no_route());
    }
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    Err(Problem::no_method(&allowed.join(", ")))
}

/// The layer: finds the route's row, finds out who asks, and lets them in or not. Handlers find the
/// [`Caller`] and the [`Row`] among the request's extensions.
pub(super) async fn layer(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match judge(&api, &mut parts).await {
        Ok((row, caller)) => {
            parts.extensions.insert(*row);
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn judge(api: &Api, parts: &mut Parts) -> Answer<(&'static Row, Caller)> {
    let path = match parts.extensions.get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => parts.uri.path().to_owned(),
    };
    let row = find(&path, &parts.method);
    if let Some(peer) = parts.extensions.get::<Peer>() {
        peer.place.asks();
    }
    if let Ok(row) = row
        && row.who == Who::Anyone
    {
        return Ok((row, Caller::Other));
    }
    let peer = parts.extensions.get::<Peer>().cloned();
    let certificate = peer.as_ref().and_then(|peer| peer.certificate.as_ref());
    if certificate.is_some_and(|c| !c.is_good()) {
        return Err(Problem::unauthorized("the certificate is good no more"));
    }
    let certificate = certificate.map(Certificate::identity);
    let caller = match auth::caller(&parts.headers, certificate, &api.tokens)? {
        Some(caller) => caller,
        None if api.is_open() => Caller::Operator,
        None => {
            let detail = "a bearer token or a client certificate is needed";
            return Err(Problem::unauthorized(detail));
        }
    };
    let known = if caller == Caller::Operator { Known::Operator } else { Known::Other };
    if peer.as_ref().is_some_and(|peer| !peer.place.is(known)) {
        let detail = "as many connections of tenants as may be; close those that are not needed";
        return Err(
            Problem::new(Code::Overloaded, detail).detail("config_key", "http.connections_max")
        );
    }
    // Only who may come in at all learns which paths there are.
    let row = row?;
    let named = RawPathParams::from_request_parts(parts, &()).await.ok();
    let named = named.as_ref().and_then(|all| all.iter().find(|(name, _)| *name == "id"));
    admit(api, row, &caller, named.map(|(_, id)| id))?;
    Ok((row, caller))
}

/// Judges a caller that is known.
fn admit(api: &Api, row: &Row, caller: &Caller, named: Option<&str>) -> Answer<()> {
    let forbidden = || Problem::forbidden("this is not for the holder of this credential");
    match (row.who, caller) {
        (_, Caller::Operator) | (Who::Anyone, _) => Ok(()),
        (Who::Operator, _) | (_, Caller::Other) => Err(forbidden()),
        (Who::Tenants, Caller::Tenant { id, .. }) => alive(api, id),
        (Who::Own(roles), Caller::Tenant { id, role }) => {
            // Whether another tenant exists is not to be found out.
            if named != Some(id) {
                return Err(Problem::no_tenant());
            }
            alive(api, id)?;
            if roles.contains(role) { Ok(()) } else { Err(forbidden()) }
        }
    }
}

/// Refuses what a tenant asks that may not do anything now.
fn alive(api: &Api, id: &str) -> Answer<()> {
    match api.tenant(id).map(|t| t.state()) {
        None | Some(Tenancy::Deleted) => Err(Problem::no_tenant()),
        Some(Tenancy::Suspended) => Err(Problem::forbidden("the tenant is suspended")),
        Some(Tenancy::Active) => Ok(()),
    }
}
