//! Starting an item that may wait: its own copy of the payload, its permits, its first poll.

use std::{
    sync::Arc,
    task::{Context as Poller, Poll, Waker},
    time::{Duration, Instant},
};

use arrayvec::ArrayVec;
use bytes::Bytes;
use tollgate_protocol::{PairsBuf, batch::Request};

use super::{Claim, End, Item, Offered, Pending, Run, Slot, Waiting};
use crate::{
    batch::{
        Context,
        catalog::{Entry, Handler},
        context::Room,
        outcome::Sink,
        pending::Work,
        pool,
    },
    tenancy::{BytesPermit, Tenant},
};

impl Run {
    /// Starts an item, or puts it in line, or says that there is no room for it.
    pub(super) fn start(
        &mut self,
        request: &Request<'_>,
        entry: &Arc<Entry>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
        sink: &mut impl Sink,
    ) -> Offered {
        if entry.handler.remote().is_some() {
            return self.send_one(request, entry, tenant, arrived);
        }
        if self.room_to_wait() == 0 {
            return Offered::Full;
        }
        let bytes = self.reserve(tenant, request.payload.len(), entry.result_reserve());
        let Some(bytes) = bytes else { return Offered::Full };
        let slot = self.slot(tenant, entry);
        let seq = self.tally.read;
        self.tally.item_read(request.id, request.payload.len());
        let item = Item {
            seq,
            id: request.id,
            tenant: tenant.clone(),
            entry: entry.clone(),
            payload_len: request.payload.len(),
            timeout: timeout(request, entry),
            queue_timeout: entry.spec.queue_timeout,
            arrived,
        };
        let payload = Bytes::copy_from_slice(request.payload);
        let metadata = (!request.metadata.is_empty()).then(|| Arc::new(request.metadata.to_buf()));
        match slot {
            Some(slot) => self.run(item, payload, metadata, (slot, bytes), sink),
            None => {
                let w = Waiting { item, payload, metadata, bytes, place: None, give_up: None };
                self.waiting.insert(seq, w);
                self.unplaced.push_back(seq);
                self.place_waiting();
            }
        }
        Offered::Taken
    }

    /// A slot for an item that starts now, if it can.
    fn slot(&self, tenant: &Tenant, entry: &Entry) -> Option<Slot> {
        if self.own_room() == 0 || !self.waiting.is_empty() {
            return None;
        }
        self.engine.slots.try_take(self.claim(tenant, entry))
    }

    /// How many more items may wait here.
    pub(super) fn room_to_wait(&self) -> usize {
        let waiting = self.waiting.len() + self.away.unsent();
        self.engine.config.waiting_items_max.saturating_sub(waiting)
    }

    /// How many more the batch's own bound lets run, or stand in line to run.
    pub(super) fn own_room(&self) -> usize {
        let placed = self.waiting.len() - self.unplaced.len();
        let taken = self.pending.len() + self.away.len() + placed;
        (self.terms.concurrency_max as usize).saturating_sub(taken)
    }

    /// Puts waiting items in line for slots, or hands them over, as far as the batch's own bound
    /// and the room elsewhere allow; the oldest first.
    pub(super) fn place_waiting(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.clock.read();
            self.held_until = self.now();
        }
        // What nobody has room for holds up nothing else.
        let mut denied = ArrayVec::<_, DENIED_MAX>::new();
        while self.own_room() > 0 {
            let here = self.unplaced.front().copied();
            let away = self.away.next(&denied).filter(|_| !denied.is_full());
            match (here, away.map(|(at, next)| (at, next.task.seq, next.task.common.clone()))) {
                (None, None) => return,
                (Some(here), Some((at, seq, common))) if seq < here => {
                    denied.extend(self.send_waiting(common, at));
                }
                (Some(here), _) => self.place(here),
                (None, Some((at, _, common))) => denied.extend(self.send_waiting(common, at)),
            }
        }
        self.is_held = true;
    }

    /// Puts the next waiting item in line for a slot.
    fn place(&mut self, seq: u64) {
        self.unplaced.pop_front();
        // Those that gave up meanwhile are not there any more.
        let Some(w) = self.waiting.get(&seq) else { return };
        let claim = self.claim(&w.item.tenant, &w.item.entry);
        let place = self.engine.slots.wait(claim, seq, &self.mailbox);
        let give_up = w.item.arrived.max(self.held_until) + w.item.queue_timeout;
        if let Some(w) = self.waiting.get_mut(&seq) {
            (w.place, w.give_up) = (Some(place), Some(give_up));
        }
        self.is_due(give_up);
    }

    pub(super) fn claim(&self, tenant: &Tenant, entry: &Entry) -> Claim {
        let settings = tenant.settings();
        Claim {
            tenant: tenant.index(),
            tenant_max: settings.concurrency,
            weight: settings.weight,
            recipe: entry.index,
            recipe_max: entry.spec.concurrency_max,
            group: entry.group,
            priority: self.terms.priority,
        }
    }

    /// Room for an item's payload and its result among its tenant's bytes in flight; without it, the
    /// batch waits for it.
    pub(super) fn reserve(
        &mut self,
        tenant: &Arc<Tenant>,
        payload: usize,
        result: usize,
    ) -> Option<BytesPermit> {
        // What it waited for is enough, though results have turned out larger meanwhile; and if it is
        // not, it is given back: who holds some and waits for more may wait for another that does so.
        let least = payload + result.min(RESULT_BYTES_LEAST);
        if let Some(spare) = self.spare.take().filter(|s| s.covers(tenant, least)) {
            return Some(spare);
        }
        let bytes = payload + result;
        let permit = tenant.reserve_bytes(bytes);
        if permit.is_none() && self.room.is_none() {
            let tenant = tenant.clone();
            self.room = Some(Box::pin(async move { tenant.reserve_bytes_wait(bytes).await }));
        }
        permit
    }

    /// The item that the batch waits for room for was refused, or is not started any more.
    pub(crate) fn forget_room(&mut self) {
        (self.room, self.spare) = (None, None);
    }

    /// Starts an item that has its slot now. True if there was one.
    pub(super) fn start_granted(&mut self, seq: u64, sink: &mut impl Sink) -> bool {
        let Some(w) = self.waiting.remove(&seq) else { return false };
        // Only an item with a place is granted a slot.
        let Some(place) = w.place else { return false };
        let slot = place.redeem();
        self.clock.read();
        self.run(w.item, w.payload, w.metadata, (slot, w.bytes), sink);
        true
    }

    fn run(
        &mut self,
        item: Item,
        payload: Bytes,
        metadata: Option<Arc<PairsBuf>>,
        permits: (Slot, BytesPermit),
        sink: &mut impl Sink,
    ) {
        self.started = true;
        self.shared.board.begin(item.id);
        let entry = item.entry.clone();
        let started = self.now().max(item.arrived);
        let on_pool = on_pool(&entry, payload.len());
        if !on_pool {
            // The pool may be full: then it never starts.
            self.ledger.started(entry.label);
        }
        let cancel = if on_pool {
            // The pool's thread can not be dropped: it must be told, item by item.
            self.shared.cancel.child_token()
        } else {
            self.shared.cancel.clone()
        };
        // Whatever ends the item first is what it may know.
        let timeout = started + item.timeout;
        let deadline = self.terms.deadline.map_or(timeout, |of_batch| timeout.min(of_batch));
        let ctx = Context {
            shared: self.shared.clone(),
            tenant: item.tenant.id().clone(),
            recipe: entry.name.clone(),
            item_id: item.id,
            attempt: 1,
            deadline: Some(deadline),
            cancel: cancel.clone(),
            metadata,
            room: Some(Room {
                tenant: item.tenant.clone(),
                held: permits.1.amount().saturating_sub(payload.len()),
            }),
        };
        if self.engine.catalog.hooks().is_set() {
            let request = self.hook_request(&entry, &item.tenant, item.id, payload.len());
            self.engine.catalog.hooks().on_start(&request);
        }
        let turn = self.pool_turn(&item.tenant);
        let pool = &self.engine.pool;
        let mut work = match &entry.handler {
            Handler::Recipe(recipe) if !on_pool && entry.checks_on_pool(payload.len()) => {
                let checked = pool.check(turn, entry.clone(), payload.clone());
                let recipe = recipe.clone();
                Work::Checked(Box::pin(async move {
                    checked.await?;
                    recipe.start(ctx, payload).await.map_err(pool::RunError::Failed)
                }))
            }
            Handler::Recipe(recipe) if !on_pool => Work::Recipe(recipe.clone().start(ctx, payload)),
            _ => {
                let running = pool.run(turn, entry.clone(), ctx, payload, item.timeout);
                Work::Call(Box::pin(running))
            }
        };
        // Most recipes that may wait do not: polled once here, they cost no timer and no place in
        // the set. A pending one is polled again by the set, with the set's own waker.
        match work.poll(&entry, &mut Poller::from_waker(Waker::noop())) {
            Poll::Ready((outcome, panicked)) => {
                drop(permits);
                self.clock.read();
                // A pool that is full never runs it.
                let attempts = u32::from(!on_pool);
                let ended = self.now();
                let end = End { started, ended, attempts, outcome, panicked, reported: true };
                self.finished(item.about(), end, sink);
            }
            Poll::Pending => {
                // Only an item that stays alone cancels its own token; see `Pending::give_up`.
                let cancel = if on_pool { cancel } else { cancel.child_token() };
                let permits = (Some(permits.0), permits.1);
                self.wait_for(Pending::new(item, started, work, Some(cancel), permits));
            }
        }
    }

    pub(super) fn pool_turn(&self, tenant: &Tenant) -> pool::Turn {
        let priority = self.terms.priority;
        pool::Turn { tenant: tenant.index(), weight: tenant.weight(), priority }
    }
}

/// How long an attempt of an item may run.
pub(super) fn timeout(request: &Request<'_>, entry: &Entry) -> Duration {
    request.timeout_ms.map_or(entry.timeout, |ms| entry.timeout.min(Duration::from_millis(ms)))
}

/// Whether an item is queued for its start, and counted as started only once that is known.
pub(super) fn is_called(entry: &Entry, payload_len: usize) -> bool {
    entry.handler.remote().is_some() || on_pool(entry, payload_len)
}

/// Whether an item runs on the pool of blocking threads from start to end: it blocks, or it answers
/// at once but its payload takes long to check.
pub(crate) fn on_pool(entry: &Entry, payload_len: usize) -> bool {
    let inline = matches!(entry.handler, Handler::Inline(_));
    entry.runs_on_pool(payload_len) || (inline && entry.checks_on_pool(payload_len))
}

/// What a result is given room for at least.
const RESULT_BYTES_LEAST: usize = 1 << 10;

/// Recipes, or tenants, of a batch that may have no room before the others have to wait as well.
const DENIED_MAX: usize = 16;
