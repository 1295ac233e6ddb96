//! What happens by time: items that take too long, that wait too long, batches past their deadline.

use std::time::Duration;

use tollgate_broker::batch::Spec;
use tollgate_protocol::{
    ClientFrame, Code,
    batch::{Ended, Request},
    encode,
};
use tollgate_tests::{
    Rig, eventually,
    raw::{RawStream, Told},
    stage::{Async, Stage},
};

const LONG_MS: u64 = 3_600_000;

async fn with_timeout(batch: &mut RawStream, id: u64, recipe: &str, timeout_ms: u64) {
    let payload = id.to_string();
    let mut request = Request::new(id, recipe, payload.as_bytes());
    request.timeout_ms = Some(timeout_ms);
    batch.frame(&ClientFrame::Request(request)).await;
}

#[tokio::test]
async fn an_item_that_takes_too_long_is_dropped_and_the_others_go_on() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    with_timeout(&mut batch, 1, "hang", 50).await;
    with_timeout(&mut batch, 2, "gate", LONG_MS).await;
    batch.seal(2).await;
    let told = loop {
        if let Some(told) = batch.next(|f| Told::of(&f)).await.expect("more to come") {
            break told;
        }
    };
    assert_eq!((told.id, told.code()), (Some(1), Some(Code::Timeout)));
    assert_eq!((told.attempts, told.detail("phase")), (1, "running"));
    assert!(!told.retryable && !told.side_effect_free, "it ran: {told:?}");
    stage.until("its future is dropped", |s| s.dropped == ["1"]).await;
    stage.open(1);
    assert_eq!(batch.transcript().await, ["result 2 OK 2", "summary Sealed 1/2"]);
    rig.idle().await;
}

#[tokio::test]
async fn an_items_timeout_can_only_shorten_the_recipes() {
    let stage = Stage::default();
    let brief = Spec { timeout: Some(Duration::from_millis(50)), ..Spec::default() };
    let recipes = stage.recipes().recipe(
        "brief",
        brief,
        Async(|_, _| async { std::future::pending().await }),
    );
    let rig = Rig::with_catalog(recipes.build().expect("a catalog"), |_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    with_timeout(&mut batch, 1, "brief", LONG_MS).await;
    with_timeout(&mut batch, 2, "brief", u64::MAX).await;
    with_timeout(&mut batch, 3, "hang", 1).await;
    with_timeout(&mut batch, 4, "hang", 0).await;
    batch.seal(4).await;
    let mut codes: Vec<_> = batch.failures().await.iter().map(|t| (t.id, t.code())).collect();
    codes.sort_by_key(|c| c.0);
    let over = Code::Timeout;
    let expected = [(1, over), (2, over), (3, over), (4, Code::ValidationError)];
    assert_eq!(codes, expected.map(|(id, code)| (Some(id), Some(code))));
    rig.idle().await;
}

#[tokio::test]
async fn an_item_that_waits_too_long_for_its_start_never_starts() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 1).await.expect("there is one");
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "gate", b"1").await;
    stage.running(1).await;
    let mut waits = raw.batch().await;
    waits.request(1, "gate.impatient", b"2").await;
    waits.seal(1).await;
    let told = loop {
        if let Some(told) = waits.next(|f| Told::of(&f)).await.expect("more to come") {
            break told;
        }
    };
    assert_eq!((told.id, told.code()), (Some(1), Some(Code::Timeout)));
    assert_eq!((told.attempts, told.detail("phase")), (0, "queued"));
    assert!(told.side_effect_free && told.retryable, "it never ran: {told:?}");
    stage.open(1);
    batch.seal(1).await;
    assert_eq!(batch.transcript().await, ["accepted", "result 1 OK 1", "summary Sealed 1/1"]);
    rig.idle().await;
}

#[tokio::test]
async fn what_its_own_batch_holds_back_does_not_wait_for_others() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    batch.request(1, "gate", b"1").await;
    batch.request(2, "gate.impatient", b"2").await;
    batch.seal(2).await;
    stage.running(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stage.open(2);
    let lines = batch.transcript().await;
    assert_eq!(lines, ["accepted", "result 1 OK 1", "result 2 OK 2", "summary Sealed 2/2"]);
    rig.idle().await;
}

#[tokio::test]
async fn who_stood_behind_one_that_gave_up_takes_its_place() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 1).await.expect("there is one");
    let raw = rig.raw("acme").await;
    let mut other = raw.batch().await;
    other.request(1, "gate", b"other").await;
    other.seal(1).await;
    stage.running(1).await;
    // This batch may run one, which stands in line and gives up; the next has no place yet.
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    batch.request(1, "gate.impatient", b"1").await;
    batch.request(2, "gate", b"2").await;
    batch.seal(2).await;
    batch.until("result 1 TIMEOUT").await;
    stage.open(2);
    assert_eq!(other.until("summary").await.len(), 3);
    assert_eq!(batch.transcript().await, ["result 2 OK 2", "summary Sealed 1/2"]);
    rig.idle().await;
}

#[tokio::test]
async fn a_deadline_ends_what_runs_and_what_waits() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let open = |open: &mut tollgate_protocol::batch::BatchOpen<'_>| {
        (open.deadline_ms, open.concurrency_max) = (Some(100), 1);
    };
    let mut batch = raw.batch_with(open).await;
    batch.request(1, "gate", b"1").await;
    batch.request(2, "gate", b"2").await;
    batch.request(3, "echo", b"3").await;
    let told = batch.failures().await;
    let mut codes: Vec<_> = told.iter().map(|t| (t.id, t.code(), t.attempts)).collect();
    codes.sort_by_key(|c| c.0);
    let late = Some(Code::DeadlineExceeded);
    assert_eq!(codes, [(Some(1), late, 1), (Some(2), late, 0)]);
    let free: Vec<_> = told.iter().map(|t| (t.id == Some(2)) == t.side_effect_free).collect();
    assert_eq!(free, [true, true], "what never started had no effect");
    assert_eq!(stage.seen().dropped, ["1"]);
    rig.idle().await;
}

/// A batch with such a deadline, on which nothing or one echo is sent: how it ends.
async fn check_deadline(deadline_ms: u64, expected: &[&str]) {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.deadline_ms = Some(deadline_ms)).await;
    let lines = batch.transcript().await;
    assert_eq!(lines, expected);
    rig.idle().await;
}

#[tokio::test]
async fn a_deadline_ends_a_batch_without_items() {
    check_deadline(20, &["accepted", "summary DeadlineExceeded 0/0"]).await;
}

#[tokio::test]
async fn a_deadline_of_nothing_is_over_at_once() {
    check_deadline(0, &["accepted", "summary DeadlineExceeded 0/0"]).await;
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    // All in one packet: the items are there when the batch is opened.
    let mut bytes = Vec::new();
    let mut open =
        tollgate_protocol::batch::BatchOpen::new(tollgate_protocol::id::BatchId::random());
    open.deadline_ms = Some(0);
    encode(&ClientFrame::Batch(open), &mut bytes);
    encode(&ClientFrame::Request(Request::new(1, "gate", b"1")), &mut bytes);
    let mut stream = raw.stream().await;
    stream.bytes(&bytes).await;
    let lines = stream.transcript().await;
    assert_eq!(
        lines.last().map(String::as_str).map(|l| &l[..24]),
        Some("summary DeadlineExceeded")
    );
    assert!(stage.seen().finished.is_empty());
    rig.idle().await;
}

#[tokio::test]
async fn a_deadline_is_kept_however_busy_the_batch_is() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let batch = raw.batch_with(|open| open.deadline_ms = Some(200)).await;
    let RawStream { mut send, mut reader } = batch;
    let flood = async move {
        let mut bytes = Vec::new();
        // Ends when the broker takes no more, or never.
        for first in (0..).step_by(256) {
            bytes.clear();
            for id in first..first + 256 {
                encode(&ClientFrame::Request(Request::new(id, "echo", b"")), &mut bytes);
            }
            if send.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let read = async {
        let mut ended = None;
        while let Some(summary) = reader
            .next(|f| match f {
                tollgate_protocol::BrokerFrame::Summary(s) => Some(s.ended),
                _ => None,
            })
            .await
        {
            ended = ended.or(summary);
        }
        ended
    };
    let bounded = tokio::time::timeout(tollgate_tests::SOON, async { tokio::join!(flood, read) });
    let ((), ended) = bounded.await.expect("the deadline ends the batch");
    assert_eq!(ended, Some(Ended::DeadlineExceeded));
    rig.idle().await;
}

#[tokio::test]
async fn a_deadline_beyond_all_clocks_is_none() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.deadline_ms = Some(u64::MAX)).await;
    batch.request(1, "later", b"1").await;
    batch.seal(1).await;
    assert_eq!(batch.transcript().await.last().map(String::as_str), Some("summary Sealed 1/1"));
    rig.idle().await;
}

#[tokio::test]
async fn a_thread_that_outlives_its_item_is_counted_until_it_returns() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    with_timeout(&mut batch, 1, "pool", 50).await;
    batch.seal(1).await;
    let lines = batch.transcript().await;
    assert_eq!(lines, ["accepted", "result 1 TIMEOUT", "summary Sealed 0/1"]);
    assert_eq!(rig.broker.counters().blocking_running, 1);
    stage.open_pool(1);
    eventually("the thread is free", || rig.broker.counters().blocking_running == 0).await;
    rig.idle().await;
}
