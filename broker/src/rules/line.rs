//! A line: those who wait are served in the order in which they came, and any may leave.
//!
//! It holds what wakes each of them and wakes nobody itself.

use std::collections::BTreeMap;

/// Who waits, in order; `W` is what wakes one.
#[derive(Debug)]
pub struct Line<W> {
    next: u64,
    waiting: BTreeMap<u64, Option<W>>,
}

impl<W> Line<W> {
    /// A line without anyone in it.
    pub fn new() -> Self {
        Line { next: 0, waiting: BTreeMap::new() }
    }

    /// Joins at the end; the number is the place, and is never given twice.
    pub fn join(&mut self) -> u64 {
        let place = self.next;
        self.next += 1;
        self.waiting.insert(place, None);
        place
    }

    /// Leaves from wherever one stands; returns what wakes the new first, if the first left.
    pub fn leave(&mut self, place: u64) -> Option<W> {
        let was_first = self.is_first(place);
        self.waiting.remove(&place);
        if was_first { self.wake_first() } else { None }
    }

    /// Whether it is this one's turn.
    pub fn is_first(&self, place: u64) -> bool {
        self.waiting.first_key_value().is_some_and(|(&first, _)| first == place)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps what wakes this one.
    pub fn keep(&mut self, place: u64, waker: W) {
        if let Some(slot) = self.waiting.get_mut(&place) {
            *slot = Some(waker);
        }
    }

    /// Takes what wakes the first.
    pub fn wake_first(&mut self) -> Option<W> {
        self.waiting.first_entry().and_then(|mut first| first.get_mut().take())
    }
}
