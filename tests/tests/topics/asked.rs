//! What is asked of topics and done to them, by whom, and what others learn: nothing.

use std::time::Duration;

use tollgate_client::{Code, MessageId, Retention, StartAt, TopicError};
use tollgate_tests::{Rig, SOON};

use crate::{all, next, with_topic};

#[tokio::test]
async fn topics_are_made_listed_changed_and_deleted() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let topics = client.topics();
    let hour = Retention { age: Some(Duration::from_secs(3_600)), bytes: Some(1 << 20) };
    let made = topics.create("orders", 3, hour).await.expect("made");
    assert_eq!((made.partitions.len(), made.retention), (3, hour));
    let taken = topics.create("orders", 1, hour).await.expect_err("taken");
    assert_eq!(taken.code(), Some(Code::Conflict));
    for n in 0..24 {
        topics.create(&format!("a{n:02}"), 0, Retention::default()).await.expect("made");
    }
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = topics.page(cursor.as_deref(), 7).await.expect("a page");
        assert!(page.topics.len() <= 7);
        names.extend(page.topics.into_iter().map(|topic| topic.name));
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert!(names.is_sorted() && names.len() == 25, "{names:?}");
    let kept = topics.update("orders", Retention::default()).await.expect("changed");
    assert_eq!(kept.retention, Retention::default());
    topics.delete("orders").await.expect("deleted");
    for gone in [
        topics.get("orders").await.expect_err("gone"),
        topics.delete("orders").await.expect_err("gone"),
        topics.update("orders", hour).await.expect_err("gone"),
        client.producer("orders").open().await.expect_err("gone"),
        client.consumer("orders").open().await.expect_err("gone"),
        topics.groups(Some("orders")).await.expect_err("gone"),
    ] {
        assert_eq!(gone.code(), Some(Code::NotFound), "{gone}");
    }
    for bad in ["", "Orders", "a/b", "-x", "x.dead", &"x".repeat(129), &"x".repeat(124)] {
        let refused = topics.create(bad, 1, Retention::default()).await.expect_err("bad");
        assert_eq!(refused.code(), Some(Code::ValidationError), "{bad}");
    }
    topics.create(&"x".repeat(123), 1, Retention::default()).await.expect("the longest");
    let many = topics.create("many", 1_025, Retention::default()).await.expect_err("too many");
    assert_eq!(many.code(), Some(Code::ValidationError));
}

#[tokio::test]
async fn another_tenants_topic_is_like_none() {
    let (rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send("secret").await.expect("appended");
    let id = all(&client, "t").await[0].id;
    let mut member = client.consumer("t").group("g").open().await.expect("a member");
    next(&mut member).await;
    let globex = rig.client("globex").await;
    let nobody = MessageId([7; 16]);
    let topics = globex.topics();
    for unknown in [id, nobody] {
        for refused in [
            topics.message(unknown).await.expect_err("not theirs"),
            topics.delete_message(unknown).await.expect_err("not theirs"),
        ] {
            assert_eq!(refused.code(), Some(Code::NotFound));
            let said = refused.failure().expect("a failure");
            assert_eq!(&*said.message, "there is no such message");
        }
    }
    let same = |e: TopicError| (e.code(), e.failure().map(|f| f.message.clone()));
    for topic in ["t", "never"] {
        let refused = [
            same(topics.get(topic).await.expect_err("not theirs")),
            same(topics.delete(topic).await.expect_err("not theirs")),
            same(topics.group(topic, "g").await.expect_err("not theirs")),
            same(globex.producer(topic).open().await.expect_err("not theirs")),
            same(globex.consumer(topic).open().await.expect_err("not theirs")),
            same(globex.consumer(topic).group("g").open().await.expect_err("not theirs")),
        ];
        for one in refused {
            assert_eq!(one, (Some(Code::NotFound), Some("there is no such topic".into())));
        }
    }
    assert!(topics.list().await.expect("a list").is_empty());
    assert!(topics.groups(None).await.expect("a list").is_empty());
    // The same name is another topic.
    topics.create("t", 1, Retention::default()).await.expect("theirs");
    assert!(all(&globex, "t").await.is_empty());
    assert_eq!(all(&client, "t").await.len(), 1);
}

#[tokio::test]
async fn a_deleted_message_is_read_by_nobody() {
    let (_rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..5 {
        producer.send(format!("{n}")).await.expect("appended");
    }
    let messages = all(&client, "t").await;
    client.topics().delete_message(messages[2].id).await.expect("deleted");
    let gone = client.topics().message(messages[2].id).await.expect_err("gone");
    assert_eq!(gone.code(), Some(Code::NotFound));
    let gone = client.topics().delete_message(messages[2].id).await.expect_err("gone");
    assert_eq!(gone.code(), Some(Code::NotFound));
    let left: Vec<u64> = all(&client, "t").await.iter().map(|m| m.offset).collect();
    assert_eq!(left, [0, 1, 3, 4]);
    let mut member = client.consumer("t").group("g").open().await.expect("a member");
    let taken = crate::take(&mut member, 4).await;
    taken.iter().for_each(|message| member.ack(message));
    member.close().await.expect("closed");
    let group = client.topics().group("t", "g").await.expect("there");
    assert_eq!(group.lag(), 0, "what does not exist is not waited for");
}

#[tokio::test]
async fn who_reads_a_topic_that_is_deleted_is_told_so() {
    let (_rig, client) = with_topic(2).await;
    let mut reader = client.consumer("t").open().await.expect("a consumer");
    let mut member = client.consumer("t").group("g").open().await.expect("a member");
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send("x").await.expect("appended");
    next(&mut reader).await;
    next(&mut member).await;
    client.topics().delete("t").await.expect("deleted");
    for consumer in [&mut reader, &mut member] {
        let told = tokio::time::timeout(SOON, consumer.next()).await.expect("in time");
        let error = told.expect("an end").expect_err("it is gone");
        assert_eq!(error.code(), Some(Code::NotFound));
    }
    let refused = producer.send("y").await.expect_err("it is gone");
    assert_eq!(refused.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn groups_are_listed_moved_and_forgotten() {
    let (_rig, client) = with_topic(2).await;
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..10 {
        let message = tollgate_client::Message::new(format!("{n}")).partition(n % 2);
        producer.send(message).await.expect("appended");
    }
    for name in ["b", "a"] {
        let mut member = client.consumer("t").group(name).open().await.expect("a member");
        let taken = crate::take(&mut member, 10).await;
        taken.iter().for_each(|message| member.ack(message));
        let busy = client.topics().delete_group("t", name).await.expect_err("it has a member");
        assert_eq!(busy.code(), Some(Code::Conflict));
        let busy = client.topics().reset_group("t", name, None, StartAt::Earliest).await;
        assert_eq!(busy.expect_err("it has a member").code(), Some(Code::Conflict));
        member.close().await.expect("closed");
    }
    let groups = client.topics().groups(None).await.expect("a list");
    let names: Vec<_> = groups.iter().map(|g| &*g.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert!(groups.iter().all(|g| g.lag() == 0 && g.members == 0), "{groups:?}");
    let moved = client.topics().reset_group("t", "a", Some(1), StartAt::Offset(3)).await;
    let positions: Vec<u64> = moved.expect("moved").partitions.iter().map(|p| p.position).collect();
    assert_eq!(positions, [5, 3]);
    let past = client.topics().reset_group("t", "a", Some(1), StartAt::Offset(99)).await;
    assert_eq!(past.expect("moved").partitions[1].position, 5, "to the end and no further");
    client.topics().reset_group("t", "a", None, StartAt::Earliest).await.expect("moved");
    let mut member = client.consumer("t").group("a").until_end().open().await.expect("a member");
    let again = crate::take(&mut member, 10).await;
    assert!(again.iter().all(|message| message.deliveries == 1));
    drop(member);
    client.topics().delete_group("t", "b").await.expect("forgotten");
    let gone = client.topics().group("t", "b").await.expect_err("gone");
    assert_eq!(gone.code(), Some(Code::NotFound));
}
