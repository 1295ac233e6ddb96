//! A worker at work: calls in, answers out, in every shape.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tollgate_client::{
    Code,
    worker::{Answer, Call, Spec, WorkError, WorkerBuilder},
};
use tollgate_protocol::{DispatchFrame, PairsBuf, work::Dispatch};

use crate::support::{bench::*, *};

fn echo(builder: WorkerBuilder) -> WorkerBuilder {
    builder.recipe("echo", Spec::new(), |_, payload| async move { Ok(payload) })
}

#[tokio::test]
async fn a_worker_registers_answers_and_leaves_in_good_order() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = echo(bench.worker().concurrency(3)).recipe(
            "upper",
            Spec::new().idempotent(),
            |_, p: Bytes| async move { Ok(p.to_ascii_uppercase()) },
        );
        let worker = Running::start(worker);
        let (mut desk, names) = bench.work(2).await;
        assert_eq!(desk.first, Some(In::Work { credit: 3 }));
        assert_eq!(names, ["echo", "upper"]);
        desk.tell(&[DispatchFrame::Alive]).await;
        desk.dispatch(call(1, b"one")).await;
        desk.dispatch(Dispatch { recipe: 1, ..call(2, b"two") }).await;
        assert_eq!(desk.said().await, answer(1, "one"));
        assert_eq!(desk.said().await, answer(2, "TWO"));

        // What has crossed `Drain` is still served.
        worker.stopper.stop();
        assert_eq!(desk.said().await, Said::Drain);
        desk.dispatch(call(3, b"late")).await;
        assert_eq!(desk.said().await, answer(3, "late"));
        desk.tell(&[DispatchFrame::End]).await;
        let served = worker.end().await.expect("stopped");
        assert_eq!((served.succeeded, served.failed, served.connections), (3, 0, 1));
    })
    .await;
}

#[tokio::test]
async fn a_call_knows_for_whom_it_is_and_an_answer_may_carry_metadata() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = bench.worker().recipe("who", Spec::new(), |call: Call, _| async move {
            let lang = call.metadata().get("lang").unwrap_or("none").to_owned();
            assert!(call.time_left() > Duration::from_secs(1));
            assert!(call.deadline() > Instant::now());
            let text = format!(
                "{} {} {} {} {} {:?} {lang}",
                call.recipe(),
                call.tenant(),
                call.batch_id(),
                call.item_id(),
                call.attempt(),
                call.traceparent()
            );
            Ok(Answer::new(text).metadata("rows", "7"))
        });
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        let mut metadata = PairsBuf::new();
        metadata.push("lang", "fr").expect("short");
        let asked = Dispatch {
            attempt: 2,
            traceparent: Some("00-trace"),
            metadata: metadata.as_pairs(),
            ..call(1, b"")
        };
        desk.dispatch(asked).await;
        let Said::Answer { payload, metadata, .. } = desk.said().await else { panic!("no answer") };
        let who = "who acme 07070707-0707-0707-0707-070707070707 101 2 Some(\"00-trace\") fr";
        assert_eq!(payload, who);
        assert_eq!(metadata, [("rows".to_owned(), "7".to_owned())]);
        worker.stop(desk).await;
    })
    .await;
}

#[tokio::test]
async fn failures_keep_their_code_and_panics_are_one_failed_call() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = bench.worker().recipe("wrong", Spec::new(), |_, how: Bytes| async move {
            match &*how {
                b"validation" => Err(WorkError::validation("no").permanent()),
                b"own code" => Err(WorkError::new(Code::WorkerLost, "not for a handler to say")),
                b"question mark" => Ok(Bytes::from(std::fs::read("/nowhere")?)),
                b"panic" => panic!("secret"),
                b"later panic" => {
                    tokio::task::yield_now().await;
                    panic!("secret")
                }
                _ => Ok(how),
            }
        });
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        let cases = [
            ("validation", Code::ValidationError, "no", true),
            ("own code", Code::RecipeExecution, "not for a handler to say", false),
            (
                "question mark",
                Code::RecipeExecution,
                "No such file or directory (os error 2)",
                false,
            ),
            ("panic", Code::Panic, "the recipe panicked", false),
            ("later panic", Code::Panic, "the recipe panicked", false),
        ];
        for (lease, (how, code, message, permanent)) in (1..).zip(cases) {
            desk.dispatch(call(lease, how.as_bytes())).await;
            let message = message.into();
            assert_eq!(desk.said().await, Said::Failed { lease, code, message, permanent });
        }
        desk.dispatch(call(6, b"fine")).await;
        assert_eq!(desk.said().await, answer(6, "fine"));
        assert_eq!(worker.stop(desk).await.failed, 5);
    })
    .await;
}

#[tokio::test]
async fn typed_handlers_take_and_give_json_and_refuse_what_is_none() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = bench.worker().typed("sum", Spec::new(), |_, numbers: Vec<u32>| async move {
            Ok(numbers.iter().sum::<u32>())
        });
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"[1,2,3]")).await;
        assert_eq!(desk.said().await, answer(1, "6"));
        desk.dispatch(call(2, b"{}")).await;
        let Said::Failed { code, message, permanent, .. } = desk.said().await else {
            panic!("no failure")
        };
        assert_eq!((code, permanent), (Code::ValidationError, true));
        assert!(message.contains("not what is expected"), "{message}");
        worker.stop(desk).await;
    })
    .await;
}

/// Opens a gate when it is dropped.
struct Opens(Arc<AtomicBool>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_answered_as_cancelled() {
    in_time(async {
        let mut bench = Bench::start();
        let (tell, mut told) = mpsc::unbounded_channel();
        let worker = bench.worker().concurrency(1).recipe("hang", Spec::new(), move |call, p| {
            let tell = tell.clone();
            async move {
                let _dropped = Dropped(tell.clone());
                tokio::spawn(async move {
                    call.cancelled().await;
                    let _ = tell.send("token");
                });
                if p.is_empty() {
                    std::future::pending::<()>().await;
                }
                Ok(p)
            }
        });
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"")).await;
        desk.tell(&[DispatchFrame::Cancel { lease: 1 }]).await;
        assert_eq!(desk.said().await, cancelled(1));
        let mut both = [told.recv().await, told.recv().await];
        both.sort_unstable();
        assert_eq!(both, [Some("dropped"), Some("token")]);
        // The credit is free again, and a cancellation that comes too late is nothing.
        desk.dispatch(call(2, b"again")).await;
        assert_eq!(desk.said().await, answer(2, "again"));
        desk.tell(&[DispatchFrame::Cancel { lease: 2 }]).await;
        let served = worker.stop(desk).await;
        assert_eq!((served.succeeded, served.cancelled), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn blocking_handlers_run_on_as_many_threads_as_allowed_and_hear_of_cancellations() {
    in_time(async {
        let mut bench = Bench::start();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (open, peak) = (Arc::new(AtomicBool::new(false)), most.clone());
        let gate = open.clone();
        // Whatever happens here, the threads are let go.
        let _last = Opens(open.clone());
        let handler = move |call: &Call, payload: Bytes| {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            while !gate.load(Ordering::SeqCst) && !call.is_cancelled() {
                std::thread::yield_now();
            }
            running.fetch_sub(1, Ordering::SeqCst);
            if &*payload == b"panic" {
                panic!("on a thread");
            }
            Ok(payload)
        };
        let worker = bench.worker().blocking_threads(2).blocking("spin", Spec::new(), handler);
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        for (lease, payload) in (1..).zip(["a", "b", "c", "panic"]) {
            desk.dispatch(call(lease, payload.as_bytes())).await;
        }
        // The third waits for a thread: it is given up at once. The first has one, and looks.
        desk.tell(&[DispatchFrame::Cancel { lease: 3 }]).await;
        assert_eq!(desk.said().await, cancelled(3));
        while peak.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        desk.tell(&[DispatchFrame::Cancel { lease: 1 }]).await;
        assert_eq!(desk.said().await, cancelled(1));
        open.store(true, Ordering::SeqCst);
        let mut rest = [desk.said().await, desk.said().await];
        rest.sort_by_key(|said| matches!(said, Said::Failed { .. }));
        assert_eq!(rest[0], answer(2, "b"));
        assert!(matches!(&rest[1], Said::Failed { lease: 4, code: Code::Panic, .. }), "{rest:?}");
        assert_eq!(peak.load(Ordering::SeqCst), 2);
        worker.stop(desk).await;
    })
    .await;
}

#[tokio::test]
async fn progress_is_bounded_and_the_last_report_comes_before_the_answer() {
    in_time(async {
        let mut bench = Bench::start();
        let begun = Instant::now();
        let worker = bench.worker().recipe("steps", Spec::new(), |call: Call, _| async move {
            for n in 1..=200u64 {
                call.progress(n, 200, "step");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            call.progress(200, 200, "done");
            Ok("done")
        });
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"")).await;
        let mut reports = Vec::new();
        let end = loop {
            match desk.said().await {
                Said::Progress { lease: 1, done, total: 200 } => reports.push(done),
                other => break other,
            }
        };
        assert_eq!(end, answer(1, "done"));
        assert!(reports.is_sorted(), "{reports:?}");
        assert_eq!(reports.last(), Some(&200));
        // One at once, one each tenth of a second, the last one.
        let most = 2 + begun.elapsed().as_millis() / 100;
        assert!(reports.len() as u128 <= most, "{} in {:?}", reports.len(), begun.elapsed());
        assert!(reports.len() >= 2, "the first is sent while it runs");
        worker.stop(desk).await;
    })
    .await;
}

#[tokio::test]
async fn large_payloads_travel_beside_the_stream_both_ways() {
    in_time(async {
        const SIZE: usize = 1_000_000;
        let mut bench = Bench::start();
        let worker = Running::start(echo(bench.worker()));
        let (mut desk, _) = bench.work(1).await;
        let payload: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        desk.dispatch(Dispatch { apart: Some(SIZE as u64), ..call(1, b"") }).await;
        // The small one behind it does not wait.
        desk.dispatch(call(2, b"small")).await;
        assert_eq!(desk.said().await, answer(2, "small"));

        let mut fetch = bench.stream().await;
        let work = quinn::VarInt::from(desk.recv.id()).into_inner();
        assert_eq!(fetch.first, Some(In::Fetch { work, lease: 1 }));
        fetch.raw(&payload).await;
        fetch.send.finish().expect("open");

        let mut deliver = bench.stream().await;
        assert_eq!(deliver.first, Some(In::Deliver { work, lease: 1, size: SIZE as u64 }));
        assert!(deliver.everything().await == payload, "the same bytes come back");
        deliver.send.finish().expect("open");
        assert_eq!(worker.stop(desk).await.succeeded, 2);
    })
    .await;
}

#[tokio::test]
async fn a_payload_that_cannot_be_fetched_fails_its_call_alone() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = Running::start(echo(bench.worker()));
        let (mut desk, _) = bench.work(1).await;
        let apart = |lease| Dispatch { apart: Some(70_000), ..call(lease, b"") };
        // It is not there any more.
        desk.dispatch(apart(1)).await;
        let mut fetch = bench.stream().await;
        fetch.send.reset(7u32.into()).expect("open");
        assert!(matches!(desk.said().await, Said::Failed { lease: 1, .. }));
        // It is cut.
        desk.dispatch(apart(2)).await;
        let mut fetch = bench.stream().await;
        fetch.raw(&[7; 100]).await;
        fetch.send.finish().expect("open");
        let Said::Failed { lease: 2, message, .. } = desk.said().await else {
            panic!("not failed")
        };
        assert!(message.contains("100 of 70000"), "{message}");
        // It is cancelled while it is fetched.
        desk.dispatch(apart(3)).await;
        let _fetch = bench.stream().await;
        desk.tell(&[DispatchFrame::Cancel { lease: 3 }]).await;
        assert_eq!(desk.said().await, cancelled(3));
        let served = worker.stop(desk).await;
        assert_eq!((served.succeeded, served.failed, served.cancelled), (0, 2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_delivery_that_nobody_wants_is_given_up() {
    in_time(async {
        let mut bench = Bench::start();
        let big = |_, _| async move { Ok(vec![7u8; 3 << 20]) };
        let worker = Running::start(bench.worker().recipe("big", Spec::new(), big));
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"")).await;
        let mut deliver = bench.stream().await;
        deliver.stop(tollgate_client::StreamCode::Done);
        let _ = deliver.send.finish();
        let served = worker.stop(desk).await;
        assert_eq!((served.succeeded, served.cancelled), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    in_time(async {
        const CALLS: u64 = 5_000;
        let mut bench = Bench::start();
        let release = Arc::new(Notify::new());
        let waits = release.clone();
        let worker = bench.worker().concurrency(65_536).recipe(
            "mixed",
            Spec::new(),
            move |call: Call, p| {
                let waits = waits.clone();
                async move {
                    // Every third is answered in place, the others wait in different ways.
                    match call.item_id() % 3 {
                        0 => {}
                        1 => tokio::task::yield_now().await,
                        _ => waits.notified().await,
                    }
                    Ok(p)
                }
            },
        );
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        let frames: Vec<_> =
            (1..=CALLS).map(|n| DispatchFrame::Dispatch(call(n, b"0123456789"))).collect();
        desk.tell(&frames).await;
        let mut open: std::collections::BTreeSet<u64> = (1..=CALLS).collect();
        while !open.is_empty() {
            release.notify_waiters();
            release.notify_one();
            match desk.said().await {
                Said::Answer { lease, payload, .. } => {
                    assert_eq!(payload, "0123456789");
                    assert!(open.remove(&lease), "lease {lease} is answered twice");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(worker.stop(desk).await.succeeded, CALLS);
    })
    .await;
}
