//! Recipes that panic, hang, give too much, say too much, or block a core.

use std::collections::BTreeSet;

use tollgate_broker::batch::{Context, Error, Spec};
use tollgate_protocol::{BrokerFrame, ClientFrame, Code, batch::Request};
use tollgate_tests::{
    Rig, eventually,
    stage::{Async, Stage, plain},
};

#[tokio::test]
async fn recipes_that_hang_end_at_their_time_and_hold_up_nobody_else() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 20).await.expect("there is one");
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let mut batch = raw.batch().await;
    // All that may run hang, and as many again wait behind them.
    for id in 0..40 {
        let payload = id.to_string();
        let mut request = Request::new(id, "hang", payload.as_bytes());
        request.timeout_ms = Some(200);
        batch.frame(&ClientFrame::Request(request)).await;
    }
    batch.seal(40).await;
    stage.running(20).await;
    assert!(other.serves().await && raw.serves().await);
    let told = batch.failures().await;
    assert_eq!(told.len(), 40);
    assert!(told.iter().all(|t| t.code() == Some(Code::Timeout) && t.attempts == 1), "{told:?}");
    let dropped: BTreeSet<_> = stage.running(0).await.dropped.into_iter().collect();
    assert_eq!(dropped.len(), 40, "every future is dropped");
    assert_eq!(stage.seen().most, 20);
    assert!(raw.serves().await && other.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn recipes_that_block_every_thread_leave_everything_else_alone() {
    let (rig, stage) = Rig::staged(|c| c.batch.blocking_threads = 2).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let mut batch = raw.batch().await;
    for id in 0..12 {
        batch.request(id, "pool", b"acme").await;
    }
    batch.seal(12).await;
    stage.running(2).await;
    assert_eq!(rig.broker.counters().blocking_running, 2);
    assert!(other.serves().await && raw.serves().await);
    // Another tenant's item does not stand behind all of them.
    let mut mine = other.batch().await;
    mine.request(1, "pool", b"globex").await;
    mine.seal(1).await;
    eventually("it waits for a thread", || rig.broker.counters().items_running == 13).await;
    for n in 1..=4 {
        stage.open_pool(1);
        let seen = stage.until("a thread is free", |s| s.started.len() == 2 + n).await;
        if seen.started.iter().any(|p| p == "globex") {
            break;
        }
        assert!(n < 4, "it waits behind {} of another tenant", seen.started.len());
    }
    stage.open_pool(13);
    mine.until("summary Sealed 1/1").await;
    batch.until("summary Sealed 12/12").await;
    rig.idle().await;
}

#[tokio::test]
async fn a_tenant_with_too_much_for_the_threads_is_refused() {
    let (rig, stage) = Rig::staged(|c| {
        (c.batch.blocking_threads, c.batch.blocking_queue_max) = (1, 2);
    })
    .await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let mut batch = raw.batch().await;
    batch.request(0, "pool", b"x").await;
    stage.running(1).await;
    for id in 1..6 {
        batch.request(id, "pool", b"x").await;
    }
    batch.seal(6).await;
    // One runs, two wait, three are too many.
    eventually("three are left", || rig.broker.counters().items_running == 3).await;
    assert!(other.serves().await);
    stage.open_pool(3);
    let told = batch.failures().await;
    assert_eq!(told.iter().map(|t| t.id).collect::<Vec<_>>(), [Some(3), Some(4), Some(5)]);
    for told in told {
        assert_eq!((told.code(), told.attempts), (Some(Code::Overloaded), 0), "{told:?}");
        assert!(told.retryable && told.side_effect_free, "{told:?}");
    }
    rig.idle().await;
}

#[tokio::test]
async fn panics_by_the_hundred_are_as_many_failures() {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let (raw, other) = (rig.raw("acme").await, rig.raw("globex").await);
    let mut batch = raw.batch().await;
    for id in 0..300 {
        let recipe = ["panic", "later.panic", "pool.panic"][id as usize % 3];
        batch.request(id, recipe, b"").await;
    }
    batch.seal(300).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 300);
    assert!(told.iter().all(|t| t.code() == Some(Code::Panic)));
    assert!(raw.serves().await && other.serves().await);
    rig.idle().await;
}

/// A result of so many bytes, of at most 1 MiB.
async fn check_result(recipe: &str, len: usize, expected: &str) {
    let (rig, stage) = Rig::staged(|_| {}).await;
    stage.open(1);
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, recipe, len.to_string().as_bytes()).await;
    batch.seal(1).await;
    batch.until(expected).await;
    batch.until("summary").await;
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn a_result_up_to_its_limit_passes_and_one_byte_more_is_a_failure() {
    for recipe in ["blow", "gate.blow"] {
        check_result(recipe, 1 << 20, "result 1 OK 1048576 bytes").await;
        check_result(recipe, (1 << 20) + 1, "result 1 RESULT_TOO_LARGE").await;
        check_result(recipe, 200 << 20, "result 1 RESULT_TOO_LARGE").await;
    }
}

#[tokio::test]
async fn recipes_that_say_too_much_are_cut_short() {
    let stage = Stage::default();
    let recipes = stage.recipes().inline(
        "loud",
        Spec::default(),
        plain(|ctx, _, out| {
            for n in 0..100 {
                let _ = out.metadata(&format!("{n}"), &"v".repeat(4_000));
            }
            ctx.progress(1, 2, &"\u{1f4e3}".repeat(100_000));
            let mut error = Error::new("m".repeat(1 << 20)).app_code("a".repeat(10_000));
            for n in 0..100 {
                error = error.detail(&format!("{n}{}", "k".repeat(1_000)), "d".repeat(100_000));
            }
            Err(error)
        }),
    );
    let recipes = recipes.recipe(
        "loud.progress",
        Spec::default(),
        Async(|ctx: Context, _| async move {
            ctx.progress(1, 2, &"\u{1f4e3}".repeat(100_000));
            tokio::task::yield_now().await;
            Ok("done".into())
        }),
    );
    let rig = Rig::with_catalog(recipes.build().expect("a catalog"), |_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "loud", b"").await;
    batch.request(2, "loud.progress", b"").await;
    batch.seal(2).await;
    let mut longest = 0;
    let mut told = Vec::new();
    // Reading checks every frame against the bounds of the protocol.
    let mut see = |f: BrokerFrame<'_>| {
        if let BrokerFrame::Progress(p) = f {
            longest = longest.max(p.message.len());
        }
        told.extend(tollgate_tests::raw::Told::of(&f));
    };
    while batch.next(&mut see).await.is_some() {}
    assert_eq!((told.len(), told[0].code()), (1, Some(Code::RecipeExecution)));
    assert_eq!(told[0].message.len(), 4_096);
    assert!(longest <= 4_096, "{longest}");
    assert!(raw.serves().await);
    rig.idle().await;
}
