//! What a recipe is: a name, a spec, and code of one of two shapes.
//!
//! Knows nothing of streams, quotas or queues: a recipe can be run alone, with a context built for
//! a tenant ([`Context::for_test`]).

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tollgate_protocol::{describe::Encoding, limits};

use super::{
    context::{Context, InlineContext},
    error::Error,
    reply::Reply,
};
use crate::rules::retry::Backoff;

/// A recipe that answers at once, on the stream's own task: no future, no task, no copy of the
/// payload.
///
/// It must return within microseconds. Its time-out can not interrupt it: a recipe that computes
/// for longer sets [`Spec::blocking`] or [`Spec::inline_bytes_max`] and runs on the pool of blocking
/// threads instead, through this same method.
pub trait Inline: Send + Sync + 'static {
    /// Runs the recipe; the answer goes into `out`.
    ///
    /// # Errors
    /// What the client is to be told; see [`Error`].
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error>;
}

/// A recipe that may wait.
///
/// The future is polled at once, within the stream's task; one that is ready then costs no task
/// and no timer. It is dropped when the item is cancelled or its time is up, at any await point.
pub trait Recipe: Send + Sync + 'static {
    /// Runs the recipe.
    ///
    /// # Errors
    /// What the client is to be told; see [`Error`].
    fn run(
        &self,
        ctx: Context,
        payload: Bytes,
    ) -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// A recipe whose type is forgotten: what the catalog keeps of a [`Recipe`].
pub(crate) trait DynRecipe: Send + Sync {
    /// Makes the future of one run; it keeps the recipe alive, so it can be moved anywhere.
    fn start(self: Arc<Self>, ctx: Context, payload: Bytes) -> RecipeFuture;
}

pub(crate) type RecipeFuture = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

impl<R: Recipe> DynRecipe for R {
    fn start(self: Arc<Self>, ctx: Context, payload: Bytes) -> RecipeFuture {
        Box::pin(async move { self.run(ctx, payload).await })
    }
}

/// How a job of a recipe is tried again after a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How often it is tried in all.
    pub attempts_max: u32,
    /// The wait before the second attempt; each later one waits `factor` times as long.
    pub first: Duration,
    /// See `first`.
    pub factor: f64,
    /// The longest wait. The actual one is drawn evenly between nothing and the wait (full jitter).
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let (first, cap) = (Duration::from_secs(1), Duration::from_secs(300));
        Retry { attempts_max: 5, first, factor: 2.0, cap }
    }
}

impl Retry {
    /// How long the waits are, as the rules draw them.
    pub(crate) fn backoff(&self) -> Backoff {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Backoff { first_ms: ms(self.first), factor: self.factor, cap_ms: ms(self.cap) }
    }
}

/// Any number, to draw a wait by.
pub(crate) fn jitter() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// What a recipe promises and needs. Start from `Spec::default()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// How it reads its payload. A [`schema`](Self::schema) needs [`Encoding::Json`].
    pub encoding: Encoding,
    /// The longest an attempt may run. Default: the larger of 5 s and four times
    /// [`estimated_duration`](Self::estimated_duration).
    pub timeout: Option<Duration>,
    /// The longest an item waits to be started: 30 s.
    pub queue_timeout: Duration,
    /// How long it usually takes; from `async_threshold` on its items become jobs.
    pub estimated_duration: Duration,
    /// How many run at once in the whole broker; `None` leaves it to the other bounds.
    pub concurrency_max: Option<u32>,
    /// Whether it blocks a core while it runs: it is then run on the pool of blocking threads.
    pub blocking: bool,
    /// Payloads larger than this, in bytes, are run on the pool even when not `blocking`.
    pub inline_bytes_max: Option<usize>,
    /// How jobs of it are tried again.
    pub retry: Retry,
    /// Whether running it twice does no more than running it once.
    pub idempotent: bool,
    /// The largest payload it takes, in bytes: default, and at most, the largest frame.
    pub payload_bytes_max: usize,
    /// The largest result it may give, in bytes: 1 MiB.
    pub result_bytes_max: usize,
    /// JSON Schema of its payload, checked before an item is queued.
    pub schema: Option<serde_json::Value>,
    /// For people.
    pub description: String,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            encoding: Encoding::Bytes,
            timeout: None,
            queue_timeout: Duration::from_secs(30),
            estimated_duration: Duration::ZERO,
            concurrency_max: None,
            blocking: false,
            inline_bytes_max: None,
            retry: Retry::default(),
            idempotent: false,
            payload_bytes_max: limits::FRAME_BYTES_HARD_MAX,
            result_bytes_max: 1 << 20,
            schema: None,
            description: String::new(),
        }
    }
}

impl Spec {
    /// The defaults, for a payload of JSON text.
    pub fn json() -> Self {
        Spec { encoding: Encoding::Json, ..Spec::default() }
    }

    /// The defaults, for a payload of postcard.
    pub fn postcard() -> Self {
        Spec { encoding: Encoding::Postcard, ..Spec::default() }
    }

    /// The defaults, for a payload that the recipe reads as it likes.
    pub fn bytes() -> Self {
        Spec::default()
    }

    /// The longest an attempt may run.
    pub fn timeout(&self) -> Duration {
        const FLOOR: Duration = Duration::from_secs(5);
        self.timeout.unwrap_or_else(|| FLOOR.max(self.estimated_duration.saturating_mul(4)))
    }
}
