//! What was revoked through the API: certificates by their serial, holders by their SPIFFE ID.
//!
//! Kept in the broker's own scope, and denied besides what CRLs and the deny list say: live
//! connections close as when these change. Reads no file and judges no certificate.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::runtime::Handle;
use tollgate_certs::{TrustDomain, deny::Entry, rotate};
use tollgate_protocol::Code;
use uuid::Uuid;

use crate::{
    events::{Events, Kind},
    store::{Fence, Store, keyed::OpenError},
    tenancy::NotKept,
};

mod ledger;
mod stored;

use ledger::Ledger;
pub use stored::BadRecord;

/// The id of a revocation: a UUID of version 7, so that they sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevocationId(Uuid);

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RevocationId {
    type Err = uuid::Error;

    fn from_str(s: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(s).map(RevocationId)
    }
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// What is revoked.
    pub entry: Entry,
    /// Why, for people.
    pub reason: String,
    /// Since when; to the millisecond.
    pub created_at: SystemTime,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It is of another trust domain: that would refuse nobody.
    #[error("the holder is of the trust domain {found}, allowed is {allowed}")]
    Foreign {
        /// The one found.
        found: TrustDomain,
        /// The one whose identities are accepted.
        allowed: TrustDomain,
    },
    /// The reason is too long, or would steer a terminal.
    #[error("a reason has at most {REASON_CHARS_MAX} characters, none of them control characters")]
    Reason,
    /// It is revoked already.
    #[error("it is revoked already, by {0}")]
    Exists(RevocationId),
    /// There are as many as there may be.
    #[error(
        "there are {REVOCATIONS_MAX} revocations, as many as there may be; for more, use a CRL"
    )]
    TooMany,
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It is kept, and is not in force before the next start.
    #[error("it is kept, but not in force: {0}")]
    NotInForce(#[from] rotate::RotateError),
}

impl RevokeError {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            RevokeError::Foreign { .. } | RevokeError::Reason => Code::ValidationError,
            RevokeError::Exists(_) => Code::Conflict,
            RevokeError::TooMany => Code::QuotaExceeded,
            RevokeError::NotKept(e) => e.code(),
            RevokeError::NotInForce(_) => Code::InternalError,
        }
    }
}

/// Why a revocation was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ReinstateError {
    /// There is none of this number.
    #[error("there is no such revocation")]
    Unknown,
    /// That could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It is kept, and is not in force before the next start.
    #[error("it is kept, but not in force: {0}")]
    NotInForce(#[from] rotate::RotateError),
}

impl ReinstateError {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            ReinstateError::Unknown => Code::NotFound,
            ReinstateError::NotKept(e) => e.code(),
            ReinstateError::NotInForce(_) => Code::InternalError,
        }
    }
}

/// Why the revocations could not be read at the start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store does not give them.
    #[error("cannot read the revocations: {0}")]
    Open(#[from] OpenError<BadRecord>),
    /// One is damaged, or written by a newer program.
    #[error("cannot read the revocations: {0}")]
    Record(#[from] BadRecord),
}

/// The revocations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revocations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Mutex<BTreeMap<RevocationId, Arc<Revocation>>>,
    /// Held by whoever changes something, to the end: changes come one after the other.
    ledger: tokio::sync::Mutex<Ledger>,
    domain: TrustDomain,
    trust: rotate::Handle,
    events: Events,
    runtime: Handle,
}

impl Revocations {
    /// Those that a store keeps. They are not in force yet: see [`entries`](Self::entries).
    ///
    /// # Errors
    /// [`RestoreError`] when they cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) async fn open(
        store: &Store,
        fence: Fence,
        domain: TrustDomain,
        trust: rotate::Handle,
        events: Events,
    ) -> Result<Revocations, RestoreError> {
        let (ledger, all) = Ledger::open(store.system(), fence).await?;
        Ok(Revocations(Arc::new(Inner {
            all: Mutex::new(all),
            ledger: tokio::sync::Mutex::new(ledger),
            domain,
            trust,
            events,
            runtime: Handle::current(),
        })))
    }

    /// What is to be denied. Holders of another trust domain, from before it was changed, are not:
    /// they are refused anyway.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        let all: Vec<_> = self.all().values().map(|r| r.entry.clone()).collect();
        let domain = self.0.domain.clone();
        all.into_iter().filter(move |e| foreign(e, &domain).is_none())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The revocation of a number.
    pub fn get(&self, id: RevocationId) -> Option<Arc<Revocation>> {
        self.all().get(&id).cloned()
    }

    /// At most `limit` of them, the oldest first, from the first after `after`.
    pub fn page(&self, after: Option<RevocationId>, limit: usize) -> Vec<Arc<Revocation>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.all().range((from, Bound::Unbounded)).take(limit).map(|(_, r)| r.clone()).collect()
    }

    /// Revokes a certificate or a holder. It is kept and in force when this resolves: new
    /// connections are refused, and live ones close within a second.
    ///
    /// # Errors
    /// [`RevokeError`] says why it was not.
    pub async fn revoke(
        &self,
        entry: Entry,
        reason: String,
    ) -> Result<Arc<Revocation>, RevokeError> {
        if let Some(found) = foreign(&entry, &self.0.domain) {
            let (found, allowed) = (found.clone(), self.0.domain.clone());
            return Err(RevokeError::Foreign { found, allowed });
        }
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(RevokeError::Reason);
        }
        let this = self.clone();
        let all = self.0.runtime.spawn(async move { this.keep(entry, reason).await });
        all.await.map_err(|_| NotKept::Lost)?
    }

    async fn keep(&self, entry: Entry, reason: String) -> Result<Arc<Revocation>, RevokeError> {
        let mut ledger = self.0.ledger.lock().await;
        if let Some(same) = self.all().values().find(|r| r.entry == entry) {
            return Err(RevokeError::Exists(same.id));
        }
        if self.len() >= REVOCATIONS_MAX {
            return Err(RevokeError::TooMany);
        }
        let id = RevocationId(Uuid::now_v7());
        let created_at = stored::precision(SystemTime::now());
        let new = Arc::new(Revocation { id, entry, reason, created_at });
        ledger.add(&new).await?;
        self.all().insert(id, new.clone());
        let in_force = self.put_in_force().await;
        self.0.events.publish(None, Kind::RevocationAdded { revocation: id.to_string() });
        drop(ledger);
        in_force?;
        Ok(new)
    }

    /// Takes a revocation back.
    ///
    /// # Errors
    /// [`ReinstateError`] says why it was not.
    pub async fn reinstate(&self, id: RevocationId) -> Result<(), ReinstateError> {
        let this = self.clone();
        let all = self.0.runtime.spawn(async move { this.forget(id).await });
        all.await.map_err(|_| NotKept::Lost)?
    }

    async fn forget(&self, id: RevocationId) -> Result<(), ReinstateError> {
        let mut ledger = self.0.ledger.lock().await;
        if self.get(id).is_none() {
            return Err(ReinstateError::Unknown);
        }
        ledger.remove(id).await?;
        self.all().remove(&id);
        let in_force = self.put_in_force().await;
        self.0.events.publish(None, Kind::RevocationRemoved { revocation: id.to_string() });
        drop(ledger);
        in_force?;
        Ok(())
    }

    async fn put_in_force(&self) -> Result<(), rotate::RotateError> {
        self.0.trust.deny(self.entries().collect()).await?;
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<RevocationId, Arc<Revocation>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trust domain of a holder, when it is another one.
fn foreign<'a>(entry: &'a Entry, ours: &TrustDomain) -> Option<&'a TrustDomain> {
    match entry {
        Entry::Holder { domain, .. } if domain != ours => Some(domain),
        _ => None,
    }
}

/// The longest reason.
const REASON_CHARS_MAX: usize = 255;
/// Each is looked up at every handshake and copied at every change; a CRL has room for more.
const REVOCATIONS_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
