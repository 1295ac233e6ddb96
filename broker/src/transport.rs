//! QUIC: from datagrams to operations. quinn stops here.
//!
//! Decides who a connection is, once, and hands each stream to its operation. Holds no rule about
//! items: those are `batch`'s, and HTTP will use the same.

mod abuse;
mod batch;
mod config;
mod connection;
mod describe;
mod endpoint;
mod gate;
mod hold;
mod jobs;
mod keys;
mod live;
mod output;
mod signals;
mod socket;
mod stream;
mod topics;
mod window;
mod work;

pub use config::{BadLimit, Config};
pub(crate) use endpoint::Endpoint;
pub use endpoint::EndpointError;
pub use live::ConnectionInfo;
pub(crate) use live::Live;
pub(crate) use window::Pool as WindowPool;
