//! The views of a tenant's topics: brought up to date now and then, so that a restart need not read
//! everything that ever happened. What fails is tried again later: a view only saves time.

use bytes::Bytes;
use futures::future::join_all;

use super::{
    record::{self, EVENTS, Key, PARTITION_KEY, PartitionV1},
    shelf::{Place, Shelf, State},
};
use crate::store::{self, Fence, Offset, Stream};

/// What the views do not know yet.
pub(super) struct View {
    /// The events before this are in their view.
    viewed: u64,
    /// After the last event.
    next: u64,
    every: u64,
    /// Bytes that were appended since it was looked for partitions whose views are behind.
    looked: u64,
}

/// Events of one step of a checkpoint.
const STEP: usize = if cfg!(test) { 3 } else { 4_096 };
/// When the topics end, partitions that are this far behind are brought up to date.
const LAST_BEHIND: u64 = 256;

impl View {
    pub(super) fn new(viewed: u64, next: u64, every: u64) -> View {
        View { viewed, next, every: every.max(1), looked: 0 }
    }

    /// Events were kept, up to before this offset.
    pub(super) fn learn(&mut self, next: Option<u64>) {
        self.next = next.unwrap_or(self.next);
    }

    /// Brings views up to date that have fallen behind.
    pub(super) async fn turn(&mut self, shelf: &Shelf, fence: &Fence) {
        if self.next - self.viewed >= self.every {
            self.events(shelf, fence).await;
        }
        self.looked += 1;
        // Looking at every partition after every group would cost more than it gives.
        if self.looked >= 16 {
            self.looked = 0;
            self.partitions(shelf, fence, self.every).await;
        }
    }

    /// Brings everything up to date: the topics end.
    pub(super) async fn last(&mut self, shelf: &Shelf, fence: &Fence) {
        if self.next > self.viewed {
            self.events(shelf, fence).await;
        }
        self.partitions(shelf, fence, LAST_BEHIND.min(self.every)).await;
    }

    async fn events(&mut self, shelf: &Shelf, fence: &Fence) {
        let (dirty, changes) = {
            let mut state = shelf.lock();
            let dirty: Vec<Key> = state.dirty.drain().collect();
            let changes: Vec<_> = dirty.iter().map(|key| change(&state, key)).collect();
            (dirty, changes)
        };
        // What is in the view and not yet in the stream's part before `upto` is only ahead.
        let mut steps = changes.chunks(STEP).peekable();
        let mut kept = Ok(());
        while let (Some(step), Ok(())) = (steps.next(), &kept) {
            let upto = if steps.peek().is_some() { self.viewed } else { self.next };
            kept = shelf.scope.checkpoint(fence, EVENTS, Offset(upto), step.to_vec()).await;
        }
        if let Err(error) = kept {
            tracing::warn!(tenant = %shelf.tenant.id(), %error, "topics: no checkpoint");
            shelf.lock().dirty.extend(dirty);
            return;
        }
        self.viewed = self.next;
        if let Err(error) = shelf.scope.trim(fence, EVENTS, Offset(self.viewed)).await {
            tracing::warn!(tenant = %shelf.tenant.id(), %error, "topics: events were not trimmed");
        }
    }

    async fn partitions(&self, shelf: &Shelf, fence: &Fence, behind: u64) {
        let late: Vec<_> = {
            let mut state = shelf.lock();
            let late = state.parts.iter().filter(|(_, run)| run.since >= behind);
            let late: Vec<Place> = late.map(|(place, _)| *place).collect();
            late.into_iter().filter_map(|place| partition(&mut state, place)).collect()
        };
        let kept = late.into_iter().map(|(place, stream, upto, changes)| async move {
            let kept = shelf.scope.checkpoint(fence, stream, upto, changes).await;
            (place, kept)
        });
        for (place, kept) in join_all(kept).await {
            if let Err(error) = kept {
                tracing::warn!(tenant = %shelf.tenant.id(), %error, "topics: no checkpoint");
                self::behind(shelf, place, behind);
            }
        }
    }
}

/// Brings the view of a partition up to date, unless it knows all before this offset: then those may
/// be let go. Whether it does.
pub(super) async fn knows(shelf: &Shelf, fence: &Fence, place: Place, before: u64) -> bool {
    let late = {
        let mut state = shelf.lock();
        match state.parts.get(&place) {
            Some(run) if run.viewed >= before => return true,
            _ => partition(&mut state, place),
        }
    };
    let Some((_, stream, upto, changes)) = late else { return false };
    match shelf.scope.checkpoint(fence, stream, upto, changes).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(tenant = %shelf.tenant.id(), %error, "topics: no checkpoint");
            behind(shelf, place, 1);
            false
        }
    }
}

/// The view of a partition was not brought up to date: all of it is written again next time.
fn behind(shelf: &Shelf, place: Place, since: u64) {
    if let Some(run) = shelf.lock().parts.get_mut(&place) {
        run.since += since;
        run.viewed = 0;
        run.dirty.extend(run.producers.iter().map(|(id, _)| *id));
    }
}

/// What the view is to say of one thing.
fn change(state: &State, key: &Key) -> store::Change {
    let topics = &state.topics;
    let value = match key {
        Key::Counters => Some(record::counters_value(topics.counters())),
        Key::Topic(topic) => topics.get(*topic).map(record::topic_value),
        Key::Group(topic, name) => {
            let done = topics.groups(*topic).and_then(|groups| groups.get(name));
            done.map(|done| record::group_value(done))
        }
        Key::Binding(topic, name) => {
            let binding = topics.bindings(*topic).find(|(known, _)| *known == name);
            binding.map(|(_, binding)| record::binding_value(binding))
        }
        Key::Stream(stream) => topics.stream(*stream).map(record::stream_value),
    };
    match value {
        Some(value) => store::Change::put(key.bytes(), value),
        None => store::Change::delete(key.bytes()),
    }
}

/// What the view of a partition is to say.
fn partition(
    state: &mut State,
    place: Place,
) -> Option<(Place, Stream, Offset, Vec<store::Change>)> {
    let part = state.topics.get(place.0)?.parts.get(place.1 as usize)?.clone();
    let run = state.parts.get_mut(&place)?;
    (run.since, run.viewed) = (0, run.next);
    let kept = PartitionV1 {
        number: part.number,
        bytes: run.bytes,
        ms: run.last.ms,
        counter: run.last.counter,
    };
    let mut changes = vec![store::Change::put(PARTITION_KEY, record::partition_value(&kept))];
    for id in std::mem::take(&mut run.dirty) {
        let key = Bytes::copy_from_slice(&id);
        changes.push(match run.producers.get(&id) {
            Some(producer) => store::Change::put(key, record::producer_value(producer)),
            None => store::Change::delete(key),
        });
    }
    Some((place, Stream(part.stream), Offset(part.base + run.next), changes))
}
