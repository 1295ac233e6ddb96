//! A span around every item.

use bytes::Bytes;
use tower_layer::Layer;
use tracing::{Instrument, Span};

use crate::batch::{Context, Error, Inline, InlineContext, Recipe, Reply};

/// Runs every item in a span `recipe` (level info) that names tenant, batch, item, recipe and
/// attempt, and says in it (level debug) how a failed one failed. Never a payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tracing(());

impl Tracing {
    /// The layer.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<R> Layer<R> for Tracing {
    type Service = Traced<R>;

    fn layer(&self, inner: R) -> Traced<R> {
        Traced(inner)
    }
}

/// A recipe in a [`Tracing`] layer.
#[derive(Debug, Clone)]
pub struct Traced<R>(R);

impl<R: Recipe> Recipe for Traced<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let span = span(&ctx.as_inline());
        let run = async {
            let outcome = self.0.run(ctx, payload).await;
            note(outcome.as_ref().err());
            outcome
        };
        run.instrument(span).await
    }
}

impl<R: Inline> Inline for Traced<R> {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        span(ctx).in_scope(|| {
            let outcome = self.0.run(ctx, payload, out);
            note(outcome.as_ref().err());
            outcome
        })
    }
}

fn span(ctx: &InlineContext<'_>) -> Span {
    tracing::info_span!(
        "recipe",
        tenant = %ctx.tenant(),
        batch = %ctx.batch_id(),
        item = ctx.item_id(),
        recipe = %ctx.recipe(),
        attempt = ctx.attempt(),
        traceparent = ctx.traceparent(),
    )
}

fn note(failure: Option<&Error>) {
    if let Some(e) = failure {
        tracing::debug!(code = %e.code(), "the recipe failed");
    }
}
