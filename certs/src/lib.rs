//! Who a peer is: certificates from their making to their end.
//!
//! An [`Authority`] issues and revokes, [`Identity`] reads the holder from a certificate,
//! [`Trust`] judges chains at the handshake and again on live connections, and [`Rotator`] follows
//! the files. Nothing here opens a socket or decides what a role may do, and the process-default
//! crypto provider is never asked for.

pub mod authority;
pub mod client;
pub mod crypto;
pub mod deny;
mod files;
pub mod identity;
pub mod inspect;
pub mod rotate;
pub mod serial;
pub mod server;
mod text;
pub mod verify;

pub use authority::{Authority, IssueOptions, Issued};
pub use client::{ClientCredentials, client_config};
pub use deny::DenyList;
pub use identity::{Identity, IdentityError, Role, TrustDomain};
pub use inspect::{CertificateInfo, inspect};
pub use rotate::{Paths, Rotator, Snapshot};
pub use serial::Serial;
pub use server::{ServerCredentials, server_config};
pub use verify::{Rejection, Trust, TrustError, Validity, validity};
