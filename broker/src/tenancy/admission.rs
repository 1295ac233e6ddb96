//! Charging a tenant's rates: a handful at a time, under one leaf lock.
//!
//! Nothing waits here; who must wait takes a ticket in `pace`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{Code, batch::Scope};

use super::{permit::Refusal, quotas::Quota, tenant::Tenant};
use crate::rules::quota::{self, Cost, Kind, Load};

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
    /// The code of an answer that says so: `RATE_LIMITED` when waiting helps.
    pub fn code(&self) -> Code {
        match self.kind {
            Kind::Never => Code::QuotaExceeded,
            Kind::Wait(_) => Code::RateLimited,
        }
    }

    /// The same, without the time.
    pub fn refusal(&self) -> Refusal {
        let Stop { quota, current, limit, .. } = *self;
        Refusal { quota, scope: Scope::Tenant, current, limit }
    }

    /// After how long it fits. `None` when it never does.
    pub fn wait(&self) -> Option<Duration> {
        match self.kind {
            Kind::Never => None,
            Kind::Wait(d) => Some(d),
        }
    }

    /// After how many whole milliseconds it fits: rounded up, so that who comes back then is not
    /// too early. `None` when it never does.
    pub fn wait_ms(&self) -> Option<u64> {
        let ms = self.wait()?.as_nanos().div_ceil(NS_PER_MS);
        Some(u64::try_from(ms).unwrap_or(u64::MAX))
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
    /// How many items, or messages, were admitted, from the first on.
    pub admitted: usize,
    /// Why not all. With [`Kind::Never`] it is the next that fails with `QUOTA_EXCEEDED`; those
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
    pub fn charge(
        self: &Arc<Self>,
        now: Instant,
        lens: impl Iterator<Item = u64> + Clone,
    ) -> Charged {
        let metered = &self.counted().metered;
        metered.charge(self.at(now), Load::Items, lens.map(Cost::one)).into()
    }

    /// Charges messages that a client produces, as [`charge`](Tenant::charge) does items. A cost is
    /// a message, or several that are taken together or not at all.
    pub fn charge_messages(
        self: &Arc<Self>,
        now: Instant,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        self.counted().metered.charge(self.at(now), Load::Produced, costs).into()
    }

    /// Charges messages that are about to be given to a consumer: always paced, whatever the
    /// policy.
    pub fn deliver_messages(
        self: &Arc<Self>,
        now: Instant,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        self.counted().metered.charge(self.at(now), Load::Consumed, costs).into()
    }

    /// Takes up to `want` bytes of payload to give out: how many now, and why not all. Always
    /// paced, whatever the policy.
    pub fn take_out(self: &Arc<Self>, now: Instant, want: u64) -> (u64, Option<Stop>) {
        let (granted, stop) = self.counted().metered.take_out(self.at(now), want);
        (granted, stop.map(Stop::from))
    }
}

const NS_PER_MS: u128 = 1_000_000;
