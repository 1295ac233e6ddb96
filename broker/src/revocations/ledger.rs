//! Where revocations are kept: a stream of changes, and a view with a key for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    RestoreError, Revocation, RevocationId,
    stored::{self, BadRecord},
};
use crate::{
    store::{
        Change, CommitError, Fence, Kind, Offset, Page, Record, Scope, record::system::REVOCATIONS,
    },
    tenancy::NotKept,
};

/// The owner of the stream.
#[derive(Debug)]
pub(super) struct Ledger {
    scope: Scope,
    fence: Fence,
    /// The records before this are kept.
    upto: Offset,
    /// The records before this are in the view.
    viewed: Offset,
    /// What the view does not know yet: bytes, or none for what was taken back.
    changed: BTreeMap<RevocationId, Option<Vec<u8>>>,
}

impl Ledger {
    /// Reads everything.
    pub(super) async fn open(
        scope: Scope,
        fence: Fence,
    ) -> Result<(Ledger, BTreeMap<RevocationId, Arc<Revocation>>), RestoreError> {
        let mut all = BTreeMap::new();
        let mut view = scope.restore(REVOCATIONS).await?;
        let viewed = view.upto();
        loop {
            let pairs = view.next(Page::default()).await?;
            if pairs.is_empty() {
                break;
            }
            for pair in pairs {
                let (layout, body) = pair.value.split_first().ok_or(BadRecord::Layout(0))?;
                let revocation = stored::decode(*layout, body)?;
                all.insert(revocation.id, Arc::new(revocation));
            }
        }
        let (mut upto, mut changed) = (viewed, BTreeSet::new());
        loop {
            let records = scope.read(REVOCATIONS, upto, Page::default()).await?;
            let Some(last) = records.last() else { break };
            upto = last.offset.next();
            for record in records {
                changed.insert(match record.kind {
                    Kind::Revocation => {
                        let revocation = stored::decode(record.layout, &record.body)?;
                        let id = revocation.id;
                        all.insert(id, Arc::new(revocation));
                        id
                    }
                    Kind::RevocationRemoved => {
                        let id = stored::decode_removal(record.layout, &record.body)?;
                        all.remove(&id);
                        id
                    }
                    other => return Err(BadRecord::Kind(format!("{other:?}")).into()),
                });
            }
        }
        let bytes = |id: RevocationId| (id, all.get(&id).map(|r| stored::encode(r)));
        let changed = changed.into_iter().map(bytes).collect();
        let mut ledger = Ledger { scope, fence, upto, viewed, changed };
        ledger.checkpoint_when_due().await;
        Ok((ledger, all))
    }

    pub(super) async fn add(&mut self, new: &Revocation) -> Result<(), NotKept> {
        let body = stored::encode(new);
        let record = Record::new(REVOCATIONS, Kind::Revocation, body.clone());
        self.commit(record).await?;
        self.changed.insert(new.id, Some(body));
        Ok(())
    }

    pub(super) async fn remove(&mut self, id: RevocationId) -> Result<(), NotKept> {
        let body = stored::encode_removal(id);
        self.commit(Record::new(REVOCATIONS, Kind::RevocationRemoved, body)).await?;
        self.changed.insert(id, None);
        Ok(())
    }

    /// Finds room on a full disk, too: a right is taken away even then.
    async fn commit(&mut self, record: Record) -> Result<(), NotKept> {
        let kept = self.scope.commit_from_reserve(&self.fence, vec![record]).await;
        let offsets = kept.map_err(|e| match e {
            CommitError::Full { .. } => NotKept::Full,
            other => NotKept::Failed(other.to_string()),
        })?;
        if let Some(last) = offsets.last() {
            self.upto = last.next();
        }
        Ok(())
    }

    /// Brings the view up to date once it has fallen behind, and lets the records go that it
    /// covers. What fails is tried again with the next.
    pub(super) async fn checkpoint_when_due(&mut self) {
        if self.upto.0 - self.viewed.0 < CHECKPOINT_EVERY {
            return;
        }
        let key = |id: &RevocationId| id.0.into_bytes().to_vec();
        let change = |(id, body): (&RevocationId, &Option<Vec<u8>>)| match body {
            Some(body) => Change::put(key(id), [&[stored::LAYOUT], &body[..]].concat()),
            None => Change::delete(key(id)),
        };
        let changes = self.changed.iter().map(change).collect();
        let viewed = self.scope.checkpoint(&self.fence, REVOCATIONS, self.upto, changes).await;
        let trimmed = match viewed {
            Ok(()) => {
                self.viewed = self.upto;
                self.changed.clear();
                let trimmed = self.scope.trim(&self.fence, REVOCATIONS, self.upto).await;
                trimmed.map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = trimmed {
            tracing::warn!(error, "the view of the revocations stays behind");
        }
    }
}

/// Records between two checkpoints.
const CHECKPOINT_EVERY: u64 = 256;
