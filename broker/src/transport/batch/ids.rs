//! Which batches are open: an id is one batch's at a time.

use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashSet;
use tollgate_protocol::{Code, id::BatchId};

use super::super::window::Holder;
use crate::batch::Failure;

/// The ids of open batches, each within its tenant, or its gateway for mixed batches.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenIds(Arc<Mutex<HashSet<(Holder, BatchId)>>>);

impl OpenIds {
    /// Enters an id; it leaves when the answer is dropped.
    pub(super) fn enter(&self, holder: Holder, id: BatchId) -> Result<OpenId, Failure> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !ids.insert((holder.clone(), id)) {
            let message = format!("the batch {id} is open already");
            return Err(Failure::new(Code::Conflict, message).detail("field", "batch_id"));
        }
        drop(ids);
        Ok(OpenId { ids: self.clone(), key: (holder, id) })
    }
}

/// An id that is taken.
#[derive(Debug)]
pub(super) struct OpenId {
    ids: OpenIds,
    key: (Holder, BatchId),
}

impl Drop for OpenId {
    fn drop(&mut self) {
        let mut ids = self.ids.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.key);
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
        drop(first);
        assert!(ids.enter(Holder::Tenant(1), id).is_ok());
    }
}
