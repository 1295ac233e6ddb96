//! What a well-behaved broker and a caller in any order of mind get out of a batch.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tollgate_client::{
    BatchError, CallError, Code, Ended, Event, EventRef, Mode, Order, Request, wire,
};
use tollgate_protocol::{BrokerFrame, batch::Body, batch::NoticeKind};

use crate::{frames::*, support::*};

#[tokio::test]
async fn a_whole_batch_comes_back_in_the_order_of_its_ids() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let (requests, end) = peer.requests().await;
            assert_eq!(end, In::Seal(300));
            for (id, _, payload) in requests.iter().rev() {
                peer.say(&[success(*id, payload)]).await;
            }
            peer.end(Counts { ok: 300, last: Some(299), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let requests = (0..300).map(|n| Request::new("echo", format!("payload {n}")));
        let result = client.execute(requests).await.expect("a result");
        assert_eq!(result.len(), 300);
        for (n, item) in result.iter().enumerate() {
            assert_eq!(item.id, n as u64);
            assert_eq!(item.payload().expect("a payload"), format!("payload {n}").as_bytes());
        }
        assert_eq!(result.summary().total, 300);
        assert_eq!(result.get(7).expect("item 7").payload().expect("ok"), "payload 7");
        assert!(result.get(300).is_none());
        assert_eq!(result.into_result().expect("all succeeded").len(), 300);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn large_payloads_and_results_arrive_whole_among_small_ones() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let payload = |n: usize| -> Bytes {
            let len = [10, 4_095, 4_096, 70_000, 300_000][n % 5];
            (0..len).map(|i| (i * 7 + n) as u8).collect::<Vec<_>>().into()
        };
        let requests = (0..40).map(|n| Request::new("echo", payload(n)));
        let result = client.execute(requests).await.expect("a result");
        for (n, item) in result.iter().enumerate() {
            assert!(*item.payload().expect("ok") == payload(n), "item {n} differs");
        }
    })
    .await;
}

#[tokio::test]
async fn failures_stand_beside_successes_and_cannot_be_overlooked() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let (_, end) = peer.requests().await;
            assert_eq!(end, In::Seal(3));
            let frames =
                [failed(1, Code::RecipeNotFound, None), success(0, b"a"), success(2, b"c")];
            peer.say(&frames).await;
            let failed = vec![(Code::RecipeNotFound, 1)];
            peer.end(Counts { ok: 2, failed, last: Some(2), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let requests = ["a", "b", "c"].map(|x| Request::new("echo", x));
        let result = client.execute(requests).await.expect("a result");
        assert_eq!(result.successes().count(), 2);
        let failures: Vec<_> = result.failures().map(|f| f.id).collect();
        assert_eq!(failures, [1]);
        assert_eq!(result.by_status(404).count(), 1);
        assert_eq!(result.for_tenant("acme").count(), 0);
        assert_eq!(result.summary().failed, [(Code::RecipeNotFound.number(), 1)]);
        let e = result.into_result().expect_err("one failed");
        assert_eq!(e.code(), Some(Code::RecipeNotFound));
        assert!(e.to_string().contains("1 of 3 items failed; the first is item 1"), "{e}");
    })
    .await;
}

#[tokio::test]
async fn a_call_reports_progress_and_gives_a_typed_answer() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            let (requests, _) = peer.requests().await;
            peer.say(&[progress(0, 1, 4), progress(0, 4, 4), success(0, &requests[0].2)]).await;
            peer.end(Counts { ok: 1, last: Some(0), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let answer: Vec<u8> = client
            .call("echo", &[1, 2, 3])
            .on_progress(move |p| sink.lock().expect("unpoisoned").push(p.percent()))
            .await
            .expect("an answer");
        assert_eq!(answer, [1, 2, 3]);
        assert_eq!(*seen.lock().expect("unpoisoned"), [Some(25.0), Some(100.0)]);
        let bytes = client.call_bytes("echo", "raw").await.expect("an answer");
        assert_eq!(bytes, "raw");
        let pair: (u8, String) =
            client.call_postcard("echo", &(7u8, "seven")).await.expect("an answer");
        assert_eq!(pair, (7, "seven".to_owned()));
        let wrong = client.call::<_, String>("echo", &5).await.expect_err("not a string");
        assert!(matches!(wrong, CallError::Decode(_)), "{wrong}");
    })
    .await;
}

#[tokio::test]
async fn events_come_one_by_one_while_items_are_still_sent() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        for n in 0..5u64 {
            // Nothing is flushed by hand: waiting for the event does it.
            let id = batch.send(Request::new("echo", vec![n as u8])).await.expect("sent");
            assert_eq!(id, n);
            loop {
                match batch.next().await.expect("an event").expect("no error") {
                    Event::Result(r) => break assert_eq!(r.id, n),
                    Event::Accepted(a) => assert_eq!(a.frame_bytes_max, 1 << 20),
                    other => panic!("{other:?}"),
                }
            }
        }
        batch.seal().await.expect("sealed");
        assert!(matches!(batch.send(Request::new("echo", "")).await, Err(BatchError::Sealed)));
        let last = batch.next().await.expect("an event").expect("no error");
        assert!(matches!(last, Event::Summary(s) if s.total == 5 && s.ended == Ended::Sealed));
        assert!(batch.next().await.is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_halves_of_a_batch_live_in_two_tasks() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let (mut sender, events) = client.batch().open().await.expect("open").split();
        let reader = tokio::spawn(async move {
            let mut results = 0;
            events
                .try_for_each(|event| {
                    results += usize::from(matches!(event, Event::Result(_)));
                    futures::future::ok(())
                })
                .await
                .map(|()| results)
        });
        for n in 0..20_000u32 {
            let payload = n.to_be_bytes();
            let request = wire::Request::new(n.into(), "echo", &payload);
            sender.send_raw(&request).await.expect("sent");
        }
        sender.finish().await.expect("finished");
        assert_eq!(reader.await.expect("no panic").expect("no error"), 20_000);
    })
    .await;
}

#[tokio::test]
async fn a_visitor_sees_everything_without_a_copy_and_the_summary_last() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        for n in 0..1_000u64 {
            batch.send(Request::new("echo", n.to_string())).await.expect("sent");
        }
        batch.finish().await.expect("finished");
        let (mut sum, mut summary) = (0, None);
        batch
            .for_each(|event| match event {
                EventRef::Result(r) => {
                    let Body::Payload(p) = r.body else { panic!("a payload") };
                    sum += std::str::from_utf8(p).expect("text").parse::<u64>().expect("a number");
                    assert!(summary.is_none());
                }
                EventRef::Summary(s) => summary = Some(s.clone()),
                _ => {}
            })
            .await
            .expect("no error");
        assert_eq!((sum, summary.expect("a summary").total), (499_500, 1_000));
    })
    .await;
}

/// 10 MB out and 10 MB back through windows of 256 KiB, and nobody looks at the events before
/// the seal.
#[tokio::test]
async fn a_sender_whose_results_nobody_reads_gets_to_its_end() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        let payload = Bytes::from(vec![7; 10_000]);
        for _ in 0..1_000 {
            batch.send(Request::new("echo", payload.clone())).await.expect("sent");
        }
        batch.seal().await.expect("sealed");
        let (mut results, mut bytes) = (0, 0);
        while let Some(event) = batch.next().await {
            if let Event::Result(r) = event.expect("no error") {
                results += 1;
                bytes += r.payload().expect("ok").len();
            }
        }
        assert_eq!((results, bytes), (1_000, 10_000_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_goes_on_beside_a_reader_that_holds_still() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let (mut sender, mut events) = client.batch().open().await.expect("open").split();
        let (sealed, wait) = oneshot::channel();
        let reader = tokio::spawn(async move {
            // One event, and then none until everything is sent.
            let first = events.next().await.expect("an event").expect("no error");
            assert!(matches!(first, Event::Accepted(_)));
            wait.await.expect("sealed");
            events
                .filter(|e| futures::future::ready(matches!(e, Ok(Event::Result(_)))))
                .count()
                .await
        });
        let payload = Bytes::from(vec![7; 3_000]);
        for _ in 0..1_500 {
            sender.send(Request::new("echo", payload.clone())).await.expect("sent");
        }
        sender.finish().await.expect("finished");
        sealed.send(()).expect("the reader waits");
        assert_eq!(reader.await.expect("no panic"), 1_500);
    })
    .await;
}

#[tokio::test]
async fn an_item_that_no_frame_can_carry_fails_alone_and_names_the_limit() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            // Not before the client has said something: it must not wait for ever.
            peer.say(&[accepted_with(100_000)]).await;
            let (requests, end) = peer.requests().await;
            assert_eq!(end, In::Seal(2));
            assert_eq!(requests.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2]);
            for (id, _, payload) in &requests {
                peer.say(&[success(*id, payload)]).await;
            }
            peer.end(Counts { ok: 2, last: Some(2), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let sizes = [99_000, 100_001, 50_000];
        let requests = sizes.map(|n| Request::new("echo", vec![0; n]));
        let result = client.execute(requests).await.expect("a result");
        let failure = result.get(1).expect("item 1").failure().expect("it failed");
        assert_eq!(failure.code(), Some(Code::FrameTooLarge));
        assert!(failure.side_effect_free && !failure.retryable);
        for part in ["limits.frame_bytes_max", "100000", "payload_bytes", "100016 bytes"] {
            assert!(failure.message.contains(part), "{:?} lacks {part}", failure.message);
        }
        assert_eq!(failure.details.get("limit"), Some("100000"));
        assert_eq!(failure.details.get("length"), Some("100016"));
        assert_eq!(failure.details.get("config_key"), Some("limits.frame_bytes_max"));
        assert_eq!(result.by_status(413).count(), 1);
        assert_eq!(result.successes().count(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_item_refused_here_comes_among_the_events_too() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        let long = "v".repeat(5_000);
        batch.send(Request::new("echo", "").metadata("k", &long)).await.expect("taken");
        batch.send(Request::new("echo", vec![0; 2 << 20])).await.expect("taken");
        batch.send(Request::new("echo", "fine")).await.expect("taken");
        batch.finish().await.expect("finished");
        let mut codes = vec![];
        while let Some(event) = batch.next().await {
            match event.expect("no error") {
                Event::Result(r) => codes.push((r.id, r.code().expect("known"))),
                Event::Summary(s) => assert_eq!((s.total, codes.len()), (1, 3)),
                _ => {}
            }
        }
        codes.sort_unstable();
        let expected = [(0, Code::ValidationError), (1, Code::FrameTooLarge), (2, Code::Ok)];
        assert_eq!(codes, expected);
    })
    .await;
}

#[tokio::test]
async fn an_id_that_does_not_rise_is_refused_and_the_batch_goes_on() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        assert_eq!(batch.send(Request::new("echo", "").id(7)).await.expect("sent"), 7);
        let e = batch.send(Request::new("echo", "").id(7)).await.expect_err("not rising");
        assert!(matches!(e, BatchError::IdNotIncreasing { id: 7, last: 7 }), "{e}");
        assert_eq!(batch.send(Request::new("echo", "")).await.expect("sent"), 8);
        batch.finish().await.expect("finished");
        let results =
            batch.split().1.filter(|e| futures::future::ready(matches!(e, Ok(Event::Result(_)))));
        assert_eq!(results.count().await, 2);
    })
    .await;
}

#[tokio::test]
async fn progress_notices_and_throttling_are_told() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.requests().await;
            peer.raw(&[0; 8]).await;
            let notice = BrokerFrame::Notice(tollgate_protocol::batch::Notice {
                kind: NoticeKind::Draining,
                at_unix_ms: 5,
                message: "soon",
            });
            let throttled = BrokerFrame::Throttled(tollgate_protocol::batch::Throttled {
                quota: "requests_per_second",
                scope: tollgate_client::Scope::Tenant,
                current: 10,
                limit: 10,
                resume_ms: 70,
            });
            peer.say(&[accepted(), throttled, progress(0, 1, 2), notice, success(0, b"")]).await;
            peer.end(Counts { ok: 1, last: Some(0), ..Counts::default() }).await;
        });
        let client = broker.connect().await;
        let mut batch = client.batch().open().await.expect("open");
        batch.send(Request::new("delay", "")).await.expect("sent");
        batch.finish().await.expect("finished");
        let events: Vec<_> = batch.split().1.try_collect().await.expect("no error");
        let [_, Event::Throttled(t), Event::Progress(p), Event::Notice(n), Event::Result(_), _] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((&*t.quota, t.resume_in.as_millis()), ("requests_per_second", 70));
        assert_eq!((p.done, p.total, &*p.message), (1, 2, "at it"));
        assert_eq!((n.kind, &*n.message), (NoticeKind::Draining, "soon"));
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_opened_as_it_was_asked_for() {
    in_time(async {
        let (tell, mut told) = mpsc::channel(1);
        let broker = Broker::start(move |peer| {
            let tell = tell.clone();
            async move {
                tell.send(peer.open.clone()).await.expect("the test listens");
                peer.echo().await;
            }
        });
        let client = broker.connect().await;
        let id = tollgate_client::BatchId([7; 16]);
        let asked = client
            .batch()
            .id(id)
            .tenant("acme")
            .mode(Mode::FailFast)
            .order(Order::Submission)
            .concurrency_max(3)
            .deadline(Duration::from_micros(60_000_500))
            .priority(9)
            .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        asked
            .execute([Request::new("echo", "x")])
            .await
            .expect("a result")
            .into_result()
            .expect("ok");
        let open = told.recv().await.expect("the broker tells").expect("an open frame");
        let deadline_ms = open.deadline_ms.expect("a deadline");
        assert!((59_000..=60_001).contains(&deadline_ms), "{deadline_ms}");
        let expected = Opened {
            id,
            tenant: Some("acme".into()),
            durable: false,
            fail_fast: true,
            submission: true,
            concurrency_max: 3,
            deadline_ms: Some(deadline_ms),
            priority: 7,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        assert_eq!(open, expected);
    })
    .await;
}

#[tokio::test]
async fn many_batches_share_one_connection() {
    in_time(async {
        let broker = Broker::start(Peer::echo);
        let client = broker.connect().await;
        let connections = Arc::new(AtomicUsize::new(0));
        let batches = (0..200).map(|n| {
            let (client, connections) = (client.clone(), connections.clone());
            async move {
                let requests = (0..n % 7).map(|_| Request::new("echo", "x"));
                let result = client.execute(requests).await.expect("a result");
                connections.fetch_add(1, Ordering::Relaxed);
                assert_eq!(result.into_result().expect("all succeeded").len(), n % 7);
            }
        });
        futures::future::join_all(batches).await;
        assert_eq!(connections.load(Ordering::Relaxed), 200);
        assert_eq!(broker.endpoint.open_connections(), 1);
    })
    .await;
}
