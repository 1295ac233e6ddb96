//! The way of a result: from an item that ended to the sink, in the order that was asked for.

use tollgate_protocol::batch::{Mode, Number};

use super::{About, End, Run, bounded, start};
use crate::{
    batch::{
        Reply,
        ending::Ending,
        ledger::Times,
        order::{Held, Submission},
        outcome::{Failure, Head, Outcome, Sink},
    },
    metrics::duration::nanos,
};

impl Run {
    pub(super) fn finished(&mut self, about: About<'_>, end: End, sink: &mut impl Sink) {
        let About { seq, id, tenant, entry, payload_len: len, arrived } = about;
        let End { started, ended, attempts, outcome, panicked, reported } = end;
        let outcome = bounded(entry, outcome);
        // A success ends at its total, whatever the reader saw last.
        if reported
            && let Some(last) = self.shared.board.forget(id)
            && outcome.is_ok()
        {
            sink.progress(&last);
        }
        self.ledger.is_at(ended);
        let running = ended.saturating_duration_since(started);
        if self.engine.catalog.hooks().is_set() {
            let request = self.hook_request(entry, tenant, id, len);
            let result = outcome.as_ref().map(|r| r.payload().len());
            self.report(&request, result, running, panicked);
        }
        let ran = attempts > 0;
        let queued = started.saturating_duration_since(arrived);
        let times = Times { queued: nanos(queued), running: nanos(running) };
        let head = Head {
            id,
            tenant: self.terms.names_tenants.then(|| tenant.id().as_str()),
            attempts,
            queued_us: times.queued / 1_000,
            duration_us: times.running / 1_000,
            number: Number::default(),
        };
        let recipe = entry.label;
        if start::is_called(entry, len) && ran {
            self.ledger.started(recipe);
        }
        match &outcome {
            Ok(reply) => {
                entry.learn_result(reply.payload().len());
                let lens = (len, reply.payload().len());
                self.ledger.succeeded(tenant, recipe, lens, times);
            }
            Err(failure) => {
                let times = ran.then_some(times);
                self.item_failed(id, Some(tenant), Some(entry), len, failure, times);
            }
        }
        self.emit(seq, &head, outcome, sink);
    }

    /// An item ends that waited for its start.
    pub(super) fn never_ran(&mut self, about: About<'_>, failure: Failure, sink: &mut impl Sink) {
        let About { seq, id, tenant, entry, payload_len, arrived } = about;
        self.item_failed(id, Some(tenant), Some(entry), payload_len, &failure, None);
        let head = Head {
            id,
            tenant: self.terms.names_tenants.then(|| tenant.id().as_str()),
            attempts: 0,
            queued_us: nanos(self.now().saturating_duration_since(arrived)) / 1_000,
            duration_us: 0,
            number: Number::default(),
        };
        self.emit(seq, &head, Err(failure), sink);
    }

    /// Sends a result on its way, in the order that was asked for.
    pub(super) fn emit(
        &mut self,
        seq: u64,
        head: &Head<'_>,
        mut outcome: Outcome,
        sink: &mut impl Sink,
    ) {
        let Some(submission) = &mut self.submission else {
            self.deliver(head, outcome.as_mut().map_err(|f| &*f), sink);
            return;
        };
        let Head { id, attempts, queued_us, duration_us, number, .. } = *head;
        let tenant = head.tenant.map(Into::into);
        let held = Held { id, tenant, attempts, queued_us, duration_us, number, outcome };
        submission.put(seq, held);
        while let Some(mut held) = self.submission.as_mut().and_then(Submission::pop) {
            let head = Head {
                id: held.id,
                tenant: held.tenant.as_deref(),
                attempts: held.attempts,
                queued_us: held.queued_us,
                duration_us: held.duration_us,
                number: held.number,
            };
            self.deliver(&head, held.outcome.as_mut().map_err(|f| &*f), sink);
        }
    }

    /// Counts a result and hands it over.
    pub(super) fn deliver(
        &mut self,
        head: &Head<'_>,
        outcome: Result<&mut Reply, &Failure>,
        sink: &mut impl Sink,
    ) {
        let failed = match &outcome {
            Ok(reply) => {
                self.tally.item_succeeded(reply.payload().len());
                false
            }
            Err(failure) => {
                self.tally.item_failed(failure.code);
                true
            }
        };
        sink.result(head, outcome);
        if failed && self.terms.mode == Mode::FailFast && self.ending.is_none() {
            self.cancel_pending(Ending::FAIL_FAST, sink);
        }
    }
}
