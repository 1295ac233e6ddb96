//! The Tollgate broker as a library: build a [`Broker`], give it recipes, run it.

pub mod batch;
pub mod recipes;
mod rules;
pub mod tenancy;
