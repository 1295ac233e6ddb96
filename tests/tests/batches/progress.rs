//! How far items have come: newest wins, never backwards, and a success ends at its total.

use tollgate_protocol::{BrokerFrame, ClientFrame, batch::Request};
use tollgate_tests::{Rig, raw::RawStream};

/// Reads to the end: (done, total) of every progress of item 1, checked to rise; none after its
/// result.
async fn progress(batch: &mut RawStream) -> Vec<(u64, u64)> {
    let (mut seen, mut ended) = (Vec::new(), false);
    let mut see = |f: BrokerFrame<'_>| match f {
        BrokerFrame::Progress(p) => {
            assert!(!ended && p.id == 1 && p.attempt == 1, "{p:?}");
            assert!(seen.last().is_none_or(|(done, _)| *done <= p.done), "{seen:?}, then {p:?}");
            seen.push((p.done, p.total));
        }
        BrokerFrame::Result(r) => ended = r.id == 1,
        _ => {}
    };
    while batch.next(&mut see).await.is_some() {}
    seen
}

#[tokio::test]
async fn every_step_that_is_waited_for_is_seen_and_a_success_ends_at_its_total() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "steps", b"3").await;
    batch.seal(1).await;
    for done in 0..3 {
        batch.until(&format!("progress 1 {done}/3")).await;
        stage.open(1);
    }
    assert_eq!(progress(&mut batch).await.last(), Some(&(3, 3)));
    rig.idle().await;
}

#[tokio::test]
async fn of_many_reports_a_client_sees_few_and_the_newest() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    stage.open(10_000);
    let mut batch = raw.batch().await;
    batch.request(1, "steps", b"10000").await;
    batch.seal(1).await;
    let seen = progress(&mut batch).await;
    assert_eq!(seen.last(), Some(&(10_000, 10_000)));
    assert!(seen.len() < 1_000, "{} reports were sent", seen.len());
    rig.idle().await;
}

#[tokio::test]
async fn a_failure_has_no_progress_after_it() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    let mut request = Request::new(1, "steps", b"5");
    request.timeout_ms = Some(300);
    batch.frame(&ClientFrame::Request(request)).await;
    batch.seal(1).await;
    batch.until("progress 1 0/5").await;
    stage.open(2);
    let seen = progress(&mut batch).await;
    assert!(seen.iter().all(|(done, _)| *done <= 2), "it did not get there: {seen:?}");
    rig.idle().await;
}

#[tokio::test]
async fn what_a_thread_reports_after_its_item_timed_out_is_not_told() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    let mut request = Request::new(1, "pool", b"slow");
    request.timeout_ms = Some(50);
    batch.frame(&ClientFrame::Request(request)).await;
    batch.request(2, "gate", b"2").await;
    batch.until("result 1 TIMEOUT").await;
    // The thread reports now; and another item makes progress, which must not carry it along.
    stage.open_pool(1);
    stage.until("the thread is done", |s| s.finished == ["slow"]).await;
    batch.request(3, "steps", b"1").await;
    let mut lines = batch.until("progress 3 0/1").await;
    stage.open(2);
    batch.seal(3).await;
    lines.extend(batch.transcript().await);
    assert!(!lines.iter().any(|l| l.starts_with("progress 1")), "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 2/3"));
    rig.idle().await;
}

#[tokio::test]
async fn progress_is_not_held_back_by_the_order_of_results() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch =
        raw.batch_with(|open| open.order = tollgate_protocol::batch::Order::Submission).await;
    batch.request(1, "pool", b"1").await;
    stage.running(1).await;
    batch.request(2, "steps", b"2").await;
    batch.until("progress 2 0/2").await;
    stage.open(2);
    stage.until("the second is done", |s| s.finished == ["2"]).await;
    batch.until("progress 2 2/2").await;
    stage.open_pool(1);
    batch.seal(2).await;
    let lines = batch.transcript().await;
    let results: Vec<_> = lines.iter().filter(|l| l.starts_with("result")).collect();
    assert_eq!(results, ["result 1 OK 1", "result 2 OK 2"]);
    rig.idle().await;
}
