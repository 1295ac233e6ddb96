//! The connections that are open: for operators to see, and to count.
//!
//! Closing is each connection's own business: it watches trust and tenants itself.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use foldhash::HashMap;
use tokio::sync::Notify;
use tollgate_certs::Role;
use tollgate_protocol::id::TenantId;

use crate::{
    batch::Holder,
    events::{Events, Kind},
};

/// The connections of a broker; their coming and going is published. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    events: Events,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Seen>>>,
    left: Notify,
}

/// What is known of one connection.
#[derive(Debug)]
struct Seen {
    identity: String,
    tenant: Option<TenantId>,
    holder: Holder,
    role: Role,
    since: SystemTime,
    conn: quinn::Connection,
    streams: AtomicU32,
    /// Datagrams that had come when it was last looked at.
    datagrams: AtomicU64,
    /// When it was found that more had come, in milliseconds since the Unix epoch.
    heard_ms: AtomicU64,
}

/// One open connection, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its number, never used again by this process.
    pub id: u64,
    /// The SPIFFE ID of its certificate.
    pub identity: String,
    /// What its holder is.
    pub role: Role,
    /// The tenant, unless it is a gateway's or a platform worker's.
    pub tenant: Option<String>,
    /// Where it comes from, now.
    pub address: SocketAddr,
    /// Since when.
    pub connected_at: SystemTime,
    /// When a packet last came from it; looked at once a second.
    pub last_seen_at: SystemTime,
    /// Streams open on it.
    pub streams: u32,
}

impl Live {
    pub(crate) fn new(events: Events) -> Live {
        let (next, open, left) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        Live(Arc::new(Inner { events, next, open, left }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seen>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection unless there are `max`; it leaves when the answer is dropped.
    pub(super) fn enter(
        &self,
        max: usize,
        (identity, tenant, holder, role): (String, Option<TenantId>, Holder, Role),
        conn: &quinn::Connection,
    ) -> Option<Entered> {
        let id = self.0.next.fetch_add(1, Relaxed);
        let since = SystemTime::now();
        let seen = Arc::new(Seen {
            identity,
            tenant,
            holder,
            role,
            since,
            datagrams: AtomicU64::new(conn.stats().udp_rx.datagrams),
            heard_ms: AtomicU64::new(unix_ms(since)),
            conn: conn.clone(),
            streams: AtomicU32::new(0),
        });
        let mut open = self.open();
        // Looked at and entered under one lock: connections race for the last place.
        if open.len() >= max {
            return None;
        }
        open.insert(id, seen.clone());
        drop(open);
        let (identity, address) = (seen.identity.clone(), conn.remote_address());
        let opened = Kind::ConnectionOpened { connection: id, identity, address };
        self.0.events.publish(seen.tenant.as_ref(), opened);
        Some(Entered { live: self.clone(), id, seen })
    }

    /// Waits until there are none, or until `deadline`.
    pub(crate) async fn wait_empty(&self, deadline: Instant) {
        self.wait_until(deadline, |live| live.len() == 0).await;
    }

    /// Waits until there are none but workers, or until `deadline`.
    pub(crate) async fn wait_only_workers(&self, deadline: Instant) {
        // They stay for the sake of others.
        let works =
            |seen: &Arc<Seen>| matches!(seen.role, Role::TenantWorker | Role::PlatformWorker);
        self.wait_until(deadline, |live| live.open().values().all(works)).await;
    }

    async fn wait_until(&self, deadline: Instant, done: impl Fn(&Live) -> bool) {
        let empty = async {
            loop {
                let left = self.0.left.notified();
                if done(self) {
                    return;
                }
                left.await;
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), empty).await;
    }

    /// Looks once a second which connections have sent something. Runs until it is dropped.
    pub(crate) async fn watch_seen(self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let all: Vec<_> = self.open().values().cloned().collect();
            let now = unix_ms(SystemTime::now());
            for seen in all {
                let datagrams = seen.conn.stats().udp_rx.datagrams;
                if seen.datagrams.swap(datagrams, Relaxed) != datagrams {
                    seen.heard_ms.store(now, Relaxed);
                }
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.open().len()
    }

    /// All of them, the oldest first.
    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let mut open: Vec<_> = self.open().iter().map(|(id, s)| (*id, s.clone())).collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        let info = |(id, s): (u64, Arc<Seen>)| ConnectionInfo {
            id,
            identity: s.identity.clone(),
            role: s.role,
            tenant: s.tenant.as_ref().map(ToString::to_string),
            address: s.conn.remote_address(),
            connected_at: s.since,
            last_seen_at: UNIX_EPOCH + Duration::from_millis(s.heard_ms.load(Relaxed)),
            streams: s.streams.load(Relaxed),
        };
        open.into_iter().map(info).collect()
    }

    /// Connections of each tenant, and connections and streams of each gateway.
    pub(crate) fn count(&self) -> (HashMap<u32, u64>, HashMap<String, (u64, u64)>) {
        let (mut tenants, mut gateways) = (HashMap::default(), HashMap::default());
        for seen in self.open().values() {
            match &seen.holder {
                Holder::Tenant(index) => *tenants.entry(*index).or_default() += 1,
                Holder::Worker(_) => {}
                Holder::Gateway(name) => {
                    let of: &mut (u64, u64) = gateways.entry(name.clone()).or_default();
                    *of = (of.0 + 1, of.1 + u64::from(seen.streams.load(Relaxed)));
                }
            }
        }
        (tenants, gateways)
    }

    /// Streams open on all connections.
    pub(crate) fn streams(&self) -> u32 {
        self.open().values().map(|s| s.streams.load(Relaxed)).sum()
    }
}

/// A connection's place in the table.
#[derive(Debug)]
pub(super) struct Entered {
    live: Live,
    id: u64,
    seen: Arc<Seen>,
}

impl Entered {
    /// Its number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The SPIFFE ID of its certificate.
    pub(super) fn identity(&self) -> &str {
        &self.seen.identity
    }

    /// Counts a stream until the answer is dropped.
    pub(super) fn stream(&self) -> OpenStream {
        self.seen.streams.fetch_add(1, Relaxed);
        OpenStream(self.seen.clone())
    }
}

/// A stream that is open.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<Seen>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.live.open().remove(&self.id);
        let closed =
            Kind::ConnectionClosed { connection: self.id, identity: self.seen.identity.clone() };
        self.live.0.events.publish(self.seen.tenant.as_ref(), closed);
        self.live.0.left.notify_waiters();
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// How often it is looked at who has sent something.
const LOOK_EVERY: Duration = Duration::from_secs(1);
