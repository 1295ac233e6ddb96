//! Pure decisions: (state, event, now) to effects. No I/O, no clock, no task, no log line.
//!
//! Time is a parameter everywhere: nanoseconds on a monotonic clock, since a base that the caller
//! chose once and keeps.

pub(crate) mod breaker;
// What waits for a place, fairly: built here, used by the schedulers of items and workers.
#[allow(dead_code, reason = "its callers use a part of it each")]
pub(crate) mod fair;
pub(crate) mod line;
pub(crate) mod quota;
pub(crate) mod window;

#[cfg(test)]
mod tests;
