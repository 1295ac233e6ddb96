//! The QUIC connections that are open.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    extract::Query,
    page::{self, Page},
    problem::{Answer, Problem},
    time::rfc3339,
};
use crate::broker::ConnectionInfo;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A QUIC connection.
#[derive(Debug, Serialize, ToSchema)]
struct Connection {
    /// Its number, never used again by this process.
    id: u64,
    /// The SPIFFE ID of its certificate.
    identity: String,
    /// What its holder is: `client`, `tenant-worker`, `platform-worker` or `gateway`.
    role: &'static str,
    /// The tenant; null for a gateway and for a platform worker.
    tenant: Option<String>,
    /// Where it comes from, now.
    address: String,
    /// Since when it is open.
    #[schema(format = DateTime)]
    connected_at: String,
    /// When a packet last came, to the second.
    #[schema(format = DateTime)]
    last_seen_at: String,
    /// Streams open on it.
    streams: u32,
}

impl From<ConnectionInfo> for Connection {
    fn from(c: ConnectionInfo) -> Self {
        Connection {
            id: c.id,
            identity: c.identity,
            role: c.role.as_str(),
            tenant: c.tenant,
            address: c.address.to_string(),
            connected_at: rfc3339(c.connected_at),
            last_seen_at: rfc3339(c.last_seen_at),
            streams: c.streams,
        }
    }
}

/// Which page of which connections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Only those of this tenant.
    tenant: Option<String>,
    /// How many at once.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the one before.
    cursor: Option<String>,
}

/// List the QUIC connections that are open
///
/// The oldest first.
#[utoipa::path(get, path = "/api/v1/connections", tag = "connections", params(Params),
    responses((status = 200, description = "A page of connections", body = Page<Connection>)))]
async fn list(
    State(api): State<Api>,
    Query(params): Query<Params>,
) -> Answer<Json<Page<Connection>>> {
    let limit = page::limit(params.limit)?;
    let after = page::after(params.cursor.as_deref())?;
    let after = after.map(|a| a.parse::<u64>()).transpose();
    let after = after.map_err(|_| Problem::validation("cursor", "the cursor is another list's"))?;
    let all = api.services.live.list().into_iter();
    let wanted = all.filter(|c| {
        after.is_none_or(|a| c.id > a)
            && params.tenant.as_ref().is_none_or(|t| c.tenant.as_ref() == Some(t))
    });
    let items = wanted.take(limit + 1).map(Connection::from).collect();
    Ok(Json(Page::of(items, limit, |c: &Connection| c.id.to_string())))
}
