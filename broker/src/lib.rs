//! The Tollgate broker as a library: build a catalog of recipes, start a [`Broker`], run it.

pub mod batch;
mod broker;
mod clock;
pub mod config;
pub mod events;
mod http;
mod jobs;
mod metrics;
pub mod recipes;
pub mod revocations;
mod rules;
pub mod store;
pub mod tenancy;
mod topics;
mod transport;
pub mod upstream;
pub mod workers;

pub use broker::{
    Broker, ConnectionInfo, Counters, DevAuthority, DevAuthorityError, Failed, ReloadError,
    StartError,
};
pub use config::Config;
pub use http::{BadHttp, HttpError, TokenError, TokenOf, TokenRole};
pub use metrics::Format as MetricsFormat;
pub use transport::{BadLimit, EndpointError};
