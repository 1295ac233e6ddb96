//! Jobs over restarts: nothing that was accepted is lost, and nothing ends twice.

use std::time::Duration;

use tollgate_client::{Code, JobEvent, JobFilter, JobState, JobTarget, Request};
use tollgate_tests::{Rig, SOON, stage::Stage};

use crate::{staged, until};

#[tokio::test]
async fn queued_running_and_ended_jobs_come_back_as_they_were() {
    let (rig, stage, client) = staged().await;
    let done = client.submit_bytes("echo", "done").await.expect("accepted");
    assert!(done.result_within(SOON).await.expect("over").is_success());
    let before = done.info().await.expect("kept");
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let delayed = client.submit_bytes("echo", "later").not_before(later).await.expect("accepted");
    let running = client.submit_bytes("gate", "running").await.expect("accepted");
    stage.running(1).await;
    until(&client, running.id(), JobState::Running).await;
    client.close().await;

    let stage = Stage::default();
    let rig = rig.restart_with(stage.catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    assert_eq!(client.jobs().get(done.id()).await.expect("kept"), before);
    assert_eq!(client.jobs().get(delayed.id()).await.expect("kept").state, JobState::Queued);
    stage.running(1).await;
    let info = until(&client, running.id(), JobState::Running).await;
    assert_eq!(info.attempts, 2, "the attempt that was lost counts");
    stage.open(1);
    let result = client.job(running.id()).result_within(SOON).await.expect("over");
    assert_eq!((result.attempts, result.is_success()), (2, true));
    let kept = client.job(done.id()).result_within(SOON).await.expect("kept");
    assert_eq!(kept.payload().map(|p| &p[..]), Some(&b"done"[..]));
    assert_eq!(client.jobs().list(&JobFilter::new()).await.expect("a list").len(), 3);
}

#[tokio::test]
async fn keys_and_numbers_outlive_a_restart() {
    let (rig, _stage, client) = staged().await;
    let first = client.submit_bytes("echo", "a").idempotency_key("k").await.expect("accepted");
    let result = first.result_within(SOON).await.expect("over");
    client.close().await;
    let rig = rig.restart_with(Stage::default().catalog(), |_| {}).await;
    let client = rig.client("acme").await;
    let same = client.submit_bytes("echo", "a").idempotency_key("k").await.expect("the same");
    assert!(same.existing());
    assert_eq!(same.id(), first.id());
    let again = same.result_within(SOON).await.expect("kept");
    assert_eq!(again.payload(), result.payload());
    let other = client.submit_bytes("echo", "b").idempotency_key("k").await.expect_err("taken");
    assert_eq!(other.code(), Some(Code::Conflict));
    let next = client.submit_bytes("echo", "c").await.expect("accepted");
    let next = next.result_within(SOON).await.expect("over");
    assert!(next.number > result.number, "numbers go on: {:?} {:?}", next.number, result.number);
}

#[tokio::test]
async fn who_awaits_a_result_need_not_notice_a_restart() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("bound");
    drop(port);
    let stage = Stage::default();
    let rig = Rig::with_catalog(stage.catalog(), |c| c.listen = addr).await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("gate", "x").await.expect("accepted");
    stage.running(1).await;
    // A first attempt runs before its start is kept.
    until(&client, job.id(), JobState::Running).await;
    let awaited = tokio::spawn(async move { job.result().await });
    let stage = Stage::default();
    let rig = rig.restart_with(stage.catalog(), |c| c.listen = addr).await;
    stage.running(1).await;
    stage.open(1);
    let result = tokio::time::timeout(SOON, awaited).await.expect("in time").expect("no panic");
    let result = result.expect("a result");
    assert_eq!((result.attempts, result.is_success()), (2, true));
    drop(rig);
}

#[tokio::test]
async fn a_batch_with_jobs_is_read_to_its_end_over_a_restart() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("bound");
    drop(port);
    let stage = Stage::default();
    let rig = Rig::with_catalog(stage.catalog(), |c| c.listen = addr).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().durable().open().await.expect("open");
    let id = batch.id();
    for n in 0..10 {
        batch.send(Request::new("gate", format!("{n}"))).await.expect("sent");
    }
    batch.seal().await.expect("sealed");
    stage.running(10).await;
    stage.open(4);
    let read = tokio::spawn(async move {
        let mut results = Vec::new();
        while let Some(event) = batch.next().await {
            if let tollgate_client::Event::Result(r) = event.expect("an event") {
                results.push((r.id, r.is_success()));
            }
        }
        results.sort_unstable();
        results
    });
    stage.until("some are done", |s| s.finished.len() == 4).await;
    let next = Stage::default();
    let rig = rig.restart_with(next.catalog(), |c| c.listen = addr).await;
    next.open(10);
    let results = tokio::time::timeout(SOON, read).await.expect("in time").expect("no panic");
    let first = results.first().map_or(0, |r| r.0);
    let expected: Vec<_> = (0..10).map(|n| (first + n, true)).collect();
    assert_eq!(results, expected, "each once");
    let client = rig.client("acme").await;
    let mut attached = client.attach(JobTarget::Batch(id));
    let mut summaries = 0;
    while let Some(event) = attached.next().await {
        if let JobEvent::Summary(s) = event.expect("an event") {
            assert_eq!((s.total, s.succeeded), (10, 10));
            summaries += 1;
        }
    }
    assert_eq!(summaries, 1);
}

#[tokio::test]
async fn a_job_that_stays_does_not_keep_all_that_came_after_it() {
    let change = |c: &mut tollgate_broker::Config| {
        c.jobs.checkpoint_events = 64;
        c.store.segment_bytes = 64 << 10;
    };
    let stage = Stage::default();
    let rig = Rig::with_catalog(stage.catalog(), change).await;
    let client = rig.client("acme").await;
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let stays = client.submit_bytes("echo", "stays").not_before(later).await.expect("accepted");
    let failed = client.submit_bytes("invalid", "kept").await.expect("accepted");
    let kept = failed.result_within(SOON).await.expect("over");
    for _ in 0..12 {
        let batch = client
            .batch()
            .durable()
            .execute((0..100).map(|n| Request::new("echo", format!("{n}{}", "x".repeat(1_000)))));
        assert!(batch.await.expect("a batch").iter().all(|r| r.is_success()));
        let done = JobFilter::new().state(JobState::Succeeded);
        assert_eq!(client.jobs().purge(done).await.expect("purged"), 100);
    }
    client.close().await;
    let rig = rig.restart_with(Stage::default().catalog(), change).await;
    let client = rig.client("acme").await;
    assert_eq!(client.jobs().list(&JobFilter::new()).await.expect("a list").len(), 2);
    let again = client.job(failed.id()).result_within(SOON).await.expect("kept");
    assert_eq!((again.number, again.code()), (kept.number, kept.code()), "moved, and the same");
    let info = client.jobs().get(stays.id()).await.expect("kept");
    assert_eq!((info.state, info.payload_bytes), (JobState::Queued, 5));
    let segments = || {
        let mut bytes = 0;
        let mut dirs = vec![rig.path("store")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
                let meta = entry.metadata().expect("there");
                if meta.is_dir() {
                    dirs.push(entry.path());
                } else if entry.path().extension().is_some_and(|e| e == "segment") {
                    bytes += meta.len();
                }
            }
        }
        bytes
    };
    // What was written is some 2.6 MB; what is kept is a few kilobytes, and what is not cleared yet.
    tollgate_tests::eventually("what is spent is gone", || segments() < 1 << 20).await;
}
