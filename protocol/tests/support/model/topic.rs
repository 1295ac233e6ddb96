//! The frames of topics in the model.

use serde::Serialize;
use tollgate_protocol::topic;

use super::{Blob, Ext, Failure, Id16, Map, extensions, pairs};

enums! {
    Acks = topic::Acks { Synced, Received }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Producer {
    pub id: Id16,
    pub epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProduceOpen {
    pub topic: String,
    pub tenant: Option<String>,
    pub producer: Option<Producer>,
    pub acks: Acks,
    pub extensions: Vec<Ext>,
}

impl ProduceOpen {
    pub fn with<R>(&self, f: impl FnOnce(topic::ProduceOpen<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::ProduceOpen {
            topic: &self.topic,
            tenant: self.tenant.as_deref(),
            producer: self.producer.map(|p| topic::Producer { id: p.id.0, epoch: p.epoch }),
            acks: self.acks.real(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum StartAt {
    Earliest,
    Latest,
    Offset { offset: u64 },
    Time { time: u64 },
}

impl StartAt {
    fn real(self) -> topic::StartAt {
        match self {
            StartAt::Earliest => topic::StartAt::Earliest,
            StartAt::Latest => topic::StartAt::Latest,
            StartAt::Offset { offset } => topic::StartAt::Offset(offset),
            StartAt::Time { time } => topic::StartAt::Time(time),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsumeOpen {
    pub topic: String,
    pub tenant: Option<String>,
    pub partition: Option<u32>,
    pub from: StartAt,
    pub offsets: Vec<(u32, u64)>,
    pub group: Option<String>,
    pub ack_timeout_ms: u64,
    pub in_flight_max: u32,
    pub follow: bool,
    pub extensions: Vec<Ext>,
}

impl ConsumeOpen {
    pub fn with<R>(&self, f: impl FnOnce(topic::ConsumeOpen<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::ConsumeOpen {
            topic: &self.topic,
            tenant: self.tenant.as_deref(),
            partition: self.partition,
            from: self.from.real(),
            offsets: self.offsets.clone(),
            group: self.group.as_deref(),
            ack_timeout_ms: self.ack_timeout_ms,
            in_flight_max: self.in_flight_max,
            follow: self.follow,
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Retention {
    pub age_ms: Option<u64>,
    pub bytes: Option<u64>,
}

impl Retention {
    fn real(self) -> topic::Retention {
        topic::Retention { age_ms: self.age_ms, bytes: self.bytes }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum TopicAction {
    Create { topic: String, partitions: u32, retention: Retention },
    Delete { topic: String },
    Get { topic: String },
    List { cursor: Option<String>, limit: u32 },
    Update { topic: String, retention: Retention },
    GetMessage { id: Id16 },
    DeleteMessage { id: Id16 },
}

impl TopicAction {
    fn real(&self) -> topic::TopicAction<'_> {
        match self {
            TopicAction::Create { topic, partitions, retention } => topic::TopicAction::Create {
                topic,
                partitions: *partitions,
                retention: retention.real(),
            },
            TopicAction::Delete { topic } => topic::TopicAction::Delete { topic },
            TopicAction::Get { topic } => topic::TopicAction::Get { topic },
            TopicAction::List { cursor, limit } => {
                topic::TopicAction::List { cursor: cursor.as_deref(), limit: *limit }
            }
            TopicAction::Update { topic, retention } => {
                topic::TopicAction::Update { topic, retention: retention.real() }
            }
            TopicAction::GetMessage { id } => topic::TopicAction::GetMessage { id: id.0 },
            TopicAction::DeleteMessage { id } => topic::TopicAction::DeleteMessage { id: id.0 },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicAsk {
    pub tenant: Option<String>,
    pub action: TopicAction,
    pub extensions: Vec<Ext>,
}

impl TopicAsk {
    pub fn with<R>(&self, f: impl FnOnce(topic::TopicAsk<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::TopicAsk {
            tenant: self.tenant.as_deref(),
            action: self.action.real(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum GroupAction {
    Get { topic: String, group: String },
    List { topic: Option<String>, cursor: Option<String>, limit: u32 },
    Delete { topic: String, group: String },
    Reset { topic: String, group: String, partition: Option<u32>, to: StartAt },
}

impl GroupAction {
    fn real(&self) -> topic::GroupAction<'_> {
        match self {
            GroupAction::Get { topic, group } => topic::GroupAction::Get { topic, group },
            GroupAction::List { topic, cursor, limit } => topic::GroupAction::List {
                topic: topic.as_deref(),
                cursor: cursor.as_deref(),
                limit: *limit,
            },
            GroupAction::Delete { topic, group } => topic::GroupAction::Delete { topic, group },
            GroupAction::Reset { topic, group, partition, to } => {
                topic::GroupAction::Reset { topic, group, partition: *partition, to: to.real() }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupAsk {
    pub tenant: Option<String>,
    pub action: GroupAction,
    pub extensions: Vec<Ext>,
}

impl GroupAsk {
    pub fn with<R>(&self, f: impl FnOnce(topic::GroupAsk<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::GroupAsk {
            tenant: self.tenant.as_deref(),
            action: self.action.real(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    pub sequence: u64,
    pub partition: Option<u32>,
    pub timestamp_unix_ms: Option<u64>,
    pub key: Option<Blob>,
    pub headers: Map,
    pub payload: Blob,
}

impl Message {
    pub fn with<R>(&self, f: impl FnOnce(topic::Message<'_>) -> R) -> R {
        f(topic::Message {
            sequence: self.sequence,
            partition: self.partition,
            timestamp_unix_ms: self.timestamp_unix_ms,
            key: self.key.as_ref().map(|key| &key.0[..]),
            headers: pairs(&self.headers).as_pairs(),
            payload: &self.payload.0,
        })
    }
}

/// `Ack` and `Nack`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    pub partition: u32,
    pub first: u64,
    pub last: u64,
}

impl Range {
    pub fn ack(self) -> topic::Ack {
        topic::Ack { partition: self.partition, first: self.first, last: self.last }
    }

    pub fn nack(self) -> topic::Nack {
        topic::Nack { partition: self.partition, first: self.first, last: self.last }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PartitionInfo {
    pub first: u64,
    pub next: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopicInfo {
    pub topic: String,
    pub partitions: Vec<PartitionInfo>,
    pub retention: Retention,
    pub created_unix_ms: u64,
    pub groups: u32,
    pub extensions: Vec<Ext>,
}

impl TopicInfo {
    pub fn with<R>(&self, f: impl FnOnce(topic::TopicInfo<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        let part = |p: &PartitionInfo| topic::PartitionInfo {
            first: p.first,
            next: p.next,
            bytes: p.bytes,
        };
        f(topic::TopicInfo {
            topic: &self.topic,
            partitions: self.partitions.iter().map(part).collect(),
            retention: self.retention.real(),
            created_unix_ms: self.created_unix_ms,
            groups: self.groups,
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GroupPartition {
    pub position: u64,
    pub next: u64,
    pub in_flight: u32,
    pub member: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupInfo {
    pub topic: String,
    pub group: String,
    pub members: u32,
    pub generation: u64,
    pub partitions: Vec<GroupPartition>,
    pub extensions: Vec<Ext>,
}

impl GroupInfo {
    pub fn with<R>(&self, f: impl FnOnce(topic::GroupInfo<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        let part = |p: &GroupPartition| topic::GroupPartition {
            position: p.position,
            next: p.next,
            in_flight: p.in_flight,
            member: p.member,
        };
        f(topic::GroupInfo {
            topic: &self.topic,
            group: &self.group,
            members: self.members,
            generation: self.generation,
            partitions: self.partitions.iter().map(part).collect(),
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    pub count: u64,
    pub next: Option<String>,
}

impl Listed {
    pub fn real(&self) -> topic::Listed<'_> {
        topic::Listed { count: self.count, next: self.next.as_deref() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProduceAccepted {
    pub partitions: u32,
    pub last_sequence: Option<u64>,
    pub frame_bytes_max: u32,
    pub payload_bytes_max: u64,
    pub extensions: Vec<Ext>,
}

impl ProduceAccepted {
    pub fn with<R>(&self, f: impl FnOnce(topic::ProduceAccepted<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::ProduceAccepted {
            partitions: self.partitions,
            last_sequence: self.last_sequence,
            frame_bytes_max: self.frame_bytes_max,
            payload_bytes_max: self.payload_bytes_max,
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Produced {
    pub sequence: u64,
    pub count: u32,
    pub partition: u32,
    pub offset: u64,
    pub duplicate: bool,
}

impl Produced {
    pub fn real(self) -> topic::Produced {
        let Produced { sequence, count, partition, offset, duplicate } = self;
        topic::Produced { sequence, count, partition, offset, duplicate }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProduceFailed {
    pub sequence: u64,
    pub code: u16,
    pub failure: Failure,
}

impl ProduceFailed {
    pub fn with<R>(&self, f: impl FnOnce(topic::ProduceFailed<'_>) -> R) -> R {
        let (sequence, code) = (self.sequence, self.code);
        self.failure.with(|failure| f(topic::ProduceFailed { sequence, code, failure }))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsumeAccepted {
    pub partitions: u32,
    pub ack_timeout_ms: u64,
    pub in_flight_max: u32,
    pub extensions: Vec<Ext>,
}

impl ConsumeAccepted {
    pub fn with<R>(&self, f: impl FnOnce(topic::ConsumeAccepted<'_>) -> R) -> R {
        let extensions = extensions(&self.extensions);
        f(topic::ConsumeAccepted {
            partitions: self.partitions,
            ack_timeout_ms: self.ack_timeout_ms,
            in_flight_max: self.in_flight_max,
            extensions: extensions.as_extensions(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delivery {
    pub partition: u32,
    pub offset: u64,
    pub id: Id16,
    pub timestamp_unix_ms: u64,
    pub deliveries: u32,
    pub key: Option<Blob>,
    pub headers: Map,
    pub payload: Blob,
}

impl Delivery {
    pub fn with<R>(&self, f: impl FnOnce(topic::Delivery<'_>) -> R) -> R {
        f(topic::Delivery {
            partition: self.partition,
            offset: self.offset,
            id: self.id.0,
            timestamp_unix_ms: self.timestamp_unix_ms,
            deliveries: self.deliveries,
            key: self.key.as_ref().map(|key| &key.0[..]),
            headers: pairs(&self.headers).as_pairs(),
            payload: &self.payload.0,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assigned {
    pub generation: u64,
    pub partitions: Vec<u32>,
}

impl Assigned {
    pub fn real(&self) -> topic::Assigned {
        topic::Assigned { generation: self.generation, partitions: self.partitions.clone() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Committed {
    pub partition: u32,
    pub position: u64,
}

impl Committed {
    pub fn real(self) -> topic::Committed {
        topic::Committed { partition: self.partition, position: self.position }
    }
}
