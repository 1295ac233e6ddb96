//! Metrics as text, and the layer that counts requests for them.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::api::Api;
use crate::metrics::Format;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Every metric as text
///
/// Prometheus text (version 0.0.4), or OpenMetrics for who accepts it.
#[utoipa::path(get, path = "/metrics", tag = "broker",
    responses((status = 200, description = "Every metric",
        content((String = "text/plain"), (String = "application/openmetrics-text")))))]
async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let format = Format::of_accept(accept);
    let page = api.services.metrics_page(format);
    ([(header::CONTENT_TYPE, format.content_type())], page).into_response()
}

/// Counts what was answered, by the route as it is declared: never by a path that a client made up.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let status = response.status().as_u16();
    api.services.metrics.http_request(method.as_str(), route, status, began.elapsed());
    response
}
