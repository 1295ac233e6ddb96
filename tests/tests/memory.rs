//! What happens to streams about topics and jobs when the memory of the process is nearly used up.
//!
//! Alone in its process: it is that process's memory.

use std::time::Duration;

use tollgate_client::{Client, Code, Message, Retention, TopicError};
use tollgate_protocol::{
    BrokerFrame, ClientFrame,
    close::StreamCode,
    topic::{ConsumeOpen, ProduceOpen},
};
use tollgate_tests::{Rig, SOON, resident_bytes};

async fn consumer(client: &Client) -> Result<(), TopicError> {
    client.consumer("t").open().await.map(drop)
}

async fn producer(client: &Client) -> Result<(), TopicError> {
    client.producer("t").open().await.map(drop)
}

/// Tries until it is as wanted.
async fn until(what: &str, client: &Client, code: Option<Code>) {
    let there = async {
        while consumer(client).await.err().and_then(|e| e.code()) != code {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, there).await.unwrap_or_else(|_| panic!("{what}: it never came"));
}

#[tokio::test]
async fn new_streams_are_refused_and_stalled_readers_go_while_memory_is_short() {
    let limit = resident_bytes() + (512 << 20);
    let rig = Rig::with(|config| {
        config.limits.memory_bytes = limit as u64;
        config.limits.reader_timeout_ms = 300;
    })
    .await;
    let client = rig.client("acme").await;
    client.topics().create("t", 1, Retention::default()).await.expect("a topic");
    let appends = client.producer("t").open().await.expect("a producer");
    for _ in 0..16 {
        appends.send(Message::new(vec![7; 900_000])).await.expect("appended");
    }
    // A reader that takes nothing, longer than its time: there is memory for it.
    let raw = rig.raw("acme").await;
    let mut stalled = raw.stream().await;
    stalled.frame(&ClientFrame::Consume(ConsumeOpen::new("t"))).await;
    let accepted = |frame: BrokerFrame<'_>| matches!(frame, BrokerFrame::ConsumeAccepted(_));
    assert!(stalled.next(accepted).await.expect("accepted"));
    let stays = tokio::time::timeout(Duration::from_secs(1), stalled.stopped()).await;
    assert!(stays.is_err(), "it was let go: {stays:?}");
    consumer(&client).await.expect("there is memory for another");
    // Touched, all of it: it is resident.
    let ballast = vec![1_u8; limit * 9 / 10 - resident_bytes()];
    until("readers are refused", &client, Some(Code::Overloaded)).await;
    let refused = producer(&client).await.expect_err("no memory");
    assert_eq!(refused.code(), Some(Code::Overloaded));
    let mut first = raw.stream().await;
    first.frame(&ClientFrame::Produce(ProduceOpen::new("t"))).await;
    let code = first.next(|frame| match frame {
        BrokerFrame::Error { code, .. } => Code::from_number(code),
        other => panic!("{other:?}"),
    });
    assert_eq!(code.await.expect("answered"), Some(Code::Overloaded));
    // What has a place keeps it, as long as it takes what it is sent.
    appends.send("x").await.expect("appended");
    let gone = tokio::time::timeout(SOON, stalled.stopped()).await.expect("it is let go");
    assert_eq!(gone, Some(StreamCode::Done));
    drop(ballast);
    until("there is memory again", &client, None).await;
    producer(&client).await.expect("there is memory again");
}
