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
    pub attempt: u32,
    /// What the tenant was charged, in nanoseconds; none when nobody else waited for the workers, so
    /// that it owes and is owed nothing.
    pub charged: Option<u64>,
    /// Since when, in nanoseconds since the start.
    pub since_ns: u64,
    /// What the worker said of its progress, if it said anything: apart, as few do.
    pub reported: Option<Box<Reported>>,
}

/// The progress of a call.
pub(super) struct Reported {
    /// When the last report was passed on.
    pub at: Instant,
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
        self.cell.task.item_id
    }

    pub(crate) fn batch_id(&self) -> BatchId {
        self.cell.task.common.shared.batch_id
    }

    pub(crate) fn tenant(&self) -> &str {
        self.cell.task.common.tenant.id().as_str()
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.cell.task.common.shared.trace.traceparent.as_deref()
    }

    pub(crate) fn metadata(&self) -> Pairs<'_> {
        self.cell.task.metadata.as_ref().map_or(Pairs::EMPTY, |m| m.as_pairs())
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.cell.task.payload
    }
}
