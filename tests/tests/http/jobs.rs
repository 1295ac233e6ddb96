//! Jobs over HTTP: handed over, read on from, acted on; and nobody else's.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_client::{JobFilter, JobState};
use tollgate_tests::{Rig, SOON, stage::Stage};

use super::{
    Answered, Http,
    access::{ACME, ACME_WORKER, OPERATOR, guarded},
};

const BATCH: &str = "0198c0de-0000-7000-8000-0000000000ba";
const JOBS: &str = "/api/v1/tenants/acme/jobs";
const NOBODYS: &str = "0198c0de-0000-7000-8000-000000000000";

async fn staged() -> (Rig, Stage, Http) {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let http = Http::of(&rig);
    (rig, stage, http)
}

impl Http {
    /// One durable item that nobody waits for; its job.
    async fn job(&self, recipe: &str, payload: u64) -> String {
        let item = json!({ "recipe": recipe, "payload": payload });
        let lines = self.run("acme", "?durable=1&detach=1", &item.to_string()).await;
        assert!(lines.last().expect("lines")["detached"].is_object(), "{lines:?}");
        let accepted = lines.iter().find_map(|line| line.get("job_accepted")).expect("a job");
        accepted["job_id"].as_str().expect("an id").to_owned()
    }

    /// The lines of a stream that ends.
    async fn lines(&self, path: &str) -> Vec<Value> {
        let answer = tokio::time::timeout(SOON, self.get(path)).await.expect("it ends");
        assert_eq!(answer.status, 200, "{answer:?}");
        let lines = answer.body.lines().map(|l| serde_json::from_str(l).expect("JSON"));
        lines.filter(|line: &Value| line.get("alive").is_none()).collect()
    }

    /// Waits until a job is in a state.
    async fn until(&self, job: &str, state: &str) -> Value {
        let asked = async {
            loop {
                let info = self.get(&format!("{JOBS}/{job}")).await.ok();
                if info["state"] == state {
                    return info;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, asked).await.expect("it comes to that")
    }
}

/// What a line is, and its number.
fn number(line: &Value) -> (String, u64) {
    let (kind, said) = line.as_object().and_then(|o| o.iter().next()).expect("one member");
    (kind.clone(), said["sequence"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn a_durable_batch_is_kept_told_and_read_again() {
    let (_rig, stage, http) = staged().await;
    let items = "{\"recipe\":\"echo\",\"payload\":1}\n{\"recipe\":\"gate\",\"payload\":2}\n";
    stage.open(1);
    let lines = http.run("acme", &format!("?durable=1&batch_id={BATCH}"), items).await;
    assert_eq!(lines[0]["accepted"]["batch_id"], BATCH);
    let numbered: Vec<_> = lines.iter().map(number).filter(|(_, n)| *n > 0).collect();
    assert_eq!(numbered.len(), 5, "2 accepted, 2 results, a summary: {lines:?}");
    assert_eq!(numbered.last().expect("lines").0, "summary");
    assert_eq!(lines.last().expect("lines")["summary"]["succeeded"], 2);
    // The same lines in the same order, from the beginning and from the middle.
    let events = format!("/api/v1/tenants/acme/batches/{BATCH}/events");
    let again: Vec<_> = http.lines(&events).await.iter().map(number).collect();
    let mut sorted = numbered.clone();
    sorted.sort_by_key(|(_, n)| *n);
    assert_eq!(again, sorted);
    let epoch = lines.last().expect("lines")["summary"]["epoch"].as_u64().expect("an epoch");
    let after = again[2].1;
    let rest = http.lines(&format!("{events}?after={epoch}.{after}&follow=false")).await;
    assert_eq!(rest.iter().map(number).collect::<Vec<_>>(), again[3..]);
    let lost = http.lines(&format!("{events}?after={}.{after}", epoch + 1)).await;
    assert_eq!(lost[0]["gap"]["epoch"], epoch, "{lost:?}");
    assert_eq!(lost.len(), again.len() + 1, "all that is kept");
    // Sealed: nothing more comes in.
    let request = http
        .client
        .post(format!("{}/api/v1/tenants/acme/batches?durable=1&batch_id={BATCH}", http.base));
    let request = request.header("content-type", "application/x-ndjson").body("");
    Answered::read(request.send().await.expect("an answer")).await.problem(409, "CONFLICT");
}

#[tokio::test]
async fn hanging_up_ends_no_job_and_a_durable_batch_is_gone_on_with() {
    let (rig, stage, http) = staged().await;
    let query = format!("?durable=1&batch_id={BATCH}");
    let mut open = http.open("acme", &query).await;
    open.line().await;
    open.send(&json!({"recipe": "gate", "payload": 1}));
    let accepted = open.line().await;
    let job = accepted["job_accepted"]["job_id"].as_str().expect("a job").to_owned();
    stage.running(1).await;
    let _body = open.hang_up();
    no_batch_is_open(&rig).await;
    http.until(&job, "running").await;
    stage.open(1);
    http.until(&job, "succeeded").await;
    // What it has is answered from its record, and the rest follows.
    let items = "{\"recipe\":\"gate\",\"payload\":1}\n{\"recipe\":\"echo\",\"payload\":2}\n";
    let lines = http.run("acme", &query, items).await;
    assert_eq!(lines[0]["accepted"]["last_id"], 1);
    let first = lines.iter().find_map(|line| line.get("job_accepted")).expect("a job");
    assert_eq!((&first["job_id"], &first["existing"]), (&json!(job), &json!(true)), "{lines:?}");
    assert_eq!(lines.last().expect("lines")["summary"]["succeeded"], 2, "{lines:?}");
    // Of a batch that is not durable, what is a job goes on all the same.
    let mut open = http.open("acme", "").await;
    open.line().await;
    open.send(&json!({"recipe": "gate", "payload": 3, "idempotency_key": "k"}));
    let accepted = open.line().await;
    let job = accepted["job_accepted"]["job_id"].as_str().expect("a job").to_owned();
    let _body = open.hang_up();
    no_batch_is_open(&rig).await;
    stage.open(1);
    http.until(&job, "succeeded").await;
    // The same key names the same job, and its result.
    let item = json!({"recipe": "gate", "payload": 3, "idempotency_key": "k"}).to_string();
    let lines = http.run("acme", "", &item).await;
    assert_eq!(lines[1]["job_accepted"]["job_id"], *job, "{lines:?}");
    assert_eq!(lines[2]["result"]["payload"], 3, "{lines:?}");
}

/// Waits until no batch is open.
async fn no_batch_is_open(rig: &Rig) {
    tollgate_tests::eventually("no batch is open", || {
        let page = rig.broker.metrics(tollgate_broker::MetricsFormat::Text);
        page.lines().any(|line| line == "tollgate_batches_in_flight 0")
    })
    .await;
}

#[tokio::test]
async fn a_job_is_shown_followed_cancelled_replayed_and_purged() {
    let (rig, stage, http) = staged().await;
    let job = http.job("gate", 1).await;
    stage.running(1).await;
    let path = format!("{JOBS}/{job}");
    let info = http.until(&job, "running").await;
    assert_eq!((&info["recipe"], &info["attempts"]), (&json!("gate"), &json!(1)), "{info}");
    let early = http.get(&format!("{path}/result")).await.problem(409, "CONFLICT");
    assert_eq!(early["details"]["state"], "running");
    http.send(Method::DELETE, &path, None).await.problem(409, "CONFLICT");
    http.send(Method::POST, &format!("{path}/replay"), None).await.problem(409, "CONFLICT");
    let pending = http.send(Method::POST, &format!("{path}/cancel?scope=pending"), None).await;
    pending.problem(409, "CONFLICT");
    // Whoever follows it sees its end.
    let events = format!("{path}/events");
    let followed = async { http.lines(&events).await };
    let cancelled = async {
        let cancel = format!("{path}/cancel");
        assert_eq!(http.send(Method::POST, &cancel, None).await.ok()["state"], "cancelled");
    };
    let (lines, ()) = tokio::join!(followed, cancelled);
    assert_eq!(lines.last().expect("lines")["result"]["code"], "CANCELLED", "{lines:?}");
    let result = http.get(&format!("{path}/result")).await.ok();
    assert_eq!((&result["code"], &result["status"]), (&json!("CANCELLED"), &json!(499)));
    stage.until("it was stopped", |seen| seen.running == 0).await;
    let replayed = http.send(Method::POST, &format!("{path}/replay"), None).await.ok();
    assert!(replayed["state"] == "queued" || replayed["state"] == "running", "{replayed}");
    stage.open(1);
    http.until(&job, "succeeded").await;
    assert_eq!(http.get(&format!("{path}/result")).await.ok()["payload"], 1);
    assert_eq!(http.send(Method::DELETE, &path, None).await.status, 204);
    http.get(&path).await.problem(404, "NOT_FOUND");
    let client = rig.client("acme").await;
    assert!(client.jobs().list(&JobFilter::new()).await.expect("a list").is_empty());
}

#[tokio::test]
async fn jobs_are_listed_counted_and_acted_on_by_filter() {
    let (rig, stage, http) = staged().await;
    for n in 0..4 {
        http.job("echo", n).await;
    }
    let hangs = http.job("hang", 9).await;
    stage.running(1).await;
    http.until(&hangs, "running").await;
    let client = rig.client("acme").await;
    let over = JobFilter::new().state(JobState::Succeeded);
    let all_over = async {
        while client.jobs().list(&over).await.expect("a list").len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, all_over).await.expect("they end");
    let stats = http.get(&format!("{JOBS}/stats")).await.ok();
    assert_eq!((&stats["succeeded"], &stats["running"]), (&json!(4), &json!(1)), "{stats}");
    let mut path = format!("{JOBS}?recipe=echo&limit=3");
    let mut found = Vec::new();
    loop {
        let page = http.get(&path).await.ok();
        found.extend(page["items"].as_array().expect("items").clone());
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("{JOBS}?recipe=echo&limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found.len(), 4);
    let count = async |query: &str| {
        let page = http.get(&format!("{JOBS}?{query}")).await.ok();
        page["items"].as_array().expect("items").len()
    };
    assert_eq!(count("state=succeeded,running").await, 5);
    assert_eq!(count("state=succeeded&state=running").await, 5);
    assert_eq!(count("state=dead").await, 0);
    for (query, field) in [
        ("state=odd", "state"),
        ("batch=7", "batch"),
        ("recipe=", "recipe"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("status=dead", "status"),
    ] {
        http.get(&format!("{JOBS}?{query}")).await.wrong(field);
    }
    for body in [json!({}), json!({"all": false}), json!({"all": true, "recipe": "echo"})] {
        http.post(&format!("{JOBS}/purge"), body).await.wrong("all");
    }
    http.post(&format!("{JOBS}/purge"), json!({"state": ["odd"]})).await.wrong("state[0]");
    let done = async |what: &str, body: Value| {
        http.post(&format!("{JOBS}/{what}"), body).await.ok()["count"].as_u64().expect("a count")
    };
    assert_eq!(done("cancel", json!({"all": true, "scope": "pending"})).await, 0);
    assert_eq!(done("cancel", json!({"recipe": "hang"})).await, 1);
    assert_eq!(done("purge", json!({"state": ["succeeded"]})).await, 4);
    assert_eq!(done("purge", json!({"all": true})).await, 1);
    assert_eq!(count("").await, 0);
}

#[tokio::test]
async fn readers_are_bounded_and_give_their_place_back() {
    let (rig, stage) = Rig::staged(|config| config.http.job_streams_max = 1).await;
    let http = Http::of(&rig);
    let job = http.job("gate", 1).await;
    stage.running(1).await;
    let events = format!("{JOBS}/{job}/events");
    let open = http.client.get(format!("{}{events}", http.base)).send().await.expect("an answer");
    assert_eq!(open.status(), 200);
    let refused = http.get(&events).await.problem(503, "OVERLOADED");
    assert_eq!(refused["details"]["config_key"], "http.job_streams_max");
    drop(open);
    let again = async {
        loop {
            let answer = http.get(&format!("{events}?follow=false")).await;
            if answer.status == 200 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, again).await.expect("its place is given back");
    for (query, field) in [("after=7", "after"), ("follow=maybe", "follow"), ("form=1", "form")] {
        http.get(&format!("{events}?{query}")).await.wrong(field);
    }
}

/// Every operation on jobs, on one of a tenant's.
fn operations(tenant: &str, job: &str, batch: &str) -> Vec<(Method, String, Option<Value>)> {
    let jobs = format!("/api/v1/tenants/{tenant}/jobs");
    let none = json!({"state": ["dead"]});
    vec![
        (Method::GET, jobs.clone(), None),
        (Method::GET, format!("{jobs}/stats"), None),
        (Method::GET, format!("{jobs}/{job}"), None),
        (Method::GET, format!("{jobs}/{job}/result"), None),
        (Method::GET, format!("{jobs}/{job}/events?follow=false"), None),
        (Method::GET, format!("/api/v1/tenants/{tenant}/batches/{batch}/events"), None),
        (Method::POST, format!("{jobs}/{job}/replay"), None),
        (Method::POST, format!("{jobs}/{job}/cancel"), None),
        (Method::POST, format!("{jobs}/cancel"), Some(none.clone())),
        (Method::POST, format!("{jobs}/replay"), Some(none.clone())),
        (Method::POST, format!("{jobs}/purge"), Some(none)),
        (Method::DELETE, format!("{jobs}/{job}"), None),
    ]
}

#[tokio::test]
async fn whose_jobs_may_be_asked_for_by_whom() {
    let rig = guarded().await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("echo", "x").await.expect("accepted");
    assert!(job.result_within(SOON).await.expect("over").is_success());
    let (own, batch) =
        (job.id().to_string(), job.info().await.expect("there").batch_id.to_string());
    let (acme, operator) = (Http::of(&rig).token(ACME), Http::of(&rig).token(OPERATOR));
    let ask = async |who: &Http, (method, path, body): (Method, String, Option<Value>)| {
        who.send(method, &path, body).await.status
    };
    // Another tenant's, and one that does not exist, whoever's: as one that never was.
    for (tenant, id) in [("globex", &*own), ("nobody", &*own), ("acme", NOBODYS), ("acme", "x")] {
        for operation in operations(tenant, id, NOBODYS) {
            let path = operation.1.clone();
            let named = path.contains(id) || path.contains(NOBODYS);
            let expected = if tenant == "acme" && !named { 200 } else { 404 };
            assert_eq!(ask(&acme, operation).await, expected, "{path}");
        }
    }
    for operation in operations("globex", &own, &batch) {
        let path = operation.1.clone();
        let named = path.contains(&own) || path.contains(&batch);
        let expected = if named { 404 } else { 200 };
        assert_eq!(ask(&operator, operation).await, expected, "an operator: {path}");
    }
    let worker = Http::of(&rig).token(ACME_WORKER);
    for operation in operations("acme", &own, &batch) {
        assert_eq!(ask(&worker, operation).await, 403);
    }
    for operation in operations("acme", &own, &batch) {
        assert_eq!(ask(&Http::of(&rig), operation).await, 401);
    }
    // Its own, but for what can not be done to a job that succeeded.
    for operation in operations("acme", &own, &batch) {
        let (method, path) = (operation.0.clone(), operation.1.clone());
        let expected = match (method == Method::DELETE, path.contains(&own)) {
            (true, _) => 204,
            (false, true) if path.ends_with("/replay") || path.ends_with("/cancel") => 409,
            _ => 200,
        };
        assert_eq!(ask(&acme, operation).await, expected, "{method} {path}");
    }
}
