//! The memory guard: sheds new connections, then refuses new batches and readers, before the system
//! kills the process and everyone's work with it.
//!
//! The bounds on what one peer can hold come first; this is for all of them together.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tollgate_protocol::Code;

use crate::batch::Failure;

/// How full the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// There is room.
    None = 0,
    /// From 70 % of the limit: no new connections.
    Shed = 1,
    /// From 85 % of the limit: no new batches either.
    Refuse = 2,
}

const SHED_PERCENT: u64 = 70;
const REFUSE_PERCENT: u64 = 85;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The newest reading. Cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<AtomicU8>);

impl Memory {
    pub(crate) fn pressure(&self) -> Pressure {
        match self.0.load(Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Shed,
            _ => Pressure::Refuse,
        }
    }

    /// Refuses what is new, a batch or a stream that reads or appends, when there is no memory for
    /// it.
    pub(crate) fn admit(&self) -> Result<(), Failure> {
        if self.pressure() < Pressure::Refuse {
            return Ok(());
        }
        let message = "the broker's memory is nearly used up";
        Err(Failure::new(Code::Overloaded, message).detail("config_key", "limits.memory_bytes"))
    }

    fn set(&self, now: Pressure) {
        let before = self.0.swap(now as u8, Relaxed);
        if before != now as u8 {
            tracing::warn!(pressure = ?now, "memory pressure changed");
        }
    }

    /// Looks at the process's memory now and then. Runs until it is aborted; returns at once where
    /// the system tells neither the memory used nor a limit.
    pub(super) async fn watch(self, configured: u64) {
        let Some(limit) = Some(configured).filter(|n| *n > 0).or_else(limit) else { return };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(used) = used() else { return };
            self.set(judge(used, limit));
        }
    }
}

fn judge(used: u64, limit: u64) -> Pressure {
    let percent = used.saturating_mul(100) / limit.max(1);
    match percent {
        REFUSE_PERCENT.. => Pressure::Refuse,
        SHED_PERCENT.. => Pressure::Shed,
        _ => Pressure::None,
    }
}

/// What the process has resident, in bytes (Linux).
fn used() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kib_of(&status, "VmRSS:")
}

/// The control group's limit, or else the machine's memory, in bytes (Linux).
fn limit() -> Option<u64> {
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|s| s.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|s| kib_of(&s, "MemTotal:"));
    group.into_iter().chain(machine).min()
}

fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_rises_at_its_marks() {
        let cases = [(0, Pressure::None), (69, Pressure::None), (70, Pressure::Shed)];
        for (used, expected) in
            cases.into_iter().chain([(84, Pressure::Shed), (85, Pressure::Refuse)])
        {
            assert_eq!(judge(used, 100), expected, "{used} %");
        }
        assert_eq!(judge(1, 0), Pressure::Refuse);
    }

    #[test]
    fn memory_is_read_where_the_system_tells_it() {
        assert!(used().is_none_or(|n| n > 1 << 20));
        assert_eq!(kib_of("a: 1 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 << 10));
        assert_eq!(kib_of("a: 1 kB\n", "VmRSS:"), None);
    }
}
