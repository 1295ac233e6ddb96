//! Streams that are not read: half of a connection's window may be kept so; what comes beyond is
//! refused, and read on.

use std::time::Instant;

use tollgate_broker::tenancy::{Limit, Policy, Quota};
use tollgate_protocol::Code;
use tollgate_tests::Rig;

use super::{WINDOW_S, at_most, endless, limit};

#[tokio::test]
async fn beyond_half_of_the_window_a_rate_is_a_refusal() {
    let (rig, _stage) = Rig::staged(|c| {
        endless(c);
        (c.limits.stream_window_bytes, c.limits.connection_window_bytes) = (64 << 10, 256 << 10);
        c.limits.connection_window_max_bytes = 256 << 10;
    })
    .await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let raw = rig.raw("acme").await;
    let mut first = raw.batch().await;
    for id in 0..WINDOW_S + 1 {
        first.request(id, "echo", b"").await;
    }
    first.seal(WINDOW_S + 1).await;
    first.until("throttled requests_per_second").await;
    let mut second = raw.batch().await;
    second.request(1, "echo", b"").await;
    second.seal(1).await;
    second.until("throttled requests_per_second").await;
    // Two of four stream windows are kept: a third is not.
    for _ in 0..3 {
        let mut third = raw.batch().await;
        third.request(1, "echo", b"").await;
        third.request(2, "nope", b"").await;
        third.seal(2).await;
        let told = third.failures().await;
        assert_eq!(told.len(), 2, "{told:?}");
        for told in told {
            assert_eq!(told.code(), Some(Code::RateLimited));
            assert!(told.retry_after_ms.is_some() && told.retryable && told.side_effect_free);
        }
    }
    // Another connection has windows of its own.
    let other = rig.raw("acme").await;
    let mut fourth = other.batch().await;
    fourth.request(1, "echo", b"").await;
    fourth.until("throttled").await;
    drop(fourth);
    limit(&rig, "acme", |q| q.requests_per_second = Limit::UNLIMITED).await;
    first.until(&format!("summary Sealed {0}/{0}", WINDOW_S + 1)).await;
    second.until("summary Sealed 1/1").await;
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn beyond_half_of_the_window_a_full_queue_is_a_refusal_and_is_charged_exactly() {
    let (rig, stage) = Rig::staged(|c| {
        endless(c);
        c.batch.waiting_items_max = 1;
        (c.limits.stream_window_bytes, c.limits.connection_window_bytes) = (64 << 10, 64 << 10);
        c.limits.connection_window_max_bytes = 64 << 10;
    })
    .await;
    rig.broker
        .tenants()
        .update("acme", None, |s| s.policy = Policy::Reject)
        .await
        .expect("there is one");
    let raw = rig.raw("acme").await;
    // One runs, one waits, and there is no room for the third: the stream is held.
    let mut first = raw.batch_with(|open| open.concurrency_max = 1).await;
    for id in 0..3 {
        first.request(id, "gate", b"x").await;
    }
    first.seal(3).await;
    stage.running(1).await;
    let used = || {
        let tenant = rig.broker.tenants().get("acme").expect("there is one");
        tenant.used(Quota::RequestsPerSecond, Instant::now())
    };
    tollgate_tests::eventually("three are charged", || used() == 3).await;
    // On the next stream, one runs, one waits, the rest is refused.
    let mut second = raw.batch_with(|open| open.concurrency_max = 1).await;
    for id in 0..12 {
        second.request(id, "gate", b"y").await;
    }
    for id in 2..12 {
        second.until(&format!("result {id} OVERLOADED")).await;
    }
    for id in 12..17 {
        second.request(id, "echo", b"y").await;
        second.until(&format!("result {id} OK")).await;
    }
    assert_eq!(used(), 3 + 17, "each once, whatever became of it");
    stage.open(5);
    second.seal(17).await;
    second.until("summary Sealed 7/17").await;
    first.until("summary Sealed 3/3").await;
    rig.idle().await;
}
