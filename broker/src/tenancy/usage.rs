//! What a tenant uses, and whether the counts are true.

use std::{sync::atomic::Ordering, time::Instant};

use super::{permit::COUNTED, quotas::Quota, registry::Open, tenant::Tenant};
use crate::rules::quota::Rate;

/// What is used of one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLine {
    /// Which.
    pub quota: Quota,
    /// What is used now, in its unit. Rates: in the current window, and of `bytes_per_second` the
    /// larger of in and out. 0 for quotas on single things.
    pub current: u64,
    /// What is allowed; `None` when there is no bound.
    pub limit: Option<u64>,
}

impl UsageLine {
    /// How much of the limit is used, in per cent; 0 without a bound. Above 100 after a limit was
    /// lowered; 100 of a limit of 0 that is used at all.
    pub fn utilisation(&self) -> f64 {
        match self.limit {
            None => 0.0,
            Some(0) => {
                if self.current == 0 {
                    0.0
                } else {
                    100.0
                }
            }
            Some(limit) => self.current as f64 * 100.0 / limit as f64,
        }
    }
}

/// A count that is not what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub quota: Quota,
    /// What is counted.
    pub counted: u64,
    /// What there is.
    pub found: u64,
}

impl Tenant {
    /// What it uses of every quota, at `now`.
    pub fn usage(&self, now: Instant) -> Vec<UsageLine> {
        let record = self.record.load();
        Quota::ALL
            .iter()
            .map(|&quota| {
                let limit = match quota {
                    Quota::BytesPerSecond | Quota::RequestsPerSecond => {
                        match self.shape.limit(record.quotas.get(quota).get()) {
                            u64::MAX => None,
                            n => Some(n),
                        }
                    }
                    _ => record.quotas.get(quota).bound(),
                };
                UsageLine { quota, current: self.used(quota, now), limit }
            })
            .collect()
    }

    /// What it uses of one quota, at `now`.
    pub fn used(&self, quota: Quota, now: Instant) -> u64 {
        if let Some(count) = self.count(quota) {
            return count.load(Ordering::Acquire);
        }
        let now = self.at(now);
        let rates = &mut self.meters().rates;
        match quota {
            Quota::RequestsPerSecond => rates.used(now, Rate::Requests),
            Quota::BytesPerSecond => {
                rates.used(now, Rate::BytesIn).max(rates.used(now, Rate::BytesOut))
            }
            _ => 0,
        }
    }

    /// Items that run.
    pub fn items_running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }

    /// Bytes in flight that are reserved.
    pub fn bytes_in_flight(&self) -> usize {
        (self.in_flight_max as usize).saturating_sub(self.in_flight.available_permits())
    }

    /// Whether nothing of what ends is open: no connection, stream, batch, item or byte.
    pub fn is_idle(&self) -> bool {
        self.open().is_nothing()
    }

    /// What of it is open.
    pub fn open(&self) -> Open {
        let held = |quota| self.count(quota).map_or(0, |c| c.load(Ordering::Acquire));
        Open {
            connections: held(Quota::Connections),
            batches: held(Quota::BatchesInFlight),
            producers: held(Quota::Producers),
            consumers: held(Quota::Consumers),
            items: self.items_running().into(),
            bytes: self.bytes_in_flight() as u64,
        }
    }

    /// Compares the counts with the truth: `found` counts what exists, by looking at it. Returns
    /// what differs.
    ///
    /// A caller counts while the tenant goes on, so one difference may be what changed meanwhile;
    /// one that stays over two recounts of an unchanged count is a leak.
    pub fn recount(&self, mut found: impl FnMut(Quota) -> Option<u64>) -> Vec<Drift> {
        COUNTED
            .iter()
            .zip(&self.counts)
            .filter_map(|(&quota, count)| {
                let (counted, found) = (count.load(Ordering::Acquire), found(quota)?);
                (counted != found).then_some(Drift { quota, counted, found })
            })
            .collect()
    }
}
