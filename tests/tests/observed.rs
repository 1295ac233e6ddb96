//! What an operator sees of what clients did: metrics and statistics, over real QUIC.

use std::collections::BTreeMap;

use bytes::Bytes;
use tollgate_broker::{
    MetricsFormat,
    tenancy::{Limit, Settings},
};
use tollgate_client::Request;
use tollgate_protocol::{Code, work::RecipeSpec};
use tollgate_tests::{Rig, eventually, process::Served, settings};

/// The value of a row of the page, if it is there.
fn value(page: &str, row: &str) -> Option<f64> {
    let line = page.lines().find_map(|l| l.strip_prefix(row)?.strip_prefix(' '))?;
    line.parse().ok()
}

fn page(rig: &Rig) -> String {
    rig.broker.metrics(MetricsFormat::Text)
}

async fn shows(rig: &Rig, row: &str, expected: f64) {
    eventually(&format!("{row} is {expected}"), || value(&page(rig), row) == Some(expected)).await;
}

#[tokio::test]
async fn every_item_is_counted_once_and_where_it_belongs() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let items = (0..10).map(|_| Request::new("echo", "hello"));
    let mixed = items.chain([
        Request::new("fail", Bytes::new()),
        Request::new("no-such-recipe", Bytes::new()),
        Request::new("panic", Bytes::new()),
    ]);
    let outcome = client.execute(mixed).await.expect("a batch");
    assert_eq!(outcome.successes().count(), 10);

    let stats = rig.broker.tenants().get("acme").expect("the tenant").stats();
    assert_eq!((stats.items_succeeded, stats.items_failed), (10, 3));
    let failures = [("PANIC", 1), ("RECIPE_EXECUTION", 1), ("RECIPE_NOT_FOUND", 1)];
    assert_eq!(stats.failures, BTreeMap::from(failures));
    assert_eq!((stats.bytes_in, stats.bytes_out), (50, 50));
    // What was never started has no latency.
    assert_eq!(stats.latency_us.count, 12);
    assert!(stats.latency_us.p50 <= stats.latency_us.max);
    let idle = rig.broker.tenants().get("globex").expect("the tenant").stats();
    assert_eq!((idle.items_succeeded, idle.items_failed, idle.latency_us.count), (0, 0, 0));
    assert_eq!(rig.broker.tenants().stats(), stats, "there is no other tenant's");

    shows(&rig, "tollgate_items_started_total{recipe=\"echo\"}", 10.0).await;
    let page = page(&rig);
    for (row, expected) in [
        ("tollgate_items_succeeded_total{recipe=\"echo\"}", 10.0),
        ("tollgate_items_failed_total{recipe=\"panic\",code=\"PANIC\"}", 1.0),
        ("tollgate_items_failed_total{recipe=\"(none)\",code=\"RECIPE_NOT_FOUND\"}", 1.0),
        ("tollgate_item_duration_seconds_count{recipe=\"echo\"}", 10.0),
        ("tollgate_item_queue_seconds_count{recipe=\"echo\"}", 10.0),
        ("tollgate_batches_opened_total", 1.0),
        ("tollgate_batches_ended_total{how=\"sealed\"}", 1.0),
        ("tollgate_batches_in_flight", 0.0),
        ("tollgate_tenant_items_total{tenant=\"acme\",outcome=\"succeeded\"}", 10.0),
        ("tollgate_tenant_items_total{tenant=\"other\",outcome=\"succeeded\"}", 0.0),
        ("tollgate_tenant_bytes_in_total{tenant=\"acme\"}", 50.0),
        ("tollgate_quota_drift", 0.0),
        ("tollgate_tenants{state=\"active\"}", 2.0),
        ("tollgate_connections{role=\"client\"}", 1.0),
        ("tollgate_handshakes_total{outcome=\"completed\"}", 1.0),
        ("messages_processed_total", 13.0),
    ] {
        assert_eq!(value(&page, row), Some(expected), "{row} in\n{page}");
    }
    let expires = value(&page, "tollgate_certificate_expiry_timestamp_seconds").expect("a date");
    assert!(expires > 1.7e9, "{expires}");
}

#[tokio::test]
async fn levels_of_quotas_are_those_that_are_configured() {
    for (warning, critical, level) in [(40, 60, 1.0), (30, 50, 2.0), (60, 80, 0.0)] {
        let rig = Rig::with(|config| {
            config.tenancy.alerts.warning_percent = warning;
            config.tenancy.alerts.critical_percent = critical;
        })
        .await;
        let two = |s: &mut Settings| s.overrides.connections = Some(Limit::at_most(2));
        rig.broker.tenants().update("acme", None, two).await.expect("the tenant");
        let half = rig.client("acme").await;
        let ran = half.execute([Request::new("echo", "hello")]).await.expect("a batch");
        ran.into_result().expect("it succeeded");
        let of = "{tenant=\"acme\",quota=\"connections\"}";
        shows(&rig, &format!("tollgate_quota_utilisation_ratio{of}"), 0.5).await;
        shows(&rig, &format!("tollgate_quota_level{of}"), level).await;
    }
}

#[tokio::test]
async fn what_the_store_does_is_counted() {
    let rig = Rig::start().await;
    let before = page(&rig);
    rig.broker.tenants().create_named("hooli", settings()).await.expect("free");
    let after = page(&rig);
    for row in [
        "tollgate_store_groups_total",
        "tollgate_store_entries_total",
        "tollgate_store_written_bytes_total",
        "tollgate_store_sync_seconds_count",
    ] {
        let at = |page| value(page, row).unwrap_or_else(|| panic!("{row} is missing"));
        assert!(at(&after) > at(&before), "{row}");
    }
    let free = value(&after, "tollgate_store_free_bytes").expect("a number");
    assert!(free > value(&after, "tollgate_store_reserve_bytes").expect("a number"));
    assert_eq!(value(&after, "tollgate_store_checkpoints_put_off_total"), Some(0.0));
    assert!(value(&after, "tollgate_store_checkpoint_age_seconds").is_some());
}

#[tokio::test]
async fn a_count_that_nothing_stands_behind_is_drift() {
    let rig = Rig::with(|config| config.tenancy.audit_interval_ms = 100).await;
    let acme = rig.broker.tenants().get("acme").expect("the tenant");
    let held = acme.connection().expect("room");
    shows(&rig, "tollgate_quota_drift", 1.0).await;
    drop(held);
    shows(&rig, "tollgate_quota_drift", 0.0).await;
}

#[tokio::test]
async fn jobs_are_counted_and_what_they_hold_is_recounted() {
    let (rig, stage) = Rig::staged(|config| config.tenancy.audit_interval_ms = 100).await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("gate", "held").await.expect("accepted");
    stage.running(1).await;
    shows(&rig, "tollgate_jobs{tenant=\"acme\",state=\"running\"}", 1.0).await;
    let bytes = value(&page(&rig), "tollgate_jobs_bytes{tenant=\"acme\"}").expect("bytes");
    assert!(bytes > 4.0, "{bytes}");
    shows(&rig, "tollgate_quota_drift", 0.0).await;
    stage.open(1);
    assert!(job.result_within(tollgate_tests::SOON).await.expect("over").is_success());
    shows(&rig, "tollgate_jobs{tenant=\"acme\",state=\"succeeded\"}", 1.0).await;
    shows(&rig, "tollgate_jobs{tenant=\"acme\",state=\"running\"}", 0.0).await;
    shows(&rig, "tollgate_jobs_ended_total{state=\"succeeded\"}", 1.0).await;
    shows(&rig, "tollgate_quota_drift", 0.0).await;
}

#[tokio::test]
async fn connections_and_refusals_are_counted() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    shows(&rig, "tollgate_connections{role=\"client\"}", 1.0).await;
    let stranger = rig.builder("nobody").connect().await;
    assert!(
        stranger.is_err()
            || stranger
                .expect("a client")
                .execute([Request::new("echo", Bytes::new())])
                .await
                .is_err()
    );
    shows(&rig, "tollgate_connections_refused_total{code=\"TENANT_UNKNOWN\"}", 1.0).await;
    client.close().await;
    shows(&rig, "tollgate_connections{role=\"client\"}", 0.0).await;
    assert_eq!(value(&page(&rig), "tollgate_connections_opened_total{role=\"client\"}"), Some(1.0));
}

#[tokio::test]
async fn workers_and_what_waits_for_them_are_counted() {
    let rig = Rig::start().await;
    let none = page(&rig);
    for scope in ["platform", "tenant"] {
        let row = format!("tollgate_workers{{scope=\"{scope}\"}}");
        assert_eq!(value(&none, &row), Some(0.0), "shown before the first one comes");
    }
    let mut worker = rig.worker(None, 2).await;
    let spec = RecipeSpec { idempotent: true, ..RecipeSpec::new("upper") };
    worker.register(spec).await;
    let mut own = rig.worker(Some("acme"), 5).await;
    own.register(RecipeSpec::new("invoice")).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().open().await.expect("a batch");
    for _ in 0..3 {
        batch.send(Request::new("upper", "x")).await.expect("sent");
    }
    batch.flush().await.expect("sent");
    let (first, second) = (worker.call().await.lease, worker.call().await.lease);
    shows(&rig, "tollgate_worker_queue_items{served=\"yes\"}", 1.0).await;
    for (row, expected) in [
        ("tollgate_workers{scope=\"platform\"}", 1.0),
        ("tollgate_workers{scope=\"tenant\"}", 1.0),
        ("active_workers_total", 2.0),
        ("tollgate_worker_credit", 7.0),
        ("tollgate_worker_leases", 2.0),
        ("tollgate_worker_queue_items{served=\"no\"}", 0.0),
        ("tollgate_worker_dispatches_total", 2.0),
        ("message_queue_depth", 1.0),
        ("tollgate_connections{role=\"platform-worker\"}", 1.0),
        ("tollgate_connections{role=\"tenant-worker\"}", 1.0),
    ] {
        let page = page(&rig);
        assert_eq!(value(&page, row), Some(expected), "{row} in\n{page}");
    }
    // The second and third report come too soon after the first, and the third replaces the second.
    for done in 1..=3 {
        worker.progress(first, done, 9).await;
    }
    worker.answer(first, b"X").await;
    worker.answer(first, b"X").await;
    worker.fail(second, Code::NotFound, "gone").await;
    let third = worker.call().await.lease;
    shows(&rig, "tollgate_worker_answers_total{outcome=\"succeeded\"}", 1.0).await;
    shows(&rig, "tollgate_worker_answers_total{outcome=\"failed\"}", 1.0).await;
    shows(&rig, "tollgate_worker_late_answers_total", 1.0).await;
    shows(&rig, "tollgate_worker_reports_dropped_total", 1.0).await;
    // Its last call goes to whoever comes next.
    assert_eq!(third, 3);
    drop(worker);
    shows(&rig, "tollgate_worker_leases_lost_total", 1.0).await;
    shows(&rig, "tollgate_worker_queue_items{served=\"no\"}", 1.0).await;
    shows(&rig, "tollgate_workers{scope=\"platform\"}", 0.0).await;
    shows(&rig, "tollgate_worker_credit", 5.0).await;
    let mut again = rig.worker(None, 1).await;
    again.register(spec).await;
    again.echo(1).await;
    shows(&rig, "tollgate_worker_dispatches_total", 4.0).await;
    shows(&rig, "tollgate_worker_answers_total{outcome=\"succeeded\"}", 2.0).await;
    shows(&rig, "tollgate_worker_leases", 0.0).await;
}

#[test]
fn a_failed_item_is_a_line_that_says_whose_it_was_and_never_what_was_in_it() {
    let served = Served::start(&["--log-level", "debug"]);
    let certs = served.issue(&["--tenant", "acme"]);
    let run = ["batch", "run", "--recipe", "fail", "--payload", r#"{"message": "do not tell"}"#];
    served.run(&certs, &run).ends_with(1);
    let line = served.logs("an item failed");
    let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    for (field, expected) in [("level", "DEBUG"), ("tenant", "acme"), ("recipe", "fail")] {
        assert_eq!(told[field], expected, "{line}");
    }
    assert!(told["item"].is_u64() && told["batch"].is_string(), "{line}");
    assert_eq!(told["span"]["name"], "batch", "{line}");
    let code = told["code"].as_str().expect("a code");
    assert!(Code::from_name(code).is_some(), "{line}");
    let end = served.logs("a batch ended");
    assert!(end.contains("\"items\":1") && end.contains("\"failed\":1"), "{end}");
    assert!(!line.contains("do not tell") && !end.contains("do not tell"));
}
