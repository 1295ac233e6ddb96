//! The durable store: scopes of streams of records, each stream with a view beside it.
//!
//! One narrow port over every back end. A service replays its streams into state of its own and
//! commits what changes; the store orders, fences and makes durable, and never knows what a record
//! means. Nothing is atomic across scopes.
//!
//! ```text
//!  Store ── Scope (one a tenant number, and SYSTEM)
//!             ├─ claim() -> Fence            who may change it
//!             ├─ Stream 1: records 0, 1, 2 … commit appends, trim cuts at the old end
//!             │            view: key -> value, what the records before `upto` add up to
//!             └─ Stream 2: …
//! ```
//!
//! How a service uses it, at the start: `claim`, then `restore` gives the view and `upto`, then
//! `read` from `upto` to the end gives what the view does not know yet. Then for each change
//! `commit`; now and then `checkpoint` brings the view up to date and `trim` lets the records go
//! that it covers. A view is never rewritten whole: a checkpoint costs what changed.

use std::{path::Path, sync::Arc};

mod config;
#[cfg(test)]
mod conformance;
mod embedded;
mod error;
pub mod keyed;
mod memory;
#[cfg(test)]
mod model;
mod port;
pub mod record;
mod stats;

pub use config::Config;
pub use error::{
    CheckpointError, ClaimError, CommitError, Corrupt, DropError, OpenError, Poisoned, ReadError,
    TrimError,
};
pub use memory::Faults;
pub use port::{
    Change, Ends, Fence, KEY_BYTES_MAX, Offset, Page, Pair, ScopeId, Space, Stored, Stream,
    VALUE_BYTES_MAX,
};
pub use record::{Kind, Record};
pub(crate) use stats::Look;

#[cfg(test)]
pub(crate) use embedded::tests::Simulated;

/// A store. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    Memory(Arc<memory::Memory>),
    Embedded(Arc<embedded::Embedded>),
}

impl Store {
    /// The store in this directory, which is made when it is not there; without a directory, one
    /// in memory. Reads what a crash may have left: blocks for as long as that takes.
    ///
    /// # Errors
    /// [`OpenError`]. Nothing on the disk was cut or deleted.
    pub fn open(dir: Option<&Path>, config: &Config) -> Result<Store, OpenError> {
        let Some(dir) = dir else { return Ok(Store::memory()) };
        let embedded = Arc::new(embedded::Embedded::open(dir, config)?);
        Ok(Store { backend: Backend::Embedded(embedded) })
    }

    /// A store that lives in memory and ends with the process: for tests, and for brokers without
    /// a data directory. What it calls durable outlives nothing.
    pub fn memory() -> Store {
        Store::memory_with_faults().0
    }

    /// As [`memory`](Self::memory), with a handle that makes it fail.
    pub fn memory_with_faults() -> (Store, Faults) {
        let memory = Arc::new(memory::Memory::default());
        let faults = Faults::of(memory.clone());
        (Store { backend: Backend::Memory(memory) }, faults)
    }

    /// The scope with this number. It need not exist: it does from its first commit on.
    pub fn scope(&self, id: ScopeId) -> Scope {
        Scope { id, backend: self.backend.clone() }
    }

    /// The broker's own scope.
    pub fn system(&self) -> Scope {
        self.scope(ScopeId::SYSTEM)
    }

    /// The scopes that hold anything, in the order of their numbers, after `after`; at most
    /// `count_max`.
    pub fn scopes(&self, after: Option<ScopeId>, count_max: usize) -> Vec<ScopeId> {
        match &self.backend {
            Backend::Memory(memory) => memory.scopes(after, count_max),
            Backend::Embedded(store) => store.scopes(after, count_max),
        }
    }

    /// Which start of this store this is: 1, 2, 3 … durable before it is told.
    pub fn boot(&self) -> u64 {
        match &self.backend {
            Backend::Memory(_) => 1,
            Backend::Embedded(store) => store.boot(),
        }
    }

    /// Resolves when the store has failed for good: the process should end, with an error.
    pub async fn failed(&self) -> Poisoned {
        match &self.backend {
            Backend::Memory(memory) => memory.failed().await,
            Backend::Embedded(store) => store.failed().await,
        }
    }

    /// Whether it has failed by now.
    #[cfg(test)]
    fn failed_now(&self) -> Option<Poisoned> {
        use futures::FutureExt;
        self.failed().now_or_never()
    }

    /// Resolves when nobody uses the store any more, this handle and its scopes among them: its
    /// threads have ended then, and the directory may be opened again.
    pub fn released(&self) -> impl Future<Output = ()> + Send + use<> {
        let released = match &self.backend {
            Backend::Memory(_) => None,
            Backend::Embedded(store) => Some(store.released()),
        };
        async move {
            if let Some(released) = released {
                released.await;
            }
        }
    }

    /// How it is, when it is on a disk. Asks the disk.
    pub(crate) fn look(&self) -> Option<Look> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::Embedded(store) => Some(store.look()),
        }
    }

    /// Where it lies, when it lies anywhere.
    pub fn path(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Memory(_) => None,
            Backend::Embedded(store) => Some(store.path()),
        }
    }
}

/// A scope of a store. Clones are the same one. Making a handle costs nothing and claims nothing.
#[derive(Debug, Clone)]
pub struct Scope {
    id: ScopeId,
    backend: Backend,
}

impl Scope {
    /// Its number.
    pub fn id(&self) -> ScopeId {
        self.id
    }

    /// Becomes the scope's owner. When this returns, every commit made with an earlier fence has
    /// either happened, and can be read, or never will.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing changed then.
    ///
    /// # Cancel safety
    /// When dropped, earlier fences may have lost their right all the same.
    pub async fn claim(&self) -> Result<Fence, ClaimError> {
        match &self.backend {
            Backend::Memory(memory) => memory.claim(self.id),
            Backend::Embedded(store) => store.claim(self.id).await,
        }
    }

    /// Appends records, all or none, each to its stream; gives their offsets, in their order. They
    /// are on stable storage when this returns, and can be read from then on, not before.
    ///
    /// Commits of a scope are ordered: one that is begun after another returned comes after it.
    /// Of those under way at once the order is that in which they found room in the queue; who
    /// needs one, awaits them in turn or makes them one commit. No records is no commit.
    ///
    /// # Errors
    /// [`CommitError`]; nothing happened, with the one exception that says so.
    ///
    /// # Cancel safety
    /// When dropped, it happens wholly or not at all, and the caller does not learn which.
    ///
    /// # Panics
    /// With a fence of another scope.
    pub async fn commit(
        &self,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        self.commit_in(Space::Free, fence, records).await
    }

    /// As [`commit`](Self::commit) in [`Space::Reserve`], as long as that lasts.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit).
    ///
    /// # Panics
    /// With a fence of another scope.
    pub async fn commit_from_reserve(
        &self,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        self.commit_in(Space::Reserve, fence, records).await
    }

    /// As [`commit`](Self::commit), and on a full disk in the room that is kept for such records, as
    /// long as that lasts.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit).
    ///
    /// # Panics
    /// With a fence of another scope.
    pub async fn commit_in(
        &self,
        space: Space,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        assert_eq!(fence.scope, self.id, "a fence is for its own scope");
        if records.is_empty() {
            return Ok(Vec::new());
        }
        match &self.backend {
            Backend::Memory(memory) => memory.commit(space, fence, records).await,
            Backend::Embedded(store) => store.commit(space, fence, records).await,
        }
    }

    /// The records of a stream from `from` on, in order: as many as `page` allows; none when there
    /// are none (yet). Where `from` was trimmed, from the oldest that is left: look at the offset
    /// of the first.
    ///
    /// # Errors
    /// [`ReadError`]; the records before a damaged one are given before the error is.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn read(
        &self,
        stream: Stream,
        from: Offset,
        page: Page,
    ) -> Result<Vec<Stored>, ReadError> {
        match &self.backend {
            Backend::Memory(memory) => memory.read(self.id, stream, from, page),
            Backend::Embedded(store) => store.read(self.id, stream, from, page).await,
        }
    }

    /// The ends of a stream; both 0 when it never held anything.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn ends(&self, stream: Stream) -> Result<Ends, ReadError> {
        match &self.backend {
            Backend::Memory(memory) => memory.ends(self.id, stream),
            Backend::Embedded(store) => store.ends(self.id, stream).await,
        }
    }

    /// The streams that hold or held anything, in the order of their numbers.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn streams(&self) -> Result<Vec<Stream>, ReadError> {
        match &self.backend {
            Backend::Memory(memory) => memory.streams(self.id),
            Backend::Embedded(store) => store.streams(self.id).await,
        }
    }

    /// What the scope occupies: bytes of records that are kept, without those of views. Space is
    /// counted until it is given back, which may be a while after a trim.
    pub fn bytes(&self) -> u64 {
        match &self.backend {
            Backend::Memory(memory) => memory.bytes(self.id),
            Backend::Embedded(store) => store.bytes(self.id),
        }
    }

    /// Lets go of the records of a stream before `before`; those that are gone stay gone. Offsets
    /// go on as if they were there. A `before` past the end means the end. Works when the disk is
    /// full.
    ///
    /// # Errors
    /// [`TrimError`].
    ///
    /// # Cancel safety
    /// When dropped, it happens or not.
    ///
    /// # Panics
    /// With a fence of another scope.
    pub async fn trim(
        &self,
        fence: &Fence,
        stream: Stream,
        before: Offset,
    ) -> Result<(), TrimError> {
        assert_eq!(fence.scope, self.id, "a fence is for its own scope");
        match &self.backend {
            Backend::Memory(memory) => memory.trim(fence, stream, before),
            Backend::Embedded(store) => store.trim(fence, stream, before).await,
        }
    }

    /// Changes a stream's view, all or nothing, so that it says what the records before `upto` add
    /// up to; durable when this returns. Slower than a commit and not on its path: gather changes.
    /// Once it returned, records before `upto` may be trimmed.
    ///
    /// # Errors
    /// [`CheckpointError`]; the view is as it was.
    ///
    /// # Cancel safety
    /// When dropped, it happens wholly or not at all.
    ///
    /// # Panics
    /// With a fence of another scope.
    pub async fn checkpoint(
        &self,
        fence: &Fence,
        stream: Stream,
        upto: Offset,
        changes: Vec<Change>,
    ) -> Result<(), CheckpointError> {
        assert_eq!(fence.scope, self.id, "a fence is for its own scope");
        for change in &changes {
            let (key, value) = match change {
                Change::Put { key, value } => (key.len(), value.len()),
                Change::Delete { key } => (key.len(), 0),
            };
            for (what, len, max) in
                [("a key", key, KEY_BYTES_MAX), ("a value", value, VALUE_BYTES_MAX)]
            {
                if len > max {
                    return Err(CheckpointError::TooLarge { what, len, max });
                }
            }
        }
        match &self.backend {
            Backend::Memory(memory) => memory.checkpoint(fence, stream, upto, changes),
            Backend::Embedded(store) => store.checkpoint(fence, stream, upto, changes).await,
        }
    }

    /// A stream's view, to be read in the order of its keys, and up to which record it goes: replay
    /// the stream from there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn restore(&self, stream: Stream) -> Result<View, ReadError> {
        let upto = match &self.backend {
            Backend::Memory(memory) => memory.view_upto(self.id, stream)?,
            Backend::Embedded(store) => store.view_upto(self.id, stream).await?,
        };
        Ok(View { scope: self.clone(), stream, upto, at: None, over: false })
    }

    /// Lets go of everything in the scope, views and all, and of every fence for it. Deleting what
    /// is not there is no error. Works when the disk is full.
    ///
    /// # Errors
    /// [`DropError`].
    ///
    /// # Cancel safety
    /// When it is not awaited to its end, it happens or not.
    pub async fn drop(&self) -> Result<(), DropError> {
        if self.id == ScopeId::SYSTEM {
            return Err(DropError::System);
        }
        match &self.backend {
            Backend::Memory(memory) => memory.drop_scope(self.id),
            Backend::Embedded(store) => store.drop_scope(self.id).await,
        }
    }
}

/// A view being read, a page at a time.
#[derive(Debug)]
pub struct View {
    scope: Scope,
    stream: Stream,
    upto: Offset,
    at: Option<bytes::Bytes>,
    over: bool,
}

impl View {
    /// The records before this are in the view: replay from here.
    pub fn upto(&self) -> Offset {
        self.upto
    }

    /// The next pairs, in the order of their keys; none at the end.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cancel safety
    /// Safe: the same pairs come again.
    pub async fn next(&mut self, page: Page) -> Result<Vec<Pair>, ReadError> {
        if self.over {
            return Ok(Vec::new());
        }
        let pairs = match &self.scope.backend {
            Backend::Memory(memory) => {
                memory.view_page(self.scope.id, self.stream, self.at.as_deref(), page)?
            }
            Backend::Embedded(store) => {
                store.view_page(self.scope.id, self.stream, self.at.clone(), page).await?
            }
        };
        match pairs.last() {
            Some(last) => self.at = Some(last.key.clone()),
            None => self.over = true,
        }
        Ok(pairs)
    }
}
