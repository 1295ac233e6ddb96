//! The holders of client certificates that are connected, judged again whenever trust changes.
//!
//! As on QUIC: who is revoked, expires or loses its root is cut off within a second, in the middle
//! of whatever it does.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use foldhash::HashMap;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tollgate_certs::{Identity, Rejection, Snapshot, validity};

/// How often expiry is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A certificate that a connection presented, and that was good then. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Certificate(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    expires: SystemTime,
    trust: watch::Receiver<Snapshot>,
    /// Of the trust that it was judged by last.
    generation: AtomicU64,
    /// Cancelled when it is good no more.
    ended: CancellationToken,
}

impl Certificate {
    /// Judges what a client presented.
    ///
    /// # Errors
    /// [`Rejection`], as on QUIC.
    pub(super) fn judge(
        chain: Vec<CertificateDer<'static>>,
        trust: watch::Receiver<Snapshot>,
    ) -> Result<Certificate, Rejection> {
        let Snapshot { trust: now, generation, .. } = trust.borrow().clone();
        let identity = now.check(&chain, UnixTime::now())?;
        let leaf = chain.first().ok_or(Rejection::Malformed)?;
        let expires = validity(leaf)?.not_after;
        let ended = CancellationToken::new();
        let generation = AtomicU64::new(generation);
        Ok(Certificate(Arc::new(Seen { identity, chain, expires, trust, generation, ended })))
    }

    /// Whether it is good now. Judged again only when trust has changed since it was last.
    pub(super) fn is_good(&self) -> bool {
        let Snapshot { trust, generation, .. } = self.0.trust.borrow().clone();
        if self.0.expires <= SystemTime::now()
            || (self.0.generation.swap(generation, Relaxed) != generation
                && trust.check(&self.0.chain, UnixTime::now()).is_err())
        {
            self.0.ended.cancel();
        }
        !self.0.ended.is_cancelled()
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// When it expires.
    pub(super) fn expires(&self) -> SystemTime {
        self.0.expires
    }

    /// Cancelled when it is good no more.
    pub(super) fn ended(&self) -> &CancellationToken {
        &self.0.ended
    }
}

/// The holders that are connected. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Holders(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    connected: Mutex<HashMap<u64, Certificate>>,
}

impl Holders {
    fn connected(&self) -> MutexGuard<'_, HashMap<u64, Certificate>> {
        self.0.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a holder; it leaves when the answer is dropped.
    pub(super) fn enter(&self, certificate: Certificate) -> Entered {
        let id = self.0.next.fetch_add(1, Relaxed);
        self.connected().insert(id, certificate);
        Entered { holders: self.clone(), id }
    }

    /// Cuts off whoever is good no more. Runs until it is dropped.
    pub(super) async fn watch(self, mut trust: watch::Receiver<Snapshot>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = trust.changed() => {
                    if changed.is_err() { return }
                    trust.mark_unchanged();
                }
                _ = tick.tick() => {}
            }
            let all: Vec<Certificate> = self.connected().values().cloned().collect();
            for certificate in all.iter().filter(|c| !c.0.ended.is_cancelled()) {
                if !certificate.is_good() {
                    let identity = certificate.identity();
                    tracing::info!(
                        ?identity,
                        "a client's certificate is good no more: it is cut off"
                    );
                }
            }
        }
    }
}

/// A holder's place in the table.
#[derive(Debug)]
pub(super) struct Entered {
    holders: Holders,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.holders.connected().remove(&self.id);
    }
}
