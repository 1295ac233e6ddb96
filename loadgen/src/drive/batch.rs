//! One batch, from when it was due to its end: sent, read, judged and recorded.
//!
//! Sends and reads through the client crate's cheapest path, so that the generator is not what is
//! measured: small items are gathered from a borrowed payload, results are looked at in place.

use std::time::Instant;

use bytes::Bytes;
use futures::future::join;
use tokio::time::timeout;
use tollgate_client::{
    BatchError, BatchId, BatchSender, Code, Ended, EventRef, Request, Summary, Violation, wire,
};

use super::{NO_ANSWER, Source};
use crate::{
    check,
    plan::Plan,
    record::{Outcome, nanos},
    scenario::{Operation, Payload},
};

/// From here on a payload is handed over instead of copied.
const HAND_OVER_BYTES: usize = 4 << 10;

impl Source {
    /// Runs the batch of this number, and records it. True if it came to a regular end.
    pub(super) async fn batch(&self, number: u64, due: Instant, plan: &Plan) -> bool {
        let (_, items) = self.tenant.ids(number);
        let mut check = check::Batch::new(&self.tenant, &self.links.answers, number);
        let mut outcome =
            Outcome { item_ns: Vec::with_capacity(items as usize), ..Outcome::default() };
        let id = BatchId::random();
        if matches!(self.tenant.operation, Operation::Job { .. }) {
            self.durable().begins(id);
        }
        let exchange = self.exchange(number, id, due, &mut check, &mut outcome);
        let ended = timeout(plan.limit, exchange).await;
        outcome.latency = due.elapsed();
        match ended {
            Ok(Ok(Some(summary))) => self.summary(&summary, &mut check, &mut outcome),
            // The client crate shows the summary before it says that all went well.
            Ok(Ok(None)) => check.wrong.protocol += 1,
            Ok(Err(e)) => self.error(&e, &mut check, &mut outcome),
            Err(_) => outcome.errors.push((NO_ANSWER.into(), 1, false)),
        }
        if !outcome.complete {
            outcome.unanswered = check.unanswered();
        }
        outcome.succeeded = check.succeeded;
        outcome.wrong = check.wrong;
        for (number, n) in &check.failed {
            let code = Code::from_number(*number);
            let name = code.map_or_else(|| format!("CODE_{number}"), |c| c.name().into());
            outcome.errors.push((name, *n, self.allows(code)));
        }
        self.record(&outcome, plan.measured_in(due));
        if let Operation::Job { audit, .. } = self.tenant.operation {
            self.durable().ended(id, number, outcome.complete, audit, check);
        }
        outcome.complete
    }

    /// Where everything that came of an operation goes.
    pub(super) fn record(&self, outcome: &Outcome, slot: Option<usize>) {
        self.timeline.outcome(self.place, outcome);
        self.record.outcome(outcome, slot);
    }

    async fn exchange(
        &self,
        number: u64,
        id: BatchId,
        due: Instant,
        check: &mut check::Batch<'_>,
        outcome: &mut Outcome,
    ) -> Result<Option<Summary>, BatchError> {
        let clients = &self.links.clients;
        let mut builder = clients[(number % clients.len() as u64) as usize].batch().id(id);
        if let Some(priority) = self.tenant.priority {
            builder = builder.priority(priority);
        }
        if matches!(self.tenant.operation, Operation::Job { .. }) {
            builder = builder.durable();
        }
        let (mut sender, mut events) = builder.open().await?.split();
        let mut summary = None;
        let read = events.for_each(|event| match event {
            EventRef::Result(r) if check.result(&r) => {
                outcome.item_ns.push(nanos(due.elapsed()));
            }
            EventRef::JobAccepted(x) if check.accepted(x.id) => {
                outcome.accepted_ns.push(nanos(due.elapsed()));
            }
            EventRef::Throttled(_) => outcome.throttlings += 1,
            EventRef::Summary(s) => summary = Some(s.clone()),
            _ => {}
        });
        // Why the sender had to stop is what the events tell.
        let (read, _) = join(read, self.send(&mut sender, number)).await;
        read.map(|()| summary)
    }

    async fn send(&self, sender: &mut BatchSender, number: u64) -> Result<(), BatchError> {
        let (first, items) = self.tenant.ids(number);
        let mut scratch = Vec::new();
        for id in first..first + items {
            let (at, recipe) = self.tenant.recipe_of(id);
            let name = &self.links.recipes[at];
            let len = recipe.payload.len_of(id);
            match &recipe.payload {
                Payload::Bytes(_) if len >= HAND_OVER_BYTES => {
                    let mut payload = Vec::with_capacity(len);
                    self.links.answers.pattern.fill(id, len, &mut payload);
                    let request = Request::new(name.clone(), Bytes::from(payload));
                    sender.send(request.id(id)).await?;
                }
                Payload::Bytes(_) => {
                    self.links.answers.pattern.fill(id, len, &mut scratch);
                    sender.send_raw(&wire::Request::new(id, name, &scratch)).await?;
                }
                Payload::Text(text) if len >= HAND_OVER_BYTES => {
                    sender.send(Request::new(name.clone(), text.clone()).id(id)).await?;
                }
                Payload::Text(text) => {
                    sender.send_raw(&wire::Request::new(id, name, text)).await?;
                }
            }
        }
        sender.finish().await
    }

    fn summary(&self, s: &Summary, check: &mut check::Batch<'_>, outcome: &mut Outcome) {
        outcome.throttled = s.throttled;
        (outcome.bytes_in, outcome.bytes_out) = (s.bytes_in, s.bytes_out);
        if s.ended == Ended::Sealed {
            outcome.complete = true;
            check.complete();
            let agrees = s.total == check.answered && s.succeeded == check.succeeded;
            check.wrong.protocol += u64::from(!agrees);
        } else {
            outcome.errors.push((format!("BATCH_ENDED_{:?}", s.ended), 1, false));
        }
    }

    fn error(&self, e: &BatchError, check: &mut check::Batch<'_>, outcome: &mut Outcome) {
        match e {
            // The client crate stops at what it sees first, so it is seen only there.
            BatchError::Protocol(Violation::SecondResult(_)) => check.wrong.duplicate += 1,
            BatchError::Protocol(Violation::StrangeItem(_)) => check.wrong.foreign += 1,
            BatchError::Protocol(Violation::Summary { .. }) if check.unanswered() > 0 => {
                check.complete();
            }
            BatchError::Protocol(_) => check.wrong.protocol += 1,
            _ => {}
        }
        let name = match (e.code(), e) {
            (Some(code), _) => code.name(),
            (None, BatchError::Connect(_)) => "NOT_CONNECTED",
            (None, BatchError::Disconnected(_)) => "DISCONNECTED",
            (None, BatchError::Cut) => "CUT",
            (None, BatchError::Reset(_) | BatchError::Stopped(_)) => "RESET",
            (None, BatchError::Protocol(_)) => "PROTOCOL",
            (None, _) => "OTHER",
        };
        outcome.errors.push((name.into(), 1, self.allows(e.code())));
    }

    pub(super) fn allows(&self, code: Option<Code>) -> bool {
        code.is_some_and(|code| self.tenant.allow_errors.contains(&code))
    }
}
