//! Hands one job over.
//!
//! A durable batch of one: it is resumed when the connection is lost, so the job is made once.

use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;
use tollgate_protocol::Code;

use super::Job;
use crate::{
    batch::BatchBuilder,
    client::Client,
    error::{BatchError, JobError},
    event::{Event, JobAccepted},
    item::Failure,
    request::Request,
};

/// A job that is set up and not handed over yet: `.await` does that, and gives a [`Job`] once it is
/// on the broker's stable storage. Made by [`Client::submit`] and its sisters.
///
/// ```no_run
/// use std::time::{Duration, SystemTime};
/// use tollgate_client::Client;
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::JobError> {
/// let tonight = SystemTime::now() + Duration::from_secs(3 * 3600);
/// let job = client.submit("report.build", &17).not_before(tonight).priority(1).await?;
/// # let _ = job;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a job is handed over when it is awaited"]
pub struct Submit {
    client: Client,
    request: Result<Request, JobError>,
    batch: BatchBuilder,
    tenant: Option<Arc<str>>,
}

impl Submit {
    fn new(client: &Client, request: Result<Request, JobError>) -> Self {
        let batch = client.batch().durable();
        Submit { client: client.clone(), request, batch, tenant: None }
    }

    fn request(mut self, change: impl FnOnce(Request) -> Request) -> Self {
        self.request = self.request.map(change);
        self
    }

    /// As [`Request::timeout`]: how long an attempt may run.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.request(|r| r.timeout(timeout))
    }

    /// As [`Request::metadata`].
    pub fn metadata(self, key: &str, value: &str) -> Self {
        self.request(|r| r.metadata(key, value))
    }

    /// As [`Request::idempotency_key`]: the same key gives the same job.
    pub fn idempotency_key(self, key: impl Into<Arc<str>>) -> Self {
        self.request(|r| r.idempotency_key(key))
    }

    /// As [`Request::not_before`].
    pub fn not_before(self, at: SystemTime) -> Self {
        self.request(|r| r.not_before(at))
    }

    /// Gateways only: the tenant in whose name it is submitted.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        let tenant = tenant.into();
        self.batch = self.batch.tenant(tenant.clone());
        self.tenant = Some(tenant);
        self
    }

    /// As [`BatchBuilder::priority`].
    pub fn priority(mut self, priority: u8) -> Self {
        self.batch = self.batch.priority(priority);
        self
    }

    /// The job must have started by then, counted from now; else it fails with
    /// `DEADLINE_EXCEEDED`.
    pub fn start_within(mut self, time: Duration) -> Self {
        self.batch = self.batch.deadline(time);
        self
    }

    /// As [`BatchBuilder::traceparent`].
    pub fn traceparent(mut self, traceparent: impl Into<Arc<str>>) -> Self {
        self.batch = self.batch.traceparent(traceparent);
        self
    }

    /// Sends it, and once more when its batch was sealed and has nothing of it: when it was sent for
    /// nothing, or is a job of another batch, by its key.
    async fn send(self) -> Result<Job, JobError> {
        /// Each takes a connection that is lost at the wrong moment.
        const TRIES_MAX: u32 = 8;
        let Submit { client, request, batch, tenant } = self;
        let request = request?;
        let mut tries = 1;
        loop {
            let sent = send(client.clone(), request.clone(), batch.clone(), tenant.clone()).await;
            match sent {
                Err(JobError::Failed(f)) if is_not_known(&f) && tries < TRIES_MAX => tries += 1,
                sent => return sent,
            }
        }
    }
}

/// Whether it is sure that nothing came of an item, for no reason of its own.
fn is_not_known(failure: &Failure) -> bool {
    failure.code() == Some(Code::Conflict) && failure.retryable && failure.side_effect_free
}

async fn send(
    client: Client,
    request: Request,
    batch: BatchBuilder,
    tenant: Option<Arc<str>>,
) -> Result<Job, JobError> {
    let mut batch = batch.open().await?;
    batch.send(request).await?;
    // Said at once: when the job is safe, there is nothing left to wait for.
    batch.say_detach()?;
    let accepted = loop {
        match batch.next().await.unwrap_or(Err(BatchError::Cut))? {
            Event::JobAccepted(accepted) => break accepted,
            Event::Result(result) => {
                return Err(match result.outcome {
                    Err(failure) => JobError::Failed(failure),
                    // An item of a durable batch is a job before it has a result.
                    Ok(_) => JobError::Forgotten,
                });
            }
            _ => {}
        }
    };
    Ok(Job { tenant, ..job(client, &accepted) })
}

fn job(client: Client, accepted: &JobAccepted) -> Job {
    let JobAccepted { job_id, existing, number, .. } = *accepted;
    Job { accepted: number, existing, ..Job::new(client, job_id) }
}

impl IntoFuture for Submit {
    type Output = Result<Job, JobError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

impl Client {
    /// Submits a job of a recipe with the JSON of `input`.
    ///
    /// Awaiting it gives `Result<Job, JobError>` once the job is on the broker's stable storage;
    /// until then it can be set up further. When the connection is lost meanwhile, it is submitted
    /// over another, and is one job all the same. Dropping the future leaves open whether there is
    /// a job.
    pub fn submit<I: Serialize + ?Sized>(&self, recipe: &str, input: &I) -> Submit {
        let payload = serde_json::to_vec(input).map(Bytes::from);
        let request = payload.map(|payload| Request::new(recipe, payload));
        Submit::new(self, request.map_err(|e| JobError::Encode(e.to_string().into())))
    }

    /// As [`submit`](Self::submit), with bytes as they are.
    pub fn submit_bytes(&self, recipe: &str, payload: impl Into<Bytes>) -> Submit {
        Submit::new(self, Ok(Request::new(recipe, payload)))
    }

    /// As [`submit`](Self::submit), with a request made before.
    pub fn submit_request(&self, request: Request) -> Submit {
        Submit::new(self, Ok(request))
    }
}
