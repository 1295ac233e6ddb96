//! The settings of topics.

use serde::{Deserialize, Serialize};

/// The settings of topics, under `[topics]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a member of a group has to acknowledge a message before it is delivered again, when
    /// it does not say so itself, in milliseconds: 30 s.
    pub ack_timeout_ms: u64,
    /// Messages that a member of a group has at once, when it does not say so itself: 1 000. It may
    /// ask for up to ten times as many.
    pub in_flight_max: u32,
    /// How often a message is delivered to a group before it goes to the topic's dead letters: 5.
    pub deliveries_max: u32,
    /// How long a partition that moves to another member waits for what its old one has, in
    /// milliseconds: 1 s.
    pub handover_ms: u64,
    /// How far above its position a group may acknowledge, in offsets: 10 000.
    pub ahead_max: u64,
    /// How often it is looked for messages that are kept no longer, in milliseconds: 10 s.
    pub retention_interval_ms: u64,
    /// Bytes of one tenant's newest messages that are kept in memory, for those who read along:
    /// 4 MiB.
    pub recent_bytes_max: usize,
    /// Producers that each partition knows, so that what they send again is not kept twice: 1 000.
    pub producers_max: usize,
    /// After how many of a tenant's events, or messages of a partition, a restart need not read
    /// them again: 16 384; at least 64.
    pub checkpoint_every: u64,
    /// How long a binding that has nothing to read stays awake, in milliseconds: 60 s.
    pub binding_idle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ack_timeout_ms: 30_000,
            in_flight_max: 1_000,
            deliveries_max: 5,
            handover_ms: 1_000,
            ahead_max: 10_000,
            retention_interval_ms: 10_000,
            recent_bytes_max: 4 << 20,
            producers_max: 1_000,
            checkpoint_every: 16_384,
            binding_idle_ms: 60_000,
        }
    }
}

/// A setting that can not be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topics.{key} = {found}: must be from {min} to {max}")]
pub struct BadSetting {
    /// The key, without its section.
    pub key: &'static str,
    /// What it is set to.
    pub found: u64,
    /// The least that is allowed.
    pub min: u64,
    /// The most that is allowed.
    pub max: u64,
}

impl Config {
    /// Finds the first setting that can not be honoured.
    ///
    /// # Errors
    /// [`BadSetting`], naming the key and what is allowed.
    pub fn check(&self) -> Result<(), BadSetting> {
        const DAY_MS: u64 = 24 * 3_600_000;
        let (recent, producers) = (self.recent_bytes_max as u64, self.producers_max as u64);
        let bounds = [
            ("ack_timeout_ms", self.ack_timeout_ms, 1, DAY_MS),
            ("in_flight_max", self.in_flight_max.into(), 1, 100_000),
            ("deliveries_max", self.deliveries_max.into(), 1, 1_000_000),
            ("handover_ms", self.handover_ms, 0, DAY_MS),
            ("ahead_max", self.ahead_max, 1, 1_000_000),
            ("retention_interval_ms", self.retention_interval_ms, 10, DAY_MS),
            ("recent_bytes_max", recent, 0, 64 << 30),
            ("producers_max", producers, 1, 1_000_000),
            ("checkpoint_every", self.checkpoint_every, 64, 1 << 20),
            ("binding_idle_ms", self.binding_idle_ms, 1, DAY_MS),
        ];
        let bad = bounds.into_iter().find(|(_, found, min, max)| !(min..=max).contains(&found));
        match bad {
            Some((key, found, min, max)) => Err(BadSetting { key, found, min, max }),
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
        assert_eq!(bad.to_string(), "topics.in_flight_max = 0: must be from 1 to 100000");
        let bad = Config { checkpoint_every: 3, ..Config::default() }.check().expect_err("few");
        assert_eq!(bad.key, "checkpoint_every");
    }
}
