//! Alerts: a quota that is nearly used up, told once on the way up and once on the way down.
//!
//! Looked at once a second for the tenants in use; nothing of it is on the path of an item.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use super::{quotas::Quota, registry::Registry, tenant::Tenant, usage::UsageLine};
use crate::events::{Events, Kind, QuotaUse};

/// When a quota counts as nearly used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// How often usage is looked at, in milliseconds; 100 or more.
    pub interval_ms: u64,
    /// From this utilisation on a quota's level is `warning`.
    pub warning_percent: u8,
    /// From this utilisation on a quota's level is `critical`.
    pub critical_percent: u8,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts { interval_ms: 1_000, warning_percent: 80, critical_percent: 95 }
    }
}

/// How close what is used is to what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not close.
    #[default]
    Normal,
    /// Close: from `warning_percent` on, 80 %.
    Warning,
    /// Very close: from `critical_percent` on, 95 %.
    Critical,
}

impl Level {
    /// The name, as it stands in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Normal => "normal",
            Level::Warning => "warning",
            Level::Critical => "critical",
        }
    }

    /// The level of the quota at this place among those that are stored together.
    pub(super) fn stored(levels: u32, at: usize) -> Level {
        match levels >> (2 * at) & 3 {
            0 => Level::Normal,
            1 => Level::Warning,
            _ => Level::Critical,
        }
    }

    fn store(self, levels: u32, at: usize) -> u32 {
        levels & !(3 << (2 * at)) | (self as u32) << (2 * at)
    }
}

impl Alerts {
    /// The level after `now`, given the one before: it falls only once usage is well below where
    /// it rose, so that usage about a threshold is not told again and again.
    pub fn next(&self, before: Level, current: u64, limit: Option<u64>) -> Level {
        let Some(limit) = limit.filter(|_| current > 0) else { return Level::Normal };
        let reaches = |level, percent: u8| {
            let fall = if before >= level { FALL_PERCENT } else { 0 };
            let percent = percent.saturating_sub(fall);
            u128::from(current) * 100 >= u128::from(limit) * u128::from(percent)
        };
        if reaches(Level::Critical, self.critical_percent) {
            Level::Critical
        } else if reaches(Level::Warning, self.warning_percent) {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}

/// Looks at the tenants in use again and again, and publishes what crossed a threshold. Runs until
/// it is aborted.
pub(crate) async fn watch(tenants: Registry, events: Events) {
    let every = Duration::from_millis(tenants.alerts().interval_ms.max(INTERVAL_MS_MIN));
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = tokio::time::Instant::now().into_std();
        for (n, tenant) in tenants.in_use().iter().enumerate() {
            if n % TURN == TURN - 1 {
                // Items have their turn too.
                tokio::task::yield_now().await;
            }
            tenant.alert(now, &events);
        }
    }
}

impl Registry {
    /// When a quota counts as nearly used up.
    pub fn alerts(&self) -> &Alerts {
        &self.common().alerts
    }
}

impl Tenant {
    /// Publishes which levels have changed since this was last asked; a tenant that does nothing is
    /// looked at no more.
    pub(super) fn alert(self: &Arc<Self>, now: Instant, events: &Events) {
        let Some(counted) = self.counted_yet() else { return };
        // Whoever comes here is the only one to store levels.
        let before = counted.levels.load(Ordering::Relaxed);
        let mut after = before;
        let lines = self.lines(self.used_of_all(now), before, &self.common.alerts);
        for (at, line) in lines.enumerate() {
            if line.level != Level::stored(before, at) {
                after = line.level.store(after, at);
                events.publish(Some(&self.id), event(&line));
            }
        }
        if after != before {
            counted.levels.store(after, Ordering::Relaxed);
        }
        self.leave_if_quiet(now);
    }
}

fn event(line: &UsageLine) -> Kind {
    let limit = line.limit.unwrap_or(u64::MAX);
    let used = QuotaUse { quota: line.quota.name(), current: line.current, limit };
    match line.level {
        Level::Normal => Kind::QuotaNormal(used),
        Level::Warning => Kind::QuotaWarning(used),
        Level::Critical => Kind::QuotaCritical(used),
    }
}

/// How far below its threshold a level is left, in per cent of the limit.
const FALL_PERCENT: u8 = 5;
/// More often costs more than it tells.
const INTERVAL_MS_MIN: u64 = 100;
/// Tenants looked at before others have their turn: some 100 µs.
const TURN: usize = 256;

const _: () = assert!(2 * Quota::ALL.len() <= u32::BITS as usize);
