//! Time that runs out, clients that go away, and upstreams that do.

use std::time::Duration;

use tollgate_client::Request;
use tollgate_protocol::{ClientFrame, batch::CancelScope};
use tollgate_tests::{
    Rig,
    upstream::{Service, Step, adds, chunk, chunked, ndjson, upstream, whole},
};

use super::{call, failure, once, says};

#[tokio::test]
async fn an_upstream_that_drips_ends_by_the_time_out_and_is_hung_up_on() {
    let service = Service::start(|a| match &a.body[..] {
        b"silence" => vec![Step::Hang],
        b"head" => vec![Step::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec())],
        b"body" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n".to_vec()),
            Step::Drip(b"x".to_vec()),
        ],
        b"lines" => vec![ndjson(), Step::Drip(b"1\r\n\n\r\n".to_vec())],
        _ => vec![chunked(500, &[]), Step::Drip(b"1\r\nx\r\n".to_vec())],
    })
    .await;
    let mut of = service.upstream("call", |r| r.timeout_ms = Some(200));
    of.breaker.failures = 0;
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    let kinds = ["silence", "head", "body", "lines", "failure"];
    for (n, kind) in (1..).zip(kinds) {
        let result = call(&client, kind).await;
        assert_eq!(says(&result), ("TIMEOUT", false, false), "{kind}");
        assert_eq!(failure(&result).details.get("phase"), Some("running"));
        service.until(kind, |s| s.hung_up == n && s.running == 0).await;
    }
    rig.idle().await;
}

#[tokio::test]
async fn the_time_that_is_left_is_the_least_of_all_bounds() {
    let service = Service::start(|_| whole(200, &[], "")).await;
    let rig = Rig::with(adds(service.upstream("call", |r| r.timeout_ms = Some(60_000)))).await;
    let client = rig.client("acme").await;
    assert!(call(&client, "x").await.is_success());
    let shorter = Request::new("call", "x").timeout(Duration::from_secs(20));
    assert!(once(&client, shorter).await.is_success());
    let batch = client.batch().deadline(Duration::from_secs(10));
    assert_eq!(batch.execute([Request::new("call", "x")]).await.expect("a batch").len(), 1);
    let left: Vec<u64> = service
        .seen()
        .asked
        .iter()
        .map(|a| a.header("tollgate-deadline-ms").expect("there").parse().expect("a number"))
        .collect();
    for (left, most) in left.iter().zip([60_000, 20_000, 10_000]) {
        assert!(*left <= most && *left > most / 2, "{left} of {most}");
    }
}

#[tokio::test]
async fn an_upstream_sees_that_its_item_was_cancelled() {
    let service = Service::start(|_| vec![Step::Hang]).await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "call", b"x").await;
    service.until("it is asked", |s| s.running == 1).await;
    batch.frame(&ClientFrame::Cancel(CancelScope::All)).await;
    batch.until("result 1 CANCELLED").await;
    service.until("it sees that nobody waits", |s| s.hung_up == 1 && s.running == 0).await;

    // A client that is gone is as good as a cancel.
    let mut lost = raw.batch().await;
    lost.request(1, "call", b"x").await;
    service.until("it is asked", |s| s.running == 1).await;
    raw.conn.close(0_u32.into(), b"");
    service.until("it sees that nobody waits", |s| s.hung_up == 2 && s.running == 0).await;
    rig.idle().await;
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_a_failure_of_its_item() {
    let service = Service::start(|a| match &a.body[..] {
        b"at once" => vec![Step::Close],
        b"in the head" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nx: ".to_vec()), Step::Close],
        b"in the body" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
            Step::Close,
        ],
        b"in a failure" => vec![
            Step::Send(b"HTTP/1.1 404 No\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
            Step::Close,
        ],
        _ => vec![chunked(200, &[]), chunk("half"), Step::Close],
    })
    .await;
    let mut of = service.upstream("call", |_| {});
    let mut idempotent = of.recipes["call"].clone();
    idempotent.idempotent = true;
    of.recipes.insert("call.idempotent".into(), idempotent);
    of.breaker.failures = 0;
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    let cases = [
        ("at once", "request"),
        ("in the head", "request"),
        ("in the body", "answer"),
        ("in a chunk", "answer"),
    ];
    for (when, phase) in cases {
        let result = call(&client, when).await;
        assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false), "{when}");
        assert_eq!(failure(&result).details.get("phase"), Some(phase), "{when}");
        let again = once(&client, Request::new("call.idempotent", when)).await;
        assert_eq!(says(&again), ("UPSTREAM_FAILED", true, false), "{when}");
    }
    let said_so = call(&client, "in a failure").await;
    assert_eq!(says(&said_so), ("NOT_FOUND", false, false), "the status was whole");
    rig.idle().await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_had_nothing_done_to_it() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", socket.local_addr().expect("an address"));
    drop(socket);
    let rig = Rig::with(adds(upstream(&url, "call", |_| {}))).await;
    let client = rig.client("acme").await;
    let result = call(&client, "x").await;
    // Nothing was sent: trying again is safe although the recipe is not idempotent.
    assert_eq!(says(&result), ("UPSTREAM_FAILED", true, true));
    let f = failure(&result);
    assert_eq!(&*f.message, "cannot connect to the upstream: it refused");
    assert_eq!(f.details.get("phase"), Some("connect"));
    assert!(!f.message.contains("127.0.0.1"), "addresses are not the client's to know");
    rig.idle().await;
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    // Full: the system answers no more who knocks.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("bound");
    socket.listen(0).expect("listening");
    let addr = socket.local_addr().expect("an address").as_socket().expect("of IP");
    let mut filled = Vec::new();
    let full = |result: &std::io::Result<std::net::TcpStream>| result.is_err();
    loop {
        let knock = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(300));
        if full(&knock) {
            break;
        }
        filled.push(knock);
        assert!(filled.len() < 64, "it is full at some time");
    }
    let mut of = upstream(&format!("http://{addr}"), "call", |_| {});
    of.connect_timeout_ms = 100;
    let rig = Rig::with(adds(of)).await;
    let result = call(&rig.client("acme").await, "x").await;
    assert_eq!(says(&result), ("UPSTREAM_FAILED", true, true));
    assert_eq!(
        &*failure(&result).message,
        "cannot connect to the upstream: it did not answer in time"
    );
}
