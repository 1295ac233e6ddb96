//! What is known of a scope while the process runs: where its streams end, which of their records
//! are where, and who owns it.
//!
//! Leaf locks only; no I/O.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    super::port::{Ends, Offset, ScopeId, Stream},
    index::{Class, FileRow, StreamRow},
};

/// Points of a segment's index lie at least so far apart, in bytes.
const INDEX_STRIDE: u64 = 64 << 10;

/// A scope. One value as long as it is not dropped.
#[derive(Debug)]
pub(super) struct ScopeState {
    pub id: ScopeId,
    contents: Mutex<Contents>,
}

/// What the lock of a scope guards.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The epoch of the last claim, since the process began.
    pub owner: Option<u64>,
    /// What is damaged.
    pub damaged: Option<String>,
    /// It is being deleted: nothing is in it.
    pub dropped: bool,
    pub streams: BTreeMap<Stream, StreamState>,
}

/// A stream.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamState {
    /// The oldest record that was not trimmed.
    pub first: u64,
    /// After the last durable record.
    pub next: u64,
    /// After the last record that was given an offset: what lies between is in the group that is
    /// being written. The committer's.
    pub assigned: u64,
    /// After the last record that is in a segment: what lies between this and `next` is in `tail`.
    pub filled: u64,
    /// The view is of the records before this.
    pub upto: u64,
    pub tail: VecDeque<Run>,
    pub segments: Vec<Segment>,
    pub large: Vec<Large>,
    /// The keeper has been told that there is something to fill.
    pub queued: bool,
}

/// Consecutive records of a stream, as frames.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub first: u64,
    pub count: u64,
    pub frames: Bytes,
}

/// A file of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The offset of its first record.
    pub base: u64,
    pub len: u64,
    /// (offset, place in bytes) of some of its frames, rising.
    index: Vec<(u64, u64)>,
}

/// A file of large records' bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Large {
    /// The offset of its first record.
    pub base: u64,
    pub len: u64,
}

impl Segment {
    pub(super) fn new(base: u64, len: u64) -> Segment {
        Segment { base, len, index: Vec::new() }
    }

    /// The nearest known frame at or before an offset: its offset and place.
    pub(super) fn near(&self, offset: u64) -> (u64, u64) {
        match self.index.partition_point(|(at, _)| *at <= offset) {
            0 => (self.base, 0),
            n => self.index[n - 1],
        }
    }

    /// Remembers where a frame is, if no other one near it is known.
    pub(super) fn remember(&mut self, offset: u64, place: u64) {
        let at = self.index.partition_point(|(known, _)| *known <= offset);
        let before = at.checked_sub(1).map_or(0, |before| self.index[before].1);
        let after = self.index.get(at).map_or(u64::MAX, |(_, place)| *place);
        if place >= before + INDEX_STRIDE && after.saturating_sub(place) >= INDEX_STRIDE {
            self.index.insert(at, (offset, place));
        }
    }
}

impl StreamState {
    fn of(row: &StreamRow) -> StreamState {
        let mut state = StreamState {
            first: row.first,
            next: row.next,
            assigned: row.next,
            filled: row.next,
            upto: row.upto,
            ..StreamState::default()
        };
        for file in &row.files {
            match file.class {
                Class::Segment => state.segments.push(Segment::new(file.base, file.len)),
                Class::Large => state.large.push(Large { base: file.base, len: file.len }),
            }
        }
        state
    }

    /// As the index is to keep it: what is in segments.
    pub(super) fn row(&self, stream: Stream) -> StreamRow {
        let segments = self.segments.iter().map(|s| FileRow {
            class: Class::Segment,
            base: s.base,
            len: s.len,
        });
        let large =
            self.large.iter().map(|l| FileRow { class: Class::Large, base: l.base, len: l.len });
        StreamRow {
            stream,
            first: self.first.min(self.filled),
            next: self.filled,
            upto: self.upto,
            files: segments.chain(large).collect(),
        }
    }

    pub(super) fn ends(&self) -> Ends {
        Ends { first: Offset(self.first), next: Offset(self.next) }
    }

    /// Bytes on the disk, and on their way there.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum::<u64>()
            + self.large.iter().map(|l| l.len).sum::<u64>()
            + self.tail.iter().map(|run| run.frames.len() as u64).sum::<u64>()
    }

    /// The files that hold nothing but trimmed records. The last of a kind goes when nothing at
    /// all is left, and nothing is on its way.
    fn spent(&self) -> (usize, usize) {
        let spent = |bases: Vec<u64>| {
            let followed = bases.iter().skip(1).take_while(|base| **base <= self.first).count();
            let empty = self.first == self.assigned && self.tail.is_empty();
            if empty { bases.len() } else { followed }
        };
        (
            spent(self.segments.iter().map(|s| s.base).collect()),
            spent(self.large.iter().map(|l| l.base).collect()),
        )
    }

    /// Whether trimming has made files superfluous.
    pub(super) fn has_spent(&self) -> bool {
        self.spent() != (0, 0)
    }

    /// Forgets the files that hold nothing but trimmed records, and says which.
    pub(super) fn take_spent(&mut self) -> Vec<(Class, u64)> {
        let (segments, large) = self.spent();
        let segments = self.segments.drain(..segments).map(|s| (Class::Segment, s.base));
        let mut taken: Vec<_> = segments.collect();
        taken.extend(self.large.drain(..large).map(|l| (Class::Large, l.base)));
        taken
    }
}

impl ScopeState {
    /// As the index has it.
    pub(super) fn of(id: ScopeId, rows: &[StreamRow], damaged: Option<String>) -> ScopeState {
        let streams = rows.iter().map(|row| (row.stream, StreamState::of(row))).collect();
        let contents = Contents { owner: None, damaged, dropped: false, streams };
        ScopeState { id, contents: Mutex::new(contents) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// Nothing is in it any more; gives the bytes that were in tails.
    pub(super) fn clear(&mut self) -> usize {
        let was = std::mem::replace(self, Contents { dropped: true, ..Contents::default() });
        let tails = was.streams.values().flat_map(|stream| &stream.tail);
        tails.map(|run| run.frames.len()).sum()
    }
}

/// The scopes that were used since the process began.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    known: Mutex<HashMap<ScopeId, Arc<ScopeState>>>,
    /// Held while a scope is read from the index, and while one is forgotten there.
    pub loading: Mutex<()>,
}

impl Scopes {
    fn known(&self) -> MutexGuard<'_, HashMap<ScopeId, Arc<ScopeState>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: ScopeId) -> Option<Arc<ScopeState>> {
        self.known().get(&id).cloned()
    }

    /// Adds one that was just read, unless it is known by now; gives the one that counts.
    pub(super) fn add(&self, state: ScopeState) -> Arc<ScopeState> {
        self.known().entry(state.id).or_insert_with(|| Arc::new(state)).clone()
    }

    pub(super) fn remove(&self, id: ScopeId) {
        self.known().remove(&id);
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<Arc<ScopeState>> {
        self.known().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_knows_the_nearest_frame_before() {
        let mut segment = Segment::new(100, 1 << 20);
        assert_eq!(segment.near(150), (100, 0));
        for n in 1..100 {
            segment.remember(100 + n, n * 10_000);
        }
        let (offset, place) = segment.near(150);
        assert!((143..=150).contains(&offset), "{offset}");
        assert_eq!(place, (offset - 100) * 10_000);
        // In the middle too, as readers find them.
        let mut segment = Segment::new(0, 1 << 20);
        for n in [9, 3, 6] {
            segment.remember(n, n * INDEX_STRIDE);
        }
        assert_eq!(segment.near(7), (6, 6 * INDEX_STRIDE));
        assert_eq!(segment.near(2), (0, 0));
    }

    #[test]
    fn files_are_spent_when_all_in_them_is_trimmed() {
        let mut stream =
            StreamState { first: 4, next: 12, assigned: 12, filled: 12, ..<_>::default() };
        stream.segments = [0, 5, 10].map(|base| Segment::new(base, 1)).to_vec();
        stream.large = vec![Large { base: 3, len: 1 }];
        assert!(!stream.has_spent());
        stream.first = 10;
        assert_eq!(stream.take_spent(), [(Class::Segment, 0), (Class::Segment, 5)]);
        stream.first = 12;
        assert_eq!(stream.take_spent(), [(Class::Segment, 10), (Class::Large, 3)]);
        assert!(!stream.has_spent());
    }
}
