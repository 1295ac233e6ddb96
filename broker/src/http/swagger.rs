//! A page to try the API with, from files that are part of the binary: it needs no network.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use utoipa_swagger_ui::Config;

use super::{
    api::Api,
    problem::{Answer, Problem},
};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/swagger", get(|| async { Redirect::permanent("/swagger/") }))
        .route("/swagger/", get(|| async { file("") }))
        .route("/swagger/{*file}", get(|Path(name): Path<String>| async move { file(&name) }))
}

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

fn file(name: &str) -> Answer<Response> {
    let file = utoipa_swagger_ui::serve(name, CONFIG.clone()).ok().flatten();
    let file = file.ok_or_else(Problem::no_route)?;
    let kind = HeaderValue::from_str(&file.content_type);
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY)];
    Ok((headers, file.bytes.into_owned()).into_response())
}

/// The page asks this listener and nobody else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
