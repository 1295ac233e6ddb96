//! What is set for a tenant: replaced as a whole when it changes, never edited in place.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quotas::Quotas;
use crate::rules::quota::Policy;

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
    /// For people.
    pub name: String,
    /// Whether it may do anything.
    pub state: State,
    /// What it may use.
    pub quotas: Quotas,
    /// What happens to items beyond a rate.
    pub policy: Policy,
    /// Items that run at once.
    pub concurrency: u32,
    /// Items that run at once for its bindings, each.
    pub workers: u32,
    /// Its share among tenants that wait, against theirs; 0 counts as 1.
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
            quotas: Quotas::DEFAULT,
            policy: Policy::Pace,
            concurrency: 256,
            workers: 3,
            weight: 1,
            gateways: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }
}
