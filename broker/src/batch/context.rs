//! What a recipe may know about the item it runs, and how it reports progress.
//!
//! Never gives a recipe a way to another tenant, to the stream, or to a quota.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

use foldhash::HashSet;
use tokio_util::sync::CancellationToken;
use tollgate_protocol::{
    Pairs, PairsBuf,
    id::{BatchId, RecipeName, TenantId},
    limits, truncate,
};

use super::trace::Trace;
use crate::tenancy::{BytesPermit, Tenant};

/// What the items of one batch share with its stream.
#[derive(Debug)]
pub(crate) struct Shared {
    pub batch_id: BatchId,
    pub trace: Trace,
    /// Cancelled when everything that runs is to stop.
    pub cancel: CancellationToken,
    pub board: Board,
}

impl Shared {
    pub(crate) fn new(batch_id: BatchId, trace: Trace) -> Self {
        Shared { batch_id, trace, cancel: CancellationToken::new(), board: Board::default() }
    }
}

/// The newest progress of each item that has any: written by recipes, taken by the stream.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BoardState>);

#[derive(Debug, Default)]
struct BoardState {
    /// Items that may report: from their start to their end, whatever outlives them.
    running: HashSet<u64>,
    /// The newest report of each item that ever reported and runs, and whether it was taken.
    reports: Vec<(Report, bool)>,
    waker: Option<Waker>,
}

/// One report of progress; the newest of an item replaces the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub item_id: u64,
    pub attempt: u32,
    pub done: u64,
    pub total: u64,
    pub at: SystemTime,
    pub message: String,
}

impl Board {
    /// An item begins: its reports count from now on.
    pub(crate) fn begin(&self, item_id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).running.insert(item_id);
    }

    fn put(&self, report: Report) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.running.contains(&report.item_id) {
            // Its result is out, or it answers at once: nothing may follow, or has to go before.
            return;
        }
        let waker = state.put(report);
        drop(state);
        if let Some(w) = waker {
            w.wake();
        }
    }

    /// Takes a report of an item that runs elsewhere; whom to wake. Whoever calls this knows that its
    /// result is not out.
    pub(crate) fn put_open(&self, report: Report) -> Option<Waker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(report)
    }

    /// Takes what is new, and asks for a wake-up at the next report.
    pub(crate) fn take(&self, waker: &Waker) -> Vec<Report> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        let new = state.reports.iter_mut().filter(|(_, taken)| !*taken);
        new.map(|(r, taken)| {
            *taken = true;
            r.clone()
        })
        .collect()
    }

    /// Forgets an item that ended. Its last report, brought to its total, when it had not got
    /// there.
    pub(crate) fn forget(&self, item_id: u64) -> Option<Report> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.remove(&item_id);
        let at = state.reports.iter().position(|(r, _)| r.item_id == item_id)?;
        let (last, taken) = state.reports.swap_remove(at);
        drop(state);
        if last.total == 0 || (taken && last.done == last.total) {
            return None;
        }
        Some(Report { done: last.total, at: SystemTime::now(), ..last })
    }
}

impl BoardState {
    fn put(&mut self, report: Report) -> Option<Waker> {
        match self.reports.iter_mut().find(|(r, _)| r.item_id == report.item_id) {
            Some((old, _)) if old.attempt == report.attempt && old.done > report.done => {
                return None;
            }
            Some(old) => *old = (report, false),
            None => self.reports.push((report, false)),
        }
        self.waker.take()
    }
}

impl Report {
    /// `done` of `total` (0: not known), as it is said now.
    pub(crate) fn now(
        item_id: u64,
        attempt: u32,
        (done, total): (u64, u64),
        message: &str,
    ) -> Report {
        Report {
            item_id,
            attempt,
            done: if total > 0 { done.min(total) } else { done },
            total,
            at: SystemTime::now(),
            message: truncate(message, limits::MESSAGE_BYTES_MAX).to_owned(),
        }
    }
}

/// What a [`Recipe`](super::Recipe) may know about its item. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
    pub(crate) recipe: RecipeName,
    pub(crate) item_id: u64,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: CancellationToken,
    pub(crate) metadata: Option<Arc<PairsBuf>>,
    /// None where nobody counts, as in tests of a recipe alone.
    pub(crate) room: Option<Room>,
}

/// Whose bytes in flight an item counts against, and what it holds of them for its result.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub tenant: Arc<Tenant>,
    pub held: usize,
}

/// Room that an item took beyond what it held; given back when dropped.
#[must_use = "dropping it gives it back"]
pub(crate) struct Grown(#[expect(dead_code, reason = "it is held")] BytesPermit);

impl Context {
    /// A context for running a recipe alone, in a test.
    ///
    /// # Panics
    /// When `tenant` or `recipe` is not a valid name.
    pub fn for_test(tenant: &str, recipe: &str) -> Self {
        let shared = Arc::new(Shared::new(BatchId::random(), Trace::none()));
        shared.board.begin(1);
        Context {
            cancel: shared.cancel.child_token(),
            shared,
            tenant: TenantId::parse(tenant).expect("a valid tenant id"),
            recipe: RecipeName::parse(recipe).expect("a valid recipe name"),
            item_id: 1,
            attempt: 1,
            deadline: None,
            metadata: None,
            room: None,
        }
    }

    /// Whether the item holds room for a result of so many bytes.
    pub(crate) fn holds_room_for(&self, bytes: usize) -> bool {
        self.room.as_ref().is_none_or(|room| bytes <= room.held)
    }

    /// Waits for room for a result of so many bytes, if the item does not hold as much for it; to be
    /// held as long as the result is. Its time runs meanwhile. Cancel-safe.
    pub(crate) async fn room_for(&self, bytes: usize) -> Option<Grown> {
        let Room { tenant, held } = self.room.as_ref()?;
        let more = bytes.checked_sub(*held).filter(|more| *more > 0)?;
        Some(Grown(tenant.grow_bytes_wait(more).await))
    }

    /// The same facts, borrowed: what an [`Inline`](super::Inline) recipe gets.
    pub fn as_inline(&self) -> InlineContext<'_> {
        InlineContext {
            shared: &self.shared,
            tenant: &self.tenant,
            recipe: &self.recipe,
            item_id: self.item_id,
            attempt: self.attempt,
            due: self.deadline.map(Due::at),
            cancel: self.cancellation(),
            metadata: self.metadata(),
        }
    }

    /// The tenant for whom the item runs.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The batch the item belongs to.
    pub fn batch_id(&self) -> BatchId {
        self.shared.batch_id
    }

    /// The item's id in its batch.
    pub fn item_id(&self) -> u64 {
        self.item_id
    }

    /// The recipe's name.
    pub fn recipe(&self) -> &RecipeName {
        &self.recipe
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the item's time is up, if it has a bound.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The W3C trace context to hand on: of the batch's span where it is recorded, else of the
    /// client, if it sent one.
    pub fn traceparent(&self) -> Option<&str> {
        self.shared.trace.traceparent.as_deref()
    }

    /// Cancelled when the item is to stop. A future is dropped then by itself; work that was moved
    /// elsewhere watches this.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// What the client sent beside the payload.
    pub fn metadata(&self) -> Pairs<'_> {
        self.metadata.as_ref().map_or(Pairs::EMPTY, |m| m.as_pairs())
    }

    /// Reports progress: `done` of `total` (0: not known), in any unit. The newest report wins; a
    /// slow reader sees fewer. Never waits.
    pub fn progress(&self, done: u64, total: u64, message: &str) {
        self.as_inline().progress(done, total, message);
    }
}

/// When an item's time is up: added up only for who asks, as few recipes that answer at once do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub from: Instant,
    pub passed_ns: u64,
    pub more: Duration,
}

impl Due {
    fn at(moment: Instant) -> Due {
        Due { from: moment, passed_ns: 0, more: Duration::ZERO }
    }

    /// None when that is beyond what the clock can say.
    fn moment(self) -> Option<Instant> {
        self.from.checked_add(Duration::from_nanos(self.passed_ns))?.checked_add(self.more)
    }
}

/// What an [`Inline`](super::Inline) recipe may know about its item.
#[derive(Debug, Clone, Copy)]
pub struct InlineContext<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) tenant: &'a TenantId,
    pub(crate) recipe: &'a RecipeName,
    pub(crate) item_id: u64,
    pub(crate) attempt: u32,
    pub(crate) due: Option<Due>,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) metadata: Pairs<'a>,
}

impl<'a> InlineContext<'a> {
    /// The tenant for whom the item runs.
    pub fn tenant(&self) -> &'a TenantId {
        self.tenant
    }

    /// The batch the item belongs to.
    pub fn batch_id(&self) -> BatchId {
        self.shared.batch_id
    }

    /// The item's id in its batch.
    pub fn item_id(&self) -> u64 {
        self.item_id
    }

    /// The recipe's name.
    pub fn recipe(&self) -> &'a RecipeName {
        self.recipe
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the item's time is up, if it has a bound.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.and_then(Due::moment)
    }

    /// The W3C trace context to hand on: of the batch's span where it is recorded, else of the
    /// client, if it sent one.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.shared.trace.traceparent.as_deref()
    }

    /// Whether the item is to stop: a recipe on the pool asks this between its steps.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// What the client sent beside the payload.
    pub fn metadata(&self) -> Pairs<'a> {
        self.metadata
    }

    /// Reports progress, as [`Context::progress`].
    pub fn progress(&self, done: u64, total: u64, message: &str) {
        self.shared.board.put(Report::now(self.item_id, self.attempt, (done, total), message));
    }
}
