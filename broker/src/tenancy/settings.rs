//! What is set for a tenant: replaced as a whole when it changes, never edited in place.
//!
//! Quotas are not here but what they come from: a profile, and what the tenant has its own way.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::quotas::{Overrides, Quotas};
use crate::rules::quota::Policy;

mod bounds;

pub use bounds::BadSetting;

/// Whether a tenant may do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may.
    #[default]
    Active,
    /// Not now: its connections are closed and its data is kept.
    Suspended,
    /// Never again. Another tenant may get the same id.
    Deleted,
}

/// What is set for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For people; at most 255 characters.
    pub name: String,
    /// Whether it may do anything. Deleting is [`Registry::delete`](super::Registry::delete)'s.
    pub state: State,
    /// The profile that its quotas come from.
    pub profile: Arc<str>,
    /// The quotas that it has its own way, whatever the profile says.
    pub overrides: Overrides,
    /// What happens to items beyond a rate.
    pub policy: Policy,
    /// Items that run at once.
    pub concurrency: u32,
    /// Items that run at once for its bindings, each.
    pub workers: u32,
    /// Its share among tenants that wait, against theirs: 1 to 1,000.
    pub weight: u32,
    /// The gateways that may act for it.
    pub gateways: Vec<String>,
    /// Whatever the operator likes to note.
    pub metadata: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            state: State::Active,
            profile: DEFAULT_PROFILE.into(),
            overrides: Overrides::NOTHING,
            policy: Policy::Pace,
            concurrency: 256,
            workers: 3,
            weight: 1,
            gateways: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The defaults, with these quotas whatever the profile says.
    pub fn with_quotas(quotas: &Quotas) -> Settings {
        Settings { overrides: Overrides::all(quotas), ..Settings::default() }
    }
}

/// A tenant's settings as they are in force, with what the registry notes about them. Replaced as a
/// whole: what is in one belongs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What is set.
    pub settings: Arc<Settings>,
    /// What that comes to: `default`, over it the profile, over it the tenant's own.
    pub quotas: Arc<Quotas>,
    /// Grows by one with every change of the settings, from 1.
    pub revision: u64,
    /// When the tenant was created; to the millisecond.
    pub created_at: SystemTime,
    /// When its settings were changed last; to the millisecond.
    pub updated_at: SystemTime,
}

/// The profile of those who name none.
pub(super) const DEFAULT_PROFILE: &str = "default";
