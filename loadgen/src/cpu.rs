//! How much processor time this process has used: the generator must not be the bottleneck, and
//! only this tells.
//!
//! Reads `/proc`; where there is none, nothing is known.

use std::{fs, time::Duration};

/// Time on a processor so far, of all threads that are alive. The threads of the runtime live as
/// long as a run.
pub fn used() -> Option<Duration> {
    let mut ns = 0;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        // A thread that ended meanwhile is left out.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        ns += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn work_is_seen() {
        let before = super::used().expect("linux tells");
        let mut x = 1u64;
        while super::used().expect("linux tells") == before {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
    }
}
