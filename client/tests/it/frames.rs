//! What a scripted broker says.

use tollgate_client::{Code, Ended};
use tollgate_protocol::{
    BrokerFrame, Extensions, Pairs,
    batch::{Accepted, Body, Failure, ItemResult, Number, Progress, Summary},
    describe::{Encoding, Recipe, RecipeKind},
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
