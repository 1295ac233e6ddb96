//! Gateways: what each may hold open, whoever it acts for.
//!
//! Which tenants a gateway may act for stands with the tenants, never here.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{count::Count, quotas::Quota, settings::State};

/// What a gateway may hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayLimits {
    /// Whether it may do anything.
    pub state: State,
    /// Connections open at once.
    pub connections: u32,
    /// Streams open at once, on all its connections.
    pub streams: u32,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        GatewayLimits { state: State::Active, connections: 16, streams: 1_024 }
    }
}

/// A gateway, by the name in its certificate.
#[derive(Debug)]
pub struct Gateway {
    name: String,
    limits: GatewayLimits,
    connections: Count,
    streams: Count,
    /// Tells of changes of the tenants that list it.
    tenants: watch::Sender<()>,
}

impl Gateway {
    pub(super) fn new(name: &str, limits: GatewayLimits) -> Self {
        Gateway {
            name: name.to_owned(),
            limits,
            connections: Count::new(),
            streams: Count::new(),
            tenants: watch::Sender::new(()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do anything.
    pub fn state(&self) -> State {
        self.limits.state
    }

    /// Tells when a tenant that lists it, or did so, has changed.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.tenants.subscribe()
    }

    pub(super) fn tell(&self) {
        self.tenants.send_replace(());
    }

    /// What it holds of one of its quotas.
    pub fn used(&self, quota: Quota) -> u64 {
        self.count_of(quota).map_or(0, Count::now)
    }

    pub(super) fn count_of(&self, quota: Quota) -> Option<&Count> {
        match quota {
            Quota::Connections => Some(&self.connections),
            Quota::Streams => Some(&self.streams),
            _ => None,
        }
    }

    pub(super) fn limit(&self, quota: Quota) -> u64 {
        match quota {
            Quota::Connections => self.limits.connections.into(),
            Quota::Streams => self.limits.streams.into(),
            _ => u64::MAX,
        }
    }
}
