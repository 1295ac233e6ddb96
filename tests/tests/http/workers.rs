//! Workers and their recipes as operators and tenants see them: real ones, over QUIC.

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;
use tollgate_client::{BatchResult, Client, Request};
use tollgate_protocol::work::RecipeSpec;
use tollgate_tests::{Rig, eventually};

use super::{Http, access};

/// The one recipe of a name on a list.
#[track_caller]
fn recipe(list: &Value, name: &str) -> Value {
    let items = list["items"].as_array().expect("a list");
    let found: Vec<_> = items.iter().filter(|r| r["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name}: {list}");
    found[0].clone()
}

/// Runs items in a batch of their own.
fn run(client: &Client, recipe: &'static str, items: usize) -> JoinHandle<BatchResult> {
    let client = client.clone();
    tokio::spawn(async move {
        let requests = (0..items).map(|_| Request::new(recipe, "x"));
        client.execute(requests).await.expect("a batch")
    })
}

/// The ids of the workers on a list.
fn ids(list: &Value) -> Vec<u64> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|w| w["id"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_worker_is_listed_with_what_it_has_and_did() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let nobody = http.get("/api/v1/workers").await.ok();
    assert_eq!((&nobody["items"], &nobody["total"]["workers"]), (&Value::Array(vec![]), &0.into()));
    let mut worker = rig.serving(3, &["upper", "lower"]).await;
    let client = rig.client("acme").await;
    let five = run(&client, "upper", 5);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(worker.call().await.lease);
    }
    // Two more wait for its credit.
    eventually("two items wait", || {
        rig.broker.metrics(tollgate_broker::MetricsFormat::Text).contains("{served=\"yes\"} 2")
    })
    .await;
    let list = http.get("/api/v1/workers").await.ok();
    let w = &list["items"][0];
    assert_eq!(w["identity"], "spiffe://tollgate.local/worker/w", "{list}");
    assert_eq!(
        (&w["tenant"], &w["recipes"]),
        (&Value::Null, &serde_json::json!(["upper", "lower"]))
    );
    assert_eq!((&w["credit"], &w["leased"]), (&3.into(), &3.into()), "{list}");
    assert_eq!((&w["answered"], &w["failed"]), (&0.into(), &0.into()), "{list}");
    assert_eq!(w["draining"], false, "{list}");
    assert!(w["connected_at"].as_str().is_some_and(|t| t.ends_with('Z')), "{list}");
    let total = serde_json::json!(
        {"workers": 1, "credit": 3, "leased": 3, "waiting": 2, "waiting_unserved": 0}
    );
    assert_eq!(list["total"], total);
    let recipes = http.get("/api/v1/recipes").await.ok();
    let waiting = |name| recipe(&recipes, name)["waiting"].clone();
    assert_eq!(
        (waiting("upper"), waiting("lower")),
        (2.into(), 0.into()),
        "of one line, each its own"
    );
    // Its connection is the one it says, and has its role.
    let connections = http.get("/api/v1/connections").await.ok();
    let its = connections["items"].as_array().expect("a list").iter();
    let its: Vec<_> = its.filter(|c| c["id"] == w["connection"]).collect();
    assert_eq!(its.len(), 1, "{connections}");
    assert_eq!((&its[0]["role"], &its[0]["address"]), (&"platform-worker".into(), &w["address"]));

    worker.fail(calls[0], tollgate_protocol::Code::NotFound, "gone").await;
    worker.answer(calls[1], b"X").await;
    worker.answer(calls[2], b"X").await;
    worker.echo(2).await;
    let outcome = five.await.expect("a batch");
    assert_eq!(outcome.successes().count(), 4);
    let list = http.get("/api/v1/workers").await.ok();
    let w = &list["items"][0];
    assert_eq!((&w["answered"], &w["failed"], &w["leased"]), (&4.into(), &1.into(), &0.into()));
    drop(worker);
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
}

#[tokio::test]
async fn workers_are_listed_by_tenant_by_recipe_and_in_pages() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let mut held = Vec::new();
    for (tenant, name) in [(None, "a"), (Some("acme"), "b"), (Some("globex"), "b"), (None, "c")] {
        let mut worker = rig.worker(tenant, 1).await;
        worker.register(RecipeSpec::new(name)).await;
        held.push(worker);
    }
    let all = http.get("/api/v1/workers").await.ok();
    let all_ids = ids(&all);
    assert!(all_ids.len() == 4 && all_ids.is_sorted(), "{all}");
    for (query, expected) in [
        ("tenant=acme", vec![all_ids[1]]),
        ("tenant=nobody", vec![]),
        ("recipe=b", vec![all_ids[1], all_ids[2]]),
        ("recipe=b&tenant=globex", vec![all_ids[2]]),
        ("recipe=a&tenant=globex", vec![]),
    ] {
        let list = http.get(&format!("/api/v1/workers?{query}")).await.ok();
        assert_eq!(ids(&list), expected, "{query}: {list}");
        assert_eq!(list["total"]["workers"], 4, "whatever the filters");
    }
    let acme = http.get("/api/v1/workers?tenant=acme").await.ok();
    assert_eq!(acme["items"][0]["tenant"], "acme");
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("/api/v1/workers?limit=3{cursor}")).await.ok();
        paged.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all_ids);
    http.get("/api/v1/workers?limit=0").await.wrong("limit");
    http.get("/api/v1/workers?kind=x").await.wrong("kind");
    let recipes = http.get("/api/v1/recipes?limit=1").await.ok();
    let foreign = recipes["next_cursor"].as_str().expect("another page");
    http.get(&format!("/api/v1/workers?cursor={foreign}")).await.wrong("cursor");
    drop(held);
}

#[tokio::test]
async fn recipes_of_workers_are_listed_to_whom_they_serve() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let mut platform = rig.serving(1, &["upper"]).await;
    let mut own = rig.worker(Some("acme"), 1).await;
    own.register(RecipeSpec::new("invoice")).await;
    // In the place of the built-in one, for its tenant.
    own.register(RecipeSpec::new("echo")).await;
    let everyones = http.get("/api/v1/recipes").await.ok();
    let upper = recipe(&everyones, "upper");
    assert_eq!((&upper["kind"], &upper["workers"]), (&"worker".into(), &1.into()));
    assert_eq!((&upper["waiting"], &upper["mean_duration_us"]), (&0.into(), &Value::Null));
    let echo = recipe(&everyones, "echo");
    assert_eq!((&echo["kind"], &echo["workers"]), (&"embedded".into(), &Value::Null));
    assert!(!everyones.to_string().contains("invoice"), "{everyones}");
    let acmes = http.get("/api/v1/recipes?tenant=acme").await.ok();
    assert_eq!(recipe(&acmes, "invoice")["workers"], 1);
    assert_eq!(recipe(&acmes, "echo")["kind"], "worker");
    let globexs = http.get("/api/v1/recipes?tenant=globex").await.ok();
    assert_eq!(recipe(&globexs, "echo")["kind"], "embedded");
    http.get("/api/v1/recipes?tenant=nobody").await.problem(404, "NOT_FOUND");

    let client = rig.client("acme").await;
    let describe = client.describe().recipes().await.expect("recipes");
    let workers = |name: &str| {
        describe.iter().find(|r| &*r.name == name).map(|r| (r.kind, r.workers)).expect("listed")
    };
    use tollgate_client::RecipeKind::{Embedded, Worker};
    assert_eq!((workers("invoice"), workers("sha256")), ((Worker, Some(1)), (Embedded, None)));

    let one = run(&client, "upper", 1);
    platform.echo(1).await;
    assert!(one.await.expect("a batch").into_result().is_ok());
    let upper = recipe(&http.get("/api/v1/recipes").await.ok(), "upper");
    assert!(upper["mean_duration_us"].is_u64(), "{upper}");
    // It stays known, and what waits for it is shown to be its tenant's.
    drop(platform);
    let shows = |row: &str| rig.broker.metrics(tollgate_broker::MetricsFormat::Text).contains(row);
    eventually("it is gone", || rig.broker.workers().len() == 1).await;
    let waits = run(&client, "upper", 1);
    eventually("it waits", || shows("tollgate_worker_queue_items{served=\"no\"} 1")).await;
    for (query, waiting) in [("", 1), ("?tenant=acme", 1), ("?tenant=globex", 0)] {
        let upper = recipe(&http.get(&format!("/api/v1/recipes{query}")).await.ok(), "upper");
        assert_eq!((&upper["workers"], &upper["waiting"]), (&0.into(), &waiting.into()), "{query}");
    }
    assert_eq!(http.get("/api/v1/workers").await.ok()["total"]["waiting_unserved"], 1);
    let mut again = rig.serving(1, &["upper"]).await;
    again.echo(1).await;
    assert_eq!(waits.await.expect("a batch").successes().count(), 1);
}

#[tokio::test]
async fn a_tenant_sees_its_recipes_and_nobodys_workers() {
    let rig = access::guarded().await;
    let operator = Http::of(&rig).token(access::OPERATOR);
    let (acme, worker) =
        (Http::of(&rig).token(access::ACME), Http::of(&rig).token(access::ACME_WORKER));
    let mut upper = rig.serving(1, &["upper"]).await;
    let mut own = rig.worker(Some("acme"), 1).await;
    own.register(RecipeSpec::new("invoice")).await;
    let mut foreign = rig.worker(Some("globex"), 1).await;
    foreign.register(RecipeSpec::new("secret")).await;
    Http::of(&rig).get("/api/v1/workers").await.problem(401, "UNAUTHORIZED");
    for tenant in [&acme, &worker] {
        tenant.get("/api/v1/workers").await.problem(403, "FORBIDDEN");
        tenant.get("/api/v1/workers?tenant=acme").await.problem(403, "FORBIDDEN");
        let list = tenant.get("/api/v1/recipes").await.ok();
        assert_eq!(recipe(&list, "invoice")["workers"], 1);
        assert!(!list.to_string().contains("secret"), "{list}");
        assert_eq!(tenant.get("/api/v1/recipes?tenant=acme").await.ok(), list);
        for other in ["globex", "nobody"] {
            let asked = format!("/api/v1/recipes?tenant={other}");
            tenant.get(&asked).await.problem(404, "NOT_FOUND");
        }
    }
    assert_eq!(operator.get("/api/v1/workers").await.ok()["total"]["workers"], 3);
    // How long another's calls run is not a tenant's to know.
    let client = rig.client("globex").await;
    let one = run(&client, "upper", 1);
    upper.echo(1).await;
    assert!(one.await.expect("a batch").into_result().is_ok());
    let told = recipe(&operator.get("/api/v1/recipes").await.ok(), "upper");
    assert!(told["mean_duration_us"].is_u64(), "{told}");
    let told = recipe(&acme.get("/api/v1/recipes").await.ok(), "upper");
    assert!(told["mean_duration_us"].is_null(), "{told}");
}

#[tokio::test]
async fn a_recipe_that_nobody_serves_is_forgotten_when_asked() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let forget = async |query: &str| {
        http.send(Method::DELETE, &format!("/api/v1/recipes/sha256{query}"), None).await
    };
    assert_eq!(forget("").await.status, 404, "the broker's own");
    assert_eq!(forget("?tenant=nobody").await.status, 404);
    let mut worker = rig.worker(Some("acme"), 1).await;
    let mut spec = RecipeSpec::new("sha256");
    spec.queue_timeout_ms = Some(100);
    worker.register(spec).await;
    let served = forget("?tenant=acme").await;
    assert_eq!(served.status, 409);
    assert!(served.body.contains("drain them first"), "{}", served.body);
    drop(worker);
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
    let listed = recipe(&http.get("/api/v1/recipes?tenant=acme").await.ok(), "sha256");
    assert_eq!((&listed["owner"], &listed["workers"]), (&"tenant".into(), &0.into()));
    let client = rig.client("acme").await;
    let waits = client.call_bytes("sha256", "x").await.expect_err("nobody serves it");
    assert_eq!(waits.code(), Some(tollgate_protocol::Code::NoWorker));
    assert_eq!(forget("").await.status, 404, "it is not the platform's");
    assert_eq!(forget("?tenant=acme").await.status, 204);
    assert_eq!(forget("?tenant=acme").await.status, 404);
    client.call_bytes("sha256", "x").await.expect("the broker's own runs again");
}
