//! A worker: recipes that run in this process, for a broker that hands them their calls.
//!
//! [`Worker::builder`] is where it begins. The connection is opened again when it is lost, and the
//! recipes are registered anew; what ran then is lost, and it is for the broker to run it again.
//!
//! ```no_run
//! use std::path::Path;
//! use tollgate_client::{
//!     ClientCredentials,
//!     worker::{Call, Spec, WorkError, Worker},
//! };
//!
//! # #[derive(serde::Deserialize)] struct Page { url: String }
//! # async fn download(url: &str) -> Result<String, std::io::Error> { Ok(url.into()) }
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // `tollgate cert issue --tenant acme --role worker --out certs/worker` writes these.
//!     let credentials = ClientCredentials::load_dir(Path::new("certs/worker"))?;
//!     let served = Worker::builder("127.0.0.1:4433".parse()?)
//!         .server_name("localhost")
//!         .credentials(credentials)
//!         .concurrency(32)
//!         // Bytes in, bytes out.
//!         .recipe("upper", Spec::new().idempotent(), |_call, payload| async move {
//!             Ok(payload.to_ascii_uppercase())
//!         })
//!         // JSON in, JSON out; any error is a failed call.
//!         .typed("words.count", Spec::new(), |call: Call, page: Page| async move {
//!             call.progress(1, 2, "downloading");
//!             Ok::<_, WorkError>(download(&page.url).await?.split_whitespace().count())
//!         })
//!         // What keeps a core busy belongs on a thread.
//!         .blocking("primes.count", Spec::new(), |call, _payload| {
//!             let is_prime = |n: &u32| (2..*n).all(|d| n % d != 0);
//!             let primes = (2..50_000).take_while(|_| !call.is_cancelled()).filter(is_prime);
//!             Ok(primes.count().to_string())
//!         })
//!         .build()?
//!         .run_until(async { tokio::signal::ctrl_c().await.expect("signals work") })
//!         .await?;
//!     println!("{} calls succeeded, {} failed", served.succeeded, served.failed);
//!     Ok(())
//! }
//! ```

mod answer;
mod apart;
mod builder;
mod call;
mod desk;
mod error;
mod progress;
mod recipe;
mod run;
mod running;
mod spec;
mod stream;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

pub use answer::{Answer, WorkError};
pub use builder::WorkerBuilder;
pub use call::Call;
pub use error::WorkerError;
pub use spec::{JobRetry, Spec};

use crate::link::Link;
use recipe::Recipe;

/// A worker that is set up: [`run`](Self::run) connects it. Made by [`Worker::builder`].
#[must_use = "a worker serves nothing until it runs"]
pub struct Worker {
    link: Link,
    own_endpoint: bool,
    recipes: Arc<[Recipe]>,
    concurrency: u32,
    stop_timeout: Duration,
    conflict_tries: u32,
    stopper: Stopper,
}

impl Worker {
    /// Sets up a worker for a broker's address.
    pub fn builder(addr: SocketAddr) -> WorkerBuilder {
        WorkerBuilder::new(addr)
    }

    /// A handle that ends [`run`](Self::run) in good order.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped, or until serving makes no sense any more.
    ///
    /// A broker that is not there, or goes away, is waited for: attempts go on with growing waits.
    /// Calls that ran when the connection was lost are dropped. Dropping this future ends the
    /// worker without a word; the broker then counts what ran as lost.
    ///
    /// # Errors
    /// [`WorkerError`]: the certificate is refused or may not work here, the broker takes a recipe
    /// not, or breaks the protocol.
    pub async fn run(self) -> Result<Served, WorkerError> {
        run::run(self).await
    }

    /// As [`run`](Self::run), stopped in good order once `until` is done.
    ///
    /// ```no_run
    /// # async fn example(worker: tollgate_client::Worker) -> Result<(), Box<dyn std::error::Error>> {
    /// worker.run_until(async { tokio::signal::ctrl_c().await.expect("signals work") }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `run`.
    pub async fn run_until(self, until: impl Future) -> Result<Served, WorkerError> {
        let stopper = self.stopper();
        let stop = async {
            until.await;
            stopper.stop();
            std::future::pending().await
        };
        tokio::select! {
            // `stop` never ends by itself: it only tells the other.
            biased;
            served = self.run() => served,
            never = stop => never,
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.recipes.iter().map(|r| &*r.name).collect();
        f.debug_struct("Worker")
            .field("remote_addr", &self.link.dialing.addr)
            .field("recipes", &names)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What a worker did until it was stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Calls that were answered.
    pub succeeded: u64,
    /// Calls that failed, panics included.
    pub failed: u64,
    /// Calls that nobody wanted any more.
    pub cancelled: u64,
    /// Calls whose connection was lost while they ran.
    pub lost: u64,
    /// How often the broker took the recipes.
    pub connections: u64,
}

/// Ends a worker in good order: it takes no more calls, finishes those it has (for as long as
/// [`WorkerBuilder::stop_timeout`] says) and says good-bye. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stopper {
    told: Arc<watch::Sender<bool>>,
}

impl Stopper {
    fn new() -> Self {
        Stopper { told: Arc::new(watch::Sender::new(false)) }
    }

    /// Tells the worker to end. [`Worker::run`] returns once it has.
    pub fn stop(&self) {
        self.told.send_replace(true);
    }

    /// Done once somebody called `stop`.
    async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }
}
