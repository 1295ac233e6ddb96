//! The headers of a request: the configured ones, and those that say whose item it is.
//!
//! The tenant is the certificate's, never the payload's; what a client chose (metadata) stands under
//! a prefix of its own, and only when it is a header as it is.

use std::{collections::BTreeMap, time::Instant};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use tollgate_protocol::Pairs;

use super::{
    config::{Encoding, HeaderText, Method},
    error::Problem,
    files,
};
use crate::batch::Context;

pub(super) const TENANT: HeaderName = HeaderName::from_static("tollgate-tenant");
pub(super) const BATCH: HeaderName = HeaderName::from_static("tollgate-batch");
pub(super) const ITEM: HeaderName = HeaderName::from_static("tollgate-item");
pub(super) const RECIPE: HeaderName = HeaderName::from_static("tollgate-recipe");
pub(super) const ATTEMPT: HeaderName = HeaderName::from_static("tollgate-attempt");
pub(super) const DEADLINE_MS: HeaderName = HeaderName::from_static("tollgate-deadline-ms");
const METADATA_PREFIX: &str = "tollgate-metadata-";
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A header as it is configured: judged, its secret not read yet.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    name: HeaderName,
    text: HeaderText,
}

/// Judges the names of headers, and those values that stand in the configuration.
///
/// # Errors
/// The name at fault, and what is wrong with it.
pub(super) fn plan(
    headers: &BTreeMap<String, HeaderText>,
) -> Result<Vec<Planned>, (String, Problem)> {
    let one = |(name, text): (&String, &HeaderText)| {
        judged(name, text).map_err(|problem| (name.clone(), problem))
    };
    headers.iter().map(one).collect()
}

fn judged(name: &str, text: &HeaderText) -> Result<Planned, Problem> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Problem::HeaderName)?;
    if RESERVED.contains(&name) || name.as_str().starts_with("tollgate-") {
        return Err(Problem::HeaderReserved);
    }
    match text {
        HeaderText::Text(_) if SECRET.contains(&name) => return Err(Problem::Secret),
        HeaderText::Text(text) => drop(value(text)?),
        HeaderText::Env(secret) if secret.env.starts_with("TOLLGATE_") => {
            return Err(Problem::VariableIsKey);
        }
        HeaderText::File(_) | HeaderText::Env(_) => {}
    }
    Ok(Planned { name, text: text.clone() })
}

/// Reads the secrets of headers, and puts all together: those that come later win.
///
/// # Errors
/// The name at fault, and what is wrong with it.
pub(super) fn read<'p>(
    planned: impl IntoIterator<Item = &'p Planned>,
) -> Result<HeaderMap, (String, Problem)> {
    let mut headers = HeaderMap::new();
    for Planned { name, text } in planned {
        let value = secret(text).map_err(|problem| (name.to_string(), problem))?;
        headers.insert(name.clone(), value);
    }
    Ok(headers)
}

fn secret(text: &HeaderText) -> Result<HeaderValue, Problem> {
    let whole = match text {
        HeaderText::Text(text) => return value(text),
        HeaderText::File(from) => format!("{}{}", from.prefix, files::first_line(&from.file)?),
        HeaderText::Env(from) => {
            let secret =
                std::env::var(&from.env).map_err(|_| Problem::NoVariable(from.env.clone()))?;
            format!("{}{secret}", from.prefix)
        }
    };
    let mut value = value(&whole)?;
    value.set_sensitive(true);
    Ok(value)
}

fn value(text: &str) -> Result<HeaderValue, Problem> {
    let wrong = Problem::HeaderValue { max: VALUE_BYTES_MAX };
    if text.len() > VALUE_BYTES_MAX {
        return Err(wrong);
    }
    HeaderValue::from_str(text).map_err(|_| wrong)
}

/// What a recipe's requests have in common, unless its configuration says otherwise.
pub(super) fn with_defaults(
    mut headers: HeaderMap,
    method: Method,
    encoding: Encoding,
) -> HeaderMap {
    let (content_type, accept) = match encoding {
        Encoding::Json => (
            HeaderValue::from_static("application/json"),
            HeaderValue::from_static("application/json, application/x-ndjson"),
        ),
        Encoding::Postcard | Encoding::Bytes => {
            (HeaderValue::from_static("application/octet-stream"), HeaderValue::from_static("*/*"))
        }
    };
    if method.has_body() {
        headers.entry(header::CONTENT_TYPE).or_insert(content_type);
    }
    headers.entry(header::ACCEPT).or_insert(accept);
    headers
}

/// Adds what the upstream is to know of an item.
pub(super) fn of_item(headers: &mut HeaderMap, ctx: &Context, now: Instant) {
    metadata(headers, ctx.metadata());
    let ascii = |text: &str| HeaderValue::from_str(text).ok();
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    set(TENANT, ascii(ctx.tenant().as_str()));
    set(RECIPE, ascii(ctx.recipe().as_str()));
    set(BATCH, ascii(&ctx.batch_id().to_string()));
    set(ITEM, Some(HeaderValue::from(ctx.item_id())));
    set(ATTEMPT, Some(HeaderValue::from(ctx.attempt())));
    set(TRACEPARENT, ctx.traceparent().and_then(ascii));
    let left = ctx.deadline().map(|at| at.saturating_duration_since(now).as_millis());
    let left = left.map(|ms| HeaderValue::from(u64::try_from(ms).unwrap_or(u64::MAX).max(1)));
    set(DEADLINE_MS, left);
}

/// The pairs that are headers as they are, within bounds; of equal names the last counts, as in the
/// protocol.
fn metadata(headers: &mut HeaderMap, pairs: Pairs<'_>) {
    let mut bytes = 0;
    for (key, value) in pairs.iter() {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > METADATA_KEY_BYTES_MAX || !key.bytes().all(plain) {
            continue;
        }
        if value.len() > METADATA_VALUE_BYTES_MAX {
            continue;
        }
        let name = format!("{METADATA_PREFIX}{}", key.to_ascii_lowercase());
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            continue;
        };
        bytes += key.len() + value.len();
        if bytes > METADATA_BYTES_MAX {
            return;
        }
        headers.insert(name, value);
    }
}

/// Headers that belong to the connection and the message, or that the broker sets.
const RESERVED: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    TRACEPARENT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// Headers whose value is a secret whatever it is.
const SECRET: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-api-key")];
/// A configured value, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// The metadata of one item that becomes headers: a key, a value, and all of it, in bytes.
const METADATA_KEY_BYTES_MAX: usize = 64;
const METADATA_VALUE_BYTES_MAX: usize = 1 << 10;
const METADATA_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests;
