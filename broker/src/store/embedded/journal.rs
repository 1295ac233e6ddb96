//! The journal: numbered files in which groups lie one after the other, each group synced before
//! the next one is written.
//!
//! Files are filled with zeros before they are used, and used again: a write never has to find
//! room, and a sync has nothing to note but the data. What lies in a file from its earlier use has
//! lower numbers. Only the committer writes here; the keeper brings files and takes them away.
//!
//! What is left of the last file when there is no room for another is given away in parts:
//!
//! ```text
//!  … any group │ Space::Reserve │ Space::LastReserve │ trims and drops │
//! ```

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    super::port::Space,
    disk::{Disk, File, How},
    files::{JOURNAL, journal_file},
    group::Head,
    index::Position,
    plant::{self, Bug},
};

/// A part is this much of a file, within these bounds, in bytes.
const PART_OF_FILE: u64 = 16;
const PART_MIN: u64 = 32 << 10;
const PART_MAX: u64 = 2 << 20;
/// What a file must have besides groups, in bytes.
pub(super) const KEPT_MIN: u64 = 4 * PART_MIN;

/// Where groups are written.
#[derive(Debug)]
pub(super) struct Journal {
    salt: u64,
    file: Arc<dyn File>,
    /// The file's length: what was made with another configuration has another one.
    file_bytes: u64,
    /// Where the next group goes.
    end: Position,
    supply: Arc<Supply>,
}

impl Journal {
    /// # Errors
    /// When the file does not tell its length.
    pub(super) fn new(
        salt: u64,
        file: Arc<dyn File>,
        end: Position,
        supply: Arc<Supply>,
    ) -> io::Result<Self> {
        Ok(Journal { salt, file_bytes: file.len()?, file, end, supply })
    }

    /// Where the next group goes: everything before is durable.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Waits until a group of this extent can be written, whatever it is of, or there is no room for
    /// another file. `wake` wakes the keeper.
    ///
    /// # Errors
    /// Why there is no room: then what is in [`reach`](Self::reach) can be written.
    pub(super) fn room(&self, extent: u64, wake: impl Fn()) -> Result<(), String> {
        let next = self.end.file + 1;
        let fits = self.leaves(extent, 3);
        // The next file is made while this one has room, so that nobody waits for it.
        let soon = self.end.at > self.file_bytes / 2;
        if (!fits || soon) && self.supply.want(next) {
            wake();
        }
        if fits { Ok(()) } else { self.supply.wait(next) }
    }

    /// Whether a group of this extent can be written when there is no room for another file.
    pub(super) fn reach(&self, space: Space, extent: u64) -> bool {
        match space {
            Space::Free => self.leaves(extent, 3),
            Space::Reserve => self.leaves(extent, 2),
            Space::LastReserve => self.leaves(extent, 1),
        }
    }

    /// Whether so many parts of the file are left after a group.
    fn leaves(&self, extent: u64, parts: u64) -> bool {
        let part = (self.file_bytes / PART_OF_FILE).clamp(PART_MIN, PART_MAX);
        self.end.at + extent + parts * part <= self.file_bytes
    }

    /// Writes a group and syncs it. An error in `Ok` is that there is no room: nothing happened.
    ///
    /// # Errors
    /// What failed: whether the group is there is not known.
    pub(super) fn append(&mut self, head: &Head, bodies: &[u8]) -> io::Result<Result<(), String>> {
        debug_assert_eq!(head.number, self.end.number);
        if self.end.at + head.extent() > self.file_bytes {
            let Some(file) = self.supply.take(self.end.file + 1) else {
                return Ok(Err("no file of the journal has room".into()));
            };
            self.file_bytes = file.len()?;
            self.file = file;
            self.end = Position { file: self.end.file + 1, at: 0, ..self.end };
        }
        let written = self
            .file
            .write_at(&head.to_bytes(self.salt), self.end.at)
            .and_then(|()| self.file.write_at(bodies, self.end.at + head.len()));
        match written {
            Err(error) if super::disk::is_full(&error) => return Ok(Err(error.to_string())),
            written => written?,
        }
        self.sync(head.number)?;
        self.end = Position {
            file: self.end.file,
            at: self.end.at + head.extent(),
            number: self.end.number + 1,
        };
        Ok(Ok(()))
    }

    fn sync(&self, number: u64) -> io::Result<()> {
        if plant::is(Bug::SkipSync) && number.is_multiple_of(2) {
            return Ok(());
        }
        match self.file.sync() {
            Err(_) if plant::is(Bug::RetrySync) => self.file.sync(),
            synced => synced,
        }
    }
}

/// Files for the journal: made by the keeper before the committer wants them.
#[derive(Debug)]
pub(super) struct Supply {
    pub file_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the file that is wanted and not there.
    wanted: Option<u64>,
    ready: Option<(u64, Arc<dyn File>)>,
    /// Why it can not be made.
    full: Option<String>,
    closed: bool,
}

impl Supply {
    pub(super) fn new(file_bytes: u64) -> Supply {
        Supply { file_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a file; whether the keeper must be told: it is not there, and was not asked for,
    /// or could not be made.
    fn want(&self, number: u64) -> bool {
        let mut state = self.lock();
        if state.ready.as_ref().is_some_and(|(ready, _)| *ready == number) {
            return false;
        }
        let known = state.wanted.replace(number) == Some(number);
        !known || state.full.is_some()
    }

    /// The file that the keeper is to make.
    pub(super) fn wanted(&self) -> Option<u64> {
        self.lock().wanted
    }

    /// Brings a file, or says why there is none.
    pub(super) fn bring(&self, number: u64, file: Result<Arc<dyn File>, String>) {
        let mut state = self.lock();
        match file {
            Ok(file) => {
                state.ready = Some((number, file));
                state.wanted = None;
                state.full = None;
            }
            Err(reason) => state.full = Some(reason),
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Nobody brings anything any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait(&self, number: u64) -> Result<(), String> {
        let mut state = self.lock();
        loop {
            if state.ready.as_ref().is_some_and(|(ready, _)| *ready == number) {
                return Ok(());
            }
            if let Some(reason) = &state.full {
                return Err(reason.clone());
            }
            if state.closed {
                return Err("the store is closing".into());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take(&self, number: u64) -> Option<Arc<dyn File>> {
        let mut state = self.lock();
        state.ready.take_if(|(ready, _)| *ready == number).map(|(_, file)| file)
    }
}

/// Makes a file of the journal: full of zeros, durable, name and all.
pub(super) fn make(disk: &dyn Disk, number: u64, bytes: u64) -> io::Result<Arc<dyn File>> {
    let preparing = format!("{JOURNAL}/preparing");
    let file = disk.open(&preparing, How::Empty)?;
    zero(&*file, 0, bytes)?;
    file.sync()?;
    disk.rename(&preparing, &journal_file(number))?;
    disk.sync_dir(JOURNAL)?;
    Ok(file)
}

/// Uses a file again, under a new number. One that is shorter than the new ones are is made longer.
pub(super) fn reuse(
    disk: &dyn Disk,
    spare: &str,
    number: u64,
    bytes: u64,
) -> io::Result<Arc<dyn File>> {
    let spare = format!("{JOURNAL}/{spare}");
    let file = disk.open(&spare, How::Existing)?;
    let len = file.len()?;
    if len < bytes {
        zero(&*file, len, bytes)?;
        file.sync()?;
    }
    disk.rename(&spare, &journal_file(number))?;
    disk.sync_dir(JOURNAL)?;
    Ok(file)
}

/// Overwrites with zeros.
pub(super) fn zero(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 256 << 10];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(usize::MAX).min(ZEROS.len());
        file.write_at(&ZEROS[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
