//! Jobs in batches: beside items that are none, in every mode and order, cut and resumed.

use std::time::Duration;

use tollgate_broker::batch::Spec;
use tollgate_client::{CancelScope, Code, Event, JobEvent, JobTarget, Request};
use tollgate_protocol::batch::Ended;
use tollgate_tests::{
    Rig, SOON,
    stage::{Async, Stage, plain},
};

use crate::staged;

#[tokio::test]
async fn a_recipe_that_takes_long_makes_jobs_and_results_come_on_the_same_stream() {
    let stage = Stage::default();
    let long = Spec { estimated_duration: Duration::from_secs(5), ..Spec::default() };
    let short = Spec { estimated_duration: Duration::from_millis(4_999), ..Spec::default() };
    let catalog = stage
        .recipes()
        .inline(
            "long",
            long,
            plain(|_, p, out| {
                out.extend_from_slice(p);
                Ok(())
            }),
        )
        .inline(
            "short",
            short,
            plain(|_, p, out| {
                out.extend_from_slice(p);
                Ok(())
            }),
        );
    let rig = Rig::with_catalog(catalog.build().expect("good"), |_| {}).await;
    let client = rig.client("acme").await;
    let requests = ["long", "short", "long"].map(|recipe| Request::new(recipe, "x"));
    let results = client.execute(requests).await.expect("a batch");
    let jobs: Vec<bool> = results.iter().map(|r| r.is_job()).collect();
    assert_eq!(jobs, [true, false, true]);
    assert!(results.iter().all(|r| r.is_success()));
    rig.idle().await;
}

#[tokio::test]
async fn a_durable_batch_ends_with_a_numbered_summary() {
    let (_rig, _stage, client) = staged().await;
    let mut batch = client.batch().durable().open().await.expect("open");
    for recipe in ["echo", "invalid", "echo", "nosuch"] {
        batch.send(Request::new(recipe, "x")).await.expect("sent");
    }
    batch.seal().await.expect("sealed");
    let (mut accepted, mut results, mut summary) = (0, 0, None);
    while let Some(event) = batch.next().await {
        match event.expect("an event") {
            Event::JobAccepted(_) => accepted += 1,
            Event::Result(_) => results += 1,
            Event::Summary(s) => summary = Some(s),
            _ => {}
        }
    }
    let summary = summary.expect("the last word");
    assert_eq!((accepted, results), (3, 4));
    assert_eq!((summary.total, summary.succeeded, summary.ended), (4, 2, Ended::Sealed));
    assert!(summary.number.sequence > 0);
}

#[tokio::test]
async fn jobs_outlive_a_lost_connection_whatever_their_batch() {
    let (_rig, stage, client) = staged().await;
    let mut batch = client.batch().open().await.expect("open");
    let id = batch.id();
    batch.send(Request::new("gate", "job").idempotency_key("a")).await.expect("sent");
    batch.send(Request::new("hang", "item")).await.expect("sent");
    batch.flush().await.expect("flushed");
    stage.running(2).await;
    client.connection().expect("connected").close(0_u32.into(), b"");
    drop(batch);
    stage.until("the item is stopped", |s| s.dropped == ["item"]).await;
    stage.open(1);
    let mut attached = client.attach(JobTarget::Batch(id));
    let mut results = 0;
    while let Some(event) = attached.next().await {
        if let JobEvent::Result(result) = event.expect("an event") {
            assert_eq!(result.payload().map(|p| &p[..]), Some(&b"job"[..]));
            results += 1;
        }
    }
    assert_eq!(results, 1, "an attached ephemeral batch replays its jobs only");
}

#[tokio::test]
async fn cancelling_a_batch_cancels_its_jobs() {
    for (scope, ran) in [(CancelScope::Pending, true), (CancelScope::All, false)] {
        let (rig, stage, client) = staged().await;
        rig.roomy_concurrency("acme", 1).await;
        let mut batch = client.batch().durable().open().await.expect("open");
        for n in 0..3 {
            batch.send(Request::new("gate", format!("{n}"))).await.expect("sent");
        }
        batch.flush().await.expect("flushed");
        stage.running(1).await;
        let mut accepted = 0;
        while accepted < 3 {
            let event = batch.next().await.expect("more").expect("an event");
            accepted += usize::from(matches!(event, Event::JobAccepted(_)));
        }
        batch.cancel(scope).await.expect("asked");
        let (mut ok, mut cancelled, mut summary) = (0, 0, None);
        while let Some(event) = batch.next().await {
            match event.expect("an event") {
                Event::Result(r) if r.is_success() => ok += 1,
                Event::Result(r) => {
                    assert_eq!(r.code(), Some(Code::Cancelled));
                    cancelled += 1;
                    if ran && cancelled == 2 {
                        // Not before: the next would begin in its place.
                        stage.open(1);
                    }
                }
                Event::Summary(s) => summary = Some(s),
                _ => {}
            }
        }
        assert_eq!((ok, cancelled), if ran { (1, 2) } else { (0, 3) }, "{scope:?}");
        assert_eq!(summary.expect("the last word").total, 3);
        rig.idle().await;
    }
}

#[tokio::test]
async fn a_batch_that_is_not_sealed_is_sealed_by_the_broker() {
    let stage = Stage::default();
    let rig = Rig::with_catalog(stage.catalog(), |c| c.jobs.seal_ttl_ms = 200).await;
    let client = rig.client("acme").await;
    let mut batch = client.batch().durable().open().await.expect("open");
    let id = batch.id();
    batch.send(Request::new("echo", "x")).await.expect("sent");
    batch.flush().await.expect("flushed");
    loop {
        let event = batch.next().await.expect("more").expect("an event");
        if matches!(event, Event::JobAccepted(_)) {
            break;
        }
    }
    drop(batch);
    let mut attached = client.attach(JobTarget::Batch(id));
    let mut summary = None;
    while let Some(event) = attached.next().await {
        if let JobEvent::Summary(s) = event.expect("an event") {
            summary = Some(s);
        }
    }
    let summary = summary.expect("it is over");
    assert_eq!((summary.ended, summary.total), (Ended::SealedByBroker, 1));
}

#[tokio::test]
async fn the_first_failure_of_a_fail_fast_batch_cancels_what_has_not_started() {
    let stage = Stage::default();
    let once = Spec { retry: crate::at_once(1).retry, ..Spec::default() };
    let fails = Async(|_, _| async {
        Err::<tollgate_broker::batch::Reply, _>(tollgate_broker::batch::Error::new("no"))
    });
    let catalog = stage.recipes().recipe("dies", once, fails).build().expect("good");
    let rig = Rig::with_catalog(catalog, |_| {}).await;
    let client = rig.client("acme").await;
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let mut batch = client
        .batch()
        .durable()
        .mode(tollgate_protocol::batch::Mode::FailFast)
        .open()
        .await
        .expect("open");
    batch.send(Request::new("gate", "later").not_before(later)).await.expect("sent");
    batch.send(Request::new("dies", "")).await.expect("sent");
    batch.seal().await.expect("sealed");
    let mut codes = Vec::new();
    let read = async {
        while let Some(event) = batch.next().await {
            if let Event::Result(r) = event.expect("an event") {
                codes.push((r.id, r.code()));
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("it ends");
    codes.sort_unstable_by_key(|c| c.0);
    let codes: Vec<_> = codes.into_iter().map(|c| c.1).collect();
    assert_eq!(codes, [Some(Code::Cancelled), Some(Code::RecipeExecution)]);
}
