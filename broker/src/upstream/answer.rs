//! What an answer means: its status, and what its body says about a failure.
//!
//! The table of statuses is the documentation's; every word of an upstream's is cut and cleaned
//! before it goes on.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tollgate_protocol::{Code, truncate};

use crate::batch::Error;

/// A row of the table: which statuses, the code, and whether trying again is of no use.
struct Row {
    statuses: RangeInclusive<u16>,
    code: Code,
    permanent: bool,
}

const fn row(first: u16, last: u16, code: Code, permanent: bool) -> Row {
    Row { statuses: first..=last, code, permanent }
}

/// What a status means; the first row that has it counts. `docs/upstreams.md` shows the same.
const TABLE: [Row; 12] = [
    row(200, 299, Code::Ok, false),
    row(400, 400, Code::ValidationError, true),
    row(401, 401, Code::Unauthorized, true),
    row(403, 403, Code::Forbidden, true),
    row(404, 404, Code::NotFound, true),
    row(408, 408, Code::UpstreamFailed, false),
    row(422, 422, Code::ValidationError, true),
    row(425, 425, Code::UpstreamFailed, false),
    row(429, 429, Code::RateLimited, false),
    row(400, 499, Code::RecipeExecution, true),
    row(500, 599, Code::UpstreamFailed, false),
    // Redirects are not followed: where they lead is the upstream's word, not the operator's.
    row(100, 999, Code::UpstreamFailed, true),
];

/// The code of a status, and whether trying again is of no use.
pub(super) fn meaning(status: u16) -> (Code, bool) {
    let row = TABLE.iter().find(|row| row.statuses.contains(&status));
    row.map_or((Code::UpstreamFailed, true), |row| (row.code, row.permanent))
}

/// What an upstream says of a failure: the members of a problem document (RFC 9457) that are
/// understood, or of an `error` line.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Words {
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    pub message: Option<String>,
    pub code: Option<String>,
    app_code: Option<Value>,
    details: BTreeMap<String, Value>,
    permanent: bool,
    retry_after_ms: Option<u64>,
}

impl Words {
    /// Puts what was said into an error.
    pub(super) fn tell(self, mut error: Error) -> Error {
        if let Some(kind) = self.kind.filter(|kind| kind != "about:blank") {
            error = error.detail("problem_type", clean(&kind, DETAIL_BYTES_MAX));
        }
        if let Some(code) = self.app_code.as_ref().and_then(plain) {
            error = error.app_code(clean(&code, APP_CODE_BYTES_MAX));
        }
        let plain_details = self.details.iter().filter_map(|(k, v)| Some((k, plain(v)?)));
        for (key, value) in plain_details.take(DETAILS_MAX) {
            let key = clean(key, KEY_BYTES_MAX);
            error = error.detail(&key, clean(&value, DETAIL_BYTES_MAX));
        }
        if let Some(ms) = self.retry_after_ms {
            error = error.retry_after(Duration::from_millis(ms).min(RETRY_AFTER_MAX));
        }
        if self.permanent { error.permanent() } else { error }
    }

    fn sentence(&self) -> Option<String> {
        let said = [&self.title, &self.detail].map(|s| s.as_deref().map(str::trim));
        let said = said.into_iter().flatten().filter(|s| !s.is_empty());
        let said = said.collect::<Vec<_>>().join(": ");
        (!said.is_empty()).then(|| clean(&said, MESSAGE_BYTES_MAX))
    }
}

/// The error of an answer that is none of success.
pub(super) fn failure(
    status: u16,
    content_type: Option<&str>,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Error {
    let (code, permanent) = meaning(status);
    let is_problem = media_type(content_type) == Some("application/problem+json");
    let words = is_problem.then(|| serde_json::from_slice::<Words>(body).ok()).flatten();
    let said = words.as_ref().and_then(Words::sentence);
    let message = said.unwrap_or_else(|| match status {
        300..=399 => format!("the upstream answered {status}: redirects are not followed"),
        _ => format!("the upstream answered {status}"),
    });
    let mut error = Error::with_code(code, message).detail("http_status", status);
    if let Some(wait) = retry_after {
        error = error.retry_after(wait);
    }
    if permanent {
        error = error.permanent();
    }
    match words {
        Some(words) => words.tell(error),
        None => match clean(&String::from_utf8_lossy(body), EXCERPT_BYTES_MAX) {
            excerpt if excerpt.is_empty() => error,
            excerpt => error.detail("body", excerpt),
        },
    }
}

/// The media type of a `Content-Type`, without its parameters.
pub(super) fn media_type(content_type: Option<&str>) -> Option<&str> {
    content_type.and_then(|text| text.split(';').next()).map(str::trim)
}

/// What `Retry-After` says: seconds, or a date.
pub(super) fn retry_after(text: &str, now: jiff::Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// An upstream's words as text of one line, without characters that command a terminal or turn the
/// direction of writing.
pub(super) fn clean(text: &str, bytes_max: usize) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let cut = truncate(text, bytes_max);
    let plain = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    cut.chars().map(plain).collect::<String>().trim().to_owned()
}

/// A value that is text, a number or a truth, as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Of the body of a failure so much is read.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 10;
const EXCERPT_BYTES_MAX: usize = 512;
const APP_CODE_BYTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 64;
const DETAIL_BYTES_MAX: usize = 512;
const DETAILS_MAX: usize = 16;
/// Who is told to come back later than this is told this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

#[cfg(test)]
mod tests;
