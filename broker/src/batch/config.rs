//! The settings of the engine.

use serde::{Deserialize, Serialize};

/// The settings of the engine, under `[batch]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Items that run at once in the whole broker: 1 024.
    pub concurrency_max: u32,
    /// Items of one batch that are read and wait to be started: 1 024. Beyond it the batch is not
    /// read.
    pub waiting_items_max: usize,
    /// Threads for recipes that block a core; 0 is one a core, at least 2.
    pub blocking_threads: usize,
    /// Items of one tenant that wait for such a thread: 1 024.
    pub blocking_queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            concurrency_max: 1_024,
            waiting_items_max: 1_024,
            blocking_threads: 0,
            blocking_queue_max: 1_024,
        }
    }
}
