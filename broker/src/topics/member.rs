//! A member of a consumer group: takes what is to be delivered, acknowledges it, and is told what
//! is kept of that. Going away is leaving.

use std::sync::Arc;

use tokio::sync::Notify;
use tollgate_protocol::id::{GroupName, TopicName};

use super::{
    Topics,
    ask::done,
    consume::{Got, Start, position},
    letter::Letter,
    owner::DEAD,
    reader,
    service::{no_such_group, no_such_topic},
    shelf::{Command, Live, Shelf, Told},
};
use crate::{
    batch::Failure,
    rules::topic::{
        Done,
        group::{Group, Terms},
    },
    store::Page,
    tenancy::Tenant,
};

/// How a member joins.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub group: GroupName,
    /// Where the group begins when it has no position.
    pub start: Start,
    /// After how long a message is delivered again, in milliseconds; 0: as configured.
    pub ack_timeout_ms: u64,
    /// Messages that it has at once; 0: as configured.
    pub in_flight_max: u32,
}

/// A member.
pub(crate) struct Member {
    shelf: Arc<Shelf>,
    topic: u32,
    group: GroupName,
    id: u64,
    bell: Arc<Notify>,
    tail: Arc<Notify>,
    told: Arc<Told>,
    pub partitions: u32,
    pub ack_timeout_ms: u64,
    pub in_flight_max: u32,
    /// The generation that it knows.
    generation: u64,
    turn: u32,
}

/// The longest time to acknowledge, in milliseconds.
const ACK_TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;
/// Times the configured messages in flight.
const IN_FLIGHT_TIMES: u32 = 10;

impl Topics {
    /// Joins a group, which is made when it is not there.
    ///
    /// # Errors
    /// `NOT_FOUND` when there is no such topic; `QUOTA_EXCEEDED` when the tenant may not have
    /// another group; `VALIDATION_ERROR` for terms that are too large.
    pub(crate) async fn join(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        joining: Joining,
    ) -> Result<Member, Failure> {
        let config = &self.0.config;
        let Joining { group, start, ack_timeout_ms, in_flight_max } = joining;
        let most = config.in_flight_max.saturating_mul(IN_FLIGHT_TIMES);
        let chosen = |asked: u64, otherwise: u64| if asked == 0 { otherwise } else { asked };
        let ack_timeout_ms = chosen(ack_timeout_ms, config.ack_timeout_ms);
        if ack_timeout_ms > ACK_TIMEOUT_MS_MAX {
            let message = format!("{ack_timeout_ms} ms, at most {ACK_TIMEOUT_MS_MAX} are allowed");
            return Err(Failure::validation("ack_timeout_ms", message));
        }
        let in_flight_max = chosen(in_flight_max.into(), config.in_flight_max.into()) as u32;
        if in_flight_max > most {
            let message = format!("{in_flight_max}, at most {most} are allowed");
            return Err(Failure::validation("in_flight_max", message));
        }
        let shelf = self.0.open(tenant).await?;
        self.ensure_own(&shelf, name).await?;
        let (topic, partitions) = self.ensure_group(&shelf, name, &group, start).await?;
        let terms = self.terms(name);
        let now = shelf.clock.now_ms();
        let (id, bell, tail) = {
            let mut state = shelf.lock();
            let state = &mut *state;
            let groups = state.topics.groups(topic).ok_or_else(no_such_topic)?;
            let done: &Vec<Done> = groups.get(&group).ok_or_else(no_such_group)?;
            let live = state
                .groups
                .entry((topic, group.clone()))
                .or_insert_with(|| Live { group: Group::new(terms, done), bell: Arc::default() });
            let id = live.group.join(in_flight_max as usize, ack_timeout_ms, now);
            // Others may have less now.
            live.bell.notify_waiters();
            (id, live.bell.clone(), state.tails.get(&topic).cloned().unwrap_or_default())
        };
        // A partition that moves does so by time, too.
        shelf.bell.notify_one();
        Ok(Member {
            shelf,
            topic,
            group,
            id,
            bell,
            tail,
            told: Arc::default(),
            partitions,
            ack_timeout_ms,
            in_flight_max,
            generation: 0,
            turn: 0,
        })
    }

    /// Makes a group when it is not there. Its topic's number, and how many partitions that has.
    pub(super) async fn ensure_group(
        &self,
        shelf: &Arc<Shelf>,
        name: &TopicName,
        group: &GroupName,
        start: Start,
    ) -> Result<(u32, u32), Failure> {
        let (topic, partitions, known) = {
            let state = shelf.lock();
            let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
            let groups = state.topics.groups(topic.number);
            let known = groups.is_some_and(|groups| groups.contains_key(group));
            (topic.number, topic.parts.len() as u32, known)
        };
        if !known {
            let mut positions = Vec::with_capacity(partitions as usize);
            for partition in 0..partitions {
                let place = (topic, partition);
                let (_, next) = reader::ends(shelf, place)?;
                // Beyond the end nothing is: what comes there would be passed unread.
                positions.push(position(shelf, place, start).await?.min(next));
            }
            let create = |answer| {
                let group = group.clone();
                Command::CreateGroup { topic, group, positions, answer }
            };
            done(shelf, create).await?;
        }
        Ok((topic, partitions))
    }

    /// The rules of a topic's groups. Dead letters have nowhere to go: they stay.
    fn terms(&self, name: &TopicName) -> Terms {
        let config = &self.0.config;
        let dead = name.as_str().ends_with(DEAD);
        Terms {
            handover_ms: config.handover_ms,
            ahead_max: config.ahead_max,
            deliveries_max: if dead { u32::MAX } else { config.deliveries_max },
        }
    }
}

impl Member {
    /// Ring when there may be something to do: messages, and what happens to the group. Listen
    /// before looking.
    pub(crate) fn bells(&self) -> (Arc<Notify>, Arc<Notify>) {
        (self.tail.clone(), self.bell.clone())
    }

    /// The partitions that it has from now on, when that changed: and the generation.
    pub(crate) fn assigned(&mut self) -> Option<(u64, Vec<u32>)> {
        let state = self.shelf.lock();
        let live = state.groups.get(&(self.topic, self.group.clone()))?;
        let generation = live.group.generation();
        if generation == self.generation {
            return None;
        }
        self.generation = generation;
        Some((generation, live.group.assigned(self.id).collect()))
    }

    /// How far the group is in partitions, on stable storage: what it was not told yet.
    pub(crate) fn committed(&self) -> Vec<(u32, u64)> {
        self.told.take()
    }

    /// Whether everything that it acknowledged is on stable storage.
    pub(crate) fn is_kept(&self) -> bool {
        self.told.is_kept() || self.shelf.gone().is_some()
    }

    /// Whether nothing of its partitions is left, and it has nothing.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.shelf.lock();
        let Some(live) = state.groups.get(&(self.topic, self.group.clone())) else { return true };
        let end = |partition| state.parts.get(&(self.topic, partition)).map_or(0, |run| run.next);
        live.group.is_done(self.id, end)
    }

    /// What is to be delivered to it now, of one partition after the other, at most `count`.
    ///
    /// # Errors
    /// `NOT_FOUND` when the topic or the group was deleted.
    ///
    /// # Cancel safety
    /// What was taken and not given is delivered again once its time to be acknowledged is over.
    pub(crate) async fn next(&mut self, page: Page) -> Result<Vec<Got>, Failure> {
        if let Some(failure) = self.shelf.gone() {
            return Err(failure);
        }
        let mut taken = Vec::new();
        let mut partition = 0;
        {
            let mut state = self.shelf.lock();
            let state = &mut *state;
            state.topics.get(self.topic).ok_or_else(no_such_topic)?;
            let live = state.groups.get_mut(&(self.topic, self.group.clone()));
            let live = live.ok_or_else(no_such_group)?;
            let now = self.shelf.clock.now_ms();
            for _ in 0..self.partitions {
                partition = self.turn % self.partitions;
                self.turn = self.turn.wrapping_add(1);
                let run = state.parts.get(&(self.topic, partition)).ok_or_else(no_such_topic)?;
                let most = (run.next, page.count_max);
                live.group.take(self.id, partition, most, now, &mut taken);
                if !taken.is_empty() {
                    break;
                }
            }
        }
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        // Its leases are over at a time that the owner may not have heard of.
        self.shelf.bell.notify_one();
        self.read(partition, taken, page).await
    }

    /// Reads what was taken. What does not exist any more is done.
    async fn read(
        &self,
        partition: u32,
        mut taken: Vec<(u64, u32)>,
        page: Page,
    ) -> Result<Vec<Got>, Failure> {
        taken.sort_unstable();
        let place = (self.topic, partition);
        let (mut got, mut missing, mut bytes) = (Vec::with_capacity(taken.len()), Vec::new(), 0);
        let mut at = 0;
        while at < taken.len() {
            if bytes >= page.bytes_max {
                break;
            }
            let (from, left) = (taken[at].0, page.bytes_max - bytes);
            let page = Page { count_max: taken.len() - at, bytes_max: left };
            let read = reader::read(&self.shelf, place, from, page).await?;
            let mut found = read.messages.into_iter().peekable();
            // What was read says of all before `next` whether it is there.
            while let Some(&(offset, deliveries)) = taken.get(at).filter(|(o, _)| *o < read.next) {
                while found.next_if(|f| f.offset < offset).is_some() {}
                match found.next_if(|f| f.offset == offset) {
                    Some(f) => {
                        bytes += f.body.len();
                        got.push(Got { partition, offset, deliveries, body: f.body });
                    }
                    None => missing.push((offset, offset)),
                }
                at += 1;
            }
            if read.next <= from {
                break;
            }
        }
        // Too much for one page: they are taken again.
        for (offset, _) in taken.drain(at..) {
            self.give_back(partition, offset);
        }
        for (first, last) in missing {
            self.ack(partition, first, last);
        }
        Ok(got)
    }

    /// It is done with messages.
    pub(crate) fn ack(&self, partition: u32, first: u64, last: u64) {
        let ranges = self.with_group(|group, id| group.ack(id, partition, first, last));
        let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) else { return };
        let (topic, group, told) = (self.topic, self.group.clone(), Some(self.told.clone()));
        self.told.waits();
        self.shelf.send(Command::Acked { topic, group, partition, ranges, told });
    }

    /// It could not do messages: they are delivered again, to whoever has the partition.
    pub(crate) fn nack(&self, partition: u32, first: u64, last: u64) {
        self.with_group(|group, id| group.nack(id, partition, first, last));
        self.shelf.bell.notify_one();
    }

    /// It can not do a message, after so many attempts: that goes to the topic's dead letters. One
    /// that is among dead letters stays where it is, and is passed.
    pub(super) fn put_aside(
        &self,
        name: &TopicName,
        got: &Got,
        (failure, recipe): (&Failure, Option<&str>),
        deliveries: u32,
    ) {
        let (topic, partition, offset) = (self.topic, got.partition, got.offset);
        if name.as_str().ends_with(DEAD) {
            return self.ack(partition, offset, offset);
        }
        let group = self.group.clone();
        let had = self.with_group(|group, id| group.put_aside(id, partition, offset));
        if had != Some(true) {
            return;
        }
        let place = (partition, offset);
        let why = Some((failure, recipe));
        let letter = Letter { name, group: &group, place, deliveries, why };
        let body = letter.write(&got.body);
        self.shelf.send(Command::PutAside { topic, group, partition, offset, body });
    }

    /// It was given a message that it could not be told now: as if it had not been.
    pub(super) fn give_back(&self, partition: u32, offset: u64) {
        self.with_group(|group, id| group.give_back(id, partition, offset));
    }

    fn with_group<T>(&self, act: impl FnOnce(&mut Group, u64) -> T) -> Option<T> {
        let mut state = self.shelf.lock();
        let live = state.groups.get_mut(&(self.topic, self.group.clone()))?;
        let before = (live.group.generation(), live.group.to_deliver());
        let done = act(&mut live.group, self.id);
        // Others have something to do when partitions move, or something is to be delivered again.
        if before != (live.group.generation(), live.group.to_deliver()) {
            live.bell.notify_waiters();
        }
        Some(done)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let now = self.shelf.clock.now_ms();
        self.with_group(|group, id| group.leave(id, now));
        self.shelf.bell.notify_one();
    }
}
