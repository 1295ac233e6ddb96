//! What is tried again, what is not, and what the caller sees of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tollgate_client::{BatchError, CallError, Code, Request, RetryPolicy, StreamCode};
use tollgate_protocol::BrokerFrame;

use crate::{frames::*, support::*};

/// The ids that each batch brought, in the order of the batches.
type Log = Arc<Mutex<Vec<Vec<u64>>>>;

/// A broker whose items fail with `code` in the first `bad` batches, the odd ones only.
fn flaky(bad: usize, code: Code, hint: Option<u64>) -> (Broker, Log) {
    let log = Log::default();
    let seen = log.clone();
    let broker = Broker::start(move |mut peer| {
        let seen = seen.clone();
        async move {
            peer.say(&[accepted()]).await;
            let (requests, _) = peer.requests().await;
            let ids: Vec<_> = requests.iter().map(|r| r.0).collect();
            let round = {
                let mut seen = seen.lock().expect("unpoisoned");
                seen.push(ids.clone());
                seen.len()
            };
            let fails = |id: u64| round <= bad && id % 2 == 1;
            for (id, _, payload) in &requests {
                let frame =
                    if fails(*id) { failed(*id, code, hint) } else { success(*id, payload) };
                peer.say(&[frame]).await;
            }
            let n = ids.iter().filter(|id| fails(**id)).count() as u64;
            let failed = if n > 0 { vec![(code, n)] } else { vec![] };
            let ok = ids.len() as u64 - n;
            peer.end(Counts { ok, failed, last: ids.last().copied(), ..Counts::default() }).await;
        }
    });
    (broker, log)
}

fn requests() -> impl Iterator<Item = Request> {
    (0..4).map(|n| Request::new("echo", format!("{n}")))
}

#[tokio::test]
async fn what_says_retryable_is_tried_again_after_its_hint_under_its_own_id() {
    in_time(async {
        let (broker, log) = flaky(2, Code::RateLimited, Some(30));
        let client = broker.connect().await;
        let begun = Instant::now();
        let result = client.execute(requests()).await.expect("a result");
        assert!(begun.elapsed() >= Duration::from_millis(60));
        assert_eq!(*log.lock().expect("unpoisoned"), [vec![0, 1, 2, 3], vec![1, 3], vec![1, 3]]);
        assert_eq!(result.summary().succeeded, 4);
        assert_eq!(result.get(3).expect("item 3").payload().expect("ok"), "3");
        result.into_result().expect("all succeeded in the end");
    })
    .await;
}

#[tokio::test]
async fn three_tries_are_all() {
    in_time(async {
        let (broker, log) = flaky(9, Code::RateLimited, Some(1));
        let client = broker.connect().await;
        let result = client.execute(requests()).await.expect("a result");
        assert_eq!(log.lock().expect("unpoisoned").len(), 3);
        assert_eq!(result.by_status(429).map(|r| r.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(result.summary().failed, [(Code::RateLimited.number(), 2)]);
    })
    .await;
}

#[tokio::test]
async fn nothing_else_is_tried_again() {
    in_time(async {
        let (broker, log) = flaky(9, Code::RecipeExecution, None);
        let client = broker.connect().await;
        let result = client.execute(requests()).await.expect("a result");
        assert_eq!((log.lock().expect("unpoisoned").len(), result.failures().count()), (1, 2));

        let (broker, log) = flaky(9, Code::RateLimited, Some(1));
        let client = broker.client().retry(RetryPolicy::none()).connect().await.expect("connected");
        let result = client.execute(requests()).await.expect("a result");
        assert_eq!((log.lock().expect("unpoisoned").len(), result.failures().count()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn no_try_begins_after_the_deadline() {
    in_time(async {
        let (broker, log) = flaky(9, Code::RateLimited, Some(20_000));
        let client = broker.connect().await;
        let batch = client.batch().deadline(Duration::from_secs(10));
        let result = batch.execute(requests()).await.expect("a result");
        assert_eq!((log.lock().expect("unpoisoned").len(), result.failures().count()), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_call_retries_too_and_gives_the_last_word() {
    in_time(async {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = tries.clone();
        let broker = Broker::start(move |mut peer| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                peer.say(&[failed(0, Code::Overloaded, Some(1))]).await;
                let failed = vec![(Code::Overloaded, 1)];
                peer.end(Counts { failed, last: Some(0), ..Counts::default() }).await;
            }
        });
        let client = broker.connect().await;
        let e = client.call::<_, ()>("echo", &()).await.expect_err("overloaded");
        assert_eq!((e.code(), tries.load(Ordering::SeqCst)), (Some(Code::Overloaded), 3));
        assert!(matches!(e, CallError::Failed(_)), "{e}");
    })
    .await;
}

/// A broker that refuses the first batch as a whole, in its own way, and echoes the next.
async fn whole(
    refuse: impl Fn(Peer) -> futures::future::BoxFuture<'static, ()> + Send + Sync + 'static,
) -> Result<usize, BatchError> {
    in_time(async {
        let refuse = Arc::new(refuse);
        let batches = Arc::new(AtomicUsize::new(0));
        let counted = batches.clone();
        let broker = Broker::start(move |peer| {
            let (first, refuse) = (counted.fetch_add(1, Ordering::SeqCst) == 0, refuse.clone());
            async move { if first { refuse(peer).await } else { peer.echo().await } }
        });
        let client = broker.connect().await;
        let result = client.execute(requests()).await?;
        assert_eq!(result.into_result().expect("all succeeded").len(), 4);
        Ok(batches.load(Ordering::SeqCst))
    })
    .await
}

async fn say_error(mut peer: Peer, first: Option<BrokerFrame<'static>>, code: Code) {
    peer.requests().await;
    let error = BrokerFrame::Error { code: code.number(), failure: failure(code, Some(1)) };
    let frames: Vec<_> = first.into_iter().chain([error]).collect();
    peer.say(&frames).await;
    let _ = peer.send.finish();
}

#[tokio::test]
async fn a_whole_batch_is_tried_again_only_when_nothing_of_it_started() {
    use futures::FutureExt;
    let draining = whole(|p| say_error(p, None, Code::Draining).boxed()).await;
    assert_eq!(draining.expect("the second try succeeds"), 2);
    // It was accepted; the broker vouches that nothing happened all the same.
    let free = whole(|p| say_error(p, Some(accepted()), Code::Overloaded).boxed()).await;
    assert_eq!(free.expect("the second try succeeds"), 2);
    // It was accepted, and the broker does not vouch.
    let e = whole(|p| say_error(p, Some(accepted()), Code::StoreUnavailable).boxed()).await;
    assert_eq!(e.expect_err("unknown").code(), Some(Code::StoreUnavailable));
    // Refused for good.
    let e = whole(|p| say_error(p, None, Code::Forbidden).boxed()).await;
    assert_eq!(e.expect_err("refused").code(), Some(Code::Forbidden));
    let refused = |mut p: Peer| {
        let _ = p.send.reset(StreamCode::Refused.number().into());
        futures::future::ready(()).boxed()
    };
    assert_eq!(whole(refused).await.expect("the second try succeeds"), 2);
    let cut = |mut p: Peer| {
        let _ = p.send.finish();
        futures::future::ready(()).boxed()
    };
    assert!(matches!(whole(cut).await, Err(BatchError::Cut)));
}

#[tokio::test]
async fn a_try_that_is_cut_leaves_its_items_unknown_and_the_others_as_they_were() {
    in_time(async {
        let batches = Arc::new(AtomicUsize::new(0));
        let broker = Broker::start(move |mut peer| {
            let first = batches.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                if first {
                    let limited = failed(1, Code::RateLimited, Some(1));
                    peer.say(&[success(0, b""), limited]).await;
                    let failed = vec![(Code::RateLimited, 1)];
                    peer.end(Counts { ok: 1, failed, last: Some(1), ..Counts::default() }).await;
                }
            }
        });
        let client = broker.connect().await;
        let result = client.execute(requests().take(2)).await.expect("a result");
        assert!(result.get(0).expect("item 0").is_success());
        let failure = result.get(1).expect("item 1").failure().expect("it failed");
        assert_eq!(failure.code(), Some(Code::InternalError));
        assert!(!failure.side_effect_free && !failure.retryable);
        assert!(failure.message.contains("not known"), "{}", failure.message);
    })
    .await;
}
