//! Metrics: every series, named once, and the page that shows them.
//!
//! Edges and the engine hold handles and count on them; what other parts count for themselves is
//! read when the page is asked for ([`Readings`]). Knows none of the parts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tollgate_protocol::close::CloseCode;

mod config;
pub(crate) mod duration;
mod items;
mod page;
mod process;
pub(crate) mod readings;
mod series;
mod upstreams;

pub use config::Config;
pub use page::Format;

pub(crate) use self::{
    items::{How, Items, Lap, OTHER_LABEL},
    readings::Readings,
    upstreams::{RequestEnd, Upstream},
};

/// The counters of a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    compat_names: bool,
    items: Items,
    connections: Mutex<BTreeMap<&'static str, Connections>>,
    refused: Closes,
    closed: Closes,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    handshakes_in_flight: AtomicI64,
    streams_ended: [AtomicU64; StreamEnd::ALL.len()],
    http: Mutex<BTreeMap<Route, Answers>>,
}

/// Connections of one role.
#[derive(Debug, Clone, Copy, Default)]
struct Connections {
    opened: u64,
    open: u64,
}

/// How often each close code was used.
type Closes = [AtomicU64; CloseCode::ALL.len()];

/// What became of a handshake, or of a knock that did not become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Done; what follows is the certificate's holder being judged.
    Completed,
    /// TLS or QUIC failed.
    Failed,
    /// Not done in time.
    TimedOut,
    /// Turned away: its source knocks too fast, or the broker is draining.
    Refused,
    /// Not heard: too many are under way.
    Ignored,
    /// Asked to prove its address first.
    Retried,
}

impl Handshake {
    const ALL: [Handshake; 6] = [
        Handshake::Completed,
        Handshake::Failed,
        Handshake::TimedOut,
        Handshake::Refused,
        Handshake::Ignored,
        Handshake::Retried,
    ];

    fn name(self) -> &'static str {
        match self {
            Handshake::Completed => "completed",
            Handshake::Failed => "failed",
            Handshake::TimedOut => "timed_out",
            Handshake::Refused => "refused",
            Handshake::Ignored => "ignored",
            Handshake::Retried => "retried",
        }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// Its operation ran to its final frame.
    Completed,
    /// The peer reset it without one of the cancel codes.
    Reset,
    /// In any other way.
    Unfinished,
}

impl StreamEnd {
    const ALL: [StreamEnd; 3] = [StreamEnd::Completed, StreamEnd::Reset, StreamEnd::Unfinished];

    fn name(self) -> &'static str {
        match self {
            StreamEnd::Completed => "completed",
            StreamEnd::Reset => "reset",
            StreamEnd::Unfinished => "unfinished",
        }
    }
}

/// A method and a route as it is declared: never a path that a client made up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    method: &'static str,
    route: Box<str>,
}

/// How requests to a route were answered.
#[derive(Debug, Default)]
struct Answers {
    statuses: BTreeMap<u16, u64>,
    durations: duration::Durations,
}

impl Metrics {
    /// Counters at zero, for recipes of these names in the order of their indexes.
    pub(crate) fn new<'a>(config: &Config, recipes: impl Iterator<Item = &'a str>) -> Metrics {
        Metrics(Arc::new(Inner {
            compat_names: config.compat_names,
            items: Items::new(recipes),
            connections: Mutex::default(),
            refused: [const { AtomicU64::new(0) }; CloseCode::ALL.len()],
            closed: [const { AtomicU64::new(0) }; CloseCode::ALL.len()],
            handshakes: [const { AtomicU64::new(0) }; Handshake::ALL.len()],
            handshakes_in_flight: AtomicI64::new(0),
            streams_ended: [const { AtomicU64::new(0) }; StreamEnd::ALL.len()],
            http: Mutex::default(),
        }))
    }

    /// What is counted of items and batches.
    pub(crate) fn items(&self) -> &Items {
        &self.0.items
    }

    /// A connection was admitted; it is open until the answer is dropped.
    pub(crate) fn connection(&self, role: &'static str) -> OpenConnection {
        self.connections_of(role, |c| {
            c.opened += 1;
            c.open += 1;
        });
        OpenConnection { metrics: self.clone(), role }
    }

    fn connections_of(&self, role: &'static str, change: impl FnOnce(&mut Connections)) {
        let mut all = self.0.connections.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(role).or_default());
    }

    /// A connection was turned away after its handshake.
    pub(crate) fn connection_refused(&self, code: CloseCode) {
        count_close(&self.0.refused, code);
    }

    /// A connection that had been admitted is closed by the broker.
    pub(crate) fn connection_closed(&self, code: CloseCode) {
        count_close(&self.0.closed, code);
    }

    /// A handshake begins; it is under way until the answer is dropped.
    pub(crate) fn handshake_begins(&self) -> HandshakeUnderWay {
        self.0.handshakes_in_flight.fetch_add(1, Relaxed);
        HandshakeUnderWay(self.clone())
    }

    /// What became of a handshake.
    pub(crate) fn handshake(&self, outcome: Handshake) {
        self.0.handshakes[outcome as usize].fetch_add(1, Relaxed);
    }

    /// A stream ended.
    pub(crate) fn stream_ended(&self, how: StreamEnd) {
        self.0.streams_ended[how as usize].fetch_add(1, Relaxed);
    }

    /// A request over HTTP was answered. `route` is the route as it is declared, or `other`.
    pub(crate) fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let method = METHODS.iter().copied().find(|m| *m == method).unwrap_or(OTHER);
        let mut http = self.0.http.lock().unwrap_or_else(PoisonError::into_inner);
        let known = http.len() < ROUTES_MAX;
        let route = Route { method, route: if known { route } else { OTHER }.into() };
        let answers = http.entry(route).or_default();
        *answers.statuses.entry(status).or_default() += 1;
        answers.durations.note(took);
    }
}

fn count_close(closes: &Closes, code: CloseCode) {
    if let Some(at) = CloseCode::ALL.iter().position(|c| *c == code) {
        closes[at].fetch_add(1, Relaxed);
    }
}

/// A connection that is open.
#[derive(Debug)]
#[must_use = "the connection counts as closed once this is dropped"]
pub(crate) struct OpenConnection {
    metrics: Metrics,
    role: &'static str,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections_of(self.role, |c| c.open -= 1);
    }
}

/// A handshake that is under way.
#[derive(Debug)]
#[must_use = "the handshake counts as over once this is dropped"]
pub(crate) struct HandshakeUnderWay(Metrics);

impl Drop for HandshakeUnderWay {
    fn drop(&mut self) {
        self.0.0.handshakes_in_flight.fetch_sub(1, Relaxed);
    }
}

/// What has no label of its own.
const OTHER: &str = "other";
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
/// Far more than there are; a bound all the same.
const ROUTES_MAX: usize = 512;

#[cfg(test)]
mod tests;
