//! Middleware: layers around recipes, composed statically, and services of `tower` as recipes.
//!
//! A layer wraps a [`Recipe`](super::Recipe), an [`Inline`](super::Inline) or both, by
//! [`tower_layer::Layer`]. A tuple of layers is a layer whose first member is outermost, and so is
//! `tower::ServiceBuilder`. Nothing here knows the engine: a wrapped recipe is a recipe.
//!
//! ```
//! use std::time::Duration;
//! use tollgate_broker::batch::{
//!     Catalog, Context, Error, Spec,
//!     middleware::{Concurrency, Layer, Metrics, Timeout, Tracing},
//!     typed,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Metrics::new();
//! let layers = (Tracing::new(), metrics.clone(), Timeout::new(Duration::from_secs(1)));
//! let hello = typed::json(|_: Context, name: String| async move { Ok(format!("hello {name}")) });
//! let catalog = Catalog::builder().recipe("hello", Spec::json(), layers.layer(hello)).build()?;
//! assert_eq!(metrics.snapshot().started, 0);
//! # Ok(())
//! # }
//! ```

mod concurrency;
mod metrics;
mod service;
mod timeout;
mod tracing;
mod validation;

pub use tower_layer::Layer;

pub use self::{
    concurrency::{Concurrency, Limited},
    metrics::{Measured, Metrics, Snapshot},
    service::{BoxError, Call, FromService, from_service},
    timeout::{TimedOut, Timeout},
    tracing::{Traced, Tracing},
    validation::{SchemaError, Validated, Validation},
};

#[cfg(test)]
mod tests;
