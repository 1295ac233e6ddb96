//! A disk that forgets: what was not synced survives a power cut sector by sector, in any order, or
//! not at all; names survive in their order up to some point.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::disk::{Disk, File, How};

const SECTOR: usize = 512;

/// A small generator of numbers: the same seed gives the same ones.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Len(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
    unsynced: Vec<Write>,
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::Bytes(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Write::Len(len) => bytes.resize(*len, 0),
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            write.apply(&mut self.durable);
        }
    }

    /// What a power cut leaves: of each write, a sector with a chance of `keep` in 8.
    fn after_cut(&self, dice: &mut Dice, keep: usize) -> Vec<u8> {
        let mut left = self.durable.clone();
        for write in &self.unsynced {
            match write {
                Write::Len(_) if dice.below(8) < keep => write.apply(&mut left),
                Write::Len(_) => {}
                Write::Bytes(at, bytes) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = ((at + from) / SECTOR + 1) * SECTOR - at;
                        let to = to.min(bytes.len());
                        if dice.below(8) < keep {
                            Write::Bytes(at + from, bytes[from..to].to_vec()).apply(&mut left);
                        }
                        from = to;
                    }
                }
            }
        }
        left
    }
}

#[derive(Debug, Clone)]
enum Naming {
    Set(String, usize),
    Unset(String),
    /// From, to: one step.
    Move(String, String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Naming::Set(name, inode) => drop(names.insert(name.clone(), *inode)),
            Naming::Unset(name) => drop(names.remove(name)),
            Naming::Move(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<Naming>,
    syncs: u64,
    /// The power goes at this sync; whether it still takes effect.
    cut_at: Option<(u64, bool)>,
    dead: bool,
    fail_sync_at: Option<u64>,
    free: Option<u64>,
    /// Somebody else takes all that is free when so many more pieces were added to files.
    taken_after: Option<u64>,
    taken: bool,
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
    }

    /// Counts a sync; whether it takes effect.
    fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        self.syncs += 1;
        match self.cut_at {
            Some((at, takes_effect)) if at == self.syncs => {
                self.dead = true;
                if takes_effect { Ok(()) } else { self.alive() }
            }
            _ => Ok(()),
        }
    }

    fn room(&mut self) -> io::Result<()> {
        self.alive()?;
        if let Some(left) = &mut self.taken_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                (self.free, self.taken_after, self.taken) = (Some(0), None, true);
            }
        }
        match self.free {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

/// The disk. Clones are the same one.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    root: PathBuf,
}

impl SimDisk {
    pub fn new() -> SimDisk {
        let state = State::default();
        SimDisk { state: Arc::new(Mutex::new(state)), root: "/simulated".into() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The power goes at this sync, before or after it took effect.
    pub fn cut_at(&self, sync: u64, takes_effect: bool) {
        self.lock().cut_at = Some((sync, takes_effect));
    }

    /// Whether the power has gone.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// The sync after the next `after` ones fails, and what it was to write is lost.
    pub fn fail_sync(&self, after: u64) {
        let mut state = self.lock();
        state.fail_sync_at = Some(state.syncs + after + 1);
    }

    /// So much is free; with 0, nothing can be written to new places.
    pub fn free_bytes(&self, free: Option<u64>) {
        self.lock().free = free;
    }

    /// The disk is full from this addition to a file on, counted from now, and until then there is
    /// room; what a file gives back then is free again.
    pub fn taken_after(&self, additions: u64) {
        self.lock().taken_after = Some(additions);
    }

    /// Whether somebody else has taken what was free.
    pub fn is_taken(&self) -> bool {
        self.lock().taken
    }

    /// What is left after a power cut now.
    pub fn after_cut(&self, seed: u64) -> SimDisk {
        let mut dice = Dice::new(seed);
        let mut state = self.lock();
        state.dead = true;
        let keep = [0, 2, 6, 8][dice.below(4)];
        let inodes = state.inodes.iter().map(|inode| {
            let left = inode.after_cut(&mut dice, keep);
            Inode { durable: left.clone(), now: left, unsynced: Vec::new() }
        });
        let inodes = inodes.collect();
        let mut names = state.durable_names.clone();
        let kept = dice.below(state.unsynced_names.len() + 1);
        state.unsynced_names[..kept].iter().for_each(|naming| naming.apply(&mut names));
        let left = State { inodes, durable_names: names.clone(), names, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(left)), root: self.root.clone() }
    }

    /// Another disk with the same on it, all of it durable.
    pub fn copy(&self) -> SimDisk {
        let state = self.lock();
        let copy = |inode: &Inode| Inode {
            durable: inode.now.clone(),
            now: inode.now.clone(),
            unsynced: Vec::new(),
        };
        let inodes = state.inodes.iter().map(copy).collect();
        let (names, durable_names) = (state.names.clone(), state.names.clone());
        let copy = State { inodes, names, durable_names, ..State::default() };
        SimDisk { state: Arc::new(Mutex::new(copy)), root: self.root.clone() }
    }

    /// Adds a file, durably.
    pub fn add(&self, path: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let bytes = bytes.to_vec();
        state.inodes.push(Inode { durable: bytes.clone(), now: bytes, unsynced: Vec::new() });
        let inode = state.inodes.len() - 1;
        state.rename(Naming::Set(path.to_owned(), inode));
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
    }

    /// Takes a file away, durably.
    pub fn take(&self, path: &str) {
        let mut state = self.lock();
        state.rename(Naming::Unset(path.to_owned()));
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
    }

    /// The files whose path begins like this.
    pub fn files(&self, begin: &str) -> Vec<String> {
        self.lock().names.keys().filter(|name| name.starts_with(begin)).cloned().collect()
    }

    /// Changes the bytes of a file behind everyone's back, durably.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        inode.sync();
        change(&mut inode.durable);
        inode.now = inode.durable.clone();
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let state = self.lock();
        state.inodes[state.names[path]].now.clone()
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The name of a directory in the map of names.
fn dir_name(dir: &str) -> String {
    format!("{dir}/")
}

impl Disk for SimDisk {
    fn open(&self, path: &str, how: How) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        state.alive()?;
        let dir = parent(path);
        if !dir.is_empty() && !state.names.contains_key(&dir_name(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None if how == How::Existing => return Err(io::ErrorKind::NotFound.into()),
            None => {
                state.room()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.rename(Naming::Set(path.to_owned(), inode));
                inode
            }
        };
        if how == How::Empty {
            let file = &mut state.inodes[inode];
            file.now.clear();
            file.unsynced.push(Write::Len(0));
        }
        Ok(Arc::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.alive()?;
        if !dir.is_empty() && !state.names.contains_key(&dir_name(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().map(|name| name.trim_end_matches('/'));
        let inside = names.filter(|name| parent(name) == dir && !name.is_empty());
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()).collect())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if !state.names.contains_key(&dir_name(dir)) {
            state.room()?;
            state.rename(Naming::Set(dir_name(dir), usize::MAX));
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(Naming::Unset(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if state.names.keys().any(|name| name.len() > dir.len() + 1 && parent(name) == dir) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.rename(Naming::Unset(dir_name(dir)));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.alive()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.sync()?;
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.sync()?;
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        state.inodes.iter_mut().for_each(Inode::sync);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let state = self.lock();
        state.alive()?;
        Ok(state.free.unwrap_or(1 << 40))
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.lock();
        state.alive()?;
        let bytes = &state.inodes[self.inode].now;
        let from = bytes.len().min(at as usize);
        let read = buffer.len().min(bytes.len() - from);
        buffer[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let inode = &state.inodes[self.inode];
        let longer = at as usize + bytes.len() > inode.now.len();
        // What has its place can be overwritten on a full disk.
        if longer {
            state.room()?
        } else {
            state.alive()?
        }
        let inode = &mut state.inodes[self.inode];
        let write = Write::Bytes(at as usize, bytes.to_vec());
        write.apply(&mut inode.now);
        inode.unsynced.push(write);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.lock();
        state.alive()?;
        Ok(state.inodes[self.inode].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let before = state.inodes[self.inode].now.len();
        if len as usize > before {
            state.room()?
        } else {
            state.alive()?
        }
        if state.taken && state.free == Some(0) {
            state.free = Some((before as u64).saturating_sub(len));
        }
        let inode = &mut state.inodes[self.inode];
        inode.now.resize(len as usize, 0);
        inode.unsynced.push(Write::Len(len as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.sync()?;
        let fails = state.fail_sync_at == Some(state.syncs);
        let inode = &mut state.inodes[self.inode];
        if fails {
            // As kernels do: the pages count as clean, and their bytes never arrive.
            inode.unsynced.clear();
            return Err(io::Error::from_raw_os_error(5));
        }
        inode.sync();
        Ok(())
    }
}
