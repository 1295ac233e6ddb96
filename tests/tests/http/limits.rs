//! The listener's own bounds: connections, heads that do not come, and its end.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tollgate_tests::{Rig, SOON};

use super::Http;

/// Reads until the peer closes; what came before.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut all)).await.expect("it is closed");
    // A reset is an end too.
    let _ = read;
    String::from_utf8_lossy(&all).into_owned()
}

async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.broker.http_addr().expect("HTTP is on")).await.expect("a connection")
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let rig = Rig::with(|config| config.http.header_timeout_ms = 200).await;
    let mut silent = connect(&rig).await;
    let mut slow = connect(&rig).await;
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: local").await.expect("written");
    to_the_end(&mut silent).await;
    to_the_end(&mut slow).await;
    Http::of(&rig).get("/health").await.ok();
}

#[tokio::test]
async fn beyond_the_bound_connections_are_closed() {
    let rig = Rig::with(|config| config.http.connections_max = 2).await;
    // Whoever may ask this is an operator here.
    let ask = b"GET /api/v1/recipes HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&rig).await;
        stream.write_all(ask).await.expect("written");
        let mut some = [0; 12];
        stream.read_exact(&mut some).await.expect("an answer");
        assert_eq!(&some, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut third = connect(&rig).await;
    let _ = third.write_all(ask).await;
    assert_eq!(to_the_end(&mut third).await, "");
    // One that leaves makes room.
    held.pop();
    let back = async {
        while Http::of(&rig).client.get(Http::of(&rig).base + "/health").send().await.is_err() {}
    };
    timeout(SOON, back).await.expect("there is room again");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_waited_for() {
    let rig = Rig::with(|config| config.http.request_timeout_ms = 200).await;
    let mut stream = connect(&rig).await;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        .await
        .expect("written");
    assert!(to_the_end(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_out_of_bounds_and_garbage_end_the_connection() {
    let rig = Rig::start().await;
    let huge = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000));
    for bytes in
        [huge.as_bytes(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n"]
    {
        let mut stream = connect(&rig).await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let said = to_the_end(&mut stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    Http::of(&rig).get("/health").await.ok();
}

#[tokio::test]
async fn a_broker_that_drains_says_so_and_ends_its_listener() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let client = rig.client("acme").await;
    let running = tokio::spawn(async move {
        let item = tollgate_client::Request::new("gate", b"x".to_vec());
        client.execute([item]).await
    });
    stage.running(1).await;
    let http = Http::of(&rig);
    http.get("/ready").await.ok();
    let addr = rig.broker.http_addr().expect("HTTP is on");
    let shutdown = tokio::spawn(rig.broker.shutdown(Duration::from_secs(60)));
    let drains = async { while http.get("/ready").await.status == 200 {} };
    timeout(SOON, drains).await.expect("it says that it drains");
    let answer = http.get("/ready").await;
    answer.problem(503, "DRAINING");
    assert_eq!(answer.header("retry-after"), "1");
    http.get("/health").await.ok();
    stage.open(1);
    let ran = running.await.expect("ran").expect("the batch ended well");
    ran.into_result().expect("its item succeeded");
    shutdown.await.expect("it ended");
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let rig = Rig::start().await;
    let taken = rig.broker.http_addr().expect("HTTP is on");
    let dir = tempfile::tempdir().expect("a directory");
    let config = tollgate_broker::Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: Some(dir.path().into()),
        http: tollgate_broker::config::Http {
            enabled: true,
            listen: taken,
            ..tollgate_broker::config::Http::default()
        },
        ..tollgate_broker::Config::default()
    };
    let catalog = tollgate_broker::recipes::builtin().build().expect("a catalog");
    let error = tollgate_broker::Broker::start(config, catalog).await.expect_err("it is taken");
    let text = error.to_string();
    assert!(text.contains(&taken.to_string()) && text.contains("http.listen"), "{text}");
}
