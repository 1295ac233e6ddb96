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
    /// Calls that ended, and what goes to their batches.
    pub ended: Vec<(Arc<Cell>, Option<Returned>)>,
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
        let mut left = &mut self.ended[..];
        while let Some((first, _)) = left.first() {
            let returns = first.task.common.returns.clone();
            let alike =
                |(cell, _): &&mut (Arc<Cell>, _)| Arc::ptr_eq(&cell.task.common.returns, &returns);
            let n = left.iter_mut().take_while(alike).count();
            let (these, others) = left.split_at_mut(n);
            let waker = returns.put(these.iter_mut().filter_map(|(_, returned)| returned.take()));
            self.wakers.extend(waker);
            left = others;
        }
    }
}
