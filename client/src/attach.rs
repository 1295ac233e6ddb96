//! Reading on from jobs and batches that outlived their connection.
//!
//! An [`Attachment`] comes back by itself when its connection is lost. It never cancels by going
//! away.

mod reader;
mod stream;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tollgate_protocol::{
    batch::{CancelScope, Number},
    job::JobTarget,
};

pub(crate) use reader::{Heard, Reader};

use crate::{
    client::Client,
    error::JobError,
    event::{JobAccepted, Notice, Progress, Summary},
    item::ItemResult,
};

/// Something that was told of a job, or of a batch's jobs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobEvent {
    /// Numbers that were known are lost: events may be missing, and all that is kept follows,
    /// perhaps once more.
    Gap,
    /// An item became a job.
    Accepted(JobAccepted),
    /// How far a job has come: newest wins, so some may be skipped.
    Progress(Progress),
    /// The end of a job.
    Result(ItemResult),
    /// Something is about to happen to the connection; the attachment survives it.
    Notice(Notice),
    /// The end of a durable batch: always last.
    Summary(Summary),
}

/// A stream of what is told of a job or of a batch's jobs; made by [`Client::attach`].
///
/// Connects when it is first read. When the connection is lost or the broker restarts, it attaches
/// again after the last number seen, for as long as the client's patience: no event is missing
/// and none comes twice. Dropping it cancels nothing.
///
/// Ends after a job's result, after a durable batch's summary, or when all jobs of an ephemeral
/// batch are over.
///
/// ```no_run
/// use tollgate_client::{BatchId, Client, JobEvent, JobTarget};
///
/// # async fn example(client: Client, id: BatchId) -> Result<(), tollgate_client::JobError> {
/// let mut attached = client.attach(JobTarget::Batch(id));
/// while let Some(event) = attached.next().await {
///     if let JobEvent::Result(result) = event? {
///         println!("item {}: {:?}", result.id, result.payload());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "an attachment does nothing unless it is read"]
pub struct Attachment {
    reader: Reader,
    /// What has arrived and was not asked for yet: bounded by one read.
    kept: VecDeque<JobEvent>,
    /// Why it ended, if that was not told yet.
    failed: Option<JobError>,
}

impl Attachment {
    pub(crate) fn new(client: Client, target: JobTarget) -> Self {
        let reader = Reader::new(client, target, None, Number::default());
        Attachment { reader, kept: VecDeque::new(), failed: None }
    }

    /// Gateways only: the tenant whose job or batch it is. Before the first event is read.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.reader.set_tenant(tenant.into());
        self
    }

    /// Skips what was seen before: everything up to this number. Before the first event is read.
    pub fn after(mut self, number: Number) -> Self {
        self.reader.set_seen(number);
        self
    }

    /// Only what is kept by now, and then an end. Before the first event is read.
    pub fn replay(mut self) -> Self {
        self.reader.set_follow(false);
        self
    }

    /// For how long a broker that is out of reach is looked for, instead of the client's own
    /// [`patience`](crate::ClientBuilder::patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.reader.set_patience(patience);
        self
    }

    /// What it is attached to.
    pub fn target(&self) -> JobTarget {
        self.reader.target()
    }

    /// The last number that arrived: give it to [`after`](Self::after) to read on another time.
    pub fn number(&self) -> Number {
        self.reader.seen()
    }

    /// Cancels the jobs that do not run, or all of them; their results still come. Leaves with the
    /// next read, and never waits.
    pub fn cancel(&mut self, scope: CancelScope) {
        self.reader.cancel(scope);
    }

    /// The next event; `None` when all is over, or after an error. Cancel-safe.
    ///
    /// # Errors
    /// [`JobError::Failed`] with `NOT_FOUND` when there is no such job or batch of this tenant,
    /// [`JobError::OutOfReach`] when the broker did not come back in time. An error is the last
    /// thing it tells. A job that failed is an event.
    pub async fn next(&mut self) -> Option<Result<JobEvent, JobError>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<JobEvent, JobError>>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        let next = loop {
            if let Some(event) = self.kept.pop_front() {
                break Some(Ok(event));
            }
            if let Some(e) = self.failed.take() {
                break Some(Err(e));
            }
            if self.reader.is_over() {
                break None;
            }
            let kept = &mut self.kept;
            let read = ready!(self.reader.poll(cx)).and_then(|()| {
                self.reader.visit(&mut |heard, backing| {
                    kept.push_back(match heard {
                        Heard::Gap => JobEvent::Gap,
                        Heard::Accepted(x) => JobEvent::Accepted(JobAccepted::own(&x)),
                        Heard::Progress(x) => JobEvent::Progress(Progress::own(&x)),
                        Heard::Result(x) => JobEvent::Result(ItemResult::own(&x, backing)),
                        Heard::Notice(x) => JobEvent::Notice(Notice::own(&x)),
                        Heard::Summary(x) => JobEvent::Summary(Summary::own(&x)),
                    });
                    Ok(())
                })
            });
            if let Err(e) = read {
                self.reader.end();
                self.failed = Some(e);
            }
        };
        turn.made_progress();
        Poll::Ready(next)
    }
}

impl Stream for Attachment {
    type Item = Result<JobEvent, JobError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("target", &self.reader.target())
            .field("seen", &self.reader.seen())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Reads on from a job or a batch, from whichever connection or process it came: everything
    /// that is kept, then live until all is over.
    pub fn attach(&self, target: JobTarget) -> Attachment {
        Attachment::new(self.clone(), target)
    }
}
