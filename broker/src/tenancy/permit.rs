//! Permits: a share of a limit as a value, given back when it is dropped.
//!
//! Counts are exact: taking one checks and counts in one step, under any concurrency. A permit
//! never outlives its count and is never counted twice.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::sync::Semaphore;
use tollgate_protocol::{Code, batch::Scope};

use super::{count::Count, gateway::Gateway, quotas::Quota, tenant::Tenant};

/// A limit is used up, or what was asked for exceeds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{quota} is used up: {current} of {limit}")]
pub struct Refusal {
    /// Which.
    pub quota: Quota,
    /// Whose.
    pub scope: Scope,
    /// What is used now; for a quota on single things (`batch_items`, `payload_bytes`,
    /// `retention_hours`) what was asked for.
    pub current: u64,
    /// What is allowed.
    pub limit: u64,
}

impl Refusal {
    /// The code of an answer that says so.
    pub fn code(&self) -> Code {
        match self.quota {
            Quota::BatchItems => Code::BatchTooLarge,
            Quota::StorageBytes => Code::StorageFull,
            _ => Code::QuotaExceeded,
        }
    }
}

/// A share of a limit that counts what exists at once.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    holder: Holder,
    quota: Quota,
    n: u64,
}

#[derive(Debug)]
enum Holder {
    Tenant(Arc<Tenant>),
    Gateway(Arc<Gateway>),
}

impl Permit {
    /// What it is a share of.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// How much of it.
    pub fn amount(&self) -> u64 {
        self.n
    }
}

impl Permit {
    /// Makes another one a part of this.
    ///
    /// # Panics
    /// When they are of different quotas.
    pub(crate) fn merge(&mut self, mut other: Permit) {
        assert_eq!(self.quota, other.quota, "permits of one quota are merged");
        self.n += std::mem::take(&mut other.n);
    }

    /// Makes it one of `n`, whatever the limit says: for what exists already.
    pub(crate) fn become_one_of(&mut self, n: u64) {
        if let Some(count) = self.count() {
            match n.checked_sub(self.n) {
                Some(more) => _ = count.take(more, u64::MAX),
                None => count.give_back(self.n - n),
            }
        }
        self.n = n;
    }

    fn count(&self) -> Option<&Count> {
        match &self.holder {
            Holder::Tenant(t) => t.count_of(self.quota),
            Holder::Gateway(g) => g.count_of(self.quota),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(count) = self.count() {
            count.give_back(self.n);
        }
    }
}

impl Tenant {
    /// Takes a place for a connection.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn connection(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::Connections, 1)
    }

    /// Takes a place for an open batch.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn batch(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::BatchesInFlight, 1)
    }

    /// Takes a place for a produce stream.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn producer(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::Producers, 1)
    }

    /// Takes a place for a consume stream, or a stream of the tenant's own worker.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn consumer(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::Consumers, 1)
    }

    /// Takes `n` of any quota that counts what exists at once.
    ///
    /// # Errors
    /// [`Refusal`] when there is not so much left, or when the quota is a rate or one on single
    /// things: of these nobody holds a share.
    pub fn permit(self: &Arc<Self>, quota: Quota, n: u64) -> Result<Permit, Refusal> {
        let (scope, limit) = (Scope::Tenant, self.limit(quota).get());
        let Some(count) = place(quota).and_then(|at| self.counted().counts.get(at)) else {
            debug_assert!(false, "{quota} is not counted by permits");
            return Err(Refusal { quota, scope, current: n, limit });
        };
        count.take(n, limit).map_err(|current| Refusal { quota, scope, current, limit })?;
        Ok(Permit { holder: Holder::Tenant(self.clone()), quota, n })
    }

    /// None of a quota that counts what exists at once: there always is, whatever is used. For what
    /// exists already it [becomes](Permit::become_one_of) one of that.
    pub(crate) fn none_of(self: &Arc<Self>, quota: Quota) -> Permit {
        debug_assert!(place(quota).is_some(), "{quota} is not counted by permits");
        // So that it is counted from now on.
        self.counted();
        Permit { holder: Holder::Tenant(self.clone()), quota, n: 0 }
    }

    /// Whether a single thing is within a quota: `batch_items`, `payload_bytes`,
    /// `retention_hours`.
    ///
    /// # Errors
    /// [`Refusal`] when `n` exceeds it.
    pub fn check(&self, quota: Quota, n: u64) -> Result<(), Refusal> {
        let limit = self.limit(quota);
        if limit.allows(n) {
            return Ok(());
        }
        Err(Refusal { quota, scope: Scope::Tenant, current: n, limit: limit.get() })
    }

    /// Reserves bytes in flight, if there is room for `n` now. What alone exceeds all that the
    /// tenant may have in flight takes all of it: it goes alone.
    pub fn reserve_bytes(self: &Arc<Self>, n: usize) -> Option<BytesPermit> {
        let n = self.in_flight_share(n);
        self.counted().in_flight.try_acquire_many(n).ok()?.forget();
        Some(BytesPermit { tenant: self.clone(), n, beyond: false })
    }

    /// Reserves bytes in flight as soon as there is room, in the order of asking. Cancel-safe.
    pub async fn reserve_bytes_wait(self: &Arc<Self>, n: usize) -> BytesPermit {
        let n = self.in_flight_share(n);
        let permit = self.counted().in_flight.acquire_many(n).await;
        permit.expect("a tenant's semaphore is never closed").forget();
        BytesPermit { tenant: self.clone(), n, beyond: false }
    }

    /// Reserves bytes for what is in flight already and turns out larger than was thought: as soon as
    /// there is room, or beyond all of it, one at a time. Without that, things that hold what room
    /// there is would wait for each other without end. In the order of asking, and cancel-safe.
    pub(crate) async fn grow_bytes_wait(self: &Arc<Self>, n: usize) -> BytesPermit {
        let beyond = &self.counted().beyond;
        tokio::select! {
            biased;
            permit = self.reserve_bytes_wait(n) => permit,
            turn = beyond.turn.acquire() => {
                turn.expect("a tenant's semaphore is never closed").forget();
                let n = self.in_flight_share(n);
                beyond.bytes.store(n, Relaxed);
                BytesPermit { tenant: self.clone(), n, beyond: true }
            }
        }
    }

    fn in_flight_share(&self, n: usize) -> u32 {
        let max = self.common.in_flight_max;
        u32::try_from(n).map_or(max, |n| n.min(max))
    }

    pub(super) fn count_of(&self, quota: Quota) -> Option<&Count> {
        self.counted_yet()?.counts.get(place(quota)?)
    }
}

impl Gateway {
    /// Takes a place for a connection.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn connection(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::Connections)
    }

    /// Takes a place for a stream, on any of its connections.
    ///
    /// # Errors
    /// [`Refusal`] when all are taken.
    pub fn stream(self: &Arc<Self>) -> Result<Permit, Refusal> {
        self.permit(Quota::Streams)
    }

    fn permit(self: &Arc<Self>, quota: Quota) -> Result<Permit, Refusal> {
        let (scope, limit) = (Scope::Gateway, self.limit(quota));
        if let Some(count) = self.count_of(quota) {
            count.take(1, limit).map_err(|current| Refusal { quota, scope, current, limit })?;
        }
        Ok(Permit { holder: Holder::Gateway(self.clone()), quota, n: 1 })
    }
}

/// Bytes in flight that are reserved.
#[derive(Debug)]
#[must_use = "dropping a permit gives it back"]
pub struct BytesPermit {
    tenant: Arc<Tenant>,
    n: u32,
    /// Whether it is beyond what the tenant may have.
    beyond: bool,
}

/// What a tenant has in flight beyond its room, which is one thing at most.
#[derive(Debug)]
pub(super) struct Beyond {
    turn: Semaphore,
    bytes: AtomicU32,
}

impl Beyond {
    pub(super) fn new() -> Beyond {
        Beyond { turn: Semaphore::new(1), bytes: AtomicU32::new(0) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed) as usize
    }
}

impl BytesPermit {
    /// How many bytes.
    pub fn amount(&self) -> usize {
        self.n as usize
    }

    /// Whether it is as much as `n` bytes of this tenant need.
    pub fn covers(&self, tenant: &Arc<Tenant>, n: usize) -> bool {
        Arc::ptr_eq(&self.tenant, tenant) && self.n >= tenant.in_flight_share(n)
    }

    /// A part of it, as a permit of its own: so many bytes, at most all. What is beyond all room is
    /// not parted.
    pub(crate) fn split(&mut self, n: usize) -> BytesPermit {
        let n = if self.beyond { 0 } else { u32::try_from(n).unwrap_or(u32::MAX).min(self.n) };
        self.n -= n;
        BytesPermit { tenant: self.tenant.clone(), n, beyond: false }
    }

    /// Both as one, where they are of one tenant and neither is beyond its room; else the first is
    /// given back.
    pub(crate) fn merged(
        first: Option<BytesPermit>,
        mut other: BytesPermit,
    ) -> Option<BytesPermit> {
        if let Some(mut first) = first
            && Arc::ptr_eq(&first.tenant, &other.tenant)
            && !first.beyond
            && !other.beyond
            && let Some(sum) = first.n.checked_add(other.n)
        {
            (first.n, other.n) = (sum, 0);
            return Some(first);
        }
        Some(other)
    }

    /// Gives back what exceeds `n`: more was reserved than it came to.
    pub fn shrink_to(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(self.n);
        let counted = self.tenant.counted();
        if self.beyond {
            counted.beyond.bytes.store(n, Relaxed);
        } else {
            counted.in_flight.add_permits((self.n - n) as usize);
        }
        self.n = n;
    }
}

impl Drop for BytesPermit {
    fn drop(&mut self) {
        let counted = || self.tenant.counted();
        if self.beyond {
            counted().beyond.bytes.store(0, Relaxed);
            counted().beyond.turn.add_permits(1);
        } else if self.n > 0 {
            counted().in_flight.add_permits(self.n as usize);
        }
    }
}

/// Where a quota's count stands.
fn place(quota: Quota) -> Option<usize> {
    COUNTED.iter().position(|&q| q == quota)
}

/// The quotas that count what exists at once.
pub(super) const COUNTED: [Quota; 9] = [
    Quota::Connections,
    Quota::BatchesInFlight,
    Quota::Producers,
    Quota::Consumers,
    Quota::ConsumerGroups,
    Quota::Topics,
    Quota::Partitions,
    Quota::StorageBytes,
    Quota::JobsQueued,
];
