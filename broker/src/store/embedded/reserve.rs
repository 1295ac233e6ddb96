//! Room on the disk that redb gets when there is no other: a file full of zeros, let go in time.
//!
//! redb does not go on after a write that failed in the middle. So when the disk fills up while it
//! writes, this file gives its room back and the write is done again. Until the room is taken anew,
//! nothing more is asked of redb.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    disk::{Disk, How, is_full},
    journal::zero,
};

/// The file's name.
const FILE: &str = "reserve";

/// The room. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Reserve(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    bytes: u64,
    /// Whether it is taken.
    there: AtomicBool,
}

impl Reserve {
    /// So much room, not taken yet.
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64) -> Reserve {
        Reserve(Arc::new(Inner { disk, bytes, there: AtomicBool::new(false) }))
    }

    /// Takes the room, if it is not taken.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take(&self) -> io::Result<()> {
        let Inner { disk, bytes, there } = &*self.0;
        if there.load(Ordering::Acquire) {
            return Ok(());
        }
        let file = disk.open(FILE, How::Create)?;
        let taken = match file.len()? {
            len if len == *bytes => Ok(()),
            _ => zero(&*file, 0, *bytes).and_then(|()| file.set_len(*bytes)),
        };
        if let Err(error) = taken {
            // Half of it is of no use to anyone.
            file.set_len(0)?;
            return Err(error);
        }
        there.store(true, Ordering::Release);
        Ok(())
    }

    /// Does something on the disk; when that finds no room, gives this room back and does it again.
    pub(super) fn lend(&self, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match work() {
            Err(error) if is_full(&error) && self.give_back()? => {
                tracing::warn!("the disk is full: the store's reserve was used");
                work()
            }
            done => done,
        }
    }

    /// Gives the room back; false when it was not there.
    fn give_back(&self) -> io::Result<bool> {
        if !self.0.there.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        self.0.disk.open(FILE, How::Existing)?.set_len(0)?;
        Ok(true)
    }
}
