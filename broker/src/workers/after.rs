//! What is done once the state is unlocked: waking, giving back slots, dropping what others own.

use std::{sync::Arc, task::Waker};

use super::{
    call::Cell,
    lease::{Held, Outgoing},
};
use crate::batch::{Begun, Mailbox, Returned, Slot};

/// Things to do, or to drop, under no lock.
#[derive(Default)]
pub(super) struct After {
    /// Reports that go before the outcomes of their calls.
    pub reports: Vec<(Arc<Cell>, u32, Held)>,
    /// Calls that ended, and beside each what goes to its batch.
    pub ended: Vec<Arc<Cell>>,
    pub returned: Vec<Returned>,
    pub wakers: Vec<Waker>,
    /// Giving one back looks for work for it, which takes the lock.
    pub slots: Vec<Slot>,
    /// Payloads are others' values.
    pub cells: Vec<Arc<Cell>>,
    pub outgoing: Vec<Outgoing>,
    /// Attempts that begin, whose count somebody keeps.
    pub begun: Vec<Begun>,
    pub mailboxes: Vec<Arc<Mailbox>>,
}

impl After {
    /// A call ended.
    pub(super) fn ends(&mut self, cell: Arc<Cell>, returned: Returned) {
        self.ended.push(cell);
        self.returned.push(returned);
    }

    /// So many calls are about to end.
    pub(super) fn expect(&mut self, n: usize) {
        self.ended.reserve(n);
        self.returned.reserve(n);
        self.slots.reserve(n);
    }

    pub(super) fn happen(mut self) {
        for (cell, attempt, held) in &self.reports {
            let waker = cell.reports(*attempt, held, true);
            waker.into_iter().for_each(Waker::wake);
        }
        self.begun.iter().for_each(|begun| begun());
        self.give_back_ended();
        self.wakers.into_iter().for_each(Waker::wake);
        self.mailboxes.iter().for_each(|m| m.nudge());
        drop(self.slots);
    }

    /// Those of one batch, which mostly end together, are given to it together.
    fn give_back_ended(&mut self) {
        let mut returned = self.returned.drain(..);
        let same_batch = |a: &Arc<Cell>, b: &Arc<Cell>| {
            Arc::ptr_eq(&a.task.common.returns, &b.task.common.returns)
        };
        for these in self.ended.chunk_by(same_batch) {
            let returns = &these[0].task.common.returns;
            let waker = returns.put(returned.by_ref().take(these.len()));
            self.wakers.extend(waker);
        }
    }
}
