//! Workers that go away with calls in their hands.

use std::{collections::BTreeMap, time::Duration};

use tollgate_client::Request;
use tollgate_protocol::{Code, work::RecipeSpec};
use tollgate_tests::{Rig, SOON, eventually, worker::RawWorker};

fn spec(name: &'static str, idempotent: bool) -> RecipeSpec<'static> {
    let mut spec = RecipeSpec::new(name);
    spec.idempotent = idempotent;
    spec
}

async fn both(rig: &Rig, credit: u32) -> RawWorker {
    let mut worker = rig.worker(None, credit).await;
    worker.register(spec("again", true)).await;
    worker.register(spec("once", false)).await;
    worker
}

#[tokio::test]
async fn what_a_lost_worker_had_goes_to_another_or_ends() {
    let rig = Rig::with(|c| c.batch.concurrency_max = 4_096).await;
    rig.roomy_concurrency("acme", 4_096).await;
    let mut lost = both(&rig, 1_000).await;
    let client = rig.client("acme").await;
    let batch = tokio::spawn(async move {
        let items = (0..1_000).map(|n: u32| {
            Request::new(if n.is_multiple_of(2) { "again" } else { "once" }, n.to_string())
        });
        client
            .batch()
            .retry(tollgate_client::RetryPolicy::none())
            .execute(items)
            .await
            .expect("a batch")
    });
    let mut leases = Vec::new();
    for _ in 0..1_000 {
        leases.push(lost.call().await);
    }
    let mut heir = both(&rig, 1_000).await;
    lost.raw.conn.close(7u32.into(), b"killed");
    let mut attempts = BTreeMap::new();
    for _ in 0..500 {
        let call = heir.call().await;
        *attempts.entry(call.attempt).or_insert(0) += 1;
        assert_eq!(call.recipe, 0, "only what may run twice");
        heir.answer(call.lease, &call.payload).await;
    }
    assert_eq!(attempts, BTreeMap::from([(2, 500)]));
    let result = batch.await.expect("no panic");
    let mut ended = BTreeMap::new();
    for item in &result {
        let how = match &item.outcome {
            Ok(_) => "ok",
            Err(f) if f.code() == Some(Code::WorkerLost) => {
                assert!(!f.retryable && !f.side_effect_free);
                "lost"
            }
            Err(f) => panic!("{f}"),
        };
        *ended.entry(how).or_insert(0) += 1;
    }
    assert_eq!(ended, BTreeMap::from([("lost", 500), ("ok", 500)]));
    rig.idle().await;
}

#[tokio::test]
async fn a_call_that_kills_every_worker_ends_after_its_attempts() {
    let rig = Rig::start().await;
    let mut poison = spec("poison", true);
    poison.attempts_max = 3;
    let raw = rig.raw("acme").await;
    let mut first = rig.worker(None, 1).await;
    first.register(poison).await;
    let mut batch = raw.batch().await;
    batch.request(1, "poison", b"x").await;
    batch.seal(1).await;
    let mut worker = first;
    for attempt in 1..=3 {
        assert_eq!(worker.call().await.attempt, attempt);
        worker.raw.conn.close(7u32.into(), b"killed");
        if attempt < 3 {
            worker = rig.worker(None, 1).await;
            worker.register(poison).await;
        }
    }
    let told = batch.failures().await;
    assert_eq!((told[0].code(), told[0].attempts), (Some(Code::WorkerLost), 3));
    assert!(told[0].retryable, "it may run again");
    rig.idle().await;
}

#[tokio::test]
async fn a_worker_that_ends_its_stream_without_draining_is_lost() {
    let rig = Rig::start().await;
    let mut worker = both(&rig, 1).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "once", b"x").await;
    batch.seal(1).await;
    worker.call().await;
    worker.stream.fin();
    assert!(batch.transcript().await.contains(&"result 1 WORKER_LOST".to_owned()));
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
    rig.idle().await;
}

#[tokio::test]
async fn a_call_that_waits_again_waits_no_longer_than_it_may() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = spec("again", true);
    (spec.queue_timeout_ms, spec.timeout_ms) = (Some(200), Some(600_000));
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "again", b"x").await;
    batch.seal(1).await;
    worker.call().await;
    // It runs for longer than it might have waited: its batch looks for its time-out now.
    tokio::time::sleep(Duration::from_millis(400)).await;
    worker.raw.conn.close(7u32.into(), b"killed");
    let told =
        tokio::time::timeout(SOON, batch.failures()).await.expect("long before its time-out");
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].code(), told[0].attempts), (Some(Code::NoWorker), 1));
    assert!(told[0].retryable && !told[0].side_effect_free, "it was begun, and may be again");
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_given_up_while_its_call_waits_again_leaves_nothing() {
    let rig = Rig::start().await;
    let mut worker = both(&rig, 1).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "again", b"x").await;
    worker.call().await;
    worker.raw.conn.close(7u32.into(), b"killed");
    eventually("it waits again", || rig.broker.counters().worker_queue == 1).await;
    drop(batch);
    drop(raw);
    rig.idle().await;
}

#[tokio::test]
async fn a_broker_that_drains_lets_workers_finish_what_others_wait_for() {
    let rig = Rig::start().await;
    let mut worker = both(&rig, 1).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "once", b"x").await;
    let call = worker.call().await;
    let Rig { broker, dir } = rig;
    let ends = tokio::spawn(broker.shutdown(Duration::from_secs(60)));
    batch.until("notice").await;
    assert!(matches!(worker.next().await, tollgate_tests::worker::Said::Notice(_)));
    worker.answer(call.lease, b"y").await;
    batch.until("result 1 OK y").await;
    batch.seal(1).await;
    batch.until("summary").await;
    // Nobody is left who may wait for it: it is told, long before the time is up.
    assert_eq!(worker.error().await.code(), Some(Code::Draining));
    ends.await.expect("no panic");
    drop(dir);
}
