//! What is kept in redb: views, the ends of streams as of the last checkpoint of the journal, and
//! where the journal is to be read from. redb stops here.
//!
//! Never on the way of an acknowledgement of a commit. One writer, the keeper.

use std::{fmt, io, ops::Bound, sync::Arc};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{
    super::port::{Change, Offset, Page, Pair, ScopeId, Stream},
    disk::File,
    reserve::Reserve,
};

/// Numbers: see the keys at the end.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// (scope, stream) -> (first, next): what is in segments and synced.
const STREAMS: TableDefinition<(u64, u64), (u64, u64)> = TableDefinition::new("streams");
/// (scope, stream, class, first offset) -> synced bytes of the file.
const FILES: TableDefinition<(u64, u64, u8, u64), u64> = TableDefinition::new("files");
/// (scope, stream) -> the view is of the records before this.
const UPTO: TableDefinition<(u64, u64), u64> = TableDefinition::new("upto");
/// (scope, stream, key) -> value.
const VIEWS: TableDefinition<(u64, u64, &[u8]), &[u8]> = TableDefinition::new("views");
/// Scope -> what of it is damaged.
const DAMAGED: TableDefinition<u64, &str> = TableDefinition::new("damaged");

const BOOT: &str = "boot";
const FROM_FILE: &str = "journal_file";
const FROM_AT: &str = "journal_at";
const EVIDENCE: &str = "journal_evidence";
const LAST_FILE: &str = "journal_last_file";
const FILE_BYTES: &str = "journal_file_bytes";
const FROM_NUMBER: &str = "journal_group";

/// Memory that redb may use for pages, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// Where the journal goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The file's number.
    pub file: u64,
    /// Where in it.
    pub at: u64,
    /// The number of the group there.
    pub number: u64,
}

/// The files of the journal that there must be: what is shorter or missing was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Laid {
    /// The last one that was ready for groups.
    pub last: u64,
    /// None of them is shorter, in bytes.
    pub bytes: u64,
}

/// The kinds of files that a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Frames, one after the other.
    Segment,
    /// Bodies of large records.
    Large,
}

/// A file of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileRow {
    pub class: Class,
    /// The offset of its first record.
    pub base: u64,
    /// How much of it is synced.
    pub len: u64,
}

/// A stream as of the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamRow {
    pub stream: Stream,
    pub first: u64,
    pub next: u64,
    pub upto: u64,
    pub files: Vec<FileRow>,
}

/// What a checkpoint of the journal says.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// The journal is read from here after a crash.
    pub from: Option<Position>,
    /// Streams as they are: the files named here are all there are.
    pub streams: Vec<(ScopeId, StreamRow)>,
}

/// A change of a view.
#[derive(Debug)]
pub(super) struct ViewChange {
    pub scope: ScopeId,
    pub stream: Stream,
    pub upto: Offset,
    pub changes: Vec<Change>,
}

/// What redb could not do.
#[derive(Debug, thiserror::Error)]
#[error("the index: {0}")]
pub(super) struct IndexError(#[from] redb::Error);

impl IndexError {
    /// The error of the disk, if it is one.
    pub(super) fn io(&self) -> Option<io::Error> {
        match &self.0 {
            redb::Error::Io(error) => Some(io::Error::new(error.kind(), error.to_string())),
            _ => None,
        }
    }
}

type Result<T> = std::result::Result<T, IndexError>;

fn wrong(error: impl Into<redb::Error>) -> IndexError {
    IndexError(error.into())
}

/// The database.
pub(super) struct Index {
    database: Database,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Index {
    /// Opens or makes it, and repairs what a crash left.
    pub(super) fn open(file: Arc<dyn File>, reserve: Reserve) -> Result<Index> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create_with_backend(Backend { file, reserve }).map_err(wrong)?;
        let write = database.begin_write().map_err(wrong)?;
        write.open_table(META).map_err(wrong)?;
        write.open_table(STREAMS).map_err(wrong)?;
        write.open_table(FILES).map_err(wrong)?;
        write.open_table(UPTO).map_err(wrong)?;
        write.open_table(VIEWS).map_err(wrong)?;
        write.open_table(DAMAGED).map_err(wrong)?;
        write.commit().map_err(wrong)?;
        Ok(Index { database })
    }

    /// Counts this start, durably, and gives the count.
    pub(super) fn boot(&self) -> Result<u64> {
        let write = self.database.begin_write().map_err(wrong)?;
        let boot = {
            let mut meta = write.open_table(META).map_err(wrong)?;
            let last = meta.get(BOOT).map_err(wrong)?.map_or(0, |boot| boot.value());
            meta.insert(BOOT, last + 1).map_err(wrong)?;
            last + 1
        };
        write.commit().map_err(wrong)?;
        Ok(boot)
    }

    /// Where the journal is to be read from.
    pub(super) fn from(&self) -> Result<Position> {
        let read = self.database.begin_read().map_err(wrong)?;
        let meta = read.open_table(META).map_err(wrong)?;
        let number = |key, default| -> Result<u64> {
            Ok(meta.get(key).map_err(wrong)?.map_or(default, |number| number.value()))
        };
        let Position { file, at, number: group } = Position::default();
        let (file, at) = (number(FROM_FILE, file)?, number(FROM_AT, at)?);
        Ok(Position { file, at, number: number(FROM_NUMBER, group)? })
    }

    /// The files of the journal that there must be; none when none was ever ready, or only with a
    /// program that did not note it.
    pub(super) fn laid(&self) -> Result<Option<Laid>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let meta = read.open_table(META).map_err(wrong)?;
        let number = |key| -> Result<Option<u64>> {
            Ok(meta.get(key).map_err(wrong)?.map(|number| number.value()))
        };
        let (last, bytes) = (number(LAST_FILE)?, number(FILE_BYTES)?);
        Ok(last.zip(bytes).map(|(last, bytes)| Laid { last, bytes }))
    }

    /// Notes which files of the journal there must be, durably: they are there.
    pub(super) fn lay(&self, laid: Laid) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        {
            let mut meta = write.open_table(META).map_err(wrong)?;
            meta.insert(LAST_FILE, laid.last).map_err(wrong)?;
            meta.insert(FILE_BYTES, laid.bytes).map_err(wrong)?;
        }
        write.commit().map_err(wrong)
    }

    /// A scope's streams.
    pub(super) fn streams(&self, scope: ScopeId) -> Result<Vec<StreamRow>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let streams = read.open_table(STREAMS).map_err(wrong)?;
        let files = read.open_table(FILES).map_err(wrong)?;
        let upto = read.open_table(UPTO).map_err(wrong)?;
        let mut rows = Vec::new();
        let all = (scope.0, 0)..=(scope.0, u64::MAX);
        for row in streams.range(all.clone()).map_err(wrong)? {
            let (key, value) = row.map_err(wrong)?;
            let (stream, (first, next)) = (Stream(key.value().1), value.value());
            rows.push(StreamRow { stream, first, next, upto: 0, files: Vec::new() });
        }
        for row in upto.range(all).map_err(wrong)? {
            let (key, value) = row.map_err(wrong)?;
            let stream = Stream(key.value().1);
            match rows.iter_mut().find(|row| row.stream == stream) {
                Some(row) => row.upto = value.value(),
                // A view whose records are in the journal alone, so far.
                None => {
                    let upto = value.value();
                    rows.push(StreamRow { stream, first: 0, next: 0, upto, files: Vec::new() });
                }
            }
        }
        for row in &mut rows {
            let stream = (scope.0, row.stream.0);
            let all = (stream.0, stream.1, 0, 0)..=(stream.0, stream.1, u8::MAX, u64::MAX);
            for file in files.range(all).map_err(wrong)? {
                let (key, len) = file.map_err(wrong)?;
                let (_, _, class, base) = key.value();
                let class = if class == 0 { Class::Segment } else { Class::Large };
                row.files.push(FileRow { class, base, len: len.value() });
            }
        }
        Ok(rows)
    }

    /// The scopes that have anything here, in order, after `after`.
    pub(super) fn scopes(&self, after: Option<ScopeId>, count_max: usize) -> Result<Vec<ScopeId>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let streams = read.open_table(STREAMS).map_err(wrong)?;
        let upto = read.open_table(UPTO).map_err(wrong)?;
        let mut found = Vec::new();
        let mut from = after.map(|scope| scope.0.saturating_add(1)).unwrap_or(0);
        while found.len() < count_max {
            let a = streams.range((from, 0)..).map_err(wrong)?.next().transpose().map_err(wrong)?;
            let b = upto.range((from, 0)..).map_err(wrong)?.next().transpose().map_err(wrong)?;
            let a = a.map(|(key, _)| key.value().0);
            let b = b.map(|(key, _)| key.value().0);
            let Some(scope) = a.into_iter().chain(b).min() else { break };
            found.push(ScopeId(scope));
            match scope.checked_add(1) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(found)
    }

    /// Scopes whose data is damaged, and what was found.
    pub(super) fn damaged(&self) -> Result<Vec<(ScopeId, String)>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let damaged = read.open_table(DAMAGED).map_err(wrong)?;
        let mut rows = Vec::new();
        for row in damaged.iter().map_err(wrong)? {
            let (scope, what) = row.map_err(wrong)?;
            rows.push((ScopeId(scope.value()), what.value().to_owned()));
        }
        Ok(rows)
    }

    /// Notes that a scope's data is damaged, durably, and that the files of the journal up to this
    /// one are evidence of it.
    pub(super) fn damage(&self, scope: ScopeId, what: &str, file: u64) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        write.open_table(DAMAGED).map_err(wrong)?.insert(scope.0, what).map_err(wrong)?;
        write.open_table(META).map_err(wrong)?.insert(EVIDENCE, file).map_err(wrong)?;
        write.commit().map_err(wrong)
    }

    /// The last file of the journal that is evidence of damage.
    pub(super) fn evidence(&self) -> Result<Option<u64>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let meta = read.open_table(META).map_err(wrong)?;
        Ok(meta.get(EVIDENCE).map_err(wrong)?.map(|file| file.value()))
    }

    /// What a checkpoint of the journal says, in one step, durably.
    pub(super) fn update(&self, update: &Update) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        {
            let mut meta = write.open_table(META).map_err(wrong)?;
            if let Some(from) = update.from {
                meta.insert(FROM_FILE, from.file).map_err(wrong)?;
                meta.insert(FROM_AT, from.at).map_err(wrong)?;
                meta.insert(FROM_NUMBER, from.number).map_err(wrong)?;
            }
            let mut streams = write.open_table(STREAMS).map_err(wrong)?;
            let mut files = write.open_table(FILES).map_err(wrong)?;
            for (scope, row) in &update.streams {
                let (scope, stream) = (scope.0, row.stream.0);
                streams.insert((scope, stream), (row.first, row.next)).map_err(wrong)?;
                let all = (scope, stream, 0, 0)..=(scope, stream, u8::MAX, u64::MAX);
                files.retain_in(all, |_, _| false).map_err(wrong)?;
                for file in &row.files {
                    let class = u8::from(file.class == Class::Large);
                    files.insert((scope, stream, class, file.base), file.len).map_err(wrong)?;
                }
            }
        }
        write.commit().map_err(wrong)
    }

    /// Changes views, all in one step, durably.
    pub(super) fn change(&self, changes: &[ViewChange]) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        {
            let mut views = write.open_table(VIEWS).map_err(wrong)?;
            let mut upto = write.open_table(UPTO).map_err(wrong)?;
            for view in changes {
                let (scope, stream) = (view.scope.0, view.stream.0);
                for change in &view.changes {
                    match change {
                        Change::Put { key, value } => {
                            views.insert((scope, stream, &key[..]), &value[..]).map_err(wrong)?
                        }
                        Change::Delete { key } => {
                            views.remove((scope, stream, &key[..])).map_err(wrong)?
                        }
                    };
                }
                upto.insert((scope, stream), view.upto.0).map_err(wrong)?;
            }
        }
        write.commit().map_err(wrong)
    }

    /// A page of a view.
    pub(super) fn view(
        &self,
        scope: ScopeId,
        stream: Stream,
        after: Option<&[u8]>,
        page: Page,
    ) -> Result<Vec<Pair>> {
        let read = self.database.begin_read().map_err(wrong)?;
        let views = read.open_table(VIEWS).map_err(wrong)?;
        let from = match after {
            Some(key) => Bound::Excluded((scope.0, stream.0, key)),
            None => Bound::Included((scope.0, stream.0, &[][..])),
        };
        let mut pairs = Vec::new();
        let mut bytes = 0;
        for row in views.range::<(u64, u64, &[u8])>((from, Bound::Unbounded)).map_err(wrong)? {
            let (key, value) = row.map_err(wrong)?;
            let (of, at, key) = key.value();
            if (of, at) != (scope.0, stream.0) || pairs.len() >= page.count_max.max(1) {
                break;
            }
            bytes += key.len() + value.value().len() + 1;
            if !pairs.is_empty() && bytes > page.bytes_max {
                break;
            }
            pairs.push(Pair {
                key: Bytes::copy_from_slice(key),
                value: Bytes::copy_from_slice(value.value()),
            });
        }
        Ok(pairs)
    }

    /// Forgets everything about these scopes, durably.
    pub(super) fn forget(&self, scopes: &[ScopeId]) -> Result<()> {
        let write = self.database.begin_write().map_err(wrong)?;
        {
            let mut streams = write.open_table(STREAMS).map_err(wrong)?;
            let mut files = write.open_table(FILES).map_err(wrong)?;
            let mut upto = write.open_table(UPTO).map_err(wrong)?;
            let mut views = write.open_table(VIEWS).map_err(wrong)?;
            let mut damaged = write.open_table(DAMAGED).map_err(wrong)?;
            for ScopeId(n) in scopes.iter().copied() {
                let all = (n, 0)..=(n, u64::MAX);
                streams.retain_in(all.clone(), |_, _| false).map_err(wrong)?;
                upto.retain_in(all, |_, _| false).map_err(wrong)?;
                let all = (n, 0, 0, 0)..=(n, u64::MAX, u8::MAX, u64::MAX);
                files.retain_in(all, |_, _| false).map_err(wrong)?;
                // No key is larger than this one: keys have an end.
                let all = (n, 0, &[][..])..(n + 1, 0, &[][..]);
                views.retain_in::<(u64, u64, &[u8]), _>(all, |_, _| false).map_err(wrong)?;
                damaged.remove(n).map_err(wrong)?;
            }
        }
        write.commit().map_err(wrong)
    }
}

/// redb on a file of ours.
#[derive(Debug)]
struct Backend {
    file: Arc<dyn File>,
    reserve: Reserve,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.file.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.reserve.lend(|| self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.reserve.lend(|| self.file.write_at(data, offset))
    }
}
