//! The bus of what happens: published once, kept for a while, told to whoever subscribes.
//!
//! Publishing never waits for a subscriber: one that falls behind is told how much it lost. Knows
//! nothing of what the events are about.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::Stream;
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::watch;
use tollgate_protocol::id::TenantId;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events kept for those that come late or are slow; 1 to 1 000 000. Each costs some 200 bytes.
    pub kept_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { kept_max: 1_024 }
    }
}

/// Something that happened.
///
/// As JSON it is one flat object: `id`, `at`, `tenant` (when it is a tenant's), `kind`, and the
/// fields of that kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Rises with every event, across restarts too as long as the clock does not step back. Below
    /// 2^53, so that any JSON reader has it exactly.
    pub id: u64,
    /// When, in RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// Whose, when it is a tenant's.
    #[serde(serialize_with = "name", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A tenant was created.
    TenantCreated,
    /// What is set for a tenant was changed.
    TenantUpdated {
        /// The revision since then.
        revision: u64,
    },
    /// A tenant may not do anything any more.
    TenantSuspended,
    /// A suspended tenant may go on.
    TenantActivated,
    /// A tenant was deleted.
    TenantDeleted,
    /// A tenant uses 80 % of a quota or more.
    QuotaWarning(QuotaUse),
    /// A tenant uses 95 % of a quota or more.
    QuotaCritical(QuotaUse),
    /// A tenant is well below 80 % of a quota again.
    QuotaNormal(QuotaUse),
    /// A connection was admitted.
    ConnectionOpened {
        /// Its number.
        connection: u64,
        /// The SPIFFE ID of its certificate.
        identity: String,
        /// Where it comes from.
        address: SocketAddr,
    },
    /// A connection ended.
    ConnectionClosed {
        /// Its number.
        connection: u64,
        /// The SPIFFE ID of its certificate.
        identity: String,
    },
    /// A certificate is not accepted any more.
    RevocationAdded {
        /// The revocation.
        revocation: String,
    },
    /// A revocation was taken back.
    RevocationRemoved {
        /// The revocation.
        revocation: String,
    },
    /// An HTTP upstream fails: its breaker opened, and its items are refused for a while.
    UpstreamFailing {
        /// Its name in the configuration.
        upstream: String,
    },
    /// An HTTP upstream that failed answers again: its breaker closed.
    UpstreamRecovered {
        /// Its name in the configuration.
        upstream: String,
    },
    /// A count differs from what there is: a defect of the broker.
    Drift {
        /// Of whose quota: `tenant` or `gateway`.
        scope: &'static str,
        /// The gateway, when it is one's.
        #[serde(skip_serializing_if = "Option::is_none")]
        gateway: Option<String>,
        /// What is counted.
        quota: &'static str,
        /// The count.
        counted: u64,
        /// What there is.
        found: u64,
    },
    /// The attempts of a job are used up.
    JobDead {
        /// Its id.
        job: String,
        /// What it runs.
        recipe: String,
        /// How many there were.
        attempts: u32,
    },
    /// A worker has come.
    WorkerJoined {
        /// Its number.
        worker: u64,
        /// The SPIFFE ID of its certificate.
        identity: String,
    },
    /// A worker is gone.
    WorkerLeft {
        /// Its number.
        worker: u64,
        /// The SPIFFE ID of its certificate.
        identity: String,
        /// Calls that it had not answered.
        lost: u64,
    },
    /// The broker is shutting down.
    Draining {
        /// Until when running batches may go on, in milliseconds since 1970.
        until_unix_ms: u64,
    },
}

/// How much of a quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QuotaUse {
    /// Which.
    pub quota: &'static str,
    /// What is used, in its unit.
    pub current: u64,
    /// What is allowed.
    pub limit: u64,
}

impl Kind {
    /// The broker is shutting down.
    pub fn draining(until: SystemTime) -> Kind {
        let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        Kind::Draining { until_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// The names of the kinds, each in one place.
macro_rules! names {
    ($($kind:pat => $name:literal,)*) => {
        impl Kind {
            /// Every name, as it may stand in `kind`.
            pub const NAMES: &[&'static str] = &[$($name),*];

            /// The name, as it stands in `kind`.
            pub fn name(&self) -> &'static str {
                match self {
                    $($kind => $name,)*
                }
            }
        }
    };
}

names! {
    Kind::TenantCreated => "tenant_created",
    Kind::TenantUpdated { .. } => "tenant_updated",
    Kind::TenantSuspended => "tenant_suspended",
    Kind::TenantActivated => "tenant_activated",
    Kind::TenantDeleted => "tenant_deleted",
    Kind::QuotaWarning(_) => "quota_warning",
    Kind::QuotaCritical(_) => "quota_critical",
    Kind::QuotaNormal(_) => "quota_normal",
    Kind::ConnectionOpened { .. } => "connection_opened",
    Kind::ConnectionClosed { .. } => "connection_closed",
    Kind::RevocationAdded { .. } => "revocation_added",
    Kind::RevocationRemoved { .. } => "revocation_removed",
    Kind::UpstreamFailing { .. } => "upstream_failing",
    Kind::UpstreamRecovered { .. } => "upstream_recovered",
    Kind::Drift { .. } => "drift",
    Kind::JobDead { .. } => "job_dead",
    Kind::WorkerJoined { .. } => "worker_joined",
    Kind::WorkerLeft { .. } => "worker_left",
    Kind::Draining { .. } => "draining",
}

/// The bus. Cheap to clone; subscriptions end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Bus>);

#[derive(Debug)]
struct Bus {
    /// A leaf: nothing is locked, awaited or woken under it.
    kept: Arc<Mutex<Kept>>,
    news: watch::Sender<()>,
}

/// The newest events, without a gap between them.
#[derive(Debug)]
struct Kept {
    max: usize,
    /// The id of the first event of this bus.
    first: u64,
    next: u64,
    ring: VecDeque<Arc<Event>>,
}

impl Events {
    /// A bus on which nothing has happened yet.
    pub fn new(config: &Config) -> Events {
        let max = config.kept_max.clamp(1, KEPT_MAX_MOST);
        // Microseconds are more than there are events: a restart goes on above what was.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_secs(1));
        let first = u64::try_from(since.as_micros()).unwrap_or(1);
        let kept = Kept { max, first, next: first, ring: VecDeque::new() };
        Events(Arc::new(Bus { kept: Arc::new(Mutex::new(kept)), news: watch::Sender::new(()) }))
    }

    /// Tells everyone; returns the event's id.
    pub fn publish(&self, tenant: Option<&TenantId>, kind: Kind) -> u64 {
        let (at, tenant) = (SystemTime::now(), tenant.cloned());
        let mut kept = lock(&self.0.kept);
        let id = kept.next;
        kept.next += 1;
        let oldest = if kept.ring.len() == kept.max { kept.ring.pop_front() } else { None };
        kept.ring.push_back(Arc::new(Event { id, at, tenant, kind }));
        drop(kept);
        drop(oldest);
        self.0.news.send_replace(());
        id
    }

    /// Tells of what happens from now on; or of everything after an event, as far as it is kept: after
    /// 0, that is everything since the bus was made.
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let news = self.0.news.subscribe();
        let kept = self.0.kept.clone();
        let next = match after {
            None => lock(&kept).next,
            // Who has seen nothing has lost nothing of an earlier process.
            Some(0) => lock(&kept).first,
            Some(id) => id.saturating_add(1),
        };
        Subscription { kept, news, next }
    }

    /// What is kept, the oldest first.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        lock(&self.0.kept).ring.iter().cloned().collect()
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new(&Config::default())
    }
}

/// What a subscriber is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The next event.
    Event(Arc<Event>),
    /// So many events, at least, are not kept any more: look at the state itself, then go on. What
    /// an earlier process published counts as one.
    Lost(u64),
}

/// A place on the bus.
#[derive(Debug)]
pub struct Subscription {
    kept: Arc<Mutex<Kept>>,
    news: watch::Receiver<()>,
    /// The id of the event to tell next.
    next: u64,
}

impl Subscription {
    /// The next news, as soon as there is any; `None` once the bus is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            // Listens before it looks: what is published in between is not missed.
            self.news.borrow_and_update();
            if let Some(news) = self.try_next() {
                return Some(news);
            }
            if self.news.changed().await.is_err() {
                return self.try_next();
            }
        }
    }

    /// The next news, if there is any now.
    pub fn try_next(&mut self) -> Option<News> {
        let kept = lock(&self.kept);
        let oldest = kept.next - kept.ring.len() as u64;
        if self.next > kept.next {
            // From a process whose clock was ahead: nothing of it is known.
            self.next = oldest;
            return Some(News::Lost(1 + oldest - kept.first));
        }
        if self.next < oldest {
            let elsewhere = u64::from(self.next < kept.first);
            let lost = oldest - self.next.max(kept.first) + elsewhere;
            self.next = oldest;
            return Some(News::Lost(lost));
        }
        let event = kept.ring.get(usize::try_from(self.next - oldest).ok()?)?.clone();
        self.next += 1;
        Some(News::Event(event))
    }

    /// The same, as a stream.
    pub fn into_stream(self) -> impl Stream<Item = News> + Send {
        futures::stream::unfold(self, |mut this| async move {
            let news = this.next().await?;
            Some((news, this))
        })
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn rfc3339<S: Serializer>(at: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    let at = jiff::Timestamp::try_from(*at).unwrap_or_default();
    s.collect_str(&format_args!("{at:.3}"))
}

fn name<S: Serializer>(tenant: &Option<TenantId>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_some(&tenant.as_ref().map(TenantId::as_str))
}

/// More than this is a mistake: it is all kept in memory.
const KEPT_MAX_MOST: usize = 1_000_000;

#[cfg(test)]
mod tests;
