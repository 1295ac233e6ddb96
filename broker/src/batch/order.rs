//! Holds results back until those of earlier items are out, for batches in submission order.
//!
//! Knows only sequence numbers and sizes; the engine starts nothing new while it is full.

use std::collections::BTreeMap;

use tollgate_protocol::batch::Number;

use super::outcome::Outcome;

/// What is held at most before nothing new starts, in bytes.
pub(crate) const HELD_BYTES_MAX: usize = 4 << 20;
/// What a held result counts beside its payload.
const ENTRY_BYTES: usize = 256;

/// A result that waits for its turn.
pub(crate) struct Held {
    pub id: u64,
    pub tenant: Option<Box<str>>,
    pub attempts: u32,
    pub queued_us: u64,
    pub duration_us: u64,
    pub number: Number,
    pub outcome: Outcome,
}

impl Held {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.outcome.as_ref().map_or(0, |r| r.payload().len())
    }
}

/// Results by sequence number, those before the next one missing.
#[derive(Default)]
pub(crate) struct Submission {
    next: u64,
    bytes: usize,
    held: BTreeMap<u64, Held>,
}

impl Submission {
    pub(crate) fn put(&mut self, seq: u64, held: Held) {
        self.bytes += held.bytes();
        self.held.insert(seq, held);
    }

    /// The next result in order, if it is there.
    pub(crate) fn pop(&mut self) -> Option<Held> {
        let entry = self.held.first_entry().filter(|e| *e.key() == self.next)?;
        let held = entry.remove();
        self.next += 1;
        self.bytes -= held.bytes();
        Some(held)
    }

    /// Whether nothing new may start. The oldest unanswered item runs already, or is the very next
    /// to start, so what is held always comes free.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= HELD_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
