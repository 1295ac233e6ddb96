//! The settings of jobs.

use serde::{Deserialize, Serialize};

/// The settings of jobs, under `[jobs]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Items of recipes that take at least this long become jobs, in milliseconds: 5 000.
    pub async_threshold_ms: u64,
    /// How long a job that is over is kept, and its result, in milliseconds: 7 days. Dead ones are
    /// kept until they are purged.
    pub job_ttl_ms: u64,
    /// How long an idempotency key names its job, in milliseconds: 24 h.
    pub key_ttl_ms: u64,
    /// How long a durable batch that was not sealed waits for its client, in milliseconds: 60 s.
    pub seal_ttl_ms: u64,
    /// Jobs of one recipe of one tenant that are on their way at once: 256.
    pub in_flight_max: usize,
    /// Bytes of payloads of one tenant's jobs that are on their way at once: 16 MiB.
    pub in_flight_bytes_max: u64,
    /// Bytes of one tenant's newest payloads and results that are kept in memory: 4 MiB.
    pub recent_bytes_max: usize,
    /// After how many of a tenant's events a restart need not read them again: 16 384; at least 64.
    /// Four times as many are kept before what is spent among them is cleared out.
    pub checkpoint_events: u64,
}

impl Default for Config {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Config {
            async_threshold_ms: 5_000,
            job_ttl_ms: 7 * 24 * HOUR_MS,
            key_ttl_ms: 24 * HOUR_MS,
            seal_ttl_ms: 60_000,
            in_flight_max: 256,
            in_flight_bytes_max: 16 << 20,
            recent_bytes_max: 4 << 20,
            checkpoint_events: 16_384,
        }
    }
}
