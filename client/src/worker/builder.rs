//! How a worker is set up.
//!
//! Opens nothing until it runs.

use std::{net::SocketAddr, num::NonZero, sync::Arc, time::Duration};

use bytes::Bytes;
use quinn::Endpoint;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tollgate_certs::ClientCredentials;
use tollgate_protocol::{describe::Encoding, id::RecipeName, limits};

use super::{
    Answer, Call, Served, Spec, Stopper, WorkError, Worker, WorkerError,
    recipe::{self, Handler, Recipe},
};
use crate::{
    builder::{ClientBuilder, Config},
    retry::Backoff,
    transport::Transport,
};

/// Calls at once unless said otherwise.
const CONCURRENCY: u32 = 64;
/// How long calls may go on after a stop, unless said otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a recipe is offered that another spec holds, unless said otherwise: with growing waits
/// some 15 s, which is what replacing workers one by one takes.
const CONFLICT_TRIES: u32 = 12;
/// A worker waits for its broker for as long as it takes; this is between two attempts.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(50), max: Duration::from_secs(2), tries_max: 1 };

/// A worker that is gone without a word is missed after this: before the time of most of its calls is
/// up, so that another worker can make them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Sets up a worker; made by [`Worker::builder`].
#[must_use = "a worker serves nothing until it runs"]
pub struct WorkerBuilder {
    client: ClientBuilder,
    own_endpoint: bool,
    concurrency: u32,
    threads: Option<Arc<Semaphore>>,
    stop_timeout: Duration,
    conflict_tries: u32,
    recipes: Vec<Recipe>,
}

impl WorkerBuilder {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let transport = Transport {
            keep_alive: Some(KEEP_ALIVE),
            idle_timeout: IDLE_TIMEOUT,
            ..Transport::default()
        };
        WorkerBuilder {
            client: ClientBuilder::new(addr).reconnect(RECONNECT).transport(transport),
            own_endpoint: true,
            concurrency: CONCURRENCY,
            threads: None,
            stop_timeout: STOP_TIMEOUT,
            conflict_tries: CONFLICT_TRIES,
            recipes: Vec::new(),
        }
    }

    /// The name that the broker's certificate must carry; the address itself when left out.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.client = self.client.server_name(name);
        self
    }

    /// Who the worker is (role `worker`), and which authorities it trusts. Required.
    pub fn credentials(mut self, credentials: ClientCredentials) -> Self {
        self.client = self.client.credentials(credentials);
        self
    }

    /// The whole configuration of the connection. Its `retry` means nothing here; `reconnect` says
    /// how long to wait between two attempts, of which there are as many as it takes.
    pub fn config(mut self, config: Config) -> Self {
        self.client = self.client.config(config);
        self
    }

    /// The socket, packet sizes, windows and time-outs. A worker's `idle_timeout` is 4 s and its
    /// `keep_alive` 1 s unless this says otherwise: for so long its broker waits for a sign of life
    /// before its calls go to others.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.client = self.client.transport(transport);
        self
    }

    /// How long one attempt to connect may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.connect_timeout(timeout);
        self
    }

    /// How long to wait between two attempts to connect, of which there are as many as it takes.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.client = self.client.reconnect(backoff);
        self
    }

    /// Uses an endpoint that is there already; it is left open.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        (self.client, self.own_endpoint) = (self.client.endpoint(endpoint), false);
        self
    }

    /// How many calls it takes at once (64; at most 65,536).
    pub fn concurrency(mut self, calls: u32) -> Self {
        self.concurrency = calls;
        self
    }

    /// How many threads [`blocking`](Self::blocking) handlers share (as many as there are cores).
    /// Must stand before the first of them.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.threads = Some(Arc::new(Semaphore::new(threads.clamp(1, Semaphore::MAX_PERMITS))));
        self
    }

    /// How long calls may go on after a stop (30 s). What is left then is cancelled.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// How often recipes are offered while workers with another spec still serve them (12 times, a
    /// quarter of a minute): during a deployment the old ones go one by one.
    pub fn conflict_tries(mut self, tries: u32) -> Self {
        self.conflict_tries = tries.max(1);
        self
    }

    /// Serves a recipe by an async function of bytes.
    ///
    /// The function is polled where frames are read, and moves to a task of its own only when it
    /// has to wait: so it must not keep a core busy ([`blocking`](Self::blocking) may). When nobody
    /// wants the result any more it is dropped. A panic is one failed call.
    ///
    /// ```no_run
    /// # use tollgate_client::worker::{Answer, Spec, WorkError, WorkerBuilder};
    /// # fn example(builder: WorkerBuilder) -> WorkerBuilder {
    /// builder.recipe("reverse", Spec::new().idempotent(), |call, payload| async move {
    ///     if payload.is_empty() {
    ///         return Err(WorkError::validation("nothing to reverse"));
    ///     }
    ///     let reversed: Vec<u8> = payload.iter().rev().copied().collect();
    ///     Ok(Answer::new(reversed).metadata("for", call.tenant()))
    /// })
    /// # }
    /// ```
    pub fn recipe<F, Fut, R>(self, name: &str, spec: Spec, handler: F) -> Self
    where
        F: Fn(Call, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, WorkError>> + Send + 'static,
        R: Into<Answer>,
    {
        self.add(name, spec, recipe::bytes(handler))
    }

    /// As [`recipe`](Self::recipe), with values that are JSON on the wire. A payload of another type
    /// is `VALIDATION_ERROR`.
    ///
    /// ```no_run
    /// # use tollgate_client::worker::{Call, Spec, WorkerBuilder};
    /// #[derive(serde::Deserialize)]
    /// struct Point { x: f64, y: f64 }
    ///
    /// # fn example(builder: WorkerBuilder) -> WorkerBuilder {
    /// builder.typed("distance", Spec::new(), |_: Call, p: Point| async move { Ok(p.x.hypot(p.y)) })
    /// # }
    /// ```
    pub fn typed<In, Out, F, Fut>(self, name: &str, spec: Spec, handler: F) -> Self
    where
        F: Fn(Call, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, WorkError>> + Send + 'static,
        In: DeserializeOwned,
        Out: Serialize,
    {
        self.add(name, spec.encoding(Encoding::Json), recipe::typed(handler))
    }

    /// Serves a recipe by a function that blocks or keeps a core busy, on a thread of its own.
    ///
    /// It cannot be dropped: it should look at [`Call::is_cancelled`] now and then. Until it returns
    /// its call counts as open, and its thread as taken.
    pub fn blocking<F, R>(mut self, name: &str, spec: Spec, handler: F) -> Self
    where
        F: Fn(&Call, Bytes) -> Result<R, WorkError> + Send + Sync + 'static,
        R: Into<Answer>,
    {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = self.threads.get_or_insert_with(|| Arc::new(Semaphore::new(cores()))).clone();
        self.add(name, spec, recipe::blocking(handler, threads))
    }

    fn add(mut self, name: &str, spec: Spec, handler: Handler) -> Self {
        self.recipes.push(Recipe { name: name.into(), spec, handler });
        self
    }

    /// Checks the settings; nothing is connected yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`WorkerError::Config`]: no recipe, a name that is none or stands there twice, a spec that
    /// cannot be; [`WorkerError::Connect`]: credentials or a socket that cannot be used.
    pub fn build(self) -> Result<Worker, WorkerError> {
        let config = |what: String| Err(WorkerError::Config(what.into()));
        if self.recipes.is_empty() || self.recipes.len() > limits::WORK_RECIPES_MAX {
            let (n, max) = (self.recipes.len(), limits::WORK_RECIPES_MAX);
            return config(format!("{n} recipes: a worker serves 1 to {max}"));
        }
        if self.concurrency == 0 || self.concurrency > limits::WORK_CREDIT_MAX {
            let (n, max) = (self.concurrency, limits::WORK_CREDIT_MAX);
            return config(format!("`concurrency` is 1 to {max}, not {n}"));
        }
        for (at, r) in self.recipes.iter().enumerate() {
            if let Err(e) = RecipeName::check(&r.name) {
                return config(e.to_string());
            }
            if self.recipes[..at].iter().any(|before| before.name == r.name) {
                return config(format!("recipe {} stands there twice", r.name));
            }
            r.spec.check(&r.name)?;
        }
        let (link, ..) = self.client.into_link()?;
        Ok(Worker {
            link,
            own_endpoint: self.own_endpoint,
            recipes: self.recipes.into(),
            concurrency: self.concurrency,
            stop_timeout: self.stop_timeout,
            conflict_tries: self.conflict_tries,
            stopper: Stopper::new(),
        })
    }

    /// Builds the worker and runs it: [`Worker::run`].
    ///
    /// # Errors
    /// As [`build`](Self::build) and `run`.
    pub async fn run(self) -> Result<Served, WorkerError> {
        self.build()?.run().await
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.recipes.iter().map(|r| &*r.name).collect();
        f.debug_struct("WorkerBuilder").field("recipes", &names).finish_non_exhaustive()
    }
}
