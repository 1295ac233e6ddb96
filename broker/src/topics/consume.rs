//! Reading a topic's partitions from a position on, without a group.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use tollgate_protocol::{id::TopicName, topic::Delivery};

use super::{
    Topics,
    message::Message,
    owner::no_such_partition,
    reader,
    service::no_such_topic,
    shelf::{Place, Shelf},
};
use crate::{batch::Failure, rules::topic::At, store::Page, tenancy::Tenant};

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    Offset(u64),
    Time(At),
}

/// What is read of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// Only this partition.
    pub partition: Option<u32>,
    pub start: Start,
    /// Partitions that begin at an offset of their own.
    pub offsets: Vec<(u32, u64)>,
    /// Whether it goes on with what comes; otherwise it ends with what there is.
    pub follow: bool,
}

/// A message that was read: its bytes as they are stored.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub partition: u32,
    pub offset: u64,
    /// How often it was delivered to the group; 0 without one.
    pub deliveries: u32,
    pub(super) body: Bytes,
}

impl Got {
    /// Bytes of its payload: what it is charged with.
    pub(crate) fn payload_len(&self) -> u64 {
        Message::parse(&self.body).map_or(0, |message| message.payload.len() as u64)
    }

    /// As it is told, and its payload as it lies in memory.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when its bytes are not a message.
    pub(crate) fn delivery(&self) -> Result<(Delivery<'_>, Bytes), Failure> {
        let message = Message::parse(&self.body).map_err(|error| {
            tracing::error!(%error, partition = self.partition, offset = self.offset, "a message can not be read");
            Failure::new(tollgate_protocol::Code::StoreUnavailable, "a message can not be read")
        })?;
        let payload = self.body.slice_ref(message.payload);
        Ok((message.delivery(self.partition, self.offset, self.deliveries), payload))
    }
}

/// Somebody who reads a topic.
pub(crate) struct Consuming {
    shelf: Arc<Shelf>,
    topic: u32,
    pub partitions: u32,
    cursors: Vec<Cursor>,
    /// Whose turn it is.
    turn: usize,
    tail: Arc<Notify>,
}

struct Cursor {
    partition: u32,
    at: u64,
    /// Where it ends, when it does.
    end: Option<u64>,
}

impl Topics {
    /// Begins to read a topic.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR` when there is no such partition.
    pub(crate) async fn consume(
        &self,
        tenant: &Arc<Tenant>,
        name: &TopicName,
        reading: Reading,
    ) -> Result<Consuming, Failure> {
        let Reading { partition, start, offsets, follow } = reading;
        let shelf = self.0.open(tenant).await?;
        self.ensure_own(&shelf, name).await?;
        let (topic, partitions, tail) = {
            let state = shelf.lock();
            let topic = state.topics.find(name.as_str()).ok_or_else(no_such_topic)?;
            let tail = state.tails.get(&topic.number).cloned().unwrap_or_default();
            (topic.number, topic.parts.len() as u32, tail)
        };
        if let Some((bad, _)) = offsets.iter().find(|(of, _)| *of >= partitions) {
            return Err(no_such_partition(*bad, partitions as usize));
        }
        let all = match partition {
            Some(one) if one >= partitions => {
                return Err(no_such_partition(one, partitions as usize));
            }
            Some(one) => one..one + 1,
            None => 0..partitions,
        };
        let mut cursors = Vec::with_capacity(all.len());
        for partition in all {
            let place = (topic, partition);
            let own = offsets.iter().find(|(of, _)| *of == partition);
            let start = own.map_or(start, |(_, offset)| Start::Offset(*offset));
            let at = position(&shelf, place, start).await?;
            let end = if follow { None } else { Some(reader::ends(&shelf, place)?.1) };
            cursors.push(Cursor { partition, at, end });
        }
        Ok(Consuming { shelf, topic, partitions, cursors, turn: 0, tail })
    }
}

/// The offset that a start means in a partition.
pub(super) async fn position(
    shelf: &Arc<Shelf>,
    place: Place,
    start: Start,
) -> Result<u64, Failure> {
    let (first, next) = reader::ends(shelf, place)?;
    Ok(match start {
        Start::Earliest => first,
        Start::Latest => next,
        Start::Offset(offset) => offset.max(first),
        Start::Time(at) => reader::at_time(shelf, place, at).await?,
    })
}

impl Consuming {
    /// Rings when there may be more to read: listen before looking.
    pub(crate) fn tail(&self) -> Arc<Notify> {
        self.tail.clone()
    }

    /// What there is now, of one partition after the other; nothing when there is nothing now.
    ///
    /// # Errors
    /// `NOT_FOUND` when the topic was deleted.
    ///
    /// # Cancel safety
    /// Safe: what was not given is given later.
    pub(crate) async fn next(&mut self, page: Page) -> Result<Vec<Got>, Failure> {
        if let Some(failure) = self.shelf.gone() {
            return Err(failure);
        }
        let mut quiet = 0;
        while quiet < self.cursors.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.cursors.len();
            let cursor = &mut self.cursors[turn];
            let place = (self.topic, cursor.partition);
            // What was deleted is no reason to wait.
            while cursor.end.is_none_or(|end| cursor.at < end) {
                let read = reader::read(&self.shelf, place, cursor.at, page).await?;
                let moved = read.next > cursor.at;
                cursor.at = read.next.max(cursor.at);
                let (partition, end) = (cursor.partition, cursor.end.unwrap_or(u64::MAX));
                let within = read.messages.into_iter().filter(|found| found.offset < end);
                let got: Vec<Got> = within
                    .map(|found| Got {
                        partition,
                        offset: found.offset,
                        deliveries: 0,
                        body: found.body,
                    })
                    .collect();
                if !got.is_empty() {
                    return Ok(got);
                }
                if !moved {
                    break;
                }
            }
            quiet += 1;
        }
        Ok(Vec::new())
    }

    /// Whether all was read that there was when it began: only without following.
    pub(crate) fn is_over(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.end.is_some_and(|end| cursor.at >= end))
    }
}
