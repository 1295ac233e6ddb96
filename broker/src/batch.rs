//! Batches: what a recipe is, which there are, and the engine that runs items.
//!
//! Knows no socket and no certificate: `transport` brings frames and takes frames away.

mod alone;
mod away;
mod catalog;
mod config;
mod context;
mod directory;
mod durable;
mod ending;
mod engine;
mod error;
mod grant;
mod hooks;
mod lane;
mod ledger;
pub mod middleware;
mod open_ids;
mod order;
mod outcome;
mod pending;
mod pool;
mod recipe;
mod remote;
mod reply;
mod run;
mod slots;
mod stopwatch;
mod tally;
mod trace;
mod turns;
pub mod typed;
pub(crate) mod validate;

pub use catalog::{Catalog, CatalogBuilder, CatalogError, Entry, RECIPES_MAX};
pub use config::Config;
pub use context::{Context, InlineContext};
pub use error::Error;
pub use hooks::{HookOutcome, HookRequest, Hooks};
pub use pool::{Config as PoolConfig, Stats as PoolStats};
pub(crate) use recipe::jitter;
pub use recipe::{Inline, Recipe, Retry, Spec};
pub use reply::Reply;

pub(crate) use alone::{Alone, Ran, Watch};
pub(crate) use catalog::{Elsewhere, Handler, entry};
pub(crate) use context::{Grown, Report};
pub(crate) use directory::{Directory, Owner};
pub(crate) use durable::{Accepted, Durable, JobEnd, Line, NewJob, Of, Told};
pub(crate) use ending::Ending;
pub(crate) use engine::Engine;
pub(crate) use lane::{Asks, Halt, Lane};
pub(crate) use open_ids::{Holder, OpenId, OpenIds};
pub(crate) use outcome::{Failure, Head, Outcome, Sink, Unheard};
pub(crate) use pool::RunError;
pub(crate) use remote::{Begun, Errand, Phase, Remote, Returned, Sent, Standing, Task, no_worker};
#[cfg(test)]
pub(crate) use remote::{Call, Common, Single};
pub(crate) use run::{Offered, Over, Run, Said, Terms, Whose, foreign};
pub(crate) use slots::{Claim, Group, Look, Mailbox, Slot, Slots};
pub(crate) use turns::{HANDFUL, TURN, Turn};
pub(crate) use validate::{check_frugal, parse_schema};
