//! Lists: what is on them, and their pages.

use reqwest::Method;
use serde_json::json;
use tollgate_tests::Rig;

use super::Http;

#[tokio::test]
async fn recipes_are_listed_in_pages() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let all = http.get("/api/v1/recipes").await.ok();
    assert!(all["next_cursor"].is_null());
    let items = all["items"].as_array().expect("a list");
    let echo = items.iter().find(|r| r["name"] == "echo").expect("there is an echo");
    assert_eq!((&echo["kind"], &echo["encoding"]), (&"embedded".into(), &"bytes".into()));
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("/api/v1/recipes?limit=2{cursor}")).await.ok();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 2);
        paged.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, items);
}

#[tokio::test]
async fn connections_are_listed_by_tenant() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    assert_eq!(http.get("/api/v1/connections").await.ok()["items"], json!([]));
    let _acme = rig.client("acme").await;
    let _globex = rig.client("globex").await;
    let all = http.get("/api/v1/connections").await.ok();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "{all}");
    let page = http.get("/api/v1/connections?limit=1").await.ok();
    let next = page["next_cursor"].as_str().expect("another page").to_owned();
    let rest = http.get(&format!("/api/v1/connections?limit=1&cursor={next}")).await.ok();
    assert_eq!(rest["items"][0]["id"], all["items"][1]["id"]);
    let acme = http.get("/api/v1/connections?tenant=acme").await.ok();
    let items = acme["items"].as_array().expect("a list");
    assert_eq!(items.len(), 1, "{acme}");
    assert_eq!(items[0]["tenant"], "acme");
    assert_eq!(items[0]["role"], "client");
    assert_eq!(items[0]["identity"], "spiffe://tollgate.local/tenant/acme/client");
    for key in ["connected_at", "last_seen_at"] {
        assert!(items[0][key].as_str().is_some_and(|t| t.ends_with('Z')), "{acme}");
    }
}

#[tokio::test]
async fn wrong_values_of_a_query_are_named() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("lmit=1", "lmit"),
        ("limit=1&limit=2", "limit"),
    ] {
        http.get(&format!("/api/v1/recipes?{query}")).await.wrong(field);
    }
    // A cursor of another list.
    let page = http.get("/api/v1/recipes?limit=1").await.ok();
    let cursor = page["next_cursor"].as_str().expect("another page");
    http.get(&format!("/api/v1/connections?cursor={cursor}")).await.wrong("cursor");
}

#[tokio::test]
async fn the_lists_of_a_tenants_topics_take_only_cursors_of_their_own() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let base = "/api/v1/tenants/acme";
    for topic in ["a", "b"] {
        let binding = json!({ "topic": topic, "name": "n", "recipe": "echo" });
        for (list, new) in [("topics", json!({ "name": topic })), ("bindings", binding)] {
            let made = http.send(Method::POST, &format!("{base}/{list}"), Some(new)).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
    }
    let mut cursors = Vec::new();
    for list in ["topics", "groups", "bindings"] {
        let page = http.get(&format!("{base}/{list}?limit=1")).await.ok();
        let cursor = page["next_cursor"].as_str().expect("another page").to_owned();
        let rest = http.get(&format!("{base}/{list}?cursor={cursor}")).await.ok();
        assert_eq!(rest["items"].as_array().map(Vec::len), Some(1), "{list}: {rest}");
        cursors.push(cursor);
    }
    // Groups and bindings are both in the order of topics and names: their cursors are of one kind.
    http.get(&format!("{base}/groups?cursor={}", cursors[0])).await.wrong("cursor");
    http.get(&format!("{base}/bindings?cursor={}", cursors[0])).await.wrong("cursor");
    http.get(&format!("{base}/topics?cursor={}", cursors[1])).await.wrong("cursor");
    http.get(&format!("{base}/topics?cursor={}", cursors[2])).await.wrong("cursor");
}

#[tokio::test]
async fn a_suspended_tenant_is_given_nothing_new_and_can_be_looked_at() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let base = "/api/v1/tenants/acme";
    let make = |list: &'static str, new| http.send(Method::POST, list, Some(new));
    let topics = "/api/v1/tenants/acme/topics";
    assert_eq!(make(topics, json!({ "name": "t" })).await.status, 201);
    http.send(Method::POST, &format!("{base}/suspend"), None).await.ok();
    let binding = json!({ "topic": "t", "name": "n", "recipe": "echo" });
    for (path, new) in [
        (topics, json!({ "name": "u" })),
        ("/api/v1/tenants/acme/bindings", binding),
        ("/api/v1/messages/acme", json!({ "topic": "t", "payload": 1 })),
    ] {
        make(path, new).await.problem(403, "FORBIDDEN");
    }
    assert_eq!(http.get(topics).await.ok()["items"].as_array().map(Vec::len), Some(1));
    http.send(Method::POST, &format!("{base}/activate"), None).await.ok();
    assert_eq!(
        make("/api/v1/messages/acme", json!({ "topic": "t", "payload": 1 })).await.status,
        201
    );
}

#[tokio::test]
async fn usage_has_a_line_a_quota() {
    let rig = Rig::start().await;
    let _acme = rig.client("acme").await;
    let usage = Http::of(&rig).get("/api/v1/tenants/acme/usage").await.ok();
    assert_eq!(usage["tenant_id"], "acme");
    let lines = usage["quotas"].as_array().expect("lines");
    let line = lines.iter().find(|l| l["quota"] == "connections").expect("a line");
    assert_eq!((&line["current"], &line["limit"]), (&1.into(), &2000.into()), "{line}");
    assert_eq!((&line["utilisation_percent"], &line["level"]), (&0.05.into(), &"normal".into()));
    Http::of(&rig).get("/api/v1/tenants/nobody/usage").await.problem(404, "NOT_FOUND");
}
