//! What an item came to, owned: its result, and why there is none.
//!
//! Nothing here retries or judges: a failure says itself whether trying again makes sense.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tollgate_protocol::{
    Code, Pairs, PairsBuf,
    batch::{self, Body, Number, Scope},
};

/// The end of one item: exactly one for every item of a batch.
#[derive(Debug, Clone)]
#[must_use = "an item may have failed: look at `outcome`"]
pub struct ItemResult {
    /// Which item.
    pub id: u64,
    /// Gateways only: the tenant it was for.
    pub tenant: Option<Box<str>>,
    /// The outcome as an HTTP status: 200 for success.
    pub status: u16,
    /// The outcome as a number of the table of codes: 0 for success.
    pub code_number: u16,
    /// How many times the broker started it; 0 when it never ran.
    pub attempts: u32,
    /// How long it waited before its last start.
    pub queued: Duration,
    /// How long its last attempt ran.
    pub duration: Duration,
    /// Its place among the tenant's durable outcomes; (0, 0) unless the item was a job.
    pub number: Number,
    /// From the recipe.
    pub metadata: Metadata,
    /// The recipe's answer, or why there is none.
    pub outcome: Result<Bytes, Box<Failure>>,
}

impl ItemResult {
    /// Whether the item was a job. The broker has tried it as often as its recipe allows: trying
    /// it again is not the client's part.
    pub fn is_job(&self) -> bool {
        self.number != Number::default()
    }

    /// Whether the item succeeded.
    pub fn is_success(&self) -> bool {
        self.outcome.is_ok()
    }

    /// The outcome in the table of codes; `None` for a number that this version does not know.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code_number)
    }

    /// The recipe's answer, if the item succeeded.
    pub fn payload(&self) -> Option<&Bytes> {
        self.outcome.as_ref().ok()
    }

    /// Why the item failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        self.outcome.as_ref().err().map(|f| &**f)
    }

    /// Reads the recipe's answer as JSON.
    ///
    /// # Errors
    /// [`ReadError::Failed`] when the item failed, [`ReadError::Json`] when the answer is not the
    /// JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        match &self.outcome {
            Ok(payload) => Ok(serde_json::from_slice(payload)?),
            Err(failure) => Err(ReadError::Failed(failure.clone())),
        }
    }

    /// A result made on this side of the wire, for an item that the broker does not judge.
    pub(crate) fn local(id: u64, failure: Failure) -> Self {
        let code = failure.code_number;
        let status = failure.code().map_or(500, Code::status);
        ItemResult {
            id,
            tenant: None,
            status,
            code_number: code,
            attempts: 0,
            queued: Duration::ZERO,
            duration: Duration::ZERO,
            number: Number::default(),
            metadata: Metadata::default(),
            outcome: Err(Box::new(failure)),
        }
    }

    /// `backing` is the buffer that `r` borrows from, when the payload may keep it alive: the
    /// payload is the last field of its frame, so it is the buffer's tail.
    pub(crate) fn own(r: &batch::ItemResult<'_>, backing: Option<&Bytes>) -> Self {
        let outcome = match (&r.body, backing) {
            (Body::Payload(p), Some(whole)) => Ok(whole.slice(whole.len() - p.len()..)),
            (Body::Payload(p), None) => Ok(Bytes::copy_from_slice(p)),
            (Body::Failure(f), _) => Err(Box::new(Failure::own(r.code, f))),
        };
        ItemResult {
            id: r.id,
            tenant: r.tenant.map(Into::into),
            status: r.status,
            code_number: r.code,
            attempts: r.attempts,
            queued: Duration::from_micros(r.queued_us),
            duration: Duration::from_micros(r.duration_us),
            number: r.number,
            metadata: Metadata::own(&r.metadata),
            outcome,
        }
    }

    pub(crate) fn borrow(&self) -> batch::ItemResult<'_> {
        batch::ItemResult {
            id: self.id,
            tenant: self.tenant.as_deref(),
            status: self.status,
            code: self.code_number,
            attempts: self.attempts,
            queued_us: micros(self.queued),
            duration_us: micros(self.duration),
            number: self.number,
            metadata: self.metadata.0.as_pairs(),
            extensions: tollgate_protocol::Extensions::EMPTY,
            body: match &self.outcome {
                Ok(payload) => Body::Payload(payload),
                Err(failure) => Body::Failure(failure.borrow()),
            },
        }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Why a result could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The item failed, so there is no answer.
    #[error("the item failed: {0}")]
    Failed(Box<Failure>),
    /// The answer is not what was asked for.
    #[error("the answer is not the JSON expected: {0}")]
    Json(#[from] serde_json::Error),
}

/// Why an item, a batch or an operation failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// A number of the table of codes.
    pub code_number: u16,
    /// For people; no promise about its wording.
    pub message: Box<str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether it is certain that nothing happened.
    pub side_effect_free: bool,
    /// After how long trying again makes sense, where that is known.
    pub retry_after: Option<Duration>,
    /// The recipe's own code.
    pub app_code: Option<Box<str>>,
    /// Set when a quota refused it.
    pub quota: Option<QuotaRefusal>,
    /// More, for programs: which field, which limit, which configuration key.
    pub details: Metadata,
}

impl Failure {
    /// The code in the table of codes; `None` for a number that this version does not know.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code_number)
    }

    /// The code's name, such as `RATE_LIMITED`.
    pub fn code_name(&self) -> &'static str {
        self.code().map_or("UNKNOWN", Code::name)
    }

    pub(crate) fn new(code: Code, message: impl Into<Box<str>>) -> Self {
        Failure {
            code_number: code.number(),
            message: message.into(),
            retryable: code.retryable(),
            side_effect_free: code.side_effect_free(),
            retry_after: None,
            app_code: None,
            quota: None,
            details: Metadata::default(),
        }
    }

    /// Of what the broker would not read.
    pub(crate) fn frame_too_large(what: &str, frame: usize, max: usize) -> Self {
        let message = format!(
            "the {what} takes a frame of {frame} bytes, the broker reads at most {max} \
             (`limits.frame_bytes_max`); payloads are also bounded by the tenant's quota \
             `payload_bytes`. It was not sent"
        );
        let mut failure = Failure::new(Code::FrameTooLarge, message)
            .detail("limit", &max.to_string())
            .detail("length", &frame.to_string())
            .detail("config_key", "limits.frame_bytes_max")
            .detail("quota", "payload_bytes");
        failure.side_effect_free = true;
        failure
    }

    pub(crate) fn detail(mut self, key: &str, value: &str) -> Self {
        self.details.0.push_lossy(key, value);
        self
    }

    pub(crate) fn own(code: u16, f: &batch::Failure<'_>) -> Self {
        Failure {
            code_number: code,
            message: f.message.into(),
            retryable: f.retryable,
            side_effect_free: f.side_effect_free,
            retry_after: f.retry_after_ms.map(Duration::from_millis),
            app_code: f.app_code.map(Into::into),
            quota: f.quota.map(|q| QuotaRefusal {
                quota: q.quota.into(),
                scope: q.scope,
                current: q.current,
                limit: q.limit,
            }),
            details: Metadata::own(&f.details),
        }
    }

    fn borrow(&self) -> batch::Failure<'_> {
        batch::Failure {
            message: &self.message,
            retryable: self.retryable,
            side_effect_free: self.side_effect_free,
            retry_after_ms: self
                .retry_after
                .map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            app_code: self.app_code.as_deref(),
            quota: self.quota.as_ref().map(|q| batch::QuotaRefusal {
                quota: &q.quota,
                scope: q.scope,
                current: q.current,
                limit: q.limit,
            }),
            details: self.details.0.as_pairs(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{code}: {}", self.message)?,
            None => write!(f, "code {}: {}", self.code_number, self.message)?,
        }
        match &self.quota {
            Some(QuotaRefusal { quota, current, limit, .. }) => {
                write!(f, " ({quota}: {current} of {limit})")
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Which quota was used up, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRefusal {
    /// The quota's name.
    pub quota: Box<str>,
    /// Whose limit it is.
    pub scope: Scope,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed, in the quota's unit.
    pub limit: u64,
}

/// A small string map: keys in the sender's order, the last of equal keys counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) PairsBuf);

impl Metadata {
    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.as_pairs().find(key)
    }

    /// The pairs, in the sender's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.as_pairs().iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn own(pairs: &Pairs<'_>) -> Self {
        if pairs.is_empty() { Metadata::default() } else { Metadata(pairs.to_buf()) }
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
