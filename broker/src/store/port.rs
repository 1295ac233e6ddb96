//! The nouns of the port: scopes, streams, offsets, fences, and what reading gives back.
//!
//! No I/O and no policy: every back end speaks in these.

use std::fmt;

use bytes::Bytes;

use super::record::Kind;

/// Whose data: two scopes a tenant, by the tenant's number, and one for the broker itself.
///
/// Numbers are given by the registry and never given twice. A tenant's jobs and its topics have a
/// scope each, because a scope has one owner: so neither waits for the other, and both go with the
/// tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub u64);

impl ScopeId {
    /// The broker's own: the registry, revocations.
    pub const SYSTEM: ScopeId = ScopeId(0);

    /// A tenant's jobs.
    pub fn jobs(tenant: u32) -> ScopeId {
        ScopeId(tenant.into())
    }

    /// A tenant's topics.
    pub fn topics(tenant: u32) -> ScopeId {
        ScopeId(TOPICS | u64::from(tenant))
    }
}

/// The bit that the scopes of topics have, and no others.
const TOPICS: u64 = 1 << 32;

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("system"),
            n if n & TOPICS != 0 => write!(f, "topics of tenant number {}", n & !TOPICS),
            n => write!(f, "tenant number {n}"),
        }
    }
}

/// An ordered log of records within a scope, with a view beside it. Numbers are its owner's choice;
/// see [`record::system`](super::record::system) for those of the system scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(pub u64);

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// Which room on the disk a commit may take. Each has what those before it have, and a part that
/// they do not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// What is free: for everything that is new.
    Free,
    /// On a full disk the store's reserve: for small records that bring what was accepted to its
    /// end, or change what there is.
    Reserve,
    /// And then the last of it: for small records that take a right away, or lead to space being
    /// given back (suspensions, deletions, revocations).
    LastReserve,
}

/// A record's place in its stream: 0, 1, 2 … without holes, never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// Where every stream begins.
    pub const ZERO: Offset = Offset(0);

    /// The place after this one.
    ///
    /// # Panics
    /// After 2^64 records.
    #[must_use]
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to change a scope, until someone claims the scope after this one.
///
/// Epochs rise with every claim, across restarts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub(super) scope: ScopeId,
    pub(super) epoch: u64,
}

impl Fence {
    /// Which claim this is; later ones are larger.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the stream.
    pub offset: Offset,
    /// What it is.
    pub kind: Kind,
    /// The layout it was written with: at most `kind.layout()`.
    pub layout: u8,
    /// The epoch of the fence it was committed with.
    pub epoch: u64,
    /// Its bytes.
    pub body: Bytes,
}

/// How much one call may give back. At least one thing is given when there is one, whatever its
/// size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// So many records or pairs.
    pub count_max: usize,
    /// So many bytes of them.
    pub bytes_max: usize,
}

impl Default for Page {
    /// 1,024 things or 1 MiB.
    fn default() -> Self {
        Page { count_max: 1_024, bytes_max: 1 << 20 }
    }
}

/// A change of a stream's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This key has this value from now on.
    Put {
        /// At most 1,024 bytes; keys are in the order of their bytes.
        key: Bytes,
        /// At most 16 MiB.
        value: Bytes,
    },
    /// This key has none. That it had none before is no error.
    Delete {
        /// As in `Put`.
        key: Bytes,
    },
}

impl Change {
    /// A [`Change::Put`].
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
        Change::Put { key: key.into(), value: value.into() }
    }

    /// A [`Change::Delete`].
    pub fn delete(key: impl Into<Bytes>) -> Change {
        Change::Delete { key: key.into() }
    }
}

/// A key of a view, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// The two ends of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The oldest record that was not trimmed; `next` when there is none.
    pub first: Offset,
    /// What the next record will get.
    pub next: Offset,
}

/// The longest key of a view, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;
/// The longest value of a view, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
