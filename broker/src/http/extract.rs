//! What a request brings: queries and names as values, and problems that name the field at fault.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;
use tollgate_protocol::Code;

use super::problem::{Answer, Problem};

/// A query.
pub(super) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(query) => Ok(Query(query.0)),
            Err(rejected) => {
                let text = std::error::Error::source(&rejected).map(ToString::to_string);
                let text = text.unwrap_or_else(|| rejected.body_text());
                // `field: what is wrong`, when it is known.
                let (path, message) = match text.split_once(": ") {
                    Some((path, message)) if !path.contains(' ') => (path, message),
                    _ => ("", text.as_str()),
                };
                Err(at_fault(path, message))
            }
        }
    }
}

/// The part of a path that stands for one thing.
pub(super) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match axum::extract::Path::<String>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Named(path.0)),
            Err(_) => Err(Problem::validation("path", "the path is not UTF-8")),
        }
    }
}

/// A value that does not fit its type: the field, and what serde has to say.
fn at_fault(path: &str, message: &str) -> Problem {
    let quoted = || message.split('`').nth(1);
    let named = ["unknown field", "missing field", "duplicate field"];
    let field = if named.iter().any(|n| message.starts_with(n)) {
        match (path, quoted()) {
            ("" | ".", Some(field)) => field.to_owned(),
            (path, Some(field)) if path == field || path.ends_with(&format!(".{field}")) => {
                path.to_owned()
            }
            (path, Some(field)) => format!("{path}.{field}"),
            (path, None) => path.to_owned(),
        }
    } else {
        path.trim_start_matches('.').to_owned()
    };
    if field.is_empty() {
        return Problem::new(Code::ValidationError, message.to_owned());
    }
    Problem::validation(&field, format!("{field}: {message}"))
}
