//! Letting go: of messages that are kept no longer, and of what deleted topics held.

use super::{
    super::{
        message,
        shelf::Place,
        staged::{Staged, Then},
        view,
    },
    Owner,
};
use crate::{
    batch::Failure,
    rules::topic::{
        At, Event, id,
        plant::{self, Bug},
        ranges::Ranges,
    },
    store::{Change, Offset, Page, Stream},
    tenancy::Quota,
};

/// What of a partition is to go.
struct Cut {
    place: Place,
    stream: Stream,
    base: u64,
    first: u64,
    next: u64,
    gone: u64,
    /// Those appended before this.
    before: Option<At>,
    /// So many bytes more than may be.
    over: u64,
    deleted: Ranges,
}

/// Pages of messages that are looked at in one turn: then others have theirs.
const PAGES: usize = 8;
/// Streams that are freed in one turn.
const STREAMS: usize = 16;
const HOUR_MS: u64 = 3_600_000;

impl Owner {
    /// Lets go of messages that are kept no longer. Whether there may be more of them.
    pub(super) async fn retain(&mut self, now: At) -> Result<bool, Failure> {
        let mut pages = 0;
        for cut in self.cuts(now) {
            if pages >= PAGES {
                return Ok(true);
            }
            pages += self.cut(cut).await?;
        }
        Ok(pages >= PAGES)
    }

    /// The partitions that hold something too old, or too much, as far as that is known.
    fn cuts(&self, now: At) -> Vec<Cut> {
        let hours = self.shelf.tenant.limit(Quota::RetentionHours).bound();
        let state = self.shelf.lock();
        let mut cuts = Vec::new();
        for topic in state.topics.iter() {
            let most = hours.map(|hours| hours.saturating_mul(HOUR_MS));
            let age = match (topic.retention.age_ms, most) {
                (Some(own), Some(most)) => Some(own.min(most)),
                (own, most) => own.or(most),
            };
            for (partition, part) in (0..).zip(&topic.parts) {
                let place = (topic.number, partition);
                let Some(run) = state.parts.get(&place).filter(|run| run.next > part.first) else {
                    continue;
                };
                let before = age.map(|age| now.saturating_sub(age));
                let oldest = run.oldest.filter(|(first, _)| *first == part.first);
                let old = before.is_some_and(|before| oldest.is_none_or(|(_, at)| at < before));
                let most = topic.retention.bytes.unwrap_or(u64::MAX);
                let over = (run.bytes - part.gone).saturating_sub(most);
                if old || over > 0 || part.deleted.contains(part.first) {
                    cuts.push(Cut {
                        place,
                        stream: Stream(part.stream),
                        base: part.base,
                        first: part.first,
                        next: run.next,
                        gone: part.gone,
                        before,
                        over,
                        deleted: part.deleted.clone(),
                    });
                }
            }
        }
        cuts
    }

    /// Lets go of the oldest messages of a partition. How many pages of them were read.
    async fn cut(&mut self, mut cut: Cut) -> Result<usize, Failure> {
        let (before, mut pages) = (cut.first, 0);
        let mut oldest = None;
        'all: while pages < PAGES && cut.first < cut.next {
            pages += 1;
            let from = Offset(cut.base + cut.first);
            let stored = self.shelf.scope.read(cut.stream, from, Page::default()).await;
            let stored = stored.map_err(|error| {
                tracing::error!(tenant = %self.shelf.tenant.id(), %error, "messages can not be read");
                Failure::new(tollgate_protocol::Code::StoreUnavailable, "messages can not be read")
            })?;
            if stored.is_empty() {
                break;
            }
            for record in stored {
                let offset = record.offset.0 - cut.base;
                let at =
                    message::id(&record.body).and_then(id::parts).map_or(0, |parts| parts.at.ms);
                let goes = cut.before.is_some_and(|before| at < before)
                    || cut.over > 0
                    || cut.deleted.contains(offset);
                if !goes || offset >= cut.next {
                    oldest = Some((offset, at));
                    break 'all;
                }
                let len = record.body.len() as u64;
                cut.gone += len;
                cut.over = cut.over.saturating_sub(len);
                cut.first = offset + 1;
            }
        }
        if plant::is(Bug::TrimTooFar) && cut.first > before && cut.first < cut.next {
            cut.first += 1;
        }
        let (topic, partition) = cut.place;
        if cut.first > before {
            let mut batch = Staged::default();
            let (first, gone) = (cut.first, cut.gone);
            batch.change(Event::Trimmed { topic, partition, first, gone }, Then::Nothing);
            self.commit(&mut batch).await?;
            let before = Offset(cut.base + cut.first);
            // What does not work goes with the next ones: nobody reads them.
            if view::knows(&self.shelf, &self.fence, cut.place, cut.first).await
                && let Err(error) = self.shelf.scope.trim(&self.fence, cut.stream, before).await
            {
                tracing::warn!(tenant = %self.shelf.tenant.id(), %error, "messages were not let go");
            }
        }
        if let Some(run) = self.shelf.lock().parts.get_mut(&cut.place) {
            run.oldest = oldest.filter(|(first, _)| *first == cut.first);
        }
        Ok(pages)
    }

    /// Lets go of what deleted topics held. Whether there may be more of it.
    pub(super) async fn free_streams(&mut self) -> Result<bool, Failure> {
        let leaving: Vec<u64> = self.shelf.lock().topics.leaving().take(STREAMS).collect();
        for stream in &leaving {
            match self.free(Stream(*stream)).await {
                Ok(base) => {
                    let mut batch = Staged::default();
                    batch.change(Event::Freed { stream: *stream, base }, Then::Nothing);
                    self.commit(&mut batch).await?;
                }
                Err(error) => {
                    let tenant = self.shelf.tenant.id();
                    tracing::warn!(%tenant, error, "a deleted topic's data could not be let go");
                    return Ok(false);
                }
            }
        }
        Ok(leaving.len() == STREAMS)
    }

    /// Lets go of everything in a stream, and of its view. Where it goes on.
    async fn free(&self, stream: Stream) -> Result<u64, String> {
        let scope = &self.shelf.scope;
        let ends = scope.ends(stream).await.map_err(|e| e.to_string())?;
        scope.trim(&self.fence, stream, ends.next).await.map_err(|e| e.to_string())?;
        let mut view = scope.restore(stream).await.map_err(|e| e.to_string())?;
        let upto = view.upto().max(ends.next);
        loop {
            let pairs = view.next(Page::default()).await.map_err(|e| e.to_string())?;
            if pairs.is_empty() {
                return Ok(upto.0);
            }
            let changes = pairs.into_iter().map(|pair| Change::delete(pair.key)).collect();
            scope
                .checkpoint(&self.fence, stream, upto, changes)
                .await
                .map_err(|e| e.to_string())?;
        }
    }
}
