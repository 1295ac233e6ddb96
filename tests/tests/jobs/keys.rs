//! Idempotency: one key, one job.

use tollgate_client::{Code, JobFilter, Request};
use tollgate_tests::SOON;

use crate::staged;

#[tokio::test]
async fn a_key_is_one_job_within_its_recipe_and_tenant() {
    let (rig, _stage, client) = staged().await;
    let submit = |recipe: &'static str, payload: &'static str| {
        client.submit_bytes(recipe, payload).idempotency_key("k")
    };
    let first = submit("echo", "a").await.expect("accepted");
    assert!(!first.existing());
    let same = submit("echo", "a").await.expect("the same");
    assert!(same.existing());
    assert_eq!(same.id(), first.id());
    let (one, two) = (first.result_within(SOON).await, same.result_within(SOON).await);
    assert_eq!(one.expect("over").payload(), two.expect("over").payload());
    let other = submit("echo", "b").await.expect_err("another payload");
    assert_eq!(other.code(), Some(Code::Conflict));
    assert_ne!(submit("later", "a").await.expect("another recipe").id(), first.id());
    let globex = rig.client("globex").await;
    let theirs = globex.submit_bytes("echo", "b").idempotency_key("k").await.expect("their own");
    assert_ne!(theirs.id(), first.id());
    assert_eq!(client.jobs().list(&JobFilter::new()).await.expect("a list").len(), 2);
}

#[tokio::test]
async fn many_at_once_with_one_key_are_one_job() {
    let (_rig, stage, client) = staged().await;
    let all = (0..50).map(|_| {
        let client = client.clone();
        async move { client.submit_bytes("gate", "x").idempotency_key("one").await }
    });
    let jobs = futures::future::join_all(all).await;
    let ids: Vec<_> = jobs.iter().map(|j| j.as_ref().expect("accepted").id()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    stage.open(1);
    for job in jobs {
        assert!(job.expect("accepted").result_within(SOON).await.expect("over").is_success());
    }
    assert_eq!(stage.seen().started.len(), 1, "it ran once");
}

#[tokio::test]
async fn a_durable_batch_with_another_batchs_job_ends_as_any_other() {
    let (_rig, _stage, client) = staged().await;
    let first = client.submit_bytes("echo", "a").idempotency_key("k").await.expect("accepted");
    let items = [
        Request::new("echo", "a").idempotency_key("k"),
        Request::new("echo", "b"),
        Request::new("echo", "c").idempotency_key("k"),
    ];
    let result = client.batch().durable().execute(items).await.expect("it ends");
    assert_eq!((result.len(), result.successes().count()), (3, 2));
    assert_eq!(result.get(0).and_then(|r| r.payload()).map(|p| &p[..]), Some(&b"a"[..]));
    let refused = result.get(2).and_then(|r| r.failure()).expect("another payload");
    assert_eq!(refused.code(), Some(Code::Conflict));
    assert!(first.info().await.expect("kept").is_over());
}

#[tokio::test]
async fn items_of_a_durable_batch_with_one_key_are_all_counted() {
    let (_rig, _stage, client) = staged().await;
    let items = (0..5).map(|_| Request::new("echo", "a").idempotency_key("new"));
    let result = client.batch().durable().execute(items).await.expect("it ends");
    assert_eq!((result.len(), result.successes().count()), (5, 5));
    let summary = result.summary();
    assert_eq!((summary.total, summary.succeeded), (5, 5), "{summary:?}");
    assert_eq!(client.jobs().list(&JobFilter::default()).await.expect("listed").len(), 1);
}
