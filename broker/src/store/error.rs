//! What can go wrong, an enum an operation.
//!
//! Each says whether anything may have happened: only [`CommitError::Unknown`] and its likes leave
//! that open, and they do so only when the store itself is lost.

use std::{io, path::PathBuf};

use super::port::{Offset, ScopeId, Stream};

/// Why a store does not open. Nothing on the disk was changed but what a crash left half written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{path} has the format {found}, and this program knows formats up to {known}")]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// What it has.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// What is damaged can not be laid at one scope's door: the whole store stays closed.
    #[error("the store in {path} is damaged: {what}; restore it from a copy")]
    Corrupt {
        /// The store's directory.
        path: PathBuf,
        /// What was found, and where.
        what: String,
    },
    /// A number of `[store]` is not possible.
    #[error("store.{key}: {why}")]
    BadConfig {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file can not be made, read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The store has failed and answers nothing any more: a write or a sync did not reach the disk. The
/// process should end; what was acknowledged is there when it comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store has failed: {reason}")]
pub struct Poisoned {
    /// What failed, for the log.
    pub reason: String,
}

/// Data of a scope is damaged. The scope changes no more until it is dropped or restored from a
/// copy; nothing was cut, skipped or repaired. Other scopes are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data of {scope} is damaged: {what}")]
pub struct Corrupt {
    /// Whose data.
    pub scope: ScopeId,
    /// What was found, and where: for the log and the operator.
    pub what: String,
}

/// Why a scope could not be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Its data is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The store has failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why a commit did not happen, or may not have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Someone claimed the scope later, or it was dropped. Nothing happened.
    #[error("{scope} has another owner")]
    Fenced {
        /// The scope.
        scope: ScopeId,
    },
    /// There is no room on the disk. Nothing happened; it works again when there is room.
    #[error("no room to store more: {reason}")]
    Full {
        /// What is short, for the log.
        reason: String,
    },
    /// A record, or all of them, are larger than the configuration allows. Nothing happened.
    #[error("{what} are {len}, at most {max} are allowed")]
    TooLarge {
        /// Bytes of what, or records of what.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// How many may be.
        max: usize,
    },
    /// The scope's data is damaged. Nothing happened.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The store had failed before. Nothing happened.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The store failed while this was being written: after the restart it is there wholly or not
    /// at all.
    #[error("whether it was stored is not known: {0}")]
    Unknown(Poisoned),
}

/// Why records could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The scope's data is damaged where it was read.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A record of a kind that this program does not know.
    #[error("{stream} of {scope} has a record of the unknown kind {tag} at {offset}")]
    UnknownKind {
        /// The scope.
        scope: ScopeId,
        /// The stream.
        stream: Stream,
        /// Where.
        offset: Offset,
        /// Its tag.
        tag: u16,
    },
    /// The disk could not be read.
    #[error("cannot read: {reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
    /// The store has failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}

/// Why a stream was not trimmed, or a scope not dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrimError {
    /// Someone claimed the scope later, or it was dropped. Nothing happened.
    #[error("{scope} has another owner")]
    Fenced {
        /// The scope.
        scope: ScopeId,
    },
    /// Not even the room that is kept for deletions is left. Nothing happened.
    #[error("no room to note a deletion: {reason}")]
    Full {
        /// What is short, for the log.
        reason: String,
    },
    /// The scope's data is damaged. Nothing happened.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The store had failed before. Nothing happened.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The store failed meanwhile: after the restart it happened or it did not.
    #[error("whether it was deleted is not known: {0}")]
    Unknown(Poisoned),
}

/// Why a scope was not dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// Not even the room that is kept for deletions is left. Nothing happened.
    #[error("no room to note a deletion: {reason}")]
    Full {
        /// What is short, for the log.
        reason: String,
    },
    /// The system scope is never dropped.
    #[error("the system's own scope is not dropped")]
    System,
    /// The store had failed before. Nothing happened.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The store failed meanwhile: after the restart it happened or it did not.
    #[error("whether it was dropped is not known: {0}")]
    Unknown(Poisoned),
}

/// Why a view was not changed. Nothing is lost: views can be made again from the records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Someone claimed the scope later, or it was dropped.
    #[error("{scope} has another owner")]
    Fenced {
        /// The scope.
        scope: ScopeId,
    },
    /// The view would go back, or ahead of what is stored.
    #[error("a view up to {upto} must lie between {min} and {max}")]
    Misplaced {
        /// What was asked for.
        upto: Offset,
        /// Up to where the view already is.
        min: Offset,
        /// Where the stream ends.
        max: Offset,
    },
    /// A key or value is larger than allowed.
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// A key or a value.
        what: &'static str,
        /// How many there are.
        len: usize,
        /// How many may be.
        max: usize,
    },
    /// There is no room on the disk; it works again when there is.
    #[error("no room to store more: {reason}")]
    Full {
        /// What is short, for the log.
        reason: String,
    },
    /// The scope's data is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The store has failed.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
}
