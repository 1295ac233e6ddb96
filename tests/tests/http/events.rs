//! What happens, followed over HTTP; and the page of metrics.

use reqwest::{Method, Response};
use tokio::time::timeout;
use tollgate_tests::{Rig, SOON};

use super::Http;

/// A stream of events that is read.
struct Follow {
    response: Response,
    text: String,
}

impl Follow {
    async fn open(http: &Http, query: &str, last: Option<&str>) -> Follow {
        let mut request = http.client.get(format!("{}/api/v1/events{query}", http.base));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Follow { response, text: String::new() }
    }

    /// The next event: its id, its name, its data.
    async fn next(&mut self) -> (String, String, serde_json::Value) {
        loop {
            if let Some(at) = self.text.find("\n\n") {
                let event: String = self.text.drain(..at + 2).collect();
                let field = |name: &str| {
                    let line = event.lines().find_map(|l| l.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                if field("data:").is_empty() {
                    continue;
                }
                let data = serde_json::from_str(&field("data:")).expect("JSON");
                return (field("id:"), field("event:"), data);
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("news");
            let chunk = chunk.expect("no error").expect("more");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }
}

#[tokio::test]
async fn events_are_followed_and_taken_up_again() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let mut all = Follow::open(&http, "", None).await;
    let mut globex = Follow::open(&http, "?tenant=globex", None).await;
    http.send(Method::POST, "/api/v1/tenants/acme/suspend", None).await.ok();
    http.send(Method::POST, "/api/v1/tenants/globex/suspend", None).await.ok();
    let (id, name, data) = all.next().await;
    assert_eq!((name.as_str(), &data["kind"]), ("tenant_suspended", &"tenant_suspended".into()));
    assert_eq!((&data["tenant"], data["id"].to_string()), (&"acme".into(), id.clone()));
    assert_eq!(all.next().await.2["tenant"], "globex");
    let only = globex.next().await;
    assert_eq!(only.2["tenant"], "globex");
    drop(all);
    // From the event after the first.
    let mut again = Follow::open(&http, "", Some(&id)).await;
    assert_eq!(again.next().await.0, only.0);
    // From the first, and nothing of it is lost.
    let mut first = Follow::open(&http, "?tenant=acme", Some("0")).await;
    assert_eq!(first.next().await.1, "tenant_created");
    assert_eq!(first.next().await.0, id);
    let refused = http.client.get(format!("{}/api/v1/events", http.base));
    let refused = refused.header("last-event-id", "x").send().await.expect("an answer");
    super::Answered::read(refused).await.wrong("last-event-id");
    http.get("/api/v1/events?tenat=acme").await.wrong("tenat");
}

#[tokio::test]
async fn what_is_not_kept_is_said_to_be_lost() {
    let rig = Rig::with(|config| config.events.kept_max = 2).await;
    let http = Http::of(&rig);
    let mut follow = Follow::open(&http, "", None).await;
    http.send(Method::POST, "/api/v1/tenants/acme/suspend", None).await.ok();
    let (first, ..) = follow.next().await;
    for verb in ["activate", "suspend", "activate"] {
        http.send(Method::POST, &format!("/api/v1/tenants/acme/{verb}"), None).await.ok();
    }
    let mut again = Follow::open(&http, "", Some(&first)).await;
    let (_, name, data) = again.next().await;
    assert_eq!((name.as_str(), &data["lost"]), ("lost", &1.into()), "{data}");
    assert_eq!(again.next().await.1, "tenant_suspended");
    assert_eq!(again.next().await.1, "tenant_activated");
}

#[tokio::test]
async fn streams_of_events_are_bounded() {
    let rig = Rig::with(|config| config.http.event_streams_max = 1).await;
    let http = Http::of(&rig);
    let follow = Follow::open(&http, "", None).await;
    let refused = http.get("/api/v1/events").await;
    refused.problem(503, "OVERLOADED");
    drop(follow);
    let again = async {
        let ask = || http.client.get(format!("{}/api/v1/events", http.base)).send();
        while ask().await.expect("an answer").status() != 200 {}
    };
    timeout(SOON, again).await.expect("there is room again");
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    http.get("/nowhere").await;
    let text = http.get("/metrics").await;
    assert_eq!(text.status, 200);
    assert!(text.header("content-type").starts_with("text/plain"), "{text:?}");
    assert!(text.body.contains("tollgate_build_info"), "{text:?}");
    let request = http.client.get(format!("{}/metrics", http.base));
    let open = request.header("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1");
    let open = super::Answered::read(open.send().await.expect("an answer")).await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text"), "{open:?}");
    assert!(open.body.ends_with("# EOF\n"), "{open:?}");
    for counted in ["route=\"/metrics\"", "route=\"other\"", "status=\"404\""] {
        assert!(open.body.contains(counted), "{counted}: {}", open.body);
    }
}
