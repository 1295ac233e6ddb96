//! Who the tenants are and what each may use: the registry, and the permits and charges that work
//! must hold.
//!
//! Decisions are `rules::quota`'s; this adds the clock's base, the lock, and what wakes those who
//! wait. It never reads a certificate, a frame or a payload.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rules::window::Shape;
pub use crate::rules::{
    quota::{Cost, Kind, Policy},
    window::ShapeError,
};

mod admission;
pub(crate) mod alerts;
pub(crate) mod audit;
mod changes;
mod count;
mod gateway;
mod in_use;
mod metered;
mod pace;
mod permit;
mod profiles;
mod quotas;
mod registry;
mod settings;
mod stats;
mod stored;
mod tenant;
mod usage;

/// What counts are made of; `count` and `metered` are also tried over others.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

pub use admission::{Charged, Stop};
pub use alerts::{Alerts, Level};
pub use audit::{Drift, Holder};
pub use changes::Changes;
pub use gateway::{Gateway, GatewayLimits};
pub use pace::{PaceTicket, WaitNews};
pub use permit::{BytesPermit, Permit, Refusal};
pub use profiles::Profiles;
pub use quotas::{Limit, Overrides, Quota, Quotas};
pub use registry::{
    CreateError, DeleteError, Filter, NewTenant, NotKept, Once, Open, Registry, RestoreError,
    UpdateError,
};
pub use settings::{BadSetting, Record, Settings, State};
pub(crate) use stats::{Book, Bounds, Lap, Row};
pub use stats::{Quantiles, StatsSnapshot};
pub use stored::BadRecord;
pub use tenant::Tenant;
pub use usage::UsageLine;

/// How tenants are metered, and what they share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Changes to the built-in profiles, and others beside them: some quotas each. What a profile
    /// leaves out takes the value of `default`.
    pub profiles: BTreeMap<String, Overrides>,
    /// Tenants there may be.
    pub tenants_max: usize,
    /// How long what runs may go on when a tenant is deleted by force.
    pub delete_drain_ms: u64,
    /// The window of the three rates.
    pub window: Window,
    /// Bytes of items in flight (read and unanswered, results included) a tenant may have: memory
    /// that one tenant can hold. 1 byte to 4 GiB; what alone exceeds it goes alone.
    pub tenant_in_flight_bytes: u32,
    /// Gateways with limits of their own.
    pub gateways: BTreeMap<String, GatewayLimits>,
    /// The limits of every other gateway.
    pub gateway_default: GatewayLimits,
    /// How often what is counted is compared with what there is, in milliseconds; 100 or more.
    pub audit_interval_ms: u64,
    /// When a quota counts as nearly used up.
    pub alerts: Alerts,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            profiles: BTreeMap::new(),
            tenants_max: 1_000_000,
            delete_drain_ms: 5_000,
            window: Window::default(),
            tenant_in_flight_bytes: 32 << 20,
            gateways: BTreeMap::new(),
            gateway_default: GatewayLimits::default(),
            audit_interval_ms: 10_000,
            alerts: Alerts::default(),
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
    /// A window of `buckets` (1 to 12) buckets of `bucket_ms` (1 to 60 000) milliseconds each.
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
        WindowKeys { buckets: w.0.buckets(), bucket_ms: w.0.bucket_ms() }
    }
}

#[cfg(test)]
mod tests;
