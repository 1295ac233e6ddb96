//! Items that run and have not answered yet.
//!
//! Timer and permits exist only here: what answers at once never becomes one of these.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Reply,
    catalog::Entry,
    outcome::{Failure, Outcome},
    pool::{RunError, Running},
    recipe::RecipeFuture,
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
    pub arrived: Instant,
}

/// The code of an item, wherever it runs.
pub(crate) enum Work {
    /// Polled here.
    Recipe(RecipeFuture),
    /// Polled here, once its payload was checked on the pool.
    Checked(Pin<Box<dyn Future<Output = Result<Reply, RunError>> + Send>>),
    /// Run on the pool of blocking threads.
    Pool(Box<Running>),
}

/// An item that runs. Dropping it stops it.
pub(crate) struct Pending {
    pub item: Item,
    pub started: Instant,
    work: Work,
    waits_for_thread: bool,
    timer: Pin<Box<Sleep>>,
    cancel: CancellationToken,
    _permits: (Slot, BytesPermit),
}

/// An item that ended.
pub(crate) struct Finished {
    pub item: Item,
    pub started: Instant,
    pub ended: Instant,
    pub outcome: Outcome,
    pub panicked: bool,
}

impl Pending {
    pub(crate) fn new(
        item: Item,
        started: Instant,
        work: Work,
        cancel: CancellationToken,
        permits: (Slot, BytesPermit),
    ) -> Self {
        let waits_for_thread = matches!(work, Work::Pool(_));
        // The time-out is running time: an item on the pool first waits for its thread.
        let limit = match work {
            Work::Recipe(_) | Work::Checked(_) => item.timeout,
            Work::Pool(_) => item.entry.spec.queue_timeout,
        };
        let timer = Box::pin(tokio::time::sleep_until((started + limit).into()));
        Pending { item, started, work, waits_for_thread, timer, cancel, _permits: permits }
    }

    /// A thread has begun with the item: its running time counts from here.
    fn begin_running(&mut self) {
        if let Work::Pool(running) = &self.work
            && self.waits_for_thread
            && let Some(at) = running.started()
        {
            (self.waits_for_thread, self.started) = (false, at);
            self.timer.as_mut().reset((at + self.item.timeout).into());
        }
    }
}

impl Work {
    /// Polls the code once; a panic is an outcome like any other. The flag tells a panic.
    pub(crate) fn poll(&mut self, entry: &Entry, cx: &mut Poller<'_>) -> Poll<(Outcome, bool)> {
        let idempotent = entry.spec.idempotent;
        // The future is never polled again after a panic, so no broken state can be seen.
        let polled = match self {
            Work::Recipe(f) => caught(|| f.as_mut().poll(cx).map_err(RunError::Failed)),
            Work::Checked(f) => caught(|| f.as_mut().poll(cx)),
            Work::Pool(running) => Pin::new(running.as_mut()).poll(cx),
        };
        polled.map(|r| match r {
            Ok(reply) => (Ok(reply), false),
            Err(RunError::Failed(e)) => (Err(Failure::recipe(e, idempotent)), false),
            Err(RunError::Panicked(message)) => {
                let failure = Failure::interrupted(Code::Panic, message, idempotent);
                (Err(failure), true)
            }
            Err(RunError::Refused(e)) => (Err(Failure::refused(e)), false),
            Err(RunError::Full) => (Err(no_thread()), false),
        })
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

impl Future for Pending {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Finished> {
        let this = &mut *self;
        let polled = this.work.poll(&this.item.entry, cx);
        this.begin_running();
        let (outcome, panicked) = match polled {
            Poll::Ready(done) => done,
            Poll::Pending if this.timer.as_mut().poll(cx).is_ready() => {
                this.cancel.cancel();
                let failure = if this.waits_for_thread {
                    never_ran(&this.item)
                } else {
                    timed_out(&this.item)
                };
                (Err(failure), false)
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Finished {
            item: this.item.clone(),
            started: this.started,
            ended: Instant::now(),
            outcome,
            panicked,
        })
    }
}

/// The pool of blocking threads has no room for another item of the tenant.
fn no_thread() -> Failure {
    let message = "too many items of the tenant wait for a thread that may block";
    Failure::never_started(Code::Overloaded, message)
        .detail("config_key", "batch.blocking_queue_max")
}

/// No thread began with the item in time.
fn never_ran(item: &Item) -> Failure {
    let ms = item.entry.spec.queue_timeout.as_millis();
    let message = format!("not started within {ms} ms: every thread that may block was busy");
    let failure = Failure::never_started(Code::Timeout, message).detail("phase", "queued");
    Failure { retryable: true, ..failure }
}

fn timed_out(item: &Item) -> Failure {
    let ms = item.timeout.as_millis();
    Failure::interrupted(
        Code::Timeout,
        format!("not done within {ms} ms"),
        item.entry.spec.idempotent,
    )
    .detail("timeout_ms", ms)
    .detail("phase", "running")
}
