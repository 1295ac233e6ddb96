//! How many run at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tower_layer::Layer;

use crate::batch::{Context, Error, Inline, InlineContext, Recipe, Reply};

/// Lets a number of items run at once, over everything that one value of this layer (or a clone of
/// it) wraps: the way to bound what several recipes share, such as connections to a database. For
/// one recipe alone, [`Spec::concurrency_max`](crate::batch::Spec::concurrency_max) costs less.
///
/// A [`Recipe`] waits for its turn, in order, and its time-out runs meanwhile. An [`Inline`] can
/// not wait: it is refused with `RATE_LIMITED`.
#[derive(Debug, Clone)]
pub struct Concurrency(Arc<Semaphore>);

impl Concurrency {
    /// `max` at once; 0 counts as 1.
    pub fn new(max: usize) -> Self {
        Concurrency(Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))))
    }
}

impl<R> Layer<R> for Concurrency {
    type Service = Limited<R>;

    fn layer(&self, inner: R) -> Limited<R> {
        Limited { inner, slots: self.0.clone() }
    }
}

/// A recipe in a [`Concurrency`] layer.
#[derive(Debug, Clone)]
pub struct Limited<R> {
    inner: R,
    slots: Arc<Semaphore>,
}

impl<R: Recipe> Recipe for Limited<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        self.inner.run(ctx, payload).await
    }
}

impl<R: Inline> Inline for Limited<R> {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        let Ok(_slot) = self.slots.try_acquire() else {
            return Err(Error::rate_limited("as many run as may run at once", COME_BACK));
        };
        self.inner.run(ctx, payload, out)
    }
}

/// When to try a refused item again: an inline recipe returns within microseconds, or within
/// milliseconds on the pool.
const COME_BACK: Duration = Duration::from_millis(20);
