//! Whose a recipe's name is, and who may serve or name it.

use tollgate_protocol::{
    ClientFrame, Code, WorkerFrame,
    describe::{Encoding, RecipeKind},
    work::{RecipeSpec, WorkOpen},
};
use tollgate_tests::{
    Rig, eventually,
    raw::{Raw, Told},
    worker::Said,
};

async fn one(raw: &Raw, recipe: &str) -> Vec<String> {
    let mut batch = raw.batch().await;
    batch.request(1, recipe, b"x").await;
    batch.seal(1).await;
    batch.transcript().await
}

#[tokio::test]
async fn a_tenants_worker_serves_that_tenant_alone() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(Some("acme"), 4).await;
    worker.register(RecipeSpec::new("own")).await;
    let (acme, globex) = (rig.raw("acme").await, rig.raw("globex").await);
    assert_eq!(one(&globex, "own").await[1], "result 1 RECIPE_NOT_FOUND");
    let asks = tokio::spawn(async move { one(&acme, "own").await });
    let call = worker.call().await;
    assert_eq!(call.tenant, "acme");
    worker.answer(call.lease, b"y").await;
    assert_eq!(asks.await.expect("no panic")[1], "result 1 OK y");
}

#[tokio::test]
async fn a_tenants_own_recipe_comes_first_then_the_platforms_then_the_brokers() {
    let rig = Rig::start().await;
    let acme = rig.raw("acme").await;
    assert_eq!(one(&acme, "echo").await[1], "result 1 OK x", "embedded");
    let mut platform = rig.worker(None, 4).await;
    platform.register(RecipeSpec::new("echo")).await;
    let mut own = rig.worker(Some("acme"), 4).await;
    own.register(RecipeSpec::new("echo")).await;
    for (tenant, worker) in [("acme", &mut own), ("globex", &mut platform)] {
        let raw = rig.raw(tenant).await;
        let asks = tokio::spawn(async move { one(&raw, "echo").await });
        let call = worker.call().await;
        assert_eq!(call.tenant, tenant);
        worker.answer(call.lease, b"w").await;
        assert_eq!(asks.await.expect("no panic")[1], "result 1 OK w");
    }
}

#[tokio::test]
async fn a_batch_that_is_open_sees_a_recipe_that_came_later() {
    let rig = Rig::start().await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "late", b"x").await;
    batch.until("result 1 RECIPE_NOT_FOUND").await;
    let mut worker = rig.serving(1, &["late"]).await;
    batch.request(2, "late", b"x").await;
    worker.echo(1).await;
    batch.until("result 2 OK x").await;
}

#[tokio::test]
async fn another_spec_for_a_served_name_is_a_conflict_until_its_workers_are_gone() {
    let rig = Rig::start().await;
    let first = rig.serving(1, &["w"]).await;
    let mut same = rig.serving(1, &["w"]).await;
    let mut other = rig.worker(None, 1).await;
    let changed = || {
        let mut spec = RecipeSpec::new("w");
        spec.idempotent = true;
        spec
    };
    other.say(&WorkerFrame::Register(changed())).await;
    let told = other.error().await;
    assert_eq!((told.code(), told.detail("recipe")), (Some(Code::Conflict), "w"));
    drop(first);
    same.say(&WorkerFrame::Drain).await;
    assert_eq!(same.next().await, Said::End);
    eventually("both are gone", || rig.broker.workers().is_empty()).await;
    let mut other = rig.worker(None, 1).await;
    other.register(changed()).await;
    let client = rig.client("acme").await;
    let recipes = client.recipes().await.expect("a list");
    let w = recipes.iter().find(|r| &*r.name == "w").expect("known");
    assert!(w.idempotent && w.kind == RecipeKind::Worker);
}

#[tokio::test]
async fn a_recipe_that_is_out_of_order_is_refused_with_what_is_wrong() {
    let rig = Rig::start().await;
    let with = |change: fn(&mut RecipeSpec<'static>)| {
        let mut spec = RecipeSpec::new("w");
        change(&mut spec);
        spec
    };
    let cases = [
        (with(|s| s.name = "No Such Name"), "recipe"),
        (with(|s| s.timeout_ms = Some(0)), "timeout"),
        (with(|s| s.attempts_max = 0), "attempts"),
        (with(|s| s.retry_factor_percent = 50), "factor"),
        (with(|s| s.result_bytes_max = Some(1 << 40)), "result_bytes_max"),
        (with(|s| s.schema = Some("{}")), "Json"),
        (
            with(|s| {
                s.encoding = Encoding::Json;
                s.schema = Some("{");
            }),
            "not JSON",
        ),
        (
            with(|s| {
                s.encoding = Encoding::Json;
                s.schema = Some(r#"{"type": "none such"}"#);
            }),
            "schema",
        ),
    ];
    for (spec, word) in cases {
        let mut worker = rig.worker(None, 1).await;
        worker.say(&WorkerFrame::Register(spec)).await;
        let told = worker.error().await;
        assert_eq!(told.code(), Some(Code::ValidationError), "{word}: {told:?}");
        assert!(told.message.contains(word), "{word}: {told:?}");
    }
    let mut twice = rig.serving(1, &["w"]).await;
    twice.say(&WorkerFrame::Register(RecipeSpec::new("w"))).await;
    assert_eq!(twice.error().await.code(), Some(Code::Conflict));
}

#[tokio::test]
async fn only_workers_serve_and_workers_only_serve() {
    let rig = Rig::start().await;
    let client = rig.raw("acme").await;
    let mut work = client.stream().await;
    work.frame(&ClientFrame::Work(WorkOpen::new(1))).await;
    let mut work = tollgate_tests::worker::RawWorker { raw: rig.raw("acme").await, stream: work };
    assert_eq!(work.error().await.code(), Some(Code::Forbidden));
    for tenant in [Some("acme"), None] {
        let worker = rig.worker(tenant, 1).await;
        let mut batch = worker.raw.batch().await;
        let told = batch.failures().await;
        assert_eq!(told[0].code(), Some(Code::Forbidden), "{tenant:?}");
    }
    // A foreign stream of work, and one that is none.
    for work in [0, 4, 8, u64::from(u32::MAX)] {
        let mut fetch = client.stream().await;
        fetch.frame(&ClientFrame::Fetch(tollgate_protocol::work::Fetch { work, lease: 1 })).await;
        assert!(fetch.failures().await.is_empty(), "refused without a word");
    }
    assert!(client.serves().await);
}

#[tokio::test]
async fn a_tenants_workers_are_its_consumers() {
    let rig = Rig::start().await;
    let mut quotas = tollgate_tests::roomy();
    quotas.consumers = tollgate_broker::tenancy::Limit::at_most(2);
    let set = |s: &mut tollgate_broker::tenancy::Settings| {
        s.overrides.consumers = Some(quotas.consumers);
    };
    rig.broker.tenants().update("acme", None, set).await.expect("there is one");
    let first = rig.worker(Some("acme"), 1).await;
    let _second = rig.worker(Some("acme"), 1).await;
    eventually("two work", || rig.broker.workers().len() == 2).await;
    let mut third = rig.worker(Some("acme"), 1).await;
    let told: Told = third.error().await;
    assert_eq!(told.code(), Some(Code::QuotaExceeded));
    let quota = told.quota.expect("a quota");
    assert_eq!((quota.0.as_str(), quota.2, quota.3), ("consumers", 2, 2));
    drop(first);
    eventually("one left", || rig.broker.workers().len() == 1).await;
    let mut fourth = rig.worker(Some("acme"), 1).await;
    fourth.register(RecipeSpec::new("own")).await;
}

#[tokio::test]
async fn a_suspended_tenants_workers_are_sent_away() {
    let rig = Rig::start().await;
    let worker = rig.worker(Some("acme"), 1).await;
    eventually("it works", || rig.broker.workers().len() == 1).await;
    rig.broker.tenants().suspend("acme", None).await.expect("suspended");
    let code = worker.raw.closed().await;
    assert_eq!(code, Some(tollgate_protocol::close::CloseCode::TenantSuspended.number().into()));
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
}

#[tokio::test]
async fn a_recipe_stays_known_over_a_restart() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = RecipeSpec::new("kept");
    spec.queue_timeout_ms = Some(20_000);
    worker.register(spec).await;
    let mut own = rig.worker(Some("acme"), 1).await;
    own.register(RecipeSpec::new("own")).await;
    let rig = rig.restart(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "kept", b"x").await;
    eventually("it waits for a worker", || rig.broker.counters().worker_queue == 1).await;
    let mut worker = rig.worker(None, 1).await;
    worker.register(spec).await;
    worker.echo(1).await;
    batch.until("result 1 OK x").await;
    let known = |tenant| {
        let rig = &rig;
        async move {
            let recipes = rig.client(tenant).await.recipes().await.expect("a list");
            recipes
                .iter()
                .filter(|r| r.kind == RecipeKind::Worker)
                .map(|r| r.name.to_string())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(known("acme").await, ["kept", "own"]);
    assert_eq!(known("globex").await, ["kept"], "a tenant's own is its own");
}

#[tokio::test]
async fn a_tenants_schema_must_not_cost_without_bound() {
    let rig = Rig::start().await;
    let (many, long) = (
        r##"{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"}]},"b":true}}"##,
        format!(r#"{{"description":"{}"}}"#, "x".repeat(4_096)),
    );
    let refused = [
        (many, "$ref"),
        (r#"{"allOf":[{"pattern":"^(a|b)$"}]}"#, "pattern"),
        (r#"{"properties":{"a":{"patternProperties":{"x":true}}}}"#, "patternProperties"),
        (r#"{"items":{"uniqueItems":true}}"#, "uniqueItems"),
        (long.as_str(), "4096"),
    ];
    let spec = |schema| RecipeSpec {
        encoding: Encoding::Json,
        schema: Some(schema),
        ..RecipeSpec::new("own")
    };
    for (schema, word) in refused {
        let mut worker = rig.worker(Some("acme"), 1).await;
        worker.say(&WorkerFrame::Register(spec(schema))).await;
        let told = worker.error().await;
        assert_eq!(told.code(), Some(Code::ValidationError), "{word}: {told:?}");
        assert!(told.message.contains(word), "{word}: {told:?}");
        // The operator's own may.
        let mut platform = rig.worker(None, 1).await;
        platform.register(spec(schema)).await;
        drop(platform);
        eventually("it is gone", || rig.broker.workers().is_empty()).await;
    }
    let mut worker = rig.worker(Some("acme"), 1).await;
    worker
        .register(spec(r#"{"properties":{"pattern":{"type":"string"}},"enum":[{"$ref":1}]}"#))
        .await;
}

#[tokio::test]
async fn the_bounds_of_a_tenants_recipes_hold_exactly() {
    let rig = Rig::with(|c| c.workers.recipes_per_tenant_max = 2).await;
    let mut worker = rig.worker(Some("acme"), 1).await;
    // A schema of just as many bytes as it may have.
    let schema = format!(r#"{{"description":"{}"}}"#, "x".repeat(4_096 - 18));
    assert_eq!(schema.len(), 4_096);
    let spec =
        RecipeSpec { encoding: Encoding::Json, schema: Some(&schema), ..RecipeSpec::new("first") };
    worker.register(spec).await;
    worker.register(RecipeSpec::new("second")).await;
    worker.say(&WorkerFrame::Register(RecipeSpec::new("third"))).await;
    let told = worker.error().await;
    assert_eq!((told.code(), told.detail("limit")), (Some(Code::QuotaExceeded), "2"));
    assert_eq!(told.detail("config_key"), "workers.recipes_per_tenant_max");
    let mut other = rig.worker(Some("globex"), 1).await;
    other.register(RecipeSpec::new("third")).await;
}

#[tokio::test]
async fn a_stream_has_256_recipes_and_not_one_more() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let names: Vec<String> = (0..257).map(|n| format!("r{n}")).collect();
    for (n, name) in (0..).zip(&names[..256]) {
        assert_eq!(worker.register(RecipeSpec::new(name)).await, n);
    }
    worker.say(&WorkerFrame::Register(RecipeSpec::new(&names[256]))).await;
    let told = worker.error().await;
    assert_eq!((told.code(), told.detail("limit")), (Some(Code::QuotaExceeded), "256"));
}
