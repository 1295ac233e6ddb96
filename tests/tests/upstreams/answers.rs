//! What is asked, and what the answers come to.

use std::{collections::BTreeMap, time::Duration};

use tollgate_broker::upstream::{Encoding, HeaderText, Method};
use tollgate_client::Request;
use tollgate_tests::{
    Rig,
    upstream::{Asked, Service, adds, whole},
};

use super::{call, failure, once, says};

/// Answers with the status and the headers that the payload names: `503 retry-after=7 x=y`.
fn as_told(asked: &Asked) -> Vec<tollgate_tests::upstream::Step> {
    let text = String::from_utf8(asked.body.clone()).expect("text");
    let mut words = text.split(' ');
    let status = words.next().and_then(|w| w.parse().ok()).expect("a status");
    let headers: Vec<_> = words.filter_map(|w| w.split_once('=')).collect();
    whole(status, &headers, "the body")
}

#[tokio::test]
async fn a_request_says_whose_item_it_is_and_its_answer_is_the_result() {
    let service = Service::start(|_| {
        whole(201, &[("content-type", "text/plain"), ("set-cookie", "a=b")], "done\n")
    })
    .await;
    let mut upstream = service.upstream("call", |r| {
        r.path = "/render/{tenant}/{metadata.doc}?n={item}".into();
        r.headers = [("x-recipe".into(), HeaderText::Text("its own".into()))].into();
    });
    upstream.url.push_str("/v2/");
    upstream.headers = ["x-recipe", "x-upstream"]
        .map(|name| (name.to_owned(), HeaderText::Text("the upstream's".into())))
        .into();
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::new("call", "{\"rows\": []}").metadata("doc", "a b").metadata("X", "1");
    let batch = client.batch().traceparent(traceparent);
    let id = tollgate_protocol::id::BatchId::random();
    let batch = batch.id(id);
    let result = batch.execute([request.id(7)]).await.expect("a batch");
    let result = result.get(7).expect("a result");
    assert_eq!(result.payload().map(|p| &p[..]), Some(&b"done\n"[..]), "{result:?}");
    assert_eq!(result.metadata.get("http_status"), Some("201"));
    assert_eq!(result.metadata.get("content_type"), Some("text/plain"));

    let asked = service.asked();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.target, "/v2/render/acme/a%20b?n=7");
    assert_eq!(asked.body, b"{\"rows\": []}");
    let headers: BTreeMap<_, _> = asked.headers.iter().cloned().collect();
    assert_eq!(headers.len(), asked.headers.len(), "none twice: {:?}", asked.headers);
    let deadline: u64 = headers["tollgate-deadline-ms"].parse().expect("a number");
    assert!((1..=5_000).contains(&deadline), "{deadline}");
    let others = headers.iter().filter(|(name, _)| *name != "tollgate-deadline-ms");
    let others: Vec<_> = others.map(|(name, value)| format!("{name}: {value}")).collect();
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        "accept: application/json, application/x-ndjson".to_owned(),
        "content-length: 12".into(),
        "content-type: application/json".into(),
        format!("host: {}", service.addr),
        "tollgate-attempt: 1".into(),
        format!("tollgate-batch: {id}"),
        "tollgate-item: 7".into(),
        "tollgate-metadata-doc: a b".into(),
        "tollgate-metadata-x: 1".into(),
        "tollgate-recipe: call".into(),
        "tollgate-tenant: acme".into(),
        format!("traceparent: {traceparent}"),
        format!("user-agent: tollgate/{version}"),
        "x-recipe: its own".into(),
        "x-upstream: the upstream's".into(),
    ];
    assert_eq!(others, expected);
    rig.idle().await;
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let service = Service::start(|_| whole(200, &[], "")).await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let client = rig.client("acme").await;
    for _ in 0..5 {
        assert!(call(&client, "x").await.is_success());
    }
    let seen = service.seen();
    assert_eq!((seen.asked.len(), seen.connections), (5, 1));
    assert!(seen.asked.iter().all(|a| a.header("cookie").is_none()));
}

#[tokio::test]
async fn a_get_has_no_body_and_takes_none() {
    let service = Service::start(|_| whole(204, &[], "")).await;
    let get = service.upstream("call", |r| r.method = Method::Get);
    let rig = Rig::with(adds(get)).await;
    let client = rig.client("acme").await;
    let result = call(&client, "").await;
    assert_eq!(result.payload().map(|p| p.len()), Some(0), "{result:?}");
    let asked = service.asked();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/"));
    assert_eq!(asked.header("content-type"), None);
    assert_eq!(says(&call(&client, "x").await), ("PAYLOAD_TOO_LARGE", false, true));
    assert_eq!(service.seen().asked.len(), 1);
}

#[tokio::test]
async fn bytes_are_sent_as_bytes() {
    let service = Service::start(|a| whole(200, &[], &a.body)).await;
    let bytes = service.upstream("call", |r| {
        (r.encoding, r.method) = (Encoding::Bytes, Method::Put);
    });
    let rig = Rig::with(adds(bytes)).await;
    let result = call(&rig.client("acme").await, vec![0, 255, 10]).await;
    assert_eq!(result.payload().map(|p| &p[..]), Some(&[0, 255, 10][..]));
    let asked = service.asked();
    assert_eq!(asked.header("content-type").as_deref(), Some("application/octet-stream"));
    assert_eq!(asked.header("accept").as_deref(), Some("*/*"));
}

#[tokio::test]
async fn every_status_has_its_code_and_says_whether_to_try_again() {
    let service = Service::start(as_told).await;
    let mut upstream = service.upstream("call", |_| {});
    // Here only what statuses mean is looked at.
    (upstream.breaker.failures, upstream.breaker.ratio_percent) = (0, 0);
    let mut idempotent = upstream.recipes["call"].clone();
    idempotent.idempotent = true;
    upstream.recipes.insert("call.idempotent".into(), idempotent);
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    for status in [200, 201, 202, 206] {
        assert!(call(&client, status.to_string()).await.is_success(), "{status}");
    }
    let cases = [
        (300, "UPSTREAM_FAILED", false),
        (304, "UPSTREAM_FAILED", false),
        (400, "VALIDATION_ERROR", false),
        (401, "UNAUTHORIZED", false),
        (403, "FORBIDDEN", false),
        (404, "NOT_FOUND", false),
        (405, "RECIPE_EXECUTION", false),
        (408, "UPSTREAM_FAILED", true),
        (409, "RECIPE_EXECUTION", false),
        (418, "RECIPE_EXECUTION", false),
        (422, "VALIDATION_ERROR", false),
        (425, "UPSTREAM_FAILED", true),
        (429, "RATE_LIMITED", true),
        (500, "UPSTREAM_FAILED", true),
        (502, "UPSTREAM_FAILED", true),
        (503, "UPSTREAM_FAILED", true),
        (504, "UPSTREAM_FAILED", true),
        (599, "UPSTREAM_FAILED", true),
    ];
    for (status, code, may_again) in cases {
        let result = call(&client, status.to_string()).await;
        assert_eq!(says(&result), (code, false, false), "{status}");
        assert_eq!(failure(&result).details.get("http_status"), Some(&*status.to_string()));
        assert_eq!(failure(&result).details.get("upstream"), Some("service"));
        let request = Request::new("call.idempotent", status.to_string());
        assert_eq!(says(&once(&client, request).await), (code, may_again, false), "{status}");
    }
    let waits = call(&client, "429 retry-after=7").await;
    assert_eq!(failure(&waits).retry_after, Some(Duration::from_secs(7)));
    let waits = call(&client, "503 retry-after=0").await;
    assert_eq!(failure(&waits).retry_after, Some(Duration::ZERO));
    rig.idle().await;
}

#[tokio::test]
async fn the_client_tries_again_what_may_be_tried_again() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let service =
        Service::start(move |_| match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => whole(500, &[], ""),
            _ => whole(200, &[], "at last"),
        })
        .await;
    let upstream = service.upstream("call", |r| r.idempotent = true);
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    let result = client.execute([Request::new("call", "x")]).await.expect("a batch");
    assert_eq!(result.get(0).and_then(|r| r.payload()).map(|p| &p[..]), Some(&b"at last"[..]));
    assert_eq!(service.seen().asked.len(), 3, "the broker itself tried once each");
}

#[tokio::test]
async fn a_failure_carries_the_words_of_the_upstream() {
    let service = Service::start(|a| match &a.body[..] {
        b"problem" => whole(
            422,
            &[("content-type", "application/problem+json")],
            r#"{"title": "Bad rows", "detail": "row 3\u001b[2J", "app_code": "R3",
                "details": {"row": 3}}"#,
        ),
        _ => whole(500, &[("content-type", "text/plain")], "stack\ntrace"),
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let client = rig.client("acme").await;
    let result = call(&client, "problem").await;
    let f = failure(&result);
    assert_eq!((f.code_name(), &*f.message), ("VALIDATION_ERROR", "Bad rows: row 3 [2J"));
    assert_eq!(f.app_code.as_deref(), Some("R3"));
    assert_eq!(f.details.get("row"), Some("3"));
    let result = call(&client, "other").await;
    assert_eq!(&*failure(&result).message, "the upstream answered 500");
    assert_eq!(failure(&result).details.get("body"), Some("stack trace"));
}

#[tokio::test]
async fn a_payload_that_the_schema_refuses_never_leaves() {
    let service = Service::start(|_| whole(200, &[], "")).await;
    let upstream = service.upstream("call", |r| {
        r.schema = Some(serde_json::json!({"type": "object", "required": ["rows"]}));
    });
    let rig = Rig::with(adds(upstream)).await;
    let client = rig.client("acme").await;
    assert_eq!(says(&call(&client, "{}").await), ("VALIDATION_ERROR", false, true));
    assert!(call(&client, "{\"rows\": 1}").await.is_success());
    assert_eq!(service.seen().asked.len(), 1);
}
