//! Small answers that the parts of the topics share.

use tollgate_protocol::Code;

use crate::{batch::Failure, store::CommitError};

pub(super) fn no_such_topic() -> Failure {
    Failure::new(Code::NotFound, "there is no such topic")
}

pub(super) fn no_such_group() -> Failure {
    Failure::new(Code::NotFound, "there is no such consumer group")
}

pub(super) fn no_such_message() -> Failure {
    Failure::new(Code::NotFound, "there is no such message")
}

pub(super) fn no_such_binding() -> Failure {
    Failure::new(Code::NotFound, "there is no such binding")
}

pub(super) fn no_such_tenant() -> Failure {
    Failure::new(Code::NotFound, "the tenant is not there any more")
}

/// Any number: for jitter.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// What is said when something could not be kept.
pub(super) fn unavailable(error: &CommitError) -> Failure {
    match error {
        CommitError::Full { .. } => {
            Failure::never_started(Code::StorageFull, "there is no room on the broker's disk")
        }
        CommitError::TooLarge { .. } => {
            Failure::never_started(Code::PayloadTooLarge, "this is too large to be kept")
        }
        CommitError::Fenced { .. } => no_such_tenant(),
        CommitError::Unknown(_) => {
            let message = "the store failed: whether this was kept is not known";
            Failure { side_effect_free: false, ..Failure::new(Code::StoreUnavailable, message) }
        }
        _ => Failure::new(Code::StoreUnavailable, "the store can not be used"),
    }
}
