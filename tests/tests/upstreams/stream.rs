//! Answers that come line by line.

use tollgate_broker::upstream::Encoding;
use tollgate_protocol::{ClientFrame, batch::CancelScope};
use tollgate_tests::{
    Rig,
    upstream::{Service, Step, adds, chunk, ndjson},
};

use super::{call, failure, says};

#[tokio::test]
async fn progress_is_told_as_it_comes_and_the_result_ends_it() {
    let service = Service::start(|_| {
        vec![
            ndjson(),
            chunk("{\"progress\": {\"done\": 1, \"total\": 3, \"message\": \"first\"}}\n"),
            Step::Gate,
            // Cut where it hurts, and with the newest of two.
            chunk("{\"progress\": {\"done\": 1, \"total\": 3}}\n{\"progress\": {\"do"),
            chunk("ne\": 2, \"total\": 3}}\n\n"),
            Step::Gate,
            chunk("{\"result\": {\"pages\": [1, 2]}}"),
            chunk(""),
        ]
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "call", b"{}").await;
    batch.seal(1).await;
    batch.until("progress 1 1/3").await;
    service.open(1);
    batch.until("progress 1 2/3").await;
    service.open(1);
    let lines = batch.transcript().await;
    let expected = ["progress 1 3/3", "result 1 OK {\"pages\": [1, 2]}", "summary Sealed 1/1"];
    assert_eq!(lines, expected);
    assert_eq!(service.seen().connections, 1);
    rig.idle().await;
}

#[tokio::test]
async fn bytes_come_as_base64_and_an_error_in_the_upstreams_words() {
    let service = Service::start(|a| {
        let line = match &a.body[..] {
            b"bytes" => "{\"result_base64\": \"AP8K\"}\n",
            _ => "{\"error\": {\"code\": \"NOT_FOUND\", \"message\": \"no such page\", \"app_code\": \"P1\", \"details\": {\"page\": 7}}}\n",
        };
        vec![ndjson(), chunk(line), chunk("")]
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |r| r.encoding = Encoding::Bytes))).await;
    let client = rig.client("acme").await;
    let bytes = call(&client, "bytes").await;
    assert_eq!(bytes.payload().map(|p| &p[..]), Some(&[0, 255, 10][..]), "{bytes:?}");
    let error = call(&client, "error").await;
    let f = failure(&error);
    assert_eq!((f.code_name(), &*f.message), ("NOT_FOUND", "no such page"));
    assert_eq!((f.app_code.as_deref(), f.details.get("page")), (Some("P1"), Some("7")));
    rig.idle().await;
}

#[tokio::test]
async fn a_stream_that_is_no_answer_is_a_failure_never_a_success() {
    let service = Service::start(|a| {
        let body = String::from_utf8(a.body.clone()).expect("text");
        vec![ndjson(), chunk(body), chunk("")]
    })
    .await;
    let mut of =
        service.upstream("call", |r| (r.encoding, r.result_bytes_max) = (Encoding::Bytes, 100));
    // An upstream that answers is not down, whatever it says.
    of.breaker.failures = 2;
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    let failed = ("UPSTREAM_FAILED", false, false);
    for (stream, part) in [
        ("\n", "ended without a result"),
        ("{\"progress\": {\"done\": 1}}\n", "ended without a result"),
        ("{\"result\": 1", "line 1 is not"),
        ("\nnot json\n", "line 2 is not"),
        ("{\"result\": 1}\n{\"result\": 2}\n", "line 2 comes after"),
        ("{\"result\": 1, \"error\": {}}\n", "line 1 is not"),
    ] {
        let result = call(&client, stream).await;
        assert_eq!(says(&result), failed, "{stream}");
        assert!(failure(&result).message.contains(part), "{}", failure(&result).message);
    }
    for too_long in ["x".repeat(70_000), format!("{{\"result\": \"{}\"}}", "x".repeat(99))] {
        assert_eq!(says(&call(&client, too_long).await), ("RESULT_TOO_LARGE", false, false));
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure_even_after_its_result() {
    let service = Service::start(|_| vec![ndjson(), chunk("{\"result\": 1}\n"), Step::Close]).await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let result = call(&rig.client("acme").await, "{}").await;
    assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false));
    assert_eq!(failure(&result).details.get("phase"), Some("answer"));
}

#[tokio::test]
async fn a_flood_of_progress_does_not_keep_others_waiting() {
    let line = "{\"progress\": {\"done\": 1, \"total\": 9}}\n";
    let body = line.repeat(2_000);
    let piece = format!("{:x}\r\n{body}\r\n", body.len()).into_bytes();
    let service = Service::start(move |_| vec![ndjson(), Step::Flood(piece.clone())]).await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "call", b"{}").await;
    batch.until("progress 1 1/9").await;
    let other = rig.client("globex").await;
    for _ in 0..20 {
        let request = tollgate_client::Request::new("echo", "hello");
        assert!(super::once(&other, request).await.is_success());
    }
    batch.frame(&ClientFrame::Cancel(CancelScope::All)).await;
    batch.until("result 1 CANCELLED").await;
    service.until("it is hung up on", |s| s.hung_up == 1).await;
    rig.idle().await;
}
