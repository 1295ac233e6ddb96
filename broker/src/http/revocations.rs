//! Revocations: who is turned away besides what CRLs and the deny list say.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tollgate_certs::{
    Serial,
    deny::{Entry, EntryError},
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::{Body, Named, Query},
    page::{self, Page},
    problem::{Answer, Document, Problem},
    time::rfc3339,
};
use crate::revocations::{ReinstateError, Revocation as Known, RevocationId, RevokeError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, revoke)).routes(routes!(reinstate))
}

/// A revocation.
#[derive(Debug, Serialize, ToSchema)]
struct Revocation {
    /// Its id, a UUID.
    id: String,
    /// The certificate that is revoked, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    /// The holder who is turned away, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<String>,
    /// Why, for people.
    reason: String,
    /// Since when.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<&Known> for Revocation {
    fn from(known: &Known) -> Self {
        let (serial, spiffe_id) = match &known.entry {
            Entry::Serial(serial) => (Some(serial.to_string()), None),
            Entry::Holder { spiffe_id, .. } => (None, Some(spiffe_id.clone())),
        };
        Revocation {
            id: known.id.to_string(),
            serial,
            spiffe_id,
            reason: known.reason.clone(),
            created_at: rfc3339(known.created_at),
        }
    }
}

/// What is to be revoked: a certificate by its serial, or a holder by its SPIFFE ID.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRevocation)]
struct New {
    /// The serial number of a certificate, in hex.
    serial: Option<String>,
    /// A SPIFFE ID: every certificate of its holder.
    spiffe_id: Option<String>,
    /// Why, for people.
    #[schema(max_length = 255)]
    reason: Option<String>,
}

impl New {
    fn entry(&self) -> Answer<Entry> {
        match (&self.serial, &self.spiffe_id) {
            (Some(serial), None) => Serial::parse(serial)
                .map(Entry::Serial)
                .map_err(|e| Problem::validation("serial", format!("serial: {e}"))),
            (None, Some(id)) => match id.parse::<Entry>() {
                Ok(entry @ Entry::Holder { .. }) => Ok(entry),
                Ok(Entry::Serial(_)) => {
                    let detail = "spiffe_id: a SPIFFE ID begins with spiffe://";
                    Err(Problem::validation("spiffe_id", detail))
                }
                Err(EntryError::Identity(e)) => {
                    Err(Problem::validation("spiffe_id", format!("spiffe_id: {e}")))
                }
                Err(e) => Err(Problem::validation("spiffe_id", format!("spiffe_id: {e}"))),
            },
            _ => {
                let detail = "either serial or spiffe_id is there, and not both";
                Err(Problem::validation("serial", detail))
            }
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(e: RevokeError) -> Self {
        let problem = Problem::new(e.code(), e.to_string());
        match e {
            RevokeError::Foreign { .. } => problem.detail("field", "spiffe_id"),
            RevokeError::Reason => problem.detail("field", "reason"),
            RevokeError::Exists(id) => problem.detail("id", id),
            _ => problem,
        }
    }
}

impl From<ReinstateError> for Problem {
    fn from(e: ReinstateError) -> Self {
        Problem::new(e.code(), e.to_string())
    }
}

/// Which page of the list.
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

/// List the revocations
///
/// Those that were made here, the oldest first; not those of CRLs and of the deny list.
#[utoipa::path(get, path = "/api/v1/revocations", tag = "revocations", params(Params),
    responses((status = 200, description = "A page of revocations", body = Page<Revocation>)))]
async fn list(
    State(api): State<Api>,
    Query(params): Query<Params>,
) -> Answer<Json<Page<Revocation>>> {
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let after = after.map(|a| a.parse::<RevocationId>()).transpose();
    let after = after.map_err(|_| Problem::validation("cursor", "the cursor is another list's"))?;
    let found = api.services.revocations.page(after, limit + 1);
    let items = found.iter().map(|r| Revocation::from(&**r)).collect();
    Ok(Json(Page::of(items, limit, |r: &Revocation| r.id.clone())))
}

/// Revoke a certificate or a holder
///
/// In force when this answers: new connections are refused, live ones end within a second.
#[utoipa::path(post, path = "/api/v1/revocations", tag = "revocations", request_body = New,
    responses((status = 201, description = "It is revoked", body = Revocation,
            headers(("location" = String, description = "Where it is taken back"))),
        (status = 409, description = "It is revoked already", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
async fn revoke(State(api): State<Api>, Body(new): Body<New>) -> Answer<Response> {
    let entry = new.entry()?;
    let made = api.services.revocations.revoke(entry, new.reason.unwrap_or_default()).await?;
    let made = Revocation::from(&*made);
    let location = HeaderValue::from_str(&format!("/api/v1/revocations/{}", made.id));
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.headers_mut().extend(location.ok().map(|l| (header::LOCATION, l)));
    Ok(response)
}

/// Take a revocation back
#[utoipa::path(delete, path = "/api/v1/revocations/{id}", tag = "revocations",
    params(("id" = String, Path, description = "The revocation")),
    responses((status = 204, description = "It is taken back"),
        (status = 404, description = "There is none", body = Document,
            content_type = "application/problem+json"),
        (status = 507, description = "The storage is full", body = Document,
            content_type = "application/problem+json")))]
async fn reinstate(State(api): State<Api>, Named(id): Named) -> Answer<StatusCode> {
    let id = id.parse::<RevocationId>().map_err(|_| ReinstateError::Unknown)?;
    api.services.revocations.reinstate(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
