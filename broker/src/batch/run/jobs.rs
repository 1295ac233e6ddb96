//! Items that become jobs: handed over, and what is told of them passed on as the batch's own.

use std::{
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use foldhash::HashMap;
use tollgate_protocol::{
    Code,
    batch::{Ended, Number, Request, Summary},
};

use super::{Offered, Run, Whose, checks::Checks};
use crate::{
    batch::{
        catalog::Entry,
        durable::{JobEnd, Line, NewJob, Of, Told},
        ending::Ending,
        outcome::{Failure, Sink},
    },
    tenancy::Tenant,
};

/// What an item costs its tenant's bytes in flight, beside its payload, until it is kept.
const ITEM_BYTES: usize = 256;
/// What is taken from a line before others have their turn.
const TOLD_A_TURN: usize = 64;

/// The jobs of a batch.
#[derive(Default)]
pub(super) struct OfBatch {
    /// One a tenant: more than one for a gateway's mixed batch.
    lines: Vec<(Arc<Tenant>, Box<dyn Line>)>,
    /// Items that became jobs, or are to, by their ids: until they have their result.
    open: HashMap<u64, Open>,
    /// How many of these are not kept yet.
    unkept: usize,
    /// Those of them whose payloads are being checked, and whoever came after these.
    pub(super) checks: Checks,
    /// Items that are another batch's jobs, and have no result yet.
    joined: usize,
    /// What is to be said once all of them are answered: that nothing more comes.
    seal: Option<(Ended, Option<u64>)>,
    /// Items of a durable batch that are no jobs of its own, by how they ended: 0 is success.
    elsewhere: Vec<(u16, u64)>,
    /// The last word of a durable batch.
    summary: Option<Summary<'static>>,
    /// Why nothing more will be told.
    lost: Option<Failure>,
}

struct Open {
    seq: u64,
    kept: bool,
    /// It is another item's job, of this batch or another.
    joined: bool,
}

impl OfBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    pub(super) fn take_summary(&mut self) -> Option<Summary<'static>> {
        self.summary.take()
    }

    /// An item did not become a job of the batch's own, and ended so.
    pub(super) fn refused(&mut self, code: Code, durable: bool) {
        if durable {
            self.ended_elsewhere(code.number());
        }
    }

    fn ended_elsewhere(&mut self, code: u16) {
        match self.elsewhere.binary_search_by_key(&code, |r| r.0) {
            Ok(at) => self.elsewhere[at].1 += 1,
            Err(at) => self.elsewhere.insert(at, (code, 1)),
        }
    }

    pub(super) fn cancel(&mut self, all: bool) {
        self.lines.iter_mut().for_each(|(_, line)| line.cancel(all));
    }

    /// Says that nothing more comes, if that is to be said. Not before every item that was handed
    /// over is answered, and has its result when it is another item's job: what is refused last,
    /// and what ends elsewhere, belongs into the summary as well.
    fn seal_if_answered(&mut self) {
        if self.unkept == 0 && self.joined == 0 {
            self.seal_now();
        }
    }

    fn seal_now(&mut self) {
        if let Some((ended, last_item)) = self.seal.take()
            && let Some((_, line)) = self.lines.first_mut()
        {
            line.seal(ended, last_item, &self.elsewhere);
        }
    }
}

impl Drop for OfBatch {
    /// Who leaves before all is answered has handed it over, and sealed, all the same.
    fn drop(&mut self) {
        for (at, new) in self.checks.take() {
            // Nobody is there to be told of a refusal.
            let _ = self.lines[at].1.submit(new);
        }
        self.seal_now();
    }
}

impl Run {
    /// Whether an item outlives the batch.
    #[inline]
    pub(super) fn becomes_job(&self, entry: &Entry, r: &Request<'_>) -> bool {
        self.terms.durable
            || r.idempotency_key.is_some()
            || r.not_before_unix_ms.is_some()
            || self.engine.durables.are_for(entry.spec.estimated_duration)
    }

    /// Hands an item over, or says that there is no room for it.
    pub(super) fn submit_job(
        &mut self,
        entry: &Arc<Entry>,
        r: &Request<'_>,
        tenant: &Arc<Tenant>,
        sink: &mut impl Sink,
    ) -> Offered {
        let len = r.payload.len();
        let is_checked = entry.checks_on_pool(len);
        if self.jobs.checks.is_full() {
            return Offered::Full;
        }
        let Some(room) = self.reserve(tenant, len + ITEM_BYTES, 0) else { return Offered::Full };
        let Some(at) = self.line(tenant) else {
            let failure = Failure::new(Code::InvalidAction, "this broker keeps no jobs");
            self.refuse(r.id, len, Whose::Of(tenant), &failure, sink);
            return Offered::Taken;
        };
        let new = NewJob {
            item: r.id,
            recipe: entry.name.clone(),
            priority: self.terms.priority,
            timeout: r.timeout_ms.map(Duration::from_millis),
            deadline: self.terms.deadline.map(wall),
            not_before: r.not_before_unix_ms,
            key: r.idempotency_key.map(Into::into),
            metadata: r.metadata.to_buf(),
            traceparent: self.shared.trace.traceparent.clone(),
            payload: Bytes::copy_from_slice(r.payload),
            room,
        };
        if is_checked || !self.jobs.checks.is_empty() {
            let check = is_checked.then(|| {
                let turn = self.pool_turn(tenant);
                self.engine.pool.check(turn, entry.clone(), new.payload.clone())
            });
            self.jobs.checks.push(check, at, new);
        } else if let Err(failure) = self.jobs.lines[at].1.submit(new) {
            self.refuse(r.id, len, Whose::Of(tenant), &failure, sink);
            return Offered::Taken;
        }
        let seq = self.tally.read;
        self.tally.item_read(r.id, len);
        self.started = true;
        self.jobs.open.insert(r.id, Open { seq, kept: false, joined: false });
        self.jobs.unkept += 1;
        Offered::Taken
    }

    /// A tenant's line, by its place.
    fn line(&mut self, tenant: &Arc<Tenant>) -> Option<usize> {
        let known = self.jobs.lines.iter().position(|(of, _)| Arc::ptr_eq(of, tenant));
        if known.is_some() {
            return known;
        }
        let of = Of { batch: self.shared.batch_id, durable: self.terms.durable };
        let line = self.engine.durables.line(tenant, of)?;
        self.jobs.lines.push((tenant.clone(), line));
        Some(self.jobs.lines.len() - 1)
    }

    /// The line of a durable batch is there from the beginning: it may have jobs already.
    pub(crate) fn resume_jobs(&mut self, tenant: &Arc<Tenant>) {
        let _ = self.line(tenant);
    }

    /// Nothing more comes into the batch.
    pub(crate) fn seal_jobs(&mut self) {
        if self.terms.durable {
            let ended = self.ending().unwrap_or(Ended::Sealed);
            self.jobs.seal.get_or_insert((ended, self.tally.last_id));
            self.jobs.seal_if_answered();
        }
    }

    /// Whether the batch's last word is its jobs', and still to come.
    pub(super) fn awaits_summary(&self) -> bool {
        self.terms.durable && self.jobs.summary.is_none()
    }

    /// Whether all of the batch outlives its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.terms.durable
    }

    /// Whether every item that is to be a job is kept.
    pub(super) fn jobs_are_kept(&self) -> bool {
        self.jobs.unkept == 0
    }

    /// Why nothing more will be told of the batch's jobs, if that is so.
    pub(super) fn jobs_lost(&self) -> Option<&Failure> {
        self.jobs.lost.as_ref().filter(|_| !self.jobs.is_empty() || self.awaits_summary())
    }

    /// Whether it has jobs that are not over.
    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Passes on what became of jobs. True if there was anything.
    pub(super) fn poll_jobs(&mut self, cx: &mut Poller<'_>, sink: &mut impl Sink) -> bool {
        let mut progress = self.poll_checks(cx, sink);
        for at in 0..self.jobs.lines.len() {
            for _ in 0..TOLD_A_TURN {
                if sink.is_full() {
                    return progress;
                }
                let Poll::Ready(told) = self.jobs.lines[at].1.poll(cx) else { break };
                progress = true;
                self.told(told, at, sink);
            }
        }
        progress
    }

    fn told(&mut self, told: Told, at: usize, sink: &mut impl Sink) {
        let tenant = self.jobs.lines[at].0.clone();
        let name = self.terms.names_tenants.then(|| tenant.id().as_str());
        match told {
            Told::Accepted(accepted) => {
                if let Some(open) = self.jobs.open.get_mut(&accepted.item)
                    && !std::mem::replace(&mut open.kept, true)
                {
                    self.jobs.unkept -= 1;
                    // A job of its own has its number.
                    open.joined = accepted.existing && accepted.number == Number::default();
                    self.jobs.joined += usize::from(open.joined);
                }
                sink.accepted(&accepted, name);
            }
            Told::Progress(report) => {
                if self.jobs.open.contains_key(&report.item_id) {
                    sink.progress(&report);
                }
            }
            Told::Refused { item, failure } => self.job_refused(item, at, failure, sink),
            Told::Contradicts { item, failure } => self.job_failed(item, at, failure, sink),
            Told::Ended(end) => {
                if let Some(open) = self.close(end.item) {
                    if open.joined && self.terms.durable {
                        let code = end.outcome.as_ref().map_or_else(|f| f.code.number(), |_| 0);
                        self.jobs.ended_elsewhere(code);
                    }
                    self.job_ended(&open, *end, name, sink);
                }
            }
            Told::Over(summary) => self.jobs.summary = Some(*summary),
            Told::Lost(failure) => _ = self.jobs.lost.get_or_insert(failure),
        }
        self.jobs.seal_if_answered();
    }

    /// An item that was handed over did not become a job, or its result can not be told.
    fn job_refused(&mut self, item: u64, at: usize, failure: Failure, sink: &mut impl Sink) {
        if self.jobs.open.get(&item).is_some_and(|open| !open.kept || open.joined) {
            self.jobs.refused(failure.code, self.terms.durable);
        }
        self.job_failed(item, at, failure, sink);
    }

    /// An item that was handed over has this for a result.
    fn job_failed(&mut self, item: u64, at: usize, failure: Failure, sink: &mut impl Sink) {
        let Some(open) = self.close(item) else { return };
        let tenant = self.jobs.lines[at].0.clone();
        self.item_failed(item, Some(&tenant), None, 0, &failure, None);
        let end = JobEnd {
            item,
            number: Number::default(),
            attempts: 0,
            queued: Duration::ZERO,
            duration: Duration::ZERO,
            outcome: Err(failure),
        };
        let name = self.terms.names_tenants.then(|| tenant.id().as_str());
        self.job_ended(&open, end, name, sink);
    }

    /// Hands over what was checked, in the order in which it came. True if there was anything.
    fn poll_checks(&mut self, cx: &mut Poller<'_>, sink: &mut impl Sink) -> bool {
        let mut progress = false;
        while !sink.is_full()
            && let Some((verdict, at, new)) = self.jobs.checks.poll(cx)
        {
            progress = true;
            let item = new.item;
            let handed_over = verdict.and_then(|()| self.jobs.lines[at].1.submit(new));
            if let Err(failure) = handed_over {
                self.job_refused(item, at, failure, sink);
                self.jobs.seal_if_answered();
            }
        }
        progress
    }

    /// Nothing more is checked. What is not given up is handed over all the same, as everything
    /// that came before the end: its recipe checks it again in any case.
    pub(super) fn end_checks(&mut self, ending: Ending, sink: &mut impl Sink) {
        for (at, new) in self.jobs.checks.take() {
            let item = new.item;
            let handed_over = match ending.gives_up_jobs() {
                true => Err(ending.never_started()),
                false => self.jobs.lines[at].1.submit(new),
            };
            if let Err(failure) = handed_over {
                self.job_refused(item, at, failure, sink);
            }
        }
        self.jobs.seal_if_answered();
    }

    fn close(&mut self, item: u64) -> Option<Open> {
        let open = self.jobs.open.remove(&item)?;
        self.jobs.unkept -= usize::from(!open.kept);
        self.jobs.joined -= usize::from(open.joined);
        Some(open)
    }

    fn job_ended(&mut self, open: &Open, end: JobEnd, name: Option<&str>, sink: &mut impl Sink) {
        let head = end.head(name);
        self.emit(open.seq, &head, end.outcome, sink);
    }
}

/// A moment to come, as the wall clock will have it.
fn wall(at: Instant) -> SystemTime {
    SystemTime::now() + at.saturating_duration_since(Instant::now())
}
