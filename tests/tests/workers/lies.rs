//! Workers that lie, dawdle and shout: each is refused or bounded, and others are served.

use tollgate_protocol::{
    Code, Pairs, WorkerFrame,
    work::{Answer, Failed, RecipeSpec},
};
use tollgate_tests::{
    Rig, eventually,
    raw::{Ending, Raw, RawStream},
    worker::{RawWorker, Said},
};

/// One call in a worker's hands.
async fn one_call() -> (Rig, RawWorker, Raw, RawStream) {
    let rig = Rig::start().await;
    let mut worker = rig.serving(4, &["w"]).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "w", b"x").await;
    batch.seal(1).await;
    assert_eq!(worker.call().await.lease, 1);
    (rig, worker, raw, batch)
}

#[tokio::test]
async fn an_answer_to_a_call_that_was_never_given_ends_the_worker() {
    for lease in [0, 2, 1_000, u64::MAX] {
        let (rig, mut worker, raw, mut batch) = one_call().await;
        worker.answer(lease, b"mine").await;
        let told = worker.error().await;
        assert_eq!(told.code(), Some(Code::InvalidAction), "{lease}");
        assert_eq!(told.detail("lease"), lease.to_string());
        assert!(batch.transcript().await.contains(&"result 1 WORKER_LOST".to_owned()));
        assert!(raw.serves().await);
        rig.idle().await;
    }
}

#[tokio::test]
async fn a_second_answer_is_not_heard() {
    let (rig, mut worker, _raw, mut batch) = one_call().await;
    worker.answer(1, b"first").await;
    worker.answer(1, b"second").await;
    worker.fail(1, Code::InternalError, "third").await;
    worker.progress(1, 1, 1).await;
    assert!(batch.transcript().await.contains(&"result 1 OK first".to_owned()));
    // And it works on.
    let raw = rig.raw("globex").await;
    let mut next = raw.batch().await;
    next.request(1, "w", b"y").await;
    next.seal(1).await;
    worker.echo(1).await;
    assert!(next.transcript().await.contains(&"result 1 OK y".to_owned()));
}

#[tokio::test]
async fn one_workers_lease_is_nothing_to_another() {
    let (rig, mut worker, _raw, mut batch) = one_call().await;
    let mut other = rig.serving(4, &["w"]).await;
    other.answer(1, b"stolen").await;
    assert_eq!(other.error().await.code(), Some(Code::InvalidAction));
    let mut theirs = rig.worker(Some("globex"), 4).await;
    theirs.answer(1, b"stolen").await;
    assert_eq!(theirs.error().await.code(), Some(Code::InvalidAction));
    worker.answer(1, b"right").await;
    assert!(batch.transcript().await.contains(&"result 1 OK right".to_owned()));
}

#[tokio::test]
async fn a_frame_that_is_none_ends_the_worker_and_its_calls() {
    let garbage: [&[u8]; 4] = [
        &[0, 0, 0, 1, 99],
        // An answer that ends too early.
        &[0, 0, 0, 2, 3, 1],
        // An answer with bytes behind it.
        &[0, 0, 0, 5, 3, 1, 0, 0, 7],
        // A frame of 4 GiB.
        &[0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in garbage {
        let (rig, mut worker, raw, mut batch) = one_call().await;
        worker.stream.bytes(bytes).await;
        let told = worker.error().await;
        let code = told.code().expect("known");
        assert!(matches!(code, Code::MalformedFrame | Code::FrameTooLarge), "{bytes:?}: {code}");
        let lines = batch.transcript().await;
        assert!(lines.contains(&"result 1 WORKER_LOST".to_owned()), "{bytes:?}: {lines:?}");
        assert!(raw.serves().await);
        rig.idle().await;
    }
}

#[tokio::test]
async fn an_answer_out_of_bounds_ends_its_own_call_alone() {
    let (rig, mut worker, raw, mut batch) = one_call().await;
    let mut second = raw.batch().await;
    second.request(1, "w", b"y").await;
    second.seal(1).await;
    assert_eq!(worker.call().await.lease, 2);
    let (metadata, payload) = (Pairs::EMPTY, vec![7; (64 << 10) + 1]);
    worker.say(&WorkerFrame::Answer(Answer { lease: 1, metadata, payload: &payload })).await;
    let lines = batch.transcript().await;
    assert!(lines.contains(&"result 1 INTERNAL_ERROR".to_owned()), "{lines:?}");
    worker.answer(2, b"y").await;
    assert!(second.transcript().await.contains(&"result 1 OK y".to_owned()));
    rig.idle().await;
}

#[tokio::test]
async fn a_result_larger_than_its_recipe_may_give_is_a_failure() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 4).await;
    let mut spec = RecipeSpec::new("small");
    spec.result_bytes_max = Some(10);
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, "small", b"x").await;
    batch.seal(1).await;
    let call = worker.call().await;
    worker.answer(call.lease, b"eleven byte").await;
    assert!(batch.transcript().await.contains(&"result 1 RESULT_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn a_flood_of_progress_reaches_nobody_twice_and_starves_nobody() {
    let (rig, mut worker, raw, mut batch) = one_call().await;
    for n in 0..20_000 {
        worker.progress(1, n, 20_000).await;
    }
    assert!(raw.serves().await, "others are served meanwhile");
    worker.answer(1, b"done").await;
    let lines = batch.transcript().await;
    let told = lines.iter().filter(|l| l.starts_with("progress")).count();
    assert!((1..=2_000).contains(&told), "{told} reports");
    let last = lines.iter().rev().find(|l| l.starts_with("progress"));
    assert_eq!(last.map(String::as_str), Some("progress 1 20000/20000"));
    rig.idle().await;
}

#[tokio::test]
async fn who_takes_calls_and_never_answers_harms_itself_alone() {
    let rig = Rig::start().await;
    let spec = || {
        let mut spec = RecipeSpec::new("w");
        (spec.idempotent, spec.timeout_ms) = (true, Some(100));
        spec
    };
    let mut hoarder = rig.worker(None, 2).await;
    hoarder.register(spec()).await;
    let mut honest = rig.worker(None, 2).await;
    honest.register(spec()).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=20 {
        batch.request(id, "w", b"x").await;
    }
    batch.seal(20).await;
    honest.echo(18).await;
    let lines = batch.transcript().await;
    assert!(lines.contains(&"summary Sealed 18/20".to_owned()), "{lines:?}");
    let late = lines.iter().filter(|l| l.ends_with("TIMEOUT")).count();
    assert_eq!(late, 2, "{lines:?}");
    let hoards = rig.broker.workers().into_iter().map(|w| w.leased).max();
    assert_eq!(hoards, Some(2), "it still has them");
    drop(hoarder);
    rig.idle().await;
}

#[tokio::test]
async fn more_credit_than_allowed_is_cut_and_more_than_there_is_refused() {
    let rig = Rig::with(|c| c.workers.credit_max = 3).await;
    let worker = rig.serving(1_000, &["w"]).await;
    assert_eq!(rig.broker.workers()[0].credit, 3);
    drop(worker);
    let mut worker = rig.worker(None, 1).await;
    worker.say(&WorkerFrame::Credit { add: u32::MAX }).await;
    let told = worker.error().await;
    assert_eq!(told.code(), Some(Code::ValidationError));
}

#[tokio::test]
async fn a_worker_that_reads_nothing_is_let_go() {
    let rig = Rig::with(|c| c.limits.reader_timeout_ms = 300).await;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(4_096u32.into());
    let raw =
        tollgate_tests::raw::connect_with(rig.addr(), &rig.worker_credentials(None), transport)
            .await;
    let mut stream = raw.stream().await;
    let open = tollgate_protocol::work::WorkOpen::new(64);
    stream.frame(&tollgate_protocol::ClientFrame::Work(open)).await;
    let mut deaf = RawWorker { raw, stream };
    deaf.register(RecipeSpec::new("w")).await;
    let client = rig.raw("acme").await;
    let mut batch = client.batch().await;
    for id in 1..=8 {
        batch.request(id, "w", &[7; 8_000]).await;
    }
    batch.seal(8).await;
    let lines = batch.transcript().await;
    assert_eq!(lines.iter().filter(|l| l.ends_with("WORKER_LOST")).count(), 8, "{lines:?}");
    loop {
        match deaf.next().await {
            Said::Call(_) => {}
            Said::Over(end) => {
                assert_ne!(end, Ending::Finished);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    rig.idle().await;
}

#[tokio::test]
async fn an_error_that_is_permanent_or_names_a_wait_is_told_so() {
    let rig = Rig::start().await;
    let mut worker = rig.worker(None, 4).await;
    let mut spec = RecipeSpec::new("w");
    spec.idempotent = true;
    worker.register(spec).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for id in 1..=3 {
        batch.request(id, "w", b"x").await;
    }
    batch.seal(3).await;
    for permanent in [false, true] {
        let lease = worker.call().await.lease;
        let mut failed = Failed::new(lease, Code::RecipeExecution, "no");
        failed.permanent = permanent;
        worker.say(&WorkerFrame::Failed(failed)).await;
    }
    let lease = worker.call().await.lease;
    let mut failed = Failed::new(lease, Code::RateLimited, "later");
    failed.retry_after_ms = Some(1_500);
    worker.say(&WorkerFrame::Failed(failed)).await;
    let mut told = batch.failures().await;
    told.sort_by_key(|t| t.id);
    assert_eq!(told.iter().map(|t| t.retryable).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(told[2].retry_after_ms, Some(1_500));
    eventually("nothing is leased", || rig.broker.counters().worker_leases == 0).await;
}
