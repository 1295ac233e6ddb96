//! Jobs from the client's side: handed over, waited for, looked at, acted on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate_client::{
    CancelScope, Code, JobError, JobEvent, JobFilter, JobState, JobTarget, Request,
};
use tollgate_protocol::{BrokerFrame, job::Jobs};

use crate::{frames::*, support::*};

/// Takes a durable batch of one until the client detaches.
async fn take_one(mut peer: Peer) {
    assert!(peer.open.as_ref().is_some_and(|open| open.durable));
    peer.say(&[accepted()]).await;
    let (requests, end) = peer.requests().await;
    assert_eq!((requests.len(), end), (1, In::Seal(1)));
    peer.say(&[job_accepted(requests[0].0, 17)]).await;
    assert_eq!(peer.next().await, In::Detach);
    peer.say(&[BrokerFrame::End]).await;
    let _ = peer.send.finish();
}

#[tokio::test]
async fn a_job_is_handed_over_and_its_result_read_elsewhere() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            if peer.open.is_some() {
                return take_one(peer).await;
            }
            let after = number(17);
            let target = JobTarget::Job(job_id(0));
            assert_eq!(peer.first, Some(In::Attach { target, after, follow: true }));
            peer.say(&[progress(0, 1, 3), progress(0, 2, 3)]).await;
            let result = job_result(&success(0, b"done"), 19);
            peer.say(&[result, BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let job = client.submit("delay", &300).idempotency_key("once").await.expect("submitted");
        assert_eq!((job.id(), job.existing()), (job_id(0), false));
        let mut done = Vec::new();
        let mut progress = job.progress();
        while let Some(p) = progress.next().await {
            done.push(p.expect("progress").done);
        }
        assert_eq!(done, [1, 2]);
        let result = job.result().await.expect("a result");
        assert_eq!(result.payload().map(|p| &p[..]), Some(&b"done"[..]));
        assert!(result.is_job());
    })
    .await;
}

#[tokio::test]
async fn an_item_that_is_refused_is_no_job() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            peer.say(&[accepted()]).await;
            peer.requests().await;
            peer.say(&[failed(0, Code::RecipeNotFound, None)]).await;
            peer.next().await;
        });
        let client = broker.connect().await;
        let e = client.submit("nope", &1).await.expect_err("refused");
        assert_eq!(e.code(), Some(Code::RecipeNotFound), "{e}");
        let long = client.submit("echo", &1).idempotency_key("k".repeat(257));
        assert_eq!(long.await.expect_err("too long").code(), Some(Code::ValidationError));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_not_there_or_not_over_is_an_error_in_time() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            if peer.first == Some(attach(1)) {
                peer.say(&[error(Code::NotFound)]).await;
                let _ = peer.send.finish();
            }
            // The others hear nothing.
            peer.next().await;
        });
        let client = broker.connect().await;
        let e = client.job(job_id(1)).result().await.expect_err("not there");
        assert_eq!(e.code(), Some(Code::NotFound));
        let time = Duration::from_millis(30);
        let e = client.job(job_id(2)).result_within(time).await.expect_err("not over");
        assert!(matches!(e, JobError::NotOver(t) if t == time), "{e}");
    })
    .await;
}

fn attach(n: u8) -> In {
    let target = JobTarget::Job(job_id(n));
    In::Attach { target, after: Default::default(), follow: true }
}

#[tokio::test]
async fn an_attachment_reads_on_after_the_last_number_when_its_connection_is_lost() {
    in_time(async {
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let seen = rounds.clone();
        let broker = Broker::start(move |mut peer| {
            let seen = seen.clone();
            async move {
                let Some(In::Attach { after, .. }) = peer.first else { panic!("attached") };
                let round = {
                    let mut seen = seen.lock().expect("unpoisoned");
                    seen.push(after.sequence);
                    seen.len()
                };
                match round {
                    1 => {
                        peer.say(&[job_accepted(0, 3), job_accepted(1, 4)]).await;
                        // Heard, before it is lost.
                        assert_eq!(peer.next().await, In::Cancel(CancelScope::All));
                        peer.go_away();
                    }
                    2 => {
                        assert_eq!(peer.next().await, In::Cancel(CancelScope::All));
                        // What was seen comes once more; the client does not tell it twice.
                        let result = job_result(&failed(1, Code::Cancelled, None), 6);
                        peer.say(&[job_accepted(1, 4), result]).await;
                        let _ = peer.send.finish();
                    }
                    _ => {
                        let result = job_result(&failed(0, Code::Cancelled, None), 9);
                        peer.say(&[result, BrokerFrame::End]).await;
                        let _ = peer.send.finish();
                    }
                }
            }
        });
        let client = broker.connect().await;
        let mut attached = client.attach(JobTarget::Batch(tollgate_client::BatchId([9; 16])));
        let (mut jobs, mut results) = (Vec::new(), Vec::new());
        while let Some(event) = attached.next().await {
            match event.expect("no error") {
                JobEvent::Accepted(job) => {
                    jobs.push(job.id);
                    if jobs.len() == 2 {
                        attached.cancel(CancelScope::All);
                    }
                }
                JobEvent::Result(result) => results.push(result.id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((jobs, results), (vec![0, 1], vec![1, 0]));
        assert_eq!(*rounds.lock().expect("unpoisoned"), [0, 4, 6]);
        assert_eq!(attached.number(), number(9));
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_does_not_come_back_is_given_up() {
    in_time(async {
        let broker = Broker::start(|peer| async move { peer.go_away() });
        let client = broker.client().patience(Duration::from_millis(250)).connect().await;
        let client = client.expect("connected");
        let e = client.job(job_id(1)).result().await.expect_err("it never answers");
        assert!(matches!(e, JobError::OutOfReach { .. }), "{e}");
        assert_eq!(e.code(), Some(Code::Draining));
    })
    .await;
}

#[tokio::test]
async fn jobs_are_looked_at_page_by_page_and_acted_on() {
    in_time(async {
        let broker = Broker::start(|mut peer| async move {
            let Some(In::Job(asked)) = peer.first.clone() else { panic!("a question") };
            let count = |count| BrokerFrame::Jobs(Jobs { count, next: None });
            let more = BrokerFrame::Jobs(Jobs { count: 1, next: Some("p.2") });
            match asked {
                Asked::Get(id) if id == job_id(1) => {
                    peer.say(&[job_info(1, JobState::Retrying)]).await;
                }
                Asked::Get(_) => {
                    peer.say(&[error(Code::NotFound)]).await;
                    let _ = peer.send.finish();
                    return;
                }
                Asked::List { states, cursor: None, limit: 1_000 } => {
                    assert_eq!(states, 1 << 6);
                    peer.say(&[job_info(1, JobState::Dead), more]).await;
                }
                Asked::List { cursor, .. } => {
                    assert_eq!(cursor.as_deref(), Some("p.2"));
                    peer.say(&[job_info(2, JobState::Dead), count(1)]).await;
                }
                Asked::Cancel(Some(id), CancelScope::All) if id == job_id(1) => {
                    peer.say(&[count(1)]).await;
                }
                Asked::Replay(None) => peer.say(&[count(2)]).await,
                Asked::Purge(Some(_)) => peer.say(&[count(0)]).await,
                other => panic!("{other:?}"),
            }
            peer.say(&[BrokerFrame::End]).await;
            let _ = peer.send.finish();
        });
        let client = broker.connect().await;
        let job = client.job(job_id(1));
        let info = job.info().await.expect("known");
        assert_eq!((info.state, info.attempts, info.is_over()), (JobState::Retrying, 2, false));
        assert_eq!(info.errors[0].code(), Some(Code::Timeout));
        let e = client.jobs().get(job_id(3)).await.expect_err("unknown");
        assert_eq!(e.code(), Some(Code::NotFound));
        let dead = JobFilter::new().state(JobState::Dead);
        let listed = client.jobs().list(&dead).await.expect("listed");
        assert_eq!(listed.iter().map(|j| j.id).collect::<Vec<_>>(), [job_id(1), job_id(2)]);
        assert!(job.cancel().await.expect("cancelled"));
        assert_eq!(client.jobs().replay(dead).await.expect("replayed"), 2);
        assert_eq!(client.jobs().purge(job_id(1)).await.expect("purged"), 0);
    })
    .await;
}

#[tokio::test]
async fn a_jobs_failure_is_never_tried_again_here() {
    in_time(async {
        let batches = Arc::new(Mutex::new(0));
        let count = batches.clone();
        let broker = Broker::start(move |mut peer| {
            *count.lock().expect("unpoisoned") += 1;
            async move {
                peer.say(&[accepted()]).await;
                peer.requests().await;
                // It says that it may be tried again: the broker has done so.
                let result = job_result(&failed(0, Code::NoWorker, None), 5);
                peer.say(&[job_accepted(0, 4), result]).await;
                let failed = vec![(Code::NoWorker, 1)];
                peer.end(Counts { failed, last: Some(0), ..Counts::default() }).await;
            }
        });
        let client = broker.connect().await;
        let result = client.execute([Request::new("delay", "")]).await.expect("a result");
        assert_eq!(result.failures().count(), 1);
        assert_eq!(*batches.lock().expect("unpoisoned"), 1);
    })
    .await;
}
