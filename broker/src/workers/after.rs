//! What is done once the state is unlocked: waking, giving back slots, dropping what others own.

use std::{sync::Arc, task::Waker};

use super::{call::Cell, lease::Outgoing};
use crate::batch::{Mailbox, Slot};

/// Things to do, or to drop, under no lock.
#[derive(Default)]
pub(super) struct After {
    pub wakers: Vec<Waker>,
    /// Giving one back looks for work for it, which takes the lock.
    pub slots: Vec<Slot>,
    /// Payloads and contexts are others' values.
    pub cells: Vec<Arc<Cell>>,
    pub outgoing: Vec<Outgoing>,
    pub mailboxes: Vec<Arc<Mailbox>>,
}

impl After {
    pub(super) fn happen(self) {
        self.wakers.into_iter().for_each(Waker::wake);
        self.mailboxes.iter().for_each(|m| m.nudge());
        drop(self.slots);
    }
}
