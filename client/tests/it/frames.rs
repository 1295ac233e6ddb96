//! What a scripted broker says.

use tollgate_client::{BatchId, Code, Ended, JobId, JobState};
use tollgate_protocol::{
    BrokerFrame, Extensions, Pairs,
    batch::{Accepted, Body, Failure, ItemResult, Number, Progress, Summary},
    describe::{Encoding, Recipe, RecipeKind},
    job::{JobAccepted, JobError, JobInfo},
};

pub fn accepted() -> BrokerFrame<'static> {
    accepted_with(1 << 20)
}

pub fn accepted_with(frame_bytes_max: u32) -> BrokerFrame<'static> {
    BrokerFrame::Accepted(Accepted {
        concurrency_max: 256,
        items_max: 10_000,
        frame_bytes_max,
        payload_bytes_max: 1 << 20,
        deadline_ms: None,
        last_id: None,
        extensions: Extensions::EMPTY,
    })
}

pub fn success(id: u64, payload: &[u8]) -> BrokerFrame<'_> {
    BrokerFrame::Result(ItemResult {
        id,
        tenant: None,
        status: 200,
        code: 0,
        attempts: 1,
        queued_us: 1,
        duration_us: 2,
        number: Number::default(),
        metadata: Pairs::EMPTY,
        extensions: Extensions::EMPTY,
        body: Body::Payload(payload),
    })
}

/// As a broker numbers what it commits.
pub fn number(sequence: u64) -> Number {
    Number { epoch: 1, sequence }
}

pub fn job_id(n: u8) -> JobId {
    JobId([n; 16])
}

/// The item is a job, whose id is made of the item's.
pub fn job_accepted(id: u64, sequence: u64) -> BrokerFrame<'static> {
    BrokerFrame::JobAccepted(JobAccepted {
        id,
        tenant: None,
        job_id: job_id(id as u8),
        existing: false,
        number: number(sequence),
        extensions: Extensions::EMPTY,
    })
}

/// The result of a job.
pub fn job_result<'a>(frame: &BrokerFrame<'a>, sequence: u64) -> BrokerFrame<'a> {
    let BrokerFrame::Result(result) = frame else { unreachable!("a result") };
    BrokerFrame::Result(ItemResult { number: number(sequence), ..*result })
}

pub fn error(code: Code) -> BrokerFrame<'static> {
    BrokerFrame::Error { code: code.number(), failure: failure(code, None) }
}

/// What is known of a job.
pub fn job_info(n: u8, state: JobState) -> BrokerFrame<'static> {
    BrokerFrame::Job(JobInfo {
        job_id: job_id(n),
        batch_id: BatchId([9; 16]),
        item_id: n.into(),
        recipe: "delay",
        state,
        priority: 3,
        attempts: 2,
        attempts_max: 5,
        payload_bytes: 10,
        result_bytes: 0,
        created_unix_ms: 1_700_000_000_000,
        started_unix_ms: None,
        due_unix_ms: Some(1_700_000_060_000),
        ended_unix_ms: None,
        expires_unix_ms: None,
        done: 1,
        total: 3,
        message: "at it",
        idempotency_key: None,
        accepted: number(7),
        ended: Number::default(),
        errors: vec![JobError {
            attempt: 1,
            at_unix_ms: 1_700_000_001_000,
            code: Code::Timeout.number(),
            message: "too slow",
        }],
        extensions: Extensions::EMPTY,
    })
}

pub fn failure(code: Code, retry_after_ms: Option<u64>) -> Failure<'static> {
    Failure {
        message: code.message(),
        retryable: code.retryable(),
        side_effect_free: code.side_effect_free(),
        retry_after_ms,
        app_code: None,
        quota: None,
        details: Pairs::EMPTY,
    }
}

pub fn failed(id: u64, code: Code, retry_after_ms: Option<u64>) -> BrokerFrame<'static> {
    let BrokerFrame::Result(result) = success(id, b"") else { unreachable!("a result") };
    BrokerFrame::Result(ItemResult {
        status: code.status(),
        code: code.number(),
        body: Body::Failure(failure(code, retry_after_ms)),
        ..result
    })
}

pub fn progress(id: u64, done: u64, total: u64) -> BrokerFrame<'static> {
    BrokerFrame::Progress(Progress {
        id,
        attempt: 1,
        done,
        total,
        at_unix_ms: 1_700_000_000_000,
        message: "at it",
        metadata: Pairs::EMPTY,
    })
}

/// What a summary says.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub ended: Option<Ended>,
    pub ok: u64,
    pub failed: Vec<(Code, u64)>,
    pub last: Option<u64>,
}

pub fn summary(counts: &Counts) -> BrokerFrame<'static> {
    let failed: Vec<_> = counts.failed.iter().map(|(code, n)| (code.number(), *n)).collect();
    BrokerFrame::Summary(Summary {
        ended: counts.ended.unwrap_or(Ended::Sealed),
        total: counts.ok + failed.iter().map(|f| f.1).sum::<u64>(),
        succeeded: counts.ok,
        failed,
        last_id_read: counts.last,
        duration_us: 5,
        bytes_in: 6,
        bytes_out: 7,
        throttled_us: 8,
        number: Number::default(),
        extensions: Extensions::EMPTY,
    })
}

pub fn recipe() -> Recipe<'static> {
    Recipe {
        name: "echo",
        kind: RecipeKind::Embedded,
        encoding: Encoding::Bytes,
        timeout_ms: 5_000,
        queue_timeout_ms: 30_000,
        estimated_duration_ms: 0,
        concurrency_max: 0,
        blocking: false,
        idempotent: true,
        attempts_max: 5,
        payload_bytes_max: 1 << 20,
        result_bytes_max: 1 << 20,
        description: "gives back what it gets",
        schema: None,
        extensions: Extensions::EMPTY,
    }
}
