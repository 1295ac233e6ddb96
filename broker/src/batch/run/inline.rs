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
        Inline, InlineContext,
        catalog::Entry,
        hooks::{HookOutcome, HookRequest},
        ledger::Times,
        outcome::{Failure, Head, Sink},
        pending::panic_message,
    },
    tenancy::Tenant,
};

impl Run {
    pub(super) fn run_inline(
        &mut self,
        run: &dyn Inline,
        entry: &Arc<Entry>,
        request: &Request<'_>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
        sink: &mut impl Sink,
    ) {
        let seq = self.tally.read;
        self.tally.item_read(request.id, request.payload.len());
        // One item's end is the next one's start: one reading of the clock an item.
        let started = self.now.max(arrived);
        let timeout = request
            .timeout_ms
            .map_or(entry.timeout, |ms| entry.timeout.min(Duration::from_millis(ms)));
        let ctx = InlineContext {
            shared: &self.shared,
            tenant: tenant.id(),
            recipe: &entry.name,
            item_id: request.id,
            attempt: 1,
            deadline: Some(started + timeout),
            cancel: &self.shared.cancel,
            metadata: request.metadata,
        };
        let hooks = self.engine.catalog.hooks().is_set();
        if hooks {
            let request = self.hook_request(entry, tenant, request.id, request.payload.len());
            self.engine.catalog.hooks().on_start(&request);
        }
        self.started = true;
        let mut reply = std::mem::take(&mut self.reply);
        reply.reset();
        let ran = catch_unwind(AssertUnwindSafe(|| run.run(&ctx, request.payload, &mut reply)));
        self.now = Instant::now();
        let duration = self.now.saturating_duration_since(started);
        let (failure, panicked) = match ran {
            Ok(Ok(())) if reply.payload().len() <= entry.spec.result_bytes_max => (None, false),
            Ok(Ok(())) => (bounded(entry, Ok(reply.clone())).err(), false),
            Ok(Err(e)) => (Some(Failure::recipe(e, entry.spec.idempotent)), false),
            Err(panic) => {
                let message = panic_message(&*panic);
                let idempotent = entry.spec.idempotent;
                (Some(Failure::interrupted(Code::Panic, message, idempotent)), true)
            }
        };
        if hooks {
            let request = self.hook_request(entry, tenant, request.id, request.payload.len());
            let reported = match &failure {
                None => Ok(reply.payload().len()),
                Some(f) => Err(f),
            };
            self.report(&request, reported, duration, panicked);
        }
        let queued = started.saturating_duration_since(arrived);
        let times = Times { queued, running: duration, now: self.now };
        let len = request.payload.len();
        self.ledger.started(entry.label);
        match &failure {
            None => {
                let lens = (len, reply.payload().len());
                self.ledger.succeeded(tenant, entry.label, lens, times);
            }
            Some(f) => {
                self.item_failed(request.id, Some(tenant), Some(entry), len, f, Some(times));
            }
        }
        let head = Head {
            id: request.id,
            tenant: self.terms.names_tenants.then(|| tenant.id().as_str()),
            attempts: 1,
            queued,
            duration,
            number: Number::default(),
        };
        if self.submission.is_none() {
            let outcome = match &failure {
                None => Ok(&mut reply),
                Some(f) => Err(f),
            };
            self.deliver(&head, outcome, sink);
            self.reply = reply;
        } else {
            let outcome = failure.map_or(Ok(reply), Err);
            self.emit(seq, &head, outcome, sink);
        }
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
