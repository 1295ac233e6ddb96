//! The golden vectors of topics.

use super::{
    super::model::{
        Broker, Client, Id16,
        topic::{
            Acks, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Delivery, GroupAction,
            GroupAsk, GroupInfo, GroupPartition, Listed, Message, PartitionInfo, ProduceAccepted,
            ProduceFailed, ProduceOpen, Produced, Producer, Range, Retention, StartAt, TopicAction,
            TopicAsk, TopicInfo,
        },
    },
    blob, extensions, failure, failure_every_field, map,
};

pub fn client() -> Vec<(&'static str, Client)> {
    let mut all = vec![
        ("produce_default", Client::Produce(produce())),
        ("produce_every_field", Client::Produce(produce_every_field())),
        ("consume_default", Client::Consume(consume())),
        (
            "consume_latest",
            Client::Consume(ConsumeOpen { from: StartAt::Latest, follow: false, ..consume() }),
        ),
        (
            "consume_time",
            Client::Consume(ConsumeOpen {
                from: StartAt::Time { time: 1_700_000_000_000 },
                ..consume()
            }),
        ),
        ("consume_member", Client::Consume(member())),
        ("consume_every_field", Client::Consume(consume_every_field())),
        ("message_smallest", Client::Message(message(0))),
        ("message", Client::Message(Message { payload: blob(b"hi"), ..message(1) })),
        ("message_every_field", Client::Message(message_every_field())),
        ("ack", Client::Ack(Range { partition: 0, first: 17, last: 17 })),
        ("ack_most", Client::Ack(MOST)),
        ("nack", Client::Nack(Range { partition: 0, first: 17, last: 17 })),
        ("nack_most", Client::Nack(MOST)),
    ];
    all.extend(topics());
    all.extend(groups());
    all
}

const MOST: Range = Range { partition: u32::MAX, first: 0, last: u64::MAX };

fn topics() -> Vec<(&'static str, Client)> {
    let ask = |action| Client::Topic(TopicAsk { tenant: None, action, extensions: vec![] });
    vec![
        ("topic_create_default", ask(create(0, KEPT))),
        ("topic_create_every_field", Client::Topic(create_every_field())),
        ("topic_delete", ask(TopicAction::Delete { topic: topic() })),
        ("topic_get", ask(TopicAction::Get { topic: topic() })),
        ("topic_list", ask(list_topics(None, 0))),
        ("topic_list_next", ask(list_topics(Some(topic()), 1_000))),
        (
            "topic_update",
            ask(TopicAction::Update {
                topic: topic(),
                retention: Retention { age_ms: Some(3_600_000), bytes: None },
            }),
        ),
        ("topic_get_message", ask(TopicAction::GetMessage { id: id() })),
        ("topic_delete_message", ask(TopicAction::DeleteMessage { id: id() })),
    ]
}

fn groups() -> Vec<(&'static str, Client)> {
    let ask = |action| Client::Group(GroupAsk { tenant: None, action, extensions: vec![] });
    vec![
        ("group_get", ask(GroupAction::Get { topic: topic(), group: group() })),
        ("group_list", ask(list_groups(None, None, 0))),
        (
            "group_list_of_a_topic",
            ask(list_groups(Some(topic()), Some("orders/billing".into()), 10)),
        ),
        ("group_delete", ask(GroupAction::Delete { topic: topic(), group: group() })),
        ("group_reset", ask(reset(None, StartAt::Earliest))),
        ("group_reset_every_field", Client::Group(reset_every_field())),
    ]
}

pub fn broker() -> Vec<(&'static str, Broker)> {
    let listed =
        |count, next: Option<&str>| Broker::Listed(Listed { count, next: next.map(str::to_owned) });
    vec![
        ("topic", Broker::Topic(topic_info())),
        ("topic_every_field", Broker::Topic(topic_info_every_field())),
        ("group", Broker::Group(group_info())),
        ("group_every_field", Broker::Group(group_info_every_field())),
        ("listed", listed(3, None)),
        ("listed_more", listed(1_000, Some("orders/billing"))),
        ("produce_accepted", Broker::ProduceAccepted(produce_accepted())),
        ("produce_accepted_every_field", Broker::ProduceAccepted(produce_accepted_every_field())),
        ("produced", Broker::Produced(produced())),
        ("produced_every_field", Broker::Produced(produced_every_field())),
        ("received", Broker::Received { sequence: 300 }),
        ("received_most", Broker::Received { sequence: u64::MAX }),
        ("produce_failed", Broker::ProduceFailed(produce_failed())),
        ("produce_failed_every_field", Broker::ProduceFailed(produce_failed_every_field())),
        ("consume_accepted", Broker::ConsumeAccepted(consume_accepted())),
        ("consume_accepted_every_field", Broker::ConsumeAccepted(consume_accepted_every_field())),
        ("delivery", Broker::Delivery(delivery())),
        ("delivery_every_field", Broker::Delivery(delivery_every_field())),
        ("assigned_none", Broker::Assigned(Assigned { generation: 1, partitions: vec![] })),
        ("assigned", Broker::Assigned(Assigned { generation: 300, partitions: vec![0, 2, 1_023] })),
        ("committed", Broker::Committed(Committed { partition: 0, position: 18 })),
        (
            "committed_most",
            Broker::Committed(Committed { partition: u32::MAX, position: u64::MAX }),
        ),
    ]
}

fn topic() -> String {
    "orders".into()
}

fn group() -> String {
    "billing".into()
}

/// A UUID of version 7.
pub fn id() -> Id16 {
    Id16([
        0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x70, 0x00, 0x80, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00,
        0x11,
    ])
}

pub fn producer() -> Producer {
    Producer { id: Id16(std::array::from_fn(|i| 0xc0 + i as u8)), epoch: 2 }
}

pub fn produce() -> ProduceOpen {
    ProduceOpen {
        topic: topic(),
        tenant: None,
        producer: None,
        acks: Acks::Synced,
        extensions: vec![],
    }
}

pub fn produce_every_field() -> ProduceOpen {
    ProduceOpen {
        topic: "audit.log-2_eu".into(),
        tenant: Some("acme".into()),
        producer: Some(producer()),
        acks: Acks::Received,
        extensions: extensions(),
    }
}

pub fn consume() -> ConsumeOpen {
    ConsumeOpen {
        topic: topic(),
        tenant: None,
        partition: None,
        from: StartAt::Earliest,
        offsets: vec![],
        group: None,
        ack_timeout_ms: 0,
        in_flight_max: 0,
        follow: true,
        extensions: vec![],
    }
}

pub fn member() -> ConsumeOpen {
    ConsumeOpen {
        from: StartAt::Latest,
        group: Some(group()),
        ack_timeout_ms: 30_000,
        in_flight_max: 1_000,
        ..consume()
    }
}

/// Every field at once, which no broker grants: a member names no partition and no offsets.
pub fn consume_every_field() -> ConsumeOpen {
    ConsumeOpen {
        topic: "audit.log-2_eu".into(),
        tenant: Some("acme".into()),
        partition: Some(300),
        from: StartAt::Offset { offset: 1 << 40 },
        offsets: vec![(0, 17), (300, u64::MAX)],
        group: Some(group()),
        ack_timeout_ms: u64::MAX,
        in_flight_max: u32::MAX,
        follow: false,
        extensions: extensions(),
    }
}

pub fn message(sequence: u64) -> Message {
    Message {
        sequence,
        partition: None,
        timestamp_unix_ms: None,
        key: None,
        headers: vec![],
        payload: blob(b""),
    }
}

pub fn message_every_field() -> Message {
    Message {
        partition: Some(300),
        timestamp_unix_ms: Some(1_700_000_000_000),
        key: Some(blob(&[0x00, 0xff, b'k'])),
        headers: map(&[("lang", "fr"), ("", "caf\u{e9}"), ("lang", "de")]),
        payload: blob(&[0x00, 0x7f, 0x80, 0xff]),
        ..message(u64::MAX)
    }
}

/// What a topic keeps when nothing is said of it.
pub const KEPT: Retention = Retention { age_ms: None, bytes: None };

pub fn create(partitions: u32, retention: Retention) -> TopicAction {
    TopicAction::Create { topic: topic(), partitions, retention }
}

pub fn create_every_field() -> TopicAsk {
    let retention = Retention { age_ms: Some(604_800_000), bytes: Some(1 << 30) };
    TopicAsk {
        tenant: Some("acme".into()),
        action: create(1_024, retention),
        extensions: extensions(),
    }
}

pub fn list_topics(cursor: Option<String>, limit: u32) -> TopicAction {
    TopicAction::List { cursor, limit }
}

pub fn list_groups(topic: Option<String>, cursor: Option<String>, limit: u32) -> GroupAction {
    GroupAction::List { topic, cursor, limit }
}

pub fn reset(partition: Option<u32>, to: StartAt) -> GroupAction {
    GroupAction::Reset { topic: topic(), group: group(), partition, to }
}

pub fn reset_every_field() -> GroupAsk {
    GroupAsk {
        tenant: Some("acme".into()),
        action: reset(Some(3), StartAt::Offset { offset: 300 }),
        extensions: extensions(),
    }
}

pub fn topic_info() -> TopicInfo {
    TopicInfo {
        topic: topic(),
        partitions: vec![PartitionInfo { first: 0, next: 0, bytes: 0 }],
        retention: KEPT,
        created_unix_ms: 1_700_000_000_000,
        groups: 0,
        extensions: vec![],
    }
}

pub fn topic_info_every_field() -> TopicInfo {
    TopicInfo {
        partitions: vec![
            PartitionInfo { first: 17, next: 300, bytes: 65_536 },
            PartitionInfo { first: 1 << 40, next: u64::MAX, bytes: 0 },
        ],
        retention: Retention { age_ms: Some(604_800_000), bytes: Some(1 << 30) },
        groups: 2,
        extensions: extensions(),
        ..topic_info()
    }
}

pub fn group_info() -> GroupInfo {
    GroupInfo {
        topic: topic(),
        group: group(),
        members: 0,
        generation: 0,
        partitions: vec![GroupPartition { position: 0, next: 300, in_flight: 0, member: None }],
        extensions: vec![],
    }
}

pub fn group_info_every_field() -> GroupInfo {
    GroupInfo {
        members: 2,
        generation: 300,
        partitions: vec![
            GroupPartition { position: 17, next: 300, in_flight: 128, member: Some(0) },
            GroupPartition { position: 1 << 40, next: u64::MAX, in_flight: 0, member: Some(7) },
        ],
        extensions: extensions(),
        ..group_info()
    }
}

pub fn produce_accepted() -> ProduceAccepted {
    ProduceAccepted {
        partitions: 1,
        last_sequence: None,
        frame_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        extensions: vec![],
    }
}

pub fn produce_accepted_every_field() -> ProduceAccepted {
    ProduceAccepted {
        partitions: 1_024,
        last_sequence: Some(41),
        frame_bytes_max: 16 << 20,
        payload_bytes_max: u64::MAX,
        extensions: extensions(),
    }
}

pub fn produced() -> Produced {
    Produced { sequence: 1, count: 1, partition: 0, offset: 17, duplicate: false }
}

pub fn produced_every_field() -> Produced {
    Produced { sequence: 300, count: 256, partition: 1_023, offset: 1 << 40, duplicate: true }
}

pub fn produce_failed() -> ProduceFailed {
    ProduceFailed { sequence: 2, code: 4, failure: failure("field `key`: too long") }
}

pub fn produce_failed_every_field() -> ProduceFailed {
    ProduceFailed { sequence: u64::MAX, code: 12, failure: failure_every_field() }
}

pub fn consume_accepted() -> ConsumeAccepted {
    ConsumeAccepted { partitions: 1, ack_timeout_ms: 0, in_flight_max: 0, extensions: vec![] }
}

pub fn consume_accepted_every_field() -> ConsumeAccepted {
    ConsumeAccepted {
        partitions: 1_024,
        ack_timeout_ms: 30_000,
        in_flight_max: 1_000,
        extensions: extensions(),
    }
}

pub fn delivery() -> Delivery {
    Delivery {
        partition: 0,
        offset: 17,
        id: id(),
        timestamp_unix_ms: 1_700_000_000_000,
        deliveries: 0,
        key: None,
        headers: vec![],
        payload: blob(b"hi"),
    }
}

pub fn delivery_every_field() -> Delivery {
    Delivery {
        partition: 1_023,
        offset: 1 << 40,
        deliveries: 5,
        key: Some(blob(&[0x00, 0xff, b'k'])),
        headers: map(&[("lang", "fr"), ("", "caf\u{e9}"), ("lang", "de")]),
        payload: blob(&[0x00, 0x7f, 0x80, 0xff]),
        ..delivery()
    }
}
