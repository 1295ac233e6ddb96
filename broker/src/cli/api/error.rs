//! What the API can answer that is no success, as people read it and as scripts branch on it.

use std::{collections::BTreeMap, error::Error as StdError, fmt, io};

use serde::Deserialize;
use serde_json::Value;
use tollgate_client::Code;

use super::base::Base;
use crate::cli::exit::{self, Exit};

/// Why a request to the API has no document to show.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Error {
    /// Nobody answered.
    #[error("cannot reach the API at {base}: {why}; is `tollgate serve` running there?")]
    Unreachable { base: String, why: String },
    /// One of the two does not trust the other.
    #[error("no way in at {base}: {why}")]
    Untrusted { base: String, why: String },
    /// The answer is that it cannot be done.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Somebody else lives there.
    #[error("{base} answered with status {status}, but not as the API of a Tollgate broker does")]
    Foreign { base: String, status: u16 },
}

impl Error {
    pub(super) fn problem(document: Value, status: u16) -> Error {
        let mut problem: Problem = serde_json::from_value(document.clone()).unwrap_or_default();
        problem.status = status;
        problem.document = document;
        Error::Problem(Box::new(problem))
    }

    pub(super) fn failed(error: &reqwest::Error, base: &Base) -> Error {
        let base = base.to_string();
        if let Some(why) = tls_failure(error) {
            return Error::Untrusted { base, why };
        }
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { deepest(error) };
        Error::Unreachable { base, why }
    }

    /// The problem document, when there is one.
    pub(in crate::cli) fn document(&self) -> Option<&Value> {
        match self {
            Error::Problem(problem) => Some(&problem.document),
            _ => None,
        }
    }

    /// How a command ends with it.
    pub(in crate::cli) fn exit(&self) -> Exit {
        match self {
            Error::Unreachable { .. } => Exit::Unreachable,
            Error::Untrusted { .. } => Exit::Unauthorised,
            Error::Foreign { .. } => Exit::Failure,
            Error::Problem(problem) => exit::of_code(Code::from_name(&problem.code)),
        }
    }
}

/// A problem document (RFC 9457) with the broker's members.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Problem {
    title: String,
    detail: String,
    code: String,
    details: BTreeMap<String, Value>,
    quota: Option<String>,
    scope: Option<String>,
    current: Option<Value>,
    limit: Option<Value>,
    retry_after_ms: Option<u64>,
    #[serde(skip)]
    status: u16,
    #[serde(skip)]
    document: Value,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = [&self.detail, &self.title].into_iter().find(|text| !text.is_empty());
        f.write_str(what.map_or("the API refused", String::as_str))?;
        match self.code.as_str() {
            "" => write!(f, " (status {})", self.status)?,
            code => write!(f, " ({code})")?,
        }
        if let Some(quota) = &self.quota {
            write!(f, "; quota {quota}")?;
            if let Some(scope) = &self.scope {
                write!(f, " of the {scope}")?;
            }
            if let (Some(current), Some(limit)) = (&self.current, &self.limit) {
                write!(f, ": {current} of {limit}")?;
            }
        }
        for (name, value) in &self.details {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // A detail that the sentence already gives would only be noise.
            if !self.detail.contains(&value) {
                write!(f, "; {name}: {value}")?;
            }
        }
        match self.retry_after_ms {
            Some(ms) => write!(f, "; try again in {ms} ms"),
            None => Ok(()),
        }
    }
}

/// What TLS says about a failure, if it was one of trust.
fn tls_failure(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(e) = cause {
        match within(e) {
            Some(rustls::Error::InvalidCertificate(e)) => {
                return Some(format!("the broker's certificate is not trusted: {e}"));
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                return Some(format!("the broker does not accept this certificate: {alert:?}"));
            }
            _ => cause = e.source(),
        }
    }
    None
}

/// The error of TLS that an error is, or is made of: an I/O error hands out its inner error's
/// source, not the inner error, and one may lie in another.
fn within<'a>(mut error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    loop {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        error = error.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(document: Value, status: u16, exit: Exit, said: &str) {
        let error = Error::problem(document, status);
        assert_eq!((error.to_string().as_str(), error.exit()), (said, exit));
    }

    #[test]
    fn what_tls_says_is_found_however_it_is_wrapped() {
        let tls = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let once = io::Error::other(tls());
        let twice = io::Error::other(io::Error::other(tls()));
        assert_eq!(within(&tls()), Some(&tls()));
        assert_eq!((within(&once), within(&twice)), (Some(&tls()), Some(&tls())));
        assert_eq!(within(&io::Error::other("something else")), None);
    }

    #[test]
    fn a_problem_is_told_with_what_helps_and_ends_with_its_code() {
        check(
            json!({
                "title": "a value is wrong", "status": 400, "code": "VALIDATION_ERROR",
                "detail": "`weight` is out of range", "details": {"field": "weight", "allowed": "1 to 1000"},
            }),
            400,
            Exit::Usage,
            "`weight` is out of range (VALIDATION_ERROR); allowed: 1 to 1000",
        );
        check(
            json!({"title": "there is no such thing", "code": "NOT_FOUND", "detail": "there is no tenant `x`"}),
            404,
            Exit::Failure,
            "there is no tenant `x` (NOT_FOUND)",
        );
        check(
            json!({
                "detail": "too many", "code": "RATE_LIMITED", "quota": "requests_per_second",
                "scope": "tenant", "current": 10, "limit": 10, "retry_after_ms": 30,
            }),
            429,
            Exit::Quota,
            "too many (RATE_LIMITED); quota requests_per_second of the tenant: 10 of 10; \
             try again in 30 ms",
        );
        check(json!({"code": "FORBIDDEN"}), 403, Exit::Unauthorised, "the API refused (FORBIDDEN)");
        check(json!({"title": "nope"}), 500, Exit::Failure, "nope (status 500)");
    }
}
