//! Charging a tenant's rates: a handful at a time, under one leaf lock.
//!
//! Nothing waits here; who must wait takes a ticket in `pace`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{quotas::Quota, tenant::Tenant};
use crate::rules::quota::{self, Kind, Turn};

/// The first charge that did not fit. Nothing of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The rate it exceeds; the one to wait longest for when there are two.
    pub quota: Quota,
    /// What the window holds, in the quota's unit.
    pub current: u64,
    /// What the window may hold, in the quota's unit.
    pub limit: u64,
    /// Whether waiting helps, and for how long.
    pub kind: Kind,
}

impl Stop {
    /// After how many whole milliseconds it fits: rounded up, so that who comes back then is not
    /// too early. `None` when it never does.
    pub fn wait_ms(&self) -> Option<u64> {
        match self.kind {
            Kind::Never => None,
            Kind::Wait(d) => {
                Some(u64::try_from(d.as_nanos().div_ceil(NS_PER_MS)).unwrap_or(u64::MAX))
            }
        }
    }

    pub(super) fn wait(&self) -> Option<Duration> {
        match self.kind {
            Kind::Never => None,
            Kind::Wait(d) => Some(d),
        }
    }
}

impl From<quota::Stop> for Stop {
    fn from(s: quota::Stop) -> Stop {
        Stop { quota: s.rate.into(), current: s.current, limit: s.limit, kind: s.kind }
    }
}

/// What became of a handful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// How many items were admitted, from the first on.
    pub admitted: usize,
    /// Why not all. With [`Kind::Never`] it is the next item that fails with `QUOTA_EXCEEDED`; those
    /// behind it may still be charged.
    pub stop: Option<Stop>,
}

impl From<quota::Charged> for Charged {
    fn from(c: quota::Charged) -> Charged {
        Charged { admitted: c.admitted, stop: c.stop.map(Stop::from) }
    }
}

impl Tenant {
    /// Charges a handful of items, one length of payload (in bytes) each, up to the first that
    /// does not fit: one request and its bytes each, taken together or not at all.
    ///
    /// Under `pace`, nothing is admitted while others wait: take a ticket ([`Tenant::begin_wait`]).
    /// Under `reject`, the stop says when to come back. `lens` runs under the tenant's lock and
    /// must not call the tenant.
    pub fn charge(&self, now: Instant, lens: impl Iterator<Item = u64>) -> Charged {
        let now = self.at(now);
        let mut meters = self.meters();
        let turn = if meters.line_in.is_empty() { Turn::Own } else { Turn::Behind };
        meters.rates.charge(now, turn, lens).into()
    }

    /// Takes up to `want` bytes of payload to give out: how many now, and why not all. Always
    /// paced, whatever the policy. Nothing is granted while others wait: take a ticket
    /// ([`Tenant::begin_wait_out`]).
    pub fn take_out(self: &Arc<Self>, now: Instant, want: u64) -> (u64, Option<Stop>) {
        let now = self.at(now);
        let mut meters = self.meters();
        let turn = if meters.line_out.is_empty() { Turn::Own } else { Turn::Behind };
        let (granted, stop) = meters.rates.take_out(now, turn, want);
        (granted, stop.map(Stop::from))
    }
}

const NS_PER_MS: u128 = 1_000_000;
