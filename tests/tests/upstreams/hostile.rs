//! Clients and upstreams that want more than they are given.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tollgate_client::Request;
use tollgate_tests::{
    Rig,
    upstream::{Service, adds, whole},
};

use super::{call, failure, once, says};

#[tokio::test]
async fn nothing_an_item_says_changes_where_its_request_goes() {
    let elsewhere = Service::start(|_| whole(200, &[], "stolen")).await;
    let service = Service::start(|_| whole(200, &[], "ok")).await;
    let of = service.upstream("call", |r| r.path = "/a/{metadata.x}/z?q={metadata.q}".into());
    let rig = Rig::with(adds(of)).await;
    let client = rig.client("acme").await;
    let ask = |x: String| {
        let request = Request::new("call", "{}").metadata("x", &x).metadata("q", &x);
        once(&client, request)
    };
    let host = elsewhere.addr;
    let sent = [
        format!("@{host}"),
        format!("x:y@{host}:80"),
        "a?b=c#d".into(),
        "%2e%2e%2fadmin".into(),
        "a%0d%0aHost: b".into(),
        "a;b=c".into(),
        " ".into(),
        "ünï".into(),
        "...".into(),
    ];
    for x in &sent {
        assert!(ask(x.clone()).await.is_success(), "{x:?}");
    }
    let refused = [
        format!("//{host}/"),
        format!("\\\\{host}"),
        "..".into(),
        ".".into(),
        "../admin".into(),
        "a\r\nHost: b".into(),
        "\0".into(),
        String::new(),
        "é".repeat(1_900),
    ];
    for x in &refused {
        let result = ask(x.clone()).await;
        assert_eq!(says(&result), ("VALIDATION_ERROR", false, true), "{x:?}");
        let field = failure(&result).details.get("field").expect("a field");
        assert!(field.starts_with("metadata"), "{field}");
    }
    let result = once(&client, Request::new("call", "{}").metadata("q", "1")).await;
    assert_eq!(says(&result), ("VALIDATION_ERROR", false, true), "x is missing");

    let asked = service.seen().asked;
    assert_eq!(asked.len(), sent.len());
    for one in asked {
        let (path, query) = one.target.split_once('?').expect("one query");
        let segments: Vec<_> = path.split('/').collect();
        assert_eq!((segments.len(), segments[1], segments[3]), (4, "a", "z"), "{}", one.target);
        assert!(query.starts_with("q=") && !query.contains(['&', '#', '?']), "{}", one.target);
        assert_eq!(one.header("host"), Some(service.addr.to_string()));
    }
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn metadata_and_payloads_add_no_header_but_their_own() {
    let service = Service::start(|_| whole(200, &[], "ok")).await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let client = rig.client("acme").await;
    assert!(call(&client, "{}").await.is_success());
    let plain: BTreeMap<_, _> = service.seen().asked[0].headers.iter().cloned().collect();
    let evil = "1\r\nTollgate-Tenant: globex\r\n\r\nGET /admin HTTP/1.1\r\n";
    let request =
        Request::new("call", "\r\n\r\nGET /admin HTTP/1.1\r\nTollgate-Tenant: globex\r\n\r\n")
            .metadata("v", evil)
            .metadata("k\r\nTollgate-Tenant: globex\r\nx", "1")
            .metadata("Tollgate-Tenant", "globex")
            .metadata("tollgate-tenant: globex", "1")
            .metadata("Host", "evil.example")
            .metadata("Content-Length", "0")
            .metadata("Transfer-Encoding", "chunked")
            .metadata("authorization", "Bearer x");
    assert!(once(&client, request).await.is_success());
    let seen = service.seen();
    assert_eq!((seen.asked.len(), seen.connections), (2, 1), "no request was smuggled in");
    let asked = &seen.asked[1];
    let added: Vec<_> =
        asked.headers.iter().filter(|(name, _)| !plain.contains_key(name)).collect();
    assert_eq!(added.len(), 5, "{added:?}");
    assert!(added.iter().all(|(name, _)| name.starts_with("tollgate-metadata-")), "{added:?}");
    assert_eq!(asked.header("tollgate-tenant").as_deref(), Some("acme"));
    assert_eq!(asked.header("host"), Some(service.addr.to_string()));
}

#[tokio::test]
async fn a_redirect_is_not_followed_neither_elsewhere_nor_here() {
    let elsewhere = Service::start(|_| whole(200, &[], "stolen")).await;
    let to = elsewhere.url();
    let next = Arc::new(AtomicUsize::new(0));
    let at = next.clone();
    let service = Service::start(move |a| {
        if a.target != "/" {
            return whole(200, &[], "followed");
        }
        let n = at.load(Relaxed);
        let location = [to.as_str(), "/here", "file:///etc/passwd"][n % 3];
        whole([301, 302, 303, 307, 308][n / 3], &[("location", location)], "")
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let client = rig.client("acme").await;
    for n in 0..15 {
        next.store(n, Relaxed);
        let result = call(&client, "{}").await;
        assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false));
        assert!(failure(&result).message.contains("redirects are not followed"));
    }
    assert_eq!(service.seen().asked.len(), 15);
    assert_eq!(elsewhere.seen().connections, 0);
}

#[tokio::test]
async fn an_answer_that_was_not_asked_for_is_nobodys() {
    // Two answers to one request: the second must not become the next one's.
    let service = Service::start(|a| {
        let mut steps = whole(200, &[], &a.body);
        steps.extend(whole(200, &[], "for nobody"));
        steps
    })
    .await;
    let rig = Rig::with(adds(service.upstream("call", |_| {}))).await;
    let (acme, globex) = (rig.client("acme").await, rig.client("globex").await);
    for n in 0..20 {
        let (client, text) = if n % 2 == 0 { (&acme, "a") } else { (&globex, "b") };
        let result = call(client, text).await;
        let mine = result.payload().is_none_or(|p| p == text.as_bytes());
        assert!(mine, "{result:?}");
    }
}
