//! What a tenant's topics, partitions, groups and bindings are: the sum of their events.
//!
//! Events are applied once they are kept, never before. What is in the messages themselves (how
//! many there are, who produced them) is not here.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_protocol::id::{GroupName, RecipeName, TopicName};

use super::{
    At,
    plant::{self, Bug},
    ranges::Ranges,
};

/// How long messages are kept; none: as long as the tenant's quotas allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// In milliseconds.
    pub age_ms: Option<u64>,
    /// Of one partition.
    pub bytes: Option<u64>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number among all partitions that the tenant ever had.
    pub number: u32,
    /// The stream that it lies in, and which offset of the stream is its 0.
    pub stream: u64,
    pub base: u64,
    /// What is before this offset is gone.
    pub first: u64,
    /// Bytes that are gone, of all that ever were in it.
    pub gone: u64,
    /// Messages that were deleted, of those that are not gone.
    pub deleted: Ranges,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its number among all topics that the tenant ever had.
    pub number: u32,
    pub name: TopicName,
    pub created: At,
    pub retention: Retention,
    /// Whether it counts against the quotas on topics and partitions.
    pub counted: bool,
    pub parts: Vec<Part>,
}

/// What a group is done with, in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The lowest offset that is not acknowledged.
    pub position: u64,
    /// Those above it that are.
    pub above: Ranges,
}

impl Done {
    /// Everything before this offset.
    pub fn up_to(position: u64) -> Done {
        Done { position, above: Ranges::default() }
    }

    /// Whether an offset is.
    pub fn has(&self, offset: u64) -> bool {
        offset < self.position || self.above.contains(offset)
    }

    /// More is.
    pub fn add(&mut self, first: u64, last: u64) {
        self.above.insert(first.max(self.position), last);
        self.settle();
    }

    /// What is before this does not exist any more.
    pub fn skip_to(&mut self, first: u64) {
        if first > self.position {
            self.position = first;
            self.above.forget_before(first);
            self.settle();
        }
    }

    fn settle(&mut self) {
        if let Some(end) = self.above.end_of(self.position) {
            self.position = end;
            self.above.forget_before(end);
        }
    }
}

/// What is kept of the groups of one topic.
pub type Groups = BTreeMap<GroupName, Vec<Done>>;

/// A topic that the broker reads itself: each message is an item of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub recipe: RecipeName,
    pub created: At,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A topic was made. Of each partition: its number, its stream, and its first offset there.
    Created {
        topic: u32,
        name: TopicName,
        at: At,
        retention: Retention,
        counted: bool,
        parts: Vec<(u32, u64, u64)>,
    },
    /// Messages are kept for so long from now on.
    Kept { topic: u32, retention: Retention },
    /// A topic is no more, nor its groups and its binding.
    Deleted { topic: u32 },
    /// A stream holds nothing that is wanted, and what was kept about it is gone: it may be used
    /// again from this offset on.
    Freed { stream: u64, base: u64 },
    /// The messages before `first` are gone: `gone` bytes of all that ever were.
    Trimmed { topic: u32, partition: u32, first: u64, gone: u64 },
    /// One message was deleted.
    MessageDeleted { topic: u32, partition: u32, offset: u64 },
    /// A group was made.
    GroupCreated { topic: u32, group: GroupName, positions: Vec<u64> },
    /// A group is no more.
    GroupDeleted { topic: u32, group: GroupName },
    /// A group is done with these messages.
    Acked { topic: u32, group: GroupName, partition: u32, ranges: Vec<(u64, u64)> },
    /// A group was moved.
    Moved { topic: u32, group: GroupName, partition: u32, position: u64 },
    /// A topic was bound to a recipe, under a name.
    Bound { topic: u32, name: GroupName, binding: Binding },
    /// A binding is no more.
    Unbound { topic: u32, name: GroupName },
}

/// Everything that is kept about a tenant's topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topics {
    topics: BTreeMap<u32, Topic>,
    names: BTreeMap<TopicName, u32>,
    groups: BTreeMap<u32, Groups>,
    bindings: BTreeMap<u32, BTreeMap<GroupName, Binding>>,
    /// Streams of topics that are gone: where they go on, once that is known.
    free: BTreeMap<u64, u64>,
    /// Streams of topics that are gone, which still hold something.
    leaving: BTreeSet<u64>,
    next_topic: u32,
    next_partition: u32,
    next_stream: u64,
}

/// The first stream of a partition.
pub const FIRST_STREAM: u64 = 2;

impl Topics {
    /// Adds up what happened.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Created { topic, name, at, retention, counted, parts } => {
                let part = |&(number, stream, base): &(u32, u64, u64)| Part {
                    number,
                    stream,
                    base,
                    first: 0,
                    gone: 0,
                    deleted: Ranges::default(),
                };
                let made = Topic {
                    number: *topic,
                    name: name.clone(),
                    created: *at,
                    retention: *retention,
                    counted: *counted,
                    parts: parts.iter().map(part).collect(),
                };
                self.insert(made);
            }
            Event::Kept { topic, retention } => {
                if let Some(known) = self.topics.get_mut(topic) {
                    known.retention = *retention;
                }
            }
            Event::Deleted { topic } => {
                if let Some(gone) = self.topics.remove(topic) {
                    self.names.remove(&gone.name);
                    self.leaving.extend(gone.parts.iter().map(|part| part.stream));
                }
                self.groups.remove(topic);
                self.bindings.remove(topic);
            }
            Event::Freed { stream, base } => {
                self.leaving.remove(stream);
                self.free.insert(*stream, *base);
            }
            Event::Trimmed { topic, partition, first, gone } => {
                if let Some(part) = self.part_mut(*topic, *partition) {
                    (part.first, part.gone) = (*first, *gone);
                    part.deleted.forget_before(*first);
                }
                for done in self.done_mut(*topic, *partition) {
                    done.skip_to(*first);
                }
            }
            Event::MessageDeleted { topic, partition, offset } => {
                if let Some(part) = self.part_mut(*topic, *partition) {
                    part.deleted.insert(*offset, *offset);
                }
            }
            Event::GroupCreated { topic, group, positions } => {
                let done = positions.iter().map(|position| Done::up_to(*position)).collect();
                self.groups.entry(*topic).or_default().insert(group.clone(), done);
            }
            Event::GroupDeleted { topic, group } => {
                if let Some(groups) = self.groups.get_mut(topic) {
                    groups.remove(group);
                }
            }
            Event::Acked { topic, group, partition, ranges } => {
                if let Some(done) = self.group_mut(*topic, group, *partition) {
                    ranges.iter().for_each(|(first, last)| done.add(*first, *last));
                }
            }
            Event::Moved { topic, group, partition, position } => {
                if let Some(done) = self.group_mut(*topic, group, *partition) {
                    *done = Done::up_to(*position);
                }
            }
            Event::Bound { topic, name, binding } => {
                let of_topic = self.bindings.entry(*topic).or_default();
                of_topic.insert(name.clone(), binding.clone());
            }
            Event::Unbound { topic, name } => {
                if let Some(bindings) = self.bindings.get_mut(topic) {
                    bindings.remove(name);
                }
            }
        }
    }

    /// A topic as it was kept.
    pub fn insert(&mut self, topic: Topic) {
        self.next_topic = self.next_topic.max(topic.number + 1);
        for part in &topic.parts {
            self.next_partition = self.next_partition.max(part.number + 1);
            self.next_stream = self.next_stream.max(part.stream + 1);
            self.free.remove(&part.stream);
        }
        self.names.insert(topic.name.clone(), topic.number);
        self.topics.insert(topic.number, topic);
    }

    /// A group as it was kept.
    pub fn insert_group(&mut self, topic: u32, group: GroupName, done: Vec<Done>) {
        self.groups.entry(topic).or_default().insert(group, done);
    }

    /// A binding as it was kept.
    pub fn insert_binding(&mut self, topic: u32, name: GroupName, binding: Binding) {
        self.bindings.entry(topic).or_default().insert(name, binding);
    }

    /// Where counting goes on: what was kept of that.
    pub fn go_on(&mut self, topic: u32, partition: u32, stream: u64) {
        self.next_topic = self.next_topic.max(topic);
        self.next_partition = self.next_partition.max(partition);
        self.next_stream = self.next_stream.max(stream);
    }

    /// Where counting goes on: the next topic, partition, stream.
    pub fn counters(&self) -> (u32, u32, u64) {
        (self.next_topic, self.next_partition, self.next_stream)
    }

    /// A stream whose topic is gone, as it was kept: where it may be used again from, if it may.
    pub fn insert_stream(&mut self, stream: u64, base: Option<u64>) {
        match base {
            Some(base) => _ = self.free.insert(stream, base),
            None => _ = self.leaving.insert(stream),
        }
        self.next_stream = self.next_stream.max(stream + 1);
    }

    /// What is known of a stream whose topic is gone.
    pub fn stream(&self, stream: u64) -> Option<Option<u64>> {
        if self.leaving.contains(&stream) {
            return Some(None);
        }
        self.free.get(&stream).map(|base| Some(*base))
    }

    /// The streams of topics that are gone, which still hold something.
    pub fn leaving(&self) -> impl Iterator<Item = u64> + '_ {
        self.leaving.iter().copied()
    }

    /// What making a topic comes to: streams that are free are used again. `also` are those that
    /// are about to be used.
    pub fn create(
        &self,
        name: TopicName,
        partitions: u32,
        retention: Retention,
        counted: bool,
        at: At,
    ) -> Event {
        let free = self.free.iter().map(|(stream, base)| (*stream, *base));
        let new = (self.next_stream.max(FIRST_STREAM)..).map(|stream| (stream, 0));
        let base = |base: u64| if plant::is(Bug::OffsetReused) { 0 } else { base };
        let parts = free.chain(new).zip(self.next_partition..).take(partitions as usize);
        Event::Created {
            topic: self.next_topic,
            name,
            at,
            retention,
            counted,
            parts: parts.map(|((stream, from), number)| (number, stream, base(from))).collect(),
        }
    }

    /// A topic by its name.
    pub fn find(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// A topic by its number.
    pub fn get(&self, topic: u32) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    /// The topics, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The topics, in the order of their names, after this name.
    pub fn after(&self, name: Option<&str>) -> impl Iterator<Item = &Topic> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, Excluded);
        self.names.range::<str, _>((from, Unbounded)).filter_map(|(_, n)| self.topics.get(n))
    }

    /// How many topics and partitions count against the quotas.
    pub fn counted(&self) -> (u64, u64) {
        let counted = self.topics.values().filter(|topic| topic.counted);
        counted.fold((0, 0), |(t, p), topic| (t + 1, p + topic.parts.len() as u64))
    }

    /// How many groups there are.
    pub fn group_count(&self) -> u64 {
        self.groups.values().map(|groups| groups.len() as u64).sum()
    }

    /// The groups of a topic.
    pub fn groups(&self, topic: u32) -> Option<&Groups> {
        self.groups.get(&topic)
    }

    /// The bindings of a topic.
    pub fn bindings(&self, topic: u32) -> impl Iterator<Item = (&GroupName, &Binding)> {
        self.bindings.get(&topic).into_iter().flatten()
    }

    /// Whether anything is bound.
    pub fn has_bindings(&self) -> bool {
        self.bindings.values().any(|bindings| !bindings.is_empty())
    }

    /// A partition's topic and place in it, by the partition's number.
    pub fn by_number(&self, number: u32) -> Option<(&Topic, u32)> {
        self.topics.values().find_map(|topic| {
            let at = topic.parts.iter().position(|part| part.number == number)?;
            Some((topic, at as u32))
        })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.leaving.is_empty()
    }

    fn part_mut(&mut self, topic: u32, partition: u32) -> Option<&mut Part> {
        self.topics.get_mut(&topic)?.parts.get_mut(partition as usize)
    }

    fn group_mut(&mut self, topic: u32, group: &GroupName, partition: u32) -> Option<&mut Done> {
        self.groups.get_mut(&topic)?.get_mut(group)?.get_mut(partition as usize)
    }

    fn done_mut(&mut self, topic: u32, partition: u32) -> impl Iterator<Item = &mut Done> {
        let groups = self.groups.get_mut(&topic).into_iter().flat_map(BTreeMap::values_mut);
        groups.filter_map(move |done| done.get_mut(partition as usize))
    }
}
