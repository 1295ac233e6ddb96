//! One call, as its handler sees it: for whom, until when, and whether anybody still wants it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tollgate_protocol::{id::BatchId, limits, truncate, work};

use super::progress::{Board, Report, Slot};
use crate::item::Metadata;

/// One call. Cheap to clone, and outlives its handler: then it says nothing more.
#[derive(Clone)]
pub struct Call {
    inner: Arc<Inner>,
}

struct Inner {
    lease: u64,
    recipe: Arc<str>,
    tenant: Arc<str>,
    batch_id: BatchId,
    item_id: u64,
    attempt: u32,
    deadline: Instant,
    traceparent: Option<Box<str>>,
    metadata: Metadata,
    cancelled: AtomicBool,
    /// It runs on a thread that can not be stopped: its end is waited for.
    held: AtomicBool,
    on_cancel: Notify,
    /// The task that runs the handler.
    task: AtomicWaker,
    progress: Mutex<Slot>,
    board: Weak<Board>,
}

impl Call {
    pub(super) fn new(
        d: &work::Dispatch<'_>,
        recipe: Arc<str>,
        tenant: Arc<str>,
        now: Instant,
        board: &Arc<Board>,
    ) -> Self {
        Call {
            inner: Arc::new(Inner {
                lease: d.lease,
                recipe,
                tenant,
                batch_id: d.batch_id,
                item_id: d.item_id,
                attempt: d.attempt,
                deadline: until(now, d.timeout_ms),
                traceparent: d.traceparent.map(Into::into),
                metadata: Metadata::own(&d.metadata),
                cancelled: AtomicBool::new(false),
                held: AtomicBool::new(false),
                on_cancel: Notify::new(),
                task: AtomicWaker::new(),
                progress: Mutex::default(),
                board: Arc::downgrade(board),
            }),
        }
    }

    /// A call without a broker, so that a handler can be tested alone: item 1 of a batch, one
    /// minute of time, no metadata. Its progress goes nowhere.
    ///
    /// ```
    /// use tollgate_client::worker::{Call, WorkError};
    ///
    /// async fn greet(call: Call, payload: bytes::Bytes) -> Result<String, WorkError> {
    ///     Ok(format!("{} of {}", std::str::from_utf8(&payload)?, call.tenant()))
    /// }
    /// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
    /// let greeting = greet(Call::alone("greet", "acme"), "Ann".into()).await;
    /// assert_eq!(greeting.expect("an answer"), "Ann of acme");
    /// # });
    /// ```
    pub fn alone(recipe: &str, tenant: &str) -> Self {
        let dispatch = work::Dispatch {
            lease: 1,
            recipe: 0,
            attempt: 1,
            timeout_ms: 60_000,
            item_id: 1,
            batch_id: BatchId::random(),
            tenant,
            traceparent: None,
            metadata: tollgate_protocol::Pairs::EMPTY,
            apart: None,
            payload: &[],
        };
        let board = Arc::new(Board::default());
        Call::new(&dispatch, recipe.into(), tenant.into(), Instant::now(), &board)
    }

    /// The recipe.
    pub fn recipe(&self) -> &str {
        &self.inner.recipe
    }

    /// Whose item it is.
    pub fn tenant(&self) -> &str {
        &self.inner.tenant
    }

    /// The batch.
    pub fn batch_id(&self) -> BatchId {
        self.inner.batch_id
    }

    /// The item's id in its batch.
    pub fn item_id(&self) -> u64 {
        self.inner.item_id
    }

    /// Which attempt it is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Until when an answer is of use.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }

    /// How much time is left.
    pub fn time_left(&self) -> Duration {
        self.inner.deadline.saturating_duration_since(Instant::now())
    }

    /// What whoever asks sent along.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The W3C trace context of the batch.
    pub fn traceparent(&self) -> Option<&str> {
        self.inner.traceparent.as_deref()
    }

    /// Whether nobody wants the result any more: the client cancelled, the time is over, or the
    /// connection is lost. An async handler is dropped then; one on a thread should look here.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Acquire)
    }

    /// Done once nobody wants the result any more. Cancel-safe.
    pub async fn cancelled(&self) {
        // Made before the flag is read, so that no cancellation is missed in between.
        let notified = self.inner.on_cancel.notified();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    /// Reports how far it has come, in units of the recipe's choice; a `total` of 0 is "unknown".
    ///
    /// Never blocks, and costs little: newest wins, and at most ten a second are sent. The last
    /// one before the call's end is always sent.
    pub fn progress(&self, done: u64, total: u64, message: &str) {
        let message = truncate(message, limits::MESSAGE_BYTES_MAX);
        if self.slot().put(Report { done, total, message: message.into() })
            && let Some(board) = self.inner.board.upgrade()
        {
            board.pin(self.clone());
        }
    }

    pub(super) fn lease(&self) -> u64 {
        self.inner.lease
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants it any more.
    pub(super) fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Release);
        self.inner.on_cancel.notify_waiters();
        self.inner.task.wake();
    }

    /// Whoever polls the handler wants to hear of a cancellation.
    pub(super) fn wake_on_cancel(&self, task: &Waker) {
        self.inner.task.register(task);
    }

    pub(super) fn hold(&self) {
        self.inner.held.store(true, Ordering::Release);
    }

    pub(super) fn is_held(&self) -> bool {
        self.inner.held.load(Ordering::Acquire)
    }
}

/// A time-out that is no time at all is a century.
fn until(now: Instant, timeout_ms: u64) -> Instant {
    const CENTURY_MS: u64 = 100 * 366 * 24 * 3_600 * 1_000;
    now + Duration::from_millis(timeout_ms.min(CENTURY_MS))
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("recipe", &self.recipe())
            .field("tenant", &self.tenant())
            .field("batch_id", &self.batch_id())
            .field("item_id", &self.item_id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
