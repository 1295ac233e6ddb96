//! Topics: what there is of a tenant's topics and groups, as the sum of what was kept; who of a
//! group reads what; and which messages of a producer came before.
//!
//! No I/O and no clock: the time is a parameter, the state is what events add up to.

pub mod assign;
mod catalog;
pub mod group;
pub mod id;
pub mod plant;
mod producers;
pub mod ranges;
#[cfg(test)]
mod tests;

pub use catalog::{Binding, Done, Event, Part, Retention, Topic, Topics};
pub use producers::{Judged, Producer, Producers};

/// Milliseconds since the Unix epoch.
pub type At = u64;
