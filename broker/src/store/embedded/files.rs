//! The names of the store's files, and those of them that are open.
//!
//! ```text
//!  LOCK                                one process at a time
//!  FORMAT                              the version of all of this, and the salt
//!  index.redb                          views, ends of streams, where the journal begins
//!  journal/0000000000000001.log …      groups
//!  journal/spare-…, preparing          files to come
//!  journal/damaged-….log               kept for whoever looks into it
//!  scopes/<number>/<stream>-<offset>.segment, .large
//! ```
//!
//! Numbers are sixteen hexadecimal digits. What is called otherwise is nobody's business here: it
//! is neither read nor deleted.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    super::port::{ScopeId, Stream},
    disk::{Disk, File, How},
    index::Class,
};

/// The directory of scopes.
pub(super) const SCOPES: &str = "scopes";
/// The directory of the journal.
pub(super) const JOURNAL: &str = "journal";
/// redb's file.
pub(super) const INDEX: &str = "index.redb";

/// A file of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub scope: ScopeId,
    pub stream: Stream,
    /// Whether it is of large records.
    pub large: bool,
    /// The offset of its first record.
    pub base: u64,
}

impl Name {
    pub(super) fn new(scope: ScopeId, stream: Stream, class: Class, base: u64) -> Name {
        Name { scope, stream, large: class == Class::Large, base }
    }

    pub(super) fn path(&self) -> String {
        let kind = if self.large { "large" } else { "segment" };
        format!("{}/{:016x}-{:016x}.{kind}", scope_dir(self.scope), self.stream.0, self.base)
    }
}

/// A scope's directory.
pub(super) fn scope_dir(scope: ScopeId) -> String {
    format!("{SCOPES}/{:016x}", scope.0)
}

/// Whether a name in a scope's directory is one that the store gives.
pub(super) fn is_stream_file(name: &str) -> bool {
    let Some((stem, kind)) = name.split_once('.') else { return false };
    let Some((stream, base)) = stem.split_once('-') else { return false };
    matches!(kind, "segment" | "large") && hex(stream).is_some() && hex(base).is_some()
}

/// A file of the journal.
pub(super) fn journal_file(number: u64) -> String {
    format!("{JOURNAL}/{number:016x}.log")
}

/// The number of a file of the journal.
pub(super) fn journal_number(name: &str) -> Option<u64> {
    hex(name.strip_suffix(".log")?)
}

fn hex(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// The files of streams that are open, at most so many.
#[derive(Debug)]
pub(super) struct Open {
    disk: Arc<dyn Disk>,
    max: usize,
    open: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Name, Arc<dyn File>>,
    /// The oldest first.
    order: VecDeque<Name>,
}

impl Open {
    pub(super) fn new(disk: Arc<dyn Disk>, max: usize) -> Open {
        Open { disk, max: max.max(1), open: Mutex::default() }
    }

    /// The file. A new one is made (its directory too) when `how` says so.
    pub(super) fn get(&self, name: Name, how: How) -> io::Result<Arc<dyn File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if how != How::Empty
            && let Some(file) = open.files.get(&name)
        {
            return Ok(file.clone());
        }
        if how != How::Existing {
            self.disk.make_dir(&scope_dir(name.scope))?;
        }
        let file = self.disk.open(&name.path(), how)?;
        if open.files.insert(name, file.clone()).is_none() {
            open.order.push_back(name);
        }
        while open.files.len() > self.max {
            let Some(oldest) = open.order.pop_front() else { break };
            open.files.remove(&oldest);
        }
        Ok(file)
    }

    /// Closes what matches.
    pub(super) fn close(&self, matches: impl Fn(&Name) -> bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.files.retain(|name, _| !matches(name));
        open.order.retain(|name| !matches(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        let name = Name::new(ScopeId(255), Stream(1), Class::Large, 16);
        assert_eq!(name.path(), "scopes/00000000000000ff/0000000000000001-0000000000000010.large");
        assert!(is_stream_file("0000000000000001-0000000000000010.large"));
        assert_eq!(journal_number("00000000000000ff.log"), Some(255));
        assert_eq!(journal_file(255), "journal/00000000000000ff.log");
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in ["", "a", "1-2.segment", "notes.txt", "0000000000000001-0000000000000010.bak"] {
            assert!(!is_stream_file(name), "{name}");
        }
        for name in ["1.log", "00000000000000ff", "00000000000000fg.log", "spare-1.log"] {
            assert_eq!(journal_number(name), None, "{name}");
        }
    }
}
