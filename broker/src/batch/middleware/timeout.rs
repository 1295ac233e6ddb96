//! The longest a recipe, or a layer of it, may take.

use std::time::Duration;

use bytes::Bytes;
use tollgate_protocol::Code;
use tower_layer::Layer;

use crate::batch::{Context, Error, Recipe, Reply};

/// Ends a [`Recipe`] with `TIMEOUT` when it, with the layers inside this one, takes longer. Where
/// the whole recipe is meant, [`Spec::timeout`](crate::batch::Spec::timeout) does it. There is no
/// such thing for an [`Inline`](crate::batch::Inline) recipe: nothing can interrupt it.
#[derive(Debug, Clone, Copy)]
pub struct Timeout(Duration);

impl Timeout {
    /// At most this long.
    pub fn new(max: Duration) -> Self {
        Timeout(max)
    }
}

impl<R> Layer<R> for Timeout {
    type Service = TimedOut<R>;

    fn layer(&self, inner: R) -> TimedOut<R> {
        TimedOut { inner, max: self.0 }
    }
}

/// A recipe in a [`Timeout`] layer.
#[derive(Debug, Clone)]
pub struct TimedOut<R> {
    inner: R,
    max: Duration,
}

impl<R: Recipe> Recipe for TimedOut<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        match tokio::time::timeout(self.max, self.inner.run(ctx, payload)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let ms = self.max.as_millis();
                Err(Error::with_code(Code::Timeout, format!("not done within {ms} ms"))
                    .detail("timeout_ms", ms)
                    .detail("phase", "layer"))
            }
        }
    }
}
