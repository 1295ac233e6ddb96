//! The life of one job: every state, and every way out of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tollgate_broker::batch::{Context, Error, Reply, Spec};
use tollgate_client::{CancelScope, Code, JobState};
use tollgate_tests::{
    Rig, SOON, eventually,
    stage::{Async, Stage},
};

use crate::{at_once, staged, until};

#[tokio::test]
async fn a_job_is_accepted_runs_and_has_its_result() {
    let (_rig, stage, client) = staged().await;
    let job = client.submit_bytes("gate", "payload").await.expect("accepted");
    assert!(!job.existing());
    stage.running(1).await;
    let info = until(&client, job.id(), JobState::Running).await;
    assert_eq!((info.attempts, info.recipe.as_ref()), (1, "gate"));
    assert_eq!(info.payload_bytes, 7);
    stage.open(1);
    let result = job.result_within(SOON).await.expect("it ends");
    assert_eq!(result.payload().map(|p| &p[..]), Some(&b"payload"[..]));
    assert_eq!(result.attempts, 1);
    assert!(result.is_job());
    let info = job.info().await.expect("kept");
    assert_eq!(info.state, JobState::Succeeded);
    assert!(info.ended_number > info.accepted_number, "numbers rise: {info:?}");
    // And again, as often as one likes.
    assert!(job.result().await.expect("kept").is_success());
}

/// A recipe that fails so often, then succeeds.
fn fails(
    times: u32,
    code: fn(String) -> Error,
) -> (Arc<AtomicU32>, impl tollgate_broker::batch::Recipe) {
    let runs = Arc::new(AtomicU32::new(0));
    let seen = runs.clone();
    let recipe = Async(move |ctx: Context, _| {
        let n = seen.fetch_add(1, Relaxed) + 1;
        let attempt = ctx.attempt();
        async move {
            assert_eq!(attempt, n, "attempts are counted truly");
            if n <= times {
                Err(code(format!("failure {n}")))
            } else {
                Ok(Reply::from(b"at last".to_vec()))
            }
        }
    });
    (runs, recipe)
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_succeeds() {
    let (runs, recipe) = fails(2, Error::new);
    let catalog = Stage::default().recipes().recipe("flaky", at_once(5), recipe);
    let rig = Rig::with_catalog(catalog.build().expect("good"), |_| {}).await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("flaky", "").await.expect("accepted");
    let result = job.result_within(SOON).await.expect("it ends");
    assert_eq!((result.attempts, runs.load(Relaxed)), (3, 3));
    assert_eq!(result.payload().map(|p| &p[..]), Some(&b"at last"[..]));
    let info = job.info().await.expect("kept");
    assert_eq!(info.errors.iter().map(|e| e.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(info.errors[1].message.contains("failure 2"), "{:?}", info.errors);
}

#[tokio::test]
async fn attempts_that_are_used_up_make_it_dead_and_it_can_be_replayed() {
    let (runs, recipe) = fails(3, Error::new);
    let catalog = Stage::default().recipes().recipe(
        "flaky",
        at_once(3),
        Async({
            let runs = runs.clone();
            move |_, _| {
                let n = runs.fetch_add(1, Relaxed) + 1;
                async move {
                    if n <= 3 { Err(Error::new("no")) } else { Ok(Reply::from(b"yes".to_vec())) }
                }
            }
        }),
    );
    drop(recipe);
    let rig = Rig::with_catalog(catalog.build().expect("good"), |_| {}).await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("flaky", "").await.expect("accepted");
    let result = job.result_within(SOON).await.expect("it ends");
    assert_eq!((result.code(), result.attempts), (Some(Code::RecipeExecution), 3));
    let info = until(&client, job.id(), JobState::Dead).await;
    assert_eq!((info.errors.len(), info.expires), (3, None), "dead ones are kept");
    assert_eq!(client.jobs().replay(job.id()).await.expect("there"), 1);
    let again = job.result_within(SOON).await.expect("it ends again");
    assert_eq!(again.payload().map(|p| &p[..]), Some(&b"yes"[..]));
    assert!(again.number > result.number);
    assert_eq!(client.jobs().replay(job.id()).await.expect("there"), 0, "a success stays one");
}

#[tokio::test]
async fn what_trying_again_would_not_help_fails_at_once() {
    let refused = at_once(5);
    let permanent = Async(|_, _| async { Err::<Reply, _>(Error::new("no").permanent()) });
    let catalog = Stage::default().recipes().recipe("permanent", refused, permanent);
    let rig = Rig::with_catalog(catalog.build().expect("good"), |_| {}).await;
    let client = rig.client("acme").await;
    for (recipe, code) in [("permanent", Code::RecipeExecution), ("invalid", Code::ValidationError)]
    {
        let job = client.submit_bytes(recipe, "").await.expect("accepted");
        let result = job.result_within(SOON).await.expect("it ends");
        assert_eq!((result.code(), result.attempts), (Some(code), 1), "{recipe}");
        assert_eq!(job.info().await.expect("kept").state, JobState::Failed);
    }
}

#[tokio::test]
async fn a_panic_is_an_attempt_like_any_other() {
    let catalog = Stage::default().recipes();
    let panics = Async(|_, _| async { panic!("as asked") as Result<Reply, Error> });
    let rig = Rig::with_catalog(
        catalog.recipe("panics", at_once(2), panics).build().expect("good"),
        |_| {},
    )
    .await;
    let client = rig.client("acme").await;
    let job = client.submit_bytes("panics", "").await.expect("accepted");
    let result = job.result_within(SOON).await.expect("it ends");
    assert_eq!((result.code(), result.attempts), (Some(Code::Panic), 2));
    assert_eq!(job.info().await.expect("kept").state, JobState::Dead);
}

#[tokio::test]
async fn cancelling_works_in_every_state() {
    let slow = Spec { retry: at_once(5).retry, ..Spec::default() };
    let long_wait =
        tollgate_broker::batch::Retry { first: Duration::from_secs(3_600), ..Default::default() };
    let _ = slow;
    let retrying = Spec { retry: long_wait, ..Spec::default() };
    let stage = Stage::default();
    let failing = Async(|_, _| async { Err::<Reply, _>(Error::new("no")) });
    let catalog = stage.recipes().recipe("retrying", retrying, failing);
    let rig = Rig::with_catalog(catalog.build().expect("good"), |_| {}).await;
    let client = rig.client("acme").await;

    let later = SystemTime::now() + Duration::from_secs(3_600);
    let queued = client.submit_bytes("gate", "q").not_before(later).await.expect("accepted");
    assert_eq!(queued.info().await.expect("there").state, JobState::Queued);
    assert!(queued.cancel().await.expect("there"));
    let result = queued.result_within(SOON).await.expect("over");
    assert_eq!((result.code(), result.attempts), (Some(Code::Cancelled), 0));

    let running = client.submit_bytes("hang", "r").await.expect("accepted");
    stage.running(1).await;
    let pending = client.jobs().cancel(running.id(), CancelScope::Pending).await;
    assert_eq!(pending.expect("there"), 0, "what runs is not pending");
    assert_eq!(client.jobs().cancel(running.id(), CancelScope::All).await.expect("there"), 1);
    let result = running.result_within(SOON).await.expect("over");
    assert_eq!((result.code(), result.attempts), (Some(Code::Cancelled), 1));
    stage.until("the recipe is stopped", |s| s.dropped == ["r"]).await;

    let waits = client.submit_bytes("retrying", "").await.expect("accepted");
    // Full jitter may draw nearly nothing: any of the attempts is followed by a long wait.
    let _ = until_waits(&client, waits.id()).await;
    assert!(waits.cancel().await.expect("there"));
    assert_eq!(until(&client, waits.id(), JobState::Cancelled).await.state, JobState::Cancelled);

    let over = client.submit_bytes("echo", "done").await.expect("accepted");
    assert!(over.result_within(SOON).await.expect("over").is_success());
    assert!(!over.cancel().await.expect("there"), "what is over stays as it is");
    rig.idle().await;
}

async fn until_waits(client: &tollgate_client::Client, id: tollgate_client::JobId) {
    let mut state = JobState::Queued;
    let asked = async {
        while state != JobState::Retrying {
            tokio::time::sleep(Duration::from_millis(5)).await;
            state = client.jobs().get(id).await.expect("there").state;
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("it waits");
}

#[tokio::test]
async fn a_delayed_start_waits_for_its_time() {
    let (_rig, stage, client) = staged().await;
    let at = SystemTime::now() + Duration::from_millis(400);
    let job = client.submit_bytes("gate", "x").not_before(at).await.expect("accepted");
    assert_eq!(stage.seen().started.len(), 0);
    stage.running(1).await;
    assert!(SystemTime::now() >= at - Duration::from_millis(2), "not before its time");
    stage.open(1);
    assert!(job.result_within(SOON).await.expect("over").is_success());
}

#[tokio::test]
async fn progress_is_seen_while_it_runs_and_ends_at_its_total() {
    let (_rig, stage, client) = staged().await;
    let job = client.submit_bytes("steps", "3").await.expect("accepted");
    let mut progress = job.progress();
    let mut seen = Vec::new();
    stage.open(3);
    while let Some(report) = progress.next().await {
        let report = report.expect("a report");
        seen.push(report.done);
    }
    assert!(seen.is_sorted(), "it never falls: {seen:?}");
    assert!(job.result_within(SOON).await.expect("over").is_success());
}

#[tokio::test]
async fn quotas_of_jobs_hold_exactly_and_are_given_back() {
    use tollgate_broker::tenancy::{Limit, Quota, Settings};
    let (rig, stage, client) = staged().await;
    let set = |s: &mut Settings| s.overrides.jobs_queued = Some(Limit::at_most(2));
    rig.broker.tenants().update("acme", None, set).await.expect("there is one");
    let first = client.submit_bytes("hang", "1").await.expect("the first");
    let second = client.submit_bytes("hang", "2").await.expect("at the limit");
    let refused = client.submit_bytes("hang", "3").await.expect_err("one over");
    assert_eq!(refused.code(), Some(Code::QuotaExceeded));
    let quota = refused.failure().and_then(|f| f.quota.clone()).expect("it says which");
    assert_eq!((&*quota.quota, quota.current, quota.limit), ("jobs_queued", 2, 2));
    stage.running(2).await;
    for job in [first, second] {
        assert!(job.cancel().await.expect("there"));
        job.result_within(SOON).await.expect("over").outcome.expect_err("cancelled");
    }
    let tenant = rig.broker.tenants().get("acme").expect("there");
    let now = std::time::Instant::now;
    eventually("the queue is empty", || tenant.used(Quota::JobsQueued, now()) == 0).await;
    assert!(tenant.used(Quota::StorageBytes, now()) > 0, "what is kept is charged");
    let any = tollgate_client::JobFilter::new();
    assert_eq!(client.jobs().purge(any).await.expect("purged"), 2);
    eventually("nothing is kept", || tenant.used(Quota::StorageBytes, now()) == 0).await;
    client.submit_bytes("echo", "again").await.expect("there is room again");
}

#[tokio::test]
async fn storage_of_jobs_is_full_at_its_quota_and_purging_makes_room() {
    use tollgate_broker::tenancy::{Limit, Settings};
    let (rig, stage, client) = staged().await;
    // Two jobs of 4 bytes.
    let set = |s: &mut Settings| s.overrides.storage_bytes = Some(Limit::at_most(2 * (256 + 4)));
    rig.broker.tenants().update("acme", None, set).await.expect("there is one");
    let first = client.submit_bytes("hang", "1234").await.expect("the first");
    let second = client.submit_bytes("hang", "1234").await.expect("at the limit");
    for payload in ["", "1234"] {
        let refused = client.submit_bytes("hang", payload).await.expect_err("over");
        assert_eq!(refused.code(), Some(Code::StorageFull));
        let quota = refused.failure().and_then(|f| f.quota.clone()).expect("it says which");
        assert_eq!((&*quota.quota, quota.limit), ("storage_bytes", 520));
    }
    stage.running(2).await;
    assert!(second.cancel().await.expect("there"));
    second.result_within(SOON).await.expect("over").outcome.expect_err("cancelled");
    let kept = client.submit_bytes("hang", "1234").await.expect_err("what is over is kept");
    assert_eq!(kept.code(), Some(Code::StorageFull));
    assert_eq!(client.jobs().purge(second.id()).await.expect("purged"), 1);
    client.submit_bytes("hang", "1234").await.expect("there is room again");
    assert!(first.cancel().await.expect("there"));
}

#[tokio::test]
async fn jobs_of_a_suspended_tenant_wait_and_those_of_a_deleted_one_are_stopped() {
    let (rig, stage, client) = staged().await;
    let tenants = rig.broker.tenants();
    let running = client.submit_bytes("hang", "runs").await.expect("accepted");
    stage.running(1).await;
    until(&client, running.id(), JobState::Running).await;
    let soon = SystemTime::now() + Duration::from_millis(300);
    let waits = client.submit_bytes("gate", "waits").not_before(soon).await.expect("accepted");
    client.close().await;
    tenants.suspend("acme", None).await.expect("there is one");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(stage.seen().started, ["runs"], "it waits, though its time has come");
    tenants.activate("acme", None).await.expect("there is one");
    stage.running(2).await;
    stage.open(1);
    let client = rig.client("acme").await;
    let result = client.job(waits.id()).result_within(SOON).await.expect("over");
    assert!(result.is_success());
    client.close().await;
    tenants.suspend("acme", None).await.expect("there is one");
    tenants.delete_now("acme", None).await.expect("deleted");
    stage.until("what ran is stopped", |s| s.dropped == ["runs"]).await;
    tenants.create_named("acme", tollgate_tests::settings()).await.expect("another");
    let client = rig.client("acme").await;
    let none = client.jobs().list(&tollgate_client::JobFilter::new()).await.expect("a list");
    assert!(none.is_empty(), "and nothing of it is the next one's");
}
