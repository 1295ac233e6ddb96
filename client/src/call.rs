//! One item as a typed function call.
//!
//! A call is a batch of one: what is said there about retries, deadlines and dropping holds here.
//! When the broker makes a job of it, it resolves with the job's result all the same.

use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    batch::{Options, execute},
    client::Client,
    error::{BatchError, CallError},
    event::Progress,
    request::Request,
    retry::RetryPolicy,
};

/// How an answer becomes a value.
type Decode<O> = fn(Bytes) -> Result<O, CallError>;

type OnProgress = Box<dyn FnMut(&Progress) + Send>;

/// A call that is set up and not sent yet: `.await` sends it. Made by [`Client::call`] and its
/// sisters.
///
/// ```no_run
/// use std::time::Duration;
/// use tollgate_client::Client;
///
/// # async fn example(client: Client) -> Result<(), tollgate_client::CallError> {
/// let profile: std::collections::HashMap<String, u64> = client
///     .call("count.words", "to be or not to be")
///     .timeout(Duration::from_secs(2))
///     .on_progress(|progress| println!("{:?} %", progress.percent()))
///     .await?;
/// # let _ = profile;
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is sent when it is awaited"]
pub struct Call<O> {
    client: Client,
    request: Result<Request, CallError>,
    options: Options,
    on_progress: Option<OnProgress>,
    decode: Decode<O>,
}

impl<O> Call<O> {
    fn new(
        client: &Client,
        recipe: &str,
        payload: Result<Bytes, CallError>,
        decode: Decode<O>,
    ) -> Self {
        Call {
            client: client.clone(),
            request: payload.map(|payload| Request::new(recipe, payload)),
            options: client.options(),
            on_progress: None,
            decode,
        }
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

    /// As [`Request::idempotency_key`]: makes the call a job that is run once for this key.
    pub fn idempotency_key(self, key: impl Into<Arc<str>>) -> Self {
        self.request(|r| r.idempotency_key(key))
    }

    /// As [`Request::not_before`]: makes the call a job that does not start before this time.
    pub fn not_before(self, at: SystemTime) -> Self {
        self.request(|r| r.not_before(at))
    }

    /// Gateways only: the tenant in whose name it is called.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.options.tenant = Some(tenant.into());
        self
    }

    /// How long the call may take in all, waiting and retries included.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// As [`BatchBuilder::priority`](crate::BatchBuilder::priority).
    pub fn priority(mut self, priority: u8) -> Self {
        self.options.priority = priority.min(tollgate_protocol::limits::PRIORITY_MAX);
        self
    }

    /// As [`BatchBuilder::traceparent`](crate::BatchBuilder::traceparent).
    pub fn traceparent(mut self, traceparent: impl Into<Arc<str>>) -> Self {
        self.options.traceparent = Some(traceparent.into());
        self
    }

    /// Whether to try again, instead of the client's choice.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.options.retry = retry;
        self
    }

    /// Calls `f` with each progress that arrives; newest wins, so some may be skipped. `f` must not
    /// block.
    pub fn on_progress(mut self, f: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(f));
        self
    }

    async fn send(self) -> Result<O, CallError> {
        let mut on_progress = self.on_progress.unwrap_or_else(|| Box::new(|_| {}));
        let requests = [self.request?];
        let result = execute(&self.client, &self.options, requests, &mut *on_progress).await?;
        match result.into_iter().next().map(|r| r.outcome) {
            Some(Ok(payload)) => (self.decode)(payload),
            Some(Err(failure)) => Err(CallError::Failed(failure)),
            // Every item of a batch has a result.
            None => Err(CallError::Batch(BatchError::Cut)),
        }
    }
}

impl<O: Send + 'static> IntoFuture for Call<O> {
    type Output = Result<O, CallError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send().boxed()
    }
}

impl<O> std::fmt::Debug for Call<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Client {
    /// Calls a recipe with the JSON of `input` and reads its answer as the JSON of an `O`.
    ///
    /// Awaiting it gives `Result<O, CallError>`; until then it can be set up further.
    ///
    /// ```no_run
    /// # async fn example(client: tollgate_client::Client) -> Result<(), tollgate_client::CallError> {
    /// let echoed: Vec<u32> = client.call("echo", &[1, 2, 3]).await?;
    /// # let _ = echoed;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        recipe: &str,
        input: &I,
    ) -> Call<O> {
        let payload = serde_json::to_vec(input).map(Bytes::from).map_err(|e| encode_error(&e));
        Call::new(self, recipe, payload, |answer| {
            serde_json::from_slice(&answer).map_err(|e| decode_error(&e))
        })
    }

    /// As [`call`](Self::call), with postcard instead of JSON both ways.
    pub fn call_postcard<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        recipe: &str,
        input: &I,
    ) -> Call<O> {
        let payload = postcard::to_allocvec(input).map(Bytes::from).map_err(|e| encode_error(&e));
        Call::new(self, recipe, payload, |answer| {
            postcard::from_bytes(&answer).map_err(|e| decode_error(&e))
        })
    }

    /// Calls a recipe with bytes and gives its answer as it is.
    pub fn call_bytes(&self, recipe: &str, payload: impl Into<Bytes>) -> Call<Bytes> {
        Call::new(self, recipe, Ok(payload.into()), Ok)
    }
}

fn encode_error(e: &dyn std::fmt::Display) -> CallError {
    CallError::Encode(e.to_string().into())
}

fn decode_error(e: &dyn std::fmt::Display) -> CallError {
    CallError::Decode(e.to_string().into())
}
