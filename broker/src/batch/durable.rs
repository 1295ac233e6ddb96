//! The port for items that outlive their batch: whoever implements it keeps them, runs them, and
//! tells what becomes of them.
//!
//! The engine hands an item over and forgets its payload; what it is told later comes through the
//! batch's [`Line`]. Nothing here knows how anything is kept.

use std::{
    sync::{Arc, OnceLock, Weak},
    task::{Context as Poller, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tollgate_protocol::{
    PairsBuf,
    batch::{Ended, Number, Summary},
    id::{BatchId, JobId, RecipeName},
};

use super::{
    context::Report,
    outcome::{Failure, Head, Outcome},
};
use crate::tenancy::{BytesPermit, Tenant};

/// Where items become jobs.
pub(crate) trait Durable: Send + Sync {
    /// The way of a batch's items for one tenant, and the way back.
    fn line(self: Arc<Self>, tenant: &Arc<Tenant>, of: Of) -> Box<dyn Line>;

    /// Items of recipes that usually take this long become jobs.
    fn async_threshold(&self) -> Duration;
}

/// Of which batch jobs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of {
    /// Its id.
    pub batch: BatchId,
    /// Whether it was opened to outlive its connection.
    pub durable: bool,
}

/// An item that is to become a job.
pub(crate) struct NewJob {
    pub item: u64,
    pub recipe: RecipeName,
    pub priority: u8,
    pub timeout: Option<Duration>,
    /// Until when it must have been started.
    pub deadline: Option<SystemTime>,
    /// When it may start, in Unix milliseconds.
    pub not_before: Option<u64>,
    pub key: Option<Box<str>>,
    pub metadata: PairsBuf,
    pub traceparent: Option<Box<str>>,
    pub payload: Bytes,
    /// Its room among the tenant's bytes in flight, until it is kept.
    pub room: BytesPermit,
}

/// What becomes of jobs.
#[derive(Debug)]
pub(crate) enum Told {
    /// The item is a job, and kept.
    Accepted(Accepted),
    /// The item did not become a job.
    Refused {
        /// Which item.
        item: u64,
        /// Why.
        failure: Failure,
    },
    /// The batch has the item with another payload or recipe: that one stands, and is counted.
    Contradicts {
        /// Which item.
        item: u64,
        /// What is said against the new one.
        failure: Failure,
    },
    /// A job has come so far.
    Progress(Report),
    /// A job is over.
    Ended(Box<JobEnd>),
    /// Every job of a sealed durable batch is over.
    Over(Box<Summary<'static>>),
    /// Nothing is kept any more: what is to come will never be told.
    Lost(Failure),
}

/// An item that is a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Which item.
    pub item: u64,
    /// Its job.
    pub job: JobId,
    /// Whether there was one already.
    pub existing: bool,
    /// Its number; none when the job is another item's, of this batch or another.
    pub number: Number,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct JobEnd {
    /// The item that it is the result of.
    pub item: u64,
    /// Its number.
    pub number: Number,
    pub attempts: u32,
    pub queued: Duration,
    pub duration: Duration,
    pub outcome: Outcome,
}

impl JobEnd {
    /// What stands before the outcome in its result; the tenant only on a gateway's stream.
    pub(crate) fn head<'a>(&self, tenant: Option<&'a str>) -> Head<'a> {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Head {
            id: self.item,
            tenant,
            attempts: self.attempts,
            queued_us: us(self.queued),
            duration_us: us(self.duration),
            number: self.number,
        }
    }
}

/// The way of a batch's items to their jobs. Dropping it changes nothing about them.
pub(crate) trait Line: Send {
    /// Hands an item over.
    ///
    /// # Errors
    /// What stands against it at once; else it is told later.
    fn submit(&mut self, job: NewJob) -> Result<(), Failure>;

    /// Gives up the jobs of the batch: those that do not run, or all.
    fn cancel(&mut self, all: bool);

    /// Nothing more comes into a durable batch: what ended it, the last item read, and how items
    /// ended that are no jobs of its own, by code.
    fn seal(&mut self, ended: Ended, last_item: Option<u64>, elsewhere: &[(u16, u64)]);

    /// The next of what becomes of them.
    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Told>;
}

/// The place of the port in the engine: set once, when both are there. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Durables(Arc<OnceLock<(Weak<dyn Durable>, Duration)>>);

impl Durables {
    /// From now on there are jobs. The first call counts.
    pub(crate) fn set(&self, durable: Weak<dyn Durable>) {
        let threshold = durable.upgrade().map_or(Duration::MAX, |d| d.async_threshold());
        // There is one broker.
        let _ = self.0.set((durable, threshold));
    }

    /// Whether items of a recipe that usually takes this long become jobs.
    pub(crate) fn are_for(&self, estimated: Duration) -> bool {
        self.0.get().is_some_and(|(_, threshold)| estimated >= *threshold)
    }

    /// The way for a tenant's jobs of a batch, if there are jobs here.
    pub(crate) fn line(&self, tenant: &Arc<Tenant>, of: Of) -> Option<Box<dyn Line>> {
        Some(self.0.get()?.0.upgrade()?.line(tenant, of))
    }
}
