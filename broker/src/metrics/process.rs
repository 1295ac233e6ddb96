//! What the system says of this process (Linux; elsewhere nothing is shown).

use std::fs;

/// One look at the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub fds: u64,
    pub fds_max: u64,
    /// In seconds since 1970.
    pub started: f64,
}

impl Process {
    pub(super) fn read() -> Option<Process> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // The directory that is being read is open, too.
        let fds = fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count().saturating_sub(1));
        parse(&stat, &system, &limits, fds as u64)
    }
}

fn parse(stat: &str, system: &str, limits: &str, fds: u64) -> Option<Process> {
    // The name, in brackets, may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |place: usize| fields.get(place - FIRST_FIELD)?.parse::<u64>().ok();
    let boot = system.lines().find_map(|l| l.strip_prefix("btime "))?;
    let boot: u64 = boot.trim().parse().ok()?;
    let fds_max = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
    let fds_max = fds_max.and_then(|l| l.split_whitespace().next()?.parse().ok());
    Some(Process {
        cpu_seconds: (number(14)? + number(15)?) as f64 / TICKS_PER_SECOND,
        resident_bytes: number(24)? * PAGE_BYTES,
        virtual_bytes: number(23)?,
        fds,
        fds_max: fds_max.unwrap_or(0),
        started: boot as f64 + number(22)? as f64 / TICKS_PER_SECOND,
    })
}

/// The number, in proc(5), of the field behind the name.
const FIRST_FIELD: usize = 3;
/// Linux tells user space this, whatever it counts in itself.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_are_read() {
        let stat = "42 (a ) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1234 8192 3 184";
        let limits =
            "Limit    Soft Limit   Hard Limit  Units\nMax open files    1024   4096   files\n";
        let process = parse(stat, "cpu 1 2\nbtime 1000\n", limits, 7);
        let expected = Process {
            cpu_seconds: 2.0,
            resident_bytes: 3 * 4_096,
            virtual_bytes: 8_192,
            fds: 7,
            fds_max: 1_024,
            started: 1_012.34,
        };
        assert_eq!(process, Some(expected));
        assert_eq!(parse("", "", "", 0), None);
    }

    #[test]
    fn this_process_is_seen() {
        let Some(process) = Process::read() else { return };
        assert!(process.resident_bytes > 1 << 20 && process.fds > 0, "{process:?}");
    }
}
