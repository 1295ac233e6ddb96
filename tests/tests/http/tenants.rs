//! Tenants over HTTP: created, changed, suspended, deleted; and everything wrong that can be asked.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_tests::{Rig, eventually};

use super::{Answered, Http};

impl Http {
    pub(super) async fn post(&self, path: &str, body: Value) -> Answered {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answered {
        self.send(Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answered {
        self.send(Method::DELETE, path, None).await
    }

    async fn with(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
        body: Value,
    ) -> Answered {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.header(header.0, header.1).json(&body);
        Answered::read(request.send().await.expect("an answer")).await
    }
}

#[tokio::test]
async fn a_tenant_is_created_changed_suspended_and_deleted() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let new = json!({
        "id": "initech", "name": "Initech", "profile": "free", "policy": "reject", "weight": 4,
        "quotas": {"connections": 7, "topics": -1}, "concurrency": 12, "workers": 2,
        "gateways": ["edge"], "metadata": {"plan": "b"},
    });
    let created = http.post("/api/v1/tenants", new.clone()).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("location"), "/api/v1/tenants/initech");
    assert_eq!(created.header("etag"), "\"1\"");
    let tenant = created.json();
    for (key, value) in new.as_object().expect("an object") {
        if key != "quotas" {
            assert_eq!(&tenant[key], value, "{key}");
        }
    }
    assert_eq!(tenant["state"], "Active");
    assert_eq!(tenant["overrides"], new["quotas"]);
    // Its own, its profile's, and the default's.
    assert_eq!(tenant["quotas"]["connections"], 7);
    assert_eq!(tenant["quotas"]["topics"], -1);
    assert_eq!(tenant["quotas"]["producers"], 5);
    assert_eq!(tenant["quotas"]["batch_items"], 10_000);
    assert_eq!(http.get("/api/v1/tenants/initech").await.ok(), tenant);
    http.post("/api/v1/tenants", new).await.problem(409, "CONFLICT");

    // What is left out stays; null is the default; a quota that is null is the profile's.
    let patch = json!({
        "name": null, "quotas": {"connections": null, "partitions": 9},
        "metadata": {"plan": null, "region": "eu"}, "policy": null,
    });
    let changed = http.patch("/api/v1/tenants/initech", patch).await;
    assert_eq!(changed.header("etag"), "\"2\"");
    let changed = changed.ok();
    assert_eq!((&changed["name"], &changed["policy"]), (&"".into(), &"pace".into()));
    assert_eq!(changed["overrides"], json!({"topics": -1, "partitions": 9}));
    assert_eq!(changed["quotas"]["connections"], 10);
    assert_eq!(changed["metadata"], json!({"region": "eu"}));
    assert_eq!((&changed["weight"], &changed["concurrency"]), (&4.into(), &12.into()));
    let path = "/api/v1/tenants/initech/config/concurrency";
    let changed = http.send(Method::PUT, path, Some(json!({"workers": 10}))).await.ok();
    assert_eq!((&changed["workers"], &changed["revision"]), (&10.into(), &3.into()));

    http.delete("/api/v1/tenants/initech").await.problem(409, "CONFLICT");
    let path = "/api/v1/tenants/initech/suspend";
    let suspended = http.send(Method::POST, path, None).await.ok();
    assert_eq!(suspended["state"], "Suspended");
    let path = "/api/v1/tenants/initech/activate";
    assert_eq!(http.send(Method::POST, path, None).await.ok()["state"], "Active");
    http.send(Method::POST, "/api/v1/tenants/initech/suspend", None).await.ok();
    let gone = http.delete("/api/v1/tenants/initech").await;
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    http.get("/api/v1/tenants/initech").await.problem(404, "NOT_FOUND");
    http.delete("/api/v1/tenants/initech").await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_change_acts_on_connections_that_are_open() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let _acme = rig.client("acme").await;
    http.send(Method::POST, "/api/v1/tenants/acme/suspend", None).await.ok();
    eventually("its connection is closed", || rig.broker.connections().is_empty()).await;
    let forced = http.delete("/api/v1/tenants/acme?force=true").await;
    assert_eq!(forced.status, 204, "{forced:?}");
    let _globex = rig.client("globex").await;
    let forced = http.delete("/api/v1/tenants/globex?force=true").await;
    assert_eq!(forced.status, 204, "{forced:?}");
    eventually("its connection is closed", || rig.broker.connections().is_empty()).await;
}

#[tokio::test]
async fn a_change_may_expect_a_revision() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let path = "/api/v1/tenants/acme";
    let revision = http.get(path).await.ok()["revision"].as_u64().expect("a number");
    let change = json!({"name": "Acme"});
    let now = format!("\"{revision}\"");
    let stale = format!("\"{}\"", revision + 1);
    let refused = http.with(Method::PATCH, path, ("if-match", &stale), change.clone()).await;
    assert_eq!(refused.problem(412, "CONFLICT")["details"]["revision"], revision.to_string());
    assert_eq!(
        http.with(Method::PATCH, path, ("if-match", &now), change.clone()).await.status,
        200
    );
    http.with(Method::PATCH, path, ("if-match", &now), json!({"name": "B"}))
        .await
        .problem(412, "CONFLICT");
    for wrong in ["1", "\"x\"", "W/\"1\"", "\"\""] {
        http.with(Method::PATCH, path, ("if-match", wrong), change.clone()).await.wrong("if-match");
    }
    let force = "/api/v1/tenants/acme?force=true";
    http.with(Method::DELETE, force, ("if-match", &now), Value::Null)
        .await
        .problem(412, "CONFLICT");
}

#[tokio::test]
async fn a_key_creates_one_tenant() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let before = rig.broker.tenants().len();
    let create = async |key: &str, body: Value| {
        http.with(Method::POST, "/api/v1/tenants", ("idempotency-key", key), body).await
    };
    let first = create("k-1", json!({"name": "One"})).await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = create("k-1", json!({"name": "One"})).await;
    assert_eq!((again.status, again.json()["id"].clone()), (201, first.json()["id"].clone()));
    assert_eq!(rig.broker.tenants().len(), before + 1);
    create("k-1", json!({"name": "Two"})).await.problem(409, "CONFLICT");
    create("k-2", json!({"name": "One"})).await;
    assert_eq!(rig.broker.tenants().len(), before + 2);
    // One that failed may be used again.
    create("k-3", json!({"id": "acme"})).await.problem(409, "CONFLICT");
    assert_eq!(create("k-3", json!({"id": "hooli"})).await.status, 201);
    create("", json!({})).await.wrong("idempotency-key");
    create(&"k".repeat(257), json!({})).await.wrong("idempotency-key");
}

#[tokio::test]
async fn everything_wrong_is_named() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    for (body, field) in [
        (json!({"nmae": "x"}), "nmae"),
        (json!({"id": "Not An Id"}), "id"),
        (json!({"id": 7}), "id"),
        (json!({"name": "x".repeat(256)}), "name"),
        (json!({"profile": "gold"}), "profile"),
        (json!({"quotas": {"conections": 1}}), "quotas.conections"),
        (json!({"quotas": {"connections": -2}}), "quotas.connections"),
        (json!({"quotas": {"connections": "many"}}), "quotas.connections"),
        (json!({"policy": "wait"}), "policy"),
        (json!({"weight": 0}), "weight"),
        (json!({"weight": 1001}), "weight"),
        (json!({"weight": -1}), "weight"),
        (json!({"gateways": [1]}), "gateways[0]"),
        (json!({"metadata": {"a": 1}}), "metadata.a"),
        (json!({"state": "Active"}), "state"),
    ] {
        http.post("/api/v1/tenants", body.clone()).await.wrong(field);
        if field != "id" {
            http.patch("/api/v1/tenants/acme", body).await.wrong(field);
        }
    }
    http.patch("/api/v1/tenants/acme", json!({"id": "other"})).await.wrong("id");
    http.patch("/api/v1/tenants/nobody", json!({})).await.problem(404, "NOT_FOUND");
    http.send(Method::POST, "/api/v1/tenants/nobody/suspend", None).await.problem(404, "NOT_FOUND");
    let path = "/api/v1/tenants/acme/config/concurrency";
    http.send(Method::PUT, path, Some(json!({}))).await.wrong("workers");
    http.delete("/api/v1/tenants/acme?force=maybe").await.wrong("force");
}

#[tokio::test]
async fn bodies_have_a_type_and_a_bound() {
    let rig = Rig::with(|config| config.http.body_bytes_max = 1_024).await;
    let http = Http::of(&rig);
    let send = async |kind: Option<&str>, body: String| {
        let request = http.client.post(format!("{}/api/v1/tenants", http.base)).body(body);
        let request = match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        };
        Answered::read(request.send().await.expect("an answer")).await
    };
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        send(kind, "{}".into()).await.problem(415, "VALIDATION_ERROR");
    }
    let json = Some("application/json; charset=utf-8");
    assert_eq!(send(json, "{}".into()).await.status, 201);
    for broken in ["", "{", "{} {}", "[]", "null", "\u{0}"] {
        send(json, broken.into()).await.problem(400, "VALIDATION_ERROR");
    }
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(2_000));
    send(json, huge).await.problem(413, "PAYLOAD_TOO_LARGE");
    let nested = "[".repeat(1_000);
    send(json, nested).await.problem(400, "VALIDATION_ERROR");
}

#[tokio::test]
async fn tenants_are_listed_in_pages() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    for id in ["hooli", "initech", "umbrella"] {
        http.post("/api/v1/tenants", json!({"id": id, "profile": "free"})).await;
    }
    http.send(Method::POST, "/api/v1/tenants/hooli/suspend", None).await.ok();
    let ids = async |query: &str| {
        let page = http.get(&format!("/api/v1/tenants?{query}")).await.ok();
        let ids = page["items"].as_array().expect("a list").iter();
        let ids: Vec<String> = ids.map(|t| t["id"].as_str().expect("an id").to_owned()).collect();
        (ids, page["next_cursor"].as_str().map(str::to_owned))
    };
    let (first, next) = ids("limit=2").await;
    assert_eq!(first, ["acme", "globex"]);
    let (rest, none) = ids(&format!("cursor={}", next.expect("another page"))).await;
    assert_eq!((rest.len(), none), (3, None));
    assert_eq!(ids("state=Suspended").await.0, ["hooli"]);
    assert_eq!(ids("state=active&profile=free").await.0, ["initech", "umbrella"]);
    http.get("/api/v1/tenants?state=Gone").await.wrong("state");
}

#[tokio::test]
async fn profiles_usage_and_statistics_are_there_for_all() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let client = rig.client("acme").await;
    let echo = tollgate_client::Request::new("echo", b"hello".to_vec());
    let ran = client.execute([echo]).await.expect("a batch");
    ran.into_result().expect("it succeeded");
    let profiles = http.get("/api/v1/quota-profiles").await.ok();
    let names: Vec<_> = profiles["items"].as_array().expect("a list").iter().collect();
    assert!(names.iter().any(|p| p["name"] == "enterprise" && p["quotas"]["topics"] == -1));
    let _globex = rig.client("globex").await;
    let usage = http.get("/api/v1/usage?limit=1").await.ok();
    assert_eq!(usage["items"][0]["tenant_id"], "acme");
    let next = usage["next_cursor"].as_str().expect("another page");
    let rest = http.get(&format!("/api/v1/usage?cursor={next}")).await.ok();
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1), "{rest}");
    for page in [&usage, &rest] {
        let total = page["total"].as_array().expect("totals");
        assert!(total.iter().any(|t| t["quota"] == "connections" && t["current"] == 2), "{page}");
    }
    http.post("/api/v1/tenants", json!({"id": "aaa"})).await;
    let in_use = http.get("/api/v1/usage?in_use=true&limit=1").await.ok();
    assert_eq!(in_use["items"][0]["tenant_id"], "acme", "not one that does nothing");
    let stats = http.get("/api/v1/tenants/acme/stats").await.ok();
    assert_eq!((&stats["items_succeeded"], &stats["bytes_in"]), (&1.into(), &5.into()), "{stats}");
    assert_eq!(stats["latency_us"]["count"], 1, "{stats}");
    let all = http.get("/api/v1/stats").await.ok();
    assert_eq!(all["total"]["items_succeeded"], 1, "{all}");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3), "{all}");
}

#[tokio::test]
async fn who_is_revoked_is_cut_off_until_that_is_taken_back() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let _acme = rig.client("acme").await;
    let id = "spiffe://tollgate.local/tenant/acme/client";
    let made = http.post("/api/v1/revocations", json!({"spiffe_id": id, "reason": "lost"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let location = made.header("location").to_owned();
    let made = made.json();
    assert_eq!((&made["spiffe_id"], &made["reason"]), (&id.into(), &"lost".into()));
    assert!(
        made.get("serial").is_none() && location.ends_with(made["id"].as_str().expect("an id"))
    );
    eventually("its connection is closed", || rig.broker.connections().is_empty()).await;
    assert!(rig.builder("acme").connect().await.is_err(), "it is refused");
    http.post("/api/v1/revocations", json!({"spiffe_id": id})).await.problem(409, "CONFLICT");
    let serial = http.post("/api/v1/revocations", json!({"serial": "01:AB"})).await;
    assert_eq!(serial.json()["serial"], "01ab", "{serial:?}");
    let page = http.get("/api/v1/revocations?limit=1").await.ok();
    assert_eq!(page["items"][0], made);
    let next = page["next_cursor"].as_str().expect("another page");
    let rest = http.get(&format!("/api/v1/revocations?cursor={next}")).await.ok();
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(http.delete(&location).await.status, 204);
    http.delete(&location).await.problem(404, "NOT_FOUND");
    http.delete("/api/v1/revocations/x").await.problem(404, "NOT_FOUND");
    let _again = rig.client("acme").await;
    for (body, field) in [
        (json!({}), "serial"),
        (json!({"serial": "01", "spiffe_id": id}), "serial"),
        (json!({"serial": "xyz"}), "serial"),
        (json!({"spiffe_id": "acme"}), "spiffe_id"),
        (json!({"spiffe_id": "spiffe://elsewhere/tenant/acme/client"}), "spiffe_id"),
        (json!({"serial": "01", "reason": "x".repeat(256)}), "reason"),
        (json!({"serial": "01", "resaon": "x"}), "resaon"),
    ] {
        http.post("/api/v1/revocations", body).await.wrong(field);
    }
}
