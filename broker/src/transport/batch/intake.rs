//! Taking in what has arrived: decode a handful, charge it, offer it to the engine.
//!
//! A frame is consumed only once its item was taken: what can not be taken now stays where it is,
//! and QUIC's flow control holds the client back.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::Context as Poller,
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use tollgate_protocol::{
    ClientFrame, Code, DecodeError, FrameTooLarge, Run as Frames, Splitter,
    batch::{CancelScope, Request},
};

use super::{
    super::{connection::Caller, hold::Hold, output::FULL_BYTES, stream::too_large},
    Tenants,
    drive::{Drive, Input},
};
use crate::{
    batch::{Asks, Ending, Failure, HANDFUL, Halt, Lane, Offered, Sink, TURN, Whose, foreign},
    tenancy::{PaceTicket, Stop, Tenant},
};

/// A stream that waits for a rate.
pub(super) struct Pace {
    ticket: PaceTicket,
    since: Instant,
    _hold: Hold,
}

/// What follows the requests at the front of the input.
enum Next {
    /// Nothing that is whole yet, or more requests than fit a handful.
    Nothing,
    Seal(u64),
    Cancel(CancelScope),
    Detach,
    /// A frame that does not belong into a batch.
    Misplaced(&'static str),
    /// A request that stands alone with its fault.
    BadItem(u64, DecodeError),
    Malformed(DecodeError),
    TooLarge(FrameTooLarge),
}

impl Drive<'_> {
    /// Takes in up to a handful of items, when it is this stream's turn. True if there was anything
    /// to take.
    pub(super) fn take_in(&mut self, cx: &mut Poller<'_>) -> bool {
        if !self.can_take_in() {
            self.turn.give_up();
            return false;
        }
        if self.turn.poll(cx.waker()).is_pending() {
            return false;
        }
        let began = self.stream.arrived.max(self.run.now());
        let (mut taken, mut took) = (0, Duration::ZERO);
        while taken < HANDFUL && took < TURN && self.can_take_in() {
            if let Some(pace) = &mut self.pace
                && pin!(pace.ticket.turn()).poll(cx).is_pending()
            {
                break;
            }
            match self.take_handful() {
                0 => {
                    // The rate may have asked for a first, or another, wait: whoever asks for the turn
                    // is woken after it.
                    if let Some(pace) = &mut self.pace
                        && pin!(pace.ticket.turn()).poll(cx).is_ready()
                    {
                        cx.waker().wake_by_ref();
                    }
                    break;
                }
                n => taken += n,
            }
            took = self.run.now().saturating_duration_since(began);
        }
        let more = taken >= HANDFUL || took >= TURN;
        if self.turn.end(took, more, cx.waker()) {
            // Nobody else waits for a turn, but the endpoint and other tasks have theirs.
            cx.waker().wake_by_ref();
        }
        taken > 0
    }

    /// Whether bytes wait to be taken in, and may be.
    fn can_take_in(&self) -> bool {
        self.input != Input::Closed
            && self.stream.splitter.has_unread()
            && self.stream.output.len() < FULL_BYTES
    }

    /// Takes in what lies whole in one piece of memory. How many frames were consumed.
    fn take_handful(&mut self) -> usize {
        let mut items = ArrayVec::new();
        let (next, next_len) = look_ahead(&mut self.stream.splitter, &mut items);
        if self.sealed && !items.is_empty() && self.run.ending().is_none() {
            drop(items);
            self.fail(Failure::new(Code::InvalidAction, "a request after the seal"));
            return 0;
        }
        let mut taken = 0;
        let (mut wait, mut bad_order) = (None, None);
        if self.input == Input::Open {
            let all = items.len();
            let lane = Lane {
                run: &mut self.run,
                sink: &mut self.stream.output,
                arrived: self.stream.arrived,
                prepaid: &mut self.prepaid,
                ticket: self.pace.as_mut().map(|p| &mut p.ticket),
                may_name: matches!(self.peer.caller, Caller::Gateway(_)),
            };
            let mut mixed = Mixed { lane, peer: self.peer };
            let stop = match &self.tenants {
                Tenants::One(tenant) => match self.peer.caller {
                    Caller::Tenant(_) | Caller::Worker(_) => {
                        mixed.lane.take(tenant, &items, &mut taken)
                    }
                    Caller::Gateway(_) => mixed.take_for_gateway(tenant, &items, &mut taken),
                },
                Tenants::Each => mixed.take_for_each(&items, &mut taken),
            };
            match stop {
                None => debug_assert!(
                    taken == all || self.run.ending().is_some() || self.stream.output.is_full()
                ),
                Some(Halt::Wait(stop)) => wait = Some(Some(stop)),
                Some(Halt::Full) => wait = Some(None),
                Some(Halt::Order { id, last }) => bad_order = Some((id, last)),
            }
        } else {
            // The batch is ending: requests are dropped unread, control frames are heeded.
            taken = items.len();
        }
        let everything = taken == items.len();
        let first_left = items.get(taken).map(|item| (item.request.id, item.request.payload.len()));
        let bytes = items[..taken].iter().map(|item| item.wire_len).sum();
        drop(items);
        let mut consumed = taken;
        self.stream.splitter.consume(bytes);
        if taken > 0 {
            if self.is_held() {
                // Until now nothing was read: the client owed nothing.
                self.last_read = Instant::now();
            }
            self.held = None;
            self.unpace();
        }
        self.take_failed_fast();
        if let Some((id, last)) = bad_order {
            self.fail(Failure::order(id, last));
            return consumed;
        }
        if let (Some(stop), Some((id, len))) = (wait, first_left) {
            consumed += usize::from(self.wait_or_refuse(stop, id, len));
        }
        if everything && self.input != Input::Closed {
            consumed += usize::from(self.take_next(next, next_len));
        }
        consumed
    }

    /// The stream leaves the line of those that wait for a rate.
    fn unpace(&mut self) {
        if let Some(pace) = self.pace.take() {
            if let Tenants::One(tenant) = &self.tenants {
                self.run.throttled(tenant, pace.since.elapsed());
            }
            // What is charged next is charged now, not when its bytes came.
            self.stream.arrived = Instant::now();
        }
    }

    /// The item at the front can not be taken now: the stream is held, or, where the connection
    /// can not afford that, the item is refused. True if it was.
    fn wait_or_refuse(&mut self, stop: Option<Stop>, id: u64, payload_len: usize) -> bool {
        if self.is_held() {
            return false;
        }
        let hold = self.peer.holds.try_hold();
        match (stop, &self.tenants, hold) {
            (None, _, Some(hold)) => self.held = Some(hold),
            (Some(stop), Tenants::One(tenant), Some(hold)) => {
                let since = Instant::now();
                self.pace = Some(Pace { ticket: tenant.begin_wait(), since, _hold: hold });
                self.stream.output.throttled(since, &stop);
            }
            (stop, _, _) => {
                if stop.is_none() {
                    // No room, but it was charged already.
                    self.prepaid = self.prepaid.saturating_sub(1);
                }
                let failure = stop.map_or_else(Failure::no_room, |stop| Failure::rate(&stop));
                self.refuse_front(id, payload_len, &failure);
                return true;
            }
        }
        false
    }

    /// Refuses the item at the front of the input and consumes it.
    fn refuse_front(&mut self, id: u64, payload_len: usize, failure: &Failure) {
        let whose = self.tenants.whose();
        self.run.refuse(id, payload_len, whose, failure, &mut self.stream.output);
        self.stream.splitter.advance();
        self.take_failed_fast();
    }

    /// Heeds what follows the requests. True if it was consumed.
    fn take_next(&mut self, next: Next, len: usize) -> bool {
        match next {
            Next::Nothing => return false,
            Next::Seal(items) if self.run.ending().is_none() => self.seal(items),
            Next::Seal(_) => {}
            Next::Cancel(scope) => self.cancel(scope == CancelScope::All, Ending::CANCELLED),
            Next::Detach if self.sealed => self.detached = true,
            Next::Detach => {
                let message = "a batch is detached from once it is sealed";
                self.fail(Failure::new(Code::InvalidAction, message));
            }
            Next::Misplaced(name) => {
                let message = format!("{name} does not belong into a batch");
                self.fail(Failure::new(Code::InvalidAction, message));
            }
            Next::BadItem(id, e) => self.bad_item(id, e),
            Next::Malformed(e) => self.fail(e.into()),
            Next::TooLarge(e) => self.fail(too_large(e)),
        }
        self.stream.splitter.consume(len);
        true
    }

    fn bad_item(&mut self, id: u64, e: DecodeError) {
        if self.sealed && self.run.ending().is_none() {
            self.fail(Failure::new(Code::InvalidAction, "a request after the seal"));
        }
        if self.input != Input::Open {
            return;
        }
        match self.run.last_id() {
            Some(last) if id <= last => {
                let message = format!("item id {id} after {last}: ids rise strictly");
                self.fail(Failure::validation("id", message));
            }
            _ => {
                let failure = Failure { side_effect_free: true, ..e.into() };
                let whose = self.tenants.whose();
                self.run.refuse(id, 0, whose, &failure, &mut self.stream.output);
                self.take_failed_fast();
            }
        }
    }

    fn seal(&mut self, items: u64) {
        if self.sealed {
            self.fail(Failure::new(Code::InvalidAction, "the batch is sealed already"));
        } else if items == self.run.read() {
            self.sealed = true;
            self.run.seal_jobs();
            self.input = Input::Control;
        } else {
            let message = format!("the seal says {items} items, {} came", self.run.read());
            self.fail(Failure::validation("items", message).detail("read", self.run.read()));
        }
    }
}

/// Decodes the requests that lie whole at the front into `items` (filled in place: it is large),
/// and what follows them, with its length.
fn look_ahead<'a>(
    splitter: &'a mut Splitter,
    items: &mut ArrayVec<Ahead<'a>, HANDFUL>,
) -> (Next, usize) {
    let frames = match splitter.ready() {
        Ok(frames) => frames,
        Err(e) => return (Next::TooLarge(e), 0),
    };
    let mut recipe = "";
    for frame in frames {
        let wire_len = Frames::wire_len(frame);
        let next = match ClientFrame::decode_next(frame, recipe) {
            Ok(ClientFrame::Request(request)) => {
                recipe = request.recipe;
                items.push(Ahead { request, wire_len });
                if items.is_full() {
                    break;
                }
                continue;
            }
            Ok(ClientFrame::Seal { items }) => Next::Seal(items),
            Ok(ClientFrame::Cancel(scope)) => Next::Cancel(scope),
            Ok(ClientFrame::Detach) => Next::Detach,
            Ok(other) => Next::Misplaced(other.name()),
            Err(e) => match e.item {
                Some(id) if e.is_out_of_bounds() => Next::BadItem(id, e),
                _ => Next::Malformed(e),
            },
        };
        return (next, wire_len);
    }
    (Next::Nothing, 0)
}

/// A request that lies whole in memory, and what it takes on the wire.
struct Ahead<'a> {
    request: Request<'a>,
    wire_len: usize,
}

impl<'a> Asks<'a> for Ahead<'a> {
    fn request(&self) -> &Request<'a> {
        &self.request
    }
}

/// A gateway's lane: its items may be several tenants'.
struct Mixed<'a, S> {
    lane: Lane<'a, S>,
    peer: &'a super::Peer,
}

impl<S: Sink> Mixed<'_, S> {
    /// Items of a gateway that named a tenant for the batch: those that name their own are that
    /// tenant's, and never waited for.
    fn take_for_gateway(
        &mut self,
        tenant: &Arc<Tenant>,
        items: &[Ahead<'_>],
        taken: &mut usize,
    ) -> Option<Halt> {
        while let Some(left) = items.get(*taken..).filter(|left| !left.is_empty()) {
            let named = |item: &Ahead<'_>| item.request.tenant.is_some();
            let same = left.iter().take_while(|item| named(item) == named(&left[0])).count();
            let end = *taken + same;
            let halt = if named(&left[0]) {
                self.take_for_each(&items[..end], taken)
            } else {
                self.lane.take(tenant, &items[..end], taken)
            };
            if halt.is_some() || *taken < end {
                return halt;
            }
        }
        None
    }

    /// Items of a gateway that each name their tenant: charged one by one, never paced.
    fn take_for_each(&mut self, items: &[Ahead<'_>], taken: &mut usize) -> Option<Halt> {
        self.lane.run.resumes(Instant::now());
        for item in items.get(*taken..).unwrap_or_default() {
            let r = &item.request;
            if let Some(halt) = self.lane.out_of_order(r) {
                return Some(halt);
            }
            if self.lane.run.ending().is_some() || self.lane.sink.is_full() {
                return None;
            }
            let tenant = match (&self.peer.caller, r.tenant) {
                (Caller::Gateway(gateway), Some(id)) => self.peer.tenant_of(gateway, id),
                _ => None,
            };
            let refusal = match &tenant {
                None if r.tenant.is_none() => Some(Failure::validation(
                    "tenant",
                    "neither the batch nor the item names a tenant",
                )),
                None => Some(foreign()),
                Some(tenant) => self.lane.charge_one(tenant, r),
            };
            let Lane { run, sink, arrived, .. } = &mut self.lane;
            match (refusal, tenant) {
                (None, Some(tenant)) => {
                    // Waiting for one tenant would make the others wait: no room is a refusal.
                    if run.offer(r, &tenant, *arrived, *sink) == Offered::Full {
                        run.forget_room();
                        let whose = Whose::Of(&tenant);
                        run.refuse(r.id, r.payload.len(), whose, &Failure::no_room(), *sink);
                    }
                }
                (refusal, tenant) => {
                    let refusal = refusal.unwrap_or_else(foreign);
                    let whose = tenant.as_ref().map_or(Whose::Named(r.tenant), Whose::Of);
                    run.refuse(r.id, r.payload.len(), whose, &refusal, *sink);
                }
            }
            *taken += 1;
        }
        None
    }
}
