//! Topics over restarts: what was acknowledged is there, in its order, and positions are where they
//! were.

use std::time::Duration;

use tollgate_client::{Code, Message, Retention};
use tollgate_tests::Rig;

use crate::{all, by_partition, next, take, with_topic};

#[tokio::test]
async fn everything_is_as_it_was() {
    let (rig, client) = with_topic(2).await;
    let producer = client.producer("t").identity([9; 16], 4).open().await.expect("a producer");
    for n in 0..50 {
        producer.send(Message::new(format!("{n}")).key(format!("{}", n % 5))).await.expect("kept");
    }
    let before = all(&client, "t").await;
    client.topics().delete_message(before[3].id).await.expect("deleted");
    let mut member = client.consumer("t").group("g").open().await.expect("a member");
    let taken = take(&mut member, 49).await;
    taken.iter().filter(|m| m.offset < 10).for_each(|m| member.ack(m));
    member.close().await.expect("closed");
    let before = all(&client, "t").await;
    let info = client.topics().get("t").await.expect("there");
    let group = client.topics().group("t", "g").await.expect("there");
    client.close().await;

    let rig = rig.restart(|_| {}).await;
    let client = rig.client("acme").await;
    assert_eq!(client.topics().get("t").await.expect("there"), info);
    let kept = client.topics().group("t", "g").await.expect("there");
    let positions = |g: &tollgate_client::GroupInfo| {
        g.partitions.iter().map(|p| p.position).collect::<Vec<_>>()
    };
    assert_eq!(positions(&kept), positions(&group));
    let after = all(&client, "t").await;
    assert_eq!(by_partition(&after), by_partition(&before));
    let ids = |m: &[tollgate_client::ReceivedMessage]| m.iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before));
    let fenced = client.producer("t").identity([9; 16], 3).open().await.expect_err("fenced");
    assert_eq!(fenced.code(), Some(Code::Conflict));
    let producer = client.producer("t").identity([9; 16], 4).open().await.expect("a producer");
    producer.send("new").await.expect("kept");
    assert_eq!(all(&client, "t").await.len(), 50, "sequences went on");
    // What was not acknowledged is delivered again; what was is not.
    let mut member = client.consumer("t").group("g").until_end().open().await.expect("a member");
    while let Some(message) = member.next().await {
        let message = message.expect("a message");
        assert!(message.offset >= 10, "{message:?}");
        member.ack(&message);
    }
}

#[tokio::test]
async fn a_topic_made_again_under_the_same_name_is_another() {
    let (rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..5 {
        producer.send(format!("old {n}")).await.expect("kept");
    }
    let old = all(&client, "t").await;
    client.topics().delete("t").await.expect("deleted");
    client.topics().create("t", 2, Retention::default()).await.expect("made again");
    assert!(all(&client, "t").await.is_empty());
    let producer = client.producer("t").open().await.expect("a producer");
    let position = producer.send(Message::new("new").partition(0)).await.expect("kept");
    assert_eq!(position.offset, 0);
    client.close().await;
    let rig = rig.restart(|_| {}).await;
    let client = rig.client("acme").await;
    let messages = all(&client, "t").await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].payload, "new");
    for message in old {
        let gone = client.topics().message(message.id).await.expect_err("gone");
        assert_eq!(gone.code(), Some(Code::NotFound));
    }
}

#[tokio::test]
async fn producers_and_consumers_need_not_notice_a_restart() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = port.local_addr().expect("bound");
    drop(port);
    let rig = Rig::with(|config| config.listen = addr).await;
    let client = rig.client("acme").await;
    client.topics().create("t", 1, Retention::default()).await.expect("a topic");
    let mut reader = client.consumer("t").open().await.expect("a consumer");
    let producer = client.producer("t").open().await.expect("a producer");
    let producing = tokio::spawn(async move {
        for n in 0..300 {
            producer.send(format!("{n}")).await.expect("kept");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let first = take(&mut reader, 20).await;
    let rig = rig.restart(|config| config.listen = addr).await;
    let mut texts: Vec<String> =
        first.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect();
    while texts.len() < 300 {
        texts.push(String::from_utf8_lossy(&next(&mut reader).await.payload).into_owned());
    }
    producing.await.expect("no panic");
    assert_eq!(texts, (0..300).map(|n| n.to_string()).collect::<Vec<_>>(), "each once, in order");
    drop(rig);
}
