//! The HTTP API: its own listener, its own thread. axum stops here.
//!
//! Handlers ask the same handles as QUIC does, so no rule about tenants or items stands here; they
//! turn JSON into calls and what comes back into JSON. One file a noun.

#![allow(unused_qualifications, reason = "the macros that describe routes write full paths")]

mod access;
mod api;
mod auth;
mod batches;
mod config;
mod connections;
mod events;
mod extract;
mod figures;
mod guard;
mod health;
mod io;
mod jobs;
mod messages;
mod metrics;
mod openapi;
mod page;
mod places;
mod problem;
mod quotas;
mod recipes;
mod revocations;
mod router;
mod server;
mod stats;
mod swagger;
mod tenants;
mod time;
mod topics;
mod trust;
mod usage;
mod workers;

pub use auth::TokenError;
pub use config::{BadHttp, Config, TokenOf, TokenRole};
pub use server::HttpError;
pub(crate) use server::{Listener, Server};

#[cfg(test)]
mod tests;
