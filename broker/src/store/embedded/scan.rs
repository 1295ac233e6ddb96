//! Finding the groups of a journal, and telling a torn end from damage.
//!
//! Only reads. A group that is not whole is the end when nothing valid comes after it: its sync
//! never returned. When something does, it was whole once, and that is damage.

use std::{io, sync::Arc};

use super::{
    disk::{Disk, File, How},
    files::{JOURNAL, journal_file, journal_number},
    group::{BLOCK, Head},
    index::{Laid, Position},
    plant::{self, Bug},
};

/// A group, its bodies not looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub place: Position,
    pub head: Head,
}

/// What a journal has.
#[derive(Debug)]
pub(super) struct Scan {
    pub groups: Vec<Found>,
    /// After the last group.
    pub end: Position,
    pub files: Files,
}

/// Why a journal can not be read.
#[derive(Debug)]
pub(super) enum ScanError {
    /// A file can not be read.
    Io(String, io::Error),
    /// A group is missing or damaged, and later ones are there; or a file is missing or cut short.
    Damaged(String),
}

/// The files of a journal, in their order.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(u64, Arc<dyn File>)>);

impl Files {
    /// Those from this one on. Files are made one after the other and to their full length before
    /// they get their names, so that neither a gap nor a short one is left by a crash.
    fn open(disk: &dyn Disk, from: u64, laid: Option<Laid>) -> Result<Files, ScanError> {
        let io = |what: String| move |error| ScanError::Io(what, error);
        let names = disk.list(JOURNAL).map_err(io(JOURNAL.into()))?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| journal_number(name)).collect();
        numbers.retain(|number| *number >= from);
        numbers.sort_unstable();
        let mut files = Vec::new();
        for number in numbers {
            let name = journal_file(number);
            let file = disk.open(&name, How::Existing).map_err(io(name))?;
            files.push((number, file));
        }
        let files = Files(files);
        if let Some(laid) = laid {
            files.check(from, laid)?;
        }
        Ok(files)
    }

    /// Whether all are there that must be, and as long as they were.
    fn check(&self, from: u64, laid: Laid) -> Result<(), ScanError> {
        let last = self.last().unwrap_or(0).max(laid.last);
        for number in from..=last {
            let name = journal_file(number);
            let Some(file) = self.get(number) else {
                return Err(ScanError::Damaged(format!("{name} is missing")));
            };
            let len = file.len().map_err(|error| ScanError::Io(name.clone(), error))?;
            if len < laid.bytes {
                let what = format!("{name} has {len} bytes and had {}: it was cut", laid.bytes);
                return Err(ScanError::Damaged(what));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, number: u64) -> Option<&Arc<dyn File>> {
        self.0.iter().find(|(n, _)| *n == number).map(|(_, file)| file)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.0.last().map(|(number, _)| *number)
    }

    /// The numbers of those after this one.
    pub(super) fn after(&self, number: u64) -> impl DoubleEndedIterator<Item = u64> {
        self.0.iter().map(|(n, _)| *n).filter(move |n| *n > number)
    }

    /// How long each is, in bytes.
    pub(super) fn lens(&self) -> Result<Vec<u64>, ScanError> {
        let len = |(number, file): &(u64, Arc<dyn File>)| {
            file.len().map_err(|error| ScanError::Io(journal_file(*number), error))
        };
        self.0.iter().map(len).collect()
    }

    /// The head at a place, if there is one.
    fn head(&self, salt: u64, number: u64, at: u64) -> Result<Option<Head>, ScanError> {
        let Some(file) = self.get(number) else { return Ok(None) };
        let io = |error| ScanError::Io(journal_file(number), error);
        let mut bytes = vec![0; BLOCK as usize];
        let read = file.read_at(&mut bytes, at).map_err(io)?;
        bytes.truncate(read);
        let Some(len) = Head::wanted(salt, &bytes) else { return Ok(None) };
        if len > BLOCK {
            bytes.resize(usize::try_from(len).expect("a head is bounded"), 0);
            let read = file.read_at(&mut bytes, at).map_err(io)?;
            bytes.truncate(read);
        }
        Ok(Head::parse(salt, &bytes))
    }

    /// The bodies of a group; shorter when the file ends too early.
    pub(super) fn bodies(&self, group: &Found) -> Result<Vec<u8>, ScanError> {
        let number = group.place.file;
        let file = self.get(number).expect("its head was read from it");
        let len = usize::try_from(group.head.body_len()).expect("a group is bounded");
        let mut bytes = vec![0; len];
        let read = file
            .read_at(&mut bytes, group.place.at + group.head.len())
            .map_err(|error| ScanError::Io(journal_file(number), error))?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The groups from a place on; `laid` are the files that there must be, as far as that is known.
pub(super) fn scan(
    disk: &dyn Disk,
    salt: u64,
    from: Position,
    laid: Option<Laid>,
) -> Result<Scan, ScanError> {
    let files = Files::open(disk, from.file, laid)?;
    if from.at > 0 && files.get(from.file).is_none() {
        return Err(ScanError::Damaged(format!("{} is missing", journal_file(from.file))));
    }
    let mut groups = Vec::new();
    let mut end = from;
    loop {
        let here = files.head(salt, end.file, end.at)?;
        let found = match here.filter(|head| head.number == end.number) {
            Some(head) => Found { place: end, head },
            None => {
                let place = Position { file: end.file + 1, at: 0, number: end.number };
                let next = files.head(salt, place.file, 0)?;
                match next.filter(|head| head.number == end.number) {
                    Some(head) => Found { place, head },
                    None => break,
                }
            }
        };
        let at = found.place.at + found.head.extent();
        end = Position { at, number: end.number + 1, ..found.place };
        groups.push(found);
    }
    if !plant::is(Bug::DamageIsTheEnd)
        && let Some(later) = later(&files, salt, end)?
    {
        let what = format!(
            "group {} should be in {} at byte {}; it is damaged or missing, and group {} is in {} \
             at byte {}",
            end.number,
            journal_file(end.file),
            end.at,
            later.number,
            journal_file(later.file),
            later.at,
        );
        return Err(ScanError::Damaged(what));
    }
    Ok(Scan { groups, end, files })
}

/// A valid group with a later number than this place should have.
fn later(files: &Files, salt: u64, end: Position) -> Result<Option<Position>, ScanError> {
    for (number, file) in files.0.iter().filter(|(number, _)| *number >= end.file) {
        let len = file.len().map_err(|error| ScanError::Io(journal_file(*number), error))?;
        let mut at = if *number == end.file { end.at } else { 0 };
        while at < len {
            if let Some(head) = files.head(salt, *number, at)?
                && head.number > end.number
            {
                return Ok(Some(Position { file: *number, at, number: head.number }));
            }
            at += BLOCK;
        }
    }
    Ok(None)
}
