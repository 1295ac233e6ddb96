//! A broker that cuts streams, lies and talks nonsense: always an error, never a success.

use tollgate_client::{BatchError, Code, Event, Request, StreamCode, Violation};
use tollgate_protocol::{
    BrokerFrame, Extension, ExtensionsBuf,
    batch::{Accepted, Ended},
};

use crate::{frames::*, support::*};

/// What three items come to, whose broker says `frames` and then ends its side.
#[track_caller]
fn check(
    frames: impl Fn() -> Vec<BrokerFrame<'static>> + Send + Sync + 'static,
    expected: impl Fn(&BatchError) -> bool + 'static,
) -> impl Future<Output = ()> {
    in_time(async move {
        let broker = Broker::start(move |mut peer| {
            let frames = frames();
            async move {
                peer.requests().await;
                peer.say(&frames).await;
                let _ = peer.send.finish();
            }
        });
        let client = broker.connect().await;
        let requests = || ["a", "b", "c"].map(|x| Request::new("echo", x));
        let e = client.execute(requests()).await.expect_err("no success");
        assert!(expected(&e), "execute: {e:?}");

        let mut batch = client.batch().open().await.expect("open");
        for request in requests() {
            batch.send(request).await.expect("sent");
        }
        batch.finish().await.expect("finished");
        let e = loop {
            match batch.next().await.expect("an error comes last") {
                Ok(Event::Summary(s)) => panic!("{s:?}"),
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert!(expected(&e), "events: {e:?}");
        assert!(batch.next().await.is_none());
        assert!(batch.send(Request::new("echo", "")).await.is_err());

        // The connection is still good, and so is the client.
        assert_eq!(&*client.version().await.expect("an answer").broker, "9.9.9");
        assert_eq!(broker.endpoint.open_connections(), 1);
    })
}

fn protocol(v: Violation) -> impl Fn(&BatchError) -> bool {
    move |e| matches!(e, BatchError::Protocol(found) if *found == v)
}

fn all_ok() -> Vec<BrokerFrame<'static>> {
    vec![accepted(), success(0, b"a"), success(1, b"b"), success(2, b"c")]
}

fn ends_with(
    frames: impl Fn() -> Vec<BrokerFrame<'static>> + Send + Sync + 'static,
    counts: Counts,
) -> impl Fn() -> Vec<BrokerFrame<'static>> + Send + Sync + 'static {
    move || frames().into_iter().chain([summary(&counts)]).collect()
}

fn three() -> Counts {
    Counts { ok: 3, last: Some(2), ..Counts::default() }
}

#[tokio::test]
async fn a_stream_without_its_final_frame_was_cut() {
    let cut = |e: &BatchError| matches!(e, BatchError::Cut);
    check(Vec::new, cut).await;
    check(|| vec![accepted()], cut).await;
    check(all_ok, cut).await;
}

#[tokio::test]
async fn results_that_cannot_be_are_refused() {
    let second = || vec![accepted(), success(1, b""), success(1, b"")];
    check(second, protocol(Violation::SecondResult(1))).await;
    check(|| vec![accepted(), success(3, b"")], protocol(Violation::StrangeItem(3))).await;
    check(|| vec![accepted(), progress(9, 1, 2)], protocol(Violation::StrangeItem(9))).await;
    let late = || vec![accepted(), success(0, b""), progress(0, 1, 2)];
    check(late, protocol(Violation::SecondResult(0))).await;
}

#[tokio::test]
async fn a_summary_that_disagrees_with_the_results_is_refused() {
    let wrong = |field, said, counted| protocol(Violation::Summary { field, said, counted });
    let counts = |ok, failed, last| Counts { ok, failed, last, ..Counts::default() };
    let s = counts(2, vec![], Some(2));
    check(ends_with(all_ok, s), wrong("total", 2, 3)).await;
    let s = counts(2, vec![(Code::Panic, 1)], Some(2));
    check(ends_with(all_ok, s), wrong("succeeded", 2, 3)).await;
    let s = counts(3, vec![], Some(1));
    check(ends_with(all_ok, s), wrong("items read", 2, 3)).await;
    let s = counts(3, vec![], Some(77));
    check(ends_with(all_ok, s), protocol(Violation::StrangeItem(77))).await;
    // It claims to have come to the end of a sealed batch and leaves an item out.
    let two = || vec![accepted(), success(0, b""), success(1, b"")];
    check(ends_with(two, counts(2, vec![], Some(1))), wrong("items sealed", 3, 2)).await;
}

#[tokio::test]
async fn frames_out_of_place_are_refused() {
    check(|| vec![success(0, b"")], protocol(Violation::Unexpected("Result"))).await;
    check(|| vec![summary(&three())], protocol(Violation::Unexpected("Summary"))).await;
    check(|| vec![accepted(), accepted()], protocol(Violation::Unexpected("Accepted"))).await;
    check(|| vec![accepted(), BrokerFrame::End], protocol(Violation::Unexpected("End"))).await;
    let after = || {
        let mut frames = ends_with(all_ok, three())();
        frames.push(success(0, b""));
        frames
    };
    check(after, |e| matches!(e, BatchError::Protocol(Violation::AfterEnd(_)))).await;
}

#[tokio::test]
async fn a_critical_extension_is_refused() {
    let mut extensions = ExtensionsBuf::default();
    extensions.push(Extension { number: 9, critical: true, body: b"?" }).expect("room");
    let extensions: &'static ExtensionsBuf = Box::leak(Box::new(extensions));
    let frames = move || {
        let BrokerFrame::Accepted(a) = accepted() else { unreachable!("accepted") };
        vec![BrokerFrame::Accepted(Accepted { extensions: extensions.as_extensions(), ..a })]
    };
    check(frames, protocol(Violation::CriticalExtension(9))).await;
}

#[tokio::test]
async fn an_error_frame_fails_the_batch_with_its_code() {
    let error = |code: Code| {
        move || {
            vec![
                accepted(),
                BrokerFrame::Error { code: code.number(), failure: failure(code, None) },
            ]
        }
    };
    check(error(Code::Forbidden), |e| e.code() == Some(Code::Forbidden)).await;
    check(
        error(Code::InternalError),
        |e| matches!(e, BatchError::Failed(f) if f.code_name() == "INTERNAL_ERROR"),
    )
    .await;
}

/// What one item comes to, whose broker answers with these bytes.
async fn raw(bytes: Vec<u8>) -> BatchError {
    in_time(async {
        let broker = Broker::start(move |mut peer| {
            let bytes = bytes.clone();
            async move {
                peer.requests().await;
                peer.raw(&bytes).await;
                let _ = peer.send.finish();
            }
        });
        let client = broker.client().frame_bytes_max(1 << 20).connect().await.expect("connected");
        client.execute([Request::new("echo", "x")]).await.expect_err("no success")
    })
    .await
}

#[tokio::test]
async fn garbage_is_refused_and_announced_lengths_are_not_believed() {
    let decode = |e: &BatchError| matches!(e, BatchError::Protocol(Violation::Decode(_)));
    let e = raw(vec![0, 0, 0, 2, 0x7f, 0]).await;
    assert!(decode(&e), "{e:?}");
    let e = raw(vec![0, 0, 0, 3, 2, 0xff, 0xff]).await;
    assert!(decode(&e), "{e:?}");
    let e = raw(vec![0xff; 64]).await;
    assert!(matches!(e, BatchError::Protocol(Violation::TooLarge(_))), "{e:?}");
    assert!(e.to_string().contains("frame_bytes_max"), "{e}");
    // The beginning of a frame, and no more.
    let e = raw(vec![0, 0, 1]).await;
    assert!(matches!(e, BatchError::Cut), "{e:?}");
}

#[tokio::test]
async fn a_reset_says_why() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            peer.requests().await;
            let _ = peer.send.reset(StreamCode::ReaderGone.number().into());
        });
        let client = broker.connect().await;
        let e = client.execute([Request::new("echo", "x")]).await.expect_err("reset");
        assert_eq!(e.stream_code(), Some(StreamCode::ReaderGone));
        assert!(e.to_string().contains("READER_GONE"), "{e}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_finds_fault_cancels_the_batch() {
    in_time(async {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let broker = Broker::start(move |mut peer| {
            let tell = tell.clone();
            async move {
                peer.say(&[accepted(), success(5, b"")]).await;
                let (_, end) = peer.requests().await;
                let stopped = peer.send.stopped().await.expect("the connection is there");
                let _ = tell.send((end, stopped)).await;
            }
        });
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        batch.flush().await.expect("flushed");
        while batch.next().await.expect("an error comes last").is_ok() {}
        let (end, stopped) = told.recv().await.expect("the broker tells");
        assert_eq!(end, In::Reset(StreamCode::CancelAll.number().into()));
        assert_eq!(stopped, Some(StreamCode::CancelAll.number().into()));
        // Still held: it is the finding that cancels, not the drop.
        drop(batch);
    })
    .await;
}

#[tokio::test]
async fn an_end_for_another_reason_is_no_error_but_is_told() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            peer.requests().await;
            peer.say(&[success(0, b""), failed(1, Code::DeadlineExceeded, None)]).await;
            let failed = vec![(Code::DeadlineExceeded, 1)];
            let ended = Some(Ended::DeadlineExceeded);
            peer.end(Counts { ended, ok: 1, failed, last: Some(1) }).await;
        });
        let client = broker.connect().await;
        let requests = ["a", "b", "c"].map(|x| Request::new("echo", x));
        let result = client.execute(requests).await.expect("a result");
        assert_eq!(result.ended(), Ended::DeadlineExceeded);
        assert_eq!(result.by_status(504).map(|r| r.id).collect::<Vec<_>>(), [1, 2]);
    })
    .await;
}
