//! The golden vectors of workers.

use super::{
    super::model::{
        Client, Encoding, Id16, Notice, NoticeKind,
        work::{
            Answer, Call, CallProgress, Deliver, Failed, Fetch, RecipeSpec, ToWorker, WorkOpen,
            Worker,
        },
    },
    blob, extensions, failure, failure_every_field, map,
};

pub fn client() -> Vec<(&'static str, Client)> {
    vec![
        ("work", Client::Work(WorkOpen { credit: 64, extensions: vec![] })),
        ("work_every_field", Client::Work(WorkOpen { credit: 65_536, extensions: extensions() })),
        ("fetch", Client::Fetch(Fetch { work: 0, lease: 300 })),
        ("fetch_most", Client::Fetch(Fetch { work: (1 << 62) - 4, lease: u64::MAX })),
        ("deliver", Client::Deliver(deliver())),
        (
            "deliver_every_field",
            Client::Deliver(Deliver { metadata: map(&[("rows", "120")]), ..deliver() }),
        ),
    ]
}

pub fn worker() -> Vec<(&'static str, Worker)> {
    vec![
        ("register_default", Worker::Register(spec())),
        ("register_every_field", Worker::Register(spec_every_field())),
        ("credit", Worker::Credit { add: 16 }),
        ("progress", Worker::Progress(progress())),
        ("answer_empty", Worker::Answer(Answer { payload: blob(b""), ..answer() })),
        ("answer", Worker::Answer(answer())),
        (
            "answer_every_field",
            Worker::Answer(Answer {
                lease: 1 << 40,
                metadata: map(&[("rows", "120")]),
                ..answer()
            }),
        ),
        ("failed", Worker::Failed(failed())),
        ("failed_every_field", Worker::Failed(failed_every_field())),
        ("drain", Worker::Drain),
    ]
}

pub fn dispatch() -> Vec<(&'static str, ToWorker)> {
    vec![
        ("registered", ToWorker::Registered { recipe: 0 }),
        ("registered_last", ToWorker::Registered { recipe: 255 }),
        ("dispatch", ToWorker::Dispatch(call())),
        ("dispatch_every_field", ToWorker::Dispatch(call_every_field())),
        (
            "dispatch_apart",
            ToWorker::Dispatch(Call { apart: Some(1 << 20), payload: blob(b""), ..call() }),
        ),
        ("cancel", ToWorker::Cancel { lease: 300 }),
        (
            "notice_draining",
            ToWorker::Notice(Notice {
                kind: NoticeKind::Draining,
                at_unix_ms: 1_700_000_030_000,
                message: "shutting down".into(),
            }),
        ),
        ("error", ToWorker::Error { code: 9, failure: failure("another spec is registered") }),
        ("error_quota", ToWorker::Error { code: 13, failure: failure_every_field() }),
        ("end", ToWorker::End),
    ]
}

pub fn deliver() -> Deliver {
    Deliver { work: 4, lease: 7, size: 1 << 20, metadata: vec![] }
}

pub fn spec() -> RecipeSpec {
    RecipeSpec {
        name: "thumbnail".into(),
        encoding: Encoding::Bytes,
        timeout_ms: None,
        queue_timeout_ms: None,
        estimated_duration_ms: 0,
        concurrency_max: None,
        idempotent: false,
        attempts_max: 5,
        retry_first_ms: 1_000,
        retry_factor_percent: 200,
        retry_cap_ms: 300_000,
        payload_bytes_max: None,
        result_bytes_max: None,
        description: String::new(),
        schema: None,
        extensions: vec![],
    }
}

pub fn spec_every_field() -> RecipeSpec {
    RecipeSpec {
        name: "csv.profile".into(),
        encoding: Encoding::Json,
        timeout_ms: Some(5_000),
        queue_timeout_ms: Some(30_000),
        estimated_duration_ms: 50,
        concurrency_max: Some(2),
        idempotent: true,
        payload_bytes_max: Some(16 << 20),
        result_bytes_max: Some(1 << 20),
        description: "profiles a table".into(),
        schema: Some("{\"type\":\"object\"}".into()),
        extensions: extensions(),
        ..spec()
    }
}

pub fn progress() -> CallProgress {
    CallProgress { lease: 2, done: 150, total: 300, message: "half way".into() }
}

pub fn answer() -> Answer {
    Answer { lease: 1, metadata: vec![], payload: blob(b"hi") }
}

pub fn failed() -> Failed {
    Failed {
        lease: 1,
        code: 17,
        permanent: false,
        message: "no such file".into(),
        retry_after_ms: None,
        app_code: None,
        details: vec![],
    }
}

pub fn failed_every_field() -> Failed {
    Failed {
        lease: 300,
        code: 12,
        permanent: true,
        message: "the mail server is busy".into(),
        retry_after_ms: Some(350),
        app_code: Some("E42".into()),
        details: map(&[("hint", "slow down")]),
    }
}

pub fn call() -> Call {
    Call {
        lease: 1,
        recipe: 0,
        attempt: 1,
        timeout_ms: 5_000,
        item_id: 17,
        batch_id: Id16(std::array::from_fn(|i| i as u8)),
        tenant: "acme".into(),
        traceparent: None,
        metadata: vec![],
        apart: None,
        payload: blob(b"hi"),
    }
}

pub fn call_every_field() -> Call {
    Call {
        lease: u64::MAX,
        recipe: 255,
        attempt: u32::MAX,
        timeout_ms: 1 << 40,
        item_id: u64::MAX,
        batch_id: Id16(std::array::from_fn(|i| 0xff - i as u8)),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        metadata: map(&[("lang", "fr"), ("", "caf\u{e9}"), ("lang", "de")]),
        payload: blob(&[0x00, 0x7f, 0x80, 0xff]),
        ..call()
    }
}
