//! What is done once the state is unlocked: waking, giving back slots, dropping what others own.

use std::{sync::Arc, task::Waker};

use super::{
    call::Cell,
    lease::{Held, Outgoing},
};
use crate::batch::{Begun, Mailbox, Slot};

/// Things to do, or to drop, under no lock.
#[derive(Default)]
pub(super) struct After {
    /// Reports that go before the outcomes of their calls.
    pub reports: Vec<(Arc<Cell>, u32, Held)>,
    pub wakers: Vec<Waker>,
    /// Giving one back looks for work for it, which takes the lock.
    pub slots: Vec<Slot>,
    /// Payloads and contexts are others' values.
    pub cells: Vec<Arc<Cell>>,
    pub outgoing: Vec<Outgoing>,
    /// Attempts that begin, whose count somebody keeps.
    pub begun: Vec<Begun>,
    pub mailboxes: Vec<Arc<Mailbox>>,
}

impl After {
    pub(super) fn happen(self) {
        for (cell, attempt, held) in self.reports {
            cell.task.ctx.as_attempt(attempt).progress(held.done, held.total, &held.message);
        }
        self.begun.iter().for_each(|begun| begun());
        self.wakers.into_iter().for_each(Waker::wake);
        self.mailboxes.iter().for_each(|m| m.nudge());
        drop(self.slots);
    }
}
