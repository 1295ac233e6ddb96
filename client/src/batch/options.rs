//! What a caller asks for a batch as a whole.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Extensions,
    batch::{BatchOpen, Durability, Mode, Order},
    id::BatchId,
    limits,
};

use super::{Batch, BatchResult, execute::execute, resume::Home, stream::BatchStream};
use crate::{
    client::Client,
    error::{BatchError, Disconnected},
    request::{Request, whole_ms},
    retry::RetryPolicy,
};

/// A batch's own settings.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) id: Option<BatchId>,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) mode: Mode,
    pub(crate) order: Order,
    pub(crate) concurrency_max: u32,
    pub(crate) deadline: Option<Duration>,
    pub(crate) priority: u8,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) durability: Durability,
    pub(crate) retry: RetryPolicy,
}

impl Options {
    pub(crate) fn new(retry: RetryPolicy) -> Self {
        Options {
            id: None,
            tenant: None,
            mode: Mode::BestEffort,
            order: Order::Completion,
            concurrency_max: 0,
            deadline: None,
            priority: limits::PRIORITY_DEFAULT,
            traceparent: None,
            durability: Durability::Ephemeral,
            retry,
        }
    }

    /// The open frame of a batch that has `deadline` left.
    pub(super) fn open(&self, id: BatchId, deadline: Option<Duration>) -> BatchOpen<'_> {
        BatchOpen {
            batch_id: id,
            tenant: self.tenant.as_deref(),
            durability: self.durability,
            mode: self.mode,
            order: self.order,
            concurrency_max: self.concurrency_max,
            deadline_ms: deadline.map(whole_ms),
            priority: self.priority,
            traceparent: self.traceparent.as_deref(),
            extensions: Extensions::EMPTY,
        }
    }
}

/// Sets up a batch; made by [`Client::batch`].
///
/// ```no_run
/// use std::time::Duration;
/// use tollgate_client::{Client, Mode, Request};
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::BatchError> {
/// let result = client
///     .batch()
///     .mode(Mode::FailFast)
///     .deadline(Duration::from_secs(30))
///     .execute((0..100).map(|n| Request::new("echo", format!("item {n}"))))
///     .await?;
/// println!("{} of {} succeeded", result.successes().count(), result.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `execute` or `open`"]
pub struct BatchBuilder {
    client: Client,
    options: Options,
}

impl BatchBuilder {
    pub(crate) fn new(client: Client, options: Options) -> Self {
        BatchBuilder { client, options }
    }

    /// The batch's id, which the broker's log carries; a new UUID of version 7 when left out. Must
    /// not be the id of a batch of the tenant that is open.
    pub fn id(mut self, id: BatchId) -> Self {
        self.options.id = Some(id);
        self
    }

    /// Gateways only: the tenant for whom every item is, unless the item names its own.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.options.tenant = Some(tenant.into());
        self
    }

    /// Makes the batch durable: each item becomes a job, on the broker's stable storage before it
    /// is accepted, and losing the connection cancels nothing. The batch goes on over a new
    /// connection by itself, for as long as the client's
    /// [`patience`](crate::ClientBuilder::patience).
    pub fn durable(mut self) -> Self {
        self.options.durability = Durability::Durable;
        self
    }

    /// What one item's failure means for the others: nothing (`BestEffort`, the default), or that
    /// nothing more is started (`FailFast`).
    pub fn mode(mut self, mode: Mode) -> Self {
        self.options.mode = mode;
        self
    }

    /// In which order results come: as items finish (`Completion`, the default), or in the order
    /// of the requests (`Submission`).
    pub fn order(mut self, order: Order) -> Self {
        self.options.order = order;
        self
    }

    /// How many items run at once at most; 0, the default, leaves it to the broker.
    pub fn concurrency_max(mut self, items: u32) -> Self {
        self.options.concurrency_max = items;
        self
    }

    /// How long the batch may take, in whole milliseconds (rounded up), retries included: what has
    /// not finished by then fails with `DEADLINE_EXCEEDED`.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// From 0 to 7, 7 first; 3 when left out. What is above 7 counts as 7.
    pub fn priority(mut self, priority: u8) -> Self {
        self.options.priority = priority.min(limits::PRIORITY_MAX);
        self
    }

    /// The W3C trace context that the batch belongs to; at most 256 bytes.
    pub fn traceparent(mut self, traceparent: impl Into<Arc<str>>) -> Self {
        self.options.traceparent = Some(traceparent.into());
        self
    }

    /// Which items [`execute`](Self::execute) tries again, instead of the client's choice. An open
    /// batch never retries.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.options.retry = retry;
        self
    }

    /// Runs a whole batch: as [`Client::execute`].
    ///
    /// # Errors
    /// As there.
    pub async fn execute(
        self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<BatchResult, BatchError> {
        execute(&self.client, &self.options, requests, &mut |_| {}).await
    }

    /// Opens the batch, to send items and read events as they come. Its first frame leaves with
    /// the first items, or when events are waited for.
    ///
    /// Waits for a connection, and for a free stream on it. Cancel-safe.
    ///
    /// # Errors
    /// [`BatchError::Connect`] or [`BatchError::Disconnected`].
    pub async fn open(self) -> Result<Batch, BatchError> {
        let BatchBuilder { client, options } = self;
        let id = options.id.unwrap_or_else(BatchId::random);
        let due = options.deadline.map(|d| Instant::now() + d);
        let stream = open_stream(Home::new(client, options, id, due), 0).await?;
        Ok(Batch::new(stream, id))
    }
}

/// Opens a stream, on a new connection if the one there was is found lost only now: nothing was
/// sent yet.
pub(super) async fn open_stream(home: Home, capacity: usize) -> Result<BatchStream, BatchError> {
    let session = home.client.session().await?;
    let lost: Disconnected = match BatchStream::open(session, home.clone(), capacity).await {
        Ok(stream) => return Ok(stream),
        Err(lost) => lost,
    };
    if !lost.retryable() {
        return Err(lost.into());
    }
    let session = home.client.session().await?;
    Ok(BatchStream::open(session, home, capacity).await?)
}
