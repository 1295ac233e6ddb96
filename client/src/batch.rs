//! A batch that is open: items go up while results come down.
//!
//! [`Batch`] is both halves in one hand; [`Batch::split`] gives each its own. Nothing here retries:
//! that is `execute`'s part.

mod back;
mod execute;
mod inbox;
mod jobs;
mod judge;
mod ledger;
mod options;
mod outbox;
mod outcome;
mod resume;
mod stream;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::Stream;
use tollgate_protocol::{
    batch::{self, CancelScope},
    id::BatchId,
};

pub(crate) use execute::execute;
pub use options::BatchBuilder;
pub(crate) use options::Options;
pub use outcome::BatchResult;

use self::{
    outbox::{Outbox, Pushed, Stage},
    stream::BatchStream,
};
use crate::{
    error::BatchError,
    event::{Event, EventRef},
    item::ItemResult,
    request::Request,
};

/// An open batch. Dropping it before its [`Event::Summary`] cancels it, running items too; a
/// durable one goes on.
///
/// Items that become jobs outlive the connection: when it is lost, the batch comes back by itself,
/// and their results are among its events as ever. What was no job is lost with the connection, and
/// ends the batch with an error once the jobs are over; of a durable batch nothing is lost, and it
/// takes items again after a while.
///
/// Send and read in any order you like: while flow control holds a `send` up, results are read
/// and kept, and while `next` waits, what was gathered is written. What is kept is bounded by the
/// items that were sent.
///
/// ```no_run
/// use tollgate_client::{Client, Event, Request};
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut batch = client.batch().open().await?;
/// for line in ["one", "two"] {
///     batch.send(Request::new("echo", line)).await?;
/// }
/// batch.finish().await?;
/// while let Some(event) = batch.next().await {
///     match event? {
///         Event::Result(result) => println!("{}: {:?}", result.id, result.payload()),
///         Event::Progress(progress) => println!("{}: {:?} %", progress.id, progress.percent()),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a batch cancels it"]
pub struct Batch {
    // Dropped first, so that the reset leaves before the stop.
    sender: BatchSender,
    events: BatchEvents,
}

impl Batch {
    fn new(stream: BatchStream, id: BatchId) -> Self {
        let stream = Arc::new(stream);
        Batch { sender: BatchSender { stream: stream.clone(), id }, events: BatchEvents { stream } }
    }

    /// The batch's id: what the broker's log calls it.
    pub fn id(&self) -> BatchId {
        self.sender.id
    }

    /// As [`BatchSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, request: Request) -> Result<u64, BatchError> {
        self.sender.send(request).await
    }

    /// As [`BatchSender::send_raw`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_raw(&mut self, request: &batch::Request<'_>) -> Result<(), BatchError> {
        self.sender.send_raw(request).await
    }

    /// As [`BatchSender::flush`].
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> Result<(), BatchError> {
        self.sender.flush().await
    }

    /// As [`BatchSender::seal`].
    ///
    /// # Errors
    /// As there.
    pub async fn seal(&mut self) -> Result<(), BatchError> {
        self.sender.seal().await
    }

    /// As [`BatchSender::finish`].
    ///
    /// # Errors
    /// As there.
    pub async fn finish(&mut self) -> Result<(), BatchError> {
        self.sender.finish().await
    }

    /// As [`BatchSender::cancel`].
    ///
    /// # Errors
    /// As there.
    pub async fn cancel(&mut self, scope: CancelScope) -> Result<(), BatchError> {
        self.sender.cancel(scope).await
    }

    /// As [`BatchEvents::next`].
    pub async fn next(&mut self) -> Option<Result<Event, BatchError>> {
        self.events.next().await
    }

    /// As [`BatchEvents::for_each`].
    ///
    /// # Errors
    /// As there.
    pub async fn for_each(&mut self, visit: impl FnMut(EventRef<'_>)) -> Result<(), BatchError> {
        self.events.for_each(visit).await
    }

    /// Seals the batch, if it is not sealed, and lets its jobs go on alone: returns once every item
    /// is a job on the broker's stable storage or has come to its end. Gives the results that came
    /// until then: of items that were refused, that are no jobs, or that are over already.
    ///
    /// The jobs' results are to be had by [`Client::attach`](crate::Client::attach), with the
    /// batch's [`id`](Self::id).
    ///
    /// # Errors
    /// As [`next`](Self::next). When it is dropped before its end, a durable batch goes on all the
    /// same, with what of it the broker has.
    #[must_use = "items may have been refused"]
    pub async fn detach(mut self) -> Result<Vec<ItemResult>, BatchError> {
        self.say_detach()?;
        let mut results = Vec::new();
        while let Some(event) = self.next().await {
            if let Event::Result(result) = event? {
                results.push(result);
            }
        }
        Ok(results)
    }

    /// Has the batch sealed and detached from, with what is written next.
    pub(crate) fn say_detach(&self) -> Result<(), BatchError> {
        self.sender.detach_now()
    }

    /// The two halves, for two tasks. Dropping either before the end cancels the batch, except a
    /// sender that has sealed it.
    pub fn split(self) -> (BatchSender, BatchEvents) {
        (self.sender, self.events)
    }
}

/// The half of a batch that sends items.
#[must_use = "dropping the sender of a batch that is not sealed cancels it"]
pub struct BatchSender {
    stream: Arc<BatchStream>,
    id: BatchId,
}

impl BatchSender {
    /// The batch's id: what the broker's log calls it.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// Takes an item and gives its id: the one it asked for, or one more than the last, from 0.
    ///
    /// Items are gathered and written some 32 KiB at a time, or as soon as somebody waits for the
    /// next event, or at [`flush`](Self::flush). Waits while the broker reads no further. Waits
    /// also, once, for the broker's limits when the item takes more than 64 KiB; an item beyond
    /// them is not sent, and comes back among the events as a result `FRAME_TOO_LARGE`.
    ///
    /// Cancel-safe: the item was taken only if the future came to its end.
    ///
    /// # Errors
    /// [`BatchError::IdNotIncreasing`] (the batch goes on), [`BatchError::Sealed`],
    /// [`BatchError::Stopped`] when the broker takes no more, which its events explain, or what
    /// ended the batch.
    pub async fn send(&mut self, request: Request) -> Result<u64, BatchError> {
        self.push(|outbox| outbox.push(&request)).await
    }

    /// Takes an item as it goes on the wire, copying its payload into what is gathered: the
    /// cheapest way for many small items. Otherwise as [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_raw(&mut self, request: &batch::Request<'_>) -> Result<(), BatchError> {
        self.push(|outbox| outbox.push_raw(request)).await.map(drop)
    }

    async fn push(
        &mut self,
        mut push: impl FnMut(&mut Outbox) -> Result<Pushed, BatchError>,
    ) -> Result<u64, BatchError> {
        let stream = &*self.stream;
        let mut is_news = false;
        let mut send = |outbox: &mut Outbox| -> Poll<Result<u64, BatchError>> {
            outbox.check_open()?;
            if outbox.is_full() {
                let flushed = outbox.poll_flush(&mut stream.context());
                outbox.check_open()?;
                if flushed.is_pending() && outbox.is_full() {
                    return Poll::Pending;
                }
            }
            let was_empty = outbox.is_empty();
            match push(outbox)? {
                Pushed::Taken(id) => {
                    is_news = was_empty || !outbox.refused.is_empty();
                    Poll::Ready(Ok(id))
                }
                Pushed::AwaitAccepted => {
                    let _ = outbox.poll_flush(&mut stream.context());
                    outbox.check_open()?;
                    Poll::Pending
                }
            }
        };
        let id = poll_fn(|cx| stream.poll_send(cx, &mut send)).await?;
        // A reader who waits already writes what is gathered, together with what follows until
        // its turn comes. Who left something there before has woken it for that.
        if is_news {
            stream.wakes().events.wake();
        }
        Ok(id)
    }

    /// Writes what is gathered. Cancel-safe.
    ///
    /// # Errors
    /// What ended the batch, or [`BatchError::Stopped`].
    pub async fn flush(&mut self) -> Result<(), BatchError> {
        let stream = &*self.stream;
        poll_fn(|cx| {
            stream.poll_send(cx, |outbox| {
                ready!(outbox.poll_flush(&mut stream.context()));
                Poll::Ready(match &outbox.closed {
                    Some(e) => Err(e.clone()),
                    None => Ok(()),
                })
            })
        })
        .await
    }

    /// Says that no more items follow, and leaves the stream open, so that
    /// [`cancel`](Self::cancel) can still be said in band.
    ///
    /// Cancel-safe: once polled, the batch is sealed, and the seal leaves with the next flush or
    /// read.
    ///
    /// # Errors
    /// [`BatchError::Sealed`] when it is sealed already, or as [`flush`](Self::flush).
    pub async fn seal(&mut self) -> Result<(), BatchError> {
        self.seal_now(false)?;
        self.flush().await
    }

    /// Seals the batch and ends the stream in the same packet: saves one, and leaves only
    /// dropping the events to cancel with. A batch that is sealed already is only ended.
    ///
    /// Cancel-safe as [`seal`](Self::seal).
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn finish(&mut self) -> Result<(), BatchError> {
        self.seal_now(true)?;
        match self.flush().await {
            // The summary came first: everything had been written, or the broker wanted no more.
            Err(BatchError::Ended) => Ok(()),
            flushed => flushed,
        }
    }

    /// Seals a durable batch and wants to hear no more of it than that its items are kept: the
    /// events end then, without a summary.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub async fn detach(&mut self) -> Result<(), BatchError> {
        self.detach_now()?;
        match self.flush().await {
            Err(BatchError::Ended) => Ok(()),
            flushed => flushed,
        }
    }

    fn seal_now(&self, fin: bool) -> Result<(), BatchError> {
        let mut outbox = self.stream.outbox();
        match outbox.stage {
            Stage::Sealed if fin => outbox.stage = Stage::Finishing,
            Stage::Finishing | Stage::Finished if fin => {}
            _ => {
                outbox.check_open()?;
                self.stream.seal(&mut outbox, fin);
            }
        }
        Ok(())
    }

    fn detach_now(&self) -> Result<(), BatchError> {
        let mut outbox = self.stream.outbox();
        match (outbox.stage, &outbox.closed) {
            // It has ended: the events say so.
            (_, Some(BatchError::Ended)) => return Ok(()),
            (_, Some(e)) => return Err(e.clone()),
            (Stage::Open, None) => outbox.seal(false),
            (Stage::Sealed, None) => {}
            (Stage::Finishing | Stage::Finished, None) => return Err(BatchError::Finished),
        }
        outbox.detach();
        Ok(())
    }

    /// Gives up what has not started, or everything; results and the summary still come.
    ///
    /// Acts in band, behind the items sent before, or at once by resetting the stream when flow
    /// control holds it up: items that the broker has not read are then lost, and
    /// [`Summary::last_id_read`](crate::Summary::last_id_read) tells which. Never waits.
    ///
    /// # Errors
    /// [`BatchError::Finished`] after [`finish`](Self::finish), [`BatchError::Ended`], or what
    /// ended the batch.
    pub async fn cancel(&mut self, scope: CancelScope) -> Result<(), BatchError> {
        let mut outbox = self.stream.outbox();
        match (outbox.stage, &outbox.closed) {
            (_, closed) if outbox.away && !matches!(closed, Some(BatchError::Ended)) => {
                outbox.cancel(scope, &mut self.stream.context());
                drop(outbox);
                self.stream.wakes().events.wake();
                Ok(())
            }
            (Stage::Finishing | Stage::Finished, None) => Err(BatchError::Finished),
            // `All` may follow `Pending`, and a broker that reads no more items still cancels.
            (_, None | Some(BatchError::Cancelled | BatchError::Stopped(_))) => {
                outbox.cancel(scope, &mut self.stream.context());
                Ok(())
            }
            (_, Some(e)) => Err(e.clone()),
        }
    }
}

impl BatchSender {
    /// As [`cancel`](Self::cancel), always by resetting the stream: it acts at once, also on a batch
    /// that the broker reads no further for now, and items that it has not read are lost.
    ///
    /// A stream is reset once: after `Pending`, all that still cancels what runs is dropping the
    /// events, and then nobody is told.
    pub fn cancel_at_once(&mut self, scope: CancelScope) {
        self.stream.outbox().reset(outbox::code_of(scope));
    }
}

impl Drop for BatchSender {
    fn drop(&mut self) {
        self.stream.outbox().abandon(&mut self.stream.context());
    }
}

/// The half of a batch that reads events. Also a [`Stream`] of them.
#[must_use = "dropping the events of a batch before its end cancels it"]
pub struct BatchEvents {
    stream: Arc<BatchStream>,
}

impl BatchEvents {
    /// The next event; `None` after the summary, or after an error. Writes what the sender
    /// gathered when there is nothing to read. Cancel-safe: no event is lost.
    ///
    /// # Errors
    /// An item that fails is an [`Event::Result`]; an error here is about the batch as a whole,
    /// and the last thing it tells. Items without a result are then unknown.
    pub async fn next(&mut self) -> Option<Result<Event, BatchError>> {
        poll_fn(|cx| self.stream.poll_next(cx)).await
    }

    /// Shows every event to `visit`, the summary last, borrowed from the bytes that arrived:
    /// nothing is allocated and nothing copied. `visit` must not block.
    ///
    /// Cancel-safe: an event that was shown is not shown again, no other is lost.
    ///
    /// ```no_run
    /// use tollgate_client::{BatchEvents, EventRef, wire::Body};
    ///
    /// # async fn example(mut events: BatchEvents) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut bytes = 0;
    /// events
    ///     .for_each(|event| {
    ///         if let EventRef::Result(result) = event
    ///             && let Body::Payload(payload) = result.body
    ///         {
    ///             bytes += payload.len();
    ///         }
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`next`](Self::next): `Ok` only after the summary.
    pub async fn for_each(
        &mut self,
        mut visit: impl FnMut(EventRef<'_>),
    ) -> Result<(), BatchError> {
        let mut show = |event: EventRef<'_>, _: Option<&bytes::Bytes>| visit(event);
        poll_fn(|cx| self.stream.poll_drive(cx, false, &mut |_| {}, &mut show)).await
    }
}

impl Stream for BatchEvents {
    type Item = Result<Event, BatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next(cx)
    }
}

impl Drop for BatchEvents {
    fn drop(&mut self) {
        self.stream.drop_reader();
    }
}

impl std::fmt::Debug for BatchSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchSender").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BatchEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchEvents").finish_non_exhaustive()
    }
}
