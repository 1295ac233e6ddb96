//! Creating a tenant once for a key, however often that is asked for, also across restarts.
//!
//! A key is kept in the same commit as its tenant, for a day. It leads to that very tenant, never to
//! another of the same id.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tollgate_protocol::id::TenantId;

use super::{CreateError, Map, NewTenant, Registry};
use crate::tenancy::{settings::State, tenant::Tenant};

/// A caller's key for a creation, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Its key: [`Once::KEY_CHARS_MAX`] at most.
    pub key: String,
    /// A digest of what it asks for: the same key with another one is another request.
    pub digest: [u8; 32],
}

impl Once {
    /// The longest key.
    pub const KEY_CHARS_MAX: usize = 256;
}

/// A key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::tenancy) struct Used {
    pub once: Once,
    pub tenant: TenantId,
    pub number: u32,
    pub at: SystemTime,
}

/// The keys of the last day. A part of what is staged.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_key: Map<String, Used>,
    /// The oldest first; some may be gone.
    order: VecDeque<(SystemTime, String)>,
}

impl Keys {
    pub(super) fn get(&self, key: &str, now: SystemTime) -> Option<&Used> {
        self.by_key.get(key).filter(|used| is_good(used.at, now))
    }

    pub(super) fn insert(&mut self, used: Used) {
        while let Some((at, oldest)) = self.order.front() {
            if is_good(*at, used.at) && self.order.len() < KEYS_MAX {
                break;
            }
            if self.by_key.get(oldest).is_some_and(|known| known.at == *at) {
                self.by_key.remove(oldest);
            }
            self.order.pop_front();
        }
        self.order.push_back((used.at, used.once.key.clone()));
        self.by_key.insert(used.once.key.clone(), used);
    }

    /// Its creation could not be kept: the key is free again.
    pub(super) fn free(&mut self, key: &str) {
        self.by_key.remove(key);
    }
}

/// Whether a key that was used then still counts. A clock that was set back makes it count longer.
pub(super) fn is_good(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age < KEPT) || at > now
}

impl Registry {
    /// Creates a tenant, or gives the one that was created with this key within a day.
    ///
    /// # Errors
    /// As [`create`](Self::create); and when the key was used for something else, or its tenant is
    /// gone.
    pub async fn create_once(
        &self,
        new: NewTenant,
        once: Once,
    ) -> Result<Arc<Tenant>, CreateError> {
        let known = {
            let mut staging = self.staging();
            match staging.keys.get(&once.key, SystemTime::now()).cloned() {
                None => None,
                Some(used) if used.once.digest != once.digest => return Err(CreateError::KeyUsed),
                // It may be on its way still.
                Some(used) => Some((self.follow(&mut staging, &used.tenant), used)),
            }
        };
        let Some((landed, used)) = known else { return self.make(new, Some(once)).await };
        landed.await?;
        let tenant = self.get(used.tenant.as_str());
        let living = |t: &Arc<Tenant>| t.index() == used.number && t.state() != State::Deleted;
        tenant.filter(living).ok_or(CreateError::KeyGone)
    }
}

/// How long a key is kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Keys that are kept at most; beyond that, the oldest are forgotten.
pub(super) const KEYS_MAX: usize = 65_536;
