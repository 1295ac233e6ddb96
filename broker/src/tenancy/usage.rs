//! What a tenant uses of each of its quotas, and how close that is to the limit.

use std::{sync::atomic::Ordering, time::Instant};

use super::{
    alerts::{Alerts, Level},
    count::Count,
    quotas::Quota,
    registry::Open,
    tenant::Tenant,
};
use crate::rules::quota::Rate;

/// What is used of one quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageLine {
    /// Which.
    pub quota: Quota,
    /// What is used now, in its unit. Rates: in the current window, and the larger of in and out.
    /// 0 for quotas on single things.
    pub current: u64,
    /// What is allowed; `None` when there is no bound.
    pub limit: Option<u64>,
    /// How close that is.
    pub level: Level,
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

impl Tenant {
    /// What it uses of every quota, at `now`.
    pub fn usage(&self, now: Instant) -> Vec<UsageLine> {
        let levels = self.counted_yet().map_or(0, |c| c.levels.load(Ordering::Relaxed));
        let used = self.used_of_all(now);
        self.lines(used, levels, &self.common.alerts).collect()
    }

    /// A line for each quota, given what is used of each, and the levels that were last told.
    pub(super) fn lines<'a>(
        &'a self,
        used: [u64; Quota::ALL.len()],
        levels: u32,
        alerts: &'a Alerts,
    ) -> impl Iterator<Item = UsageLine> + 'a {
        let (record, shape) = (self.record.load(), self.common.shape);
        Quota::ALL.iter().zip(used).enumerate().map(move |(at, (&quota, current))| {
            let limit = record.quotas.get(quota);
            let limit = match quota {
                Quota::BytesPerSecond | Quota::MessagesPerSecond | Quota::RequestsPerSecond => {
                    Some(shape.limit(limit.get())).filter(|n| *n != u64::MAX)
                }
                _ => limit.bound(),
            };
            let level = alerts.next(Level::stored(levels, at), current, limit);
            UsageLine { quota, current, limit, level }
        })
    }

    /// What it uses of one quota, at `now`.
    pub fn used(&self, quota: Quota, now: Instant) -> u64 {
        let Some(counted) = self.counted_yet() else { return 0 };
        if let Some(count) = self.count_of(quota) {
            return count.now();
        }
        let now = self.at(now);
        let larger = |rates| counted.metered.used::<2>(now, rates).into_iter().max().unwrap_or(0);
        match quota {
            Quota::RequestsPerSecond => {
                let [used] = counted.metered.used(now, [Rate::Requests]);
                used
            }
            Quota::BytesPerSecond => larger([Rate::BytesIn, Rate::BytesOut]),
            Quota::MessagesPerSecond => larger([Rate::MessagesIn, Rate::MessagesOut]),
            _ => 0,
        }
    }

    /// What it uses of every quota, at `now`: one lock for all rates.
    pub(super) fn used_of_all(&self, now: Instant) -> [u64; Quota::ALL.len()] {
        let mut used = [0; Quota::ALL.len()];
        let Some(counted) = self.counted_yet() else { return used };
        let rates =
            [Rate::Requests, Rate::BytesIn, Rate::BytesOut, Rate::MessagesIn, Rate::MessagesOut];
        let [requests, bytes_in, bytes_out, messages_in, messages_out] =
            counted.metered.used(self.at(now), rates);
        for (used, quota) in used.iter_mut().zip(Quota::ALL) {
            *used = match quota {
                Quota::RequestsPerSecond => requests,
                Quota::BytesPerSecond => bytes_in.max(bytes_out),
                Quota::MessagesPerSecond => messages_in.max(messages_out),
                _ => self.count_of(*quota).map_or(0, Count::now),
            };
        }
        used
    }

    /// Bytes in flight that are reserved.
    pub fn bytes_in_flight(&self) -> usize {
        let Some(counted) = self.counted_yet() else { return 0 };
        let free = counted.in_flight.available_permits();
        (self.common.in_flight_max as usize).saturating_sub(free) + counted.beyond.bytes()
    }

    /// Whether nothing of what ends is open: no connection, stream, batch or item. Every item that
    /// runs or waits to run holds bytes in flight.
    pub fn is_idle(&self) -> bool {
        self.open().is_nothing()
    }

    /// What of it is open.
    pub fn open(&self) -> Open {
        let held = |quota| self.count_of(quota).map_or(0, Count::now);
        Open {
            connections: held(Quota::Connections),
            batches: held(Quota::BatchesInFlight),
            producers: held(Quota::Producers),
            consumers: held(Quota::Consumers),
            bytes: self.bytes_in_flight() as u64,
        }
    }
}
