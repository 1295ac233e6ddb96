//! What is counted of one HTTP upstream. The upstream holds it; the page reads it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::duration::Durations;

/// How a request to an upstream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    /// Answered with a status of this hundred.
    Status2xx,
    /// See `Status2xx`.
    Status3xx,
    /// See `Status2xx`.
    Status4xx,
    /// See `Status2xx`.
    Status5xx,
    /// There was no connection.
    NotConnected,
    /// The connection ended before the answer did.
    BrokenOff,
    /// What was answered is not what was agreed, or too much of it.
    Malformed,
    /// There was no answer within the recipe's time-out.
    TimedOut,
    /// Nobody wants the answer any more.
    GivenUp,
    /// The breaker was open: it was not sent.
    Refused,
}

impl RequestEnd {
    const ALL: [RequestEnd; 10] = [
        RequestEnd::Status2xx,
        RequestEnd::Status3xx,
        RequestEnd::Status4xx,
        RequestEnd::Status5xx,
        RequestEnd::NotConnected,
        RequestEnd::BrokenOff,
        RequestEnd::Malformed,
        RequestEnd::TimedOut,
        RequestEnd::GivenUp,
        RequestEnd::Refused,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            RequestEnd::Status2xx => "2xx",
            RequestEnd::Status3xx => "3xx",
            RequestEnd::Status4xx => "4xx",
            RequestEnd::Status5xx => "5xx",
            RequestEnd::NotConnected => "not_connected",
            RequestEnd::BrokenOff => "broken_off",
            RequestEnd::Malformed => "malformed",
            RequestEnd::TimedOut => "timed_out",
            RequestEnd::GivenUp => "given_up",
            RequestEnd::Refused => "refused",
        }
    }
}

/// The counts of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    ended: [AtomicU64; RequestEnd::ALL.len()],
    sent: AtomicU64,
    pub(super) durations: Durations,
}

impl Upstream {
    /// A request is about to be sent.
    pub(crate) fn begins(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// A request that had begun ended.
    pub(crate) fn ends(&self, how: RequestEnd, took: Duration) {
        self.ended[how as usize].fetch_add(1, Relaxed);
        self.durations.note(took);
    }

    /// A request was refused and did not begin.
    pub(crate) fn refused(&self) {
        self.ended[RequestEnd::Refused as usize].fetch_add(1, Relaxed);
    }

    /// How often each end came, of those that did.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = RequestEnd::ALL.iter().zip(&self.ended);
        let counts = counts.map(|(end, n)| (end.name(), n.load(Relaxed)));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> u64 {
        let ended = || self.ended.iter().zip(RequestEnd::ALL);
        let over = ended().filter(|(_, end)| *end != RequestEnd::Refused);
        // Ends are read before the beginnings, so that it is never below nothing.
        let over: u64 = over.map(|(n, _)| n.load(Relaxed)).sum();
        self.sent.load(Relaxed).saturating_sub(over)
    }
}
