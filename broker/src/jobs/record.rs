//! What happens to jobs, as it is stored: frozen layouts, and the way there and back.
//!
//! A layout that is on disks never changes. What comes after it is another one, with a number of
//! its own in the store's table of kinds; the old one is read for ever.
//!
//! A record is a head in postcard, then, for submissions and ends, the bytes it is about: a payload
//! behind what the recipe is told beside it, or a result as it is sent.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tollgate_protocol::{
    PairsBuf,
    id::{BatchId, JobId, NameError, RecipeName},
};

use crate::{
    rules::job::{
        AttemptError, Batch, Body, Counts, Event, How, Job, Progress, Sealed, State, Submitted,
        plant::{self, Bug},
    },
    store::{Kind, Record, Stored, Stream},
};

/// The stream of a tenant's jobs, within its scope.
pub(super) const JOBS: Stream = Stream(1);

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// They do not decode.
    #[error("it does not decode: {0}")]
    Encoding(#[from] postcard::Error),
    /// It has a layout of a newer program.
    #[error("it has the layout {0}, which this program does not know")]
    Layout(u8),
    /// It is of a kind that does not belong here.
    #[error("a record of the kind {0:?} is among them")]
    Kind(Kind),
    /// A name in it is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A field has a value that means nothing.
    #[error("its {field} has the value {value}, which means nothing")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it has.
        value: u64,
    },
}

/// What a recipe is told beside the payload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Beside<'a> {
    pub metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub traceparent: Option<Cow<'a, str>>,
}

impl Beside<'_> {
    pub(super) fn pairs(&self) -> PairsBuf {
        let mut pairs = PairsBuf::new();
        self.metadata.iter().for_each(|(key, value)| pairs.push_lossy(key, value));
        pairs
    }
}

#[derive(Serialize, Deserialize)]
struct SubmittedV1<'a> {
    job: [u8; 16],
    batch: [u8; 16],
    item: u64,
    recipe: &'a str,
    priority: u8,
    timeout_ms: Option<u64>,
    deadline: Option<u64>,
    due: Option<u64>,
    key: Option<&'a str>,
    digest: [u8; 16],
    at: u64,
    payload_len: u32,
    #[serde(borrow)]
    beside: Beside<'a>,
}

#[derive(Serialize, Deserialize)]
struct StartedV1 {
    job: [u8; 16],
    attempt: u32,
    attempts_max: u32,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct ErrorV1<'a> {
    attempt: u32,
    at: u64,
    code: u16,
    message: &'a str,
}

#[derive(Serialize, Deserialize)]
struct ProgressedV1<'a> {
    job: [u8; 16],
    done: u64,
    total: u64,
    at: u64,
    message: &'a str,
}

#[derive(Serialize, Deserialize)]
struct AttemptFailedV1<'a> {
    job: [u8; 16],
    #[serde(borrow)]
    error: ErrorV1<'a>,
    due: u64,
}

#[derive(Serialize, Deserialize)]
struct EndedV1<'a> {
    job: [u8; 16],
    state: u8,
    code: u16,
    #[serde(borrow)]
    error: Option<ErrorV1<'a>>,
    at: u64,
    result_len: u32,
}

#[derive(Serialize, Deserialize)]
struct AboutV1 {
    id: [u8; 16],
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct BatchOpenedV1 {
    batch: [u8; 16],
    at: u64,
    fail_fast: bool,
}

#[derive(Serialize, Deserialize)]
struct SealedV1 {
    batch: [u8; 16],
    at: u64,
    how: u8,
    last_item: Option<u64>,
    refused: Vec<(u16, u64)>,
}

#[derive(Serialize, Deserialize)]
struct BatchEndedV2 {
    batch: [u8; 16],
    at: u64,
    counts: Option<CountsV1>,
}

/// Codes and how many, bytes of payloads, bytes of results.
type CountsV1 = (Vec<(u16, u64)>, u64, u64);

fn counts_v1(counts: Option<&Counts>) -> Option<CountsV1> {
    counts.map(|c| (c.codes.clone(), c.bytes_in, c.bytes_out))
}

fn counts(kept: Option<CountsV1>) -> Option<Counts> {
    kept.map(|(codes, bytes_in, bytes_out)| Counts { codes, bytes_in, bytes_out })
}

impl<'a> From<&'a AttemptError> for ErrorV1<'a> {
    fn from(e: &'a AttemptError) -> Self {
        ErrorV1 { attempt: e.attempt, at: e.at, code: e.code, message: &e.message }
    }
}

impl From<ErrorV1<'_>> for AttemptError {
    fn from(e: ErrorV1<'_>) -> Self {
        AttemptError { attempt: e.attempt, at: e.at, code: e.code, message: e.message.into() }
    }
}

/// An event as it is to be committed. `beside` and `bytes` are what a submission, or an end, is
/// about.
pub(super) fn record(event: &Event, beside: &Beside<'_>, bytes: &[u8]) -> Record {
    let (kind, mut body) = match event {
        Event::Submitted(s) => {
            let head = SubmittedV1 {
                job: s.job.0,
                batch: s.batch.0,
                item: s.item,
                recipe: s.recipe.as_str(),
                priority: s.priority,
                timeout_ms: s.timeout_ms,
                deadline: s.deadline,
                due: s.due,
                key: s.key.as_deref(),
                digest: s.digest,
                at: s.at,
                payload_len: s.payload_len,
                beside: beside.clone(),
            };
            (Kind::JobSubmitted, head_of(&head, bytes.len()))
        }
        Event::Started { job, attempt, attempts_max, at } => {
            let (attempt, attempts_max) = (*attempt, *attempts_max);
            let head = StartedV1 { job: job.0, attempt, attempts_max, at: *at };
            (Kind::JobStarted, head_of(&head, 0))
        }
        Event::Progressed { job, progress: p } => {
            let Progress { done, total, at, message } = p;
            let (done, total) = (*done, *total);
            let head = ProgressedV1 { job: job.0, done, total, at: *at, message };
            (Kind::JobProgressed, head_of(&head, 0))
        }
        Event::AttemptFailed { job, error, due } => {
            let head = AttemptFailedV1 { job: job.0, error: error.into(), due: *due };
            (Kind::JobAttemptFailed, head_of(&head, 0))
        }
        Event::Ended { job, state, code, error, at, result_len } => {
            let head = EndedV1 {
                job: job.0,
                state: state.number(),
                code: *code,
                error: error.as_ref().map(ErrorV1::from),
                at: *at,
                result_len: *result_len,
            };
            (Kind::JobEnded, head_of(&head, bytes.len()))
        }
        Event::Replayed { job, at } => (Kind::JobReplayed, about(job.0, *at)),
        Event::Moved { job, from } => (Kind::JobMoved, about(job.0, *from)),
        Event::Removed { job } => (Kind::JobRemoved, about(job.0, 0)),
        Event::BatchOpened { batch, at, fail_fast } => {
            let head = BatchOpenedV1 { batch: batch.0, at: *at, fail_fast: *fail_fast };
            (Kind::BatchOpened, head_of(&head, 0))
        }
        Event::BatchSealed { batch, at, how, last_item, refused } => {
            let (how, last_item, refused) = (how.number(), *last_item, refused.clone());
            let head = SealedV1 { batch: batch.0, at: *at, how, last_item, refused };
            (Kind::BatchSealed, head_of(&head, 0))
        }
        Event::BatchEnded { batch, at, counts } => {
            let counts = counts_v1(counts.as_ref());
            let head = BatchEndedV2 { batch: batch.0, at: *at, counts };
            (Kind::BatchEnded, head_of(&head, 0))
        }
        Event::BatchRemoved { batch } => (Kind::BatchRemoved, about(batch.0, 0)),
    };
    body.extend_from_slice(bytes);
    Record::new(JOBS, kind, body)
}

fn about(id: [u8; 16], at: u64) -> Vec<u8> {
    head_of(&AboutV1 { id, at }, 0)
}

fn head_of(head: &impl Serialize, more: usize) -> Vec<u8> {
    let mut out = postcard::to_allocvec(head).expect("writing to memory does not fail");
    out.reserve_exact(more);
    out
}

/// The first record of a stream: the epoch of its numbers.
pub(super) fn epoch_record(epoch: u64) -> Record {
    Record::new(JOBS, Kind::JobsBegun, epoch.to_be_bytes().to_vec())
}

/// The epoch, when it is that record.
pub(super) fn epoch(stored: &Stored) -> Option<u64> {
    let body: [u8; 8] = stored.body[..].try_into().ok()?;
    (stored.kind == Kind::JobsBegun).then(|| u64::from_be_bytes(body))
}

/// The event of a stored record.
///
/// # Errors
/// [`BadRecord`].
pub(super) fn event(stored: &Stored) -> Result<Event, BadRecord> {
    if !(1..=stored.kind.layout()).contains(&stored.layout) {
        return Err(BadRecord::Layout(stored.layout));
    }
    let body = &stored.body[..];
    Ok(match stored.kind {
        Kind::JobSubmitted => {
            let (s, _) = postcard::take_from_bytes::<SubmittedV1<'_>>(body)?;
            Event::Submitted(Box::new(Submitted {
                job: JobId(s.job),
                batch: BatchId(s.batch),
                item: s.item,
                recipe: RecipeName::parse(s.recipe)?,
                priority: s.priority,
                timeout_ms: s.timeout_ms,
                deadline: s.deadline,
                due: s.due,
                key: s.key.map(Into::into),
                digest: s.digest,
                at: s.at,
                payload_len: s.payload_len,
            }))
        }
        Kind::JobStarted => {
            let s: StartedV1 = postcard::from_bytes(body)?;
            let (attempt, attempts_max) = (s.attempt, s.attempts_max);
            Event::Started { job: JobId(s.job), attempt, attempts_max, at: s.at }
        }
        Kind::JobProgressed => {
            let p: ProgressedV1<'_> = postcard::from_bytes(body)?;
            let ProgressedV1 { done, total, at, message, .. } = p;
            let progress = Progress { done, total, at, message: message.into() };
            Event::Progressed { job: JobId(p.job), progress }
        }
        Kind::JobAttemptFailed => {
            let f: AttemptFailedV1<'_> = postcard::from_bytes(body)?;
            Event::AttemptFailed { job: JobId(f.job), error: f.error.into(), due: f.due }
        }
        Kind::JobEnded => {
            let (e, _) = postcard::take_from_bytes::<EndedV1<'_>>(body)?;
            Event::Ended {
                job: JobId(e.job),
                state: state(e.state)?,
                code: e.code,
                error: e.error.map(AttemptError::from),
                at: e.at,
                result_len: e.result_len,
            }
        }
        Kind::JobReplayed => {
            let a: AboutV1 = postcard::from_bytes(body)?;
            Event::Replayed { job: JobId(a.id), at: a.at }
        }
        Kind::JobMoved => {
            let (a, _) = postcard::take_from_bytes::<AboutV1>(body)?;
            Event::Moved { job: JobId(a.id), from: a.at }
        }
        Kind::JobRemoved => {
            Event::Removed { job: JobId(postcard::from_bytes::<AboutV1>(body)?.id) }
        }
        Kind::BatchOpened => {
            let b: BatchOpenedV1 = postcard::from_bytes(body)?;
            Event::BatchOpened { batch: BatchId(b.batch), at: b.at, fail_fast: b.fail_fast }
        }
        Kind::BatchSealed => {
            let s: SealedV1 = postcard::from_bytes(body)?;
            let (batch, how) = (BatchId(s.batch), how(s.how)?);
            let (last_item, refused) = (s.last_item, s.refused);
            Event::BatchSealed { batch, at: s.at, how, last_item, refused }
        }
        Kind::BatchEnded if stored.layout == 1 => {
            let a: AboutV1 = postcard::from_bytes(body)?;
            Event::BatchEnded { batch: BatchId(a.id), at: a.at, counts: None }
        }
        Kind::BatchEnded => {
            let e: BatchEndedV2 = postcard::from_bytes(body)?;
            Event::BatchEnded { batch: BatchId(e.batch), at: e.at, counts: counts(e.counts) }
        }
        Kind::BatchRemoved => {
            Event::BatchRemoved { batch: BatchId(postcard::from_bytes::<AboutV1>(body)?.id) }
        }
        other => return Err(BadRecord::Kind(other)),
    })
}

/// What a record keeps of a job: its own body, or that of the record from which it was moved.
///
/// # Errors
/// [`BadRecord`].
pub(super) fn original(stored: Stored) -> Result<Bytes, BadRecord> {
    if stored.kind != Kind::JobMoved {
        return Ok(stored.body);
    }
    let (_, rest) = postcard::take_from_bytes::<AboutV1>(&stored.body)?;
    Ok(stored.body.slice_ref(rest))
}

/// The payload of a submission, and what stands beside it.
///
/// # Errors
/// [`BadRecord`].
pub(super) fn payload(body: &Bytes) -> Result<(Beside<'static>, Bytes), BadRecord> {
    let (s, rest) = postcard::take_from_bytes::<SubmittedV1<'_>>(body)?;
    let owned = |text: &Cow<'_, str>| Cow::Owned(text.as_ref().to_owned());
    let beside = Beside {
        metadata: s.beside.metadata.iter().map(|(k, v)| (owned(k), owned(v))).collect(),
        traceparent: s.beside.traceparent.as_ref().map(owned),
    };
    Ok((beside, body.slice_ref(rest)))
}

/// The result of an end, as it is sent.
///
/// # Errors
/// [`BadRecord`].
pub(super) fn result(body: &Bytes) -> Result<Bytes, BadRecord> {
    let (_, rest) = postcard::take_from_bytes::<EndedV1<'_>>(body)?;
    Ok(body.slice_ref(rest))
}

fn how(number: u8) -> Result<How, BadRecord> {
    let value = number.into();
    How::from_number(number).ok_or(BadRecord::Value { field: "how", value })
}

fn state(number: u8) -> Result<State, BadRecord> {
    let value = number.into();
    State::from_number(number).ok_or(BadRecord::Value { field: "state", value })
}

/// What the view keeps of a job.
#[derive(Serialize, Deserialize)]
struct JobV1<'a> {
    batch: [u8; 16],
    item: u64,
    recipe: &'a str,
    state: u8,
    priority: u8,
    timeout_ms: Option<u64>,
    deadline: Option<u64>,
    key: Option<&'a str>,
    digest: [u8; 16],
    payload: (u64, u32),
    result: (u64, u32),
    attempts: u32,
    attempts_max: u32,
    created: u64,
    started: Option<u64>,
    due: Option<u64>,
    ended: Option<u64>,
    code: u16,
    accepted: u64,
    finished: u64,
    #[serde(borrow)]
    errors: Vec<ErrorV1<'a>>,
    #[serde(borrow)]
    progress: Option<(u64, u64, u64, &'a str)>,
}

/// When a batch was sealed, what did it, and what was refused until then.
type SealV1 = (u64, u8, Vec<(u16, u64)>);

/// What the view keeps of a durable batch.
#[derive(Serialize, Deserialize)]
struct BatchV1 {
    fail_fast: bool,
    opened: u64,
    sealed: Option<SealV1>,
    ended: Option<(u64, u64)>,
    last_item: Option<u64>,
}

/// Likewise, with what its jobs came to.
#[derive(Serialize, Deserialize)]
struct BatchV2 {
    first: BatchV1,
    counts: Option<CountsV1>,
}

/// Keys of the view: batches come before jobs, which belong to them.
const BATCH_KEY: u8 = b'b';
const EPOCH_KEY: u8 = b'e';
const JOB_KEY: u8 = b'j';
/// The layouts of the view's values, as they are written.
const JOB_LAYOUT: u8 = 1;
const BATCH_LAYOUT: u8 = 2;

pub(super) fn job_key(id: JobId) -> Vec<u8> {
    [&[JOB_KEY], &id.0[..]].concat()
}

pub(super) fn batch_key(id: BatchId) -> Vec<u8> {
    [&[BATCH_KEY], &id.0[..]].concat()
}

pub(super) fn job_value(job: &Job) -> Vec<u8> {
    let head = JobV1 {
        batch: job.batch.0,
        item: job.item,
        recipe: job.recipe.as_str(),
        state: job.state.number(),
        priority: job.priority,
        timeout_ms: job.timeout_ms,
        deadline: job.deadline,
        key: job.key.as_deref(),
        digest: job.digest,
        payload: (job.payload.at, job.payload.len),
        result: (job.result.at, job.result.len),
        attempts: job.attempts,
        attempts_max: job.attempts_max,
        created: job.created,
        started: job.started,
        due: job.due,
        ended: job.ended,
        code: job.code,
        accepted: job.accepted,
        finished: job.finished,
        errors: job.errors.iter().map(ErrorV1::from).collect(),
        progress: job.progress.as_ref().map(|p| (p.done, p.total, p.at, &*p.message)),
    };
    with_layout(JOB_LAYOUT, &head)
}

pub(super) fn batch_value(batch: &Batch) -> Vec<u8> {
    let first = BatchV1 {
        fail_fast: batch.fail_fast,
        opened: batch.opened,
        sealed: batch
            .sealed
            .as_ref()
            .filter(|_| !plant::is(Bug::SealLost))
            .map(|s| (s.at, s.how.number(), s.refused.clone())),
        ended: batch.ended,
        last_item: batch.last_item,
    };
    let counts = counts_v1(batch.counts.as_ref());
    with_layout(BATCH_LAYOUT, &BatchV2 { first, counts })
}

fn with_layout(layout: u8, head: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(head, vec![layout]).expect("writing to memory does not fail")
}

/// A pair of the view.
pub(super) enum Kept {
    Job(Box<Job>),
    Batch(BatchId, Box<Batch>),
    Epoch(u64),
}

/// The pair that keeps the epoch.
pub(super) fn epoch_pair(epoch: u64) -> (Vec<u8>, Vec<u8>) {
    (vec![EPOCH_KEY], epoch.to_be_bytes().to_vec())
}

/// Reads a pair of the view.
///
/// # Errors
/// [`BadRecord`].
pub(super) fn kept(key: &[u8], value: &[u8]) -> Result<Kept, BadRecord> {
    let bad = |field, value: usize| BadRecord::Value { field, value: value as u64 };
    let (&class, id) = key.split_first().ok_or(bad("key", 0))?;
    if class == EPOCH_KEY {
        let epoch = value.try_into().map_err(|_| bad("epoch", value.len()))?;
        return Ok(Kept::Epoch(u64::from_be_bytes(epoch)));
    }
    let id = id.try_into().map_err(|_| bad("key", key.len()))?;
    let (&layout, value) = value.split_first().ok_or(bad("value", 0))?;
    match (class, layout) {
        (JOB_KEY, JOB_LAYOUT) => job(JobId(id), value).map(|job| Kept::Job(Box::new(job))),
        (BATCH_KEY, 1 | BATCH_LAYOUT) => {
            let (b, came_to): (BatchV1, _) = match layout {
                1 => (postcard::from_bytes(value)?, None),
                _ => {
                    let b: BatchV2 = postcard::from_bytes(value)?;
                    (b.first, counts(b.counts))
                }
            };
            let sealed = match b.sealed {
                Some((at, number, refused)) => Some(Sealed { at, how: how(number)?, refused }),
                None => None,
            };
            let mut batch = Batch::default();
            (batch.durable, batch.fail_fast, batch.opened) = (true, b.fail_fast, b.opened);
            (batch.sealed, batch.ended, batch.last_item) = (sealed, b.ended, b.last_item);
            batch.counts = came_to;
            Ok(Kept::Batch(BatchId(id), Box::new(batch)))
        }
        (JOB_KEY | BATCH_KEY, layout) => Err(BadRecord::Layout(layout)),
        (other, _) => Err(BadRecord::Value { field: "key", value: other.into() }),
    }
}

fn job(id: JobId, value: &[u8]) -> Result<Job, BadRecord> {
    let j: JobV1<'_> = postcard::from_bytes(value)?;
    let body = |(at, len)| Body { at, len };
    let progress = |(done, total, at, message): (u64, u64, u64, &str)| Progress {
        done,
        total,
        at,
        message: message.into(),
    };
    let mut job = Job::named(id, BatchId(j.batch), j.item, RecipeName::parse(j.recipe)?);
    (job.state, job.priority, job.timeout_ms) = (state(j.state)?, j.priority, j.timeout_ms);
    (job.deadline, job.key, job.digest) = (j.deadline, j.key.map(Into::into), j.digest);
    (job.payload, job.result) = (body(j.payload), body(j.result));
    (job.attempts, job.attempts_max, job.code) = (j.attempts, j.attempts_max, j.code);
    (job.created, job.started, job.due, job.ended) = (j.created, j.started, j.due, j.ended);
    (job.accepted, job.finished) = (j.accepted, j.finished);
    job.errors = j.errors.into_iter().map(AttemptError::from).collect();
    job.progress = j.progress.map(progress);
    Ok(job)
}
