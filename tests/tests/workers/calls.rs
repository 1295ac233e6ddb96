//! A call from its item to its answer, and back.

use std::time::Duration;

use bytes::Bytes;
use tollgate_client::{
    Request, Worker,
    worker::{Call, Spec, WorkError},
};
use tollgate_protocol::{
    ClientFrame, Code, WorkerFrame,
    batch::{BatchOpen, CancelScope},
    close::StreamCode,
    describe::Encoding,
    id::BatchId,
    work::{Failed, RecipeSpec},
};
use tollgate_tests::{
    Rig, SOON, eventually,
    raw::Told,
    worker::{Said, pattern},
};

#[tokio::test]
async fn an_item_is_run_by_a_worker() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(4, &["upper"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(7, "upper", b"hello").await;
    batch.seal(1).await;
    let call = worker.call().await;
    assert_eq!((call.lease, call.recipe, call.attempt), (1, 0, 1));
    assert_eq!((call.item_id, call.tenant.as_str(), &call.payload[..]), (7, "acme", &b"hello"[..]));
    assert_eq!(call.timeout_ms, 5_000, "the default of a recipe");
    worker.progress(1, 1, 2).await;
    assert_eq!(batch.until("progress").await.last().map(String::as_str), Some("progress 7 1/2"));
    worker.answer(1, b"HELLO").await;
    let lines = batch.transcript().await;
    assert_eq!(lines, ["progress 7 2/2", "result 7 OK HELLO", "summary Sealed 1/1"]);
    rig.idle().await;
}

#[tokio::test]
async fn a_worker_is_given_no_more_than_its_credit() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(2, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=5 {
        batch.request(id, "w", b"x").await;
    }
    batch.seal(5).await;
    let (first, second) = (worker.call().await, worker.call().await);
    assert_eq!((first.lease, second.lease), (1, 2));
    eventually("three wait", || rig.broker.workers()[0].leased == 2).await;
    worker.answer(2, b"").await;
    assert_eq!(worker.call().await.lease, 3, "an answer gives its credit back");
    worker.say(&WorkerFrame::Credit { add: 2 }).await;
    assert_eq!((worker.call().await.lease, worker.call().await.lease), (4, 5));
    for lease in [1, 3, 4, 5] {
        worker.answer(lease, b"").await;
    }
    assert!(batch.transcript().await.contains(&"summary Sealed 5/5".to_owned()));
    rig.idle().await;
}

#[tokio::test]
async fn a_failure_reaches_the_caller_as_the_worker_told_it() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(8, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    let codes = [
        (Code::ValidationError, Code::ValidationError),
        (Code::NotFound, Code::NotFound),
        (Code::Unauthorized, Code::Unauthorized),
        (Code::Forbidden, Code::Forbidden),
        (Code::RateLimited, Code::RateLimited),
        (Code::InternalError, Code::InternalError),
        (Code::Panic, Code::Panic),
        (Code::RecipeExecution, Code::RecipeExecution),
        // The broker's own to use.
        (Code::QuotaExceeded, Code::RecipeExecution),
        (Code::WorkerLost, Code::RecipeExecution),
        (Code::Ok, Code::RecipeExecution),
    ];
    for (id, (said, expected)) in (1..).zip(codes) {
        batch.request(id, "w", b"x").await;
        let call = worker.call().await;
        let mut failed = Failed::new(call.lease, said, "no luck");
        failed.app_code = Some("E42");
        worker.say(&WorkerFrame::Failed(failed)).await;
        let told = loop {
            if let Some(told) = batch.next(|f| Told::of(&f)).await.expect("a frame") {
                break told;
            }
        };
        assert_eq!((told.id, told.code()), (Some(id), Some(expected)), "{said}");
        assert_eq!((told.message.as_str(), told.attempts), ("no luck", 1));
        assert!(!told.retryable && !told.side_effect_free, "it is not idempotent, and it ran");
    }
}

#[tokio::test]
async fn a_cancelled_item_is_told_to_its_worker_and_still_costs_its_credit() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(1, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"x").await;
    let call = worker.call().await;
    batch.reset(StreamCode::CancelAll.number());
    assert_eq!(worker.next().await, Said::Cancel(call.lease));
    let mut second = raw.batch().await;
    second.request(1, "w", b"y").await;
    second.seal(1).await;
    eventually("it waits", || rig.broker.counters().worker_queue == 1).await;
    worker.fail(call.lease, Code::Cancelled, "stopped").await;
    let next = worker.call().await;
    worker.answer(next.lease, b"done").await;
    let lines = second.transcript().await;
    assert_eq!(lines, ["accepted", "result 1 OK done", "summary Sealed 1/1"]);
    rig.idle().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_and_its_worker_is_told() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = RecipeSpec::new("slow");
    spec.timeout_ms = Some(50);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "slow", b"x").await;
    batch.seal(1).await;
    assert_eq!(worker.call().await.timeout_ms, 50);
    let told = batch.failures().await;
    assert_eq!((told[0].code(), told[0].attempts), (Some(Code::Timeout), 1));
    assert_eq!(told[0].detail("phase"), "running");
    assert_eq!(worker.next().await, Said::Cancel(1));
    rig.idle().await;
}

/// The one that is timed begins after it has waited for longer than it may run.
#[tokio::test]
async fn a_call_that_has_waited_may_run_no_longer_than_others() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    worker.register(RecipeSpec::new("slow")).await;
    for (name, schema) in [("plain", None), ("judged", Some(r#"{"type":"number"}"#))] {
        let mut spec = RecipeSpec::new(name);
        (spec.timeout_ms, spec.schema) = (Some(150), schema);
        if schema.is_some() {
            spec.encoding = Encoding::Json;
        }
        worker.register(spec).await;
    }
    let raw = rig.raw("acme").await;
    for name in ["plain", "judged"] {
        let mut batch = raw.batch().await;
        batch.request(1, "slow", b"1").await;
        let held = worker.call().await;
        batch.request(2, name, b"2").await;
        batch.seal(2).await;
        eventually("it waits", || rig.broker.counters().worker_queue == 1).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        worker.answer(held.lease, b"").await;
        let call = worker.call().await;
        let told = tokio::time::timeout(SOON, batch.failures()).await.expect("in its time");
        assert_eq!((told[0].code(), told[0].attempts), (Some(Code::Timeout), 1), "{name}");
        assert_eq!(told[0].detail("phase"), "running");
        assert_eq!(worker.next().await, Said::Cancel(call.lease));
        worker.answer(call.lease, b"").await;
    }
    rig.idle().await;
}

#[tokio::test]
async fn what_has_no_room_in_one_line_holds_up_no_other() {
    let rig = Rig::with(|c| c.workers.queue_per_tenant_max = 1).await;
    let mut full = rig.serving(1, &["full"]).await;
    let mut free = rig.serving(8, &["free"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=5 {
        batch.request(id, "full", id.to_string().as_bytes()).await;
    }
    let first = full.call().await;
    for id in 6..=9 {
        batch.request(id, "free", id.to_string().as_bytes()).await;
    }
    for id in 6..=9 {
        let call = free.call().await;
        assert_eq!(call.payload, id.to_string().as_bytes());
        free.answer(call.lease, b"").await;
    }
    batch.until("result 9 OK").await;
    batch.seal(9).await;
    full.answer(first.lease, b"").await;
    for id in 2..=5 {
        let call = full.call().await;
        assert_eq!(call.payload, id.to_string().as_bytes(), "in the order of their coming");
        full.answer(call.lease, b"").await;
    }
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 9/9"), "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn a_line_that_is_shorter_than_what_workers_take_at_once_holds_up_nobody() {
    let rig = Rig::with(|c| c.workers.queue_per_tenant_max = 2).await;
    let mut worker = rig.serving(64, &["w"]).await;
    let raw = rig.raw("acme").await;
    for _ in 0..3 {
        let mut batch = raw.batch().await;
        for id in 1..=20 {
            batch.request(id, "w", b"x").await;
        }
        batch.seal(20).await;
        worker.echo(20).await;
        let lines = batch.transcript().await;
        assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 20/20"), "{lines:?}");
    }
    rig.idle().await;
}

#[tokio::test]
async fn what_its_own_batch_holds_back_does_not_wait_for_others() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 8).await;
    let mut spec = RecipeSpec::new("w");
    spec.queue_timeout_ms = Some(300);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open: &mut BatchOpen<'_>| open.concurrency_max = 1).await;
    for id in 1..=4 {
        batch.request(id, "w", b"x").await;
    }
    batch.seal(4).await;
    for _ in 0..4 {
        let call = worker.call().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        worker.answer(call.lease, b"").await;
    }
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 4/4"), "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn what_waits_too_long_was_never_started() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = RecipeSpec::new("w");
    spec.queue_timeout_ms = Some(50);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"x").await;
    worker.call().await;
    batch.request(2, "w", b"y").await;
    let mut told = None;
    while told.is_none() {
        told = batch.next(|f| Told::of(&f)).await.expect("a frame");
    }
    let told = told.expect("a failure");
    assert_eq!((told.id, told.code(), told.attempts), (Some(2), Some(Code::Timeout), 0));
    assert_eq!(told.detail("phase"), "queued");
    assert!(told.retryable && told.side_effect_free);
    // Its worker leaves: the recipe stays known, and nobody serves it.
    drop(worker);
    batch.request(3, "w", b"z").await;
    batch.seal(3).await;
    let told = batch.failures().await;
    let codes: Vec<_> = told.iter().map(|t| (t.id, t.code())).collect();
    let expected = [(Some(1), Some(Code::WorkerLost)), (Some(3), Some(Code::NoWorker))];
    assert_eq!(codes, expected);
    assert!(told[1].side_effect_free);
    rig.idle().await;
}

#[tokio::test]
async fn more_than_fit_the_line_wait_as_long_and_hear_the_same() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = RecipeSpec::new("w");
    spec.queue_timeout_ms = Some(300);
    worker.register(spec).await;
    drop(worker);
    eventually("it is gone", || rig.broker.workers().is_empty()).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=400 {
        batch.request(id, "w", b"x").await;
    }
    batch.seal(400).await;
    let told = batch.failures().await;
    assert_eq!(told.len(), 400);
    let other = told.iter().find(|t| (t.code(), t.attempts) != (Some(Code::NoWorker), 0));
    assert!(other.is_none(), "{other:?}");
    rig.idle().await;
}

#[tokio::test]
async fn what_has_no_room_elsewhere_holds_up_nothing_that_runs_here() {
    let rig = Rig::with(|c| c.workers.queue_per_tenant_max = 1).await;
    let mut worker = rig.serving(1, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=4 {
        batch.request(id, "w", id.to_string().as_bytes()).await;
    }
    // One runs, one is in line, and there is no room for two.
    let first = worker.call().await;
    batch.request(5, "delay", br#"{"ms":1}"#).await;
    batch.until("result 5 OK").await;
    batch.seal(5).await;
    worker.answer(first.lease, b"").await;
    for id in 2..=4 {
        let call = worker.call().await;
        assert_eq!(call.payload, id.to_string().as_bytes(), "in the order of their coming");
        worker.answer(call.lease, b"").await;
    }
    let lines = batch.transcript().await;
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 5/5"), "{lines:?}");
    rig.idle().await;
}

#[tokio::test]
async fn what_waits_for_a_worker_is_cancelled_with_what_has_not_started() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(1, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=3 {
        batch.request(id, "w", b"x").await;
    }
    let call = worker.call().await;
    batch.frame(&ClientFrame::Cancel(CancelScope::Pending)).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(batch.next(|f| Told::of(&f)).await.expect("a frame"));
    }
    let mut told: Vec<_> = told.iter().map(|t| (t.id, t.code(), t.attempts)).collect();
    told.sort_unstable_by_key(|t| t.0);
    assert_eq!(told, [2, 3].map(|id| (Some(id), Some(Code::Cancelled), 0)));
    worker.answer(call.lease, b"done").await;
    let lines = batch.transcript().await;
    assert_eq!(lines, ["result 1 OK done", "summary Cancelled 1/3"]);
    // Nothing of it is in line any more.
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"next").await;
    batch.seal(1).await;
    assert_eq!(worker.call().await.payload, b"next");
    worker.answer(2, b"").await;
    batch.transcript().await;
    rig.idle().await;
}

#[tokio::test]
async fn a_worker_that_drains_answers_what_it_has_and_gets_no_more() {
    let rig = Rig::start().await;
    let mut leaving = rig.serving(1, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"a").await;
    let call = leaving.call().await;
    leaving.say(&WorkerFrame::Drain).await;
    eventually("it drains", || rig.broker.workers()[0].draining).await;
    let mut other = rig.serving(1, &["w"]).await;
    batch.request(2, "w", b"b").await;
    batch.seal(2).await;
    other.echo(1).await;
    leaving.answer(call.lease, b"a").await;
    assert_eq!(leaving.next().await, Said::End);
    let mut lines = batch.transcript().await;
    lines.sort();
    assert_eq!(lines, ["accepted", "result 1 OK a", "result 2 OK b", "summary Sealed 2/2"]);
    eventually("it is gone", || rig.broker.workers().len() == 1).await;
}

#[tokio::test]
async fn large_payloads_travel_apart_both_ways() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(4, &["large"]).await;
    let client = rig.client("acme").await;
    let payload = pattern(900_000);
    let sent = payload.clone();
    let asks = tokio::spawn(async move {
        client.execute([Request::new("large", sent)]).await.expect("a batch")
    });
    let call = worker.call().await;
    assert_eq!((call.apart, call.payload.len()), (Some(900_000), 0));
    let fetched = worker.fetch(call.lease).await.expect("the payload");
    assert!(fetched == payload);
    let mut stream = worker.deliver(call.lease, 900_000).await;
    stream.bytes(&payload).await;
    stream.fin();
    let result = asks.await.expect("no panic").into_result().expect("it succeeded");
    let first = result.first().expect("one");
    assert!(first.outcome.as_ref().expect("well").as_ref() == &payload[..]);
    assert!(worker.fetch(call.lease).await.is_err(), "an answered call has no payload");
    rig.idle().await;
}

#[tokio::test]
async fn a_large_answer_that_does_not_come_whole_is_a_failure() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(4, &["large"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=4 {
        batch.request(id, "large", b"x").await;
    }
    batch.seal(4).await;
    for _ in 0..4 {
        worker.call().await;
    }
    // Too short, too long, too large for the recipe, and right.
    let mut short = worker.deliver(1, 100_000).await;
    short.bytes(&pattern(99_999)).await;
    short.fin();
    let mut long = worker.deliver(2, 100_000).await;
    long.bytes(&pattern(100_001)).await;
    long.fin();
    let mut large = worker.deliver(3, 2 << 20).await;
    assert_eq!(large.stopped().await, Some(StreamCode::Done));
    let mut right = worker.deliver(4, 100_000).await;
    right.bytes(&pattern(100_000)).await;
    right.fin();
    let mut lines = batch.transcript().await;
    lines.sort();
    let expected = [
        "accepted",
        "result 1 WORKER_LOST",
        "result 2 WORKER_LOST",
        "result 3 RESULT_TOO_LARGE",
        "result 4 OK 100000 bytes",
        "summary Sealed 1/4",
    ];
    assert_eq!(lines, expected);
    assert_eq!(rig.broker.workers()[0].leased, 0, "every lease is over");
    rig.idle().await;
}

#[tokio::test]
async fn an_idempotent_call_whose_large_answer_is_cut_off_is_made_again() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 1).await;
    let mut spec = RecipeSpec::new("again");
    (spec.idempotent, spec.attempts_max) = (true, 2);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "again", b"x").await;
    for attempt in 1..=2 {
        let call = worker.call().await;
        assert_eq!(call.attempt, attempt);
        let mut short = worker.deliver(call.lease, 100_000).await;
        short.bytes(&pattern(99_999)).await;
        short.fin();
    }
    batch.until("result 1 WORKER_LOST").await;
    batch.request(2, "again", b"x").await;
    batch.seal(2).await;
    let call = worker.call().await;
    let mut short = worker.deliver(call.lease, 100_000).await;
    short.fin();
    let call = worker.call().await;
    worker.answer(call.lease, b"well").await;
    assert!(batch.transcript().await.contains(&"result 2 OK well".to_owned()));
    rig.idle().await;
}

#[tokio::test]
async fn a_large_answer_that_waits_for_room_does_not_run_out_of_time() {
    const SIZE: usize = 600_000;
    let timeout = Duration::from_millis(300);
    // Room for one of them; another goes beyond it, and the third waits.
    let rig = Rig::with(|c| c.tenancy.tenant_in_flight_bytes = 1 << 20).await;
    let mut worker = rig.worker(None, 4).await;
    let mut quick = RecipeSpec::new("quick");
    quick.timeout_ms = Some(timeout.as_millis() as u64);
    worker.register(RecipeSpec::new("slow")).await;
    worker.register(quick).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    let tenant = rig.broker.tenants().get("acme").expect("there");
    let mut streams = Vec::new();
    for id in 1..=2 {
        batch.request(id, "slow", b"x").await;
        let call = worker.call().await;
        streams.push(worker.deliver(call.lease, SIZE as u64).await);
        let room = SIZE * streams.len();
        eventually("it has its room", || tenant.bytes_in_flight() >= room).await;
    }
    batch.request(3, "quick", b"x").await;
    batch.seal(3).await;
    let third = worker.call().await;
    streams.push(worker.deliver(third.lease, SIZE as u64).await);
    // Longer than the recipe may run; what its answer waits for is not its doing.
    tokio::time::sleep(timeout * 3).await;
    for stream in &mut streams {
        stream.bytes(&pattern(SIZE)).await;
        stream.fin();
    }
    let mut lines = batch.transcript().await;
    lines.sort();
    let result = |id| format!("result {id} OK {SIZE} bytes");
    let expected = [result(1), result(2), result(3), "summary Sealed 3/3".to_owned()];
    assert_eq!(lines[1..], expected);
    rig.idle().await;
}

#[tokio::test]
async fn items_whose_answers_are_larger_than_all_their_room_end_one_after_another() {
    // Room for sixteen items as they are expected, or for four as they come.
    let rig = Rig::with(|c| c.tenancy.tenant_in_flight_bytes = 1 << 20).await;
    let worker = Worker::builder(rig.broker.local_addr())
        .server_name("localhost")
        .credentials(rig.worker_credentials(None))
        .concurrency(64)
        .recipe("grows", Spec::new(), |_: Call, size: Bytes| async move {
            let size: usize = std::str::from_utf8(&size)?.parse()?;
            Ok::<_, WorkError>(vec![7; size])
        })
        .build()
        .expect("in order");
    let stopper = worker.stopper();
    let serves = tokio::spawn(worker.run());
    eventually("it serves", || !rig.broker.workers().is_empty()).await;
    let client = rig.client("acme").await;
    for size in [64_000, 250_000] {
        let items = (0..100).map(|_| Request::new("grows", size.to_string()));
        let batch = tokio::time::timeout(SOON * 2, client.execute(items)).await;
        let result = batch.expect("in time").expect("a batch").into_result().expect("all well");
        assert_eq!(result.len(), 100);
        assert!(result.iter().all(|i| i.outcome.as_ref().is_ok_and(|o| o.len() == size)));
    }
    stopper.stop();
    serves.await.expect("no panic").expect("a good end");
    rig.idle().await;
}

#[tokio::test]
async fn a_schema_is_checked_before_anything_is_dispatched() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 4).await;
    let mut spec = RecipeSpec::new("typed");
    spec.encoding = Encoding::Json;
    spec.schema = Some(r#"{"type":"object","required":["n"]}"#);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "typed", b"{}").await;
    batch.request(2, "typed", br#"{"n":1}"#).await;
    batch.seal(2).await;
    let call = worker.call().await;
    assert_eq!(call.item_id, 2);
    worker.answer(call.lease, b"1").await;
    let lines = batch.transcript().await;
    assert!(lines.contains(&"result 1 VALIDATION_ERROR".to_owned()), "{lines:?}");
    assert!(lines.contains(&"result 2 OK 1".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn the_order_of_submission_is_kept() {
    let rig = Rig::start().await;
    let mut worker = rig.serving(4, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw
        .batch_with(|open: &mut BatchOpen<'_>| {
            open.batch_id = BatchId::random();
            open.order = tollgate_protocol::batch::Order::Submission;
        })
        .await;
    for id in 1..=3 {
        batch.request(id, "w", id.to_string().as_bytes()).await;
    }
    batch.seal(3).await;
    let calls = [worker.call().await, worker.call().await, worker.call().await];
    for call in calls.iter().rev() {
        worker.answer(call.lease, &call.payload).await;
    }
    let lines = batch.transcript().await;
    assert_eq!(lines[1..4], ["result 1 OK 1", "result 2 OK 2", "result 3 OK 3"]);
}
