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
    /// How long a durable batch that was not sealed waits for its client, and one that is over and
    /// has no jobs is kept, in milliseconds: 60 s.
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

/// A setting that can not be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("jobs.{key} = {found}: {why}")]
pub struct BadSetting {
    /// The key, without its section.
    pub key: &'static str,
    /// What it is set to.
    pub found: u64,
    /// What is allowed.
    pub why: &'static str,
}

impl Config {
    /// Finds the first setting that can not be honoured.
    ///
    /// # Errors
    /// [`BadSetting`], naming the key and what is allowed.
    pub fn check(&self) -> Result<(), BadSetting> {
        const DAY_MS: u64 = 24 * 3_600_000;
        let (in_flight, recent) = (self.in_flight_max as u64, self.recent_bytes_max as u64);
        let bounds = [
            (
                "async_threshold_ms",
                self.async_threshold_ms,
                0..=DAY_MS,
                "must be from 0 to 86400000",
            ),
            ("job_ttl_ms", self.job_ttl_ms, 1..=366 * DAY_MS, "must be from 1 to 31622400000"),
            ("key_ttl_ms", self.key_ttl_ms, 0..=366 * DAY_MS, "must be from 0 to 31622400000"),
            ("seal_ttl_ms", self.seal_ttl_ms, 1..=DAY_MS, "must be from 1 to 86400000"),
            ("in_flight_max", in_flight, 1..=65_536, "must be from 1 to 65536"),
            (
                "in_flight_bytes_max",
                self.in_flight_bytes_max,
                1..=64 << 30,
                "must be from 1 to 68719476736",
            ),
            (
                "checkpoint_events",
                self.checkpoint_events,
                64..=1 << 20,
                "must be from 64 to 1048576",
            ),
            ("recent_bytes_max", recent, 0..=64 << 30, "must be from 0 to 68719476736"),
        ];
        match bounds.into_iter().find(|(_, found, allowed, _)| !allowed.contains(found)) {
            Some((key, found, _, why)) => Err(BadSetting { key, found, why }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_honoured_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let bad = Config { in_flight_max: 0, ..Config::default() }.check().expect_err("none");
        assert_eq!(bad.to_string(), "jobs.in_flight_max = 0: must be from 1 to 65536");
        let bad = Config { job_ttl_ms: u64::MAX, ..Config::default() }.check().expect_err("long");
        assert_eq!(bad.key, "job_ttl_ms");
    }
}
