//! Pure decisions: (state, event, now) to effects. No I/O, no clock, no task, no log line.
//!
//! Time is a parameter everywhere: nanoseconds on a monotonic clock, since a base that the caller
//! chose once and keeps.

pub(crate) mod breaker;
pub(crate) mod fair;
pub(crate) mod job;
pub(crate) mod line;
pub(crate) mod quota;
pub(crate) mod retry;
pub(crate) mod topic;
pub(crate) mod window;

#[cfg(test)]
mod tests;
