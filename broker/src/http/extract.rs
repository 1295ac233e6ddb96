//! What a request brings: bodies and queries as values, and problems that name the field at fault.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use serde::de::DeserializeOwned;
use tollgate_protocol::Code;

use super::problem::{Answer, Problem};

/// A body of JSON.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let fits = |t: &str| t == "application/json" || t.ends_with("+json");
        expect_type(request.headers(), "application/json", fits)?;
        let bytes = bytes(request, state).await?;
        json(&bytes).map(Body)
    }
}

/// A whole body, within the bound of the listener.
async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Answer<Bytes> {
    Bytes::from_request(request, state).await.map_err(|rejected| match rejected.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::PayloadTooLarge, "the body is larger than `http.body_bytes_max`")
                .detail("config_key", "http.body_bytes_max")
        }
        _ => Problem::new(Code::ValidationError, "the body ended before its time"),
    })
}

/// Reads JSON; a fault names its field.
fn json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        at_fault(&path, &e.into_inner().to_string())
    })?;
    reader.end().map_err(|e| at_fault("", &e.to_string()))?;
    Ok(value)
}

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

/// A query as it stands: names may be there more than once.
pub(super) struct Pairs(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        Query::from_request_parts(parts, state).await.map(|query| Pairs(query.0))
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

/// Two parts of a path, each of which stands for one thing.
pub(super) struct Both(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Both {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        type Two = axum::extract::Path<(String, String)>;
        match Two::from_request_parts(parts, state).await {
            Ok(axum::extract::Path((one, other))) => Ok(Both(one, other)),
            Err(_) => Err(Problem::validation("path", "the path is not UTF-8")),
        }
    }
}

/// Three parts of a path, each of which stands for one thing.
pub(super) struct Three(pub String, pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Three {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        type All = axum::extract::Path<(String, String, String)>;
        match All::from_request_parts(parts, state).await {
            Ok(axum::extract::Path((one, two, three))) => Ok(Three(one, two, three)),
            Err(_) => Err(Problem::validation("path", "the path is not UTF-8")),
        }
    }
}

/// A value that does not fit its type: the field, and what serde has to say.
fn at_fault(path: &str, message: &str) -> Problem {
    match named(path, message) {
        (field, message) if field.is_empty() => Problem::new(Code::ValidationError, message),
        (field, message) => Problem::validation(&field, format!("{field}: {message}")),
    }
}

/// The field that serde means, which it may name in its message only; and the message.
pub(super) fn named(path: &str, message: &str) -> (String, String) {
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
    (field, message.to_owned())
}

/// Refuses a body of another type than those expected, which `allowed` names.
pub(super) fn expect_type(
    headers: &HeaderMap,
    allowed: &str,
    fits: impl Fn(&str) -> bool,
) -> Answer<()> {
    let found = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if fits(&essence) {
        return Ok(());
    }
    let detail = match essence.as_str() {
        "" => format!("the body has no content type; `content-type: {allowed}` is read here"),
        other => format!("the body's content type is {other}; {allowed} is read here"),
    };
    Err(Problem::new(Code::ValidationError, detail)
        .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .detail("field", "content-type")
        .detail("allowed", allowed))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Option<Inner>,
        #[serde(rename = "map")]
        _map: Option<BTreeMap<String, u8>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "count")]
        _count: u32,
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let cases = [
            (r#"{"iner":{}}"#, "iner"),
            (r#"{"inner":{"count":"x"}}"#, "inner.count"),
            (r#"{"inner":{"cuont":1}}"#, "inner.cuont"),
            (r#"{"inner":{}}"#, "inner.count"),
            (r#"{"map":{"a":300}}"#, "map.a"),
        ];
        for (text, field) in cases {
            let problem = json::<Outer>(text.as_bytes()).expect_err(text);
            let shown = format!("{problem:?}");
            assert!(shown.contains(&format!("\"{field}\"")), "{text}: {shown}");
        }
        assert!(json::<Outer>(b"{} {}").is_err(), "one value and no more");
    }
}
