//! A call in a worker's hands.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tollgate_protocol::{Pairs, id::BatchId};

use super::{call::Cell, state::RecipeId};
use crate::batch::Slot;

/// A call that a worker was given and has not answered.
pub(super) struct Lease {
    /// None once nobody wants its answer any more.
    pub cell: Option<Arc<Cell>>,
    /// None once it was given back.
    pub slot: Option<Slot>,
    pub recipe: RecipeId,
    pub tenant: u32,
    pub weight: u32,
    /// What the tenant was charged, in nanoseconds.
    pub charged: u64,
    pub attempt: u32,
    pub since: Instant,
    /// When its last report was passed on.
    pub reported: Option<Instant>,
    /// The newest report that came too soon after it: passed on with the answer.
    pub held: Option<Held>,
}

/// A report that is held back.
pub(super) struct Held {
    pub done: u64,
    pub total: u64,
    pub message: String,
}

/// What a worker is to be told next.
pub(crate) enum Outgoing {
    /// Run this.
    Dispatch(Dispatch),
    /// Nobody wants the answer of this lease any more.
    Cancel(u64),
}

/// A call on its way to a worker.
pub(crate) struct Dispatch {
    pub(super) cell: Arc<Cell>,
    pub lease: u64,
    /// The recipe's number on the worker's stream.
    pub recipe: u32,
    pub attempt: u32,
}

impl Dispatch {
    /// How long the attempt may run, in milliseconds, at least 1.
    pub(crate) fn timeout_ms(&self) -> u64 {
        u64::try_from(self.cell.task.timeout.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn item_id(&self) -> u64 {
        self.cell.task.ctx.item_id()
    }

    pub(crate) fn batch_id(&self) -> BatchId {
        self.cell.task.ctx.batch_id()
    }

    pub(crate) fn tenant(&self) -> &str {
        self.cell.task.ctx.tenant().as_str()
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.cell.task.ctx.traceparent()
    }

    pub(crate) fn metadata(&self) -> Pairs<'_> {
        self.cell.task.ctx.metadata()
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.cell.task.payload
    }
}
