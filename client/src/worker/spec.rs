//! What a worker promises about a recipe.

use std::time::Duration;

use tollgate_protocol::{
    Extensions, WorkerFrame, describe::Encoding, encode, limits, truncate, work,
};

use super::error::WorkerError;

/// What is promised about a recipe; everything has a default. All workers of a recipe must promise
/// the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Spec {
    pub(super) encoding: Encoding,
    timeout: Option<Duration>,
    queue_timeout: Option<Duration>,
    estimated_duration: Duration,
    concurrency_max: Option<u32>,
    idempotent: bool,
    retry: JobRetry,
    payload_bytes_max: Option<u64>,
    result_bytes_max: Option<u64>,
    description: String,
    schema: Option<String>,
}

/// How often, and after what waits, the broker tries a failed job again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRetry {
    /// How many tries in all; at least 1 (5).
    pub attempts_max: u32,
    /// The wait before the second (1 s).
    pub first: Duration,
    /// By how much each wait is longer than the one before, in per cent; at least 100 (200).
    pub factor_percent: u32,
    /// The longest wait (5 min).
    pub cap: Duration,
}

impl Default for JobRetry {
    fn default() -> Self {
        JobRetry {
            attempts_max: 5,
            first: Duration::from_secs(1),
            factor_percent: 200,
            cap: Duration::from_secs(300),
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Spec::new()
    }
}

impl Spec {
    /// Every promise at its default: payloads are bytes, running it twice is not harmless.
    pub fn new() -> Self {
        Spec {
            encoding: Encoding::Bytes,
            timeout: None,
            queue_timeout: None,
            estimated_duration: Duration::ZERO,
            concurrency_max: None,
            idempotent: false,
            retry: JobRetry::default(),
            payload_bytes_max: None,
            result_bytes_max: None,
            description: String::new(),
            schema: None,
        }
    }

    /// How payloads are encoded. [`WorkerBuilder::typed`](super::WorkerBuilder::typed) sets JSON.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// The longest an attempt may run. Left out: the larger of 5 s and four times the estimate.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The longest an item waits to be started. Left out: 30 s.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// How long it usually takes.
    pub fn estimated_duration(mut self, estimate: Duration) -> Self {
        self.estimated_duration = estimate;
        self
    }

    /// How many run at once, on all workers together. Left out: as many as the workers take.
    pub fn concurrency_max(mut self, calls: u32) -> Self {
        self.concurrency_max = Some(calls);
        self
    }

    /// Running it twice does no more than running it once: when a worker is lost, the broker may
    /// give its calls to another.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// How jobs of it are tried again.
    pub fn retry(mut self, retry: JobRetry) -> Self {
        self.retry = retry;
        self
    }

    /// The largest payload it takes, in bytes.
    pub fn payload_bytes_max(mut self, bytes: u64) -> Self {
        self.payload_bytes_max = Some(bytes);
        self
    }

    /// The largest result it gives, in bytes. Left out: 1 MiB.
    pub fn result_bytes_max(mut self, bytes: u64) -> Self {
        self.result_bytes_max = Some(bytes);
        self
    }

    /// What it does, for people; cut to 4 KiB.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// A JSON Schema of its payload, which then is JSON. The broker judges payloads by it before
    /// the worker sees them.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        (self.schema, self.encoding) = (Some(schema.into()), Encoding::Json);
        self
    }

    /// What would be refused for sure.
    pub(super) fn check(&self, name: &str) -> Result<(), WorkerError> {
        let wrong =
            |what: String| Err(WorkerError::Config(format!("recipe {name}: {what}").into()));
        if self.schema.as_ref().is_some_and(|s| s.len() > limits::SCHEMA_BYTES_MAX) {
            return wrong(format!("the schema is longer than {} bytes", limits::SCHEMA_BYTES_MAX));
        }
        if self.schema.is_some() && self.encoding != Encoding::Json {
            return wrong("a schema needs the encoding JSON".into());
        }
        if self.timeout.is_some_and(|t| millis(t) == 0) || self.concurrency_max == Some(0) {
            return wrong("`timeout` and `concurrency_max` must not be 0".into());
        }
        if self.retry.attempts_max == 0 || self.retry.factor_percent < 100 {
            return wrong("`attempts_max` is at least 1, `factor_percent` at least 100".into());
        }
        Ok(())
    }

    /// Appends the frame that registers it.
    pub(super) fn register(&self, name: &str, out: &mut Vec<u8>) {
        encode(
            &WorkerFrame::Register(work::RecipeSpec {
                name,
                encoding: self.encoding,
                timeout_ms: self.timeout.map(millis),
                queue_timeout_ms: self.queue_timeout.map(millis),
                estimated_duration_ms: millis(self.estimated_duration),
                concurrency_max: self.concurrency_max,
                idempotent: self.idempotent,
                attempts_max: self.retry.attempts_max,
                retry_first_ms: millis(self.retry.first),
                retry_factor_percent: self.retry.factor_percent,
                retry_cap_ms: millis(self.retry.cap),
                payload_bytes_max: self.payload_bytes_max,
                result_bytes_max: self.result_bytes_max,
                description: truncate(&self.description, limits::DESCRIPTION_BYTES_MAX),
                schema: self.schema.as_deref(),
                extensions: Extensions::EMPTY,
            }),
            out,
        );
    }
}

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
