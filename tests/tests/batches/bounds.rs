//! How many items run at once, and which of those that wait are next.

use tollgate_tests::{Rig, eventually, stage::Stage};

/// Offers twelve items on each of the tenants' batches: at most so many run at once, and so many
/// do.
async fn check(
    rig: &Rig,
    stage: &Stage,
    (tenants, recipe): (&[&str], &str),
    concurrency_max: u32,
    most: usize,
) {
    let mut batches = Vec::new();
    for tenant in tenants {
        let raw = rig.raw(tenant).await;
        let mut batch = raw.batch_with(|open| open.concurrency_max = concurrency_max).await;
        for id in 0..12 {
            batch.request(id, recipe, b"x").await;
        }
        batch.seal(12).await;
        batches.push((raw, batch));
    }
    let all = 12 * tenants.len();
    stage.running(most).await;
    // One after the other ends: each makes room for one.
    for n in 1..=all {
        stage.open(1);
        let left = all - n;
        stage.until("one ended", |s| s.finished.len() == n && s.running == left.min(most)).await;
    }
    assert_eq!(stage.seen().most, most);
    for (_raw, mut batch) in batches {
        let lines = batch.transcript().await;
        assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 12/12"));
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_keeps_to_its_own_bound() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    check(&rig, &stage, (&["acme"], "gate"), 3, 3).await;
}

#[tokio::test]
async fn a_recipe_keeps_to_its_bound_for_all_tenants_together() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    check(&rig, &stage, (&["acme", "globex"], "gate.two"), 0, 2).await;
}

#[tokio::test]
async fn a_tenant_keeps_to_its_bound_on_all_its_batches_together() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 4).await.expect("there is one");
    check(&rig, &stage, (&["acme", "acme", "acme"], "gate"), 0, 4).await;
}

#[tokio::test]
async fn the_broker_keeps_to_its_bound_for_everyone() {
    let (rig, stage) = Rig::staged(|c| c.batch.concurrency_max = 5).await;
    check(&rig, &stage, (&["acme", "globex"], "gate"), 0, 5).await;
}

#[tokio::test]
async fn a_tenant_at_its_bound_is_in_nobodys_way() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 1).await.expect("there is one");
    let acme = rig.raw("acme").await;
    let mut batch = acme.batch().await;
    for id in 0..100 {
        batch.request(id, "gate", b"acme").await;
    }
    stage.running(1).await;
    let globex = rig.raw("globex").await;
    let mut other = globex.batch().await;
    other.request(1, "gate", b"globex").await;
    stage.until("it runs", |s| s.started.contains(&"globex".to_owned())).await;
    assert!(globex.serves().await);
    stage.open(101);
    batch.seal(100).await;
    assert_eq!(batch.until("summary").await.pop().as_deref(), Some("summary Sealed 100/100"));
    other.seal(1).await;
    other.transcript().await;
    rig.idle().await;
}

#[tokio::test]
async fn what_is_granted_is_what_was_asked_for_within_the_bounds() {
    use tollgate_protocol::BrokerFrame;
    let (rig, _stage) = Rig::staged(|c| c.batch.concurrency_max = 40).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 30).await.expect("there is one");
    for (asked, granted) in [(0, 30), (7, 7), (30, 30), (31, 30), (u32::MAX, 30)] {
        let raw = rig.raw("acme").await;
        let mut batch = raw.batch_with(|open| open.concurrency_max = asked).await;
        let first = batch.next(|f| match f {
            BrokerFrame::Accepted(a) => Some(a.concurrency_max),
            _ => None,
        });
        assert_eq!(first.await.flatten(), Some(granted), "{asked}");
        batch.seal(0).await;
        batch.transcript().await;
    }
    rig.idle().await;
}

#[tokio::test]
async fn more_items_than_may_wait_hold_the_stream_and_all_of_them_run() {
    let (rig, stage) = Rig::staged(|c| c.batch.waiting_items_max = 2).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 2).await;
    for id in 0..200 {
        batch.request(id, "gate", b"x").await;
    }
    batch.seal(200).await;
    stage.running(2).await;
    assert!(raw.serves().await, "another stream of the connection goes on");
    stage.open(200);
    assert_eq!(batch.until("summary").await.pop().as_deref(), Some("summary Sealed 200/200"));
    assert_eq!(stage.seen().most, 2);
    rig.idle().await;
}

#[tokio::test]
async fn items_behind_one_that_answers_at_once_are_not_forgotten() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.concurrency_max = 1).await;
    batch.request(1, "gate", b"1").await;
    stage.running(1).await;
    for id in 2..=9 {
        batch.request(id, "quick", b"q").await;
    }
    batch.seal(9).await;
    assert!(raw.serves().await);
    stage.open(1);
    assert_eq!(batch.until("summary").await.pop().as_deref(), Some("summary Sealed 9/9"));
    rig.idle().await;
}

#[tokio::test]
async fn of_those_that_wait_the_highest_priority_starts_first_and_then_the_oldest() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    rig.broker.tenants().update("acme", None, |s| s.concurrency = 1).await.expect("there is one");
    let raw = rig.raw("acme").await;
    let mut batches = Vec::new();
    for (n, priority) in [(0, 3), (1, 0), (2, 7), (3, 3), (4, 5), (5, 7), (6, 0), (7, 3)] {
        let mut batch = raw.batch_with(|open| open.priority = priority).await;
        batch.request(n, "gate", format!("{priority}#{n}").as_bytes()).await;
        batch.seal(1).await;
        // The first runs; each of the others waits before the next comes.
        eventually("it stands in line", || {
            let c = rig.broker.counters();
            (c.items_running, c.items_waiting) == (1, n as usize)
        })
        .await;
        batches.push(batch);
    }
    stage.open(8);
    let order = stage.until("all ran", |s| s.finished.len() == 8).await.started;
    assert_eq!(order, ["3#0", "7#2", "7#5", "5#4", "3#3", "3#7", "0#1", "0#6"]);
    for mut batch in batches {
        assert_eq!(batch.until("summary").await.len(), 3);
    }
    rig.idle().await;
}
