//! Every quota and limit that concerns topics: exactly to the limit, and one over.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tollgate_broker::tenancy::{Limit, Policy, Quota, Settings};
use tollgate_client::{Code, JobFilter, Message, Retention};
use tollgate_tests::{Rig, SOON};

use crate::{all, eventually, limit, next, refused, take, with_topic};

fn used(rig: &Rig, quota: Quota) -> u64 {
    let tenant = rig.broker.tenants().get("acme").expect("there is one");
    tenant.used(quota, Instant::now())
}

#[tokio::test]
async fn topics_and_partitions_up_to_their_quotas() {
    let rig = Rig::start().await;
    limit(&rig, "acme", |q| {
        (q.topics, q.partitions) = (Some(Limit::at_most(2)), Some(Limit::at_most(5)));
    })
    .await;
    let client = rig.client("acme").await;
    let topics = client.topics();
    topics.create("a", 2, Retention::default()).await.expect("within");
    let over = topics.create("b", 4, Retention::default()).await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "partitions", 2, 5);
    topics.create("b", 3, Retention::default()).await.expect("exactly");
    let over = topics.create("c", 1, Retention::default()).await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "topics", 2, 2);
    assert_eq!((used(&rig, Quota::Topics), used(&rig, Quota::Partitions)), (2, 5));
    // What the broker makes itself does not count.
    let producer = client.producer("inbox").open().await.expect("a producer");
    producer.send("x").await.expect("kept");
    assert_eq!((used(&rig, Quota::Topics), used(&rig, Quota::Partitions)), (2, 5));
    topics.delete("b").await.expect("deleted");
    assert_eq!((used(&rig, Quota::Topics), used(&rig, Quota::Partitions)), (1, 2));
    topics.create("c", 3, Retention::default()).await.expect("there is room again");
}

#[tokio::test]
async fn groups_up_to_their_quota() {
    let (rig, client) = with_topic(1).await;
    limit(&rig, "acme", |q| q.consumer_groups = Some(Limit::at_most(2))).await;
    for name in ["a", "b"] {
        let member = client.consumer("t").group(name).open().await.expect("within");
        member.close().await.expect("closed");
    }
    let over = client.consumer("t").group("c").open().await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "consumer_groups", 2, 2);
    client.consumer("t").group("a").open().await.expect("one that is there");
    client.topics().delete_group("t", "b").await.expect("forgotten");
    client.consumer("t").group("c").open().await.expect("there is room again");
    assert_eq!(used(&rig, Quota::ConsumerGroups), 2);
}

#[tokio::test]
async fn streams_up_to_their_quotas() {
    let (rig, client) = with_topic(1).await;
    limit(&rig, "acme", |q| {
        (q.producers, q.consumers) = (Some(Limit::at_most(2)), Some(Limit::at_most(2)));
    })
    .await;
    let producers = [client.producer("t").open().await, client.producer("t").open().await]
        .map(|p| p.expect("one"));
    let patient = client.producer("t").patience(Duration::ZERO);
    let over = patient.open().await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "producers", 2, 2);
    let _one = client.consumer("t").open().await.expect("within");
    let two = client.consumer("t").group("g").open().await.expect("within");
    let over = client.consumer("t").open().await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "consumers", 2, 2);
    assert_eq!((used(&rig, Quota::Producers), used(&rig, Quota::Consumers)), (2, 2));
    two.close().await.expect("closed");
    client.consumer("t").open().await.expect("there is room again");
    for producer in producers {
        producer.close().await.expect("closed");
    }
    client.producer("t").open().await.expect("there is room again");
}

#[tokio::test]
async fn storage_up_to_its_quota_and_reads_and_deletions_go_on() {
    let (rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send(vec![1_u8; 1_000]).await.expect("kept");
    let one = used(&rig, Quota::StorageBytes);
    assert!((1_000..1_100).contains(&one), "{one}");
    limit(&rig, "acme", |q| q.storage_bytes = Some(Limit::at_most(3 * one))).await;
    producer.send(vec![2_u8; 1_000]).await.expect("kept");
    producer.send(vec![3_u8; 1_000]).await.expect("exactly");
    let over = producer.send("").await.expect_err("one too many");
    assert_eq!(over.code(), Some(Code::StorageFull), "{over}");
    refused(&over, Code::StorageFull, "storage_bytes", 3 * one, 3 * one);
    assert_eq!(all(&client, "t").await.len(), 3);
    let mut member = client.consumer("t").group("g").open().await.expect("a member");
    let message = next(&mut member).await;
    member.ack(&message);
    member.close().await.expect("a position is kept all the same");
    // Several at once: as many as fit.
    client.topics().delete("t").await.expect("deleted");
    eventually("its storage is free", || async { used(&rig, Quota::StorageBytes) == 0 }).await;
    client.topics().create("t", 1, Retention::default()).await.expect("made");
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for _ in 0..10 {
        queued.push(producer.queue(vec![4_u8; 1_000]).await.expect("queued"));
    }
    let mut kept = 0;
    for appending in queued {
        kept += usize::from(appending.await.is_ok());
    }
    assert_eq!(kept, 3);
    assert_eq!(used(&rig, Quota::StorageBytes), 3 * one);
}

#[tokio::test]
async fn retention_up_to_its_quota_and_lowering_it_lets_go() {
    let rig = Rig::with(|config| config.topics.retention_interval_ms = 10).await;
    let client = rig.client("acme").await;
    limit(&rig, "acme", |q| q.retention_hours = Some(Limit::at_most(2))).await;
    let hours = |h: u64| Retention { age: Some(Duration::from_secs(3_600 * h)), bytes: None };
    client.topics().create("a", 1, hours(2)).await.expect("exactly");
    let over = client.topics().create("b", 1, hours(3)).await.expect_err("too long");
    refused(&over, Code::QuotaExceeded, "retention_hours", 3, 2);
    let over = client.topics().update("a", hours(3)).await.expect_err("too long");
    refused(&over, Code::QuotaExceeded, "retention_hours", 3, 2);
    let producer = client.producer("a").open().await.expect("a producer");
    producer.send("x").await.expect("kept");
    limit(&rig, "acme", |q| q.retention_hours = Some(Limit::NONE)).await;
    eventually("nothing may be kept any more", || async {
        client.topics().get("a").await.expect("there").messages() == 0
    })
    .await;
    assert_eq!(used(&rig, Quota::StorageBytes), 0);
}

#[tokio::test]
async fn messages_go_when_they_are_too_old_or_too_many() {
    let rig = Rig::with(|config| config.topics.retention_interval_ms = 10).await;
    let client = rig.client("acme").await;
    let bytes = Retention { age: None, bytes: Some(5_000) };
    client.topics().create("t", 1, bytes).await.expect("a topic");
    let producer = client.producer("t").open().await.expect("a producer");
    for n in 0..50_u8 {
        producer.send(vec![n; 900]).await.expect("kept");
    }
    eventually("the oldest go", || async {
        client.topics().get("t").await.expect("there").partitions[0].bytes <= 5_000
    })
    .await;
    let info = client.topics().get("t").await.expect("there");
    assert_eq!(info.partitions[0].next, 50, "offsets are not used again");
    let kept = all(&client, "t").await;
    assert_eq!(kept.len() as u64, info.messages());
    assert_eq!(kept.last().expect("some").payload, vec![49_u8; 900]);
    assert_eq!(kept[0].offset, info.partitions[0].first);
    assert!(info.partitions[0].bytes > 4_000, "no more than must: {info:?}");
    assert_eq!(used(&rig, Quota::StorageBytes), info.partitions[0].bytes);
    let age = Retention { age: Some(Duration::from_millis(1)), bytes: None };
    client.topics().update("t", age).await.expect("changed");
    eventually("all is too old", || async {
        client.topics().get("t").await.expect("there").messages() == 0
    })
    .await;
    let info = client.topics().get("t").await.expect("there");
    assert_eq!((info.partitions[0].first, info.partitions[0].next), (50, 50));
}

#[tokio::test]
async fn a_payload_over_the_quota_is_refused_alone() {
    let (rig, client) = with_topic(1).await;
    limit(&rig, "acme", |q| q.payload_bytes = Some(Limit::at_most(100))).await;
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send(vec![0_u8; 100]).await.expect("exactly");
    let over = producer.send(vec![0_u8; 101]).await.expect_err("one too many");
    refused(&over, Code::QuotaExceeded, "payload_bytes", 101, 100);
    producer.send("x").await.expect("the stream goes on");
}

#[tokio::test]
async fn rates_hold_producers_back_or_refuse_and_hold_readers_back() {
    let (rig, client) = with_topic(1).await;
    limit(&rig, "acme", |q| q.messages_per_second = Some(Limit::at_most(40))).await;
    let began = Instant::now();
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for n in 0..80 {
        queued.push(producer.queue(format!("{n}")).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("kept");
    }
    assert!(began.elapsed() >= Duration::from_millis(900), "80 at 40 a second");
    let began = Instant::now();
    let mut reader = client.consumer("t").open().await.expect("a consumer");
    assert_eq!(take(&mut reader, 80).await.len(), 80);
    assert!(began.elapsed() >= Duration::from_millis(900), "80 at 40 a second");
    let set = |settings: &mut Settings| settings.policy = Policy::Reject;
    rig.broker.tenants().update("acme", None, set).await.expect("there is one");
    limit(&rig, "acme", |q| q.messages_per_second = Some(Limit::NONE)).await;
    let never = tokio::time::timeout(SOON, producer.send("x")).await.expect("at once");
    refused(&never.expect_err("none"), Code::QuotaExceeded, "messages_per_second", 0, 0);
    let key = vec![b'k'; 1_025];
    let long = producer.send(Message::new("x").key(key)).await.expect_err("too long a key");
    assert_eq!(long.code(), Some(Code::ValidationError));
}

#[tokio::test]
async fn a_tenant_over_its_storage_still_has_its_topics_and_jobs() {
    let (rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    producer.send(vec![0; 50_000]).await.expect("kept");
    limit(&rig, "acme", |q| q.storage_bytes = Some(Limit::at_most(10_000))).await;
    // The first that is asked of its jobs: they find the quota used up beyond its limit.
    let jobs = client.jobs().list(&JobFilter::default()).await.expect("none, and no fault");
    assert!(jobs.is_empty());
    let rig = rig.restart(|_| {}).await;
    let client = rig.client("acme").await;
    assert_eq!(all(&client, "t").await.len(), 1);
    let producer = client.producer("t").open().await.expect("a producer");
    let over = producer.send("x").await.expect_err("over");
    assert_eq!(over.code(), Some(Code::StorageFull));
}

#[tokio::test]
async fn a_producer_whose_rate_is_used_up_sends_again_until_all_is_kept() {
    let (rig, client) = with_topic(1).await;
    let set = |settings: &mut Settings| {
        settings.policy = Policy::Reject;
        settings.overrides.messages_per_second = Some(Limit::at_most(100));
    };
    rig.broker.tenants().update("acme", None, set).await.expect("there is one");
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for n in 0..400 {
        queued.push(producer.queue(n.to_string()).await.expect("queued"));
    }
    for appending in queued {
        appending.await.expect("refused for a while only");
    }
    let kept = all(&client, "t").await;
    let texts: BTreeSet<String> =
        kept.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect();
    assert_eq!((kept.len(), texts.len()), (400, 400), "each of them once");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_alone() {
    let (_rig, client) = with_topic(1).await;
    let producer = client.producer("t").open().await.expect("a producer");
    let mut queued = Vec::new();
    for payload in [vec![1; 10], vec![2; 1_100_000], vec![3; 10]] {
        queued.push(producer.queue(payload).await.expect("queued"));
    }
    let mut codes = Vec::new();
    for appending in queued {
        codes.push(appending.await.err().and_then(|e| e.code()));
    }
    assert_eq!(codes, [None, Some(Code::FrameTooLarge), None]);
    assert_eq!(all(&client, "t").await.len(), 2);
}
