//! Counts of items: a lap's, which are one task's own, and the sums.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrayvec::ArrayVec;
use tollgate_protocol::Code;

use super::{Quantiles, Row, StatsSnapshot, Tenant};

/// What one batch counted of one tenant's items since it last told.
#[derive(Debug, Default)]
pub(crate) struct Lap {
    succeeded: u64,
    bytes_in: u64,
    bytes_out: u64,
    throttles: u64,
    throttled: Duration,
    /// Few batches see more than two or three different codes.
    failed: Vec<(Code, u64)>,
    /// Latencies in microseconds, and how many items in a row had the same.
    latencies: ArrayVec<(u32, u32), LATENCIES>,
}

impl Lap {
    /// Counts an item that ended well, so many nanoseconds after it had arrived.
    #[inline]
    pub(crate) fn succeeded(&mut self, bytes_in: usize, bytes_out: usize, latency_ns: u64) {
        self.succeeded += 1;
        self.bytes_in += bytes_in as u64;
        self.bytes_out += bytes_out as u64;
        self.latency(latency_ns);
    }

    /// Counts an item that failed; so many nanoseconds after it had arrived, if it had been started.
    pub(crate) fn failed(&mut self, bytes_in: usize, code: Code, latency_ns: Option<u64>) {
        self.bytes_in += bytes_in as u64;
        match self.failed.iter_mut().find(|f| f.0 == code) {
            Some(f) => f.1 += 1,
            None => self.failed.push((code, 1)),
        }
        if let Some(latency_ns) = latency_ns {
            self.latency(latency_ns);
        }
    }

    /// Counts a wait for a rate.
    pub(crate) fn throttled(&mut self, time: Duration) {
        self.throttles += 1;
        self.throttled += time;
    }

    /// Whether the next item may not fit: fold it before.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.latencies.is_full()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.succeeded == 0 && self.failed.is_empty() && self.throttles == 0
    }

    #[inline]
    fn latency(&mut self, ns: u64) {
        let us = u32::try_from(ns / 1_000).unwrap_or(u32::MAX);
        match self.latencies.last_mut() {
            Some((last, n)) if *last == us => *n = n.saturating_add(1),
            // Whoever does not fold a full lap loses a latency, nothing else.
            _ => drop(self.latencies.try_push((us, 1))),
        }
    }

    pub(super) fn has_latencies(&self) -> bool {
        !self.latencies.is_empty()
    }

    pub(super) fn latencies(&self) -> &[(u32, u32)] {
        &self.latencies
    }

    pub(super) fn clear(&mut self) {
        let mut failed = std::mem::take(&mut self.failed);
        failed.clear();
        self.latencies.clear();
        (self.succeeded, self.bytes_in, self.bytes_out) = (0, 0, 0);
        (self.throttles, self.throttled) = (0, Duration::ZERO);
        self.failed = failed;
    }
}

/// Sums of laps.
#[derive(Debug, Default)]
pub(super) struct Counts {
    succeeded: u64,
    bytes_in: u64,
    bytes_out: u64,
    throttles: u64,
    throttled: Duration,
    failed: Vec<(Code, u64)>,
}

impl Counts {
    pub(super) fn add(&mut self, lap: &Lap) {
        self.succeeded += lap.succeeded;
        self.bytes_in += lap.bytes_in;
        self.bytes_out += lap.bytes_out;
        self.throttles += lap.throttles;
        self.throttled += lap.throttled;
        for &(code, n) in &lap.failed {
            match self.failed.binary_search_by_key(&code, |f| f.0) {
                Ok(at) => self.failed[at].1 += n,
                Err(at) => self.failed.insert(at, (code, n)),
            }
        }
    }

    fn items_failed(&self) -> u64 {
        self.failed.iter().map(|f| f.1).sum()
    }

    pub(super) fn snapshot(&self, latency_us: Quantiles) -> StatsSnapshot {
        let failures: BTreeMap<_, _> = self.failed.iter().map(|(c, n)| (c.name(), *n)).collect();
        StatsSnapshot {
            items_succeeded: self.succeeded,
            items_failed: self.items_failed(),
            failures,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            latency_us,
        }
    }

    pub(super) fn row(
        &self,
        label: Arc<str>,
        tenant: Option<Arc<Tenant>>,
        latency_us: Quantiles,
    ) -> Row {
        Row {
            label,
            tenant,
            succeeded: self.succeeded,
            failed: self.items_failed(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            throttles: self.throttles,
            throttled: self.throttled,
            latency_us,
        }
    }
}

/// Different latencies that a lap holds: what a handful of items in place has at most.
const LATENCIES: usize = 64;
