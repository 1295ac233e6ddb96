//! How long items took: a histogram of two digits, and its quantiles.

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use super::Lap;

/// Latencies of items, in microseconds: grows from some hundred bytes to 13 KiB (with counts of 32
/// bits), which an hour needs. A count that is full stays full.
#[derive(Debug)]
pub(super) struct Latencies<C: Counter>(Histogram<C>);

impl<C: Counter> Default for Latencies<C> {
    fn default() -> Self {
        Latencies(Histogram::new(DIGITS).expect("two digits are allowed"))
    }
}

/// Quantiles of latencies, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// Half of the items took no longer.
    pub p50: u64,
    /// 90 % took no longer.
    pub p90: u64,
    /// 99 % took no longer.
    pub p99: u64,
    /// 99.9 % took no longer.
    pub p999: u64,
    /// None took longer.
    pub max: u64,
    /// How many items these are.
    pub count: u64,
}

impl<C: Counter> Latencies<C> {
    pub(super) fn add(&mut self, lap: &Lap) {
        for &(us, n) in lap.latencies() {
            // What is longer than an hour counts as one.
            let recorded = match C::from_u32(n) {
                Some(n) => self.0.record_n(u64::from(us).min(LONGEST_US), n).is_ok(),
                None => false,
            };
            debug_assert!(recorded, "it grows as needed");
        }
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let h = &self.0;
        Quantiles {
            p50: h.value_at_quantile(0.5),
            p90: h.value_at_quantile(0.9),
            p99: h.value_at_quantile(0.99),
            p999: h.value_at_quantile(0.999),
            max: h.max(),
            count: h.len(),
        }
    }
}

const DIGITS: u8 = 2;
const LONGEST_US: u64 = 3_600_000_000;
