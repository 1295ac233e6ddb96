//! Checks of a payload before a recipe sees it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use tower_layer::Layer;

use crate::batch::{Context, Error, Inline, InlineContext, Recipe, Reply, validate};

type Check = dyn Fn(&InlineContext<'_>, &[u8]) -> Result<(), Error> + Send + Sync;

/// Refuses a payload before the recipe, and the layers inside this one, see it. For a schema that
/// the whole recipe has, [`Spec::schema`](crate::batch::Spec::schema) is better: it is checked
/// before an item is queued, and clients can read it.
#[derive(Clone)]
pub struct Validation(Arc<Check>);

impl Validation {
    /// What the function refuses is not run; usually with [`Error::validation`].
    pub fn new(
        check: impl Fn(&InlineContext<'_>, &[u8]) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Self {
        Validation(Arc::new(check))
    }

    /// What is not JSON, or does not match the JSON Schema, is `VALIDATION_ERROR`, with `field` (a
    /// JSON pointer) in the details.
    ///
    /// # Errors
    /// When the schema is not one, or refers to something outside itself.
    pub fn schema(schema: &serde_json::Value) -> Result<Self, SchemaError> {
        let schema = validate::Schema::compile(schema).map_err(|e| SchemaError {
            at: validate::pointer(&e),
            problem: validate::message(&e),
        })?;
        Ok(Validation::new(move |_, payload| schema.check(payload)))
    }
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validation")
    }
}

/// Why a JSON Schema can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid schema, at {at:?}: {problem}")]
pub struct SchemaError {
    /// Where in the schema, as a JSON pointer.
    pub at: String,
    /// What is wrong there.
    pub problem: String,
}

impl<R> Layer<R> for Validation {
    type Service = Validated<R>;

    fn layer(&self, inner: R) -> Validated<R> {
        Validated { inner, check: self.0.clone() }
    }
}

/// A recipe in a [`Validation`] layer.
#[derive(Clone)]
pub struct Validated<R> {
    inner: R,
    check: Arc<Check>,
}

impl<R: fmt::Debug> fmt::Debug for Validated<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Validated").field(&self.inner).finish()
    }
}

impl<R: Recipe> Recipe for Validated<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        (self.check)(&ctx.as_inline(), &payload)?;
        self.inner.run(ctx, payload).await
    }
}

impl<R: Inline> Inline for Validated<R> {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        (self.check)(ctx, payload)?;
        self.inner.run(ctx, payload, out)
    }
}
