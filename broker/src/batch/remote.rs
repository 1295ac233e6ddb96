//! The port for recipes that run elsewhere: whoever implements it queues, dispatches and answers.
//!
//! The engine owns the item, its time-outs and its result; what it hands over here is an errand, and
//! comes back through its batch's [`Returns`]. Nothing here knows what stands behind it.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context as Poller, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tollgate_protocol::{Code, PairsBuf};

use super::{
    Reply,
    catalog::Entry,
    context::Shared,
    outcome::Failure,
    pool::{Pool, RunError, Turn},
    slots::{Claim, Mailbox},
};
use crate::tenancy::{BytesPermit, Tenant};

/// Where the items of a recipe go that does not run in this process.
pub(crate) trait Remote: Send + Sync {
    /// How many of so many items of this tenant may queue now. If not all of them, the mailbox is
    /// nudged once that changed.
    fn room(&self, claim: &Claim, wanted: usize, mailbox: &Arc<Mailbox>) -> usize;

    /// Queues items, all of them, in their order, which is that in which they are told to be sent.
    /// They take their slots when they are dispatched.
    fn send(&self, tasks: &mut Vec<Task>, sent: &mut dyn FnMut(Sent));

    /// Whether somebody is there who could run one.
    fn is_served(&self) -> bool {
        true
    }
}

/// What items of a batch have in common that are of one tenant and recipe.
pub(crate) struct Common {
    pub tenant: Arc<Tenant>,
    pub entry: Arc<Entry>,
    /// What they share with their batch.
    pub shared: Arc<Shared>,
    /// What each counts against once it runs.
    pub claim: Claim,
    /// Where they come back.
    pub returns: Arc<Returns>,
    /// Set for one that is to be tried just once, as somebody else keeps the count.
    pub once: Option<Once>,
}

impl Common {
    /// Whether there is room for both or for none.
    pub(super) fn shares_line(&self, other: &Common) -> bool {
        Arc::ptr_eq(&self.tenant, &other.tenant) && Arc::ptr_eq(&self.entry, &other.entry)
    }
}

/// An item as it is handed over.
pub(crate) struct Task {
    pub common: Arc<Common>,
    /// Where its batch finds it when it comes back: known once it is told to be sent.
    pub key: AtomicUsize,
    /// Its place among the items of its batch.
    pub seq: u64,
    pub item_id: u64,
    pub payload: Bytes,
    pub metadata: Option<Arc<PairsBuf>>,
    /// How long an attempt may run.
    pub timeout: Duration,
}

/// Told when an attempt begins.
pub(crate) type Begun = Arc<dyn Fn() + Send + Sync>;

/// What an item brings that is one attempt of many.
pub(crate) struct Once {
    /// Attempts made before.
    pub attempts_before: u32,
    /// Called, under no lock, when it begins.
    pub begun: Option<Begun>,
}

/// Where an item stands that runs elsewhere, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for an attempt to begin, the first or another.
    Waits(Instant),
    /// An attempt runs.
    Runs(Instant),
}

impl Phase {
    /// When the time is up of what may wait, and run, so long.
    pub(super) fn due(self, queue_timeout: Duration, timeout: Duration) -> Instant {
        match self {
            Phase::Waits(since) => since + queue_timeout,
            Phase::Runs(since) => since + timeout,
        }
    }

    /// When the newest attempt began; with none, the end.
    pub(super) fn began(self, ended: Instant) -> Instant {
        match self {
            Phase::Runs(since) => since,
            Phase::Waits(_) => ended,
        }
    }
}

/// An item that was handed over, as its batch sees it.
pub(crate) trait Errand: Send + Sync {
    fn task(&self) -> &Task;

    /// Where it stands.
    fn standing(&self) -> Standing;

    /// What is said of it when it has waited too long.
    fn gave_up(&self) -> Failure;

    /// Gives it up if no attempt was ever begun; whether it did. Of an attempt that begins just then
    /// only one is true.
    fn withdraw(&self) -> bool;

    /// Gives it up, wherever it is.
    fn give_up(&self);
}

/// What is known of an errand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub phase: Phase,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether it ever said how far it has come.
    pub reported: bool,
    /// Whether it ended: then it is on its way back, or has been given up.
    pub is_over: bool,
}

/// An errand of which the end is awaited. Dropping it gives it up.
pub(crate) struct Sent {
    errand: Arc<dyn Errand>,
    is_back: bool,
}

impl Sent {
    pub(crate) fn new(errand: Arc<dyn Errand>) -> Sent {
        Sent { errand, is_back: false }
    }

    /// It has come back: there is nothing left to be given up.
    pub(super) fn is_back(&mut self) {
        self.is_back = true;
    }
}

impl std::ops::Deref for Sent {
    type Target = dyn Errand;

    fn deref(&self) -> &Self::Target {
        &*self.errand
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.is_back {
            self.errand.give_up();
        }
    }
}

/// An errand that ended.
pub(crate) struct Returned {
    pub key: usize,
    pub seq: u64,
    pub outcome: Result<Reply, RunError>,
    pub phase: Phase,
    pub ended: Instant,
    pub attempts: u32,
    pub reported: bool,
    /// The room that a large result took of its tenant's bytes in flight.
    pub room: Option<BytesPermit>,
}

/// Where the errands of a batch come back. A leaf: nothing is done under its lock but this.
#[derive(Default)]
pub(crate) struct Returns {
    /// Whether it is to be told of what begins.
    watches: AtomicBool,
    inbox: Mutex<Inbox>,
}

#[derive(Default)]
struct Inbox {
    returned: Vec<Returned>,
    /// Whether the time of something may be up sooner than the batch knows.
    sooner: bool,
    /// When the batch looks at the time again; none while it finds that out.
    due: Option<Instant>,
    waker: Option<Waker>,
}

impl Returns {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes errands that ended; whom to wake.
    pub(crate) fn put(&self, returned: impl Iterator<Item = Returned>) -> Option<Waker> {
        let mut inbox = self.lock();
        inbox.returned.extend(returned);
        inbox.waker.take()
    }

    /// An errand waits again: its time may be up sooner than it was. Whom to wake.
    pub(crate) fn relapsed(&self) -> Option<Waker> {
        let mut inbox = self.lock();
        inbox.sooner = true;
        inbox.waker.take()
    }

    /// An item begins that has waited, and may run until then. Whom to wake: mostly nobody, as most
    /// batches look at the time before that.
    pub(crate) fn begins(&self, due: Instant) -> Option<Waker> {
        if !self.watches.load(SeqCst) {
            return None;
        }
        let mut inbox = self.lock();
        if inbox.due.is_some_and(|known| known <= due) {
            return None;
        }
        (inbox.due, inbox.sooner) = (Some(due), true);
        inbox.waker.take()
    }

    /// The batch is about to look at what waits: whatever begins meanwhile tells it.
    pub(super) fn watch(&self) {
        self.watches.store(true, SeqCst);
        self.lock().due = None;
    }

    /// The batch looks at the time again at `due`. What begins need not tell it unless some of it
    /// `waits`: others were looked at when they came.
    pub(super) fn watched(&self, due: Option<Instant>, waits: bool) {
        self.lock().due = due;
        self.watches.store(waits, SeqCst);
    }

    /// Moves what has come back into an empty list, and asks to be woken by more. Whether the time of
    /// something may be up sooner than it was.
    pub(super) fn take(&self, into: &mut Vec<Returned>, waker: &Waker) -> bool {
        let mut inbox = self.lock();
        if !inbox.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
            inbox.waker = Some(waker.clone());
        }
        mem::swap(&mut inbox.returned, into);
        mem::take(&mut inbox.sooner)
    }
}

/// An item that was handed over and is polled. Dropping it gives it up, wherever it is.
pub(crate) trait Call: Send {
    /// Ready once it ended.
    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Result<Reply, RunError>>;

    /// Where it stands, as far as the last poll has seen.
    fn phase(&self) -> Phase;

    /// Attempts begun.
    fn attempts(&self) -> u32;

    /// What is said of it when it has waited too long.
    fn gave_up(&self, entry: &Entry) -> Failure;

    /// Gives it up if no attempt was ever begun; whether it did. Of an attempt that begins just then
    /// only one is true. It is not polled again after that.
    fn withdraw(self: Pin<&mut Self>) -> bool;
}

/// Nobody came who serves the recipe, as long as an item waits for that.
pub(crate) fn no_worker(entry: &Entry) -> Failure {
    let (name, ms) = (entry.name(), entry.spec().queue_timeout.as_millis());
    let message = format!("no worker for `{name}` came within {ms} ms");
    Failure::never_started(Code::NoWorker, message).detail("phase", "queued")
}

/// An errand that is awaited alone: its returns are its own.
pub(crate) struct Single {
    returns: Arc<Returns>,
    sent: Option<Sent>,
    /// Where it stood when it came back, after how many attempts.
    back: Option<(Phase, u32)>,
    /// Given back with the item.
    room: Option<BytesPermit>,
    since: Instant,
}

impl Single {
    pub(crate) fn send(remote: &dyn Remote, task: Task) -> Single {
        let returns = task.common.returns.clone();
        // Whoever polls this looks at the time whenever it is woken.
        returns.watch();
        let mut sent = None;
        remote.send(&mut vec![task], &mut |errand| sent = Some(errand));
        Single { returns, sent, back: None, room: None, since: Instant::now() }
    }
}

impl Call for Single {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Result<Reply, RunError>> {
        let mut all = Vec::new();
        self.returns.take(&mut all, cx.waker());
        let Some(returned) = all.pop() else { return Poll::Pending };
        self.back = Some((returned.phase, returned.attempts));
        self.room = returned.room;
        if let Some(sent) = &mut self.sent {
            sent.is_back();
        }
        Poll::Ready(returned.outcome)
    }

    fn phase(&self) -> Phase {
        match (&self.back, &self.sent) {
            (Some((phase, _)), _) => *phase,
            (None, Some(sent)) => sent.standing().phase,
            (None, None) => Phase::Waits(self.since),
        }
    }

    fn attempts(&self) -> u32 {
        match (&self.back, &self.sent) {
            (Some((_, attempts)), _) => *attempts,
            (None, Some(sent)) => sent.standing().attempts,
            (None, None) => 0,
        }
    }

    fn gave_up(&self, entry: &Entry) -> Failure {
        self.sent.as_ref().map_or_else(|| no_worker(entry), |sent| sent.gave_up())
    }

    fn withdraw(self: Pin<&mut Self>) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.withdraw())
    }
}

/// An item whose payload is held against its schema on the pool, before it is handed over.
pub(super) struct Checked {
    since: Instant,
    check: Option<Check>,
    task: Option<Task>,
    call: Option<Single>,
}

type Check = Pin<Box<dyn Future<Output = Result<(), RunError>> + Send>>;

impl Checked {
    /// The returns of the task must be its own.
    pub(super) fn new(pool: &Pool, turn: Turn, task: Task) -> Self {
        let check = pool.check(turn, task.common.entry.clone(), task.payload.clone());
        let check: Option<Check> = Some(Box::pin(check));
        Checked { since: Instant::now(), check, task: Some(task), call: None }
    }
}

impl Call for Checked {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Result<Reply, RunError>> {
        let this = &mut *self;
        if let Some(check) = &mut this.check {
            match check.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(())) => this.check = None,
            }
        }
        if let Some(task) = this.task.take() {
            let entry = task.common.entry.clone();
            this.call = entry.handler.remote().map(|remote| Single::send(&**remote, task));
        }
        match &mut this.call {
            Some(call) => Pin::new(call).poll(cx),
            None => Poll::Pending,
        }
    }

    fn phase(&self) -> Phase {
        self.call.as_ref().map_or(Phase::Waits(self.since), |call| call.phase())
    }

    fn attempts(&self) -> u32 {
        self.call.as_ref().map_or(0, |call| call.attempts())
    }

    fn gave_up(&self, entry: &Entry) -> Failure {
        match &self.call {
            Some(call) => call.gave_up(entry),
            None => super::pool::never_ran(entry),
        }
    }

    fn withdraw(mut self: Pin<&mut Self>) -> bool {
        // A payload that is checked is no attempt.
        self.call.as_mut().is_none_or(|call| Pin::new(call).withdraw())
    }
}
