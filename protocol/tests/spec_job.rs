//! The chapter on jobs in `PROTOCOL.md`: its walk-through is generated here and must stand in it to
//! the letter. `UPDATE_VECTORS=1` writes it anew.

mod support;

use support::spec::{Walk, hold};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Extensions, Pairs,
    batch::{Accepted, BatchOpen, Body, Durability, ItemResult, Number, Progress, Request},
    id::{BatchId, JobId},
    job::{Attach, JobAccepted, JobTarget},
};

#[test]
fn the_specification_holds_the_bytes_of_a_job() {
    hold(&[("job walk", walk())]);
}

const BATCH: BatchId = BatchId([0xa0; 16]);
const JOB: JobId = JobId([0xb0; 16]);

/// One job from its submission to its result, every byte with its meaning.
fn walk() -> String {
    let mut t = Walk::default();
    submit(&mut t);
    attach(&mut t);
    t.end()
}

fn submit(t: &mut Walk) {
    let open = BatchOpen { durability: Durability::Durable, ..BatchOpen::new(BATCH) };
    t.say("Client, first write:");
    t.frame(
        &ClientFrame::Batch(open),
        &[
            (1, "variant 0, `Batch`"),
            (16, "batch_id"),
            (1, "tenant: none"),
            (1, "durability: Durable"),
            (1, "mode: BestEffort"),
            (1, "order: Completion"),
            (1, "concurrency_max: 0, the broker chooses"),
            (1, "deadline_ms: none"),
            (1, "priority: 3"),
            (1, "traceparent: none"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(
        &ClientFrame::Request(Request {
            idempotency_key: Some("order-17"),
            ..Request::new(0, "delay", br#"{"ms":9000}"#)
        }),
        &[
            (1, "variant 9, `Request`"),
            (1, "id: 0"),
            (6, "recipe: \"delay\""),
            (1, "timeout_ms: none"),
            (10, "idempotency_key: \"order-17\""),
            (1, "not_before_unix_ms: none"),
            (1, "tenant: none"),
            (1, "metadata: 0 pairs"),
            (12, "payload: {\"ms\":9000}"),
        ],
    );
    t.frame(&ClientFrame::Seal { items: 1 }, &[(1, "variant 10, `Seal`"), (1, "items: 1")]);
    t.frame(&ClientFrame::Detach, &[(1, "variant 12, `Detach`")]);
    t.say(
        "Broker, the second frame once the job is on stable storage; then it ends its side (FIN):",
    );
    t.frame(
        &BrokerFrame::Accepted(Accepted {
            concurrency_max: 256,
            items_max: 10_000,
            frame_bytes_max: 1 << 20,
            payload_bytes_max: 1 << 20,
            deadline_ms: None,
            last_id: None,
            extensions: Extensions::EMPTY,
        }),
        &[
            (1, "variant 0, `Accepted`"),
            (2, "concurrency_max: 256"),
            (2, "items_max: 10 000"),
            (3, "frame_bytes_max: 1 048 576"),
            (3, "payload_bytes_max: 1 048 576"),
            (1, "deadline_ms: none"),
            (1, "last_id: none"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(
        &BrokerFrame::JobAccepted(JobAccepted {
            id: 0,
            tenant: None,
            job_id: JOB,
            existing: false,
            number: Number { epoch: 1, sequence: 300 },
            extensions: Extensions::EMPTY,
        }),
        &[
            (1, "variant 5, `JobAccepted`"),
            (1, "id: 0"),
            (1, "tenant: none"),
            (16, "job_id"),
            (1, "existing: no"),
            (3, "epoch, sequence: 1, 300"),
            (1, "extensions: 0"),
        ],
    );
    t.frame(&BrokerFrame::End, &[(1, "variant 13, `End`")]);
}

fn attach(t: &mut Walk) {
    let attach =
        Attach { after: Number { epoch: 1, sequence: 300 }, ..Attach::new(JobTarget::Job(JOB)) };
    t.say("Client, later, on another stream or another connection:");
    t.frame(
        &ClientFrame::Attach(attach),
        &[
            (1, "variant 1, `Attach`"),
            (17, "target: 0, a job, and its job_id"),
            (1, "tenant: none"),
            (3, "after: epoch 1, sequence 300"),
            (1, "follow: yes"),
            (1, "extensions: 0"),
        ],
    );
    t.say("Broker, while the job runs and when it is over; then it ends its side (FIN):");
    t.frame(
        &BrokerFrame::Progress(Progress {
            id: 0,
            attempt: 1,
            done: 150,
            total: 300,
            at_unix_ms: 1_700_000_000_000,
            message: "",
            metadata: Pairs::EMPTY,
        }),
        &[
            (1, "variant 1, `Progress`"),
            (1, "id: 0"),
            (1, "attempt: 1"),
            (2, "done: 150"),
            (2, "total: 300"),
            (6, "at_unix_ms: 1 700 000 000 000"),
            (1, "message: empty"),
            (1, "metadata: 0 pairs"),
        ],
    );
    t.frame(
        &BrokerFrame::Result(ItemResult {
            id: 0,
            tenant: None,
            status: 200,
            code: 0,
            attempts: 1,
            queued_us: 128,
            duration_us: 9_000_100,
            number: Number { epoch: 1, sequence: 317 },
            metadata: Pairs::EMPTY,
            extensions: Extensions::EMPTY,
            body: Body::Payload(b"{}"),
        }),
        &[
            (1, "variant 2, `Result`"),
            (1, "id: 0"),
            (1, "tenant: none"),
            (2, "status: 200"),
            (1, "code: 0, `OK`"),
            (1, "attempts: 1"),
            (2, "queued_us: 128"),
            (4, "duration_us: 9 000 100"),
            (3, "epoch, sequence: 1, 317"),
            (1, "metadata: 0 pairs"),
            (1, "extensions: 0"),
            (1, "body: payload"),
            (3, "payload: {}"),
        ],
    );
    t.frame(&BrokerFrame::End, &[(1, "variant 13, `End`")]);
}
