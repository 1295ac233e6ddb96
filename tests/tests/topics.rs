//! Topics: kept before they are acknowledged, read from anywhere, shared by groups, gone when their
//! time is over.

#[path = "topics/asked.rs"]
mod asked;
#[path = "topics/bounds.rs"]
mod bounds;
#[path = "topics/churn.rs"]
mod churn;
#[path = "topics/doors.rs"]
mod doors;
#[path = "topics/groups.rs"]
mod groups;
#[path = "topics/produced.rs"]
mod produced;
#[path = "topics/restarts.rs"]
mod restarts;
#[path = "topics/stalled.rs"]
mod stalled;

use std::{collections::BTreeMap, time::Duration};

use tollgate_broker::tenancy::{Overrides, Settings};
use tollgate_client::{Client, Code, Consumer, ReceivedMessage, Retention, TopicError};
use tollgate_tests::{Rig, SOON};

/// A broker, and a client of `acme` with a topic `t` of so many partitions.
pub async fn with_topic(partitions: u32) -> (Rig, Client) {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    client.topics().create("t", partitions, Retention::default()).await.expect("a topic");
    (rig, client)
}

/// The next message, which is to come soon.
pub async fn next(consumer: &mut Consumer) -> ReceivedMessage {
    let next = tokio::time::timeout(SOON, consumer.next()).await.expect("in time");
    next.expect("there is more").expect("a message")
}

/// So many messages.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<ReceivedMessage> {
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        messages.push(next(consumer).await);
    }
    messages
}

/// Everything that there is now of a topic.
pub async fn all(client: &Client, topic: &str) -> Vec<ReceivedMessage> {
    let mut consumer = client.consumer(topic).until_end().open().await.expect("a consumer");
    let mut messages = Vec::new();
    while let Some(message) = consumer.next().await {
        messages.push(message.expect("a message"));
    }
    messages
}

/// The payloads, as text, of each partition in its order.
pub fn by_partition(messages: &[ReceivedMessage]) -> BTreeMap<u32, Vec<String>> {
    let mut all: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for message in messages {
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        all.entry(message.partition).or_default().push(text);
    }
    all
}

/// Gives a tenant quotas of its own.
pub async fn limit(rig: &Rig, tenant: &str, change: impl FnOnce(&mut Overrides)) {
    let set = |settings: &mut Settings| change(&mut settings.overrides);
    rig.broker.tenants().update(tenant, None, set).await.expect("there is one");
}

/// What is said of a refusal by a quota.
#[track_caller]
pub fn refused(error: &TopicError, code: Code, quota: &str, current: u64, limit: u64) {
    assert_eq!(error.code(), Some(code), "{error}");
    let refusal = error.failure().and_then(|f| f.quota.as_ref()).expect("a quota is named");
    assert_eq!((&*refusal.quota, refusal.current, refusal.limit), (quota, current, limit));
}

/// Polls a question until its answer is as wanted.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, asked).await.unwrap_or_else(|_| panic!("{what}: it never came"));
}
