//! Reading a partition: from what is in memory, or from the store. Changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_protocol::Code;

use super::{
    message,
    service::no_such_topic,
    shelf::{Place, Shelf},
};
use crate::{
    batch::Failure,
    rules::topic::{
        At, id,
        plant::{self, Bug},
    },
    store::{Offset, Page, Stored, Stream},
};

/// A stored message, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub offset: u64,
    pub body: Bytes,
}

/// Some messages of a partition.
#[derive(Debug)]
pub(super) struct Read {
    pub messages: Vec<Found>,
    /// Where to go on.
    pub next: u64,
}

/// Where a partition lies.
struct Lies {
    stream: Stream,
    base: u64,
    first: u64,
    next: u64,
}

/// The ends of a partition: the oldest offset that is kept, and the next one.
pub(super) fn ends(shelf: &Shelf, place: Place) -> Result<(u64, u64), Failure> {
    lies(shelf, place).map(|lies| (lies.first, lies.next))
}

fn lies(shelf: &Shelf, (topic, partition): Place) -> Result<Lies, Failure> {
    let state = shelf.lock();
    let part = state.topics.get(topic).and_then(|topic| topic.parts.get(partition as usize));
    let run = state.parts.get(&(topic, partition));
    let (part, run) = part.zip(run).ok_or_else(no_such_topic)?;
    let (stream, base, first) = (Stream(part.stream), part.base, part.first);
    Ok(Lies { stream, base, first, next: run.next })
}

async fn stored(shelf: &Shelf, lies: &Lies, from: u64, page: Page) -> Result<Vec<Stored>, Failure> {
    let stored = shelf.scope.read(lies.stream, Offset(lies.base + from), page).await;
    stored.map_err(|error| {
        tracing::error!(tenant = %shelf.tenant.id(), %error, "messages can not be read");
        unreadable()
    })
}

fn unreadable() -> Failure {
    Failure::new(Code::StoreUnavailable, "the messages can not be read")
}

/// Reads messages from an offset on, as many as the page allows: those that were deleted are left
/// out.
pub(super) async fn read(
    shelf: &Arc<Shelf>,
    place: Place,
    from: u64,
    page: Page,
) -> Result<Read, Failure> {
    if let Some(read) = from_memory(shelf, place, from, page)? {
        return Ok(read);
    }
    let lies = lies(shelf, place)?;
    let from = from.max(lies.first);
    let stored = stored(shelf, &lies, from, page).await?;
    let state = shelf.lock();
    let topic = state.topics.get(place.0).ok_or_else(no_such_topic)?;
    let part = &topic.parts[place.1 as usize];
    // Deleted messages are stored until all before them are gone: a gap is none of ours. To pass
    // over it would skip what was acknowledged; an empty page would be waited at without end.
    let begins = stored.first().map_or(lies.base + lies.next, |stored| stored.offset.0);
    if lies.base + from < begins && part.first <= from {
        let tenant = shelf.tenant.id();
        tracing::error!(%tenant, topic = %topic.name, from, next = lies.next, "messages are missing");
        return Err(unreadable());
    }
    let mut read = Read { messages: Vec::with_capacity(stored.len()), next: from };
    for stored in stored {
        let offset = stored.offset.0 - lies.base;
        // What was kept a moment ago is known a moment later.
        if offset >= lies.next {
            break;
        }
        read.next = offset + 1;
        if offset >= part.first && !part.deleted.contains(offset) {
            read.messages.push(Found { offset, body: stored.body });
        }
    }
    // All of it was let go of meanwhile: go on from where it begins now.
    read.next = read.next.max(part.first);
    Ok(read)
}

fn from_memory(
    shelf: &Shelf,
    place: Place,
    from: u64,
    page: Page,
) -> Result<Option<Read>, Failure> {
    let state = shelf.lock();
    let topic = state.topics.get(place.0).ok_or_else(no_such_topic)?;
    let part = topic.parts.get(place.1 as usize).ok_or_else(no_such_topic)?;
    let run = state.parts.get(&place).ok_or_else(no_such_topic)?;
    let from = from.max(part.first);
    let mut read = Read { messages: Vec::new(), next: from };
    if from >= run.next {
        return Ok(Some(read));
    }
    let Some(recent) = run.recent_from(from) else { return Ok(None) };
    let mut bytes = 0;
    for (offset, body) in recent {
        if read.messages.len() >= page.count_max.max(1)
            || (!read.messages.is_empty() && bytes + body.len() > page.bytes_max)
        {
            break;
        }
        read.next = offset + 1;
        if !part.deleted.contains(offset) {
            bytes += body.len();
            read.messages.push(Found { offset, body: body.clone() });
        }
    }
    Ok(Some(read))
}

/// The message at an offset, unless it is deleted or gone.
pub(super) async fn one(
    shelf: &Arc<Shelf>,
    place: Place,
    offset: u64,
) -> Result<Option<Bytes>, Failure> {
    let (first, next) = ends(shelf, place)?;
    if !(first..next).contains(&offset) {
        return Ok(None);
    }
    let read = read(shelf, place, offset, Page { count_max: 1, bytes_max: 1 }).await?;
    Ok(read.messages.into_iter().next().filter(|m| m.offset == offset).map(|m| m.body))
}

/// The first offset whose message was appended at or after a time: a binary search, as ids rise.
pub(super) async fn at_time(shelf: &Arc<Shelf>, place: Place, at: At) -> Result<u64, Failure> {
    let (mut low, mut high) = ends(shelf, place)?;
    while low < high {
        let middle = low + (high - low) / 2;
        match first_from(shelf, place, middle, high).await? {
            Some((_, when)) if when < at => low = middle + 1,
            // Nothing is left of this half, or what is there is late enough.
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first message from an offset to before another, deleted ones too: where it is, and when it
/// was appended.
async fn first_from(
    shelf: &Arc<Shelf>,
    place: Place,
    from: u64,
    end: u64,
) -> Result<Option<(u64, At)>, Failure> {
    let lies = lies(shelf, place)?;
    let page = Page { count_max: 1, bytes_max: 1 };
    let stored = stored(shelf, &lies, from.max(lies.first), page).await?;
    let found = stored.first().and_then(|stored| {
        let offset = stored.offset.0 - lies.base;
        let parts = message::id(&stored.body).and_then(id::parts)?;
        Some((offset, parts.at.ms))
    });
    Ok(found.filter(|(offset, _)| *offset < end))
}

/// Where the message with an id is, if it is.
pub(super) async fn find(
    shelf: &Arc<Shelf>,
    id: [u8; 16],
) -> Result<Option<(Place, Found)>, Failure> {
    let Some(parts) = id::parts(id) else { return Ok(None) };
    let place = {
        let state = shelf.lock();
        let found = state.topics.by_number(parts.partition);
        found.map(|(topic, partition)| (topic.number, partition))
    };
    let Some(place) = place else { return Ok(None) };
    let (first, next) = ends(shelf, place)?;
    for offset in id::offsets(parts.low, first, next) {
        if let Some(body) = one(shelf, place, offset).await?
            && (message::id(&body) == Some(id) || plant::is(Bug::ForeignRead))
        {
            return Ok(Some((place, Found { offset, body })));
        }
    }
    Ok(None)
}
