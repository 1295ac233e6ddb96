//! Quotas on what is there at once, and on single things.

use std::time::Instant;

use tollgate_broker::tenancy::{Drift, Holder, Quota};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, WorkerFrame,
    batch::Scope,
    close::CloseCode,
    work::{RecipeSpec, WorkOpen},
};
use tollgate_tests::{
    Rig, eventually,
    raw::{Raw, Told},
    worker::{RawWorker, Said},
};

use super::{at_most, limit};

fn quota(name: &str, current: u64, limit: u64) -> Option<(String, Scope, u64, u64)> {
    Some((name.to_owned(), Scope::Tenant, current, limit))
}

#[tokio::test]
async fn connections_up_to_the_limit_and_not_one_more() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.connections = at_most(3)).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let raw = rig.raw("acme").await;
        assert!(raw.serves().await);
        open.push(raw);
    }
    let over = rig.raw("acme").await;
    assert_eq!(over.closed().await, Some(CloseCode::QuotaExceeded.number().into()));
    assert!(rig.raw("globex").await.serves().await, "another tenant has its own");
    for raw in &open {
        assert!(raw.serves().await, "those that are open stay");
    }
    // One leaves: there is room for one.
    open.pop().expect("one").conn.close(0u32.into(), b"");
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    eventually("it is given back", || tenant.used(Quota::Connections, Instant::now()) == 2).await;
    assert!(rig.raw("acme").await.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn no_connections_at_all_when_there_are_none_to_have() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.connections = at_most(0)).await;
    let over = rig.raw("acme").await;
    assert_eq!(over.closed().await, Some(CloseCode::QuotaExceeded.number().into()));
    limit(&rig, "acme", |q| q.connections = tollgate_broker::tenancy::Limit::UNLIMITED).await;
    assert!(rig.raw("acme").await.serves().await, "a change acts at once");
}

#[tokio::test]
async fn a_tenants_workers_up_to_its_consumers_and_not_one_more() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.consumers = at_most(2)).await;
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    let used = || tenant.used(Quota::Consumers, Instant::now());
    let mut first = rig.worker(Some("acme"), 1).await;
    let mut second = rig.worker(Some("acme"), 1).await;
    first.register(RecipeSpec::new("a")).await;
    second.register(RecipeSpec::new("b")).await;
    assert_eq!(used(), 2);
    let over = rig.worker(Some("acme"), 1).await.error().await;
    assert_eq!(over.code(), Some(Code::QuotaExceeded), "{over:?}");
    assert_eq!(over.quota, quota("consumers", 2, 2));
    // A worker that leaves makes room.
    assert!(over.retryable && over.side_effect_free, "{over:?}");
    // A stream is one, on whichever connection; another tenant and the platform have their own.
    let mut stream = first.raw.stream().await;
    stream.frame(&ClientFrame::Work(WorkOpen::new(1))).await;
    let (endpoint, conn) = (first.raw.endpoint.clone(), first.raw.conn.clone());
    let mut beside = RawWorker { raw: Raw { endpoint, conn }, stream };
    assert_eq!(beside.error().await.quota, quota("consumers", 2, 2));
    for other in [Some("globex"), None] {
        rig.worker(other, 1).await.register(RecipeSpec::new("c")).await;
    }
    assert_eq!(
        rig.broker.workers().iter().filter(|w| w.tenant.as_deref() == Some("acme")).count(),
        2
    );
    // One drains, one is lost: both give theirs back.
    first.say(&WorkerFrame::Drain).await;
    assert_eq!(first.next().await, Said::End);
    eventually("a drained one is given back", || used() == 1).await;
    let mut third = rig.worker(Some("acme"), 1).await;
    third.register(RecipeSpec::new("a")).await;
    assert_eq!(used(), 2);
    drop((second, third));
    eventually("lost ones are given back", || used() == 0).await;
    limit(&rig, "acme", |q| q.consumers = at_most(0)).await;
    let none = rig.worker(Some("acme"), 1).await.error().await;
    assert_eq!(none.quota, quota("consumers", 0, 0));
}

#[tokio::test]
async fn the_audit_counts_the_streams_of_a_tenants_workers() {
    let (rig, _stage) = Rig::staged(|config| config.tenancy.audit_interval_ms = 100).await;
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    let mut held = Vec::new();
    for name in ["a", "b"] {
        let mut worker = rig.worker(Some("acme"), 1).await;
        worker.register(RecipeSpec::new(name)).await;
        held.push(worker);
    }
    // A permit that nobody gives back: what was found beside it are the two streams.
    std::mem::forget(tenant.consumer());
    let holder = Holder::Tenant(tenant.id().clone());
    let drift = Drift { holder, quota: "consumers", counted: 3, found: 2 };
    eventually("it is found", || rig.broker.tenants().drifts() == [drift.clone()]).await;
    held.pop();
    let drift = Drift { counted: 2, found: 1, ..drift };
    eventually("who leaves is not counted", || rig.broker.tenants().drifts() == [drift.clone()])
        .await;
}

#[tokio::test]
async fn batches_in_flight_up_to_the_limit_and_not_one_more() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.batches_in_flight = at_most(2)).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("acme").await);
    let (mut first, mut second) = (raw.batch().await, other.batch().await);
    first.until("accepted").await;
    second.until("accepted").await;
    let over = raw.batch().await.failures().await.pop().expect("an error");
    assert_eq!((over.id, over.code()), (None, Some(Code::QuotaExceeded)));
    assert_eq!(over.quota, quota("batches_in_flight", 2, 2));
    // It frees up, nobody knows when.
    assert!(over.retryable && over.side_effect_free && over.retry_after_ms.is_none(), "{over:?}");
    first.seal(0).await;
    first.until("summary").await;
    // Its summary was read: there is room now.
    assert!(raw.serves().await);
    second.reset(1);
    second.transcript().await;
    let (mut a, mut b) = (raw.batch().await, raw.batch().await);
    a.until("accepted").await;
    b.until("accepted").await;
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    assert_eq!(tenant.used(Quota::BatchesInFlight, Instant::now()), 2);
    drop((a, b));
    rig.idle().await;
}

#[tokio::test]
async fn items_of_a_batch_up_to_the_limit_and_the_rest_fail_one_by_one() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.batch_items = at_most(5)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    let granted = batch.next(|f| match f {
        BrokerFrame::Accepted(a) => Some(a.items_max),
        _ => None,
    });
    assert_eq!(granted.await.flatten(), Some(5));
    for id in 0..5 {
        batch.request(id, ["echo", "quick"][id as usize % 2], b"x").await;
    }
    batch.request(5, "echo", b"x").await;
    batch.request(6, "later", b"x").await;
    batch.seal(7).await;
    let over = batch.failures().await;
    let told = |t: &Told| (t.id, t.code(), t.attempts, t.side_effect_free);
    let expected = |id| (Some(id), Some(Code::BatchTooLarge), 0, true);
    assert_eq!(over.iter().map(told).collect::<Vec<_>>(), [expected(5), expected(6)]);
    assert_eq!(over[0].quota, quota("batch_items", 6, 5));
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_over_its_limit_still_succeeds_in_part() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.batch_items = at_most(1_000)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 0..3_000 {
        batch.request(id, "echo", b"").await;
    }
    batch.seal(3_000).await;
    let summary = batch.until("summary").await.pop().expect("a summary");
    assert_eq!(summary, "summary Sealed 1000/3000");
    rig.idle().await;
}

#[tokio::test]
async fn payloads_up_to_the_limit_and_not_one_byte_more() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    limit(&rig, "acme", |q| q.payload_bytes = at_most(10)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "echo", b"ten bytes.").await;
    batch.request(2, "echo", b"eleven byte").await;
    batch.request(3, "echo", b"").await;
    batch.seal(3).await;
    let over = batch.failures().await;
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].id, over[0].code()), (Some(2), Some(Code::QuotaExceeded)));
    assert_eq!(over[0].quota, quota("payload_bytes", 11, 10));
    assert!(!over[0].retryable && over[0].side_effect_free && over[0].attempts == 0);
    rig.idle().await;
}

#[tokio::test]
async fn a_changed_limit_acts_on_a_batch_that_is_open() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "echo", b"eleven byte").await;
    batch.until("result 1 OK").await;
    limit(&rig, "acme", |q| q.payload_bytes = at_most(10)).await;
    batch.request(2, "echo", b"eleven byte").await;
    batch.until("result 2 QUOTA_EXCEEDED").await;
    limit(&rig, "acme", |q| q.payload_bytes = at_most(11)).await;
    batch.request(3, "echo", b"eleven byte").await;
    batch.until("result 3 OK").await;
    batch.seal(3).await;
    batch.until("summary Sealed 2/3").await;
    rig.idle().await;
}
