//! The port for recipes that run elsewhere: whoever implements it queues, dispatches and answers.
//!
//! The engine owns the item, its time-outs and its result; what it hands over here comes back as a
//! future. Nothing here knows what stands behind it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tollgate_protocol::Code;

use super::{
    Context, Reply,
    catalog::Entry,
    outcome::Failure,
    pool::{Pool, RunError, Turn},
    slots::{Claim, Mailbox},
};
use crate::tenancy::Tenant;

/// Where the items of a recipe go that does not run in this process.
pub(crate) trait Remote: Send + Sync {
    /// Whether one more item of this tenant may queue. If not, the mailbox is nudged once that
    /// changed.
    fn has_room(&self, claim: &Claim, mailbox: &Arc<Mailbox>) -> bool;

    /// Queues an item. It takes its slot itself, when it is dispatched.
    fn call(&self, task: Task) -> Pin<Box<dyn Call>>;

    /// Whether somebody is there who could run one.
    fn is_served(&self) -> bool {
        true
    }
}

/// An item as it is handed over.
pub(crate) struct Task {
    pub tenant: Arc<Tenant>,
    pub entry: Arc<Entry>,
    pub ctx: Context,
    pub payload: Bytes,
    /// What it counts against once it runs.
    pub claim: Claim,
    /// How long an attempt may run.
    pub timeout: Duration,
    /// Set when it is to be tried just once, as somebody else keeps the count.
    pub once: Option<Once>,
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

/// Where a call stands, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits for an attempt to begin, the first or another.
    Waits(Instant),
    /// An attempt runs.
    Runs(Instant),
}

/// An item that was handed over. Dropping it gives it up, wherever it is.
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

/// An item whose payload is held against its schema on the pool, before it is handed over.
pub(super) struct Checked {
    since: Instant,
    check: Option<Check>,
    task: Option<Task>,
    call: Option<Pin<Box<dyn Call>>>,
}

type Check = Pin<Box<dyn Future<Output = Result<(), RunError>> + Send>>;

impl Checked {
    pub(super) fn new(pool: &Pool, turn: Turn, task: Task) -> Self {
        let check = pool.check(turn, task.entry.clone(), task.payload.clone());
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
            this.call = task.entry.clone().handler.remote().map(|remote| remote.call(task));
        }
        match &mut this.call {
            Some(call) => call.as_mut().poll(cx),
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
        self.call.as_mut().is_none_or(|call| call.as_mut().withdraw())
    }
}
