//! The engine: takes the items of one batch, runs them, gives each exactly one result.
//!
//! Knows no socket and no frame: items are offered to it, results go to a [`Sink`]. It owns no
//! task: whoever owns the batch polls it. Nothing here waits.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tollgate_protocol::{
    PairsBuf,
    batch::{BatchOpen, Ended, Mode, Number, Order, Request, Summary},
    id::TenantId,
    limits,
};

use super::ending::Ending;
use super::{
    Reply,
    away::{Absent, Away},
    catalog::{Entry, Handler},
    context::{Report, Shared},
    engine::Engine,
    ledger::Ledger,
    order::Submission,
    outcome::{Failure, Head, Sink},
    pending::{About, End, Finished, Item, Pending},
    slots::{Claim, Mailbox, Place, Slot},
    stopwatch::Stopwatch,
    tally::Tally,
    trace::Trace,
};
use crate::{
    metrics::How,
    tenancy::{BytesPermit, State, Tenant},
};

mod checks;
mod ends;
mod inline;
mod jobs;
mod over;
mod refusals;
mod results;
mod send;
mod start;
mod told;

pub(crate) use over::{Over, Said};
pub(super) use refusals::bounded;
pub(crate) use refusals::foreign;
use refusals::{too_many_items, unknown};
pub(super) use start::on_pool;

/// What the client asked for and what it was granted.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Whose all its items are, when they are one tenant's: for logs and traces.
    pub tenant: Option<TenantId>,
    pub mode: Mode,
    pub order: Order,
    pub priority: u8,
    /// Items of this batch at once.
    pub concurrency_max: u32,
    pub items_max: u64,
    pub deadline: Option<Instant>,
    /// Whether results name their tenant: the stream is a gateway's.
    pub names_tenants: bool,
    /// Whether every item becomes a job.
    pub durable: bool,
}

/// One batch that runs.
pub(crate) struct Run {
    engine: Engine,
    terms: Terms,
    shared: Arc<Shared>,
    pending: FuturesUnordered<Pending>,
    /// Items that somebody else has.
    away: Away,
    /// Whether as many items are under way as the batch's own bound allows, and until when that was
    /// so last: what waits then waits for its own batch, which is no wait for others.
    is_held: bool,
    held_until: Instant,
    /// Before this no time of theirs is up.
    due: Option<Instant>,
    /// Items that wait for a slot, by sequence number.
    waiting: BTreeMap<u64, Waiting>,
    /// Those of them that have no place in line yet, oldest first.
    unplaced: VecDeque<u64>,
    mailbox: Arc<Mailbox>,
    /// Those that were granted a slot and have not taken it yet, oldest last.
    granted: Vec<u64>,
    /// A wait for room in the tenant's bytes in flight, and the room once it came.
    room: Option<Pin<Box<dyn Future<Output = BytesPermit> + Send>>>,
    spare: Option<BytesPermit>,
    submission: Option<Submission>,
    /// Items that became jobs, or are to.
    jobs: jobs::OfBatch,
    /// The recipe of the item before: most batches name one only.
    cached: Option<Arc<Entry>>,
    /// For which state of the directory, and for which tenant, that is so.
    cached_of: (u64, u32),
    /// Whether a payload of it needs nothing but to be short enough, and all of it is for this batch.
    cached_alike: bool,
    reply: Reply,
    tally: Tally,
    /// Apart, as a batch is moved and this is large.
    ledger: Box<Ledger>,
    /// Whether any item was started: from then on nobody can promise that nothing happened.
    started: bool,
    /// Set once nothing new starts.
    ending: Option<Ending>,
    clock: Stopwatch,
}

struct Waiting {
    item: Item,
    payload: Bytes,
    metadata: Option<Arc<PairsBuf>>,
    bytes: BytesPermit,
    /// Its place in the line for a slot; none while the batch's own bound keeps it back.
    place: Option<Place>,
    /// When it has waited too long for a slot: known once it has a place.
    give_up: Option<Instant>,
}

/// Whose an item is that is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// This tenant's.
    Of(&'a Arc<Tenant>),
    /// Nobody's who may be served: the name that it gave, if it gave one.
    Named(Option<&'a str>),
}

/// What became of an item that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It was taken: it has its result, or will have.
    Taken,
    /// There is no room for it now: offer it again after [`Run::poll`] made progress.
    Full,
}

impl Run {
    pub(crate) fn new(engine: Engine, terms: Terms, open: &BatchOpen<'_>, now: Instant) -> Self {
        let submission = (terms.order == Order::Submission).then(Submission::default);
        let ledger = Ledger::open(engine.book.clone(), engine.metrics.clone(), now).into();
        let trace = Trace::begin(open, terms.tenant.as_ref());
        Run {
            ledger,
            shared: Arc::new(Shared::new(open.batch_id, trace)),
            clock: Stopwatch::new(now, engine.counter.clone()),
            engine,
            terms,
            pending: FuturesUnordered::new(),
            away: Away::new(),
            is_held: false,
            held_until: now,
            due: None,
            waiting: BTreeMap::new(),
            unplaced: VecDeque::new(),
            mailbox: Arc::default(),
            granted: Vec::new(),
            room: None,
            spare: None,
            submission,
            jobs: jobs::OfBatch::default(),
            cached: None,
            cached_of: (0, 0),
            cached_alike: false,
            reply: Reply::new(),
            tally: Tally::new(now),
            started: false,
            ending: None,
        }
    }

    /// The newest reading of the clock: the end of the last item that ran in place.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Items are taken again, after a wait that is not theirs.
    pub(crate) fn resumes(&mut self, now: Instant) {
        self.clock.learn(now);
        self.ledger.is_at(now);
    }

    /// The id of the last item that was taken.
    pub(crate) fn last_id(&self) -> Option<u64> {
        self.tally.last_id
    }

    /// The span of the batch: disabled when nobody listens.
    pub(crate) fn span(&self) -> &tracing::Span {
        &self.shared.trace.span
    }

    /// Items taken.
    pub(crate) fn read(&self) -> u64 {
        self.tally.read
    }

    /// What ends the batch, once something does: nothing new starts from then on.
    pub(crate) fn ending(&self) -> Option<Ended> {
        self.ending.map(Ending::ended)
    }

    /// Whether any item was started.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.terms.deadline
    }

    /// Whether every item taken has had its result, or is a job, or is to be one.
    pub(crate) fn is_idle_but_for_jobs(&self) -> bool {
        self.pending.is_empty()
            && self.away.is_empty()
            && self.waiting.is_empty()
            && self.submission.as_ref().is_none_or(Submission::is_empty)
    }

    /// Whether something runs or waits, so that [`poll`](Self::poll) may make progress.
    pub(crate) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
            || !self.away.is_empty()
            || !self.waiting.is_empty()
            || self.room.is_some()
            || self.jobs.has_lines()
    }

    /// A stream of the batch waited for the tenant's rate.
    pub(crate) fn throttled(&mut self, tenant: &Arc<Tenant>, time: Duration) {
        self.tally.throttled_us += time.as_micros() as u64;
        self.ledger.throttled(tenant, time);
    }

    /// Tells statistics and metrics what was counted since the last time; whoever polls the batch
    /// calls it before a wait. At the end it happens by itself.
    pub(crate) fn settle(&mut self) {
        self.ledger.settle();
    }

    /// The batch ends with an error, as a whole.
    pub(crate) fn fails(mut self) {
        self.ledger.ends(How::Failed);
    }

    /// The batch ends, and this is the last word of it.
    pub(crate) fn summary(mut self, ended: Ended) -> Summary<'static> {
        let of_jobs = self.jobs.take_summary();
        self.ledger.ends(How::Ended(of_jobs.as_ref().map_or(ended, |s| s.ended)));
        of_jobs.unwrap_or_else(|| self.tally.summary(ended, Instant::now()))
    }

    /// Takes one item, or says that there is no room. `tenant` is the item's own.
    pub(crate) fn offer(
        &mut self,
        request: &Request<'_>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
        sink: &mut impl Sink,
    ) -> Offered {
        if let Err(failure) = self.admit(request, tenant) {
            self.refuse(request.id, request.payload.len(), Whose::Of(tenant), &failure, sink);
            return Offered::Taken;
        }
        // Taken out for the call, which spares the item a reference count.
        let entry = match self.cached.take() {
            Some(entry) if self.is_cached(&entry, request.recipe, tenant) => entry,
            _ => match self.find(request.recipe, tenant) {
                Some(entry) => entry,
                None => {
                    let failure = unknown(request.recipe);
                    let len = request.payload.len();
                    self.refuse(request.id, len, Whose::Of(tenant), &failure, sink);
                    return Offered::Taken;
                }
            },
        };
        let offered = self.offer_to(&entry, request, tenant, arrived, sink);
        self.cached = Some(entry);
        offered
    }

    /// Whether the recipe of the item before is this item's as well.
    #[inline]
    fn is_cached(&self, entry: &Entry, recipe: &str, tenant: &Tenant) -> bool {
        entry.name.as_str() == recipe && self.is_cached_of(tenant)
    }

    /// Whether what is known of the recipe of the item before still holds, for this tenant.
    #[inline]
    fn is_cached_of(&self, tenant: &Tenant) -> bool {
        self.cached_of == (self.engine.directory.generation(), tenant.index())
    }

    fn find(&mut self, recipe: &str, tenant: &Tenant) -> Option<Arc<Entry>> {
        // Read before the look-up: what changes in between is looked up again.
        self.cached_of = (self.engine.directory.generation(), tenant.index());
        let entry = self.engine.directory.find(tenant.index(), recipe)?;
        self.cached_alike = entry.takes_alike()
            && self.submission.is_none()
            && !self.terms.durable
            && !self.engine.durables.are_for(entry.spec.estimated_duration);
        Some(entry)
    }

    fn offer_to(
        &mut self,
        entry: &Arc<Entry>,
        request: &Request<'_>,
        tenant: &Arc<Tenant>,
        arrived: Instant,
        sink: &mut impl Sink,
    ) -> Offered {
        let len = request.payload.len();
        // A long payload with a schema is checked on the pool, before its recipe is started, or
        // it becomes a job.
        if !entry.checks_on_pool(len)
            && let Err(e) = super::validate::check(entry, request.payload)
        {
            self.refuse(request.id, len, Whose::Of(tenant), &Failure::refused(e), sink);
            return Offered::Taken;
        }
        if self.submission.as_ref().is_some_and(Submission::is_full) {
            return Offered::Full;
        }
        if self.becomes_job(entry, request) {
            return self.submit_job(entry, request, tenant, sink);
        }
        match &entry.handler {
            Handler::Inline(run) if !on_pool(entry, len) => {
                let arrived = self.clock.of(arrived);
                self.run_one(&**run, entry, request, tenant, arrived, sink);
                Offered::Taken
            }
            _ => self.start(request, entry, tenant, arrived, sink),
        }
    }

    /// Takes an item that is refused before anything of it ran. The failure is borrowed, as one may
    /// be that of many items.
    pub(crate) fn refuse(
        &mut self,
        id: u64,
        payload_len: usize,
        whose: Whose<'_>,
        failure: &Failure,
        sink: &mut impl Sink,
    ) {
        let seq = self.tally.read;
        self.tally.item_read(id, payload_len);
        let (tenant, name) = match whose {
            Whose::Of(tenant) => (Some(tenant), Some(tenant.id().as_str())),
            Whose::Named(name) => (None, name),
        };
        self.item_failed(id, tenant, None, payload_len, failure, None);
        self.jobs.refused(failure.code, self.terms.durable);
        let head = Head {
            number: Number::default(),
            id,
            tenant: name.filter(|_| self.terms.names_tenants),
            attempts: 0,
            queued_us: 0,
            duration_us: 0,
        };
        if self.submission.is_none() {
            self.deliver(&head, Err(failure), sink);
        } else {
            self.emit(seq, &head, Err(failure.clone()), sink);
        }
    }

    /// What can be said against an item before its recipe is known.
    #[inline]
    fn admit(&self, r: &Request<'_>, tenant: &Tenant) -> Result<(), Failure> {
        if self.tally.read >= self.terms.items_max {
            return Err(too_many_items(self.tally.read + 1, self.terms.items_max));
        }
        if let Some(ending) = self.ending {
            return Err(ending.never_started());
        }
        if self.terms.names_tenants && tenant.state() != State::Active {
            return Err(foreign());
        }
        if r.timeout_ms == Some(0) {
            return Err(Failure::validation("timeout_ms", "a time-out is at least 1 ms"));
        }
        if r.idempotency_key == Some("") {
            return Err(Failure::validation("idempotency_key", "a key has at least one character"));
        }
        Ok(())
    }

    /// Makes progress with what runs and waits, and puts results into the sink, until that is full.
    /// True if it did.
    pub(crate) fn poll(&mut self, cx: &mut Poller<'_>, sink: &mut impl Sink) -> bool {
        /// Results taken before the stream gets to write them.
        const RESULTS_A_TURN: usize = 64;
        let mut progress = false;
        if let Some(room) = &mut self.room
            && let Poll::Ready(permit) = room.as_mut().poll(cx)
        {
            (self.room, self.spare, progress) = (None, Some(permit), true);
        }
        if !self.waiting.is_empty() || self.away.unsent() > 0 {
            let granted = self.mailbox.take(cx.waker());
            self.granted.splice(0..0, granted.into_iter().rev());
            while !sink.is_full()
                && let Some(seq) = self.granted.pop()
            {
                progress |= self.start_granted(seq, sink);
            }
            // What was granted may have ended at once, or given up: its place is another's.
            self.place_waiting();
        }
        progress |= self.poll_jobs(cx, sink);
        let mut ended = None;
        let mut left = RESULTS_A_TURN;
        progress |= self.take_back(cx, &mut left, &mut ended, sink);
        while left > 0 {
            if sink.is_full() {
                // Whoever is ready stays so: once something was written this is called again.
                return progress;
            }
            match self.pending.poll_next_unpin(cx) {
                Poll::Ready(Some(Finished { item, end })) => {
                    ended = Some(end.ended);
                    self.finished(item.about(), end, sink);
                }
                Poll::Ready(None) | Poll::Pending => {
                    if let Some(ended) = ended {
                        self.clock.learn(ended);
                    }
                    // A batch that never waits has no timer that fires.
                    return progress | self.give_up_late(self.now(), sink);
                }
            }
            self.place_waiting();
            progress = true;
            left -= 1;
        }
        // There may be more: come back after what there is was written.
        cx.waker().wake_by_ref();
        progress
    }

    /// Takes what others had and have done, so many results at most. True if there was any.
    fn take_back(
        &mut self,
        cx: &mut Poller<'_>,
        left: &mut usize,
        ended: &mut Option<Instant>,
        sink: &mut impl Sink,
    ) -> bool {
        if self.away.look(cx.waker()) {
            self.learn_due();
        }
        let mut freed: Option<BytesPermit> = None;
        let before = *left;
        while *left > 0
            && !sink.is_full()
            && let Some((absent, mut returned)) = self.away.next_back()
        {
            *left -= 1;
            *ended = Some(returned.ended);
            let _room = returned.room.take();
            let end = absent.ends(returned);
            self.finished(absent.about(), end, sink);
            freed = BytesPermit::merged(freed, absent.into_bytes());
        }
        drop(freed);
        if *left < before {
            self.place_waiting();
        }
        *left < before
    }

    /// The newest progress of each running item, and a wake-up at the next report.
    pub(crate) fn reports(&self, cx: &Poller<'_>) -> Vec<Report> {
        let nothing_runs = self.pending.is_empty() && self.away.is_empty();
        if nothing_runs { Vec::new() } else { self.shared.board.take(cx.waker()) }
    }

    fn take_waiting(&mut self, seq: u64) -> Option<Waiting> {
        let w = self.waiting.remove(&seq)?;
        if w.place.is_none() {
            self.unplaced.retain(|s| *s != seq);
        }
        Some(w)
    }
}

/// A payload is never larger than a frame can be.
const _: () = assert!(limits::FRAME_BYTES_HARD_MAX <= u32::MAX as usize);
