//! Batches: what a recipe is, which there are, and the engine that runs items.
//!
//! Knows no socket and no certificate: `transport` brings frames and takes frames away.

mod context;
mod error;
mod recipe;
mod reply;

pub use context::{Context, InlineContext};
pub use error::Error;
pub use recipe::{Inline, Recipe, Retry, Spec};
pub use reply::Reply;
