//! Small answers that the parts of the jobs share.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_protocol::{Code, batch::Number, id::RecipeName};

use crate::{
    batch::{Engine, Entry, Failure},
    store::{CommitError, Offset, Page, Scope},
    tenancy::Tenant,
};

use super::record::{self, JOBS};

/// What a tenant means by a recipe's name now.
pub(super) fn find(engine: &Engine, tenant: &Tenant, recipe: &RecipeName) -> Option<Arc<Entry>> {
    engine.directory.find(tenant.index(), recipe.as_str())
}

/// A number of the tenant's; none for 0.
pub(super) fn number(epoch: u64, sequence: u64) -> Number {
    if sequence == 0 { Number::default() } else { Number { epoch, sequence } }
}

pub(super) fn no_such_job() -> Failure {
    Failure::new(Code::NotFound, "there is no such job")
}

pub(super) fn no_such_batch() -> Failure {
    Failure::new(Code::NotFound, "there is no such batch")
}

pub(super) fn no_such_tenant() -> Failure {
    Failure::new(Code::NotFound, "the tenant is not there any more")
}

/// What is said when there is no room.
pub(super) fn full() -> Failure {
    Failure::never_started(Code::StorageFull, "there is no room on the broker's disk")
}

/// What is said when something could not be kept.
pub(super) fn unavailable(error: &CommitError) -> Failure {
    match error {
        CommitError::Full { .. } => full(),
        CommitError::TooLarge { .. } => {
            Failure::never_started(Code::PayloadTooLarge, "the item is too large to be kept")
        }
        CommitError::Fenced { .. } => no_such_tenant(),
        CommitError::Unknown(_) => {
            let message = "the store failed: whether this was kept is not known";
            Failure { side_effect_free: false, ..Failure::new(Code::StoreUnavailable, message) }
        }
        _ => Failure::new(Code::StoreUnavailable, "the store can not be used"),
    }
}

/// What a record keeps of a job.
pub(super) async fn read_kept(scope: &Scope, offset: u64) -> Result<Bytes, String> {
    let page = Page { count_max: 1, bytes_max: 1 };
    let mut records =
        scope.read(JOBS, Offset(offset), page).await.map_err(|error| error.to_string())?;
    match records.pop() {
        Some(stored) if stored.offset.0 == offset => {
            record::original(stored).map_err(|error| error.to_string())
        }
        _ => Err(format!("the record {offset} is not there")),
    }
}

/// Any number: for jitter.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}
