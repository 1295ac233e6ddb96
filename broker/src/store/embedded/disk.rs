//! The little of a file system that the store needs, as a seam: the real one here, one that loses
//! what was not synced in the tests.
//!
//! Paths are below the store's directory. Knows nothing of what is in the files.

use std::{
    fmt, fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A directory, and what lies in it.
pub(in crate::store) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file to read and write.
    fn open(&self, path: &str, how: How) -> io::Result<Arc<dyn File>>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory; one that is there is fine.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Deletes an empty directory.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Gives a file another name, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes everything durable that was written anywhere.
    fn sync_all(&self) -> io::Result<()>;
    /// Bytes that are free.
    fn free(&self) -> io::Result<u64>;
    /// Where it is, for messages.
    fn root(&self) -> &Path;
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum How {
    /// It must be there.
    Existing,
    /// It is made when it is not there.
    Create,
    /// It is empty afterwards, whatever it was.
    Empty,
}

/// An open file.
pub(in crate::store) trait File: fmt::Debug + Send + Sync {
    /// Reads until the buffer is full or the file ends; gives how much.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of it.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts it, or adds zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable, and its length.
    fn sync(&self) -> io::Result<()>;
}

/// Whether an error says that the disk is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The file system.
#[derive(Debug)]
pub(super) struct RealDisk {
    root: PathBuf,
    /// Kept open: what `sync_all` and `free` are asked about.
    dir: fs::File,
}

impl RealDisk {
    /// The directory, which is made when it is not there.
    pub(super) fn new(root: &Path) -> io::Result<RealDisk> {
        fs::create_dir_all(root)?;
        Ok(RealDisk { root: root.to_owned(), dir: fs::File::open(root)? })
    }

    /// Takes the directory for this process; `None` when another has it. It is given back when the
    /// file is closed, however the process ends.
    pub(super) fn lock(&self) -> io::Result<Option<fs::File>> {
        let path = self.root.join("LOCK");
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, how: How) -> io::Result<Arc<dyn File>> {
        let mut options = fs::File::options();
        options.read(true).write(true);
        match how {
            How::Existing => &mut options,
            How::Create => options.create(true).truncate(false),
            How::Empty => options.create(true).truncate(true),
        };
        Ok(Arc::new(options.open(self.root.join(path))?))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            // What is not text is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        match fs::create_dir(self.root.join(dir)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        fs::remove_dir(self.root.join(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.root.join(dir))?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.dir)?)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match FileExt::read_at(self, &mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
