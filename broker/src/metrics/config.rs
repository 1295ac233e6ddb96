//! The settings of metrics.

use serde::{Deserialize, Serialize};

/// The settings of metrics and statistics, under `[metrics]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether some series are shown a second time, under the names that dashboards of such systems
    /// expect: on.
    pub compat_names: bool,
    /// Tenants that get a label of their own, the first to be active: 100. The others are `other`
    /// together.
    pub tenant_labels_max: usize,
    /// Tenants that have a label of their own whatever happens.
    pub tenants_pinned: Vec<String>,
    /// Tenants whose latencies are kept, the busiest lately: 1 000. Some 6 to 13 KiB each.
    pub tenant_latencies_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            compat_names: true,
            tenant_labels_max: 100,
            tenants_pinned: Vec::new(),
            tenant_latencies_max: 1_000,
        }
    }
}
