//! One item of a batch, as a caller builds it.
//!
//! Never fails while it is built: what cannot be sent becomes that item's own failure, so that the
//! other items of its batch go on.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::Serialize;
use tollgate_protocol::{Code, PairsBuf, batch, limits};

use crate::{event::unix_ms, item::Failure};

/// One item: a recipe and its payload. A clone shares the payload.
///
/// ```
/// use std::time::Duration;
/// use tollgate_client::Request;
///
/// let request = Request::new("sha256", "some bytes")
///     .timeout(Duration::from_secs(2))
///     .metadata("source", "unit-7");
/// # let _ = request;
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) id: Option<u64>,
    pub(crate) recipe: Arc<str>,
    pub(crate) payload: Bytes,
    timeout: Option<Duration>,
    idempotency_key: Option<Arc<str>>,
    not_before_unix_ms: Option<u64>,
    tenant: Option<Arc<str>>,
    metadata: PairsBuf,
    pub(crate) invalid: Option<Box<Failure>>,
}

impl Request {
    /// An item for `recipe`.
    ///
    /// A name is copied once; pass an `Arc<str>` to share one among many items. A payload that is
    /// already [`Bytes`] or a `Vec<u8>` is not copied.
    pub fn new(recipe: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Request {
            id: None,
            recipe: recipe.into(),
            payload: payload.into(),
            timeout: None,
            idempotency_key: None,
            not_before_unix_ms: None,
            tenant: None,
            metadata: PairsBuf::new(),
            invalid: None,
        }
    }

    /// Sets the id: strictly larger than every id before it in the batch. Left out, it is one
    /// more than the id before it, from 0.
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// How long an attempt may run, in whole milliseconds (rounded up, at least 1): only ever
    /// shortens the recipe's own time-out.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the item a job that is run once for this key: within 24 hours, the same key for the
    /// same recipe gives the first job and its result. With another payload the item fails with
    /// `CONFLICT`. At most 256 bytes; a longer key makes the item fail with `VALIDATION_ERROR`,
    /// unsent.
    pub fn idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        let key = key.into();
        if key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
            let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
            let message = format!("the key has {} bytes, at most {max} are allowed", key.len());
            self.invalidate(&message, "idempotency_key");
        } else {
            self.idempotency_key = Some(key);
        }
        self
    }

    /// Makes the item a job that does not start before this time, by the broker's clock; in whole
    /// milliseconds.
    pub fn not_before(mut self, at: SystemTime) -> Self {
        self.not_before_unix_ms = Some(unix_ms(at));
        self
    }

    /// Gateways only: the tenant this item is for.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Adds a pair for the recipe: at most 64 of them, keys up to 128 bytes, values up to 4 KiB,
    /// 16 KiB in all. A pair beyond these makes the item fail with `VALIDATION_ERROR`, unsent.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        if let Err(e) = self.metadata.push(key, value) {
            self.invalidate(&format!("metadata {key:?} cannot be sent: {e}"), "metadata");
        }
        self
    }

    /// Replaces the payload by the JSON of `value`. A value that has no JSON (such as a map whose
    /// keys are not strings) makes the item fail with `VALIDATION_ERROR`, unsent.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.payload = json.into(),
            Err(e) => self.invalidate(&format!("the payload has no JSON: {e}"), "payload"),
        }
        self
    }

    /// The first thing that is wrong with the item is what it fails with.
    fn invalidate(&mut self, message: &str, field: &str) {
        if self.invalid.is_none() {
            let failure = Failure::new(Code::ValidationError, message).detail("field", field);
            self.invalid = Some(Box::new(failure));
        }
    }

    /// A copy of an item as it goes on the wire.
    pub(crate) fn own(r: &batch::Request<'_>) -> Self {
        Request {
            id: Some(r.id),
            timeout: r.timeout_ms.map(Duration::from_millis),
            idempotency_key: r.idempotency_key.map(Into::into),
            not_before_unix_ms: r.not_before_unix_ms,
            tenant: r.tenant.map(Into::into),
            metadata: r.metadata.to_buf(),
            ..Request::new(r.recipe, Bytes::copy_from_slice(r.payload))
        }
    }

    /// The item as it goes on the wire, but for its payload.
    pub(crate) fn head(&self, id: u64) -> batch::Request<'_> {
        batch::Request {
            id,
            recipe: &self.recipe,
            timeout_ms: self.timeout.map(whole_ms),
            idempotency_key: self.idempotency_key.as_deref(),
            not_before_unix_ms: self.not_before_unix_ms,
            tenant: self.tenant.as_deref(),
            metadata: self.metadata.as_pairs(),
            payload: &[],
        }
    }
}

/// Whole milliseconds, rounded up, at least 1: 0 would mean no time at all.
pub(crate) fn whole_ms(d: Duration) -> u64 {
    u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_rounded_up_and_never_zero() {
        assert_eq!(whole_ms(Duration::ZERO), 1);
        assert_eq!(whole_ms(Duration::from_micros(1_001)), 2);
        assert_eq!(whole_ms(Duration::from_millis(7)), 7);
        assert_eq!(whole_ms(Duration::MAX), u64::MAX);
    }

    #[test]
    fn what_cannot_be_sent_is_the_items_own_failure_and_the_first_counts() {
        let long = "v".repeat(5_000);
        let unjson = std::collections::HashMap::from([((1, 2), 3)]);
        let r = Request::new("echo", "x").metadata("k", &long).json(&unjson);
        let failure = r.invalid.expect("invalid");
        assert_eq!(failure.code(), Some(Code::ValidationError));
        assert!(failure.message.contains("4096"), "{}", failure.message);
        assert_eq!(failure.details.get("field"), Some("metadata"));
    }
}
