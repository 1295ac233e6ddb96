//! What a batch has to say: lines of JSON, gathered into few large chunks.

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use tollgate_protocol::{
    Code, Pairs,
    batch::{self as wire, Ended, Number, Summary},
    id::BatchId,
};
use utoipa::ToSchema;

use super::super::{
    problem::{pairs, scope, whole_ms},
    time::rfc3339,
};
use crate::{
    batch::{Accepted, Failure, Head, Reply, Report, Sink},
    tenancy::Stop,
};

/// A chunk is handed on once it holds this much, even while more is to come.
pub(in crate::http) const FLUSH_BYTES: usize = 32 << 10;
/// While this much waits, nothing new is read.
pub(super) const FULL_BYTES: usize = 128 << 10;

/// Lines on their way out.
#[derive(Debug, Default)]
pub(in crate::http) struct Output {
    buf: Vec<u8>,
    /// Result payload bytes not yet charged to the tenant.
    pub unpaid: u64,
}

/// A line: an object with one member.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Accepted(Granted),
    JobAccepted(Job),
    Result(Outcome<'a>),
    Progress(Progress<'a>),
    Throttled(Throttled),
    Notice(Notice<'a>),
    Alive(Alive),
    Gap(Gap),
    Detached(Detached),
    Summary(Counts),
    Error(Problem<'a>),
}

#[derive(Serialize)]
struct Alive {}

/// The numbers of another epoch mean nothing any more: all that is kept follows.
#[derive(Serialize)]
struct Gap {
    epoch: u64,
}

/// Everything is kept, and the client wants to hear no more.
#[derive(Serialize)]
struct Detached {
    batch_id: String,
}

#[derive(Serialize)]
struct Granted {
    batch_id: String,
    concurrency_max: u32,
    items_max: u64,
    line_bytes_max: u32,
    payload_bytes_max: u64,
    deadline_ms: Option<u64>,
    /// Of a durable batch that is gone on with: the last item that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_id: Option<u64>,
}

/// An item became a job, which is kept.
#[derive(Serialize)]
struct Job {
    id: u64,
    job_id: String,
    existing: bool,
    #[serde(flatten)]
    number: Place,
}

/// A place among durable outcomes; nothing for what is not one.
#[derive(Serialize, Default, ToSchema)]
#[schema(as = JobPlace)]
struct Place {
    /// Which numbering: another one means that numbers were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// Its number: what follows it is what comes `after=epoch.sequence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

impl From<Number> for Place {
    fn from(n: Number) -> Place {
        let there = |value| Some(value).filter(|_| n.sequence > 0);
        Place { epoch: there(n.epoch), sequence: there(n.sequence) }
    }
}

/// How an item ended.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemResult)]
pub(in crate::http) struct Outcome<'a> {
    /// The item's id in its batch.
    id: u64,
    /// As the status of an HTTP answer.
    status: u16,
    /// How it ended, by name.
    code: &'static str,
    /// How often it was tried.
    attempts: u32,
    /// How long it waited.
    queued_us: u64,
    /// How long it ran.
    duration_us: u64,
    #[serde(flatten)]
    number: Place,
    /// What its recipe said beside the payload.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    metadata: BTreeMap<&'a str, &'a str>,
    /// The payload of a success, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<&'a RawValue>,
    /// The payload of a success, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error<'a>>,
}

#[derive(Serialize)]
struct Problem<'a> {
    status: u16,
    code: &'static str,
    #[serde(flatten)]
    error: Error<'a>,
}

/// Why an item failed.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemError)]
struct Error<'a> {
    /// For people.
    message: &'a str,
    /// Whether the same item may succeed later.
    retryable: bool,
    /// Whether nothing happened.
    side_effect_free: bool,
    /// After how many milliseconds trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The recipe's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_code: Option<&'a str>,
    #[serde(flatten)]
    quota: Option<Refused>,
    /// More, for programs.
    details: BTreeMap<String, String>,
}

/// Which quota refused it.
#[derive(Serialize, ToSchema)]
#[schema(as = ItemRefused)]
struct Refused {
    /// Its name.
    quota: &'static str,
    /// Whose it is.
    scope: &'static str,
    /// What is used of it.
    current: u64,
    /// What it allows.
    limit: u64,
}

impl<'a> From<&'a Failure> for Error<'a> {
    fn from(f: &'a Failure) -> Self {
        Error {
            message: &f.message,
            retryable: f.retryable,
            side_effect_free: f.side_effect_free,
            retry_after_ms: f.retry_after.map(whole_ms),
            app_code: f.app_code.as_deref(),
            quota: f.quota.as_deref().map(|q| Refused {
                quota: q.quota.name(),
                scope: scope(q.scope),
                current: q.current,
                limit: q.limit,
            }),
            details: pairs(f),
        }
    }
}

#[derive(Serialize)]
struct Progress<'a> {
    id: u64,
    attempt: u32,
    done: u64,
    total: u64,
    at: String,
    message: &'a str,
}

#[derive(Serialize)]
struct Throttled {
    quota: &'static str,
    scope: &'static str,
    current: u64,
    limit: u64,
    resume_ms: u64,
}

#[derive(Serialize)]
struct Notice<'a> {
    kind: &'static str,
    at: String,
    message: &'a str,
}

#[derive(Serialize)]
struct Counts {
    ended: &'static str,
    total: u64,
    succeeded: u64,
    failed: BTreeMap<Cow<'static, str>, u64>,
    last_id_read: Option<u64>,
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    throttled_us: u64,
    #[serde(flatten)]
    number: Place,
}

impl Output {
    /// Bytes that wait to be handed on.
    pub(in crate::http) fn len(&self) -> usize {
        self.buf.len()
    }

    pub(in crate::http) fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Everything that waits, as one chunk.
    pub(in crate::http) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.buf).into()
    }

    fn line(&mut self, line: &Line<'_>) {
        serde_json::to_writer(&mut self.buf, line).expect("a buffer takes it, and keys are text");
        self.buf.push(b'\n');
    }

    pub(super) fn accepted(&mut self, batch_id: BatchId, a: &wire::Accepted<'_>) {
        self.line(&Line::Accepted(Granted {
            batch_id: batch_id.to_string(),
            concurrency_max: a.concurrency_max,
            items_max: a.items_max,
            line_bytes_max: a.frame_bytes_max,
            payload_bytes_max: a.payload_bytes_max,
            deadline_ms: a.deadline_ms,
            last_id: a.last_id,
        }));
    }

    pub(super) fn throttled(&mut self, stop: &Stop) {
        self.line(&Line::Throttled(Throttled {
            quota: stop.quota.name(),
            scope: "tenant",
            current: stop.current,
            limit: stop.limit,
            resume_ms: stop.wait_ms().unwrap_or(0),
        }));
    }

    pub(in crate::http) fn notice(&mut self, kind: &'static str, at: SystemTime, message: &str) {
        self.line(&Line::Notice(Notice { kind, at: rfc3339(at), message }));
    }

    /// Numbers begin again.
    pub(in crate::http) fn gap(&mut self, epoch: u64) {
        self.line(&Line::Gap(Gap { epoch }));
    }

    pub(super) fn detached(&mut self, batch_id: BatchId) {
        self.line(&Line::Detached(Detached { batch_id: batch_id.to_string() }));
    }

    pub(in crate::http) fn alive(&mut self) {
        self.line(&Line::Alive(Alive {}));
    }

    pub(in crate::http) fn error(&mut self, f: &Failure) {
        let (status, code) = (f.code.status(), f.code.name());
        self.line(&Line::Error(Problem { status, code, error: f.into() }));
    }

    pub(in crate::http) fn summary(&mut self, s: &Summary<'_>) {
        let name = |code: u16| match Code::from_number(code) {
            Some(code) => Cow::Borrowed(code.name()),
            None => Cow::Owned(code.to_string()),
        };
        self.line(&Line::Summary(Counts {
            ended: ended(s.ended),
            total: s.total,
            succeeded: s.succeeded,
            failed: s.failed.iter().map(|&(code, n)| (name(code), n)).collect(),
            last_id_read: s.last_id_read,
            duration_us: s.duration_us,
            bytes_in: s.bytes_in,
            bytes_out: s.bytes_out,
            throttled_us: s.throttled_us,
            number: s.number.into(),
        }));
    }
}

fn ended(ended: Ended) -> &'static str {
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

/// Makes the line of a result, and hands it to `write`.
fn told<R>(
    head: &Head<'_>,
    outcome: Result<&Reply, &Failure>,
    write: impl FnOnce(Outcome<'_>) -> R,
) -> R {
    let mut line = Outcome {
        id: head.id,
        status: 200,
        code: Code::Ok.name(),
        attempts: head.attempts,
        queued_us: head.queued_us,
        duration_us: head.duration_us,
        number: head.number.into(),
        metadata: BTreeMap::new(),
        payload: None,
        payload_base64: None,
        error: None,
    };
    match outcome {
        Ok(reply) => {
            let pairs: Pairs<'_> = reply.pairs().as_pairs();
            line.metadata = pairs.iter().collect();
            let payload = on_one_line(reply.payload());
            line.payload = payload.as_deref().and_then(|p| serde_json::from_slice(p).ok());
            if line.payload.is_none() {
                line.payload_base64 = Some(STANDARD.encode(reply.payload()));
            }
            write(line)
        }
        Err(failure) => {
            line.status = failure.code.status();
            line.code = failure.code.name();
            line.error = Some(failure.into());
            write(line)
        }
    }
}

/// A result as a document of its own.
pub(in crate::http) fn document(head: &Head<'_>, outcome: Result<&Reply, &Failure>) -> Vec<u8> {
    let written = |line: Outcome<'_>| serde_json::to_vec(&line);
    told(head, outcome, written).expect("memory takes it, and keys are text")
}

impl Sink for Output {
    fn result(&mut self, head: &Head<'_>, outcome: Result<&mut Reply, &Failure>) {
        let outcome = outcome.map(|reply| &*reply);
        self.unpaid += outcome.map_or(0, |reply| reply.payload().len() as u64);
        told(head, outcome, |line| self.line(&Line::Result(line)));
    }

    fn is_full(&self) -> bool {
        self.len() >= FULL_BYTES
    }

    fn accepted(&mut self, a: &Accepted, _: Option<&str>) {
        let (id, existing) = (a.item, a.existing);
        let (job_id, number) = (a.job.to_string(), a.number.into());
        self.line(&Line::JobAccepted(Job { id, job_id, existing, number }));
    }

    fn progress(&mut self, r: &Report) {
        self.line(&Line::Progress(Progress {
            id: r.item_id,
            attempt: r.attempt,
            done: r.done,
            total: r.total,
            at: rfc3339(r.at),
            message: &r.message,
        }));
    }
}

/// A payload without ends of lines, if it is JSON: there they only ever stand between tokens, where a
/// space is as good.
fn on_one_line(payload: &[u8]) -> Option<Cow<'_, [u8]>> {
    serde_json::from_slice::<&RawValue>(payload).ok()?;
    if !payload.iter().any(|b| matches!(b, b'\n' | b'\r')) {
        return Some(payload.into());
    }
    let space = |b: &u8| if matches!(b, b'\n' | b'\r') { b' ' } else { *b };
    Some(payload.iter().map(space).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(payload: &[u8]) -> String {
        let mut output = Output::default();
        let head = Head {
            id: 1,
            tenant: None,
            attempts: 1,
            queued_us: 0,
            duration_us: 0,
            number: Number::default(),
        };
        output.result(&head, Ok(&mut Reply::from(payload.to_vec())));
        String::from_utf8(output.take().to_vec()).expect("text")
    }

    #[test]
    fn what_is_json_stays_json_on_one_line() {
        let line = result(b"{\n  \"a\": [1.50,\r\n \"x\\n\"]\n}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.contains(r#""payload":{   "a": [1.50,   "x\n"] }"#), "{line}");
        assert!(result(b"1e400").contains("\"payload\":1e400"), "a number as it stands");
    }

    #[test]
    fn what_is_not_json_is_base64() {
        for (payload, encoded) in
            [(&b"hello"[..], "aGVsbG8="), (b"", ""), (b"\xff\n", "/wo="), (b"\"a\nb\"", "ImEKYiI=")]
        {
            let line = result(payload);
            assert!(line.contains(&format!("\"payload_base64\":\"{encoded}\"")), "{line}");
        }
    }
}
