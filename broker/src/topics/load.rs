//! Reading a tenant's topics back: the view of what happened, what happened since, and of each
//! partition its own view and the messages since.

use super::{
    message::Message,
    record::{self, BadRecord, EVENTS, Kept, PARTITION_KEY},
    shelf::{Run, Shelf, State},
};
use crate::{
    rules::topic::{
        Part, Producers, id,
        plant::{self, Bug},
    },
    store::{ClaimError, Fence, Offset, Page, ReadError, Scope, Stream},
};

/// Why a tenant's topics could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a record of {stream} at {offset}: {source}")]
    Record { stream: Stream, offset: Offset, source: BadRecord },
    #[error("the view of {stream}: {source}")]
    View { stream: Stream, source: BadRecord },
}

/// What was read beside the state.
pub(super) struct Loaded {
    pub fence: Fence,
    /// After the last event.
    pub next: u64,
    /// After the last event that the view knows.
    pub viewed: u64,
}

/// Reads them into the shelf, and becomes their owner.
pub(super) async fn load(
    shelf: &Shelf,
    producers: &impl Fn() -> Producers,
) -> Result<Loaded, LoadError> {
    let fence = shelf.scope.claim().await?;
    let (viewed, next) = events(shelf, producers).await?;
    let places: Vec<(u32, u32, Part)> = {
        let state = shelf.lock();
        let places = |topic: &crate::rules::topic::Topic| {
            let parts = (0..).zip(topic.parts.clone());
            parts.map(|(at, part)| (topic.number, at, part)).collect::<Vec<_>>()
        };
        state.topics.iter().flat_map(places).collect()
    };
    for (topic, partition, part) in places {
        let run = partition_of(&shelf.scope, &part, producers()).await?;
        let mut state = shelf.lock();
        state.bytes += run.bytes - part.gone;
        state.parts.insert((topic, partition), run);
    }
    let mut state = shelf.lock();
    let state = &mut *state;
    for topic in state.topics.iter() {
        state.tails.insert(topic.number, Default::default());
    }
    for (place, run) in &state.parts {
        for (id, producer) in run.producers.iter() {
            let epoch = state.epochs.entry((place.0, *id)).or_insert(0);
            *epoch = producer.epoch.max(*epoch);
        }
    }
    Ok(Loaded { fence, next, viewed })
}

/// Adds up what happened: after the last event that the view knows, and after the last.
async fn events(
    shelf: &Shelf,
    producers: &impl Fn() -> Producers,
) -> Result<(u64, u64), LoadError> {
    let scope = &shelf.scope;
    let mut view = scope.restore(EVENTS).await?;
    let viewed = view.upto().0;
    loop {
        let pairs = view.next(Page::default()).await?;
        if pairs.is_empty() {
            break;
        }
        let topics = &mut shelf.lock().topics;
        for pair in pairs {
            let kept = record::kept(&pair.key, &pair.value);
            match kept.map_err(|source| LoadError::View { stream: EVENTS, source })? {
                Kept::Counters(topic, partition, stream) => topics.go_on(topic, partition, stream),
                Kept::Topic(mut topic) => {
                    if plant::is(Bug::DeletedComesBack) {
                        topic.parts.iter_mut().for_each(|part| part.deleted = Default::default());
                    }
                    topics.insert(topic);
                }
                Kept::Group(topic, name, done) => topics.insert_group(topic, name, done),
                Kept::Binding(topic, name, binding) => topics.insert_binding(topic, name, binding),
                Kept::Stream(stream, base) => topics.insert_stream(stream, base),
            }
        }
    }
    let mut next = viewed;
    loop {
        let records = scope.read(EVENTS, Offset(next), Page::default()).await?;
        let Some(last) = records.last() else { break };
        next = last.offset.next().0;
        let mut state: std::sync::MutexGuard<'_, State> = shelf.lock();
        for stored in &records {
            let offset = stored.offset;
            let event = record::event(stored).map_err(|source| LoadError::Record {
                stream: EVENTS,
                offset,
                source,
            })?;
            state.learn(&event, producers);
        }
    }
    Ok((viewed, next))
}

/// Reads a partition's own view, and the messages since.
async fn partition_of(scope: &Scope, part: &Part, producers: Producers) -> Result<Run, LoadError> {
    let stream = Stream(part.stream);
    let mut run = Run::new(0, 0, id::Last::default(), producers);
    let mut view = scope.restore(stream).await?;
    let mut from = part.base;
    let mut known = None;
    loop {
        let pairs = view.next(Page::default()).await?;
        if pairs.is_empty() {
            break;
        }
        for pair in pairs {
            let bad = |source| LoadError::View { stream, source };
            if pair.key == PARTITION_KEY {
                let kept = record::partition(&pair.value).map_err(bad)?;
                known = Some(kept).filter(|kept| kept.number == part.number);
            } else if let Ok(id) = <[u8; 16]>::try_from(&pair.key[..]) {
                let producer = record::producer(&pair.value).map_err(bad)?;
                if !plant::is(Bug::ForgetProducers) {
                    run.producers.insert(id, producer);
                }
            }
        }
    }
    if let Some(known) = known {
        (run.bytes, run.last) = (known.bytes, known.last());
        from = view.upto().0.max(part.base);
        run.viewed = from - part.base;
    }
    let ends = scope.ends(stream).await?;
    run.next = ends.next.0.max(from) - part.base;
    loop {
        let records = scope.read(stream, Offset(from), Page::default()).await?;
        let Some(last) = records.last() else { break };
        from = last.offset.next().0;
        for stored in &records {
            let offset = stored.offset;
            let bad = |source| LoadError::Record { stream, offset, source };
            let message = Message::parse(&stored.body).map_err(bad)?;
            let at = id::parts(message.id).ok_or(BadRecord::Message).map_err(bad)?.at;
            run.bytes += stored.body.len() as u64;
            run.since += 1;
            run.last = at;
            if let Some(by) = message.producer.filter(|_| !plant::is(Bug::ForgetProducers)) {
                let place = offset.0 - part.base;
                run.producers.note(by.id, by.epoch, by.sequence, place, at.ms);
                run.dirty.insert(by.id);
            }
        }
    }
    // Messages are let go only once the view knows them, so nothing of them is missing here.
    debug_assert!(run.bytes >= part.gone, "{} of {} bytes are gone", part.gone, run.bytes);
    run.bytes = run.bytes.max(part.gone);
    Ok(run)
}
