//! Giving a batch up: by dropping, by saying so, and by a failure.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::{mpsc, oneshot};
use tollgate_client::{
    BatchError, CancelScope, Code, Ended, Event, Mode, Request, RetryPolicy, StreamCode,
};

use crate::{frames::*, support::*};

/// What the broker sees, first of the sending half and then of the reading one, of a batch that
/// has one item and with which `act` does something.
async fn seen_after<T>(act: impl AsyncFnOnce(tollgate_client::Batch) -> T) -> (In, Option<u64>) {
    let (tell, mut told) = mpsc::channel(1);
    let broker = Broker::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            peer.say(&[accepted()]).await;
            let (_, end) = peer.requests().await;
            let stopped = peer.send.stopped().await.expect("the connection is there");
            let _ = tell.send((end, stopped.map(|code| code.into_inner()))).await;
        }
    });
    let client = broker.connect().await;
    let mut batch = client.batch().open().await.expect("open");
    batch.send(Request::new("delay", "")).await.expect("sent");
    assert!(matches!(batch.next().await, Some(Ok(Event::Accepted(_)))));
    let _held = act(batch).await;
    told.recv().await.expect("the broker tells")
}

#[tokio::test]
async fn dropping_a_batch_cancels_it_with_a_code() {
    let cancel_all = u64::from(StreamCode::CancelAll.number());
    in_time(async {
        let seen = seen_after(async |batch| drop(batch)).await;
        assert_eq!(seen, (In::Reset(cancel_all), Some(cancel_all)));
    })
    .await;
}

#[tokio::test]
async fn dropping_the_sender_cancels_a_batch_that_is_not_sealed() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let (_, end) = peer.requests().await;
            assert_eq!(end, In::Reset(StreamCode::CancelAll.number().into()));
            peer.end(Counts { ended: Some(Ended::Cancelled), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let (mut sender, mut events) = client.batch().open().await.expect("open").split();
        sender.flush().await.expect("flushed");
        assert!(matches!(events.next().await, Some(Ok(Event::Accepted(_)))));
        drop(sender);
        let end = events.next().await.expect("an event").expect("no error");
        assert!(matches!(end, Event::Summary(s) if s.ended == Ended::Cancelled));
    })
    .await;
}

#[tokio::test]
async fn dropping_the_sender_of_a_sealed_batch_lets_it_go_on() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let (mut sender, events) = client.batch().open().await.expect("open").split();
        sender.send(Request::new("echo", "x")).await.expect("sent");
        sender.seal().await.expect("sealed");
        drop(sender);
        let events: Vec<_> = events.try_collect().await.expect("no error");
        assert!(matches!(events.last(), Some(Event::Summary(s)) if s.succeeded == 1));
    })
    .await;
}

#[tokio::test]
async fn dropping_the_events_stops_the_stream_and_tells_the_sender() {
    let cancel_all = u64::from(StreamCode::CancelAll.number());
    in_time(async {
        let seen = seen_after(async |batch| {
            let (mut sender, events) = batch.split();
            drop(events);
            let e = sender.send(Request::new("echo", "")).await.expect_err("nobody reads");
            assert!(matches!(e, BatchError::Cancelled), "{e}");
        })
        .await;
        assert_eq!(seen.1, Some(cancel_all));
    })
    .await;
}

#[tokio::test]
async fn dropping_an_execute_cancels_its_batch() {
    in_time(async {
        let (tell, mut told) = mpsc::channel(1);
        let broker = Broker::start(move |mut peer| {
            let tell = tell.clone();
            async move {
                let (_, end) = peer.requests().await;
                tell.send(None).await.expect("the test listens");
                let stopped = peer.send.stopped().await.expect("the connection is there");
                let stopped = stopped.map(|code| code.into_inner());
                tell.send(Some((end, stopped))).await.expect("the test listens");
            }
        });
        let client = broker.connect().await;
        let executing = client.execute([Request::new("delay", "")]);
        tokio::select! {
            _ = executing => panic!("it has no end"),
            _ = told.recv() => {}
        }
        let cancel_all = u64::from(StreamCode::CancelAll.number());
        let seen = told.recv().await.expect("the broker tells");
        assert_eq!(seen, Some((In::Seal(1), Some(cancel_all))));
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_in_band_leaves_results_and_summary_to_come() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let (requests, end) = peer.requests().await;
            assert_eq!((requests.len(), end), (2, In::Cancel(CancelScope::Pending)));
            peer.say(&[success(0, b"ran"), failed(1, Code::Cancelled, None)]).await;
            let ended = Some(Ended::Cancelled);
            let failed = vec![(Code::Cancelled, 1)];
            peer.end(Counts { ended, ok: 1, failed, last: Some(1) }).await;
        });
        let client = broker.connect().await;
        let (mut sender, events) = client.batch().open().await.expect("open").split();
        sender.send(Request::new("delay", "")).await.expect("sent");
        sender.send(Request::new("delay", "")).await.expect("sent");
        sender.cancel(CancelScope::Pending).await.expect("said");
        let late = sender.send(Request::new("delay", "")).await.expect_err("too late");
        assert!(matches!(late, BatchError::Cancelled), "{late}");
        // Must not sharpen what was said in band.
        drop(sender);
        let events: Vec<_> = events.try_collect().await.expect("no error");
        assert!(matches!(events.last(), Some(Event::Summary(s)) if s.total == 2));
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_resets_a_stream_that_the_broker_does_not_read() {
    in_time(async {
        let (go, wait) = oneshot::channel::<()>();
        let wait = Arc::new(Mutex::new(Some(wait)));
        let broker = Broker::start(move |mut peer| {
            let wait = wait.lock().expect("unpoisoned").take().expect("one batch");
            async move {
                peer.say(&[accepted()]).await;
                wait.await.expect("the client is stuck");
                let end = loop {
                    match peer.next().await {
                        In::Request { .. } => {}
                        end => break end,
                    }
                };
                assert_eq!(end, In::Reset(StreamCode::CancelPending.number().into()));
                peer.end(Counts { ended: Some(Ended::Cancelled), ..Counts::default() }).await;
            }
        });
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        let payload = Bytes::from(vec![0; 60_000]);
        let fill = async {
            loop {
                batch.send(Request::new("delay", payload.clone())).await.expect("sent");
            }
        };
        // Full is when nothing has moved for a while; there is no event for that.
        let stuck = tokio::time::timeout(Duration::from_millis(300), fill).await;
        assert!(stuck.is_err());
        batch.cancel(CancelScope::Pending).await.expect("said");
        go.send(()).expect("the broker waits");
        loop {
            match batch.next().await.expect("an event").expect("no error") {
                Event::Summary(s) => break assert_eq!(s.last_id_read, None),
                Event::Accepted(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn items_that_a_failed_batch_never_read_are_accounted_for() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let In::Request { id: 0, .. } = peer.next().await else { panic!("item 0") };
            peer.say(&[failed(0, Code::RecipeExecution, None)]).await;
            peer.stop(StreamCode::FailFast);
            let failed = vec![(Code::RecipeExecution, 1)];
            let ended = Some(Ended::FailFast);
            peer.end(Counts { ended, failed, last: Some(0), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        for retry in [RetryPolicy::default(), RetryPolicy::none()] {
            let requests = (0..50).map(|_| Request::new("fail", vec![0; 30_000]));
            let batch = client.batch().mode(Mode::FailFast).retry(retry);
            let result = batch.execute(requests).await.expect("a result");
            assert_eq!((result.len(), result.failures().count()), (50, 50));
            assert_eq!(result.ended(), Ended::FailFast);
            let first = result.get(0).expect("item 0");
            assert_eq!(first.code(), Some(Code::RecipeExecution));
            let rest = result.iter().skip(1).map(|r| (r.code(), r.attempts));
            assert!(rest.into_iter().all(|r| r == (Some(Code::Cancelled), 0)));
        }
    })
    .await;
}
