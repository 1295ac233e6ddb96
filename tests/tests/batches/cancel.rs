//! Every way to give up a batch, and what each leaves.

use tollgate_client::Request;
use tollgate_protocol::{ClientFrame, batch::CancelScope};
use tollgate_tests::{
    Rig, SOON, eventually,
    raw::{Ending, Raw, RawStream},
    stage::Stage,
};

/// One item that runs and two that wait.
async fn three() -> (Rig, Stage, Raw, RawStream) {
    // No empty frame is due while a test runs: what is noticed is noticed by itself.
    let (rig, stage) = Rig::staged(|c| c.limits.alive_interval_ms = 3_600_000).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    for id in 1..=3u64 {
        batch.request(id, "gate", id.to_string().as_bytes()).await;
    }
    stage.running(1).await;
    // All three were read: an answer to a frame behind them.
    batch.request(4, "nope", b"").await;
    batch.until("result 4").await;
    (rig, stage, raw, batch)
}

async fn cancels_pending(cancel: impl AsyncFnOnce(&mut RawStream)) {
    let (rig, stage, raw, mut batch) = three().await;
    cancel(&mut batch).await;
    assert_eq!(batch.until("result 3").await, ["result 2 CANCELLED", "result 3 CANCELLED"]);
    assert_eq!(stage.seen().running, 1, "what runs may finish");
    stage.open(1);
    assert_eq!(batch.transcript().await, ["result 1 OK 1", "summary Cancelled 1/4"]);
    assert!(raw.serves().await);
    rig.idle().await;
}

async fn cancels_all(cancel: impl AsyncFnOnce(&mut RawStream)) {
    let (rig, stage, raw, mut batch) = three().await;
    cancel(&mut batch).await;
    let mut lines = batch.transcript().await;
    lines.sort();
    let expected =
        ["result 1 CANCELLED", "result 2 CANCELLED", "result 3 CANCELLED", "summary Cancelled 0/4"];
    assert_eq!(lines, expected);
    assert_eq!(stage.until("it is dropped", |s| s.running == 0).await.dropped, ["1"]);
    assert!(raw.serves().await);
    rig.idle().await;
}

/// Nobody reads what becomes of it: everything is given up and given back.
async fn cancels_unheard(cancel: impl AsyncFnOnce(&Raw, RawStream)) {
    let (rig, stage, raw, batch) = three().await;
    cancel(&raw, batch).await;
    assert_eq!(stage.until("it is dropped", |s| s.running == 0).await.dropped, ["1"]);
    assert_eq!(stage.seen().started, ["1"], "nothing new starts");
    rig.idle().await;
}

#[tokio::test]
async fn a_frame_cancels_what_waits() {
    cancels_pending(async |b| b.frame(&ClientFrame::Cancel(CancelScope::Pending)).await).await;
}

#[tokio::test]
async fn a_frame_cancels_what_waits_after_the_seal_too() {
    cancels_pending(async |b| {
        b.seal(4).await;
        b.frame(&ClientFrame::Cancel(CancelScope::Pending)).await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_with_cancel_pending_cancels_what_waits() {
    cancels_pending(async |b| b.reset(2)).await;
}

#[tokio::test]
async fn a_frame_cancels_everything() {
    cancels_all(async |b| b.frame(&ClientFrame::Cancel(CancelScope::All)).await).await;
}

#[tokio::test]
async fn a_frame_cancels_everything_after_one_that_cancelled_what_waits() {
    cancels_all(async |b| {
        b.frame(&ClientFrame::Cancel(CancelScope::Pending)).await;
        b.frame(&ClientFrame::Cancel(CancelScope::All)).await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_with_cancel_all_cancels_everything() {
    cancels_all(async |b| b.reset(1)).await;
}

#[tokio::test]
async fn a_reset_with_the_code_of_a_dropped_stream_cancels_everything() {
    cancels_all(async |b| b.reset(0)).await;
}

#[tokio::test]
async fn a_reset_with_an_unknown_code_cancels_everything() {
    cancels_all(async |b| b.reset(77)).await;
}

#[tokio::test]
async fn a_reset_with_a_code_of_the_brokers_cancels_everything() {
    cancels_all(async |b| b.reset(3)).await;
}

#[tokio::test]
async fn a_reader_that_leaves_cancels_everything_whatever_its_code() {
    for code in [0, 1, 2, 77] {
        cancels_unheard(async |_, mut b| {
            b.recv.stop(quinn::VarInt::from_u32(code)).expect("still open");
            // The client's side goes on until it hears that nobody listens.
            b.stopped().await.expect("told");
        })
        .await;
    }
}

#[tokio::test]
async fn a_reader_that_leaves_a_batch_at_rest_is_noticed() {
    let (rig, _stage) = Rig::staged(|c| c.limits.alive_interval_ms = 3_600_000).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.until("accepted").await;
    batch.recv.stop(quinn::VarInt::from_u32(1)).expect("still open");
    batch.stopped().await.expect("told");
    rig.idle().await;
}

#[tokio::test]
async fn a_lost_connection_cancels_everything() {
    cancels_unheard(async |raw, _b| raw.conn.close(0u32.into(), b"")).await;
}

#[tokio::test]
async fn a_stream_that_ends_without_a_seal_is_a_cut_batch() {
    let (rig, stage, raw, mut batch) = three().await;
    batch.fin();
    let mut lines = batch.transcript().await;
    lines.sort();
    let expected =
        ["result 1 CANCELLED", "result 2 CANCELLED", "result 3 CANCELLED", "summary Cut 0/4"];
    assert_eq!(lines, expected);
    assert_eq!(stage.seen().dropped, ["1"]);
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn a_stream_that_ends_with_its_seal_goes_on() {
    let (rig, stage, _raw, mut batch) = three().await;
    batch.seal(4).await;
    batch.fin();
    stage.open(3);
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 3/4"), "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn what_follows_a_cancel_is_not_read() {
    let (rig, stage, raw, mut batch) = three().await;
    batch.frame(&ClientFrame::Cancel(CancelScope::Pending)).await;
    for id in 5..100 {
        batch.request(id, "echo", b"late").await;
    }
    batch.seal(99).await;
    batch.until("result 3").await;
    stage.open(1);
    assert_eq!(batch.transcript().await, ["result 1 OK 1", "summary Cancelled 1/4"]);
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn a_reset_is_heeded_while_the_stream_is_held() {
    let (rig, stage) = Rig::staged(|c| c.batch.waiting_items_max = 1).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    for id in 1..=500 {
        batch.request(id, "gate", b"x").await;
    }
    stage.running(1).await;
    assert!(raw.serves().await);
    batch.reset(1);
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Cancelled 0/2"), "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn an_item_that_runs_on_the_pool_is_told_and_its_batch_does_not_wait() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "pool", b"1").await;
    stage.running(1).await;
    batch.frame(&ClientFrame::Cancel(CancelScope::All)).await;
    let lines = batch.transcript().await;
    assert_eq!(lines, ["accepted", "result 1 CANCELLED", "summary Cancelled 0/1"]);
    stage.open_pool(1);
    rig.idle().await;
}

#[tokio::test]
async fn dropping_the_clients_batch_cancels_it() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().concurrency_max(1).open().await.expect("a batch");
    for name in ["1", "2"] {
        batch.send(Request::new("gate", name)).await.expect("sent");
    }
    batch.flush().await.expect("sent");
    stage.running(1).await;
    drop(batch);
    assert_eq!(stage.until("it is dropped", |s| s.running == 0).await.started, ["1"]);
    rig.idle().await;
}

#[tokio::test]
async fn dropping_the_readers_half_cancels_even_a_sealed_batch() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().open().await.expect("a batch");
    batch.send(Request::new("gate", "1")).await.expect("sent");
    batch.finish().await.expect("sealed");
    stage.running(1).await;
    let (sender, events) = batch.split();
    drop(events);
    stage.until("it is dropped", |s| s.dropped == ["1"]).await;
    drop(sender);
    rig.idle().await;
}

#[tokio::test]
async fn what_was_not_read_is_told_by_the_last_id() {
    let (rig, stage) = Rig::staged(|c| c.batch.waiting_items_max = 4).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().concurrency_max(1).open().await.expect("a batch");
    for n in 0..50u64 {
        batch.send(Request::new("gate", "x").id(10 * n)).await.expect("sent");
    }
    batch.flush().await.expect("sent");
    stage.running(1).await;
    eventually("the stream is held", || rig.broker.counters().items_running == 1).await;
    // Sent in band, this would queue behind items that are not read.
    batch.cancel(CancelScope::All).await.expect("cancelled");
    let mut results = 0;
    let read = async {
        while let Some(event) = batch.next().await {
            match event.expect("no error") {
                tollgate_client::Event::Result(r) => {
                    assert_eq!(r.id, 10 * results);
                    results += 1;
                }
                tollgate_client::Event::Summary(s) => return Some(s),
                _ => {}
            }
        }
        None
    };
    // In band it waits for room; the open gate makes it.
    stage.open(50);
    let summary = tokio::time::timeout(SOON, read).await.expect("in time").expect("a summary");
    assert_eq!(summary.total, results);
    assert_eq!(summary.last_id_read, results.checked_sub(1).map(|n| 10 * n));
    rig.idle().await;
}

#[tokio::test]
async fn a_stream_reset_before_its_first_frame_leaves_nothing() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    for code in [0, 1, 2, 77] {
        let mut stream = raw.stream().await;
        stream.bytes(&[0, 0]).await;
        stream.reset(code);
        assert_eq!(stream.ending().await, Ending::Finished, "no frame, and no more");
    }
    assert!(raw.serves().await);
    rig.idle().await;
}
