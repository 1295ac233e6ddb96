//! Jobs: work that outlives the connection it came on.
//!
//! [`Client::submit`] hands one over and gives a [`Job`], from which progress and result are to be
//! had at any later time; [`Client::jobs`] looks at jobs and acts on them. Nothing here tries a job
//! again: that is the broker's part.

mod ask;
mod info;
mod submit;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tollgate_protocol::{
    batch::{CancelScope, Number},
    id::JobId,
    job::JobTarget,
};

pub use ask::{JobFilter, JobPage, JobWhich, Jobs};
pub use info::{AttemptError, JobInfo};
pub use submit::Submit;

use crate::{
    attach::{Attachment, JobEvent},
    client::Client,
    error::JobError,
    event::Progress,
    item::ItemResult,
};

/// A job at the broker. Cheap to clone; dropping it changes nothing about the job.
///
/// ```no_run
/// use tollgate_client::Client;
///
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let job = client.submit("csv.profile", &"a,b\n1,2\n").idempotency_key("report-17").await?;
/// println!("submitted as {}", job.id());
/// let result = job.result().await?;
/// println!("done after {} attempts: {:?}", result.attempts, result.payload());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Job {
    client: Client,
    id: JobId,
    tenant: Option<Arc<str>>,
    /// The number of its acceptance, if that is known: there is nothing before it.
    accepted: Number,
    existing: bool,
    patience: Option<Duration>,
}

impl Job {
    pub(crate) fn new(client: Client, id: JobId) -> Self {
        let accepted = Number::default();
        Job { client, id, tenant: None, accepted, existing: false, patience: None }
    }

    /// Gateways only: the tenant whose job it is.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// For how long a broker that is out of reach is looked for, instead of the client's own
    /// [`patience`](crate::ClientBuilder::patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// The broker's name for the job: enough to come back to it from anywhere, by
    /// [`Client::job`].
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether the job was there before it was submitted: its idempotency key named it.
    pub fn existing(&self) -> bool {
        self.existing
    }

    /// The progress of the job, newest wins, until it is over. Comes back by itself when the
    /// connection is lost.
    pub fn progress(&self) -> JobProgress {
        JobProgress { attached: self.attach() }
    }

    /// Waits for the job to be over, however long that takes and however often the connection is
    /// lost or the broker restarted meanwhile. Cancel-safe, and may be asked for again.
    ///
    /// A job that failed is a result: look at its `outcome`.
    ///
    /// # Errors
    /// [`JobError::Failed`] with `NOT_FOUND` when there is no such job, [`JobError::OutOfReach`]
    /// when the broker did not come back in time.
    pub async fn result(&self) -> Result<ItemResult, JobError> {
        let (mut attached, mut result) = (self.attach(), None);
        while let Some(event) = attached.next().await {
            if let JobEvent::Result(r) = event? {
                // A job that was replayed has more than one: the last is the one that counts.
                result = Some(r);
            }
        }
        result.ok_or(JobError::Forgotten)
    }

    /// As [`result`](Self::result), for at most so long.
    ///
    /// # Errors
    /// As there, and [`JobError::NotOver`] when the time has passed. The job goes on.
    pub async fn result_within(&self, time: Duration) -> Result<ItemResult, JobError> {
        let result = tokio::time::timeout(time, self.result()).await;
        result.unwrap_or(Err(JobError::NotOver(time)))
    }

    /// Cancels the job, whether it runs or not; false when it was over already. A job that runs is
    /// over when its [`result`](Self::result) is there.
    ///
    /// # Errors
    /// [`JobError`]; asking again is safe.
    pub async fn cancel(&self) -> Result<bool, JobError> {
        let changed = self.jobs().cancel(JobWhich::One(self.id), CancelScope::All).await?;
        Ok(changed > 0)
    }

    /// What the broker knows of the job.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn info(&self) -> Result<JobInfo, JobError> {
        self.jobs().get(self.id).await
    }

    fn jobs(&self) -> Jobs {
        let jobs = self.client.jobs();
        match &self.tenant {
            Some(tenant) => jobs.tenant(tenant.clone()),
            None => jobs,
        }
    }

    fn attach(&self) -> Attachment {
        // With a key, the job may be an older one: then its result may have come before.
        let after = if self.existing { Number::default() } else { self.accepted };
        let mut attached = self.client.attach(JobTarget::Job(self.id)).after(after);
        if let Some(tenant) = &self.tenant {
            attached = attached.tenant(tenant.clone());
        }
        match self.patience {
            Some(patience) => attached.patience(patience),
            None => attached,
        }
    }
}

/// The progress of a job; made by [`Job::progress`]. Ends when the job is over.
#[derive(Debug)]
#[must_use = "progress does nothing unless it is read"]
pub struct JobProgress {
    attached: Attachment,
}

impl JobProgress {
    /// The next progress; `None` when the job is over, or after an error. Cancel-safe.
    ///
    /// # Errors
    /// As [`Job::result`].
    pub async fn next(&mut self) -> Option<Result<Progress, JobError>> {
        futures::StreamExt::next(self).await
    }
}

impl Stream for JobProgress {
    type Item = Result<Progress, JobError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.attached).poll_next(cx)) {
                Some(Ok(JobEvent::Progress(progress))) => return Poll::Ready(Some(Ok(progress))),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Client {
    /// A job by its id, from whichever process it was submitted. Asks nothing yet.
    pub fn job(&self, id: JobId) -> Job {
        Job::new(self.clone(), id)
    }

    /// Questions about jobs, and actions on them.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.clone())
    }
}
