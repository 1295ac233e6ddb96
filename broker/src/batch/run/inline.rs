//! Running an item at once, on the stream's own task.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Code,
    batch::{Number, Request},
};

use super::{Run, bounded};
use crate::{
    batch::{
        Asks, Error, Inline, InlineContext, Reply,
        catalog::{Entry, Handler},
        context::Due,
        hooks::{HookOutcome, HookRequest},
        ledger::Times,
        outcome::{Failure, Head, Sink},
        pending::panic_message,
    },
    tenancy::Tenant,
};

/// An item that has run.
struct Ended {
    id: u64,
    seq: u64,
    payload_len: usize,
    times: Times,
}

impl Ended {
    #[inline]
    fn head<'a>(&self, tenant: Option<&'a str>) -> Head<'a> {
        Head {
            id: self.id,
            tenant,
            attempts: 1,
            queued_us: self.times.queued / 1_000,
            duration_us: self.times.running / 1_000,
            number: Number::default(),
        }
    }
}

impl Run {
    /// Runs items, or hands them over, from the first on, that ask for the recipe of the item before
    /// and for nothing else, while all that is known of it holds: what most items do. How many there
    /// were; the next one, if any is left, is to be judged by itself and [offered](Self::offer).
    pub(crate) fn run_alike<'b>(
        &mut self,
        items: &[impl Asks<'b>],
        payload_max: u64,
        tenant: &Arc<Tenant>,
        arrived: Instant,
        sink: &mut impl Sink,
    ) -> usize {
        let Some(entry) = self.cached.clone() else { return 0 };
        let asks_more = !self.cached_alike || self.terms.names_tenants;
        if asks_more || !self.is_cached_of(tenant) || self.ending.is_some() {
            return 0;
        }
        let payload_max = payload_max.min(entry.spec.payload_bytes_max as u64);
        let room = self.terms.items_max.saturating_sub(self.tally.read);
        let items = &items[..items.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        let mut named = entry.name.as_str();
        let mut last = self.tally.last_id;
        let mut is_alike = |r: &Request<'b>| {
            // The same bytes, mostly, as those of the item before.
            let alike = std::ptr::eq(r.recipe, named) || r.recipe == named;
            let rises = last.is_none_or(|last| r.id > last);
            (named, last) = (r.recipe, Some(r.id));
            alike && r.is_bare() && rises && r.payload.len() as u64 <= payload_max
        };
        match &entry.handler {
            Handler::Inline(run) => {
                let arrived = self.clock.of(arrived);
                let mut ran = 0;
                for item in items {
                    let r = item.request();
                    if !is_alike(r) || sink.is_full() || self.ending.is_some() {
                        break;
                    }
                    self.run_one(&**run, &entry, r, tenant, arrived, sink);
                    ran += 1;
                }
                ran
            }
            Handler::Remote(_) => {
                let alike = items.iter().take_while(|item| is_alike(item.request())).count();
                self.send_alike(&items[..alike], &entry, tenant, arrived)
            }
            Handler::Recipe(_) => 0,
        }
    }

    /// Runs one item; `arrived` is what the batch's clock says of that.
    #[inline(always)]
    pub(super) fn run_one(
        &mut self,
        run: &dyn Inline,
        entry: &Arc<Entry>,
        request: &Request<'_>,
        tenant: &Arc<Tenant>,
        arrived: u64,
        sink: &mut impl Sink,
    ) {
        let seq = self.tally.read;
        let len = request.payload.len();
        self.tally.item_read(request.id, len);
        // One item's end is the next one's start: one reading of the clock an item.
        let started = self.clock.newest().max(arrived);
        let timeout = super::start::timeout(request, entry);
        let ctx = InlineContext {
            shared: &self.shared,
            tenant: tenant.id(),
            recipe: &entry.name,
            item_id: request.id,
            attempt: 1,
            due: Some(Due { from: self.clock.base(), passed_ns: started, more: timeout }),
            cancel: &self.shared.cancel,
            metadata: request.metadata,
        };
        let hooks = self.engine.catalog.hooks().is_set();
        if hooks {
            let request = self.hook_request(entry, tenant, request.id, len);
            self.engine.catalog.hooks().on_start(&request);
        }
        self.started = true;
        let reply = &mut self.reply;
        reply.reset();
        let ran = catch_unwind(AssertUnwindSafe(|| run.run(&ctx, request.payload, reply)));
        let times = Times {
            queued: started.saturating_sub(arrived),
            running: self.clock.count().saturating_sub(started),
        };
        let ended = Ended { id: request.id, seq, payload_len: len, times };
        let result_len = self.reply.payload().len();
        let well = matches!(ran, Ok(Ok(()))) && result_len <= entry.spec.result_bytes_max;
        if well && !hooks && self.submission.is_none() {
            self.ledger.ran(tenant, entry.label, (len, result_len), times);
            self.tally.item_succeeded(result_len);
            let named = self.terms.names_tenants.then(|| tenant.id().as_str());
            sink.result(&ended.head(named), Ok(&mut self.reply));
            return;
        }
        let reply = std::mem::take(&mut self.reply);
        self.ran_inline(entry, tenant, &ended, ran.map(|ran| ran.map(|()| reply)), sink);
    }

    /// What comes after an item that failed, that somebody watches, or whose result may have to wait
    /// for others.
    #[cold]
    fn ran_inline(
        &mut self,
        entry: &Arc<Entry>,
        tenant: &Arc<Tenant>,
        ended: &Ended,
        ran: std::thread::Result<Result<Reply, Error>>,
        sink: &mut impl Sink,
    ) {
        let idempotent = entry.spec.idempotent;
        let panicked = ran.is_err();
        let outcome = match ran {
            Ok(ran) => bounded(entry, ran.map_err(|e| Failure::recipe(e, idempotent))),
            Err(panic) => {
                let message = panic_message(&*panic);
                Err(Failure::interrupted(Code::Panic, message, idempotent))
            }
        };
        let Ended { id, seq, payload_len, times } = *ended;
        if self.engine.catalog.hooks().is_set() {
            let request = self.hook_request(entry, tenant, id, payload_len);
            let reported = outcome.as_ref().map(|reply| reply.payload().len());
            let running = Duration::from_nanos(times.running);
            self.report(&request, reported, running, panicked);
        }
        match &outcome {
            Ok(reply) => {
                let lens = (payload_len, reply.payload().len());
                self.ledger.ran(tenant, entry.label, lens, times);
            }
            Err(f) => {
                self.ledger.started(entry.label);
                self.item_failed(id, Some(tenant), Some(entry), payload_len, f, Some(times));
            }
        }
        let named = self.terms.names_tenants.then(|| tenant.id().as_str());
        self.emit(seq, &ended.head(named), outcome, sink);
    }

    pub(super) fn hook_request<'a>(
        &self,
        entry: &'a Arc<Entry>,
        tenant: &'a Arc<Tenant>,
        item_id: u64,
        payload_len: usize,
    ) -> HookRequest<'a> {
        HookRequest {
            tenant: tenant.id(),
            batch_id: self.shared.batch_id,
            item_id,
            recipe: &entry.name,
            attempt: 1,
            payload_len,
        }
    }

    /// Tells the hooks how an attempt ended.
    pub(super) fn report(
        &self,
        request: &HookRequest<'_>,
        outcome: Result<usize, &Failure>,
        running: Duration,
        panicked: bool,
    ) {
        let hooks = self.engine.catalog.hooks();
        let outcome = match outcome {
            Ok(result_len) => HookOutcome { code: Code::Ok, message: "", result_len },
            Err(f) => HookOutcome { code: f.code, message: &f.message, result_len: 0 },
        };
        if panicked {
            hooks.on_panic(request, outcome.message);
        }
        hooks.on_complete(request, &outcome, running);
    }
}
