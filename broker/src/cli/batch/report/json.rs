//! Results and the summary as JSON lines.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{json, value::RawValue};
use tollgate_client::{Ended, Failure, ItemResult, Metadata};

use crate::cli::batch::payload::{self, Shown};

/// A result as a JSON line.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    pub event: &'static str,
    pub id: u64,
    pub source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// As HTTP has it; `null` when the item was not sent.
    pub status: Option<u16>,
    pub code: &'a str,
    pub attempts: u32,
    pub queued_ms: f64,
    pub duration_ms: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<serde_json::Value>,
}

/// The end of a batch as a JSON line: our own count, then what the broker says.
#[derive(Debug, Serialize)]
pub(super) struct SummaryLine<'a> {
    pub event: &'static str,
    pub total: u64,
    pub succeeded: u64,
    pub failed: &'a BTreeMap<String, u64>,
    /// Sent, and given up by the broker without a result: the batch ended early.
    pub not_run: usize,
    pub ended: Option<&'static str>,
    pub duration_ms: Option<f64>,
    pub throttled_ms: Option<f64>,
    pub bytes_in: Option<u64>,
    pub bytes_out: Option<u64>,
    pub last_id_read: Option<u64>,
}

impl<'a> Line<'a> {
    pub(super) fn new(id: u64, source: &'a str) -> Self {
        Line {
            event: "result",
            id,
            source,
            tenant: None,
            status: None,
            code: "",
            attempts: 0,
            queued_ms: 0.0,
            duration_ms: 0.0,
            metadata: BTreeMap::new(),
            payload: None,
            payload_text: None,
            payload_base64: None,
            error: None,
        }
    }

    pub(super) fn of(r: &'a ItemResult, code: &'a str, source: &'a str) -> Self {
        let mut line = Line {
            tenant: r.tenant.as_deref(),
            status: Some(r.status),
            code,
            attempts: r.attempts,
            queued_ms: ms(r.queued),
            duration_ms: ms(r.duration),
            metadata: r.metadata.iter().collect(),
            ..Line::new(r.id, source)
        };
        match &r.outcome {
            Ok(payload) => match Shown::of(payload) {
                Shown::Json(json) => line.payload = Some(json),
                Shown::Text(text) => line.payload_text = Some(text),
                Shown::Bytes(bytes) => line.payload_base64 = Some(payload::base64(bytes)),
            },
            Err(failure) => line.error = Some(error(failure)),
        }
        line
    }
}

/// A failure as JSON, but for its code.
pub(in crate::cli) fn error(f: &Failure) -> serde_json::Value {
    let map = |m: &Metadata| {
        m.iter().map(|(k, v)| (k.to_owned(), v.into())).collect::<serde_json::Map<_, _>>()
    };
    let mut error = json!({
        "message": f.message,
        "retryable": f.retryable,
        "side_effect_free": f.side_effect_free,
    });
    if let Some(after) = f.retry_after {
        error["retry_after_ms"] = ms(after).into();
    }
    if let Some(code) = &f.app_code {
        error["app_code"] = (**code).into();
    }
    if let Some(q) = &f.quota {
        error["quota"] = json!({ "name": q.quota, "current": q.current, "limit": q.limit });
    }
    if !f.details.is_empty() {
        error["details"] = map(&f.details).into();
    }
    error
}

/// What ended a batch, in one word.
pub(super) fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Sealed => "sealed",
        Ended::Cancelled => "cancelled",
        Ended::DeadlineExceeded => "deadline_exceeded",
        Ended::FailFast => "fail_fast",
        Ended::Cut => "cut",
        Ended::SealedByBroker => "sealed_by_broker",
        Ended::Draining => "draining",
    }
}

/// Milliseconds, to the microsecond.
pub(super) fn ms(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e6).round() / 1e3
}
