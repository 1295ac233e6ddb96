//! What an upstream may make the broker hold, and how much it is asked at once.

use std::{pin::pin, time::Duration};

use futures::future::join_all;
use tollgate_broker::upstream::{Encoding, Recipe};
use tollgate_client::{Request, RetryPolicy};
use tollgate_tests::{
    Rig, eventually, resident_bytes,
    upstream::{Service, Step, adds, chunk, chunked, ndjson, whole},
};

use super::{call, failure, says};

const TOO_LARGE: (&str, bool, bool) = ("RESULT_TOO_LARGE", false, false);

fn of_1000(r: &mut Recipe) {
    r.result_bytes_max = 1_000;
}

#[tokio::test]
async fn an_answer_at_its_bound_passes_and_one_byte_more_does_not() {
    let service = Service::start(|a| {
        let body = vec![b'x'; if a.body.starts_with(b"fits") { 1_000 } else { 1_001 }];
        if a.body.ends_with(b"announced") {
            return whole(200, &[], body);
        }
        vec![chunked(200, &[]), chunk(&body[..700]), chunk(&body[700..]), chunk("")]
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", of_1000))).await;
    let client = rig.client("acme").await;
    for fits in ["fits announced", "fits"] {
        assert_eq!(call(&client, fits).await.payload().map(|p| p.len()), Some(1_000), "{fits}");
    }
    let announced = call(&client, "announced").await;
    assert_eq!(says(&announced), TOO_LARGE);
    assert_eq!(failure(&announced).details.get("length"), Some("1001"));
    assert_eq!(failure(&announced).details.get("limit"), Some("1000"));
    assert_eq!(says(&call(&client, "chunked").await), TOO_LARGE);
    rig.idle().await;
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_the_bound_and_kept_nowhere() {
    let piece = || [b"10000\r\n", &[b'x'; 65_536][..], b"\r\n"].concat();
    let service = Service::start(move |a| match &a.body[..] {
        b"body" => vec![chunked(200, &[]), Step::Flood(piece())],
        b"failure" => vec![chunked(500, &[]), Step::Flood(piece())],
        b"announced" => whole(200, &[("content-length", "99999999999999")], ""),
        _ => vec![Step::Flood(b"X-Filler: 0123456789abcdef0123456789abcdef\r\n".to_vec())],
    })
    .await;
    let mut upstream = service.upstream("call", of_1000);
    upstream.breaker.failures = 0;
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    assert_eq!(says(&call(&client, "body").await), TOO_LARGE);
    let before = resident_bytes();
    for _ in 0..20 {
        assert_eq!(says(&call(&client, "body").await), TOO_LARGE);
        assert_eq!(says(&call(&client, "failure").await), ("UPSTREAM_FAILED", false, false));
        assert_eq!(says(&call(&client, "head").await), ("UPSTREAM_FAILED", false, false));
    }
    service.until("all were hung up on", |s| s.running == 0).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    rig.idle().await;
}

#[tokio::test]
async fn large_answers_wait_for_room_among_their_tenants_bytes_in_flight() {
    const SIZE: usize = 300_000;
    const ROOM: usize = 1 << 20;
    let service = Service::start(|a| {
        let body = "x".repeat(SIZE);
        let parts = body.as_bytes().chunks(50_000).map(chunk);
        match &a.body[..] {
            b"announced" => whole(200, &[], body),
            b"chunked" => [chunked(200, &[])].into_iter().chain(parts).chain([chunk("")]).collect(),
            _ => vec![ndjson(), chunk(format!("{{\"result\": \"{body}\"}}")), chunk("")],
        }
    })
    .await;
    let upstream = service.upstream("call", |r| {
        (r.encoding, r.result_bytes_max) = (Encoding::Bytes, 2 * SIZE);
    });
    let rig = Rig::with(|c| {
        c.tenancy.tenant_in_flight_bytes = ROOM as u32;
        adds(upstream)(c);
    })
    .await;
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    let client = rig.client("acme").await;
    for how in ["announced", "chunked", "line"] {
        let items = (0..60).map(|_| Request::new("call", how));
        let batch = client.batch().retry(RetryPolicy::none()).execute(items);
        let (mut batch, mut most) = (pin!(batch), 0);
        let result = loop {
            tokio::select! {
                result = &mut batch => break result.expect("a batch"),
                () = tokio::time::sleep(Duration::from_micros(200)) => {
                    most = most.max(tenant.bytes_in_flight());
                }
            }
        };
        let result = result.into_result().expect("all well");
        assert!(result.iter().all(|i| i.payload().is_some_and(|p| p.len() >= SIZE)), "{how}");
        // One may go beyond, as those that hold some would wait for each other.
        assert!((SIZE..=ROOM + 2 * SIZE).contains(&most), "{how}: {most}");
    }
    eventually("all of it is given back", || tenant.bytes_in_flight() == 0).await;
    rig.idle().await;
}

#[tokio::test]
async fn the_head_of_an_answer_is_bounded() {
    let head = |count: usize, len: usize| {
        let line = |n| format!("x-{n}: {}\r\n", "v".repeat(len));
        let lines: String = (0..count).map(line).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n").into_bytes()
    };
    let service = Service::start(move |a| match &a.body[..] {
        b"99" => vec![Step::Send(head(99, 10))],
        b"100" => vec![Step::Send(head(100, 10)), Step::Hang],
        _ => vec![Step::Send(head(50, 10_000)), Step::Hang],
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let client = rig.client("acme").await;
    assert!(call(&client, "99").await.is_success(), "with its length these are 100");
    for too_much in ["100", "500 KB"] {
        let result = call(&client, too_much).await;
        assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false), "{too_much}");
    }
    service.until("both were hung up on", |s| s.hung_up == 2).await;
    rig.idle().await;
}

#[tokio::test]
async fn what_is_no_http_is_a_failure() {
    let service = Service::start(|a| {
        let answer: &[u8] = match &a.body[..] {
            b"garbage" => b"\x16\x03\x01\x00\xffgarbage\r\n\r\n",
            b"status" => b"HTTP/1.1 abc OK\r\n\r\n",
            b"two lengths" => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            b"09" => b"hello\r\n",
            b"informed" => b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        };
        vec![Step::Send(answer.to_vec()), Step::Close]
    })
    .await;
    let mut upstream = service.upstream("call", |_| {});
    upstream.breaker.failures = 0;
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    for what in ["garbage", "status", "two lengths", "09", "chunk"] {
        let result = call(&client, what).await;
        assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false), "{what}");
    }
    let informed = call(&client, "informed").await;
    assert_eq!(informed.payload().map(|p| &p[..]), Some(&b"ok"[..]), "{informed:?}");
    rig.idle().await;
}

#[tokio::test]
async fn requests_at_once_are_never_more_than_the_upstream_takes_over_all_recipes_and_tenants() {
    let service =
        Service::start(|_| [vec![Step::Gate], whole(200, &[], "")].into_iter().flatten().collect())
            .await;
    let mut upstream = service.upstream("call", |_| {});
    upstream.concurrency_max = 3;
    upstream.recipes.insert("call.too".into(), Recipe::default());
    let rig = Rig::with(adds(upstream)).await;
    let tenants = [rig.client("acme").await, rig.client("globex").await];
    let batches = tenants.iter().map(|client| {
        let recipes = ["call", "call.too"].into_iter().cycle();
        client.execute(recipes.take(20).map(|r| Request::new(r, "x")).collect::<Vec<_>>())
    });
    let run = async { join_all(batches).await };
    let watch = async {
        for done in 0..40 {
            let full = 3.min(40 - done);
            service.until("as many run as may", |s| s.running == full).await;
            eventually("the others wait", || {
                let c = rig.broker.counters();
                c.items_running as usize == full && c.items_waiting == 40 - done - full
            })
            .await;
            service.open(1);
            service.until("one is done", |s| s.asked.len() >= (done + 4).min(40)).await;
        }
    };
    let (results, ()) = tokio::join!(run, watch);
    for result in results {
        assert_eq!(result.expect("a batch").successes().count(), 20);
    }
    assert_eq!(service.seen().most, 3);
    rig.idle().await;
}

#[tokio::test]
async fn who_waits_too_long_for_the_upstream_is_told_that_nothing_happened() {
    let service = Service::start(|_| vec![Step::Gate, Step::Close]).await;
    let mut upstream = service.upstream("call", |r| r.queue_timeout_ms = 50);
    upstream.concurrency_max = 1;
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    let held = call(&client, "held");
    let waits = async {
        service.until("the first is asked", |s| s.running == 1).await;
        let result = call(&client, "waits").await;
        service.open(1);
        result
    };
    let (_, waited) = tokio::join!(held, waits);
    assert_eq!(says(&waited), ("TIMEOUT", true, true));
    assert_eq!(failure(&waited).details.get("phase"), Some("queued"));
    assert_eq!(service.seen().asked.len(), 1);
    rig.idle().await;
}
