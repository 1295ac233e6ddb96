//! What happens to topics and groups, as it is stored: frozen layouts, and the way there and back.
//!
//! A layout that is on disks never changes. What comes after it is another one, with a number of
//! its own in the store's table of kinds; the old one is read for ever.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tollgate_protocol::id::{GroupName, NameError, RecipeName, TopicName};

use crate::{
    rules::topic::{
        Binding, Done, Event, Part, Producer, Retention, Topic,
        id::Last,
        plant::{self, Bug},
    },
    store::{Kind, Record, Stored, Stream},
};

/// The stream of what happens to a tenant's topics, within its scope of topics.
pub(super) const EVENTS: Stream = Stream(1);

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// They do not decode.
    #[error("it does not decode: {0}")]
    Encoding(#[from] postcard::Error),
    /// They are not a message.
    #[error("it is not a message")]
    Message,
    /// It has a layout of a newer program.
    #[error("it has the layout {0}, which this program does not know")]
    Layout(u8),
    /// It is of a kind that does not belong here.
    #[error("a record of the kind {0:?} is among them")]
    Kind(Kind),
    /// A name in it is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A key of a view is not one.
    #[error("a key of the view means nothing")]
    Key,
}

#[derive(Serialize, Deserialize)]
struct CreatedV1 {
    topic: u32,
    name: String,
    at: u64,
    age_ms: Option<u64>,
    bytes: Option<u64>,
    counted: bool,
    parts: Vec<(u32, u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct KeptV1 {
    topic: u32,
    age_ms: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct AckedV1 {
    topic: u32,
    group: String,
    partition: u32,
    /// From the end of the one before, and the length less one: small numbers.
    ranges: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct BoundV1 {
    topic: u32,
    name: String,
    recipe: String,
    created: u64,
}

fn deltas(ranges: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut end = 0;
    let near = |(first, last): (u64, u64)| {
        let from = std::mem::replace(&mut end, last);
        (first - from, last - first)
    };
    ranges.into_iter().map(near).collect()
}

fn from_deltas(deltas: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut end = 0_u64;
    let far = |(from, len): (u64, u64)| {
        let first = end.saturating_add(from);
        end = first.saturating_add(len);
        (first, end)
    };
    deltas.into_iter().map(far).collect()
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("numbers and strings always encode")
}

/// What is stored of an event.
pub(super) fn record(event: &Event) -> Record {
    let (kind, body) = match event {
        Event::Created { topic, name, at, retention, counted, parts } => {
            let v1 = CreatedV1 {
                topic: *topic,
                name: name.to_string(),
                at: *at,
                age_ms: retention.age_ms,
                bytes: retention.bytes,
                counted: *counted,
                parts: parts.clone(),
            };
            (Kind::TopicCreated, bytes(&v1))
        }
        Event::Kept { topic, retention } => {
            let Retention { age_ms, bytes: most } = *retention;
            (Kind::TopicKept, bytes(&KeptV1 { topic: *topic, age_ms, bytes: most }))
        }
        Event::Deleted { topic } => (Kind::TopicDeleted, bytes(topic)),
        Event::Freed { stream, base } => (Kind::StreamFreed, bytes(&(stream, base))),
        Event::Trimmed { topic, partition, first, gone } => {
            (Kind::TopicTrimmed, bytes(&(topic, partition, first, gone)))
        }
        Event::MessageDeleted { topic, partition, offset } => {
            (Kind::MessageDeleted, bytes(&(topic, partition, offset)))
        }
        Event::GroupCreated { topic, group, positions } => {
            (Kind::GroupCreated, bytes(&(topic, group.as_str(), positions)))
        }
        Event::GroupDeleted { topic, group } => {
            (Kind::GroupDeleted, bytes(&(topic, group.as_str())))
        }
        Event::Acked { topic, group, partition, ranges } => {
            let v1 = AckedV1 {
                topic: *topic,
                group: group.to_string(),
                partition: *partition,
                ranges: if plant::is(Bug::PositionBack) {
                    Vec::new()
                } else {
                    deltas(ranges.iter().copied())
                },
            };
            (Kind::GroupAcked, bytes(&v1))
        }
        Event::Moved { topic, group, partition, position } => {
            (Kind::GroupMoved, bytes(&(topic, group.as_str(), partition, position)))
        }
        Event::Bound { topic, name, binding } => {
            let v1 = BoundV1 {
                topic: *topic,
                name: name.to_string(),
                recipe: binding.recipe.to_string(),
                created: binding.created,
            };
            (Kind::TopicBound, bytes(&v1))
        }
        Event::Unbound { topic, name } => (Kind::TopicUnbound, bytes(&(topic, name.as_str()))),
    };
    Record::new(EVENTS, kind, body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadRecord> {
    Ok(postcard::from_bytes(body)?)
}

/// The event that was stored.
pub(super) fn event(stored: &Stored) -> Result<Event, BadRecord> {
    if stored.layout > stored.kind.layout() {
        return Err(BadRecord::Layout(stored.layout));
    }
    let body = &stored.body;
    Ok(match stored.kind {
        Kind::TopicCreated => {
            let v1: CreatedV1 = read(body)?;
            Event::Created {
                topic: v1.topic,
                name: TopicName::parse(&v1.name)?,
                at: v1.at,
                retention: Retention { age_ms: v1.age_ms, bytes: v1.bytes },
                counted: v1.counted,
                parts: v1.parts,
            }
        }
        Kind::TopicKept => {
            let KeptV1 { topic, age_ms, bytes } = read(body)?;
            Event::Kept { topic, retention: Retention { age_ms, bytes } }
        }
        Kind::TopicDeleted => Event::Deleted { topic: read(body)? },
        Kind::StreamFreed => {
            let (stream, base) = read(body)?;
            Event::Freed { stream, base }
        }
        Kind::TopicTrimmed => {
            let (topic, partition, first, gone) = read(body)?;
            Event::Trimmed { topic, partition, first, gone }
        }
        Kind::MessageDeleted => {
            let (topic, partition, offset) = read(body)?;
            Event::MessageDeleted { topic, partition, offset }
        }
        Kind::GroupCreated => {
            let (topic, group, positions): (_, String, _) = read(body)?;
            Event::GroupCreated { topic, group: GroupName::parse(&group)?, positions }
        }
        Kind::GroupDeleted => {
            let (topic, group): (_, String) = read(body)?;
            Event::GroupDeleted { topic, group: GroupName::parse(&group)? }
        }
        Kind::GroupAcked => {
            let AckedV1 { topic, group, partition, ranges } = read(body)?;
            let (group, ranges) = (GroupName::parse(&group)?, from_deltas(ranges));
            Event::Acked { topic, group, partition, ranges }
        }
        Kind::GroupMoved => {
            let (topic, group, partition, position): (_, String, _, _) = read(body)?;
            Event::Moved { topic, group: GroupName::parse(&group)?, partition, position }
        }
        Kind::TopicBound => {
            let v1: BoundV1 = read(body)?;
            let binding = Binding { recipe: RecipeName::parse(&v1.recipe)?, created: v1.created };
            Event::Bound { topic: v1.topic, name: GroupName::parse(&v1.name)?, binding }
        }
        Kind::TopicUnbound => {
            let (topic, name): (_, String) = read(body)?;
            Event::Unbound { topic, name: GroupName::parse(&name)? }
        }
        other => return Err(BadRecord::Kind(other)),
    })
}

/// What the view of the events keeps.
#[derive(Debug)]
pub(super) enum Kept {
    /// Where counting goes on.
    Counters(u32, u32, u64),
    Topic(Topic),
    Group(u32, GroupName, Vec<Done>),
    Binding(u32, GroupName, Binding),
    /// A stream whose topic is gone.
    Stream(u64, Option<u64>),
}

/// The key of a pair of that view. The first byte says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Counters,
    Topic(u32),
    Group(u32, GroupName),
    Binding(u32, GroupName),
    Stream(u64),
}

impl Key {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let named = |tag: u8, topic: u32, name: &GroupName| {
            [&[tag], &topic.to_be_bytes()[..], name.as_str().as_bytes()].concat()
        };
        match self {
            Key::Counters => vec![b'c'],
            Key::Topic(topic) => [&b"t"[..], &topic.to_be_bytes()].concat(),
            Key::Group(topic, name) => named(b'g', *topic, name),
            Key::Binding(topic, name) => named(b'b', *topic, name),
            Key::Stream(stream) => [&b"s"[..], &stream.to_be_bytes()].concat(),
        }
    }

    fn parse(key: &[u8]) -> Result<Key, BadRecord> {
        let (tag, rest) = key.split_first().ok_or(BadRecord::Key)?;
        let number = |rest: &[u8]| {
            let (number, name) = rest.split_first_chunk().ok_or(BadRecord::Key)?;
            let name = std::str::from_utf8(name).map_err(|_| BadRecord::Key)?.to_owned();
            Ok::<_, BadRecord>((u32::from_be_bytes(*number), name))
        };
        Ok(match tag {
            b'c' => Key::Counters,
            b't' => Key::Topic(number(rest)?.0),
            b'g' => number(rest).and_then(|(t, n)| Ok(Key::Group(t, GroupName::parse(&n)?)))?,
            b'b' => number(rest).and_then(|(t, n)| Ok(Key::Binding(t, GroupName::parse(&n)?)))?,
            b's' => Key::Stream(u64::from_be_bytes(rest.try_into().map_err(|_| BadRecord::Key)?)),
            _ => return Err(BadRecord::Key),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct PartV1 {
    number: u32,
    stream: u64,
    base: u64,
    first: u64,
    gone: u64,
    deleted: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct TopicV1 {
    name: String,
    created: u64,
    age_ms: Option<u64>,
    bytes: Option<u64>,
    counted: bool,
    parts: Vec<PartV1>,
}

/// Where counting goes on.
pub(super) fn counters_value(counters: (u32, u32, u64)) -> Vec<u8> {
    bytes(&counters)
}

/// What the view keeps of a topic.
pub(super) fn topic_value(topic: &Topic) -> Vec<u8> {
    let part = |part: &Part| PartV1 {
        number: part.number,
        stream: part.stream,
        base: part.base,
        first: part.first,
        gone: part.gone,
        deleted: deltas(part.deleted.iter()),
    };
    bytes(&TopicV1 {
        name: topic.name.to_string(),
        created: topic.created,
        age_ms: topic.retention.age_ms,
        bytes: topic.retention.bytes,
        counted: topic.counted,
        parts: topic.parts.iter().map(part).collect(),
    })
}

/// What the view keeps of a group.
pub(super) fn group_value(done: &[Done]) -> Vec<u8> {
    let all: Vec<_> = done.iter().map(|d| (d.position, deltas(d.above.iter()))).collect();
    bytes(&all)
}

/// What the view keeps of a binding.
pub(super) fn binding_value(binding: &Binding) -> Vec<u8> {
    bytes(&(binding.recipe.as_str(), binding.created))
}

/// What the view keeps of a stream whose topic is gone.
pub(super) fn stream_value(base: Option<u64>) -> Vec<u8> {
    bytes(&base)
}

/// What a pair of the view keeps.
pub(super) fn kept(key: &[u8], value: &[u8]) -> Result<Kept, BadRecord> {
    Ok(match Key::parse(key)? {
        Key::Counters => {
            let (topic, partition, stream) = read(value)?;
            Kept::Counters(topic, partition, stream)
        }
        Key::Topic(number) => {
            let v1: TopicV1 = read(value)?;
            let part = |v1: PartV1| Part {
                number: v1.number,
                stream: v1.stream,
                base: v1.base,
                first: v1.first,
                gone: v1.gone,
                deleted: from_deltas(v1.deleted).into_iter().collect(),
            };
            Kept::Topic(Topic {
                number,
                name: TopicName::parse(&v1.name)?,
                created: v1.created,
                retention: Retention { age_ms: v1.age_ms, bytes: v1.bytes },
                counted: v1.counted,
                parts: v1.parts.into_iter().map(part).collect(),
            })
        }
        Key::Group(topic, name) => {
            let all: Vec<(u64, Vec<(u64, u64)>)> = read(value)?;
            let done = |(position, above)| Done {
                position,
                above: from_deltas(above).into_iter().collect(),
            };
            Kept::Group(topic, name, all.into_iter().map(done).collect())
        }
        Key::Binding(topic, name) => {
            let (recipe, created): (String, u64) = read(value)?;
            Kept::Binding(topic, name, Binding { recipe: RecipeName::parse(&recipe)?, created })
        }
        Key::Stream(stream) => Kept::Stream(stream, read(value)?),
    })
}

/// What the view of a partition keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionV1 {
    /// The number of the partition: a stream may have been another's before.
    pub number: u32,
    /// Bytes of all messages that ever were in it.
    pub bytes: u64,
    /// The time and counter of the newest id.
    pub ms: u64,
    pub counter: u16,
}

impl PartitionV1 {
    pub(super) fn last(&self) -> Last {
        Last { ms: self.ms, counter: self.counter }
    }
}

#[derive(Serialize, Deserialize)]
struct ProducerV1 {
    epoch: u64,
    last: u64,
    forgotten: Option<u64>,
    at: u64,
    /// Sequences and offsets, each from the one before: sequences rise, offsets mostly.
    recent: Vec<(u64, i64)>,
}

/// The key of what is kept of the partition itself; those of producers are 16 bytes.
pub(super) const PARTITION_KEY: &[u8] = b"p";

/// What the view keeps of a partition.
pub(super) fn partition_value(partition: &PartitionV1) -> Vec<u8> {
    bytes(partition)
}

/// What the view kept of a partition.
pub(super) fn partition(value: &[u8]) -> Result<PartitionV1, BadRecord> {
    read(value)
}

/// What the view of a partition keeps of a producer.
pub(super) fn producer_value(producer: &Producer) -> Vec<u8> {
    let (mut sequence, mut offset) = (0_u64, 0_u64);
    let near = |&(s, o): &(u64, u64)| {
        let pair = (s - sequence, o.wrapping_sub(offset) as i64);
        (sequence, offset) = (s, o);
        pair
    };
    let Producer { epoch, last, forgotten, at, recent } = producer;
    let (epoch, last, forgotten, at) = (*epoch, *last, *forgotten, *at);
    bytes(&ProducerV1 { epoch, last, forgotten, at, recent: recent.iter().map(near).collect() })
}

/// What the view of a partition kept of a producer.
pub(super) fn producer(value: &[u8]) -> Result<Producer, BadRecord> {
    let ProducerV1 { epoch, last, forgotten, at, recent } = read(value)?;
    let (mut sequence, mut offset) = (0_u64, 0_u64);
    let far = |(s, o): (u64, i64)| {
        sequence = sequence.saturating_add(s);
        offset = offset.wrapping_add_signed(o);
        (sequence, offset)
    };
    Ok(Producer { epoch, last, forgotten, at, recent: recent.into_iter().map(far).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Offset;

    fn name(n: &str) -> GroupName {
        GroupName::parse(n).expect("a name")
    }

    #[test]
    fn every_event_leads_back() {
        let retention = Retention { age_ms: Some(5), bytes: None };
        let binding = Binding { recipe: RecipeName::parse("echo").expect("a name"), created: 12 };
        let topic_name = TopicName::parse("t.x").expect("a name");
        let events = [
            Event::Created {
                topic: 7,
                name: topic_name,
                at: 99,
                retention,
                counted: true,
                parts: vec![(1, 2, 0), (2, 5, 1_000)],
            },
            Event::Kept { topic: 7, retention },
            Event::Deleted { topic: 7 },
            Event::Freed { stream: 4, base: 1 << 40 },
            Event::Trimmed { topic: 7, partition: 1, first: 5, gone: 500 },
            Event::MessageDeleted { topic: 7, partition: 0, offset: 3 },
            Event::GroupCreated { topic: 7, group: name("g"), positions: vec![0, 9] },
            Event::GroupDeleted { topic: 7, group: name("g") },
            Event::Acked {
                topic: 7,
                group: name("g"),
                partition: 1,
                ranges: vec![(3, 3), (5, 90), (1 << 50, u64::MAX)],
            },
            Event::Moved { topic: 7, group: name("g"), partition: 0, position: 4 },
            Event::Bound { topic: 7, name: name("b"), binding },
            Event::Unbound { topic: 7, name: name("b") },
        ];
        for event in events {
            let Record { kind, body, .. } = record(&event);
            let stored = Stored { offset: Offset(0), kind, layout: 1, epoch: 0, body };
            assert_eq!(super::event(&stored).expect("it is one"), event);
            let newer = Stored { layout: 2, ..stored };
            assert!(matches!(super::event(&newer), Err(BadRecord::Layout(2))));
        }
    }

    #[test]
    fn what_views_keep_leads_back() {
        let producer = Producer {
            epoch: 2,
            last: 9,
            forgotten: Some(1),
            at: 5,
            recent: [(4, 100), (5, 90), (9, 200)].into_iter().collect(),
        };
        assert_eq!(super::producer(&producer_value(&producer)).expect("one"), producer);
        let done = vec![
            Done::default(),
            Done { position: 4, above: [(6, 7), (9, 9)].into_iter().collect() },
        ];
        match kept(&Key::Group(3, name("g")).bytes(), &group_value(&done)).expect("one") {
            Kept::Group(3, n, d) => assert_eq!((n, d), (name("g"), done)),
            other => panic!("{other:?}"),
        }
    }
}
