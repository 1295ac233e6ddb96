//! `PROTOCOL.md` says what the code does: its tables and its walk-through are generated here and
//! must stand in it to the letter. `UPDATE_VECTORS=1` writes them anew.

mod support;

use std::fmt::Write as _;

use support::spec::{Walk, hold};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Extensions, Pairs,
    batch::{
        Accepted, BatchOpen, Body, Ended, Failure, ItemResult, Number, Progress, Request, Summary,
    },
    close::{CloseCode, StreamCode},
    id::BatchId,
};

#[test]
fn the_specification_holds_the_tables_and_the_bytes_of_the_code() {
    hold(&[
        ("codes", codes()),
        ("stream codes", stream_codes()),
        ("close codes", close_codes()),
        ("walk", walk()),
    ]);
}

fn codes() -> String {
    let mut t = String::from(
        "| number | name | HTTP status | retryable | side_effect_free | meaning |\n\
         |---|---|---|---|---|---|\n",
    );
    for c in Code::ALL {
        let (retryable, free) = (yes(c.retryable()), yes(c.side_effect_free()));
        let (n, name, status, message) = (c.number(), c.name(), c.status(), c.message());
        writeln!(t, "| {n} | `{name}` | {status} | {retryable} | {free} | {message} |")
            .expect("writing to a string");
    }
    t
}

fn yes(v: bool) -> &'static str {
    if v { "yes" } else { "no" }
}

fn stream_codes() -> String {
    let mut t = String::from("| number | name | sent by | meaning |\n|---|---|---|---|\n");
    for &c in StreamCode::ALL {
        let (by, meaning) = match c {
            StreamCode::Dropped => {
                ("client", "what a library sends for a dropped stream: as `CANCEL_ALL`")
            }
            StreamCode::CancelAll => ("client", "cancel everything, running items too"),
            StreamCode::CancelPending => {
                ("client", "cancel what has not started, let the rest finish")
            }
            StreamCode::Done => ("broker", "the final frame was sent, nothing more is read"),
            StreamCode::FailFast => {
                ("broker", "an item failed in a `FailFast` batch, nothing more is started: read on")
            }
            StreamCode::Stalled => {
                ("broker", "the first frame did not arrive in time, or a frame stalled")
            }
            StreamCode::ReaderGone => ("broker", "results were not taken in time"),
            StreamCode::Refused => ("broker", "nothing was read of the stream, nothing happened"),
            other => panic!("{other} has no row"),
        };
        writeln!(t, "| {:#04x} | `{}` | {by} | {meaning} |", c.number(), c.name())
            .expect("writing to a string");
    }
    t
}

fn close_codes() -> String {
    let mut t = String::from("| number | name | retry | meaning |\n|---|---|---|---|\n");
    for &c in CloseCode::ALL {
        let meaning = match c {
            CloseCode::Done => "nothing more to do",
            CloseCode::Draining => "the broker is shutting down: connect elsewhere or later",
            CloseCode::IdentityInvalid => {
                "none or several URI names, another trust domain, or a path not in the table"
            }
            CloseCode::TenantUnknown => "the certificate names a tenant that is not known here",
            CloseCode::TenantSuspended => "the tenant is suspended",
            CloseCode::TenantDeleted => "the tenant was deleted",
            CloseCode::CertificateExpired => {
                "the certificate expired while the connection was open"
            }
            CloseCode::CertificateRevoked => "the certificate was revoked, or its holder denied",
            CloseCode::TrustRemoved => "the certificate's authority is no longer trusted",
            CloseCode::Forbidden => "the role has nothing to do on this listener",
            CloseCode::QuotaExceeded => "the quota `connections` is used up",
            CloseCode::Overloaded => "the broker has no room for another connection",
            CloseCode::Abuse => "streams are churned beyond what any client needs",
            other => panic!("{other} has no row"),
        };
        let retry = yes(c.retryable());
        writeln!(t, "| {:#04x} | `{}` | {retry} | {meaning} |", c.number(), c.name())
            .expect("writing to a string");
    }
    t
}

/// One batch from open to summary, every byte with its meaning.
fn walk() -> String {
    let batch_id = BatchId(std::array::from_fn(|i| i as u8 + 0xa0));
    let open =
        ClientFrame::Batch(BatchOpen { deadline_ms: Some(30_000), ..BatchOpen::new(batch_id) });
    let echo = ClientFrame::Request(Request::new(1, "echo", b"hi"));
    let delay = ClientFrame::Request(Request {
        timeout_ms: Some(2_000),
        ..Request::new(2, "delay", br#"{"ms":300}"#)
    });
    let nope = ClientFrame::Request(Request::new(300, "nope", b""));
    let seal = ClientFrame::Seal { items: 3 };

    let accepted = BrokerFrame::Accepted(Accepted {
        concurrency_max: 256,
        items_max: 10_000,
        frame_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        deadline_ms: Some(30_000),
        last_id: None,
        extensions: Extensions::EMPTY,
    });
    let result = |id, code: Code, body| ItemResult {
        id,
        tenant: None,
        status: code.status(),
        code: code.number(),
        attempts: 1,
        queued_us: 0,
        duration_us: 9,
        number: Number::default(),
        metadata: Pairs::EMPTY,
        extensions: Extensions::EMPTY,
        body,
    };
    let echoed = BrokerFrame::Result(result(1, Code::Ok, Body::Payload(b"hi")));
    let refusal = Failure {
        message: "no such recipe",
        retryable: Code::RecipeNotFound.retryable(),
        side_effect_free: Code::RecipeNotFound.side_effect_free(),
        retry_after_ms: None,
        app_code: None,
        quota: None,
        details: Pairs::EMPTY,
    };
    let refused = BrokerFrame::Result(ItemResult {
        attempts: 0,
        duration_us: 0,
        ..result(300, Code::RecipeNotFound, Body::Failure(refusal))
    });
    let progress = BrokerFrame::Progress(Progress {
        id: 2,
        attempt: 1,
        done: 150,
        total: 300,
        at_unix_ms: 1_700_000_000_000,
        message: "",
        metadata: Pairs::EMPTY,
    });
    let delayed = BrokerFrame::Result(ItemResult {
        duration_us: 300_100,
        ..result(2, Code::Ok, Body::Payload(br#"{"ms":300,"steps":1}"#))
    });
    let summary = BrokerFrame::Summary(Summary {
        ended: Ended::Sealed,
        total: 3,
        succeeded: 2,
        failed: vec![(Code::RecipeNotFound.number(), 1)],
        last_id_read: Some(300),
        duration_us: 300_412,
        bytes_in: 12,
        bytes_out: 22,
        throttled_us: 0,
        number: Number::default(),
        extensions: Extensions::EMPTY,
    });

    let mut t = Walk::default();
    t.say("Client, first write:");
    t.frame(
        &open,
        &[
            (1, "variant 0, `Batch`"),
            (16, "batch_id"),
            (1, "tenant: none"),
            (1, "durability: Ephemeral"),
            (1, "mode: BestEffort"),
            (1, "order: Completion"),
            (1, "concurrency_max: 0, the broker chooses"),
            (4, "deadline_ms: 30 000"),
            (1, "priority: 3"),
            (1, "traceparent: none"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(
        &echo,
        &[
            (1, "variant 9, `Request`"),
            (1, "id: 1"),
            (5, "recipe: \"echo\""),
            (1, "timeout_ms: none"),
            (1, "idempotency_key: none"),
            (1, "not_before_unix_ms: none"),
            (1, "tenant: none"),
            (1, "metadata: 0 pairs"),
            (3, "payload: \"hi\""),
        ],
    );
    t.frame(
        &delay,
        &[
            (1, "variant 9, `Request`"),
            (1, "id: 2"),
            (6, "recipe: \"delay\""),
            (3, "timeout_ms: 2 000"),
            (1, "idempotency_key: none"),
            (1, "not_before_unix_ms: none"),
            (1, "tenant: none"),
            (1, "metadata: 0 pairs"),
            (11, "payload: {\"ms\":300}"),
        ],
    );
    t.frame(
        &nope,
        &[
            (1, "variant 9, `Request`"),
            (2, "id: 300"),
            (5, "recipe: \"nope\""),
            (1, "timeout_ms: none"),
            (1, "idempotency_key: none"),
            (1, "not_before_unix_ms: none"),
            (1, "tenant: none"),
            (1, "metadata: 0 pairs"),
            (1, "payload: empty"),
        ],
    );
    t.frame(&seal, &[(1, "variant 10, `Seal`"), (1, "items: 3")]);
    t.say("Broker, at once:");
    t.frame(
        &accepted,
        &[
            (1, "variant 0, `Accepted`"),
            (2, "concurrency_max: 256"),
            (2, "items_max: 10 000"),
            (3, "frame_bytes_max: 1 048 576"),
            (3, "payload_bytes_max: 1 048 576"),
            (4, "deadline_ms: 30 000"),
            (1, "last_id: none"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(
        &echoed,
        &[
            (1, "variant 2, `Result`"),
            (1, "id: 1"),
            (1, "tenant: none"),
            (2, "status: 200"),
            (1, "code: 0, `OK`"),
            (1, "attempts: 1"),
            (1, "queued_us: 0"),
            (1, "duration_us: 9"),
            (2, "epoch, sequence: 0, 0"),
            (1, "metadata: 0 pairs"),
            (1, "extensions: 0"),
            (1, "body: payload"),
            (3, "payload: \"hi\""),
        ],
    );
    t.frame(
        &refused,
        &[
            (1, "variant 2, `Result`"),
            (2, "id: 300"),
            (1, "tenant: none"),
            (2, "status: 404"),
            (1, "code: 8, `RECIPE_NOT_FOUND`"),
            (1, "attempts: 0, never started"),
            (1, "queued_us: 0"),
            (1, "duration_us: 0"),
            (2, "epoch, sequence: 0, 0"),
            (1, "metadata: 0 pairs"),
            (1, "extensions: 0"),
            (1, "body: failure"),
            (15, "message: \"no such recipe\""),
            (1, "retryable: no"),
            (1, "side_effect_free: yes"),
            (1, "retry_after_ms: none"),
            (1, "app_code: none"),
            (1, "quota: none"),
            (1, "details: 0 pairs"),
        ],
    );
    t.say(
        "Broker, while item 2 runs and when it is done; then it ends its side (FIN) and sends\n\
           STOP_SENDING(`DONE`):",
    );
    t.frame(
        &progress,
        &[
            (1, "variant 1, `Progress`"),
            (1, "id: 2"),
            (1, "attempt: 1"),
            (2, "done: 150"),
            (2, "total: 300"),
            (6, "at_unix_ms: 1 700 000 000 000"),
            (1, "message: empty"),
            (1, "metadata: 0 pairs"),
        ],
    );
    t.frame(
        &delayed,
        &[
            (1, "variant 2, `Result`"),
            (1, "id: 2"),
            (1, "tenant: none"),
            (2, "status: 200"),
            (1, "code: 0, `OK`"),
            (1, "attempts: 1"),
            (1, "queued_us: 0"),
            (3, "duration_us: 300 100"),
            (2, "epoch, sequence: 0, 0"),
            (1, "metadata: 0 pairs"),
            (1, "extensions: 0"),
            (1, "body: payload"),
            (21, "payload: {\"ms\":300,\"steps\":1}"),
        ],
    );
    t.frame(
        &summary,
        &[
            (1, "variant 7, `Summary`"),
            (1, "ended: Sealed"),
            (1, "total: 3"),
            (1, "succeeded: 2"),
            (3, "failed: 1 entry, code 8 once"),
            (3, "last_id_read: 300"),
            (3, "duration_us: 300 412"),
            (1, "bytes_in: 12"),
            (1, "bytes_out: 22"),
            (1, "throttled_us: 0"),
            (2, "epoch, sequence: 0, 0"),
            (1, "extensions: 0"),
        ],
    );
    t.end()
}
