//! What a store on a disk has done, and how it is: counted by its threads, read by whoever asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::metrics::duration::Durations;

/// What it has done since it was opened.
#[derive(Debug)]
pub(crate) struct Stats {
    /// Groups that were made durable.
    pub groups: AtomicU64,
    /// Commits, trims and drops in them.
    pub entries: AtomicU64,
    /// Bytes that they took in the journal.
    pub bytes: AtomicU64,
    /// How long it took to write and sync each.
    pub syncs: Arc<Durations>,
    /// Checkpoints that found no room; they are tried again.
    pub put_off: AtomicU64,
    opened: Instant,
    /// When the last checkpoint of the journal was, in milliseconds since it was opened.
    checkpoint_ms: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            groups: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            syncs: Arc::default(),
            put_off: AtomicU64::new(0),
            opened: Instant::now(),
            checkpoint_ms: AtomicU64::new(0),
        }
    }
}

impl Stats {
    pub(super) fn group(&self, entries: usize, bytes: u64, took: Duration) {
        self.groups.fetch_add(1, Relaxed);
        self.entries.fetch_add(entries as u64, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.syncs.note(took);
    }

    pub(super) fn checkpoint(&self) {
        let ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.checkpoint_ms.store(ms, Relaxed);
    }

    /// How long ago the last checkpoint of the journal was: at the start, or after it.
    pub(crate) fn checkpoint_age(&self) -> Duration {
        let at = Duration::from_millis(self.checkpoint_ms.load(Relaxed));
        self.opened.elapsed().saturating_sub(at)
    }
}

/// How a store on a disk is.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// What it has done.
    pub stats: Arc<Stats>,
    /// Bytes that are free on its disk.
    pub free: u64,
    /// Bytes of it that changes never use.
    pub reserve: u64,
}
