//! Items that run and have not answered yet.
//!
//! Permits exist only here, and time is looked at: what answers at once never becomes one of these.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Reply,
    catalog::Entry,
    outcome::{Failure, Outcome},
    pool::{RunError, no_thread},
    recipe::RecipeFuture,
    remote::{Call, Phase, Returns},
    slots::Slot,
};
use crate::tenancy::{BytesPermit, Tenant};
use tollgate_protocol::Code;

/// What the engine knows of an item, from the moment it is admitted to its result.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its place among the items of its batch that were read, from 0.
    pub seq: u64,
    pub id: u64,
    pub tenant: Arc<Tenant>,
    pub entry: Arc<Entry>,
    pub payload_len: usize,
    pub timeout: Duration,
    /// The longest it waits for its start.
    pub queue_timeout: Duration,
    pub arrived: Instant,
}

/// The code of an item, wherever it runs.
pub(crate) enum Work {
    /// Polled here.
    Recipe(RecipeFuture),
    /// Polled here, once its payload was checked on the pool.
    Checked(Pin<Box<dyn Future<Output = Result<Reply, RunError>> + Send>>),
    /// Queued for whoever runs it: a thread of the pool, or something outside of this process.
    Call(Pin<Box<dyn Call>>),
}

/// An item that runs. Dropping it stops it.
pub(crate) struct Pending {
    pub item: Item,
    handed_over: Instant,
    work: Work,
    /// Fires when its time may be up; none where a batch looks at the time for all of its items.
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when it has waited for others, until its first attempt begins.
    waits_since: Instant,
    /// Where its batch is told that its time may be up sooner; none for what is awaited alone.
    returns: Option<Arc<Returns>>,
    /// Where it stood when it was last polled.
    seen: Option<Phase>,
    /// What tells the work that its time is up, beside being dropped.
    cancel: Option<CancellationToken>,
    /// What is called takes its slot itself.
    _permits: (Option<Slot>, BytesPermit),
}

/// What is known of an item that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub seq: u64,
    pub id: u64,
    pub tenant: &'a Arc<Tenant>,
    pub entry: &'a Arc<Entry>,
    pub payload_len: usize,
    pub arrived: Instant,
}

/// How an item ended.
pub(crate) struct End {
    /// When its last attempt began; its end, when none did.
    pub started: Instant,
    pub ended: Instant,
    pub attempts: u32,
    pub outcome: Outcome,
    pub panicked: bool,
    /// Whether it may have said how far it has come.
    pub reported: bool,
}

/// An item that ended.
pub(crate) struct Finished {
    pub item: Item,
    pub end: End,
}

impl Item {
    pub(crate) fn about(&self) -> About<'_> {
        let Item { seq, id, ref tenant, ref entry, payload_len, arrived, .. } = *self;
        About { seq, id, tenant, entry, payload_len, arrived }
    }
}

impl Pending {
    pub(crate) fn new(
        item: Item,
        handed_over: Instant,
        work: Work,
        cancel: Option<CancellationToken>,
        permits: (Option<Slot>, BytesPermit),
    ) -> Self {
        Pending {
            waits_since: item.arrived,
            item,
            handed_over,
            work,
            timer: None,
            returns: None,
            seen: None,
            cancel,
            _permits: permits,
        }
    }

    /// Looks at the time itself: somebody awaits it alone.
    pub(crate) fn timed(self) -> Self {
        let timer = Some(Box::pin(tokio::time::sleep_until(self.due_first().into())));
        Pending { timer, ..self }
    }

    /// Tells its batch there when its time may be up sooner than it was. Until `held_until` the batch
    /// had as many items under way as it may, which is no wait for others.
    pub(super) fn of_batch(self, returns: Arc<Returns>, held_until: Instant) -> Self {
        let waits_since = self.waits_since.max(held_until);
        Pending { waits_since, returns: Some(returns), ..self }
    }

    /// Before this its time is not up.
    pub(crate) fn due_first(&self) -> Instant {
        let runs = self.handed_over + self.item.timeout;
        match self.work {
            Work::Recipe(_) | Work::Checked(_) => runs,
            // The time-out is running time: what is called first waits for its turn.
            Work::Call(_) => runs.min(self.waits_until()),
        }
    }

    /// When it has waited too long for its first attempt.
    fn waits_until(&self) -> Instant {
        self.waits_since + self.item.queue_timeout
    }

    /// Whether its time is up. One that never ran is withdrawn, so that it can not begin any more when
    /// that is said of it.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        let may_begin = self.waits() && self.work.attempts() == 0;
        self.due() <= now && (!may_begin || self.withdraw())
    }

    /// Whether it waits for its start.
    pub(super) fn waits(&self) -> bool {
        matches!(self.phase(), Phase::Waits(_))
    }

    fn phase(&self) -> Phase {
        match &self.work {
            Work::Recipe(_) | Work::Checked(_) => Phase::Runs(self.handed_over),
            Work::Call(call) => call.phase(),
        }
    }

    /// When its time is up, as it stands.
    pub(crate) fn due(&self) -> Instant {
        match self.phase() {
            Phase::Waits(_) if self.work.attempts() == 0 => self.waits_until(),
            phase => phase.due(self.item.queue_timeout, self.item.timeout),
        }
    }

    fn late(&self) -> Failure {
        match (&self.work, self.phase()) {
            (Work::Call(call), Phase::Waits(_)) => call.gave_up(&self.item.entry),
            _ => timed_out(self.item.timeout, &self.item.entry),
        }
    }

    /// Gives the item up if it waits where it was handed over and never ran; whether it did.
    pub(crate) fn withdraw(&mut self) -> bool {
        match &mut self.work {
            Work::Recipe(_) | Work::Checked(_) => false,
            Work::Call(call) => call.as_mut().withdraw(),
        }
    }

    /// Ends the item because its time is up.
    pub(crate) fn give_up(self) -> Finished {
        let failure = self.late();
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        self.stop(failure)
    }

    /// Ends the item with this failure instead of its own. Nothing is said of its progress any more.
    pub(crate) fn stop(self, failure: Failure) -> Finished {
        self.end(Err(failure), false)
    }

    fn end(&self, outcome: Outcome, panicked: bool) -> Finished {
        let ended = Instant::now();
        let (started, attempts) = (self.phase().began(ended), self.work.attempts());
        let end = End { started, ended, attempts, outcome, panicked, reported: true };
        Finished { item: self.item.clone(), end }
    }
}

impl Work {
    /// Polls the code once; a panic is an outcome like any other. The flag tells a panic.
    pub(crate) fn poll(&mut self, entry: &Entry, cx: &mut Poller<'_>) -> Poll<(Outcome, bool)> {
        // The future is never polled again after a panic, so no broken state can be seen.
        let polled = match self {
            Work::Recipe(f) => caught(|| f.as_mut().poll(cx).map_err(RunError::Failed)),
            Work::Checked(f) => caught(|| f.as_mut().poll(cx)),
            Work::Call(call) => call.as_mut().poll(cx),
        };
        polled.map(|ran| outcome_of(ran, entry))
    }

    fn attempts(&self) -> u32 {
        match self {
            Work::Recipe(_) | Work::Checked(_) => 1,
            Work::Call(call) => call.attempts(),
        }
    }
}

fn caught<T>(poll: impl FnOnce() -> Poll<Result<T, RunError>>) -> Poll<Result<T, RunError>> {
    catch_unwind(AssertUnwindSafe(poll))
        .unwrap_or_else(|panic| Poll::Ready(Err(RunError::Panicked(panic_message(&*panic)))))
}

/// What a panic said, for the client's developers.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the recipe panicked: {text}")
}

impl Pending {
    /// An item that begins, or waits again, may have less time than before.
    fn look_at_phase(&mut self) {
        let Work::Call(call) = &self.work else { return };
        let phase = call.phase();
        let Some(before) = self.seen.replace(phase) else { return };
        if before == phase {
            return;
        }
        let due = self.due();
        if let Some(returns) = &self.returns {
            let waker = match phase {
                Phase::Runs(_) => returns.begins(due),
                Phase::Waits(_) => returns.relapsed(),
            };
            waker.into_iter().for_each(Waker::wake);
        }
        if let Some(timer) = &mut self.timer
            && due < timer.deadline().into_std()
        {
            timer.as_mut().reset(due.into());
        }
    }
}

impl Future for Pending {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Finished> {
        let this = &mut *self;
        if let Poll::Ready((outcome, panicked)) = this.work.poll(&this.item.entry, cx) {
            return Poll::Ready(this.end(outcome, panicked));
        }
        this.look_at_phase();
        while let Some(timer) = &mut this.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            let due = this.due();
            if due <= Instant::now() {
                let late = this.late();
                if let Some(cancel) = &this.cancel {
                    cancel.cancel();
                }
                return Poll::Ready(this.end(Err(late), false));
            }
            this.timer = Some(Box::pin(tokio::time::sleep_until(due.into())));
        }
        Poll::Pending
    }
}

/// What became of an attempt. The flag tells a panic.
pub(super) fn outcome_of(ran: Result<Reply, RunError>, entry: &Entry) -> (Outcome, bool) {
    let idempotent = entry.spec.idempotent;
    let failure = match ran {
        Ok(reply) => return (Ok(reply), false),
        Err(RunError::Failed(e)) => Failure::recipe(e, idempotent),
        Err(RunError::Panicked(message)) => {
            return (Err(Failure::interrupted(Code::Panic, message, idempotent)), true);
        }
        Err(RunError::Lost(message)) => Failure::interrupted(Code::WorkerLost, message, idempotent),
        Err(RunError::Refused(e)) => Failure::refused(e),
        Err(RunError::Full) => no_thread(),
    };
    (Err(failure), false)
}

/// What an item is told that ran for too long.
pub(super) fn timed_out(timeout: Duration, entry: &Entry) -> Failure {
    let ms = timeout.as_millis();
    Failure::interrupted(Code::Timeout, format!("not done within {ms} ms"), entry.spec.idempotent)
        .detail("timeout_ms", ms)
        .detail("phase", "running")
}
