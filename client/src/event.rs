//! What a batch tells while it runs: events, owned and borrowed.
//!
//! [`EventRef`] borrows from the bytes that arrived; [`Event`] is its copy, for those who keep it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tollgate_protocol::{
    batch::{self, Ended, NoticeKind, Number, Scope},
    id::JobId,
    job,
};

use crate::item::{ItemResult, Metadata};

/// Something that a batch told.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// What the broker granted: comes first, once.
    Accepted(Accepted),
    /// An item became a job: from here on only an explicit cancellation ends it early.
    JobAccepted(JobAccepted),
    /// How far an item has come: newest wins, so some may be skipped.
    Progress(Progress),
    /// The end of an item.
    Result(ItemResult),
    /// The broker reads the batch no further for now, because a rate is used up.
    Throttled(Throttled),
    /// Something is about to happen to the connection.
    Notice(Notice),
    /// The end of the batch: always last.
    Summary(Summary),
}

impl Event {
    pub(crate) fn own(event: &EventRef<'_>, backing: Option<&Bytes>) -> Self {
        match event {
            EventRef::Accepted(x) => Event::Accepted(Accepted::own(x)),
            EventRef::JobAccepted(x) => Event::JobAccepted(JobAccepted::own(x)),
            EventRef::Progress(x) => Event::Progress(Progress::own(x)),
            EventRef::Result(x) => Event::Result(ItemResult::own(x, backing)),
            EventRef::Throttled(x) => Event::Throttled(Throttled::own(x)),
            EventRef::Notice(x) => Event::Notice(Notice::own(x)),
            EventRef::Summary(x) => Event::Summary((*x).clone()),
        }
    }

    pub(crate) fn borrow(&self) -> EventRef<'_> {
        match self {
            Event::Accepted(x) => EventRef::Accepted(x.borrow()),
            Event::JobAccepted(x) => EventRef::JobAccepted(x.borrow()),
            Event::Progress(x) => EventRef::Progress(x.borrow()),
            Event::Result(x) => EventRef::Result(x.borrow()),
            Event::Throttled(x) => EventRef::Throttled(x.borrow()),
            Event::Notice(x) => EventRef::Notice(x.borrow()),
            Event::Summary(x) => EventRef::Summary(x),
        }
    }
}

/// Something that a batch told, borrowed from the bytes that arrived: the fields are those of the
/// frame on the wire.
#[derive(Debug)]
#[non_exhaustive]
pub enum EventRef<'a> {
    /// As [`Event::Accepted`].
    Accepted(batch::Accepted<'a>),
    /// As [`Event::JobAccepted`].
    JobAccepted(job::JobAccepted<'a>),
    /// As [`Event::Progress`].
    Progress(batch::Progress<'a>),
    /// As [`Event::Result`].
    Result(batch::ItemResult<'a>),
    /// As [`Event::Throttled`].
    Throttled(batch::Throttled<'a>),
    /// As [`Event::Notice`].
    Notice(batch::Notice<'a>),
    /// As [`Event::Summary`].
    Summary(&'a Summary),
}

/// What the broker granted to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// How many items run at once at most.
    pub concurrency_max: u32,
    /// How many items the batch may have; each beyond it fails with `BATCH_TOO_LARGE`.
    pub items_max: u64,
    /// The largest frame the broker reads, in bytes: an item's payload and some 20 bytes more.
    pub frame_bytes_max: u32,
    /// The largest payload of one item, in bytes.
    pub payload_bytes_max: u64,
    /// The deadline that applies, from the opening of the batch.
    pub deadline: Option<Duration>,
    /// Of a durable batch that was opened before: the highest item id that is accepted.
    pub last_id: Option<u64>,
}

impl Accepted {
    fn own(x: &batch::Accepted<'_>) -> Self {
        Accepted {
            concurrency_max: x.concurrency_max,
            items_max: x.items_max,
            frame_bytes_max: x.frame_bytes_max,
            payload_bytes_max: x.payload_bytes_max,
            deadline: x.deadline_ms.map(Duration::from_millis),
            last_id: x.last_id,
        }
    }

    fn borrow(&self) -> batch::Accepted<'_> {
        batch::Accepted {
            concurrency_max: self.concurrency_max,
            items_max: self.items_max,
            frame_bytes_max: self.frame_bytes_max,
            payload_bytes_max: self.payload_bytes_max,
            deadline_ms: self.deadline.map(millis),
            last_id: self.last_id,
            extensions: tollgate_protocol::Extensions::EMPTY,
        }
    }
}

/// An item that became a job, which is on the broker's stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAccepted {
    /// Which item.
    pub id: u64,
    /// Gateways only: the tenant it is for.
    pub tenant: Option<Box<str>>,
    /// The broker's name for the job.
    pub job_id: JobId,
    /// Whether the job was there before: its idempotency key named it, or the batch had the item.
    pub existing: bool,
    /// Its place among the tenant's durable outcomes.
    pub number: Number,
}

impl JobAccepted {
    pub(crate) fn own(x: &job::JobAccepted<'_>) -> Self {
        JobAccepted {
            id: x.id,
            tenant: x.tenant.map(Into::into),
            job_id: x.job_id,
            existing: x.existing,
            number: x.number,
        }
    }

    fn borrow(&self) -> job::JobAccepted<'_> {
        job::JobAccepted {
            id: self.id,
            tenant: self.tenant.as_deref(),
            job_id: self.job_id,
            existing: self.existing,
            number: self.number,
            extensions: tollgate_protocol::Extensions::EMPTY,
        }
    }
}

/// How far an item has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which item.
    pub id: u64,
    /// Which attempt, from 1; `done` never falls within one.
    pub attempt: u32,
    /// What is done, in units of the recipe's choice.
    pub done: u64,
    /// What there is to do in all; 0 when that is not known.
    pub total: u64,
    /// When it was reported, by the broker's clock.
    pub at: SystemTime,
    /// For people.
    pub message: Box<str>,
    /// From the recipe.
    pub metadata: Metadata,
}

impl Progress {
    /// `done` of `total` in per cent, from 0 to 100; `None` when the total is not known.
    pub fn percent(&self) -> Option<f64> {
        (self.total > 0).then(|| (self.done as f64 / self.total as f64 * 100.0).min(100.0))
    }

    pub(crate) fn own(x: &batch::Progress<'_>) -> Self {
        Progress {
            id: x.id,
            attempt: x.attempt,
            done: x.done,
            total: x.total,
            at: unix(x.at_unix_ms),
            message: x.message.into(),
            metadata: Metadata::own(&x.metadata),
        }
    }

    fn borrow(&self) -> batch::Progress<'_> {
        batch::Progress {
            id: self.id,
            attempt: self.attempt,
            done: self.done,
            total: self.total,
            at_unix_ms: unix_ms(self.at),
            message: &self.message,
            metadata: self.metadata.0.as_pairs(),
        }
    }
}

/// The broker reads a batch no further for now, because a rate is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttled {
    /// The quota's name.
    pub quota: Box<str>,
    /// Whose limit it is.
    pub scope: Scope,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed, in the quota's unit.
    pub limit: u64,
    /// In how long reading goes on, at the earliest.
    pub resume_in: Duration,
}

impl Throttled {
    fn own(x: &batch::Throttled<'_>) -> Self {
        Throttled {
            quota: x.quota.into(),
            scope: x.scope,
            current: x.current,
            limit: x.limit,
            resume_in: Duration::from_millis(x.resume_ms),
        }
    }

    fn borrow(&self) -> batch::Throttled<'_> {
        batch::Throttled {
            quota: &self.quota,
            scope: self.scope,
            current: self.current,
            limit: self.limit,
            resume_ms: millis(self.resume_in),
        }
    }
}

/// Something that is about to happen to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is.
    pub kind: NoticeKind,
    /// When it happens, by the broker's clock.
    pub at: SystemTime,
    /// For people.
    pub message: Box<str>,
}

impl Notice {
    pub(crate) fn own(x: &batch::Notice<'_>) -> Self {
        Notice { kind: x.kind, at: unix(x.at_unix_ms), message: x.message.into() }
    }

    fn borrow(&self) -> batch::Notice<'_> {
        batch::Notice { kind: self.kind, at_unix_ms: unix_ms(self.at), message: &self.message }
    }
}

/// The end of a batch, as the broker counts it.
///
/// Items that were refused on this side of the wire never reached the broker and are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What ended the batch.
    pub ended: Ended,
    /// Items read.
    pub total: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// Items that failed: how many with each number of the table of codes.
    pub failed: Vec<(u16, u64)>,
    /// The last item id that was read: items above it never started.
    pub last_id_read: Option<u64>,
    /// From the opening of the batch to here.
    pub duration: Duration,
    /// Payload bytes that the broker read.
    pub bytes_in: u64,
    /// Payload bytes of results.
    pub bytes_out: u64,
    /// How long the broker did not read because a rate was used up.
    pub throttled: Duration,
    /// Its place among the tenant's durable outcomes; (0, 0) when the batch is not durable.
    pub number: Number,
}

impl Summary {
    /// Items that failed, whatever their code.
    pub fn failed_total(&self) -> u64 {
        self.failed.iter().map(|(_, n)| n).sum()
    }

    pub(crate) fn own(x: &batch::Summary<'_>) -> Self {
        Summary {
            ended: x.ended,
            total: x.total,
            succeeded: x.succeeded,
            failed: x.failed.clone(),
            last_id_read: x.last_id_read,
            duration: Duration::from_micros(x.duration_us),
            bytes_in: x.bytes_in,
            bytes_out: x.bytes_out,
            throttled: Duration::from_micros(x.throttled_us),
            number: x.number,
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A time too far off for the platform reads as the epoch: it is the broker's word, not ours.
pub(crate) fn unix(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(crate) fn unix_ms(t: SystemTime) -> u64 {
    t.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}
