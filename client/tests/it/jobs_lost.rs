//! Batches whose connection is lost under their jobs: they come back, and the caller does not see
//! it.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;
use tollgate_client::{
    BatchError, CancelScope, Client, CloseCode, Code, Ended, Event, JobTarget, Number, Request,
};
use tollgate_protocol::{
    BrokerFrame, Extensions,
    batch::Accepted,
    job::{Gap, JobAccepted},
};

use crate::{frames::*, support::*};

/// A broker whose streams are told apart by the order in which they come.
fn broker<F, Fut>(script: F) -> Broker
where
    F: Fn(usize, Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let streams = Arc::new(AtomicUsize::new(0));
    Broker::start(move |peer| script(streams.fetch_add(1, Ordering::SeqCst), peer))
}

fn requests(n: u64) -> impl Iterator<Item = Request> {
    (0..n).map(|n| Request::new("delay", format!("{n}")))
}

fn attached(peer: &Peer) -> Option<Number> {
    match peer.first {
        Some(In::Attach { target: JobTarget::Batch(_), after, follow: true }) => Some(after),
        _ => None,
    }
}

fn resumed(last_id: u64) -> BrokerFrame<'static> {
    let BrokerFrame::Accepted(a) = accepted() else { unreachable!("it is") };
    BrokerFrame::Accepted(Accepted { last_id: Some(last_id), ..a })
}

fn ok(n: u64) -> Counts {
    Counts { ok: n, last: Some(n - 1), ..Counts::default() }
}

async fn durable(client: &Client, n: u64) -> tollgate_client::BatchResult {
    client.batch().durable().execute(requests(n)).await.expect("a result")
}

#[tokio::test]
async fn an_ephemeral_batch_waits_for_its_jobs_through_a_lost_connection() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            if stream == 0 {
                peer.say(&[accepted()]).await;
                assert_eq!(peer.requests().await.1, In::Seal(3));
                peer.say(&[job_accepted(0, 5), success(1, b"1"), job_accepted(2, 6)]).await;
                peer.say(&[job_result(&success(2, b"2"), 8), progress(0, 1, 2)]).await;
                // All of it has arrived when the client lets go.
                let _ = peer.send.finish();
                return;
            }
            assert_eq!(attached(&peer), Some(number(8)));
            peer.say(&[progress(0, 2, 2)]).await;
            peer.say(&[job_result(&success(0, b"0"), 11), BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let result = client.execute(requests(3)).await.expect("a result");
        assert_eq!((result.len(), result.successes().count()), (3, 3));
        assert_eq!((result.ended(), result.summary().last_id_read), (Ended::Sealed, Some(2)));
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_a_job_resolves_with_its_result_through_a_restart() {
    in_time(async {
        let broker = broker(|_, mut peer| async move {
            peer.say(&[accepted()]).await;
            peer.requests().await;
            peer.say(&[job_accepted(0, 5), progress(0, 1, 2)]).await;
            // Nothing more, until the broker ends.
            let _ = peer.send.stopped().await;
        });
        let client = broker.connect().await;
        let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let call = client.call::<_, u32>("delay", &1).on_progress(move |p| {
            tell.send(p.done).expect("the test listens");
        });
        let call = tokio::spawn(call.into_future());
        assert_eq!(heard.recv().await, Some(1));
        let addr = broker.addr;
        broker.stop(CloseCode::Draining, "restarting").await;
        let again = restarted(addr, |mut peer: Peer| async move {
            assert_eq!(attached(&peer), Some(number(5)));
            peer.say(&[progress(0, 2, 2), job_result(&success(0, b"7"), 6)]).await;
            peer.say(&[BrokerFrame::End]).await;
            let _ = peer.send.finish();
        })
        .await;
        assert_eq!(call.await.expect("no panic").expect("an answer"), 7);
        assert_eq!(heard.recv().await, Some(2));
        drop(again);
    })
    .await;
}

/// A broker at an address that another has just given up.
async fn restarted<F, Fut>(addr: std::net::SocketAddr, script: F) -> Broker
where
    F: Fn(Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    while let Err(e) = std::net::UdpSocket::bind(addr) {
        assert_eq!(e.kind(), std::io::ErrorKind::AddrInUse);
        tokio::task::yield_now().await;
    }
    Broker::start_with(addr, quinn::TransportConfig::default(), None, script)
}

#[tokio::test]
async fn items_that_are_no_jobs_are_lost_with_the_connection_and_told_behind_the_jobs() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            if stream == 0 {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                peer.say(&[job_accepted(1, 5)]).await;
                let _ = peer.send.finish();
                return;
            }
            peer.say(&[job_result(&success(1, b"1"), 6), BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        for request in requests(2) {
            batch.send(request).await.expect("sent");
        }
        batch.seal().await.expect("sealed");
        let mut results = Vec::new();
        let error = loop {
            match batch.next().await.expect("an error comes first") {
                Ok(Event::Result(result)) => results.push(result.id),
                Ok(_) => {}
                Err(e) => break e,
            }
        };
        assert_eq!(results, [1]);
        assert!(matches!(error, BatchError::Cut), "{error}");
        assert!(batch.next().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_durable_batch_is_resumed_and_what_was_not_accepted_is_sent_again() {
    in_time(async {
        let sent_again = Arc::new(Notify::new());
        let broker = broker(move |stream, mut peer| {
            let sent_again = sent_again.clone();
            async move {
                match (stream, peer.open.clone()) {
                    (0, Some(open)) => {
                        assert!(open.durable);
                        peer.say(&[accepted()]).await;
                        assert_eq!(peer.requests().await.1, In::Seal(4));
                        peer.say(&[job_accepted(0, 5), job_accepted(1, 6)]).await;
                        peer.say(&[job_result(&success(1, b"1"), 7)]).await;
                        let _ = peer.send.finish();
                    }
                    (_, Some(open)) => {
                        assert!(open.durable);
                        peer.say(&[resumed(1)]).await;
                        let (requests, end) = peer.requests().await;
                        let sent: Vec<_> = requests.iter().map(|r| (r.0, &r.2[..])).collect();
                        assert_eq!(sent, [(2, &b"2"[..]), (3, &b"3"[..])]);
                        assert_eq!(end, In::Seal(2));
                        sent_again.notify_one();
                        peer.say(&[job_accepted(2, 8), failed(3, Code::ValidationError, None)])
                            .await;
                        peer.say(&[job_result(&success(2, b"2"), 9)]).await;
                        let failed = vec![(Code::ValidationError, 1)];
                        peer.end(Counts { ok: 3, failed, last: Some(3), ..Counts::default() })
                            .await;
                    }
                    _ => {
                        assert_eq!(attached(&peer), Some(number(7)));
                        sent_again.notified().await;
                        // Told on the other stream too.
                        peer.say(&[job_accepted(2, 8), job_result(&success(2, b"2"), 9)]).await;
                        peer.say(&[job_result(&success(0, b"0"), 10)]).await;
                        peer.end(ok(3)).await;
                    }
                }
            }
        });
        let client = broker.connect().await;
        let result = durable(&client, 4).await;
        assert_eq!((result.len(), result.successes().count()), (4, 3));
        assert_eq!(result.by_status(400).map(|r| r.id).collect::<Vec<_>>(), [3]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_was_sealed_meanwhile_is_read_to_its_end() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            match (stream, &peer.open) {
                (0, Some(_)) => {
                    peer.say(&[accepted()]).await;
                    peer.requests().await;
                    peer.say(&[job_accepted(0, 5)]).await;
                    let _ = peer.send.finish();
                }
                (_, Some(_)) => {
                    peer.say(&[error(Code::Conflict)]).await;
                    let _ = peer.send.finish();
                }
                _ => {
                    assert_eq!(attached(&peer), Some(number(5)));
                    // Item 1 had been accepted, item 2 had not.
                    peer.say(&[job_accepted(1, 6), job_result(&success(1, b"1"), 7)]).await;
                    peer.say(&[job_result(&success(0, b"0"), 8)]).await;
                    let ended = Some(Ended::SealedByBroker);
                    peer.end(Counts { ended, ok: 2, last: Some(1), ..Counts::default() }).await;
                }
            }
        });
        let client = broker.connect().await;
        let retry = tollgate_client::RetryPolicy::none();
        let batch = client.batch().durable().retry(retry);
        let result = batch.execute(requests(3)).await.expect("a result");
        assert_eq!((result.ended(), result.successes().count()), (Ended::SealedByBroker, 2));
        let failure = result.get(2).expect("item 2").failure().expect("it failed").clone();
        assert_eq!(failure.code(), Some(Code::Conflict));
        assert!(failure.retryable && failure.side_effect_free);
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_batch_was_sealed_without_it_is_submitted_again() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            match (stream, &peer.open) {
                // By its key it was another batch's job, and the answer is lost.
                (0, Some(_)) => {
                    peer.say(&[accepted()]).await;
                    peer.requests().await;
                    let _ = peer.send.finish();
                }
                (1, Some(_)) => {
                    peer.say(&[error(Code::Conflict)]).await;
                    let _ = peer.send.finish();
                }
                (_, None) => peer.end(Counts::default()).await,
                _ => {
                    peer.say(&[accepted()]).await;
                    peer.requests().await;
                    let BrokerFrame::JobAccepted(job) = job_accepted(0, 900) else {
                        unreachable!("it is")
                    };
                    let existing = JobAccepted { job_id: job_id(77), existing: true, ..job };
                    peer.say(&[BrokerFrame::JobAccepted(existing), BrokerFrame::End]).await;
                    let _ = peer.send.finish();
                }
            }
        });
        let client = broker.connect().await;
        let job = client.submit_bytes("delay", "1").idempotency_key("k").await.expect("accepted");
        assert!(job.existing());
        assert_eq!(job.id(), job_id(77));
    })
    .await;
}

#[tokio::test]
async fn records_that_are_gone_are_an_error_and_never_a_success() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            match (stream, &peer.open) {
                (0, Some(_)) => {
                    peer.say(&[accepted()]).await;
                    peer.requests().await;
                    peer.say(&[job_accepted(0, 5), job_accepted(1, 6)]).await;
                    let _ = peer.send.finish();
                }
                (_, Some(_)) => {
                    peer.say(&[error(Code::Conflict)]).await;
                    let _ = peer.send.finish();
                }
                _ => {
                    let gap = Gap { epoch: 2, extensions: Extensions::EMPTY };
                    peer.say(&[BrokerFrame::Gap(gap)]).await;
                    peer.end(ok(1)).await;
                }
            }
        });
        let client = broker.connect().await;
        let result = client.batch().durable().execute(requests(2)).await;
        let error = result.expect_err("nothing is known");
        assert!(matches!(error, BatchError::Forgotten { items: 2 }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_job_of_another_batch_is_attached_to_by_its_own_name() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            if stream == 0 {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                let BrokerFrame::JobAccepted(job) = job_accepted(0, 900) else { unreachable!() };
                let existing = JobAccepted { job_id: job_id(77), existing: true, ..job };
                peer.say(&[BrokerFrame::JobAccepted(existing)]).await;
                let _ = peer.send.finish();
                return;
            }
            let Some(In::Attach { target, after, .. }) = peer.first else { panic!("attached") };
            assert_eq!((target, after), (JobTarget::Job(job_id(77)), Number::default()));
            // There it is another item.
            peer.say(&[job_accepted(5, 300), job_result(&success(5, b"5"), 301)]).await;
            peer.say(&[BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let keyed = Request::new("delay", "0").idempotency_key("order-17");
        let result = client.execute([keyed]).await.expect("a result");
        let payload = result.get(0).expect("item 0").payload().expect("it succeeded");
        assert_eq!(&payload[..], b"5");
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_reaches_the_jobs_of_a_batch_whose_stream_is_lost() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            if stream == 0 {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                peer.say(&[job_accepted(0, 5)]).await;
                let _ = peer.send.finish();
                return;
            }
            peer.say(&[progress(0, 1, 2)]).await;
            assert_eq!(peer.next().await, In::Cancel(CancelScope::All));
            let result = job_result(&failed(0, Code::Cancelled, None), 6);
            peer.say(&[result, BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        batch.send(Request::new("delay", "")).await.expect("sent");
        batch.seal().await.expect("sealed");
        let mut cancelled = None;
        while let Some(event) = batch.next().await {
            match event.expect("no error") {
                Event::Progress(_) => batch.cancel(CancelScope::All).await.expect("said"),
                Event::Result(result) => cancelled = result.code(),
                _ => {}
            }
        }
        assert_eq!(cancelled, Some(Code::Cancelled));
    })
    .await;
}

#[tokio::test]
async fn dropping_a_durable_batch_cancels_nothing() {
    in_time(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let broker = broker(move |_, mut peer| {
            let tell = tell.clone();
            async move {
                peer.say(&[accepted()]).await;
                let (requests, end) = peer.requests().await;
                tell.send((requests.len(), end)).expect("the test listens");
            }
        });
        let client = broker.connect().await;
        let mut batch = client.batch().durable().open().await.expect("open");
        batch.send(Request::new("delay", "")).await.expect("sent");
        batch.flush().await.expect("flushed");
        drop(batch);
        assert_eq!(told.recv().await, Some((1, In::Fin)));
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_detaches_gives_what_was_refused_and_comes_back_when_it_must() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            let (skip, items) = if stream == 0 { (0, 2) } else { (1, 1) };
            peer.say(&[accepted()]).await;
            let (requests, end) = peer.requests().await;
            assert_eq!((requests.len(), end), (items, In::Seal(items as u64)));
            assert_eq!(requests[0].0, skip);
            assert_eq!(peer.next().await, In::Detach);
            if stream == 0 {
                peer.say(&[job_accepted(0, 5)]).await;
            } else {
                peer.say(&[failed(1, Code::RecipeNotFound, None), BrokerFrame::End]).await;
            }
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let mut batch = client.batch().durable().open().await.expect("open");
        for request in requests(2) {
            batch.send(request).await.expect("sent");
        }
        let refused = batch.detach().await.expect("detached");
        assert_eq!(
            refused.iter().map(|r| (r.id, r.code())).collect::<Vec<_>>(),
            [(1, Some(Code::RecipeNotFound))]
        );
    })
    .await;
}

#[tokio::test]
async fn a_durable_batch_takes_items_again_after_a_loss() {
    in_time(async {
        let broker = broker(|stream, mut peer| async move {
            match (stream, &peer.open) {
                (0, Some(_)) => {
                    peer.say(&[accepted()]).await;
                    assert!(matches!(peer.next().await, In::Request { id: 0, .. }));
                    peer.say(&[job_accepted(0, 5)]).await;
                    let _ = peer.send.finish();
                }
                // The broker has not noticed yet, twice.
                (1..=3, Some(_)) => {
                    let BrokerFrame::Error { code, failure } = error(Code::Conflict) else {
                        unreachable!("it is")
                    };
                    let failure = tollgate_protocol::batch::Failure { retryable: true, ..failure };
                    peer.say(&[BrokerFrame::Error { code, failure }]).await;
                    let _ = peer.send.finish();
                }
                (_, Some(_)) => {
                    peer.say(&[resumed(0)]).await;
                    let (requests, end) = peer.requests().await;
                    assert_eq!(requests.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2]);
                    assert_eq!(end, In::Seal(2));
                    peer.say(&[job_accepted(1, 6), job_accepted(2, 7)]).await;
                    peer.say(&[job_result(&success(2, b"2"), 8)]).await;
                    peer.say(&[job_result(&success(1, b"1"), 9)]).await;
                    peer.end(ok(3)).await;
                }
                _ => {
                    peer.say(&[job_result(&success(0, b"0"), 10)]).await;
                    peer.end(ok(3)).await;
                }
            }
        });
        let client = broker.connect().await;
        let mut batch = client.batch().durable().open().await.expect("open");
        batch.send(Request::new("delay", "0")).await.expect("sent");
        while !matches!(batch.next().await, Some(Ok(Event::JobAccepted(_)))) {}
        for n in 1..3 {
            batch.send(Request::new("delay", format!("{n}"))).await.expect("sent");
        }
        batch.finish().await.expect("sealed");
        let (mut results, mut total) = (Vec::new(), None);
        while let Some(event) = batch.next().await {
            match event.expect("no error") {
                Event::Result(result) => results.push(result.id),
                Event::Summary(summary) => total = Some(summary.total),
                _ => {}
            }
        }
        results.sort_unstable();
        assert_eq!((results, total), (vec![0, 1, 2], Some(3)));
    })
    .await;
}
