//! Taking in a handful of items that are all one tenant's: charged together, offered one by one.
//!
//! The way into the engine for every door. What can not be taken now is left to the door, which
//! stops reading, or refuses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Code,
    batch::{Request, Scope},
};

use super::{
    outcome::{Failure, Sink},
    run::{Offered, Run, Whose},
};
use crate::tenancy::{Charged, Kind, PaceTicket, Policy, Quota, Refusal, Stop, Tenant};

/// What a client is told to wait when there is no room for its item, and no room to let it wait:
/// about the time in which room comes free.
const NO_ROOM_RETRY: Duration = Duration::from_millis(100);

/// What taking items needs of a batch, apart from the bytes they are borrowed from.
pub(crate) struct Lane<'a, S> {
    pub run: &'a mut Run,
    pub sink: &'a mut S,
    /// When the bytes came.
    pub arrived: Instant,
    /// Items at the front that were charged already.
    pub prepaid: &'a mut usize,
    /// The batch's place among those that wait for a rate, if it waits.
    pub ticket: Option<&'a mut PaceTicket>,
    /// Whether items may name their tenant: they are a gateway's.
    pub may_name: bool,
}

/// Why a handful was not taken whole.
pub(crate) enum Halt {
    /// A rate is used up, and the tenant's policy is to wait.
    Wait(Stop),
    /// There is no room to start or queue another item.
    Full,
    /// An id that does not rise.
    Order { id: u64, last: u64 },
}

/// Something that asks for an item to be run.
pub(crate) trait Asks<'a> {
    fn request(&self) -> &Request<'a>;
}

impl<'a> Asks<'a> for Request<'a> {
    fn request(&self) -> &Request<'a> {
        self
    }
}

impl<S: Sink> Lane<'_, S> {
    /// Takes items, from that at `taken` on, which it moves forward.
    pub(crate) fn take<'b>(
        &mut self,
        tenant: &Arc<Tenant>,
        items: &[impl Asks<'b>],
        taken: &mut usize,
    ) -> Option<Halt> {
        // Once a handful: what passed since the last one was waiting, for a rate or for room, and is
        // nobody's running time.
        let now = Instant::now();
        self.run.resumes(now);
        let payload_max = tenant.limit(Quota::PayloadBytes).get();
        // A payload over the quota is refused: it costs a request and no bytes.
        let weigh = |r: &Request<'_>| Some(r.payload.len() as u64).filter(|n| *n <= payload_max);
        while let Some(left) = items.get(*taken..).filter(|left| !left.is_empty()) {
            let mut stop = None;
            if *self.prepaid == 0 {
                let lens = left.iter().map(|item| weigh(item.request()).unwrap_or(0));
                let charged: Charged = match &mut self.ticket {
                    Some(ticket) => ticket.charge(now, lens),
                    None => tenant.charge(self.arrived, lens),
                };
                (*self.prepaid, stop) = (charged.admitted, charged.stop);
            }
            let paid = (*self.prepaid).min(left.len());
            let mut left = &left[..paid];
            while !left.is_empty() {
                let Lane { run, sink, arrived, .. } = self;
                let ran = run.run_alike(left, payload_max, tenant, *arrived, *sink);
                (*self.prepaid, *taken) = (*self.prepaid - ran, *taken + ran);
                left = &left[ran..];
                let Some((item, rest)) = left.split_first() else { break };
                left = rest;
                let r = item.request();
                if let Some(halt) = self.out_of_order(r) {
                    return Some(halt);
                }
                if self.run.ending().is_some() || self.sink.is_full() {
                    return None;
                }
                if let Some(refusal) = self.refusal(r, weigh(r).is_none(), payload_max) {
                    self.run.refuse(r.id, r.payload.len(), Whose::Of(tenant), &refusal, self.sink);
                } else if self.run.offer(r, tenant, self.arrived, self.sink) == Offered::Full {
                    return Some(Halt::Full);
                }
                *self.prepaid -= 1;
                *taken += 1;
            }
            let Some(stop) = stop else { continue };
            let Some(item) = items.get(*taken) else { continue };
            if matches!(stop.kind, Kind::Wait(_)) && tenant.policy() == Policy::Pace {
                return Some(self.out_of_order(item.request()).unwrap_or(Halt::Wait(stop)));
            }
            // The answer to one is that to those behind it that weigh as much: they are charged for
            // the same moment, in which nothing has left the window.
            let refusal = Failure::rate(&stop);
            let weight = weigh(item.request());
            for item in &items[*taken..] {
                let r = item.request();
                if weigh(r) != weight {
                    break;
                }
                if let Some(halt) = self.out_of_order(r) {
                    return Some(halt);
                }
                if self.run.ending().is_some() || self.sink.is_full() {
                    return None;
                }
                self.run.refuse(r.id, r.payload.len(), Whose::Of(tenant), &refusal, self.sink);
                *taken += 1;
            }
        }
        None
    }

    /// An id that does not rise.
    pub(crate) fn out_of_order(&self, r: &Request<'_>) -> Option<Halt> {
        let last = self.run.last_id().filter(|last| r.id <= *last)?;
        Some(Halt::Order { id: r.id, last })
    }

    /// What stands against one item that is charged alone, and never waits.
    pub(crate) fn charge_one(&self, tenant: &Arc<Tenant>, r: &Request<'_>) -> Option<Failure> {
        let payload_max = tenant.limit(Quota::PayloadBytes).get();
        let len = r.payload.len() as u64;
        let too_large = len > payload_max;
        let weight = if too_large { 0 } else { len };
        let charged = tenant.charge(self.arrived, std::iter::once(weight));
        match charged.stop {
            Some(stop) => Some(Failure::rate(&stop)),
            None => self.refusal(r, too_large, payload_max),
        }
    }

    /// What stands against an item that was charged.
    fn refusal(&self, r: &Request<'_>, too_large: bool, payload_max: u64) -> Option<Failure> {
        if r.tenant.is_some() && !self.may_name {
            return Some(Failure::only_gateways());
        }
        too_large.then(|| {
            let refusal = Refusal {
                quota: Quota::PayloadBytes,
                scope: Scope::Tenant,
                current: r.payload.len() as u64,
                limit: payload_max,
            };
            Failure::over(refusal, "the payload is larger than the tenant may send")
        })
    }
}

impl Failure {
    /// There is no room for an item, nor to let it wait.
    pub(crate) fn no_room() -> Failure {
        let message = "too many items of the tenant are in flight, and too many streams are held";
        Failure {
            retry_after: Some(NO_ROOM_RETRY),
            ..Failure::never_started(Code::Overloaded, message)
        }
    }

    /// Somebody who is no gateway named a tenant.
    pub(crate) fn only_gateways() -> Failure {
        Failure::new(
            Code::Forbidden,
            "the credential says for which tenant this is: only gateways name one",
        )
    }

    /// An id that does not rise ends its batch.
    pub(crate) fn order(id: u64, last: u64) -> Failure {
        let message = format!("item id {id} after {last}: ids rise strictly within a batch");
        Failure::validation("id", message).detail("id", id).detail("last_id", last)
    }
}
