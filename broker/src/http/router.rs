//! All routes in one router, and the layers that every request passes, outermost first.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tollgate_protocol::Code;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::{
    access::{self, Kind, Row},
    api::Api,
    batches, connections, events, guard, health, jobs, messages, metrics, openapi,
    problem::{self, Problem},
    quotas, recipes, revocations, stats, swagger, tenants, topics, usage, workers,
};

/// Every route, and the document that describes them.
pub(super) fn routes() -> (Router<Api>, OpenApi) {
    let (routes, mut document) = OpenApiRouter::with_openapi(openapi::frame())
        .merge(health::routes())
        .merge(recipes::routes())
        .merge(workers::routes())
        .merge(connections::routes())
        .merge(tenants::routes())
        .merge(quotas::routes())
        .merge(usage::routes())
        .merge(stats::routes())
        .merge(batches::routes())
        .merge(jobs::routes())
        .merge(topics::routes())
        .merge(messages::routes())
        .merge(revocations::routes())
        .merge(events::routes())
        .merge(metrics::routes())
        .split_for_parts();
    openapi::complete(&mut document);
    (routes.merge(swagger::routes()).merge(openapi::routes()), document)
}

/// The routes behind their layers.
pub(super) fn router(routes: Router<Api>, api: Api) -> Router {
    let body_bytes_max = api.config().body_bytes_max;
    // The last one added is the outermost.
    routes
        .fallback(|| async { Problem::no_route() })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn_with_state(api.clone(), in_time))
        .layer(from_fn_with_state(api.clone(), access::layer))
        .layer(from_fn_with_state(api.clone(), guard::layer))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(api.clone(), problem::render))
        .layer(from_fn_with_state(api.clone(), metrics::count))
        .with_state(api)
}

/// Bounds the time of what is not a stream.
async fn in_time(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.extensions().get::<Row>().is_none_or(|row| row.kind == Kind::Stream) {
        return next.run(request).await;
    }
    let limit = api.config().request_timeout_ms;
    match tokio::time::timeout(Duration::from_millis(limit), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("the request took longer than {limit} ms");
            Problem::new(Code::Timeout, detail)
                .detail("config_key", "http.request_timeout_ms")
                .into_response()
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string);
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(message, "a handler panicked");
    Problem::new(Code::InternalError, "the broker failed at this request").into_response()
}
