//! Why a change of the tenants did not come about; each with its code.

use tollgate_protocol::{
    Code,
    id::{NameError, TenantId},
};

use super::Open;
use crate::tenancy::settings::BadSetting;

/// A change could not be kept, so it did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// There is no room for it.
    #[error("the storage is full")]
    Full,
    /// The store failed. Whether the change was kept shows after the next start.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The task that was to keep it has ended, with its runtime or by a fault: whether the change was
    /// kept shows after the next start.
    #[error("the broker stopped keeping changes; whether this one was kept is not known")]
    Lost,
}

impl NotKept {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            NotKept::Full => Code::StorageFull,
            NotKept::Failed(_) | NotKept::Lost => Code::StoreUnavailable,
        }
    }
}

/// Why a tenant was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] NameError),
    /// There is one.
    #[error("tenant {0} exists")]
    Exists(TenantId),
    /// A setting is out of bounds.
    #[error(transparent)]
    Invalid(#[from] BadSetting),
    /// Its idempotency key was used for another request.
    #[error("the key was used for another request")]
    KeyUsed,
    /// What was created with its idempotency key is there no more.
    #[error("the tenant that was created with this key is gone")]
    KeyGone,
    /// There are as many as there may be.
    #[error("there are {max} tenants, as many as tenancy.tenants_max allows")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

impl CreateError {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            CreateError::Id(_) | CreateError::Invalid(_) => Code::ValidationError,
            CreateError::Exists(_) | CreateError::KeyUsed | CreateError::KeyGone => Code::Conflict,
            CreateError::TooMany { .. } => Code::QuotaExceeded,
            CreateError::NotKept(e) => e.code(),
        }
    }
}

/// Why a tenant was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// No tenant has this id, or it was deleted.
    #[error("there is no such tenant")]
    Unknown,
    /// It has changed since.
    #[error("the tenant's revision is {revision}, not {expected}")]
    Conflict {
        /// The revision that was expected.
        expected: u64,
        /// The one that it has.
        revision: u64,
    },
    /// A setting is out of bounds.
    #[error(transparent)]
    Invalid(#[from] BadSetting),
    /// It is on its way out, by force.
    #[error("the tenant is being deleted")]
    Leaving,
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

impl UpdateError {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            UpdateError::Unknown => Code::NotFound,
            UpdateError::Conflict { .. } | UpdateError::Leaving => Code::Conflict,
            UpdateError::Invalid(_) => Code::ValidationError,
            UpdateError::NotKept(e) => e.code(),
        }
    }
}

/// Why a tenant was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// No tenant has this id, or it was deleted.
    #[error("there is no such tenant")]
    Unknown,
    /// It has changed since.
    #[error("the tenant's revision is {revision}, not {expected}")]
    Conflict {
        /// The revision that was expected.
        expected: u64,
        /// The one that it has.
        revision: u64,
    },
    /// It may still do things.
    #[error("the tenant is active; suspend it first")]
    Active,
    /// Something of it is open.
    #[error("the tenant is not idle yet: it has {0}")]
    Busy(Open),
    /// It is on its way out already, by force.
    #[error("the tenant is being deleted")]
    Leaving,
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

impl DeleteError {
    /// How it is told.
    pub fn code(&self) -> Code {
        match self {
            DeleteError::Unknown => Code::NotFound,
            DeleteError::NotKept(e) => e.code(),
            _ => Code::Conflict,
        }
    }
}
