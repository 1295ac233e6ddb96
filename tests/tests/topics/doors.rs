//! The other doors to topics: HTTP and the command line, on the same broker.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_client::Retention;
use tollgate_tests::Rig;

use crate::{all, eventually};

struct Http {
    base: String,
    client: reqwest::Client,
}

impl Http {
    fn of(rig: &Rig) -> Http {
        let base = format!("http://{}/api/v1", rig.broker.http_addr().expect("HTTP is on"));
        // The default of a process can be set once; whichever test comes first does it.
        let _ = tollgate_certs::crypto::provider().as_ref().clone().install_default();
        let client = reqwest::Client::builder().build().expect("a client");
        Http { base, client }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, if text.is_empty() { Value::Null } else { text.parse().expect("JSON") })
    }
}

#[tokio::test]
async fn messages_are_appended_found_listed_and_deleted_over_http() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = json!({ "payload": { "n": n }, "key": "k", "headers": { "h": "1" } });
        let (status, made) = http.ask("POST", "/messages/acme", Some(body)).await;
        assert_eq!(status, 201, "{made}");
        assert_eq!((&made["topic"], &made["offset"]), (&json!("inbox"), &json!(n)));
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    let path = format!("/messages/{}?tenant_id=acme", ids[2]);
    let (status, message) = http.ask("GET", &path, None).await;
    assert_eq!((status, &message["payload"]), (200, &json!({ "n": 2 })), "{message}");
    assert_eq!((&message["key"], &message["headers"]), (&json!("k"), &json!({ "h": "1" })));
    // Another tenant's message is like none, and so is one that never was.
    for other in [&path.replace("acme", "globex"), "/messages/nonsense?tenant_id=acme"] {
        let (status, problem) = http.ask("GET", other, None).await;
        assert_eq!((status, &problem["code"]), (404, &json!("NOT_FOUND")));
    }
    let (status, problem) = http.ask("GET", &format!("/messages/{}", ids[2]), None).await;
    assert_eq!((status, &problem["details"]["field"]), (400, &json!("tenant_id")), "{problem}");
    assert_eq!(http.ask("DELETE", &path, None).await.0, 204);
    assert_eq!(http.ask("GET", &path, None).await.0, 404);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/messages?tenant_id=acme&limit=2{cursor}");
        let (status, page) = http.ask("GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|m| m["offset"].as_u64().expect("an offset")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [0, 1, 3, 4]);
    let (status, stats) = http.ask("GET", "/stats/tenants/acme/messages", None).await;
    assert_eq!((status, &stats["messages"], &stats["topics"]), (200, &json!(5), &json!(1)));
    let (status, problem) = http.ask("GET", "/messages?tenant_id=acme&cursor=MQ", None).await;
    assert_eq!((status, &problem["code"]), (400, &json!("VALIDATION_ERROR")), "{problem}");
}

#[tokio::test]
async fn a_cursor_stays_good_while_messages_come_and_go() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    client.topics().create("t", 3, Retention::default()).await.expect("made");
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for n in 0..600 {
        queued.push(producer.queue(format!("{n}")).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("kept");
    }
    let before = all(&client, "t").await;
    let http = Http::of(&rig);
    let (mut seen, mut cursor, mut deleted) = (Vec::new(), String::new(), Vec::new());
    let mut next_deleted = before.iter().step_by(3);
    loop {
        let path = format!("/messages?tenant_id=acme&topic=t&limit=50{cursor}");
        let (status, page) = http.ask("GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|m| m["id"].as_str().expect("an id").to_owned()));
        for _ in 0..20 {
            producer.send("new").await.expect("kept");
            if let Some(message) = next_deleted.next() {
                client.topics().delete_message(message.id).await.expect("deleted");
                deleted.push(message.id.to_string());
            }
        }
        // What comes while it is read is not waited for without end.
        match page["next_cursor"].as_str().filter(|_| seen.len() < 2_000) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let once: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "none is listed twice");
    let skipped: Vec<_> = before
        .iter()
        .map(|m| m.id.to_string())
        .filter(|id| !once.contains(id) && !deleted.contains(id))
        .collect();
    assert!(skipped.is_empty(), "{skipped:?}");
}

/// Everything that is listed, page after page, as ids.
async fn listed(http: &Http) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/messages?tenant_id=acme&topic=t&limit=100{cursor}");
        let (status, page) = http.ask("GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("items");
        seen.extend(items.iter().map(|m| m["id"].as_str().expect("an id").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_stays_good_through_ten_thousand_inserts_and_deletes_at_once() {
    const EACH: usize = 5_000;
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    client.topics().create("t", 3, Retention::default()).await.expect("made");
    let producer = client.producer("t").open().await.expect("a producer");
    let insert = |count| {
        let producer = producer.clone();
        async move {
            let mut queued = Vec::new();
            for n in 0..count {
                queued.push(producer.queue(format!("{n}")).await.expect("queued"));
                // As fast as messages are deleted, about.
                if n % 50 == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            for appending in queued {
                appending.await.expect("kept");
            }
        }
    };
    insert(2 * EACH).await;
    let before: Vec<_> = all(&client, "t").await.iter().map(|m| m.id).collect();
    let (go, stay): (Vec<_>, Vec<_>) = before.iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let inserting = tokio::spawn(insert(EACH));
    let mut deleting = tokio::task::JoinSet::new();
    let go: Vec<_> = go.into_iter().map(|(_, id)| *id).collect();
    for part in go.chunks(EACH.div_ceil(16)) {
        let (client, part) = (client.clone(), part.to_vec());
        deleting.spawn(async move {
            for id in part {
                client.topics().delete_message(id).await.expect("deleted");
            }
        });
    }
    let http = Http::of(&rig);
    let mut passes = 0;
    loop {
        while let Some(ended) = deleting.try_join_next() {
            ended.expect("no panic");
        }
        let over = inserting.is_finished() && deleting.is_empty();
        let seen = listed(&http).await;
        let once: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(once.len(), seen.len(), "none is listed twice");
        let skipped = stay.iter().filter(|(_, id)| !once.contains(&id.to_string())).count();
        assert_eq!(skipped, 0, "none that stays is skipped");
        passes += 1;
        if over {
            assert_eq!(seen.len(), 2 * EACH, "half of what was there, and what came");
            break;
        }
    }
    inserting.await.expect("no panic");
    assert!(passes > 1, "it was listed meanwhile");
}

#[tokio::test]
async fn topics_groups_and_bindings_over_http() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let of = |path: &str| format!("/tenants/acme{path}");
    let body = json!({ "name": "t", "partitions": 2, "retention": { "age_ms": 3_600_000 } });
    let (status, made) = http.ask("POST", &of("/topics"), Some(body.clone())).await;
    assert_eq!((status, &made["partitions"][1]["next_offset"]), (201, &json!(0)), "{made}");
    let (status, problem) = http.ask("POST", &of("/topics"), Some(body)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("CONFLICT")));
    let client = rig.client("acme").await;
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..10 {
        producer.send(format!("{n}")).await.expect("kept");
    }
    let bind = json!({ "topic": "t", "name": "b", "recipe": "echo" });
    let (status, bound) = http.ask("POST", &of("/bindings"), Some(bind)).await;
    assert_eq!((status, &bound["recipe"]), (201, &json!("echo")), "{bound}");
    eventually("the binding has read all", || async {
        let (_, binding) = http.ask("GET", &of("/topics/t/bindings/b"), None).await;
        binding["lag"] == json!(0)
    })
    .await;
    let (status, page) = http.ask("GET", &of("/bindings"), None).await;
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(1)));
    let (status, group) = http.ask("GET", &of("/topics/t/groups/b"), None).await;
    assert_eq!((status, &group["lag"]), (200, &json!(0)), "{group}");
    assert_eq!(http.ask("DELETE", &of("/topics/t/bindings/b"), None).await.0, 204);
    assert_eq!(http.ask("GET", &of("/topics/t/bindings/b"), None).await.0, 404);
    let body = json!({ "to": "earliest" });
    eventually("its reader has left", || async {
        let reset = http.ask("POST", &of("/topics/t/groups/b/reset"), Some(body.clone())).await;
        reset.0 == 200 && reset.1["lag"] == json!(10)
    })
    .await;
    let (status, page) = http.ask("GET", &of("/groups?topic=t"), None).await;
    assert_eq!((status, page["items"][0]["name"].as_str()), (200, Some("b")));
    assert_eq!(http.ask("DELETE", &of("/topics/t/groups/b"), None).await.0, 204);
    let change = json!({ "retention": { "bytes": 1_000_000 } });
    let (status, kept) = http.ask("PATCH", &of("/topics/t"), Some(change)).await;
    assert_eq!((status, &kept["retention"]), (200, &json!({"age_ms": null, "bytes": 1_000_000})));
    assert_eq!(http.ask("DELETE", &of("/topics/t"), None).await.0, 204);
    assert_eq!(http.ask("GET", &of("/topics/t"), None).await.0, 404);
}
