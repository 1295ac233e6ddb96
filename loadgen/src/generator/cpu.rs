//! How much processor time was used, by whom: read from `/proc`; where there is none, nothing is
//! known.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use super::Used;

/// What had been used at one time.
pub(super) struct Sample {
    at: Instant,
    /// By thread.
    own: Option<BTreeMap<u32, Duration>>,
    broker: Option<BTreeMap<u32, Duration>>,
    broker_bytes: Option<u64>,
    /// Of all processors: idle, and in all.
    machine: Option<(f64, f64)>,
}

impl Sample {
    pub(super) fn take(broker_pid: Option<u32>) -> Self {
        Sample {
            at: Instant::now(),
            own: threads("self"),
            broker: broker_pid.and_then(|pid| threads(&pid.to_string())),
            broker_bytes: broker_pid.and_then(resident),
            machine: machine(),
        }
    }

    pub(super) fn since(&self, before: &Sample) -> Used {
        let sum = |after: &Option<BTreeMap<u32, Duration>>, before: &Option<_>| {
            Some(differences(after.as_ref()?, before.as_ref()?).sum())
        };
        Used {
            wall: self.at.saturating_duration_since(before.at),
            own: sum(&self.own, &before.own),
            busiest: self
                .own
                .as_ref()
                .zip(before.own.as_ref())
                .and_then(|(after, before)| differences(after, before).max()),
            idle: self.machine.zip(before.machine).map(|(a, b)| (a.0 - b.0, a.1 - b.1)),
            broker: sum(&self.broker, &before.broker),
            broker_bytes: self.broker_bytes,
        }
    }
}

fn differences<'a>(
    after: &'a BTreeMap<u32, Duration>,
    before: &'a BTreeMap<u32, Duration>,
) -> impl Iterator<Item = Duration> + 'a {
    let since = |(id, at): (&u32, &Duration)| {
        at.saturating_sub(before.get(id).copied().unwrap_or_default())
    };
    after.iter().map(since)
}

/// Time on a processor so far, of all threads of a process that are alive.
fn threads(process: &str) -> Option<BTreeMap<u32, Duration>> {
    let mut used = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
        // A thread that ended meanwhile is left out.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let ns = text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
        let id = task.file_name().to_str()?.parse().ok()?;
        used.insert(id, Duration::from_nanos(ns));
    }
    Some(used)
}

fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

fn machine() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<f64> = line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are counted in the first two.
    let idle = times.get(3)? + times.get(4)?;
    Some((idle, times.iter().take(8).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn work_is_seen() {
        let before = Sample::take(Some(std::process::id()));
        let mut x = 1u64;
        loop {
            x = std::hint::black_box(x.wrapping_mul(31));
            let used = Sample::take(Some(std::process::id())).since(&before);
            let own = used.own.expect("linux tells");
            if own > Duration::ZERO && used.broker.expect("it is there") > Duration::ZERO {
                assert!(used.busiest.expect("linux tells") <= own);
                assert!(used.broker_bytes.expect("linux tells") > 100_000);
                break;
            }
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_unknown() {
        let sample = Sample::take(Some(u32::MAX));
        assert!(sample.since(&sample).broker.is_none());
    }
}
