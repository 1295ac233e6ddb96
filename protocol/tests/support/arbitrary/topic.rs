//! Arbitrary frames of topics.

use proptest::{collection::vec, option::of, prelude::*, sample::select};

use super::{
    super::model::{
        Blob, Broker, Client, Id16,
        topic::{
            Acks, Assigned, Committed, ConsumeAccepted, ConsumeOpen, Delivery, GroupAction,
            GroupAsk, GroupInfo, GroupPartition, Listed, Message, PartitionInfo, ProduceAccepted,
            ProduceFailed, ProduceOpen, Produced, Producer, Range, Retention, StartAt, TopicAction,
            TopicAsk, TopicInfo,
        },
    },
    blob, extensions, failure, map, num, num32, text,
};

fn id() -> impl Strategy<Value = Id16> {
    any::<[u8; 16]>().prop_map(Id16)
}

fn key() -> impl Strategy<Value = Option<Blob>> {
    of(blob(40))
}

fn start() -> impl Strategy<Value = StartAt> {
    prop_oneof![
        Just(StartAt::Earliest),
        Just(StartAt::Latest),
        num().prop_map(|offset| StartAt::Offset { offset }),
        num().prop_map(|time| StartAt::Time { time }),
    ]
}

fn retention() -> impl Strategy<Value = Retention> {
    (of(num()), of(num())).prop_map(|(age_ms, bytes)| Retention { age_ms, bytes })
}

fn produce() -> impl Strategy<Value = ProduceOpen> {
    let producer = (id(), num()).prop_map(|(id, epoch)| Producer { id, epoch });
    (text(128), of(text(63)), of(producer), select(Acks::ALL), extensions()).prop_map(
        |(topic, tenant, producer, acks, extensions)| ProduceOpen {
            topic,
            tenant,
            producer,
            acks,
            extensions,
        },
    )
}

fn consume() -> impl Strategy<Value = ConsumeOpen> {
    let what = (text(128), of(text(63)), of(num32()), start(), vec((num32(), num()), 0..5));
    let member = (of(text(128)), num(), num32(), any::<bool>());
    (what, member, extensions()).prop_map(|(what, member, extensions)| {
        let (topic, tenant, partition, from, offsets) = what;
        let (group, ack_timeout_ms, in_flight_max, follow) = member;
        ConsumeOpen {
            topic,
            tenant,
            partition,
            from,
            offsets,
            group,
            ack_timeout_ms,
            in_flight_max,
            follow,
            extensions,
        }
    })
}

fn topic_action() -> impl Strategy<Value = TopicAction> {
    prop_oneof![
        (text(128), 0u32..=1_024, retention()).prop_map(|(topic, partitions, retention)| {
            TopicAction::Create { topic, partitions, retention }
        }),
        text(128).prop_map(|topic| TopicAction::Delete { topic }),
        text(128).prop_map(|topic| TopicAction::Get { topic }),
        (of(text(256)), 0u32..=1_000)
            .prop_map(|(cursor, limit)| TopicAction::List { cursor, limit }),
        (text(128), retention())
            .prop_map(|(topic, retention)| TopicAction::Update { topic, retention }),
        id().prop_map(|id| TopicAction::GetMessage { id }),
        id().prop_map(|id| TopicAction::DeleteMessage { id }),
    ]
}

fn group_action() -> impl Strategy<Value = GroupAction> {
    prop_oneof![
        (text(128), text(128)).prop_map(|(topic, group)| GroupAction::Get { topic, group }),
        (of(text(128)), of(text(256)), 0u32..=1_000)
            .prop_map(|(topic, cursor, limit)| GroupAction::List { topic, cursor, limit }),
        (text(128), text(128)).prop_map(|(topic, group)| GroupAction::Delete { topic, group }),
        (text(128), text(128), of(num32()), start()).prop_map(|(topic, group, partition, to)| {
            GroupAction::Reset { topic, group, partition, to }
        }),
    ]
}

pub fn message() -> impl Strategy<Value = Message> {
    (num(), of(num32()), of(num()), key(), map(), blob(300)).prop_map(
        |(sequence, partition, timestamp_unix_ms, key, headers, payload)| Message {
            sequence,
            partition,
            timestamp_unix_ms,
            key,
            headers,
            payload,
        },
    )
}

fn range() -> impl Strategy<Value = Range> {
    (num32(), num(), num()).prop_map(|(partition, first, last)| Range { partition, first, last })
}

pub fn client() -> impl Strategy<Value = Client> {
    prop_oneof![
        1 => produce().prop_map(Client::Produce),
        1 => consume().prop_map(Client::Consume),
        1 => (of(text(63)), topic_action(), extensions()).prop_map(|(tenant, action, extensions)| {
            Client::Topic(TopicAsk { tenant, action, extensions })
        }),
        1 => (of(text(63)), group_action(), extensions()).prop_map(|(tenant, action, extensions)| {
            Client::Group(GroupAsk { tenant, action, extensions })
        }),
        2 => message().prop_map(Client::Message),
        1 => range().prop_map(Client::Ack),
        1 => range().prop_map(Client::Nack),
    ]
}

fn topic_info() -> impl Strategy<Value = TopicInfo> {
    let part =
        (num(), num(), num()).prop_map(|(first, next, bytes)| PartitionInfo { first, next, bytes });
    (text(128), vec(part, 0..5), retention(), num(), num32(), extensions()).prop_map(
        |(topic, partitions, retention, created_unix_ms, groups, extensions)| TopicInfo {
            topic,
            partitions,
            retention,
            created_unix_ms,
            groups,
            extensions,
        },
    )
}

fn group_info() -> impl Strategy<Value = GroupInfo> {
    let part =
        (num(), num(), num32(), of(num())).prop_map(|(position, next, in_flight, member)| {
            GroupPartition { position, next, in_flight, member }
        });
    (text(128), text(128), num32(), num(), vec(part, 0..5), extensions()).prop_map(
        |(topic, group, members, generation, partitions, extensions)| GroupInfo {
            topic,
            group,
            members,
            generation,
            partitions,
            extensions,
        },
    )
}

fn produce_accepted() -> impl Strategy<Value = ProduceAccepted> {
    (num32(), of(num()), num32(), num(), extensions()).prop_map(
        |(partitions, last_sequence, frame_bytes_max, payload_bytes_max, extensions)| {
            ProduceAccepted {
                partitions,
                last_sequence,
                frame_bytes_max,
                payload_bytes_max,
                extensions,
            }
        },
    )
}

fn produced() -> impl Strategy<Value = Produced> {
    (num(), num32(), num32(), num(), any::<bool>()).prop_map(
        |(sequence, count, partition, offset, duplicate)| Produced {
            sequence,
            count,
            partition,
            offset,
            duplicate,
        },
    )
}

fn consume_accepted() -> impl Strategy<Value = ConsumeAccepted> {
    (num32(), num(), num32(), extensions()).prop_map(
        |(partitions, ack_timeout_ms, in_flight_max, extensions)| ConsumeAccepted {
            partitions,
            ack_timeout_ms,
            in_flight_max,
            extensions,
        },
    )
}

pub fn delivery() -> impl Strategy<Value = Delivery> {
    let place = (num32(), num(), id(), num(), num32());
    (place, key(), map(), blob(300)).prop_map(|(place, key, headers, payload)| {
        let (partition, offset, id, timestamp_unix_ms, deliveries) = place;
        Delivery { partition, offset, id, timestamp_unix_ms, deliveries, key, headers, payload }
    })
}

pub fn broker() -> impl Strategy<Value = Broker> {
    prop_oneof![
        1 => topic_info().prop_map(Broker::Topic),
        1 => group_info().prop_map(Broker::Group),
        1 => (num(), of(text(256))).prop_map(|(count, next)| Broker::Listed(Listed { count, next })),
        1 => produce_accepted().prop_map(Broker::ProduceAccepted),
        1 => produced().prop_map(Broker::Produced),
        1 => num().prop_map(|sequence| Broker::Received { sequence }),
        1 => (num(), any::<u16>(), failure()).prop_map(|(sequence, code, failure)| {
            Broker::ProduceFailed(ProduceFailed { sequence, code, failure })
        }),
        1 => consume_accepted().prop_map(Broker::ConsumeAccepted),
        2 => delivery().prop_map(Broker::Delivery),
        1 => (num(), vec(num32(), 0..9)).prop_map(|(generation, partitions)| {
            Broker::Assigned(Assigned { generation, partitions })
        }),
        1 => (num32(), num()).prop_map(|(partition, position)| {
            Broker::Committed(Committed { partition, position })
        }),
    ]
}
