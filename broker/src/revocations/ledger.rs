//! Where revocations are kept: by their numbers, as `store::keyed` keeps things.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    RestoreError, Revocation, RevocationId,
    stored::{self, BadRecord},
};
use crate::{
    store::{
        CommitError, Fence, Kind, Scope, Space,
        keyed::{Kept, Keyed, Place},
        record::system::REVOCATIONS,
    },
    tenancy::NotKept,
};

/// The owner of the stream.
#[derive(Debug)]
pub(super) struct Ledger(Keyed);

const PLACE: Place = Place {
    stream: REVOCATIONS,
    put: Kind::Revocation,
    removed: Kind::RevocationRemoved,
    // A right is taken away on a full disk, too.
    space: Space::LastReserve,
};

impl Ledger {
    /// Reads everything.
    pub(super) async fn open(
        scope: Scope,
        fence: Fence,
    ) -> Result<(Ledger, BTreeMap<RevocationId, Arc<Revocation>>), RestoreError> {
        let (keyed, values) = Keyed::open(scope, fence, PLACE, key_of).await?;
        let read = |kept: &Kept| {
            let revocation = stored::decode(kept.layout, &kept.body)?;
            Ok((revocation.id, Arc::new(revocation)))
        };
        let all = values.values().map(read).collect::<Result<_, BadRecord>>()?;
        Ok((Ledger(keyed), all))
    }

    pub(super) async fn add(&mut self, new: &Revocation) -> Result<(), NotKept> {
        self.0.put(key(new.id), stored::encode(new)).await.map_err(not_kept)
    }

    pub(super) async fn remove(&mut self, id: RevocationId) -> Result<(), NotKept> {
        self.0.remove(key(id), stored::encode_removal(id)).await.map_err(not_kept)
    }
}

fn key(id: RevocationId) -> Vec<u8> {
    id.0.into_bytes().to_vec()
}

fn key_of(kind: Kind, kept: &Kept) -> Result<Vec<u8>, BadRecord> {
    Ok(key(match kind {
        Kind::RevocationRemoved => stored::decode_removal(kept.layout, &kept.body)?,
        _ => stored::decode(kept.layout, &kept.body)?.id,
    }))
}

fn not_kept(e: CommitError) -> NotKept {
    match e {
        CommitError::Full { .. } => NotKept::Full,
        other => NotKept::Failed(other.to_string()),
    }
}
