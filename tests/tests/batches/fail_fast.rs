//! Batches that end at their first failure.

use tollgate_protocol::{batch::Mode, close::StreamCode};
use tollgate_tests::{
    Rig,
    raw::{Raw, RawStream},
};

async fn open(raw: &Raw, concurrency_max: u32) -> RawStream {
    raw.batch_with(|open| (open.mode, open.concurrency_max) = (Mode::FailFast, concurrency_max))
        .await
}

/// Two run, the first fails, three wait: `sealed` or not makes no difference to what they get.
async fn check(sealed: bool) {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = open(&raw, 2).await;
    batch.request(1, "gate.fail", b"1").await;
    stage.running(1).await;
    for id in 2..=5 {
        batch.request(id, "gate", id.to_string().as_bytes()).await;
    }
    if sealed {
        batch.seal(5).await;
    }
    stage.running(2).await;
    rig_waits(&rig, 0).await;
    stage.open(1);
    // The failure, and those that had not started; what runs may finish.
    assert_eq!(batch.stopped().await, Some(StreamCode::FailFast));
    assert_eq!(stage.running(1).await.dropped, [""; 0]);
    stage.open(1);
    let mut lines = batch.transcript().await;
    lines.sort();
    let expected = [
        "accepted",
        "result 1 RECIPE_EXECUTION",
        "result 2 OK 2",
        "result 3 CANCELLED",
        "result 4 CANCELLED",
        "result 5 CANCELLED",
        "summary FailFast 1/5",
    ];
    assert_eq!(lines, expected);
    assert!(raw.serves().await);
    rig.idle().await;
}

/// Items keep to their batch's own bound: none of them stands in line for a slot.
async fn rig_waits(rig: &Rig, n: usize) {
    tollgate_tests::eventually("so many stand in line", || {
        rig.broker.counters().items_waiting == n
    })
    .await;
}

#[tokio::test]
async fn the_first_failure_cancels_what_has_not_started_and_what_runs_finishes() {
    check(false).await;
}

#[tokio::test]
async fn a_sealed_batch_fails_fast_too() {
    check(true).await;
}

#[tokio::test]
async fn what_follows_a_failure_at_once_never_starts() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = open(&raw, 0).await;
    batch.request(1, "echo", b"1").await;
    batch.request(2, "nope", b"").await;
    for id in 3..100 {
        // The broker may have stopped reading by then.
        let mut bytes = Vec::new();
        let request = tollgate_protocol::batch::Request::new(id, "gate", b"late");
        tollgate_protocol::encode(&tollgate_protocol::ClientFrame::Request(request), &mut bytes);
        let _ = batch.send.write_all(&bytes).await;
    }
    let lines = batch.transcript().await;
    assert_eq!(lines[..3], ["accepted", "result 1 OK 1", "result 2 RECIPE_NOT_FOUND"]);
    let summary = lines.last().expect("a summary");
    assert_eq!(*summary, format!("summary FailFast 1/{}", lines.len() - 2), "{lines:?}");
    assert!(stage.seen().started.is_empty());
    rig.idle().await;
}

#[tokio::test]
async fn without_a_failure_it_is_a_batch_like_any() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = open(&raw, 0).await;
    batch.request(1, "echo", b"1").await;
    batch.request(2, "quick", b"2").await;
    batch.seal(2).await;
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 2/2"));
    rig.idle().await;
}
