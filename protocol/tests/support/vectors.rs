//! The golden vectors: one for every frame and for every variant worth showing.

pub mod job;
pub mod topic;
pub mod work;

use super::model::{
    Accepted, BatchOpen, Blob, Body, Broker, CancelScope, Client, Describe, Durability, Encoding,
    Ended, Ext, Failure, Id16, ItemResult, Limits, Map, Mode, Notice, NoticeKind, Order, Progress,
    Quota, Recipe, RecipeKind, Request, Scope, Subject, Summary, Throttled, UsageLine,
};

pub fn client() -> Vec<(&'static str, Client)> {
    let mut all = vec![
        ("batch_default", Client::Batch(batch())),
        ("batch_every_field", Client::Batch(batch_every_field())),
        ("describe_recipes", describe(Subject::Recipes, None)),
        ("describe_limits", describe(Subject::Limits, None)),
        ("describe_usage_of_a_tenant", describe(Subject::Usage, Some("acme".into()))),
        ("describe_version", describe(Subject::Version, None)),
        ("request_smallest", Client::Request(request(0, ""))),
        ("request_echo", Client::Request(Request { payload: blob(b"hi"), ..request(1, "echo") })),
        ("request_every_field", Client::Request(request_every_field())),
        ("seal_none", Client::Seal { items: 0 }),
        ("seal_300", Client::Seal { items: 300 }),
        ("seal_most", Client::Seal { items: u64::MAX }),
        ("cancel_pending", Client::Cancel(CancelScope::Pending)),
        ("cancel_all", Client::Cancel(CancelScope::All)),
        ("detach", Client::Detach),
    ];
    all.extend(job::client());
    all.extend(topic::client());
    all.extend(work::client());
    all
}

pub fn broker() -> Vec<(&'static str, Broker)> {
    let mut all = vec![
        ("accepted", Broker::Accepted(accepted())),
        ("accepted_every_field", Broker::Accepted(accepted_every_field())),
        ("progress", Broker::Progress(progress())),
        ("result_payload", Broker::Result(result())),
        ("result_every_field", Broker::Result(result_every_field())),
        ("result_failure", Broker::Result(result_failure())),
        ("throttled", Broker::Throttled(throttled())),
        ("notice_draining", notice(NoticeKind::Draining, "shutting down")),
        ("notice_certificate_expiring", notice(NoticeKind::CertificateExpiring, "")),
        ("summary_empty", Broker::Summary(summary(Ended::Sealed))),
        ("summary_every_field", Broker::Summary(summary_every_field())),
        ("error", Broker::Error { code: 1, failure: failure("field `id`: it ends within") }),
        ("error_quota", Broker::Error { code: 13, failure: failure_every_field() }),
        ("version", Broker::Version { protocol: "tollgate/1".into(), broker: "0.1.0".into() }),
        ("recipe", Broker::Recipe(recipe())),
        ("limits", Broker::Limits(limits())),
        ("usage_none", Broker::Usage { lines: vec![] }),
        ("usage", Broker::Usage { lines: usage_lines() }),
        ("end", Broker::End),
    ];
    let endings = [
        ("summary_cancelled", Ended::Cancelled),
        ("summary_deadline_exceeded", Ended::DeadlineExceeded),
        ("summary_fail_fast", Ended::FailFast),
        ("summary_cut", Ended::Cut),
        ("summary_sealed_by_broker", Ended::SealedByBroker),
        ("summary_draining", Ended::Draining),
    ];
    all.extend(endings.map(|(name, ended)| (name, Broker::Summary(summary(ended)))));
    all.extend(job::broker());
    all.extend(topic::broker());
    all
}

pub fn blob(bytes: &[u8]) -> Blob {
    Blob(bytes.into())
}

pub fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
}

pub fn extensions() -> Vec<Ext> {
    vec![
        Ext { number: 300, critical: false, body: blob(&[1, 2, 3]) },
        Ext { number: 7, critical: true, body: blob(&[]) },
    ]
}

pub fn batch() -> BatchOpen {
    BatchOpen {
        batch_id: Id16(std::array::from_fn(|i| i as u8)),
        tenant: None,
        durability: Durability::Ephemeral,
        mode: Mode::BestEffort,
        order: Order::Completion,
        concurrency_max: 0,
        deadline_ms: None,
        priority: 3,
        traceparent: None,
        extensions: vec![],
    }
}

pub fn batch_every_field() -> BatchOpen {
    BatchOpen {
        batch_id: Id16(std::array::from_fn(|i| 0xff - i as u8)),
        tenant: Some("acme".into()),
        durability: Durability::Durable,
        mode: Mode::FailFast,
        order: Order::Submission,
        concurrency_max: u32::MAX,
        deadline_ms: Some(30_000),
        priority: 7,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        extensions: extensions(),
    }
}

pub fn describe(subject: Subject, tenant: Option<String>) -> Client {
    Client::Describe(Describe { subject, tenant, extensions: vec![] })
}

pub fn request(id: u64, recipe: &str) -> Request {
    Request {
        id,
        recipe: recipe.into(),
        timeout_ms: None,
        idempotency_key: None,
        not_before_unix_ms: None,
        tenant: None,
        metadata: vec![],
        payload: blob(b""),
    }
}

pub fn request_every_field() -> Request {
    Request {
        timeout_ms: Some(2_000),
        idempotency_key: Some("order-17".into()),
        not_before_unix_ms: Some(1_700_000_060_000),
        tenant: Some("acme".into()),
        metadata: map(&[("lang", "fr"), ("", "caf\u{e9}"), ("lang", "de")]),
        payload: blob(&[0x00, 0x7f, 0x80, 0xff]),
        ..request(u64::MAX, "csv.profile")
    }
}

pub fn accepted() -> Accepted {
    Accepted {
        concurrency_max: 256,
        items_max: 10_000,
        frame_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        deadline_ms: None,
        last_id: None,
        extensions: vec![],
    }
}

pub fn accepted_every_field() -> Accepted {
    Accepted {
        items_max: 1_000_000,
        frame_bytes_max: 16 << 20,
        payload_bytes_max: u64::MAX,
        deadline_ms: Some(30_000),
        last_id: Some(41),
        extensions: extensions(),
        ..accepted()
    }
}

pub fn progress() -> Progress {
    Progress {
        id: 2,
        attempt: 1,
        done: 150,
        total: 300,
        at_unix_ms: 1_700_000_000_000,
        message: "half way".into(),
        metadata: map(&[("stage", "read")]),
    }
}

pub fn result() -> ItemResult {
    ItemResult {
        id: 1,
        tenant: None,
        status: 200,
        code: 0,
        attempts: 1,
        queued_us: 0,
        duration_us: 9,
        epoch: 0,
        sequence: 0,
        metadata: vec![],
        extensions: vec![],
        body: Body::Payload(blob(b"hi")),
    }
}

pub fn result_every_field() -> ItemResult {
    ItemResult {
        id: 1 << 40,
        tenant: Some("acme".into()),
        attempts: 5,
        queued_us: 1_234_567,
        duration_us: 65_536,
        epoch: 1,
        sequence: 1 << 33,
        metadata: map(&[("rows", "120")]),
        extensions: extensions(),
        ..result()
    }
}

pub fn result_failure() -> ItemResult {
    ItemResult {
        id: 300,
        status: 429,
        code: 12,
        attempts: 0,
        duration_us: 0,
        body: Body::Failure(failure_every_field()),
        ..result()
    }
}

pub fn failure(message: &str) -> Failure {
    Failure {
        message: message.into(),
        retryable: false,
        side_effect_free: false,
        retry_after_ms: None,
        app_code: None,
        quota: None,
        details: vec![],
    }
}

pub fn failure_every_field() -> Failure {
    Failure {
        retryable: true,
        side_effect_free: true,
        retry_after_ms: Some(350),
        app_code: Some("E42".into()),
        quota: Some(Quota {
            quota: "requests_per_second".into(),
            scope: Scope::Gateway,
            current: 50_000,
            limit: 50_000,
        }),
        details: map(&[("hint", "slow down")]),
        ..failure("the rate is used up")
    }
}

pub fn throttled() -> Throttled {
    Throttled {
        quota: "bytes_per_second".into(),
        scope: Scope::Tenant,
        current: 10_485_760,
        limit: 10_485_760,
        resume_ms: 100,
    }
}

pub fn notice(kind: NoticeKind, message: &str) -> Broker {
    Broker::Notice(Notice { kind, at_unix_ms: 1_700_000_030_000, message: message.into() })
}

pub fn summary(ended: Ended) -> Summary {
    Summary {
        ended,
        total: 0,
        succeeded: 0,
        failed: vec![],
        last_id_read: None,
        duration_us: 40,
        bytes_in: 0,
        bytes_out: 0,
        throttled_us: 0,
        epoch: 0,
        sequence: 0,
        extensions: vec![],
    }
}

pub fn summary_every_field() -> Summary {
    Summary {
        total: 1_000,
        succeeded: 990,
        failed: vec![(8, 4), (14, 5), (300, 1)],
        last_id_read: Some(999),
        duration_us: 300_412,
        bytes_in: 5 << 30,
        bytes_out: 2,
        throttled_us: 100_000,
        epoch: 1,
        sequence: 128,
        extensions: extensions(),
        ..summary(Ended::Sealed)
    }
}

pub fn recipe() -> Recipe {
    Recipe {
        name: "csv.profile".into(),
        kind: RecipeKind::Worker,
        encoding: Encoding::Bytes,
        timeout_ms: 5_000,
        queue_timeout_ms: 30_000,
        estimated_duration_ms: 50,
        concurrency_max: 2,
        blocking: true,
        idempotent: false,
        attempts_max: 5,
        payload_bytes_max: 16 << 20,
        result_bytes_max: 1 << 20,
        description: "profiles a table".into(),
        schema: Some("{\"type\":\"object\"}".into()),
        extensions: extensions(),
    }
}

pub fn limits() -> Limits {
    Limits {
        frame_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        batch_items_max: 10_000,
        concurrency_max: 256,
        batches_in_flight_max: 256,
        extensions: vec![],
    }
}

pub fn usage_lines() -> Vec<UsageLine> {
    vec![
        UsageLine { quota: "connections".into(), current: 3, limit: Some(500) },
        UsageLine { quota: "topics".into(), current: 0, limit: None },
    ]
}
