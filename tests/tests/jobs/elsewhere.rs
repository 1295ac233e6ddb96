//! Jobs of recipes that run elsewhere: on workers that come late, die, or are slow to answer.

use std::time::Duration;

use tollgate_client::{Code, JobFilter, JobState};
use tollgate_protocol::work::RecipeSpec;
use tollgate_tests::{Rig, SOON, eventually, worker::Said};

use crate::until;

/// A recipe that must not run twice for an item, and whose jobs are tried three times.
fn spec() -> RecipeSpec<'static> {
    let mut spec = RecipeSpec::new("w");
    (spec.attempts_max, spec.retry_first_ms) = (3, 1);
    spec
}

#[tokio::test]
async fn a_worker_that_dies_costs_an_attempt_and_the_job_goes_to_another() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let mut first = rig.worker(None, 1).await;
    first.register(spec()).await;
    let job = client.submit_bytes("w", "x").await.expect("accepted");
    let call = first.call().await;
    assert_eq!((call.attempt, &*call.payload), (1, &b"x"[..]));
    until(&client, job.id(), JobState::Running).await;
    first.raw.conn.close(7_u32.into(), b"killed");
    let mut second = rig.worker(None, 1).await;
    second.register(spec()).await;
    let call = second.call().await;
    assert_eq!(call.attempt, 2, "although its recipe is not idempotent");
    second.answer(call.lease, b"done").await;
    let result = job.result_within(SOON).await.expect("over");
    assert_eq!((result.attempts, result.payload().map(|p| &p[..])), (2, Some(&b"done"[..])));
    let errors = job.info().await.expect("kept").errors;
    assert_eq!(errors.iter().map(|e| e.code()).collect::<Vec<_>>(), [Some(Code::WorkerLost)]);
    rig.idle().await;
}

#[tokio::test]
async fn a_job_that_has_waited_for_a_worker_may_run_no_longer_than_others() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let mut worker = rig.worker(None, 1).await;
    let mut brief = spec();
    (brief.timeout_ms, brief.attempts_max) = (Some(150), 1);
    worker.register(brief).await;
    worker.register(RecipeSpec::new("slow")).await;
    let first = client.submit_bytes("slow", "x").await.expect("accepted");
    let held = worker.call().await;
    let job = client.submit_bytes("w", "x").await.expect("accepted");
    eventually("it waits", || rig.broker.counters().worker_queue == 1).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    worker.answer(held.lease, b"").await;
    assert!(first.result_within(SOON).await.expect("over").is_success());
    let call = worker.call().await;
    let result = job.result_within(SOON).await.expect("over");
    assert_eq!(result.failure().and_then(|f| f.code()), Some(Code::Timeout));
    assert_eq!(worker.next().await, Said::Cancel(call.lease));
    worker.answer(call.lease, b"").await;
    rig.idle().await;
}

#[tokio::test]
async fn a_payload_that_the_workers_schema_refuses_is_no_job() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let mut worker = rig.worker(None, 1).await;
    let mut typed = spec();
    typed.encoding = tollgate_protocol::describe::Encoding::Json;
    typed.schema = Some(r#"{"type":"object","required":["n"]}"#);
    worker.register(typed).await;
    let refused = client.submit_bytes("w", "{}").await.expect_err("there is no n");
    assert_eq!(refused.code(), Some(Code::ValidationError));
    let none = client.jobs().list(&JobFilter::new()).await.expect("a list");
    assert!(none.is_empty(), "{none:?}");
    let job = client.submit_bytes("w", r#"{"n":1}"#).await.expect("accepted");
    let call = worker.call().await;
    worker.answer(call.lease, b"done").await;
    assert!(job.result_within(SOON).await.expect("over").is_success());
    rig.idle().await;
}

#[tokio::test]
async fn a_job_that_kills_every_worker_is_dead_after_its_attempts() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let mut worker = rig.worker(None, 1).await;
    worker.register(spec()).await;
    let job = client.submit_bytes("w", "poison").await.expect("accepted");
    for attempt in 1..=3 {
        assert_eq!(worker.call().await.attempt, attempt);
        worker.raw.conn.close(7_u32.into(), b"killed");
        worker = rig.worker(None, 1).await;
        worker.register(spec()).await;
    }
    let result = job.result_within(SOON).await.expect("over");
    assert_eq!((result.code(), result.attempts), (Some(Code::WorkerLost), 3));
    assert_eq!(job.info().await.expect("kept").state, JobState::Dead);
}

#[tokio::test]
async fn jobs_wait_for_a_worker_without_limit_and_hold_nothing_meanwhile() {
    let rig = Rig::with(|c| c.workers.recipe_ttl_ms = 3_600_000).await;
    let client = rig.client("acme").await;
    let mut worker = rig.worker(None, 1).await;
    let mut short = spec();
    short.queue_timeout_ms = Some(1);
    worker.register(short).await;
    worker.raw.conn.close(7_u32.into(), b"gone");
    eventually("the worker is gone", || rig.broker.workers().is_empty()).await;
    let mut jobs = Vec::new();
    for n in 0..20 {
        jobs.push(client.submit_bytes("w", vec![n; 1_000]).await.expect("accepted"));
    }
    let tenant = rig.broker.tenants().get("acme").expect("there");
    eventually("one waits in line, for all", || (1..64 << 10).contains(&tenant.bytes_in_flight()))
        .await;
    let mut worker = rig.worker(None, 8).await;
    worker.register(short).await;
    for _ in 0..20 {
        let call = worker.call().await;
        assert_eq!(call.attempt, 1, "what waited was not tried");
        worker.answer(call.lease, &call.payload).await;
    }
    for job in jobs {
        assert!(job.result_within(SOON).await.expect("over").is_success());
    }
    rig.idle().await;
}

#[tokio::test]
async fn cancelling_a_job_reaches_its_worker() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let mut worker = rig.worker(None, 1).await;
    worker.register(spec()).await;
    let job = client.submit_bytes("w", "x").await.expect("accepted");
    let call = worker.call().await;
    until(&client, job.id(), JobState::Running).await;
    assert!(job.cancel().await.expect("there"));
    assert_eq!(worker.next().await, Said::Cancel(call.lease));
    assert_eq!(job.result_within(SOON).await.expect("over").code(), Some(Code::Cancelled));
}
