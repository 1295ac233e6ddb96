//! Who is served when many wait: tenants in fair turns, and nobody by their number of items.

use std::{collections::BTreeMap, time::Duration};

use tollgate_broker::tenancy::Settings;
use tollgate_client::{Client, Request};
use tollgate_protocol::{WorkerFrame, batch::BatchOpen, id::BatchId, work::RecipeSpec};
use tollgate_tests::{Rig, SOON, eventually, settings, worker::RawWorker};

/// A tenant that has so many items in line, in several batches.
async fn offers(rig: &Rig, tenant: &str, recipe: &'static str, batches: usize, items: usize) {
    let client: Client = rig.client(tenant).await;
    for _ in 0..batches {
        let client = client.clone();
        tokio::spawn(async move {
            let requests = (0..items).map(|_| Request::new(recipe, "x"));
            // Given up with the test.
            let _ = client.batch().execute(requests).await;
        });
    }
}

/// The tenants of the next calls, each answered before the next is taken. The work takes a while,
/// so that what the way takes weighs little beside it.
async fn served(worker: &mut RawWorker, calls: usize) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..calls {
        let call = worker.call().await;
        *served.entry(call.tenant).or_insert(0) += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
        worker.answer(call.lease, b"").await;
    }
    served
}

/// Lets a worker take a first call, now that all wait.
async fn begin(worker: &mut RawWorker) {
    worker.say(&WorkerFrame::Credit { add: 1 }).await;
}

fn weighing(weight: u32) -> Settings {
    Settings { weight, ..settings() }
}

#[tokio::test]
async fn one_item_passes_a_tenant_that_offers_thousands() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(0, &["w"]).await;
    offers(&rig, "acme", "w", 8, 500).await;
    eventually("many wait", || rig.broker.counters().worker_queue >= 1_000).await;
    begin(&mut worker).await;
    served(&mut worker, 10).await;
    let raw = rig.raw("globex").await;
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"one").await;
    batch.seal(1).await;
    eventually("it waits too", || {
        rig.broker.tenants().get("globex").expect("there").bytes_in_flight() > 0
    })
    .await;
    let mut before = 0;
    loop {
        let call = worker.call().await;
        worker.answer(call.lease, b"").await;
        if call.tenant == "globex" {
            break;
        }
        before += 1;
        assert!(before < 50, "it is passed over");
    }
    assert!(batch.transcript().await.contains(&"summary Sealed 1/1".to_owned()));
}

#[tokio::test]
async fn equal_tenants_are_served_alike_however_much_they_offer() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(0, &["w"]).await;
    let ids: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        rig.broker.tenants().create_named(id, settings()).await.expect("a tenant");
        offers(&rig, id, "w", 1 + n % 4, 400).await;
    }
    eventually("all wait", || rig.broker.counters().worker_queue >= 20 * 256).await;
    begin(&mut worker).await;
    let served = served(&mut worker, 1_000).await;
    let (sum, squares) =
        served.values().fold((0.0, 0.0), |(s, q), &n| (s + n as f64, q + (n as f64).powi(2)));
    let jain = sum * sum / (20.0 * squares);
    // Counts stand for time here, which varies; the exact shares are `rules`' to show.
    assert!(jain >= 0.9, "{jain}: {served:?}");
}

#[tokio::test]
async fn queues_are_bounded_a_tenant_and_what_is_beyond_is_not_read() {
    let rig = Rig::with(|c| c.workers.queue_per_tenant_max = 100).await;
    let mut worker = rig.serving(1, &["w"]).await;
    offers(&rig, "acme", "w", 4, 400).await;
    eventually("the line is full", || rig.broker.counters().worker_queue == 100).await;
    for _ in 0..1_600 {
        let call = worker.call().await;
        worker.answer(call.lease, b"").await;
        assert!(rig.broker.counters().worker_queue <= 100);
    }
    rig.idle().await;
}

#[tokio::test]
async fn what_nobody_serves_holds_nothing_that_others_need() {
    let rig = Rig::with(|c| c.batch.concurrency_max = 8).await;
    let worker = rig.serving(1, &["gone"]).await;
    drop(worker);
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
    offers(&rig, "acme", "gone", 4, 100).await;
    eventually("many wait", || rig.broker.counters().worker_queue >= 30).await;
    assert_eq!(rig.broker.counters().items_running, 0);
    // `delay` takes a slot of the broker's, and there are few.
    let client = rig.client("acme").await;
    let items = (0..16).map(|_| Request::new("delay", r#"{"ms":1}"#));
    let result = tokio::time::timeout(SOON, client.execute(items)).await.expect("in time");
    result.expect("a batch").into_result().expect("all well");
}

#[tokio::test]
async fn weights_are_shares() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(0, &["w"]).await;
    for (id, weight) in [("one", 1), ("two", 2), ("four", 4)] {
        rig.broker.tenants().create_named(id, weighing(weight)).await.expect("a tenant");
        offers(&rig, id, "w", 5, 900).await;
    }
    eventually("all wait", || rig.broker.counters().worker_queue >= 2_900).await;
    begin(&mut worker).await;
    let served = served(&mut worker, 1_050).await;
    for (id, share) in [("one", 150.0), ("two", 300.0), ("four", 600.0)] {
        let got = served[id] as f64 / share;
        // Counts stand for time here, which varies: the exact shares are `rules`' to show.
        assert!((0.6..=1.4).contains(&got), "{served:?}");
    }
}

#[tokio::test]
async fn the_tenants_own_bound_holds_for_what_workers_run() {
    let rig = Rig::start().await;
    rig.roomy_concurrency("acme", 3).await;
    let mut worker = rig.serving(100, &["w"]).await;
    offers(&rig, "acme", "w", 4, 20).await;
    let mut held: Vec<_> = Vec::new();
    for _ in 0..3 {
        held.push(worker.call().await.lease);
    }
    eventually("three run", || rig.broker.counters().items_running == 3).await;
    let mut answered = 0;
    while answered < 80 {
        worker.answer(held.remove(0), b"").await;
        answered += 1;
        if answered + held.len() < 80 {
            held.push(worker.call().await.lease);
            assert!(rig.broker.counters().items_running <= 3);
        }
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_recipes_own_bound_holds_over_all_its_workers() {
    let rig = Rig::start().await;
    let mut spec = RecipeSpec::new("w");
    spec.concurrency_max = Some(2);
    let mut a = rig.worker(None, 10).await;
    a.register(spec).await;
    let mut b = rig.worker(None, 10).await;
    b.register(spec).await;
    offers(&rig, "acme", "w", 1, 10).await;
    let (first, second) = (a.call().await, b.call().await);
    eventually("eight wait", || rig.broker.counters().worker_queue == 8).await;
    let more = tokio::time::timeout(Duration::from_millis(100), a.next()).await;
    assert!(more.is_err(), "{more:?}");
    a.answer(first.lease, b"").await;
    b.answer(second.lease, b"").await;
    for turn in 0..8 {
        let worker = if turn % 2 == 0 { &mut a } else { &mut b };
        let call = worker.call().await;
        worker.answer(call.lease, b"").await;
    }
    rig.idle().await;
}

#[tokio::test]
async fn within_a_tenant_priority_is_first_and_then_age() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(0, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batches = Vec::new();
    for (at, priority) in [3, 0, 7, 3, 7].into_iter().enumerate() {
        let mut batch = raw
            .batch_with(|open: &mut BatchOpen<'_>| {
                open.batch_id = BatchId::random();
                open.priority = priority;
            })
            .await;
        for id in 0..2 {
            batch.request(id, "w", format!("{at} {id}").as_bytes()).await;
        }
        batch.seal(2).await;
        let waiting = 2 * (at + 1);
        eventually("they wait", || rig.broker.counters().worker_queue == waiting).await;
        batches.push(batch);
    }
    begin(&mut worker).await;
    let mut order = Vec::new();
    for _ in 0..10 {
        let call = worker.call().await;
        order.push(String::from_utf8(call.payload).expect("text"));
        worker.answer(call.lease, b"").await;
    }
    assert_eq!(order, ["2 0", "2 1", "4 0", "4 1", "0 0", "0 1", "3 0", "3 1", "1 0", "1 1"]);
    for mut batch in batches {
        assert!(batch.transcript().await.contains(&"summary Sealed 2/2".to_owned()));
    }
    rig.idle().await;
}
