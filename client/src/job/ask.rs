//! Questions about jobs, and actions on them: a stream each.
//!
//! Every one may be asked again at will: an action on a job that it was taken on changes nothing.

use std::sync::Arc;

use quinn::{ReadError, WriteError};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Splitter,
    batch::CancelScope,
    encode,
    id::{BatchId, JobId},
    job::{self, JobAction, JobAsk, JobState, JobStates},
    limits,
};

use super::JobInfo;
use crate::{
    client::Client,
    error::{Disconnected, JobError, Violation},
    frame_name,
    item::Failure,
};

/// Some jobs: those that match all that was asked for; made empty, it matches every job.
///
/// ```
/// use tollgate_client::{JobFilter, JobState};
///
/// let dead = JobFilter::new().state(JobState::Dead).recipe("report.build");
/// # let _ = dead;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    states: Vec<JobState>,
    recipe: Option<Arc<str>>,
    batch: Option<BatchId>,
}

impl JobFilter {
    /// Every job.
    pub fn new() -> Self {
        JobFilter::default()
    }

    /// Only jobs in this state; asked for several, in any of them.
    pub fn state(mut self, state: JobState) -> Self {
        self.states.push(state);
        self
    }

    /// Only jobs of this recipe.
    pub fn recipe(mut self, recipe: impl Into<Arc<str>>) -> Self {
        self.recipe = Some(recipe.into());
        self
    }

    /// Only jobs of this batch.
    pub fn batch(mut self, id: BatchId) -> Self {
        self.batch = Some(id);
        self
    }

    fn wire(&self) -> job::JobFilter<'_> {
        job::JobFilter {
            states: JobStates::of(&self.states),
            recipe: self.recipe.as_deref(),
            batch_id: self.batch,
        }
    }
}

/// The jobs that something is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobWhich {
    /// This one, which must be there.
    One(JobId),
    /// All that match.
    Matching(JobFilter),
}

impl From<JobId> for JobWhich {
    fn from(id: JobId) -> Self {
        JobWhich::One(id)
    }
}

impl From<JobFilter> for JobWhich {
    fn from(filter: JobFilter) -> Self {
        JobWhich::Matching(filter)
    }
}

impl JobWhich {
    fn wire(&self) -> job::JobWhich<'_> {
        match self {
            JobWhich::One(id) => job::JobWhich::One(*id),
            JobWhich::Matching(filter) => job::JobWhich::Filter(filter.wire()),
        }
    }
}

/// A page of a list of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs, the oldest first.
    pub jobs: Vec<JobInfo>,
    /// Where the next page begins, when there may be one.
    pub next: Option<Box<str>>,
}

/// Questions about jobs, and actions on them; made by [`Client::jobs`].
///
/// ```no_run
/// use tollgate_client::{Client, JobFilter, JobState};
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::JobError> {
/// let dead = JobFilter::new().state(JobState::Dead);
/// for job in client.jobs().list(&dead).await? {
///     println!("{}: {:?}", job.id, job.errors.last());
/// }
/// println!("{} jobs run again", client.jobs().replay(dead).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    tenant: Option<Arc<str>>,
}

impl Jobs {
    pub(crate) fn new(client: Client) -> Self {
        Jobs { client, tenant: None }
    }

    /// Gateways only: the tenant whose jobs they are.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// What the broker knows of a job.
    ///
    /// # Errors
    /// [`JobError::Failed`] with `NOT_FOUND` when there is no such job of this tenant.
    pub async fn get(&self, id: JobId) -> Result<JobInfo, JobError> {
        let mut info = None;
        self.ask(JobAction::Get { job_id: id }, &mut |frame| match frame {
            BrokerFrame::Job(job) => info.replace(JobInfo::own(job)).is_none(),
            _ => false,
        })
        .await?;
        info.ok_or(JobError::Protocol(Violation::Unexpected("End")))
    }

    /// All jobs that match, the oldest first: page after page, so there may be many.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<JobInfo>, JobError> {
        let (mut jobs, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(filter, cursor.as_deref(), limits::JOBS_LISTED_MAX).await?;
            jobs.extend(page.jobs);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(jobs),
            }
        }
    }

    /// One page of the jobs that match, the oldest first: from the beginning, or from where
    /// [`JobPage::next`] of the page before says. At most `limit` jobs, up to 1 000; 0: 100.
    ///
    /// # Errors
    /// [`JobError`]; `VALIDATION_ERROR` for a cursor that is none.
    pub async fn page(
        &self,
        filter: &JobFilter,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<JobPage, JobError> {
        let (mut jobs, mut end) = (Vec::new(), None);
        let limit = limit.min(limits::JOBS_LISTED_MAX);
        let action = JobAction::List { filter: filter.wire(), cursor, limit };
        self.ask(action, &mut |frame| match frame {
            BrokerFrame::Job(job) if end.is_none() => {
                jobs.push(JobInfo::own(job));
                jobs.len() <= limits::JOBS_LISTED_MAX as usize
            }
            BrokerFrame::Jobs(last) => end.replace(last.next.map(Into::into)).is_none(),
            _ => false,
        })
        .await?;
        let next = end.ok_or(JobError::Protocol(Violation::Unexpected("End")))?;
        Ok(JobPage { jobs, next })
    }

    /// Cancels jobs that are not over: those that do not run, or all; how many. Those that run are
    /// over when their results are there.
    ///
    /// # Errors
    /// [`JobError::Failed`] with `NOT_FOUND` when the one is not there.
    pub async fn cancel(
        &self,
        which: impl Into<JobWhich>,
        scope: CancelScope,
    ) -> Result<u64, JobError> {
        let which = which.into();
        self.act(JobAction::Cancel { which: which.wire(), scope }).await
    }

    /// Has dead jobs tried again, with all their attempts anew; how many. Jobs in other states are
    /// left as they are.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn replay(&self, which: impl Into<JobWhich>) -> Result<u64, JobError> {
        let which = which.into();
        self.act(JobAction::Replay { which: which.wire() }).await
    }

    /// Has jobs that are over forgotten, with their results and keys; how many. Jobs that are not
    /// over are left as they are.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn purge(&self, which: impl Into<JobWhich>) -> Result<u64, JobError> {
        let which = which.into();
        self.act(JobAction::Purge { which: which.wire() }).await
    }

    async fn act(&self, action: JobAction<'_>) -> Result<u64, JobError> {
        let mut count = None;
        self.ask(action, &mut |frame| match frame {
            BrokerFrame::Jobs(jobs) => count.replace(jobs.count).is_none(),
            _ => false,
        })
        .await?;
        count.ok_or(JobError::Protocol(Violation::Unexpected("End")))
    }

    /// Asks one question; `take` says whether a frame belongs to its answer.
    async fn ask(
        &self,
        action: JobAction<'_>,
        take: &mut (dyn FnMut(&BrokerFrame<'_>) -> bool + Send),
    ) -> Result<(), JobError> {
        let session = self.client.session().await?;
        let (mut send, mut recv) = session.connection.open_bi().await.map_err(Disconnected)?;
        let mut question = Vec::with_capacity(64);
        let ask = JobAsk { tenant: self.tenant.as_deref(), ..JobAsk::new(action) };
        encode(&ClientFrame::Job(ask), &mut question);
        // A stream that was stopped before it was read is no error: the answer says why.
        if let Err(WriteError::ConnectionLost(e)) = send.write_all(&question).await {
            return Err(Disconnected(e).into());
        }
        let _ = send.finish();
        let mut splitter = Splitter::new(session.receive_frame_max);
        loop {
            while let Some(frame) = splitter.peek()? {
                match BrokerFrame::decode(frame)? {
                    BrokerFrame::End => return Ok(()),
                    BrokerFrame::Error { code, failure } => {
                        return Err(JobError::Failed(Box::new(Failure::own(code, &failure))));
                    }
                    BrokerFrame::Alive => {}
                    ref answer if take(answer) => {}
                    other => return Err(Violation::Unexpected(frame_name(&other)).into()),
                }
                splitter.advance();
            }
            match recv.read_chunks(splitter.buffers()).await {
                Ok(Some(n)) => splitter.filled(n),
                Ok(None) => return Err(JobError::Cut),
                Err(ReadError::ConnectionLost(e)) => return Err(Disconnected(e).into()),
                Err(ReadError::Reset(code)) => return Err(JobError::Reset(code.into_inner())),
                // Only 0-RTT and unordered reads give the others, and there are none here.
                Err(_) => return Err(JobError::Cut),
            }
        }
    }
}
