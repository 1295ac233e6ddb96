//! Errors as RFC 9457 problem documents, with the protocol's own codes.
//!
//! A handler returns a [`Problem`]; it becomes bytes at the very end ([`render`]), where the
//! request's id is known, and so does every refusal that axum makes by itself.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tollgate_protocol::Code;
use utoipa::ToSchema;
use uuid::Uuid;

use super::api::Api;
use crate::batch::Failure;

/// Why a request was not done. Boxed, so that an answer stays small.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    /// Differs from the code's own where HTTP has a better word for it.
    status: StatusCode,
    failure: Failure,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a handler answers.
pub(super) type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem with the status of its code.
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Failure::new(code, detail).into()
    }

    /// A value of the client's is wrong: which, and how.
    pub(super) fn validation(field: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Failure::validation(field, detail).into()
    }

    /// There is no such tenant, or it is not this caller's to know of: one answer for both.
    pub(super) fn no_tenant() -> Self {
        Self::new(Code::NotFound, "there is no such tenant")
    }

    /// There is nothing at this path.
    pub(super) fn no_route() -> Self {
        Self::new(Code::NotFound, "there is nothing at this path; see /openapi.json")
    }

    /// The path does not take this method.
    pub(super) fn no_method(allowed: &str) -> Self {
        let detail = format!("this path takes {allowed}");
        Self::new(Code::InvalidAction, detail)
            .status(StatusCode::METHOD_NOT_ALLOWED)
            .header(ALLOW, allowed)
    }

    /// The caller did not say who it is, or it is not believed.
    pub(super) fn unauthorized(detail: &'static str) -> Self {
        Self::new(Code::Unauthorized, detail).header(WWW_AUTHENTICATE, "Bearer realm=\"tollgate\"")
    }

    /// The caller is known and may not do this.
    pub(super) fn forbidden(detail: &'static str) -> Self {
        Self::new(Code::Forbidden, detail)
    }

    /// With another status than the code's own.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// With a detail for programs.
    pub(super) fn detail(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.failure.details.push_lossy(key, &value.to_string());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.0.headers.extend(HeaderValue::from_str(value).ok().map(|v| (name, v)));
        self
    }

    /// The document, for one occurrence.
    fn document(&self, instance: &str) -> Document {
        let f = &self.0.failure;
        let quota = f.quota.as_deref();
        Document {
            kind: format!("urn:tollgate:problem:{}", f.code),
            title: title(f.code),
            status: self.0.status.as_u16(),
            detail: f.message.to_string(),
            instance: instance.to_owned(),
            code: f.code.name(),
            retryable: f.retryable,
            side_effect_free: f.side_effect_free,
            details: pairs(f),
            quota: quota.map(|q| q.quota.name()),
            scope: quota.map(|q| scope(q.scope)),
            current: quota.map(|q| q.current),
            limit: quota.map(|q| q.limit),
            retry_after_ms: f.retry_after.map(whole_ms),
        }
    }

    fn respond(&self, instance: &str) -> Response {
        let mut response = (self.0.status, Json(self.document(instance))).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        if matches!(self.0.status.as_u16(), 429 | 503) {
            let wait = self.0.failure.retry_after.unwrap_or(Duration::from_secs(1));
            // Whole seconds, rounded up: who comes back then must not be early.
            let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
            if let Some(q) = self.0.failure.quota.as_deref() {
                let left = q.limit.saturating_sub(q.current);
                let name = q.quota.name();
                let mut put = |header: &'static str, value: String| {
                    if let Ok(value) = HeaderValue::from_str(&value) {
                        headers.insert(HeaderName::from_static(header), value);
                    }
                };
                put("ratelimit-policy", format!("\"{name}\";q={};w=1", q.limit));
                put("ratelimit", format!("\"{name}\";r={left};t={seconds}"));
            }
        }
        for (name, value) in &self.0.headers {
            headers.insert(name, value.clone());
        }
        response
    }
}

/// The code in words. Whether trying again helps depends on the quota, and stands in `retryable`.
fn title(code: Code) -> &'static str {
    if code == Code::QuotaExceeded { "a quota is used up" } else { code.message() }
}

/// A failure's details as a map.
pub(super) fn pairs(f: &Failure) -> BTreeMap<String, String> {
    f.details.as_pairs().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Whose limit it is, as a word.
pub(super) fn scope(scope: tollgate_protocol::batch::Scope) -> &'static str {
    use tollgate_protocol::batch::Scope;
    match scope {
        Scope::Tenant => "tenant",
        Scope::Gateway => "gateway",
        Scope::Broker => "broker",
    }
}

/// Milliseconds, rounded up: who comes back then must not be early.
pub(super) fn whole_ms(d: Duration) -> u64 {
    u64::try_from(d.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.code.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Problem(Box::new(Inner { status, failure, headers: Vec::new() }))
    }
}

impl IntoResponse for Problem {
    /// Rendered later, once it is known for which request it is.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document {
    /// Which kind of problem: a URN that ends with the code.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened, for people; no promise about its wording.
    detail: String,
    /// Which request this was: also in the header `x-request-id`, and in the broker's log.
    instance: String,
    /// The code, for programs: the same as on QUIC.
    code: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Whether the broker promises that nothing happened.
    side_effect_free: bool,
    /// More, for programs: which field, which limit, which configuration key.
    details: BTreeMap<String, String>,
    /// Which quota refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<&'static str>,
    /// Whose limit that is: `tenant`, `gateway` or `broker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    /// What is used now, in the quota's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    /// What is allowed, in the quota's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    /// After how many milliseconds trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The outermost layer: gives the request its id, and problems their bytes.
pub(super) async fn render(State(_): State<Api>, request: Request, next: Next) -> Response {
    let id = Uuid::now_v7();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => Some(problem),
        None if response.status().as_u16() >= 400 && !is_problem(&response) => {
            Some(foreign(&response))
        }
        None => None,
    };
    if let Some(problem) = problem {
        if problem.0.status.is_server_error() && problem.0.failure.code == Code::InternalError {
            tracing::error!(%id, %method, path, detail = %problem.0.failure.message, "a request failed");
        } else {
            tracing::debug!(%id, %method, path, code = %problem.0.failure.code, "a request was refused");
        }
        response = problem.respond(&id.urn().to_string());
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers.insert(NOSNIFF.0, NOSNIFF.1);
    response
}

fn is_problem(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|t| *t == PROBLEM_JSON)
}

/// A refusal that no handler of ours made, in our words.
fn foreign(response: &Response) -> Problem {
    let code = match response.status().as_u16() {
        404 => Code::NotFound,
        405 => Code::InvalidAction,
        413 => Code::PayloadTooLarge,
        400..500 => Code::ValidationError,
        _ => Code::InternalError,
    };
    let mut problem = Problem::new(code, code.message()).status(response.status());
    if let Some(allow) = response.headers().get(ALLOW) {
        problem.0.headers.push((ALLOW, allow.clone()));
    }
    problem
}

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NOSNIFF: (HeaderName, HeaderValue) =
    (axum::http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
