//! Appending and reading: order, keys, positions, duplicates, the live end.

use std::time::{Duration, SystemTime};

use tollgate_client::{Code, Message, Retention, StartAt};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, encode,
    topic::{self, ConsumeOpen, ProduceOpen},
};
use tollgate_tests::Rig;

use crate::{all, by_partition, next, take, with_topic};

#[tokio::test]
async fn what_is_appended_is_read_as_it_was() {
    let (_rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567);
    let full = Message::new("hello").key("k").header("a", "1").header("b", "").timestamp(at);
    let first = producer.send(full).await.expect("appended");
    let second = producer.send(vec![7_u8; 200_000]).await.expect("appended");
    assert_eq!((first.partition, first.offset, second.offset), (0, 0, 1));
    producer.close().await.expect("closed");
    let messages = all(&client, "t").await;
    assert_eq!(messages.len(), 2);
    let message = &messages[0];
    assert_eq!((&message.payload[..], message.key.as_deref()), (&b"hello"[..], Some(&b"k"[..])));
    let headers: Vec<_> = message.headers.iter().collect();
    assert_eq!(headers, [("a", "1"), ("b", "")]);
    assert_eq!((message.timestamp, message.deliveries), (at, 0));
    assert_eq!(messages[1].payload, vec![7_u8; 200_000]);
    assert!(messages[1].id > message.id, "ids rise");
    let found = client.topics().message(message.id).await.expect("there");
    assert_eq!(found.payload, message.payload);
    let info = client.topics().get("t").await.expect("there");
    assert_eq!((info.messages(), info.partitions[0].next), (2, 2));
}

#[tokio::test]
async fn messages_of_a_key_keep_to_one_partition_and_their_order() {
    let (_rig, client) = with_topic(4).await;
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for n in 0..400 {
        let message = Message::new(format!("{}:{n}", n % 7)).key(format!("key-{}", n % 7));
        queued.push((n % 7, producer.queue(message).await.expect("queued")));
    }
    let mut of_key = std::collections::BTreeMap::new();
    for (key, appending) in queued {
        let position = appending.await.expect("appended");
        assert_eq!(*of_key.entry(key).or_insert(position.partition), position.partition);
    }
    assert!(of_key.values().collect::<std::collections::BTreeSet<_>>().len() > 1, "{of_key:?}");
    let messages = all(&client, "t").await;
    assert_eq!(messages.len(), 400);
    for (partition, texts) in by_partition(&messages) {
        for key in 0..7 {
            let prefix = format!("{key}:");
            let numbers: Vec<u32> = texts
                .iter()
                .filter_map(|t| t.strip_prefix(&prefix))
                .map(|n| n.parse().expect("a number"))
                .collect();
            assert!(numbers.is_sorted(), "{partition}: {numbers:?}");
        }
    }
    let explicit = producer.send(Message::new("x").partition(3).key("key-1")).await;
    assert_eq!(explicit.expect("appended").partition, 3);
    let wrong = producer.send(Message::new("x").partition(4)).await.expect_err("none");
    assert_eq!(wrong.code(), Some(Code::ValidationError));
    assert!(producer.send("y").await.is_ok(), "the stream goes on");
}

#[tokio::test]
async fn reading_begins_where_it_is_asked_to() {
    let (_rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..10 {
        producer.send(format!("{n}")).await.expect("appended");
    }
    let middle = all(&client, "t").await[5].id;
    let ms = u64::from_be_bytes(middle.0[..8].try_into().expect("eight")) >> 16;
    for (from, first) in [
        (StartAt::Earliest, "0"),
        (StartAt::Offset(4), "4"),
        (StartAt::Time(0), "0"),
        (StartAt::Offset(10), "10"),
        (StartAt::Latest, "10"),
        (StartAt::Time(ms + 3_600_000), "10"),
    ] {
        let mut consumer = client.consumer("t").from(from).open().await.expect("a consumer");
        if first == "10" {
            continue;
        }
        assert_eq!(next(&mut consumer).await.payload, first.as_bytes(), "{from:?}");
    }
    let mut latest = client.consumer("t").from(StartAt::Latest).open().await.expect("a consumer");
    producer.send("new").await.expect("appended");
    assert_eq!(next(&mut latest).await.payload, "new");
    // At the time of a message, nothing before it is given.
    let mut timed = client.consumer("t").from(StartAt::Time(ms)).open().await.expect("one");
    let first = next(&mut timed).await;
    assert!(first.offset <= 5 && first.id.0[..6] == middle.0[..6], "{first:?}");
    let mut own = client.consumer("t").offset(0, 7).open().await.expect("a consumer");
    assert_eq!(next(&mut own).await.payload, "7");
}

#[tokio::test]
async fn who_reads_along_sees_each_message_once_and_in_order() {
    let (_rig, client) = with_topic(3).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(client.consumer("t").open().await.expect("a consumer"));
    }
    let producer = client.producer("t").open().await.expect("a producer");
    let produced = tokio::spawn(async move {
        let mut queued = Vec::new();
        for n in 0..3_000 {
            let message = Message::new(format!("{n}")).partition(n % 3);
            queued.push(producer.queue(message).await.expect("queued"));
        }
        for appending in queued {
            appending.await.expect("appended");
        }
    });
    for reader in &mut readers {
        let messages = take(reader, 3_000).await;
        for (partition, texts) in by_partition(&messages) {
            let wanted: Vec<String> =
                (0..3_000).filter(|n| n % 3 == partition).map(|n| n.to_string()).collect();
            assert_eq!(texts, wanted);
        }
    }
    produced.await.expect("no panic");
}

#[tokio::test]
async fn a_message_that_comes_again_is_answered_with_the_offset_it_has() {
    let (rig, client) = with_topic(2).await;
    let producer = topic::Producer { id: [3; 16], epoch: 5 };
    let open = ProduceOpen { producer: Some(producer), ..ProduceOpen::new("t") };
    let raw = rig.raw("acme").await;
    let mut told = Vec::new();
    for round in 0..2 {
        let mut stream = raw.stream().await;
        stream.frame(&ClientFrame::Produce(open)).await;
        for sequence in 1..=6 {
            let payload = format!("{sequence}");
            let message = topic::Message::new(sequence, payload.as_bytes());
            stream.frame(&ClientFrame::Message(message)).await;
        }
        stream.seal(6).await;
        let (mut places, mut last) = (Vec::new(), None);
        while let Some(over) = stream
            .next(|frame| match frame {
                BrokerFrame::ProduceAccepted(accepted) => {
                    last = accepted.last_sequence;
                    false
                }
                BrokerFrame::Produced(p) => {
                    assert_eq!(p.duplicate, round == 1);
                    for n in 0..u64::from(p.count) {
                        places.push((p.sequence + n, p.partition, p.offset + n));
                    }
                    false
                }
                BrokerFrame::End => true,
                other => panic!("{other:?}"),
            })
            .await
        {
            if over {
                break;
            }
        }
        assert_eq!(last, (round == 1).then_some(6));
        assert_eq!(places.len(), 6);
        told.push(places);
    }
    assert_eq!(told[0], told[1], "the same offsets");
    assert_eq!(all(&client, "t").await.len(), 6);
    // A newer epoch begins anew, and the older one is over.
    let newer = client.producer("t").identity([3; 16], 6).open().await.expect("a producer");
    newer.send("again").await.expect("appended");
    let older = client.producer("t").identity([3; 16], 5).open().await.expect_err("fenced");
    assert_eq!(older.code(), Some(Code::Conflict));
    assert_eq!(all(&client, "t").await.len(), 7);
}

#[tokio::test]
async fn a_producer_whose_connection_is_lost_appends_nothing_twice() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("bound");
    drop(port);
    let mut rig = Rig::with(|config| config.listen = addr).await;
    let client = rig.client("acme").await;
    client.topics().create("t", 1, Retention::default()).await.expect("a topic");
    let producer = client.producer("t").open().await.expect("a producer");
    let mut offsets = Vec::new();
    for round in 0..3 {
        let mut queued = Vec::new();
        // With as many under way as there may be.
        for n in 0..1_000 {
            queued.push(producer.queue(format!("{}", round * 1_000 + n)).await.expect("queued"));
        }
        rig = rig.restart(|config| config.listen = addr).await;
        for appending in queued {
            offsets.push(appending.await.expect("appended").offset);
        }
    }
    assert!(offsets.is_sorted(), "in the order in which they were handed over");
    let other = rig.client("acme").await;
    let texts = by_partition(&all(&other, "t").await).remove(&0).expect("one partition");
    assert_eq!(texts, (0..3_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_may_be_acknowledged_once_they_are_received() {
    let (_rig, client) = with_topic(1).await;
    let producer = client.producer("t").acks_received().open().await.expect("a producer");
    for n in 0..100 {
        producer.send(format!("{n}")).await.expect("received");
    }
    producer.close().await.expect("closed");
    assert_eq!(all(&client, "t").await.len(), 100);
}

#[tokio::test]
async fn the_inbox_is_made_when_it_is_first_used() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    assert!(client.topics().list().await.expect("a list").is_empty());
    let producer = client.producer("inbox").open().await.expect("a producer");
    producer.send("hello").await.expect("appended");
    assert_eq!(all(&client, "inbox").await.len(), 1);
    let taken = client.topics().create("inbox", 1, Retention::default()).await.expect_err("taken");
    assert_eq!(taken.code(), Some(Code::Conflict));
    client.topics().delete("inbox").await.expect("deleted");
    assert!(all(&client, "inbox").await.is_empty(), "and made again");
}

/// How a stream went on: what was kept, and the code that it ended with.
async fn end(stream: &mut tollgate_tests::raw::RawStream) -> (u64, Option<Code>) {
    let mut kept = 0;
    loop {
        let over = stream
            .next(|frame| match frame {
                BrokerFrame::Produced(p) => {
                    kept += u64::from(p.count);
                    None
                }
                BrokerFrame::Error { code, .. } => Some(Code::from_number(code)),
                _ => None,
            })
            .await;
        if let Some(code) = over.expect("it ends with a frame") {
            return (kept, code);
        }
    }
}

#[tokio::test]
async fn what_was_said_before_a_mistake_is_appended() {
    let (rig, client) = with_topic(1).await;
    let raw = rig.raw("acme").await;
    let mut stream = raw.stream().await;
    let mut bytes = Vec::new();
    encode(&ClientFrame::Produce(ProduceOpen::new("t")), &mut bytes);
    for sequence in 1..=3 {
        encode(&ClientFrame::Message(topic::Message::new(sequence, b"x")), &mut bytes);
    }
    encode(&ClientFrame::Seal { items: 9 }, &mut bytes);
    stream.bytes(&bytes).await;
    assert_eq!(end(&mut stream).await, (3, Some(Code::ValidationError)));
    assert_eq!(all(&client, "t").await.len(), 3);
}

#[tokio::test]
async fn a_frame_that_has_begun_and_stalls_ends_a_consumer_too() {
    let rig = Rig::with(|config| config.limits.frame_timeout_ms = 200).await;
    let client = rig.client("acme").await;
    client.topics().create("t", 1, Retention::default()).await.expect("a topic");
    let raw = rig.raw("acme").await;
    let mut stream = raw.stream().await;
    stream
        .frame(&ClientFrame::Consume(ConsumeOpen { group: Some("g"), ..ConsumeOpen::new("t") }))
        .await;
    stream.bytes(&[9, 0]).await;
    assert_eq!(end(&mut stream).await, (0, Some(Code::Timeout)));
}
