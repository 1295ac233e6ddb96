//! Recipes that stay known over a restart, so that what comes before its workers waits for them.
//!
//! A recipe is kept in the words that its worker registered it with; whose it is stands before them.

use tollgate_protocol::{DecodeError, work::WorkerFrame};

use super::{Prepared, Registration, Workers, state::Known};
use crate::{
    batch::{Failure, Owner},
    store::{
        CommitError, Fence, Kind, Space, Store,
        keyed::{Kept, Keyed, OpenError, Place},
        record::system::WORKER_RECIPES,
    },
};

/// Why the recipes of workers could not be read at the start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// They are damaged, or the store does not give them.
    #[error("cannot read the recipes of workers: {0}")]
    Open(#[from] OpenError<BadRecord>),
    /// One is damaged, or written by a newer program.
    #[error("cannot read the recipes of workers: {0}")]
    Record(#[from] BadRecord),
}

/// Why stored bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// They do not decode.
    #[error("a record does not decode: {0}")]
    Decode(#[from] DecodeError),
    /// They are too short, or no recipe.
    #[error("a record of {0} bytes is no recipe")]
    Shape(usize),
    /// It has a layout of a newer program.
    #[error("a record has the layout {0}, which this program does not know")]
    Layout(u8),
}

const PLACE: Place = Place {
    stream: WORKER_RECIPES,
    put: Kind::WorkerRecipe,
    removed: Kind::WorkerRecipeForgotten,
    space: Space::Free,
};

/// Opens what is kept; the recipes that were known, but for those of tenants that are gone.
pub(super) async fn open(
    store: &Store,
    fence: Fence,
    exists: impl Fn(u32) -> bool,
) -> Result<(Keyed, Vec<(Owner, Registration)>), RestoreError> {
    let (mut keyed, values) = Keyed::open(store.system(), fence, PLACE, key_of).await?;
    let mut all = Vec::new();
    for (key, kept) in values {
        let (owner, registration) = read(&kept)?;
        if let Owner::Tenant(index) = owner
            && !exists(index)
        {
            if let Err(error) = keyed.remove(key.clone(), key).await {
                tracing::warn!(%error, "a recipe of a tenant that is gone stays kept");
            }
            continue;
        }
        all.push((owner, registration));
    }
    Ok((keyed, all))
}

impl Workers {
    /// Keeps a recipe that is new, or new in this form.
    ///
    /// # Errors
    /// As the store says: the worker is not served then.
    pub(crate) async fn keep(&self, owner: Owner, recipe: &Prepared) -> Result<(), Failure> {
        let mut kept = self.0.kept.lock().await;
        let Some(keyed) = kept.as_mut() else { return Ok(()) };
        let key = key(owner, recipe.name().as_str());
        let body = [&owner_bytes(owner)[..], recipe.wire()].concat();
        keyed.put(key, body).await.map_err(|e| not_kept(&e))
    }

    /// Takes back that a recipe is known. What fails is known again after a restart, for a while.
    pub(super) async fn unkeep(&self, known: &Known) {
        let mut kept = self.0.kept.lock().await;
        let Some(keyed) = kept.as_mut() else { return };
        let key = key(known.owner, known.entry.name().as_str());
        if let Err(error) = keyed.remove(key.clone(), key).await {
            tracing::warn!(%error, "a recipe that is forgotten stays kept");
        }
    }
}

fn not_kept(e: &CommitError) -> Failure {
    let code = match e {
        CommitError::Full { .. } => tollgate_protocol::Code::StorageFull,
        _ => tollgate_protocol::Code::StoreUnavailable,
    };
    Failure::new(code, format!("the recipe could not be kept: {e}"))
}

fn owner_bytes(owner: Owner) -> [u8; 4] {
    let number = match owner {
        Owner::Everyone => 0,
        Owner::Tenant(index) => index.wrapping_add(1),
    };
    number.to_be_bytes()
}

fn key(owner: Owner, name: &str) -> Vec<u8> {
    [&owner_bytes(owner)[..], name.as_bytes()].concat()
}

fn key_of(kind: Kind, kept: &Kept) -> Result<Vec<u8>, BadRecord> {
    match kind {
        Kind::WorkerRecipe => read(kept).map(|(owner, r)| key(owner, &r.name)),
        _ => Ok(kept.body.clone()),
    }
}

fn read(kept: &Kept) -> Result<(Owner, Registration), BadRecord> {
    if kept.layout != Kind::WorkerRecipe.layout() {
        return Err(BadRecord::Layout(kept.layout));
    }
    let len = kept.body.len();
    let (owner, wire) = kept.body.split_first_chunk().ok_or(BadRecord::Shape(len))?;
    let owner = match u32::from_be_bytes(*owner).checked_sub(1) {
        None => Owner::Everyone,
        Some(index) => Owner::Tenant(index),
    };
    match WorkerFrame::decode(wire)? {
        WorkerFrame::Register(spec) => Ok((owner, Registration::of(&spec))),
        _ => Err(BadRecord::Shape(len)),
    }
}
