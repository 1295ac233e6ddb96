//! Which batches are open: an id is one batch's at a time.
//!
//! Whatever door a batch came through, it stands here from its permit on until it gives that back:
//! so the audit knows what there is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::{HashMap, HashSet};
use tollgate_protocol::{Code, id::BatchId};

use super::Failure;

/// Whose something is: counted together, and an id is used once within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// A tenant, by its index.
    Tenant(u32),
    /// A gateway, by its name.
    Gateway(String),
    /// A platform worker, by its name.
    Worker(String),
}

/// The ids of open batches, each within its tenant, or its gateway for mixed batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenIds(Arc<Mutex<HashSet<(Holder, BatchId)>>>);

impl OpenIds {
    /// Enters an id; it leaves when the answer is dropped.
    pub(crate) fn enter(&self, holder: Holder, id: BatchId) -> Result<OpenId, Failure> {
        let mut ids = self.lock();
        if !ids.insert((holder.clone(), id)) {
            let message = format!("the batch {id} is open already");
            return Err(Failure::new(Code::Conflict, message).detail("field", "batch_id"));
        }
        drop(ids);
        Ok(OpenId { ids: self.clone(), key: (holder, id) })
    }

    /// How many are open of each tenant, and whether there is one that is no one tenant's.
    pub(crate) fn count(&self) -> (HashMap<u32, u64>, bool) {
        let (mut tenants, mut mixed) = (HashMap::default(), false);
        for (holder, _) in self.lock().iter() {
            match holder {
                Holder::Tenant(index) => *tenants.entry(*index).or_default() += 1,
                Holder::Gateway(_) => mixed = true,
                // It opens no batches.
                Holder::Worker(_) => {}
            }
        }
        (tenants, mixed)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(Holder, BatchId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id that is taken.
#[derive(Debug)]
pub(crate) struct OpenId {
    ids: OpenIds,
    key: (Holder, BatchId),
}

impl Drop for OpenId {
    fn drop(&mut self) {
        self.ids.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_batchs_at_a_time_within_its_tenant() {
        let (ids, id) = (OpenIds::default(), BatchId([7; 16]));
        let first = ids.enter(Holder::Tenant(1), id).expect("free");
        assert_eq!(ids.enter(Holder::Tenant(1), id).err().map(|f| f.code), Some(Code::Conflict));
        let _other = ids.enter(Holder::Tenant(2), id).expect("another tenant's");
        let _mixed = ids.enter(Holder::Gateway("edge".into()), id).expect("a gateway's own");
        assert_eq!(ids.count(), (HashMap::from_iter([(1, 1), (2, 1)]), true));
        drop(first);
        assert!(ids.enter(Holder::Tenant(1), id).is_ok());
    }
}
