//! The clock of what is stored: Unix milliseconds that never step back.
//!
//! Read from the wall once, at the start; from then on it is the monotonic clock that moves it. So
//! what is stored means the same after a restart, and a wall clock that jumps starts nothing early.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The clock. Clones go alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Instant,
    base_ms: u64,
}

impl Clock {
    /// Set by the wall clock, now.
    pub(crate) fn new() -> Clock {
        Clock { base: Instant::now(), base_ms: wall_ms(SystemTime::now()) }
    }

    /// Now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms.saturating_add(self.base.elapsed().as_millis() as u64)
    }

    /// When a time of this clock is; none when that is too far away to say.
    pub(crate) fn instant(&self, at: u64) -> Option<Instant> {
        self.base.checked_add(Duration::from_millis(at.saturating_sub(self.base_ms)))
    }
}

/// A wall time in Unix milliseconds; 0 before the epoch.
pub(crate) fn wall_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
