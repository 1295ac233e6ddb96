//! Who the tenants are and what each may use: the registry, and the permits and charges that work
//! must hold.
//!
//! Decisions are `rules::quota`'s; this adds the clock's base, the lock, and what wakes those who
//! wait. It never reads a certificate, a frame or a payload.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::rules::window::Shape;
pub use crate::rules::{
    quota::{Kind, Policy},
    window::ShapeError,
};

mod admission;
mod file;
mod gateway;
mod pace;
mod permit;
mod quotas;
mod registry;
mod settings;
mod tenant;
mod usage;

pub use admission::{Charged, Stop};
pub use file::{FileError, TenantsFile};
pub use gateway::{Gateway, GatewayLimits};
pub use pace::{OutTicket, PaceTicket};
pub use permit::{BytesPermit, ItemPermit, Permit, Refusal};
pub use quotas::{Limit, Overrides, Quota, Quotas};
pub use registry::{CreateError, Registry, RemoveError, UnknownTenant};
pub use settings::{Settings, State};
pub use tenant::Tenant;
pub use usage::{Drift, UsageLine};

/// How tenants are metered, and where they are listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file that lists the tenants; without it there are none until they are created.
    pub tenants_file: Option<PathBuf>,
    /// The window of the three rates.
    pub window: Window,
    /// Bytes of items in flight (read and unanswered, results included) a tenant may have: memory
    /// that one tenant can hold. 1 byte to 4 GiB; what alone exceeds it goes alone.
    pub tenant_in_flight_bytes: u32,
    /// Gateways with limits of their own.
    pub gateways: BTreeMap<String, GatewayLimits>,
    /// The limits of every other gateway.
    pub gateway_default: GatewayLimits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            tenants_file: None,
            window: Window::default(),
            tenant_in_flight_bytes: 32 << 20,
            gateways: BTreeMap::new(),
            gateway_default: GatewayLimits::default(),
        }
    }
}

/// The window of the rates: `buckets` of `bucket_ms` milliseconds each; 1 s by default.
///
/// A rate is per second whatever the window: a longer window allows longer bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "WindowKeys", into = "WindowKeys")]
pub struct Window(Shape);

impl Window {
    /// A window of `buckets` (1 to 16) buckets of `bucket_ms` (1 to 60 000) milliseconds each.
    ///
    /// # Errors
    /// [`ShapeError`] when a number is out of its bounds.
    pub fn new(buckets: u8, bucket_ms: u64) -> Result<Window, ShapeError> {
        Shape::new(buckets, bucket_ms).map(Window)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WindowKeys {
    buckets: u8,
    bucket_ms: u64,
}

impl Default for WindowKeys {
    fn default() -> Self {
        Window::default().into()
    }
}

impl TryFrom<WindowKeys> for Window {
    type Error = ShapeError;
    fn try_from(keys: WindowKeys) -> Result<Self, ShapeError> {
        Window::new(keys.buckets, keys.bucket_ms)
    }
}

impl From<Window> for WindowKeys {
    fn from(w: Window) -> Self {
        WindowKeys { buckets: w.0.buckets(), bucket_ms: w.0.bucket_ns() / 1_000_000 }
    }
}

#[cfg(test)]
mod tests;
