//! How a worker ends, comes back, and what it makes of a broker that is wrong.

use std::time::Duration;

use tollgate_client::{
    CloseCode, Code, ConnectError, Violation,
    worker::{Spec, Worker, WorkerBuilder, WorkerError},
};
use tollgate_protocol::{DispatchFrame, work::Dispatch};

use crate::support::{bench::*, *};

/// Answers what is not empty, and never comes to an end with what is.
fn hang(builder: WorkerBuilder) -> WorkerBuilder {
    builder.recipe("hang", Spec::new(), |_, payload| async move {
        if payload.is_empty() {
            std::future::pending::<()>().await;
        }
        Ok(payload)
    })
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_before_anything_is_connected() {
    let builder =
        || Worker::builder(([127, 0, 0, 1], 1).into()).server_name("x").credentials(credentials());
    #[track_caller]
    fn refused(builder: WorkerBuilder, part: &str) {
        let e = builder.build().expect_err("must be refused");
        assert!(matches!(e, WorkerError::Config(_)), "{e:?}");
        assert!(e.to_string().contains(part), "{e} does not say {part}");
    }
    refused(builder(), "1 to 256");
    refused(hang(builder()).concurrency(0), "concurrency");
    refused(hang(builder()).concurrency(65_537), "65536");
    refused(hang(hang(builder())), "twice");
    let bad = |name: &str, spec| builder().recipe(name, spec, |_, p| async move { Ok(p) });
    refused(bad("No Name", Spec::new()), "'N' at byte 0");
    refused(bad("x", Spec::new().timeout(Duration::ZERO)), "timeout");
    let schema = Spec::new().schema("{}").encoding(tollgate_client::Encoding::Bytes);
    refused(bad("x", schema), "JSON");
    let nobody = hang(Worker::builder(([127, 0, 0, 1], 1).into())).build();
    assert!(matches!(nobody, Err(WorkerError::Connect(ConnectError::Config(_)))));
}

#[tokio::test]
async fn a_stop_waits_for_running_calls_and_gives_up_what_does_not_end() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = hang(bench.worker()).stop_timeout(Duration::from_millis(50));
        let worker = Running::start(worker);
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"")).await;
        desk.dispatch(call(2, b"x")).await;
        assert_eq!(desk.said().await, answer(2, "x"));
        worker.stopper.stop();
        assert_eq!(desk.said().await, Said::Drain);
        assert_eq!(desk.said().await, cancelled(1));
        desk.tell(&[DispatchFrame::End]).await;
        let served = worker.end().await.expect("stopped");
        assert_eq!((served.succeeded, served.cancelled, served.lost), (1, 1, 0));
        assert!(matches!(desk.said().await, Said::Fin | Said::Lost));
    })
    .await;
}

#[tokio::test]
async fn run_until_stops_in_good_order() {
    in_time(async {
        let mut bench = Bench::start();
        let (ring, bell) = tokio::sync::oneshot::channel::<()>();
        let worker = hang(bench.worker()).build().expect("good settings");
        let worker = tokio::spawn(worker.run_until(bell));
        let (mut desk, _) = bench.work(1).await;
        ring.send(()).expect("it listens");
        assert_eq!(desk.said().await, Said::Drain);
        desk.tell(&[DispatchFrame::End]).await;
        worker.await.expect("no panic").expect("stopped");
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_stopped_without_a_broker_ends_at_once() {
    in_time(async {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let addr = silent.local_addr().expect("an address");
        let worker = Worker::builder(addr).server_name("localhost").credentials(credentials());
        let worker = Running::start(hang(worker));
        worker.stopper.stop();
        assert_eq!(worker.end().await.expect("stopped"), Default::default());
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_drops_what_runs_and_the_worker_registers_again() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = Running::start(hang(bench.worker()));
        let (mut desk, _) = bench.work(1).await;
        desk.dispatch(call(1, b"")).await;
        desk.dispatch(call(2, b"x")).await;
        assert_eq!(desk.said().await, answer(2, "x"));
        let draining = CloseCode::Draining.number().into();
        desk.connection.close(draining, b"be right back");

        let (mut desk, names) = bench.work(1).await;
        assert_eq!(names, ["hang"]);
        // Leases are numbered anew on each stream.
        desk.dispatch(call(1, b"y")).await;
        assert_eq!(desk.said().await, answer(1, "y"));
        let served = worker.stop(desk).await;
        assert_eq!((served.succeeded, served.lost, served.connections), (2, 1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_cut_or_refused_for_a_while_is_opened_again() {
    in_time(async {
        let mut bench = Bench::start();
        let worker = Running::start(hang(bench.worker()));
        let (mut desk, _) = bench.work(1).await;
        desk.send.finish().expect("open");
        let (desk, _) = bench.work(1).await;
        desk.last(refusal(Code::Draining)).await;
        let (mut desk, _) = bench.work(1).await;
        // What is not acknowledged is lost with a reset.
        desk.dispatch(call(1, b"x")).await;
        assert_eq!(desk.said().await, answer(1, "x"));
        desk.send.reset(0u32.into()).expect("open");
        let (desk, _) = bench.work(0).await;
        desk.last(refusal(Code::Overloaded)).await;
        // Another spec is there; and then its workers are gone.
        for _ in 0..3 {
            let (desk, _) = bench.work(0).await;
            desk.last(refusal(Code::Conflict)).await;
        }
        let (desk, _) = bench.work(1).await;
        assert_eq!(worker.stop(desk).await.connections, 4);
        assert_eq!(bench.broker.endpoint.open_connections(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_pass_ends_the_worker_with_its_reason() {
    in_time(async {
        for code in [Code::Forbidden, Code::ValidationError, Code::QuotaExceeded] {
            let mut bench = Bench::start();
            let worker = Running::start(hang(bench.worker()));
            let (desk, _) = bench.work(0).await;
            desk.last(refusal(code)).await;
            let e = worker.end().await.expect_err("refused");
            assert!(matches!(e, WorkerError::Refused(_)), "{e:?}");
            assert_eq!(e.code(), Some(code));
        }
        let mut bench = Bench::start();
        let worker = Running::start(hang(bench.worker()).conflict_tries(2));
        for _ in 0..2 {
            let (desk, _) = bench.work(0).await;
            desk.last(refusal(Code::Conflict)).await;
        }
        assert_eq!(worker.end().await.expect_err("no more tries").code(), Some(Code::Conflict));

        let broker = Broker::refusing(CloseCode::Forbidden, "no workers here");
        let worker = Worker::builder(broker.addr).server_name("localhost");
        let e = Running::start(hang(worker.credentials(credentials()))).end().await;
        let e = e.expect_err("refused");
        assert_eq!(e.close_code(), Some(CloseCode::Forbidden));
        assert_eq!(e.to_string(), "the broker refused the connection: FORBIDDEN: no workers here");
    })
    .await;
}

/// What a worker of one call at once makes of these frames after its registration.
async fn broken(frames: &[DispatchFrame<'_>], registered: u32, expected: Violation) {
    let mut bench = Bench::start();
    let worker = Running::start(hang(bench.worker().concurrency(1)));
    let (mut desk, _) = bench.work(registered).await;
    desk.tell(frames).await;
    match worker.end().await {
        Err(WorkerError::Protocol(found)) => assert_eq!(found, expected),
        other => panic!("{other:?} instead of {expected:?}"),
    }
    // The broker sees at once that this is over.
    loop {
        match desk.said().await {
            Said::Register(_) => {}
            Said::Reset | Said::Lost => break,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_broker_that_breaks_the_protocol_is_left() {
    in_time(async {
        let dispatch = |d| DispatchFrame::Dispatch(d);
        broken(&[dispatch(call(2, b""))], 1, Violation::StrangeLease(2)).await;
        let twice = [dispatch(call(1, b"x")), dispatch(call(1, b"x"))];
        broken(&twice, 1, Violation::StrangeLease(1)).await;
        let two = [dispatch(call(1, b"")), dispatch(call(2, b""))];
        broken(&two, 1, Violation::OverCredit(1)).await;
        let recipe = Dispatch { recipe: 1, ..call(1, b"") };
        broken(&[dispatch(recipe)], 1, Violation::StrangeRecipe(1)).await;
        broken(&[dispatch(call(1, b""))], 0, Violation::StrangeRecipe(0)).await;
        let more = [DispatchFrame::Registered { recipe: 1 }];
        broken(&more, 1, Violation::StrangeRecipe(1)).await;
        broken(&[DispatchFrame::Cancel { lease: 1 }], 1, Violation::StrangeLease(1)).await;
        broken(&[DispatchFrame::End], 1, Violation::Unexpected("End")).await;
        let both = Dispatch { apart: Some(70_000), ..call(1, b"x") };
        broken(&[dispatch(both)], 1, Violation::Apart(1)).await;
        let huge = Dispatch { apart: Some(u64::MAX), ..call(1, b"") };
        broken(&[dispatch(huge)], 1, Violation::Apart(1)).await;
    })
    .await;
}

#[tokio::test]
async fn malformed_frames_end_the_worker() {
    in_time(async {
        // An unknown variant, a dispatch that is cut, bytes left over, a frame longer than any.
        let frames: [&[u8]; 4] =
            [&[0, 0, 0, 1, 6], &[0, 0, 0, 3, 1, 1, 0], &[0, 0, 0, 2, 5, 0], &[255, 255, 255, 255]];
        for frame in frames {
            let mut bench = Bench::start();
            let worker = Running::start(hang(bench.worker()));
            let (mut desk, _) = bench.work(1).await;
            desk.raw(frame).await;
            let e = worker.end().await.expect_err("malformed");
            let wrong =
                matches!(e, WorkerError::Protocol(Violation::Decode(_) | Violation::TooLarge(_)));
            assert!(wrong, "{frame:?}: {e:?}");
        }
    })
    .await;
}
