//! Where the tenants are kept: a stream of changes, and a view of what they add up to.
//!
//! A change is one record, with everything that is set; a creation that came with an idempotency key
//! is two, the other one in a stream of its own that needs no view: it holds a day. The view is brought up to date now and
//! then, by what changed; its only use is a quicker start. Keys of the view:
//!
//! ```text
//!  t<id>              a tenant: its layout, then its record
//!  d<number, 4 B>     a deleted tenant whose data is still to be dropped
//!  n                  the number of the next tenant, 4 B
//! ```

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use tollgate_protocol::id::TenantId;

use super::{
    Map, NotKept, Used, once,
    staging::{Change, Verb},
};
use crate::{
    store::{
        self, CommitError, Fence, Kind, Offset, Page, Pair, ReadError, Scope, ScopeId, Space,
        Store, Stored,
        record::system::{TENANT_KEYS, TENANTS},
    },
    tenancy::stored::{self, BadRecord, StoredDeletion, StoredTenant},
};

/// Why the tenants could not be read at the start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store does not give them.
    #[error("cannot read the tenants: {0}")]
    Read(#[from] ReadError),
    /// One is damaged, or written by a newer program.
    #[error("cannot read the tenants: {at}: {source}")]
    Record {
        /// Where.
        at: String,
        /// What is wrong.
        source: BadRecord,
    },
}

/// The owner of the tenants' stream.
#[derive(Debug)]
pub(super) struct Ledger {
    store: Store,
    scope: Scope,
    fence: Fence,
    notes: Mutex<Notes>,
}

/// What the view does not know yet. A leaf.
#[derive(Debug, Default)]
struct Notes {
    /// What changed since, as it is stored now: the layout and the record; none is gone.
    changed: Map<TenantId, Option<(u8, Bytes)>>,
    /// The records before this are kept and in force.
    upto: Offset,
    /// The records before this are in the view.
    viewed: Offset,
    /// Deleted tenants whose data is still to be dropped.
    dropping: BTreeSet<u32>,
    /// Those for which that was done since the view last changed.
    dropped: BTreeSet<u32>,
    next_number: u32,
    checkpointing: bool,
    /// Where keys are kept, and since when; the oldest first.
    keys: VecDeque<(Offset, SystemTime)>,
}

impl Ledger {
    /// Reads everything, and tells of each tenant: those of the view in the order of their ids,
    /// then those that changed after it.
    pub(super) async fn open(
        store: Store,
        fence: Fence,
        mut each: impl FnMut(StoredTenant),
    ) -> Result<(Ledger, Vec<Used>), RestoreError> {
        let scope = store.system();
        let mut notes = Notes { next_number: FIRST_NUMBER, ..Notes::default() };
        let mut view = scope.restore(TENANTS).await?;
        notes.viewed = view.upto();
        notes.upto = notes.viewed;
        // The end first: what changed after the view is not built twice.
        loop {
            let records = scope.read(TENANTS, notes.upto, PAGE).await?;
            let Some(last) = records.last() else { break };
            notes.upto = last.offset.next();
            for record in &records {
                notes.replay(record).map_err(|source| {
                    let at = format!("the record at {}", record.offset);
                    RestoreError::Record { at, source }
                })?;
            }
        }
        loop {
            let pairs = view.next(PAGE).await?;
            if pairs.is_empty() {
                break;
            }
            for pair in &pairs {
                let tenant = notes.recall(pair).map_err(|source| {
                    let at = format!("the view's key {:?}", String::from_utf8_lossy(&pair.key));
                    RestoreError::Record { at, source }
                })?;
                tenant.into_iter().for_each(&mut each);
            }
        }
        for (id, (layout, body)) in
            notes.changed.iter().filter_map(|(id, s)| Some((id, s.as_ref()?)))
        {
            each(
                stored::decode(*layout, body).map_err(|source| RestoreError::Record {
                    at: format!("tenant {id}"),
                    source,
                })?,
            );
        }
        let keys = notes.read_keys(&scope).await?;
        Ok((Ledger { store, scope, fence, notes: Mutex::new(notes) }, keys))
    }

    /// The number of the next tenant.
    pub(super) fn next_number(&self) -> u32 {
        self.notes().next_number
    }

    /// Deleted tenants whose data is still to be dropped.
    pub(super) fn dropping(&self) -> Vec<u32> {
        self.notes().dropping.iter().copied().collect()
    }

    /// Keeps changes, all or none, in the room that they may take.
    pub(super) async fn commit(&self, changes: &[&Change]) -> Result<(), NotKept> {
        let mut records: Vec<_> = changes.iter().map(|change| record(change)).collect();
        let bodies: Vec<_> = records.iter().map(|r| (r.kind.layout(), r.body.clone())).collect();
        let used: Vec<_> = changes.iter().filter_map(|change| change.used.as_ref()).collect();
        records.extend(used.iter().map(|used| {
            store::Record::new(TENANT_KEYS, Kind::TenantKey, stored::encode_key(used))
        }));
        // They are of one kind; were they not, none would take room that it may not.
        let space = changes.iter().map(|change| change.verb.space()).min().unwrap_or(Space::Free);
        let kept = self.scope.commit_in(space, &self.fence, records).await;
        let offsets = kept.map_err(|e| match e {
            CommitError::Full { .. } => NotKept::Full,
            other => NotKept::Failed(other.to_string()),
        })?;
        let (offsets, of_keys) = offsets.split_at(changes.len().min(offsets.len()));
        let spent = {
            let mut notes = self.notes();
            if let Some(last) = offsets.last() {
                notes.upto = last.next();
            }
            for (change, stored) in changes.iter().zip(bodies) {
                notes.note(change, stored);
            }
            notes.keys.extend(of_keys.iter().copied().zip(used.iter().map(|used| used.at)));
            notes.spent_keys(SystemTime::now())
        };
        if let Some(before) = spent
            && let Err(error) = self.scope.trim(&self.fence, TENANT_KEYS, before).await
        {
            tracing::warn!(%error, "old idempotency keys stay for now");
        }
        Ok(())
    }

    /// Whether the view has fallen so far behind that a checkpoint pays.
    pub(super) fn is_behind(&self) -> bool {
        let notes = self.notes();
        !notes.checkpointing && notes.upto.0 - notes.viewed.0 >= CHECKPOINT_EVERY
    }

    /// Brings the view up to date, and lets the records go that it covers. What fails is tried
    /// again with the next.
    pub(super) async fn checkpoint(&self) {
        let (changed, upto, dropping, dropped, next_number) = {
            let mut notes = self.notes();
            if std::mem::replace(&mut notes.checkpointing, true) {
                return;
            }
            let (changed, dropped) =
                (std::mem::take(&mut notes.changed), std::mem::take(&mut notes.dropped));
            (changed, notes.upto, notes.dropping.clone(), dropped, notes.next_number)
        };
        let mut changes = Vec::with_capacity(changed.len() + dropping.len() + dropped.len() + 1);
        for (id, state) in &changed {
            let key = key(b't', id.as_str().as_bytes());
            changes.push(match state {
                Some((layout, body)) => {
                    let value = [std::slice::from_ref(layout), &**body].concat();
                    store::Change::put(key, value)
                }
                None => store::Change::delete(key),
            });
        }
        let of_number = |number: &u32| key(b'd', &number.to_be_bytes());
        changes.extend(dropping.iter().map(|n| store::Change::put(of_number(n), Vec::new())));
        changes.extend(dropped.iter().map(|n| store::Change::delete(of_number(n))));
        changes.push(store::Change::put(key(b'n', b""), next_number.to_be_bytes().to_vec()));
        let outcome = self.scope.checkpoint(&self.fence, TENANTS, upto, changes).await;
        {
            let mut notes = self.notes();
            notes.checkpointing = false;
            match &outcome {
                Ok(()) => notes.viewed = upto,
                Err(_) => {
                    for (id, state) in changed {
                        // What changed meanwhile is newer.
                        notes.changed.entry(id).or_insert(state);
                    }
                    notes.dropped.extend(dropped);
                }
            }
        }
        let trimmed = match outcome {
            Ok(()) => self.scope.trim(&self.fence, TENANTS, upto).await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = trimmed {
            tracing::warn!(error, "the view of the tenants stays behind");
        }
    }

    /// Drops the data of a tenant that is deleted. What fails is tried again at the next start.
    pub(super) async fn drop_data(&self, number: u32) {
        for scope in [ScopeId::jobs(number), ScopeId::topics(number)] {
            if let Err(error) = self.store.scope(scope).drop().await {
                tracing::error!(%error, number, "a deleted tenant's data could not be dropped");
                return;
            }
        }
        let mut notes = self.notes();
        if notes.dropping.remove(&number) {
            notes.dropped.insert(number);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// Reads the keys that still count.
    async fn read_keys(&mut self, scope: &Scope) -> Result<Vec<Used>, RestoreError> {
        let (mut keys, now) = (Vec::new(), SystemTime::now());
        let mut from = Offset::ZERO;
        loop {
            let records = scope.read(TENANT_KEYS, from, PAGE).await?;
            let Some(last) = records.last() else { return Ok(keys) };
            from = last.offset.next();
            for record in &records {
                let used = stored::decode_key(record.layout, &record.body).map_err(|source| {
                    let at = format!("the key at {}", record.offset);
                    RestoreError::Record { at, source }
                })?;
                self.keys.push_back((record.offset, used.at));
                keys.extend(once::is_good(used.at, now).then_some(used));
            }
        }
    }

    /// The keys before this count no more; none as long as they are few.
    fn spent_keys(&mut self, now: SystemTime) -> Option<Offset> {
        let many = self.keys.len().saturating_sub(once::KEYS_MAX);
        let old = self.keys.iter().take_while(|(_, at)| !once::is_good(*at, now)).count();
        let spent = many.max(old);
        if spent < KEYS_TRIM {
            return None;
        }
        self.keys.drain(..spent).next_back().map(|(offset, _)| offset.next())
    }

    /// Notes a change that is kept.
    fn note(&mut self, change: &Change, stored: (u8, Bytes)) {
        let (id, number) = (change.tenant.id().clone(), change.tenant.index());
        self.number(number);
        let gone = change.verb == Verb::Delete;
        if gone {
            self.dropping.insert(number);
        }
        self.changed.insert(id, (!gone).then_some(stored));
    }

    /// Notes a record of before the start.
    fn replay(&mut self, record: &Stored) -> Result<(), BadRecord> {
        match record.kind {
            Kind::Tenant => {
                let tenant = stored::decode(record.layout, &record.body)?;
                self.number(tenant.number);
                self.changed.insert(tenant.id, Some((record.layout, record.body.clone())));
            }
            Kind::TenantDeleted => {
                let gone = stored::decode_deletion(record.layout, &record.body)?;
                self.number(gone.number);
                self.dropping.insert(gone.number);
                self.changed.insert(TenantId::parse(gone.id)?, None);
            }
            other => {
                let value = format!("{other:?}");
                return Err(BadRecord::Unknown { field: "kind", value });
            }
        }
        Ok(())
    }

    /// Notes what the view has; a tenant, unless it changed after that.
    fn recall(&mut self, Pair { key, value }: &Pair) -> Result<Option<StoredTenant>, BadRecord> {
        let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes).ok();
        let unknown = |value: &[u8]| {
            let value = String::from_utf8_lossy(value).into_owned();
            BadRecord::Unknown { field: "key", value }
        };
        match key.split_first() {
            Some((b't', _)) => {
                let (layout, body) = value.split_first().ok_or(BadRecord::Layout(0))?;
                let tenant = stored::decode(*layout, body)?;
                self.number(tenant.number);
                return Ok(Some(tenant).filter(|t| !self.changed.contains_key(&t.id)));
            }
            Some((b'd', number)) => {
                self.dropping.insert(four(number).ok_or_else(|| unknown(key))?);
            }
            Some((b'n', [])) => {
                let next = four(value).ok_or_else(|| unknown(value))?;
                self.next_number = self.next_number.max(next);
            }
            _ => return Err(unknown(key)),
        }
        Ok(None)
    }

    fn number(&mut self, used: u32) {
        self.next_number = self.next_number.max(used.saturating_add(1));
    }
}

/// A change as the store keeps it.
fn record(change: &Change) -> store::Record {
    let (id, number) = (change.tenant.id(), change.tenant.index());
    match change.verb {
        Verb::Delete => {
            let gone = StoredDeletion { id: id.as_str(), number };
            store::Record::new(TENANTS, Kind::TenantDeleted, gone.encode())
        }
        _ => store::Record::new(TENANTS, Kind::Tenant, stored::encode(id, number, &change.record)),
    }
}

/// The size of a change in the store, roughly.
pub(super) fn weight(change: &Change) -> usize {
    let s = &change.record.settings;
    let texts = s.gateways.iter().map(String::len).sum::<usize>()
        + s.metadata.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    512 + s.name.len() + texts
}

fn key(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

/// Records between two checkpoints: what a start replays, and what changes between them cost.
const CHECKPOINT_EVERY: u64 = 4_096;
/// Keys that count no more are let go so many at a time.
const KEYS_TRIM: usize = 256;
/// What is read at a time.
const PAGE: Page = Page { count_max: 4_096, bytes_max: 4 << 20 };
/// Number 0 is the broker's own scope.
const FIRST_NUMBER: u32 = 1;
