//! Batches over HTTP: lines in, lines out, by the same rules as on QUIC.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::channel::mpsc;
use reqwest::{Body, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tollgate_broker::tenancy::Limit;
use tollgate_client::Request;
use tollgate_tests::{Rig, SOON, eventually};

use super::{Answered, Http};

/// A batch that is open: lines are sent and read as the test likes.
pub(super) struct Open {
    body: Option<mpsc::Sender<Result<Bytes, std::io::Error>>>,
    response: Response,
    text: String,
}

fn path(tenant: &str, query: &str) -> String {
    format!("/api/v1/tenants/{tenant}/batches{query}")
}

impl Http {
    /// Opens a batch whose body is still to come.
    pub(super) async fn open(&self, tenant: &str, query: &str) -> Open {
        let (body, lines) = mpsc::channel(16);
        let request = self.client.post(format!("{}{}", self.base, path(tenant, query)));
        let request = request.header("content-type", "application/x-ndjson");
        let request = request.body(Body::wrap_stream(lines));
        let response = timeout(SOON, request.send()).await.expect("at once").expect("an answer");
        assert_eq!(response.status(), 200);
        Open { body: Some(body), response, text: String::new() }
    }

    /// Runs a whole batch; its lines.
    pub(super) async fn run(&self, tenant: &str, query: &str, items: &str) -> Vec<Value> {
        let request = self.client.post(format!("{}{}", self.base, path(tenant, query)));
        let request = request.header("content-type", "application/x-ndjson");
        let response = request.body(items.to_owned()).send().await.expect("an answer");
        let status = response.status();
        let text = timeout(SOON, response.text()).await.expect("it ends").expect("a body");
        assert_eq!(status, 200, "{text}");
        text.lines().map(|l| serde_json::from_str(l).expect("a line is JSON")).collect()
    }

    async fn refused(&self, tenant: &str, query: &str) -> Answered {
        let request = self.client.post(format!("{}{}", self.base, path(tenant, query)));
        let request = request.header("content-type", "application/x-ndjson");
        Answered::read(request.body("").send().await.expect("an answer")).await
    }
}

impl Open {
    pub(super) fn send(&mut self, item: &Value) {
        self.send_text(&format!("{item}\n"));
    }

    fn send_text(&mut self, text: &str) {
        let body = self.body.as_mut().expect("not sealed");
        body.try_send(Ok(text.to_owned().into())).expect("it is read");
    }

    fn seal(&mut self) {
        self.body = None;
    }

    /// The client is gone. Its body never ends as long as what comes back is kept.
    pub(super) fn hang_up(self) -> impl Sized {
        drop(self.response);
        self.body
    }

    /// The next line, signs of life aside.
    pub(super) async fn line(&mut self) -> Value {
        loop {
            if let Some(at) = self.text.find('\n') {
                let line: String = self.text.drain(..=at).collect();
                let line: Value = serde_json::from_str(&line).expect("a line is JSON");
                if line.get("alive").is_none() {
                    return line;
                }
                continue;
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("a line");
            let chunk = chunk.expect("no error").expect("more");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }
}

/// The results of a batch, by id.
fn results(lines: &[Value]) -> BTreeMap<u64, Value> {
    let results = lines.iter().filter_map(|l| l.get("result"));
    results.map(|r| (r["id"].as_u64().expect("an id"), r.clone())).collect()
}

fn summary(lines: &[Value]) -> &Value {
    let summary = &lines.last().expect("a last line")["summary"];
    assert!(summary.is_object(), "{lines:?}");
    summary
}

#[tokio::test]
async fn a_batch_is_lines_in_and_lines_out() {
    let rig = Rig::start().await;
    let items = concat!(
        "{\"recipe\":\"echo\",\"payload\":{\"a\": [1, \"x\"]}}\n",
        "\n",
        "{\"id\":7,\"recipe\":\"echo\",\"payload_base64\":\"AP8=\"}\r\n",
        "{\"recipe\":\"fail\",\"payload\":{}}\n",
        "{\"recipe\":\"nothing\"}\n",
        "{\"recipe\":\"echo\",\"pyload\":1}\n",
        // Without an end of line.
        "{\"recipe\":\"echo\",\"payload\":\"last\"}",
    );
    let lines = Http::of(&rig).run("acme", "", items).await;
    let accepted = &lines[0]["accepted"];
    assert!(accepted["batch_id"].is_string() && accepted["items_max"] == 1_000_000, "{lines:?}");
    let results = results(&lines);
    assert_eq!(results.keys().copied().collect::<Vec<_>>(), [1, 7, 8, 9, 10, 11]);
    assert_eq!(results[&1]["payload"], json!({"a": [1, "x"]}));
    assert_eq!((&results[&1]["status"], &results[&1]["code"]), (&200.into(), &"OK".into()));
    assert_eq!(results[&7]["payload_base64"], "AP8=");
    assert_eq!(results[&9]["code"], "RECIPE_NOT_FOUND");
    assert_eq!(results[&9]["status"], 404);
    assert_eq!(results[&10]["code"], "VALIDATION_ERROR");
    assert_eq!(results[&10]["error"]["details"]["field"], "pyload");
    assert_eq!(results[&10]["error"]["details"]["line"], "5");
    assert_eq!(results[&11]["payload"], "last");
    let summary = summary(&lines);
    assert_eq!(summary["ended"], "sealed");
    assert_eq!((&summary["total"], &summary["succeeded"]), (&6.into(), &3.into()), "{summary}");
    assert_eq!(summary["failed"]["VALIDATION_ERROR"], 1, "{summary}");
    rig.idle().await;
}

#[tokio::test]
async fn results_come_while_items_are_still_sent() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let mut open = Http::of(&rig).open("acme", "").await;
    assert!(open.line().await["accepted"].is_object());
    open.send(&json!({"id": 1, "recipe": "gate", "payload": "slow"}));
    open.send(&json!({"id": 2, "recipe": "echo", "payload": "quick"}));
    assert_eq!(open.line().await["result"]["id"], 2);
    stage.open(1);
    assert_eq!(open.line().await["result"]["payload"], "slow");
    open.send(&json!({"recipe": "echo"}));
    assert_eq!(open.line().await["result"]["id"], 3);
    open.seal();
    assert_eq!(open.line().await["summary"]["ended"], "sealed");
    rig.idle().await;
}

#[tokio::test]
async fn progress_is_told_and_metadata_goes_along() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let mut open = Http::of(&rig).open("acme", "?order=submission").await;
    open.line().await;
    open.send(&json!({"recipe": "steps", "payload": 2}));
    let progress = open.line().await["progress"].clone();
    assert_eq!((&progress["done"], &progress["total"]), (&0.into(), &2.into()), "{progress}");
    stage.open(2);
    let mut last = open.line().await;
    while last.get("progress").is_some() {
        last = open.line().await;
    }
    assert_eq!(last["result"]["payload"], 2, "{last}");
    open.seal();
    assert_eq!(open.line().await["summary"]["total"], 1);
}

#[tokio::test]
async fn who_hangs_up_cancels() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    // In the middle of the body, and after it.
    for seal in [false, true] {
        let mut open = Http::of(&rig).open("acme", "").await;
        open.line().await;
        open.send(&json!({"recipe": "hang", "payload": 1}));
        stage.running(1).await;
        if seal {
            open.seal();
        }
        drop(open);
        stage.until("it was dropped", |s| s.running == 0).await;
        rig.idle().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_whole_batch_ends_it() {
    let rig = Rig::with(|config| config.http.line_bytes_max = 2_048).await;
    let http = Http::of(&rig);
    let huge = format!("{{\"recipe\":\"echo\",\"payload\":\"{}\"}}\n", "x".repeat(4_000));
    for (items, code, detail) in [
        (
            "{\"id\":2,\"recipe\":\"echo\"}\n{\"id\":2,\"recipe\":\"echo\"}\n",
            "VALIDATION_ERROR",
            "id",
        ),
        // Where items have ids of their own, nobody can say which one this has.
        ("{\"id\":7,\"recipe\":\"echo\"}\nnonsense\n", "VALIDATION_ERROR", "line"),
        (
            "{\"id\":7,\"recipe\":\"echo\"}\n{\"id\":\"x\",\"recipe\":\"echo\"}\n",
            "VALIDATION_ERROR",
            "field",
        ),
        (&huge, "FRAME_TOO_LARGE", "limit"),
    ] {
        let lines = http.run("acme", "", items).await;
        let error = &lines.last().expect("a last line")["error"];
        assert_eq!(error["code"], code, "{lines:?}");
        assert!(error["details"][detail].is_string(), "{lines:?}");
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_line_that_is_no_item_is_its_own_result() {
    let rig = Rig::start().await;
    let items = "{\"recipe\":\"echo\",\"payload\":1}\nnonsense\n{\"id\":\"x\",\"recipe\":\"echo\"}\n\
                 [1]\n{\"recipe\":\"echo\",\"payload\":5}\n{\"recipe\":\"ec";
    let lines = Http::of(&rig).run("acme", "?order=submission", items).await;
    let results: Vec<_> = lines.iter().filter_map(|line| line.get("result")).collect();
    let told: Vec<_> = results
        .iter()
        .map(|r| (r["id"].as_u64(), r["code"].as_str(), r["error"]["details"]["line"].as_str()))
        .collect();
    let bad = Some("VALIDATION_ERROR");
    assert_eq!(
        told,
        [
            (Some(1), Some("OK"), None),
            (Some(2), bad, Some("2")),
            (Some(3), bad, Some("3")),
            (Some(4), bad, Some("4")),
            (Some(5), Some("OK"), None),
            (Some(6), bad, Some("6")),
        ]
    );
    assert_eq!(results[4]["payload"], 5);
    assert_eq!(lines.last().expect("a last line")["summary"]["total"], 6);
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_send_before_it_is_answered() {
    let rig = Rig::start().await;
    let addr = rig.broker.http_addr().expect("HTTP is on");
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let body = "{\"recipe\":\"echo\",\"payload\":1}\n";
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        path("acme", ""),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut first = [0; 25];
    let read = timeout(SOON, stream.read_exact(&mut first)).await;
    read.expect("it is told at once").expect("an answer");
    assert_eq!(String::from_utf8_lossy(&first), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.expect("written");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("an answer");
    assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("\"summary\""), "{rest}");
}

#[tokio::test]
async fn what_is_wrong_before_it_begins_is_a_problem() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    for (query, field) in [
        ("?mode=strict", "mode"),
        ("?order=random", "order"),
        ("?priority=8", "priority"),
        ("?concurrency_max=0", "concurrency_max"),
        ("?deadline_ms=x", "deadline_ms"),
        ("?durable=maybe", "durable"),
        ("?detach=1", "detach"),
        ("?batch_id=7", "batch_id"),
        ("?dedline_ms=1", "dedline_ms"),
    ] {
        http.refused("acme", query).await.wrong(field);
    }
    http.refused("nobody", "").await.problem(404, "NOT_FOUND");
    let text = http.post_text("text/plain").await.problem(415, "VALIDATION_ERROR");
    let detail = text["detail"].as_str().expect("words");
    assert!(detail.contains("text/plain") && detail.contains("application/x-ndjson"), "{detail}");
    rig.broker.tenants().suspend("acme", None).await.expect("there is one");
    http.refused("acme", "").await.problem(403, "FORBIDDEN");
}

impl Http {
    async fn post_text(&self, kind: &str) -> Answered {
        let request = self.client.post(format!("{}{}", self.base, path("acme", "")));
        let request = request.header("content-type", kind).body("{}");
        Answered::read(request.send().await.expect("an answer")).await
    }
}

#[tokio::test]
async fn quotas_are_those_of_quic() {
    let (rig, _stage) = Rig::staged(|config| {
        config.tenancy.window =
            tollgate_broker::tenancy::Window::new(12, 60_000).expect("a window");
    })
    .await;
    let http = Http::of(&rig);
    let limit = async |change: fn(&mut tollgate_broker::tenancy::Settings)| {
        rig.broker.tenants().update("acme", None, change).await.expect("there is one");
    };
    // Batches in flight: one, and one over.
    limit(|s| s.overrides.batches_in_flight = Some(Limit::at_most(1))).await;
    let mut open = http.open("acme", "").await;
    open.line().await;
    let refused = http.refused("acme", "").await;
    let problem = refused.problem(403, "QUOTA_EXCEEDED");
    assert_eq!((&problem["quota"], &problem["limit"]), (&"batches_in_flight".into(), &1.into()));
    assert_eq!(problem["retryable"], true);
    open.seal();
    while open.line().await.get("summary").is_none() {}
    // Items, and bytes of one payload.
    limit(|s| {
        s.overrides.batches_in_flight = None;
        s.overrides.batch_items = Some(Limit::at_most(2));
        s.overrides.payload_bytes = Some(Limit::at_most(4));
    })
    .await;
    let items = "{\"recipe\":\"echo\",\"payload\":1234}\n{\"recipe\":\"echo\",\"payload\":12345}\n{\"recipe\":\"echo\"}\n";
    let lines = http.run("acme", "", items).await;
    let found = results(&lines);
    assert_eq!(found[&1]["code"], "OK");
    assert_eq!(
        (&found[&2]["code"], &found[&2]["error"]["quota"]),
        (&"QUOTA_EXCEEDED".into(), &"payload_bytes".into())
    );
    assert_eq!(found[&3]["code"], "BATCH_TOO_LARGE");
    // A rate, refused.
    limit(|s| {
        s.overrides.batch_items = None;
        s.policy = tollgate_broker::tenancy::Policy::Reject;
        s.overrides.requests_per_second = Some(Limit::at_most(1));
    })
    .await;
    let many = "{\"recipe\":\"echo\"}\n".repeat(970);
    let lines = http.run("acme", "", &many).await;
    let ok = results(&lines).values().filter(|r| r["code"] == "OK").count();
    // 720 s of one a second, less the 3 items before.
    assert_eq!(ok, 717, "{:?}", summary(&lines));
    assert_eq!(summary(&lines)["failed"]["RATE_LIMITED"], 253);
}

#[tokio::test]
async fn a_paced_batch_waits_and_goes_on() {
    let rig = Rig::with(|config| {
        config.tenancy.window =
            tollgate_broker::tenancy::Window::new(12, 60_000).expect("a window");
    })
    .await;
    let tenants = rig.broker.tenants();
    let slow = |s: &mut tollgate_broker::tenancy::Settings| {
        s.overrides.requests_per_second = Some(Limit::at_most(1));
    };
    tenants.update("acme", None, slow).await.expect("there is one");
    let mut open = Http::of(&rig).open("acme", "").await;
    open.line().await;
    open.send_text(&"{\"recipe\":\"echo\"}\n".repeat(1_000));
    let mut ok = 0;
    let throttled = loop {
        let line = open.line().await;
        match line.get("throttled") {
            Some(throttled) => break throttled.clone(),
            None => ok += usize::from(line["result"]["code"] == "OK"),
        }
    };
    assert_eq!(throttled["quota"], "requests_per_second");
    assert_eq!(throttled["limit"], 720);
    eventually("it waits in line", || tenants.get("acme").is_some_and(|t| t.waiting() == 1)).await;
    let raised = |s: &mut tollgate_broker::tenancy::Settings| {
        s.overrides.requests_per_second = Some(Limit::UNLIMITED);
    };
    tenants.update("acme", None, raised).await.expect("there is one");
    open.seal();
    let summary = loop {
        let line = open.line().await;
        ok += usize::from(line["result"]["code"] == "OK");
        if let Some(summary) = line.get("summary") {
            break summary.clone();
        }
    };
    assert_eq!((ok, &summary["succeeded"]), (1_000, &1_000.into()), "{summary}");
    assert!(summary["throttled_us"].as_u64() > Some(0), "{summary}");
}

#[tokio::test]
async fn a_suspended_tenants_batch_is_ended() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let mut open = Http::of(&rig).open("acme", "").await;
    open.line().await;
    open.send(&json!({"recipe": "hang", "payload": 1}));
    stage.running(1).await;
    rig.broker.tenants().suspend("acme", None).await.expect("there is one");
    let line = open.line().await;
    assert_eq!(line["error"]["code"], "FORBIDDEN", "{line}");
    rig.idle().await;
}

#[tokio::test]
async fn fail_fast_and_deadlines_end_a_batch() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let http = Http::of(&rig);
    let items = "{\"recipe\":\"echo\"}\n{\"recipe\":\"fail\"}\n{\"recipe\":\"echo\"}\n";
    let lines = http.run("acme", "?mode=fail_fast", items).await;
    assert_eq!(summary(&lines)["ended"], "fail_fast", "{lines:?}");
    let mut open = http.open("acme", "?deadline_ms=1").await;
    assert!(open.line().await.get("accepted").is_some());
    assert_eq!(open.line().await["summary"]["ended"], "deadline_exceeded");
    let lines = http.run("acme", "?deadline_ms=200", "{\"recipe\":\"hang\",\"payload\":1}\n").await;
    assert_eq!(results(&lines)[&1]["code"], "DEADLINE_EXCEEDED", "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn a_slow_reader_stops_the_reading() {
    let (rig, stage) = Rig::staged(|config| config.http.write_timeout_ms = 60_000).await;
    let mut open = Http::of(&rig).open("acme", "").await;
    // 64 results of 1 MiB each: far more than the sockets and the broker hold.
    for _ in 0..64 {
        let body = open.body.as_mut().expect("open");
        let item = Bytes::from_static(b"{\"recipe\":\"blow.counted\",\"payload\":1048576}\n");
        while body.try_send(Ok(item.clone())).is_err() {
            tokio::task::yield_now().await;
        }
    }
    stage.until("some ran", |s| !s.started.is_empty()).await;
    // What runs while nobody reads is bounded, however often others are answered meanwhile.
    for _ in 0..200 {
        Http::of(&rig).get("/health").await.ok();
    }
    let ran = stage.seen().started.len();
    assert!(ran < 40, "{ran} of 64 ran while nobody read");
    open.seal();
    let mut ok = 0;
    loop {
        let line = open.line().await;
        ok += usize::from(line["result"]["code"] == "OK");
        if line.get("summary").is_some() {
            break;
        }
    }
    assert_eq!(ok, 64);
    rig.idle().await;
}

#[tokio::test]
async fn both_doors_give_the_same_outcomes() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    stage.open(10_000);
    stage.open_pool(10_000);
    let http = Http::of(&rig);
    let client = rig.client("globex").await;
    let recipes = [
        "echo",
        "fail",
        "invalid",
        "panic",
        "quick",
        "later",
        "later.fail",
        "later.panic",
        "gate",
        "pool",
        "pool.panic",
        "small",
        "nothing",
        "steps",
    ];
    // As good as random, and the same each time.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).expect("small")
    };
    for round in 0..6 {
        let mix: Vec<_> = (0..50).map(|_| (recipes[next(recipes.len())], next(20))).collect();
        let lines: String = mix
            .iter()
            .map(|(recipe, payload)| format!("{{\"recipe\":\"{recipe}\",\"payload\":{payload}}}\n"))
            .collect();
        let query = ["", "?order=submission"][round % 2];
        let lines = http.run("acme", query, &lines).await;
        let over_http: BTreeMap<u64, (u64, Option<Value>)> = results(&lines)
            .into_iter()
            .map(|(id, r)| {
                (id, (r["status"].as_u64().expect("a status"), r.get("payload").cloned()))
            })
            .collect();
        let requests = mix.iter().map(|(r, p)| Request::new(*r, p.to_string().into_bytes()));
        let ran = client.execute(requests).await.expect("a batch");
        let over_quic: BTreeMap<u64, (u64, Option<Value>)> = ran
            .iter()
            .map(|item| {
                let payload = item.payload().and_then(|p| serde_json::from_slice(p).ok());
                (item.id, (u64::from(item.status), payload))
            })
            .collect();
        assert_eq!(over_http.len(), 50);
        let codes =
            |all: &BTreeMap<u64, (u64, Option<Value>)>| all.values().cloned().collect::<Vec<_>>();
        assert_eq!(codes(&over_http), codes(&over_quic), "{mix:?}");
        if query.contains("submission") {
            let order = lines.iter().filter_map(|l| l["result"]["id"].as_u64());
            assert!(order.is_sorted(), "in the order of the requests");
        }
    }
    rig.idle().await;
}

#[tokio::test]
async fn the_api_answers_while_quic_is_loaded() {
    // Recipes that hold the engine's only thread, one after the other without an end.
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let client = rig.client("acme").await;
    let load = tokio::spawn(async move {
        loop {
            let items = (0..2_000).map(|_| Request::new("blow", b"100000".to_vec()));
            if client.execute(items).await.is_err() {
                return;
            }
        }
    });
    let http = Http::of(&rig);
    for _ in 0..20 {
        timeout(SOON, http.get("/api/v1/tenants/acme/usage")).await.expect("in time").ok();
    }
    load.abort();
}

#[tokio::test]
async fn a_drain_lets_a_batch_finish_and_then_ends_it() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let http = Http::of(&rig);
    let mut open = http.open("acme", "").await;
    open.line().await;
    open.send(&json!({"recipe": "gate", "payload": 1}));
    let mut other = http.open("globex", "").await;
    other.line().await;
    other.send(&json!({"recipe": "hang", "payload": 2}));
    stage.running(2).await;
    let shutdown = tokio::spawn(rig.broker.shutdown(Duration::from_millis(500)));
    assert_eq!(open.line().await["notice"]["kind"], "draining");
    http.refused("acme", "").await.problem(503, "DRAINING");
    stage.open(1);
    assert_eq!(open.line().await["result"]["code"], "OK");
    open.seal();
    assert_eq!(open.line().await["summary"]["succeeded"], 1);
    assert_eq!(other.line().await["notice"]["kind"], "draining");
    assert_eq!(other.line().await["result"]["code"], "DRAINING");
    assert_eq!(other.line().await["summary"]["ended"], "draining");
    drop((open, other));
    timeout(SOON, shutdown).await.expect("it ends").expect("well");
}
