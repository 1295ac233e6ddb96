//! The chapter on workers in `PROTOCOL.md`: its walk-through is generated here and must stand in it
//! to the letter. `UPDATE_VECTORS=1` writes it anew.

mod support;

use support::spec::{Walk, hold};
use tollgate_protocol::{
    ClientFrame, DispatchFrame, Pairs, WorkerFrame,
    describe::Encoding,
    id::BatchId,
    work::{Answer, Dispatch, Progress, RecipeSpec, WorkOpen},
};

#[test]
fn the_specification_holds_the_bytes_of_a_call() {
    hold(&[("work walk", walk())]);
}

/// One call from registration to the end, every byte with its meaning.
fn walk() -> String {
    let open = ClientFrame::Work(WorkOpen::new(8));
    let register = WorkerFrame::Register(RecipeSpec {
        encoding: Encoding::Json,
        timeout_ms: Some(2_000),
        idempotent: true,
        ..RecipeSpec::new("words.count")
    });
    let registered = DispatchFrame::Registered { recipe: 0 };
    let dispatch = DispatchFrame::Dispatch(Dispatch {
        lease: 1,
        recipe: 0,
        attempt: 1,
        timeout_ms: 2_000,
        item_id: 300,
        batch_id: BatchId(std::array::from_fn(|i| i as u8 + 0xa0)),
        tenant: "acme",
        traceparent: None,
        metadata: Pairs::EMPTY,
        apart: None,
        payload: br#""to be""#,
    });
    let progress =
        WorkerFrame::Progress(Progress { lease: 1, done: 1, total: 2, message: "counting" });
    let answer = WorkerFrame::Answer(Answer { lease: 1, metadata: Pairs::EMPTY, payload: b"2" });

    let mut t = Walk::default();
    t.say("Worker, first write:");
    t.frame(
        &open,
        &[(1, "variant 7, `Work`, of the client's frames"), (1, "credit: 8"), (1, "extensions: 0")],
    );
    t.frame(
        &register,
        &[
            (1, "variant 0, `Register`, of the worker's frames"),
            (12, "name: \"words.count\""),
            (1, "encoding: JSON"),
            (3, "timeout_ms: 2 000"),
            (1, "queue_timeout_ms: none"),
            (1, "estimated_duration_ms: 0"),
            (1, "concurrency_max: none"),
            (1, "idempotent: yes"),
            (1, "attempts_max: 5"),
            (2, "retry_first_ms: 1 000"),
            (2, "retry_factor_percent: 200"),
            (3, "retry_cap_ms: 300 000"),
            (1, "payload_bytes_max: none"),
            (1, "result_bytes_max: none"),
            (1, "description: empty"),
            (1, "schema: none"),
            (1, "extensions: 0"),
        ],
    );
    t.say("Broker, once it knows the recipe, and when an item for it comes:");
    t.frame(&registered, &[(1, "variant 0, `Registered`"), (1, "recipe: 0")]);
    t.frame(
        &dispatch,
        &[
            (1, "variant 1, `Dispatch`"),
            (1, "lease: 1"),
            (1, "recipe: 0"),
            (1, "attempt: 1"),
            (2, "timeout_ms: 2 000"),
            (2, "item_id: 300"),
            (16, "batch_id"),
            (5, "tenant: \"acme\""),
            (1, "traceparent: none"),
            (1, "metadata: 0 pairs"),
            (1, "apart: none"),
            (8, "payload: \"to be\", in quotes"),
        ],
    );
    t.say("Worker, while it runs, when it is done, and when it is told to end:");
    t.frame(
        &progress,
        &[
            (1, "variant 2, `Progress`"),
            (1, "lease: 1"),
            (1, "done: 1"),
            (1, "total: 2"),
            (9, "message: \"counting\""),
        ],
    );
    t.frame(
        &answer,
        &[(1, "variant 3, `Answer`"), (1, "lease: 1"), (1, "metadata: 0 pairs"), (2, "payload: 2")],
    );
    t.frame(&WorkerFrame::Drain, &[(1, "variant 5, `Drain`")]);
    t.say("Broker, and then it ends its side (FIN):");
    t.frame(&DispatchFrame::End, &[(1, "variant 5, `End`")]);
    t.end()
}
