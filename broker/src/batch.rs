//! Batches: what a recipe is, which there are, and the engine that runs items.
//!
//! Knows no socket and no certificate: `transport` brings frames and takes frames away.

mod catalog;
mod context;
mod error;
mod hooks;
mod recipe;
mod reply;
mod validate;

pub use catalog::{Catalog, CatalogBuilder, CatalogError, Entry, RECIPES_MAX};
pub use context::{Context, InlineContext};
pub use error::Error;
pub use hooks::{HookOutcome, HookRequest, Hooks};
pub use recipe::{Inline, Recipe, Retry, Spec};
pub use reply::Reply;
