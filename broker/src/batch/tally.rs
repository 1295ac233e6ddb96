//! What a batch's summary counts.

use std::time::Instant;

use tollgate_protocol::{
    Code, Extensions,
    batch::{Ended, Number, Summary},
};

/// Counts of one batch; every item that is read passes through here exactly twice.
#[derive(Debug)]
pub(crate) struct Tally {
    opened: Instant,
    pub read: u64,
    pub last_id: Option<u64>,
    succeeded: u64,
    /// Sorted by code: few batches see more than two or three different ones.
    failed: Vec<(u16, u64)>,
    bytes_in: u64,
    bytes_out: u64,
    pub throttled_us: u64,
}

impl Tally {
    pub(crate) fn new(opened: Instant) -> Self {
        Tally {
            opened,
            read: 0,
            last_id: None,
            succeeded: 0,
            failed: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
            throttled_us: 0,
        }
    }

    #[inline]
    pub(crate) fn item_read(&mut self, id: u64, payload_len: usize) {
        self.read += 1;
        self.last_id = Some(id);
        self.bytes_in += payload_len as u64;
    }

    #[inline]
    pub(crate) fn item_succeeded(&mut self, payload_len: usize) {
        self.succeeded += 1;
        self.bytes_out += payload_len as u64;
    }

    pub(crate) fn item_failed(&mut self, code: Code) {
        let code = code.number();
        match self.failed.binary_search_by_key(&code, |f| f.0) {
            Ok(i) => self.failed[i].1 += 1,
            Err(i) => self.failed.insert(i, (code, 1)),
        }
    }

    /// Items that have their result.
    pub(crate) fn answered(&self) -> u64 {
        self.succeeded + self.failed()
    }

    /// Items that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.iter().map(|f| f.1).sum()
    }

    pub(crate) fn summary(&self, ended: Ended, now: Instant) -> Summary<'static> {
        debug_assert_eq!(self.answered(), self.read, "every item read has exactly one result");
        Summary {
            ended,
            total: self.read,
            succeeded: self.succeeded,
            failed: self.failed.clone(),
            last_id_read: self.last_id,
            duration_us: now.saturating_duration_since(self.opened).as_micros() as u64,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            throttled_us: self.throttled_us,
            number: Number::default(),
            extensions: Extensions::EMPTY,
        }
    }
}
