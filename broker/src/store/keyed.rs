//! A small set of things that are kept by their keys: a stream of changes, and a view of the newest.
//!
//! For owners of some thousands of values that all fit in memory. Knows the keys, not the values.

use std::collections::BTreeMap;

use super::{
    Change, CommitError, Fence, Kind, Offset, Page, ReadError, Record, Scope, Space, Stream,
};

/// Where something is kept, and the kinds of its records.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The stream.
    pub stream: Stream,
    /// A value was put, in the place of one with the same key.
    pub put: Kind,
    /// A value was taken away.
    pub removed: Kind,
    /// The room that putting one may take; taking one away never takes the last.
    pub space: Space,
}

/// A value as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The layout it was written in.
    pub layout: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Why what is kept could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The store does not give it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its owner does not know what it is.
    #[error("{0}")]
    Value(E),
    /// A record of another kind is among them, or one is damaged.
    #[error("a record of the kind {0} is among them")]
    Kind(String),
}

/// The values, by their keys.
pub type Values = BTreeMap<Vec<u8>, Kept>;

/// The owner of the stream.
#[derive(Debug)]
pub struct Keyed {
    place: Place,
    scope: Scope,
    fence: Fence,
    /// The records before this are kept.
    upto: Offset,
    /// The records before this are in the view.
    viewed: Offset,
    /// What the view does not know yet: a value, or none for what was taken away.
    changed: BTreeMap<Vec<u8>, Option<Kept>>,
}

impl Keyed {
    /// Reads everything. `key` says what a record is about: of a value, or of what was noted when
    /// one was taken away.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open<E>(
        scope: Scope,
        fence: Fence,
        place: Place,
        key: impl Fn(Kind, &Kept) -> Result<Vec<u8>, E>,
    ) -> Result<(Keyed, Values), OpenError<E>> {
        let mut values = Values::new();
        let mut view = scope.restore(place.stream).await?;
        let viewed = view.upto();
        loop {
            let pairs = view.next(Page::default()).await?;
            if pairs.is_empty() {
                break;
            }
            for pair in pairs {
                let (layout, body) = pair.value.split_first().unwrap_or((&0, &[]));
                let kept = Kept { layout: *layout, body: body.to_vec() };
                values.insert(pair.key.to_vec(), kept);
            }
        }
        let (mut upto, mut changed) = (viewed, BTreeMap::new());
        loop {
            let records = scope.read(place.stream, upto, Page::default()).await?;
            let Some(last) = records.last() else { break };
            upto = last.offset.next();
            for record in records {
                let kept = Kept { layout: record.layout, body: record.body.to_vec() };
                let key = key(record.kind, &kept).map_err(OpenError::Value)?;
                let now = if record.kind == place.put {
                    values.insert(key.clone(), kept.clone());
                    Some(kept)
                } else if record.kind == place.removed {
                    values.remove(&key);
                    None
                } else {
                    return Err(OpenError::Kind(format!("{:?}", record.kind)));
                };
                changed.insert(key, now);
            }
        }
        let mut keyed = Keyed { place, scope, fence, upto, viewed, changed };
        keyed.checkpoint_when_due().await;
        Ok((keyed, values))
    }

    /// Keeps a value under a key; `body` is what a record of it holds.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn put(&mut self, key: Vec<u8>, body: Vec<u8>) -> Result<(), CommitError> {
        let record = Record::new(self.place.stream, self.place.put, body.clone());
        self.commit(self.place.space, record).await?;
        let layout = self.place.put.layout();
        self.changed.insert(key, Some(Kept { layout, body }));
        self.checkpoint_when_due().await;
        Ok(())
    }

    /// Takes a value away; `body` is what is noted of it, its key in most cases.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn remove(&mut self, key: Vec<u8>, body: Vec<u8>) -> Result<(), CommitError> {
        let space = self.place.space.min(Space::Reserve);
        self.commit(space, Record::new(self.place.stream, self.place.removed, body)).await?;
        self.changed.insert(key, None);
        self.checkpoint_when_due().await;
        Ok(())
    }

    async fn commit(&mut self, space: Space, record: Record) -> Result<(), CommitError> {
        let offsets = self.scope.commit_in(space, &self.fence, vec![record]).await?;
        if let Some(last) = offsets.last() {
            self.upto = last.next();
        }
        Ok(())
    }

    /// Brings the view up to date once it has fallen behind, and lets the records go that it
    /// covers. What fails is tried again with the next.
    async fn checkpoint_when_due(&mut self) {
        if self.upto.0 - self.viewed.0 < CHECKPOINT_EVERY {
            return;
        }
        let change = |(key, kept): (&Vec<u8>, &Option<Kept>)| match kept {
            Some(kept) => Change::put(key.clone(), [&[kept.layout], &kept.body[..]].concat()),
            None => Change::delete(key.clone()),
        };
        let changes = self.changed.iter().map(change).collect();
        let stream = self.place.stream;
        let viewed = self.scope.checkpoint(&self.fence, stream, self.upto, changes).await;
        let trimmed = match viewed {
            Ok(()) => {
                self.viewed = self.upto;
                self.changed.clear();
                let trimmed = self.scope.trim(&self.fence, stream, self.upto).await;
                trimmed.map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = trimmed {
            tracing::warn!(error, ?stream, "a view stays behind its stream");
        }
    }
}

/// Records between two checkpoints.
const CHECKPOINT_EVERY: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, record::system};

    const PLACE: Place = Place {
        stream: system::WORKER_RECIPES,
        put: Kind::WorkerRecipe,
        removed: Kind::WorkerRecipeForgotten,
        space: Space::Free,
    };

    async fn open(store: &Store) -> (Keyed, Values) {
        let scope = store.system();
        let fence = scope.claim().await.expect("a fence");
        let key = |_: Kind, kept: &Kept| Ok::<_, String>(vec![kept.body[0]]);
        Keyed::open(scope, fence, PLACE, key).await.expect("readable")
    }

    #[tokio::test]
    async fn the_newest_of_each_key_is_there_again_however_often_it_changed() {
        for changes in [0_u64, 1, 255, 256, 257, 1_000] {
            let store = Store::memory();
            let (mut keyed, none) = open(&store).await;
            assert!(none.is_empty());
            let mut model = BTreeMap::new();
            for n in 0..changes {
                let key = (n * 7 % 13) as u8;
                if n % 5 == 4 {
                    keyed.remove(vec![key], vec![key]).await.expect("kept");
                    model.remove(&vec![key]);
                } else {
                    keyed.put(vec![key], vec![key, n as u8]).await.expect("kept");
                    model.insert(vec![key], vec![key, n as u8]);
                }
            }
            drop(keyed);
            let (_, values) = open(&store).await;
            let bodies: BTreeMap<_, _> = values.into_iter().map(|(k, v)| (k, v.body)).collect();
            assert_eq!(bodies, model, "after {changes} changes");
        }
    }
}
