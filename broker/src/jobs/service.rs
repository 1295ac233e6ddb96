//! Small answers that the parts of the jobs share.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_protocol::{Code, batch::Number, id::RecipeName};

use crate::{
    batch::{Engine, Entry, Failure},
    store::{Offset, Page, Scope},
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
