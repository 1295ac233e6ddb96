//! Rates: exactly so much in a window, refused or paced by the tenant's policy.

use std::time::Instant;

use tollgate_broker::tenancy::{Limit, Policy, Quota};
use tollgate_client::{Request, RetryPolicy};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code,
    batch::{self as wire, Mode, Order, Scope},
    encode,
};
use tollgate_tests::{Rig, eventually, raw::Told};

use super::{WINDOW_S, at_most, endless, limit};

async fn rejecting() -> Rig {
    let (rig, _stage) = Rig::staged(endless).await;
    rig.broker
        .tenants()
        .update("acme", None, |s| s.policy = Policy::Reject)
        .await
        .expect("there is one");
    rig
}

fn used(rig: &Rig, quota: Quota) -> u64 {
    rig.broker.tenants().get("acme").expect("there is one").used(quota, Instant::now())
}

/// Sends payloads of such lengths on several streams of several connections; every refusal.
async fn offer(rig: &Rig, lens: &[usize]) -> Vec<Told> {
    let mut told = Vec::new();
    for (n, lens) in lens.chunks(100).enumerate() {
        let raw = rig.raw("acme").await;
        let mut batch = raw.batch().await;
        for (id, len) in (0..).zip(lens) {
            let recipe = ["echo", "quick", "nope"][n % 3];
            batch.request(id, recipe, &vec![b'x'; *len]).await;
        }
        batch.seal(lens.len() as u64).await;
        told.extend(batch.failures().await);
    }
    told.retain(|t| t.code() != Some(Code::RecipeNotFound));
    told
}

#[tokio::test]
async fn requests_up_to_the_limit_and_not_one_more() {
    let rig = rejecting().await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let over = offer(&rig, &[0; WINDOW_S as usize + 3]).await;
    assert_eq!(over.len(), 3, "what fails for another reason counts as well");
    for told in &over {
        assert_eq!(told.code(), Some(Code::RateLimited));
        let quota = ("requests_per_second".to_owned(), Scope::Tenant, WINDOW_S, WINDOW_S);
        assert_eq!(told.quota, Some(quota));
        assert!(told.retryable && told.side_effect_free && told.attempts == 0, "{told:?}");
        let retry_after = told.retry_after_ms.expect("it is known");
        assert!((1..=WINDOW_S * 1_000).contains(&retry_after), "{told:?}");
    }
    assert_eq!(used(&rig, Quota::RequestsPerSecond), WINDOW_S);
    assert!(rig.raw("globex").await.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn bytes_up_to_the_limit_and_not_one_more() {
    let rig = rejecting().await;
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(1)).await;
    // 710 are used; of the rest, what fits is taken: an item is taken whole or not at all.
    let over = offer(&rig, &[300, 410, 11, 10, 1, 0]).await;
    let told: Vec<_> = over.iter().map(|t| (t.id, t.code())).collect();
    assert_eq!(told, [(Some(2), Some(Code::RateLimited)), (Some(4), Some(Code::RateLimited))]);
    let quota = |current| ("bytes_per_second".to_owned(), Scope::Tenant, current, WINDOW_S);
    assert_eq!(over[0].quota, Some(quota(710)));
    assert_eq!(over[1].quota, Some(quota(WINDOW_S)));
    assert!(over.iter().all(|t| t.retry_after_ms.is_some()));
    assert_eq!(used(&rig, Quota::BytesPerSecond), WINDOW_S);
    assert_eq!(used(&rig, Quota::RequestsPerSecond), 4, "what is refused costs nothing");
    rig.idle().await;
}

/// Several in a row that weigh as much, and lighter ones between them: what is told of each.
async fn check_alike(order: Order) {
    let rig = rejecting().await;
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(1)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.order = order).await;
    let mut all = Vec::new();
    for (id, len) in (0..).zip([700, 30, 30, 30, 15, 30, 30, 6, 5, 30]) {
        let payload = vec![b'x'; len];
        encode(&ClientFrame::Request(wire::Request::new(id, "echo", &payload)), &mut all);
    }
    batch.bytes(&all).await;
    batch.seal(10).await;
    let told = batch.failures().await;
    let held: Vec<_> = told.iter().map(|t| (t.id, t.quota.as_ref().map(|q| q.2))).collect();
    let expected = [(1, 700), (2, 700), (3, 700), (5, 715), (6, 715), (7, 715), (9, 720)];
    assert_eq!(held, expected.map(|(id, held)| (Some(id), Some(held))));
    for told in &told {
        assert_eq!(told.code(), Some(Code::RateLimited));
        assert!(told.retry_after_ms.is_some() && told.side_effect_free, "{told:?}");
    }
    rig.idle().await;
}

#[tokio::test]
async fn of_a_handful_each_is_told_what_holds_for_it() {
    check_alike(Order::Completion).await;
    check_alike(Order::Submission).await;
}

#[tokio::test]
async fn a_batch_that_ends_at_its_first_failure_ends_at_the_first_refusal() {
    let rig = rejecting().await;
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(1)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.mode = Mode::FailFast).await;
    let mut all = Vec::new();
    for id in 0..20 {
        let payload = [b'x'; 100];
        encode(&ClientFrame::Request(wire::Request::new(id, "echo", &payload)), &mut all);
    }
    batch.bytes(&all).await;
    let refused = batch.until("summary").await;
    assert_eq!(refused[8..], ["result 7 RATE_LIMITED", "summary FailFast 7/8"]);
    rig.idle().await;
}

/// What alone exceeds the limit, whatever the policy.
async fn check_never(policy: Policy, per_second: u64, len: usize, expected: (&str, u64, u64)) {
    let (rig, _stage) = Rig::staged(endless).await;
    rig.broker.tenants().update("acme", None, |s| s.policy = policy).await.expect("there is one");
    limit(&rig, "acme", |q| match expected.0 {
        "requests_per_second" => q.requests_per_second = at_most(per_second),
        _ => q.bytes_per_second = at_most(per_second),
    })
    .await;
    let over = offer(&rig, &[len]).await;
    assert_eq!((over.len(), over[0].code()), (1, Some(Code::QuotaExceeded)), "{policy:?}");
    let (name, current, limit) = expected;
    assert_eq!(over[0].quota, Some((name.to_owned(), Scope::Tenant, current, limit)));
    assert!(!over[0].retryable && over[0].retry_after_ms.is_none(), "{:?}", over[0]);
    assert!(rig.raw("globex").await.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn an_item_that_alone_exceeds_the_limit_is_never_waited_for() {
    for policy in [Policy::Reject, Policy::Pace] {
        check_never(policy, 1, WINDOW_S as usize + 1, ("bytes_per_second", 0, WINDOW_S)).await;
    }
}

#[tokio::test]
async fn nothing_passes_a_limit_of_nothing() {
    for policy in [Policy::Reject, Policy::Pace] {
        check_never(policy, 0, 0, ("requests_per_second", 0, 0)).await;
        check_never(policy, 0, 1, ("bytes_per_second", 0, 0)).await;
    }
}

#[tokio::test]
async fn who_comes_back_after_what_was_asked_for_is_admitted() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    rig.broker
        .tenants()
        .update("acme", None, |s| s.policy = Policy::Reject)
        .await
        .expect("there is one");
    limit(&rig, "acme", |q| q.requests_per_second = at_most(50)).await;
    // Every other item is refused once, and waits as it is told: not one is refused twice.
    let client = rig.builder("acme").retry(RetryPolicy::default().tries_max(2)).connect();
    let client = client.await.expect("a connection");
    let result = client.execute((0..100).map(|_| Request::new("echo", "x"))).await;
    let items = result.expect("a batch").into_result().expect("all succeed");
    assert_eq!(items.len(), 100);
    rig.idle().await;
}

#[tokio::test]
async fn a_paced_tenant_is_told_and_everything_succeeds_and_nobody_else_notices() {
    // No empty frame is due while the test runs: what wakes a stream is its own turn.
    let (rig, _stage) = Rig::staged(|c| c.limits.alive_interval_ms = 3_600_000).await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(100)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 0..250 {
        batch.request(id, "echo", b"x").await;
    }
    batch.seal(250).await;
    let globex = rig.raw("globex").await;
    let (mut throttled, mut results, mut us) = (0, 0, None);
    let mut see = |f: BrokerFrame<'_>| match f {
        BrokerFrame::Throttled(t) => {
            assert_eq!((t.quota, t.scope), ("requests_per_second", Scope::Tenant));
            assert!(t.current <= t.limit && t.limit == 100 && t.resume_ms <= 1_000, "{t:?}");
            throttled += 1;
        }
        BrokerFrame::Result(r) => {
            assert_eq!((r.id, r.code), (results, 0));
            results += 1;
        }
        BrokerFrame::Summary(s) => us = Some((s.succeeded, s.throttled_us)),
        _ => {}
    };
    while batch.next(&mut see).await.is_some() {
        assert!(globex.serves().await);
    }
    let (succeeded, throttled_us) = us.expect("a summary");
    assert!(throttled > 0 && succeeded == 250 && throttled_us > 0);
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    assert_eq!(tenant.waiting(), 0);
    rig.idle().await;
}

#[tokio::test]
async fn paced_streams_all_come_to_their_end() {
    let (rig, _stage) = Rig::staged(|c| c.limits.alive_interval_ms = 3_600_000).await;
    limit(&rig, "acme", |q| {
        (q.requests_per_second, q.bytes_per_second) = (at_most(100), at_most(4_000));
    })
    .await;
    let (one, two) = (rig.client("acme").await, rig.client("acme").await);
    let run = |client: &tollgate_client::Client| {
        let client = client.clone();
        async move {
            let items = (0..60).map(|_| Request::new("echo", vec![b'x'; 50]));
            let result = client.execute(items).await.expect("a batch");
            result.into_result().expect("all succeed").len()
        }
    };
    let all = futures::future::join_all([&one, &two, &one].map(run)).await;
    assert_eq!(all, [60, 60, 60]);
    rig.idle().await;
}

#[tokio::test]
async fn a_lifted_limit_lets_a_paced_stream_go_on_at_once() {
    let (rig, _stage) = Rig::staged(|c| {
        endless(c);
        c.limits.alive_interval_ms = 3_600_000;
    })
    .await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 0..WINDOW_S + 40 {
        batch.request(id, "echo", b"").await;
    }
    batch.seal(WINDOW_S + 40).await;
    batch.until("throttled").await;
    limit(&rig, "acme", |q| q.requests_per_second = Limit::UNLIMITED).await;
    let summary = batch.until("summary").await.pop().expect("a summary");
    assert_eq!(summary, format!("summary Sealed {0}/{0}", WINDOW_S + 40));
    rig.idle().await;
}

#[tokio::test]
async fn a_paced_batch_can_be_given_up() {
    for code in [1, 2] {
        let (rig, _stage) = Rig::staged(endless).await;
        limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
        let raw = rig.raw("acme").await;
        let mut batch = raw.batch().await;
        for id in 0..WINDOW_S + 40 {
            batch.request(id, "echo", b"").await;
        }
        batch.until("throttled").await;
        batch.reset(code);
        let summary = batch.until("summary").await.pop().expect("a summary");
        assert_eq!(summary, format!("summary Cancelled {0}/{0}", WINDOW_S));
        let tenant = rig.broker.tenants().get("acme").expect("there is one");
        eventually("it left the line", || tenant.waiting() == 0).await;
        rig.idle().await;
    }
}

#[tokio::test]
async fn a_paced_batch_ends_at_its_deadline() {
    let (rig, _stage) = Rig::staged(endless).await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(1)).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.deadline_ms = Some(300)).await;
    for id in 0..WINDOW_S + 40 {
        batch.request(id, "echo", b"").await;
    }
    let summary = batch.until("summary").await.pop().expect("a summary");
    assert!(summary.starts_with("summary DeadlineExceeded"), "{summary}");
    rig.idle().await;
}

#[tokio::test]
async fn what_goes_out_is_charged_to_the_last_byte_and_waits_for_its_rate() {
    let (rig, stage) = Rig::staged(endless).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "gate.blow", b"3000").await;
    batch.seal(1).await;
    stage.running(1).await;
    // Now there is no rate at all, and the result has to wait for one.
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(0)).await;
    stage.open(1);
    eventually("the item ended", || rig.broker.counters().items_running == 0).await;
    assert!(rig.raw("globex").await.serves().await);
    assert_eq!(used(&rig, Quota::BytesPerSecond), 4, "what came in");
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(10)).await;
    assert_eq!(batch.until("summary").await.pop().as_deref(), Some("summary Sealed 1/1"));
    assert_eq!(used(&rig, Quota::BytesPerSecond), 3_000, "what went out");
    rig.idle().await;
}

#[tokio::test]
async fn what_an_item_waits_for_a_rate_is_not_its_running_time() {
    let rig = Rig::start().await;
    limit(&rig, "acme", |q| q.requests_per_second = at_most(10)).await;
    let client = rig.client("acme").await;
    let items = (0..14).map(|_| Request::new("echo", "x"));
    let result = client.execute(items).await.expect("a batch");
    let ran: std::time::Duration = result.iter().map(|item| item.duration).sum();
    let waited: std::time::Duration = result.iter().map(|item| item.queued).sum();
    // Several were held back for a tenth of a second or more each.
    assert!(ran < waited, "running {ran:?}, waiting {waited:?}");
    result.into_result().expect("all well");
}
