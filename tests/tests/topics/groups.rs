//! Consumer groups: shared partitions, hand-over, acknowledgement, redelivery, dead letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tollgate_client::{Client, ConsumerEvent, Message, Retention};
use tollgate_tests::{Rig, SOON};

use crate::{all, by_partition, eventually, next, take, with_topic};

async fn produce(client: &Client, count: u32) {
    let producer = client.producer("t").open().await.expect("a producer");
    let partitions = producer.partitions();
    let mut queued = Vec::new();
    for n in 0..count {
        let message = Message::new(format!("{n}")).partition(n % partitions);
        queued.push(producer.queue(message).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("appended");
    }
    producer.close().await.expect("closed");
}

#[tokio::test]
async fn members_share_the_partitions_and_each_message_is_one_members() {
    let (rig, client) = with_topic(4).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        let client = rig.client("acme").await;
        members.push(client.consumer("t").group("g").open().await.expect("a member"));
    }
    // Both have their share before anything comes.
    eventually("two partitions each", || async {
        let group = client.topics().group("t", "g").await.expect("there");
        let owners: Vec<u64> = group.partitions.iter().filter_map(|p| p.member).collect();
        owners.len() == 4 && owners.iter().filter(|m| **m == owners[0]).count() == 2
    })
    .await;
    produce(&client, 400).await;
    let mut seen = BTreeSet::new();
    let mut shares = Vec::new();
    for member in &mut members {
        let messages = take(member, 200).await;
        shares.push(messages.iter().map(|m| m.partition).collect::<BTreeSet<_>>());
        for message in messages {
            assert_eq!(message.deliveries, 1);
            assert!(seen.insert((message.partition, message.offset)), "given twice");
            member.ack(&message);
        }
    }
    assert!(shares[0].is_disjoint(&shares[1]), "{shares:?}");
    for member in members {
        member.close().await.expect("closed");
    }
    assert_eq!(seen.len(), 400);
    assert_eq!(client.topics().group("t", "g").await.expect("there").lag(), 0);
}

#[tokio::test]
async fn what_was_not_acknowledged_goes_to_who_is_left() {
    let (rig, client) = with_topic(1).await;
    produce(&client, 10).await;
    let mut first = client.consumer("t").group("g").open().await.expect("a member");
    let taken = take(&mut first, 10).await;
    first.ack_range(0, 0, 2);
    first.ack(&taken[5]);
    // Told once it is kept.
    let committed = async {
        loop {
            let event = first.next_event().await.expect("more").expect("an event");
            if matches!(event, ConsumerEvent::Committed { position: 3, .. }) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, committed).await.expect("in time");
    let other = rig.client("acme").await;
    let mut second = other.consumer("t").group("g").open().await.expect("a member");
    drop(first);
    let again = take(&mut second, 6).await;
    let offsets: BTreeMap<u64, u32> = again.iter().map(|m| (m.offset, m.deliveries)).collect();
    let wanted: BTreeMap<u64, u32> = [3, 4, 6, 7, 8, 9].into_iter().map(|o| (o, 2)).collect();
    assert_eq!(offsets, wanted);
}

#[tokio::test]
async fn a_message_is_delivered_again_when_its_time_is_over_and_goes_to_the_dead_letters() {
    let rig = Rig::with(|config| config.topics.deliveries_max = 3).await;
    let client = rig.client("acme").await;
    client.topics().create("t", 1, Retention::default()).await.expect("a topic");
    // Dead letters can be waited for before there are any, but not those of a topic that is not.
    let mut letters = client.consumer("t.dead").open().await.expect("a consumer");
    let none = client.consumer("u.dead").open().await.expect_err("there is no u");
    assert_eq!(none.code(), Some(tollgate_client::Code::NotFound));
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send(Message::new("bad").key("k").header("own", "1")).await.expect("appended");
    producer.send("good").await.expect("appended");
    let mut member = client
        .consumer("t")
        .group("g")
        .ack_timeout(Duration::from_millis(50))
        .open()
        .await
        .expect("a member");
    let mut bad = Vec::new();
    while bad.len() < 3 {
        let message = next(&mut member).await;
        if message.payload == "good" {
            member.ack(&message);
        } else if bad.len() == 1 {
            bad.push(message.deliveries);
            member.nack(&message);
        } else {
            bad.push(message.deliveries);
        }
    }
    assert_eq!(bad, [1, 2, 3]);
    let dead = next(&mut letters).await;
    assert_eq!((&dead.payload[..], dead.key.as_deref()), (&b"bad"[..], Some(&b"k"[..])));
    let headers: BTreeMap<_, _> = dead.headers.iter().collect();
    assert_eq!(headers["own"], "1");
    assert_eq!(headers["tollgate-dead-topic"], "t");
    assert_eq!(headers["tollgate-dead-offset"], "0");
    assert_eq!(headers["tollgate-dead-group"], "g");
    assert_eq!(headers["tollgate-dead-deliveries"], "3");
    eventually("the group is done with it", || async {
        client.topics().group("t", "g").await.expect("there").lag() == 0
    })
    .await;
    // Dead letters are read as any topic is, and never die again; nobody else appends to them.
    assert_eq!(all(&client, "t.dead").await.len(), 1);
    let refused = client.producer("t.dead").open().await.expect_err("the broker's alone");
    assert_eq!(refused.code(), Some(tollgate_client::Code::ValidationError));
    drop(letters);
    client.topics().delete("t").await.expect("deleted");
    assert!(client.topics().get("t.dead").await.is_err(), "it goes with its topic");
}

#[tokio::test]
async fn a_member_has_only_so_many_messages_at_once() {
    let (_rig, client) = with_topic(1).await;
    produce(&client, 10).await;
    let builder = client.consumer("t").group("g").in_flight_max(3);
    let mut member = builder.open().await.expect("a member");
    let taken = take(&mut member, 3).await;
    let more = tokio::time::timeout(Duration::from_millis(200), member.next()).await;
    assert!(more.is_err(), "{more:?}");
    member.ack(&taken[1]);
    assert_eq!(next(&mut member).await.offset, 3);
    let much = client.consumer("t").group("g").in_flight_max(10_001).open().await;
    let refused = much.expect_err("too many");
    assert_eq!(refused.code(), Some(tollgate_client::Code::ValidationError));
}

#[tokio::test]
async fn members_come_and_go_and_nothing_is_lost_or_owned_twice() {
    const COUNT: u32 = 2_000;
    let (rig, client) = with_topic(8).await;
    let producing = {
        let client = rig.client("acme").await;
        tokio::spawn(async move { produce(&client, COUNT).await })
    };
    let (seen, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut members = Vec::new();
    for n in 0..30_u64 {
        let (client, seen) = (rig.client("acme").await, seen.clone());
        members.push(tokio::spawn(async move {
            let mut member = client.consumer("t").group("g").open().await.expect("a member");
            // Each stays for a while of its own, and goes with a word or without.
            let until = tokio::time::sleep(Duration::from_millis(40 + 37 * (n % 7)));
            tokio::pin!(until);
            loop {
                tokio::select! {
                    message = member.next() => {
                        let message = message.expect("more").expect("a message");
                        member.ack(&message);
                        let place = (message.partition, message.offset);
                        seen.send((place, message.payload)).expect("heard");
                    }
                    () = &mut until => break,
                }
            }
            if n % 2 == 0 {
                member.close().await.expect("closed");
            }
        }));
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    for member in members {
        member.await.expect("no panic");
    }
    producing.await.expect("no panic");
    let mut last = client.consumer("t").group("g").open().await.expect("a member");
    let done = async {
        loop {
            let group = client.topics().group("t", "g").await.expect("there");
            if group.lag() == 0 {
                return;
            }
            while let Ok(message) =
                tokio::time::timeout(Duration::from_millis(100), last.next()).await
            {
                let message = message.expect("more").expect("a message");
                last.ack(&message);
                let place = (message.partition, message.offset);
                seen.send((place, message.payload)).expect("heard");
            }
        }
    };
    tokio::time::timeout(SOON, done).await.expect("all is done in time");
    drop(seen);
    let mut places = BTreeSet::new();
    while let Some((place, _)) = heard.recv().await {
        places.insert(place);
    }
    assert_eq!(places.len(), COUNT as usize, "every message came to somebody");
    let kept = by_partition(&all(&client, "t").await);
    assert_eq!(kept.values().map(Vec::len).sum::<usize>(), COUNT as usize);
}
