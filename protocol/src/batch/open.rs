//! How a batch begins: what the client asks for, what the broker grants.

use super::plain_enum;
use crate::{
    codec::{DecodeError, Problem, Reader, Result, put_option, put_str, put_u64},
    id::BatchId,
    limits,
    pairs::Extensions,
};

plain_enum! {
    /// Whether a batch outlives its connection.
    Durability, "durability" {
        /// Losing the connection cancels it.
        Ephemeral = 0,
        /// Its items are jobs, on stable storage before they are accepted.
        Durable = 1,
    }
}

plain_enum! {
    /// What one item's failure means for the others.
    Mode, "mode" {
        /// Nothing: each item ends by itself.
        BestEffort = 0,
        /// The first failure cancels what has not started.
        FailFast = 1,
    }
}

plain_enum! {
    /// In which order results come back.
    Order, "order" {
        /// As each item finishes.
        Completion = 0,
        /// In the order of the requests.
        Submission = 1,
    }
}

/// Opens a batch: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOpen<'a> {
    /// The client's name for the batch.
    pub batch_id: BatchId,
    /// Gateways only: the tenant for whom every item is, unless the item names its own.
    pub tenant: Option<&'a str>,
    /// Whether the batch outlives its connection.
    pub durability: Durability,
    /// What one item's failure means for the others.
    pub mode: Mode,
    /// In which order results come back.
    pub order: Order,
    /// The most items to run at once; 0 leaves it to the broker.
    pub concurrency_max: u32,
    /// How long the batch may take from its opening, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// From 0 to 7, 7 first.
    pub priority: u8,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl BatchOpen<'_> {
    /// An ephemeral batch with every choice left at its default.
    pub fn new(batch_id: BatchId) -> Self {
        BatchOpen {
            batch_id,
            tenant: None,
            durability: Durability::Ephemeral,
            mode: Mode::BestEffort,
            order: Order::Completion,
            concurrency_max: 0,
            deadline_ms: None,
            priority: limits::PRIORITY_DEFAULT,
            traceparent: None,
            extensions: Extensions::EMPTY,
        }
    }
}

impl<'a> BatchOpen<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(BatchOpen {
            batch_id: BatchId(r.array("batch_id")?),
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            durability: Durability::read(r)?,
            mode: Mode::read(r)?,
            order: Order::read(r)?,
            concurrency_max: r.u32("concurrency_max")?,
            deadline_ms: r.option("deadline_ms", |r| r.u64("deadline_ms"))?,
            priority: read_priority(r)?,
            traceparent: r
                .option("traceparent", |r| r.str("traceparent", limits::TRACEPARENT_BYTES_MAX))?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.batch_id.0);
        put_option(out, self.tenant, put_str);
        self.durability.put(out);
        self.mode.put(out);
        self.order.put(out);
        put_u64(out, self.concurrency_max.into());
        put_option(out, self.deadline_ms, put_u64);
        out.push(self.priority);
        put_option(out, self.traceparent, put_str);
        self.extensions.put(out);
    }
}

fn read_priority(r: &mut Reader<'_>) -> Result<u8> {
    match r.u8("priority")? {
        p if p <= limits::PRIORITY_MAX => Ok(p),
        p => {
            let problem = Problem::OutOfRange { found: p.into(), max: limits::PRIORITY_MAX.into() };
            Err(DecodeError::new("priority", problem))
        }
    }
}

/// What the broker granted to a batch: its first frame on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// How many items run at once at most.
    pub concurrency_max: u32,
    /// How many items the batch may have.
    pub items_max: u64,
    /// The largest frame the broker reads, in bytes after the prefix.
    pub frame_bytes_max: u32,
    /// The largest payload the tenant may send in one item, in bytes.
    pub payload_bytes_max: u64,
    /// The deadline that applies, in milliseconds from the opening.
    pub deadline_ms: Option<u64>,
    /// A batch that goes on: the highest item id already accepted.
    pub last_id: Option<u64>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Accepted<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Accepted {
            concurrency_max: r.u32("concurrency_max")?,
            items_max: r.u64("items_max")?,
            frame_bytes_max: r.u32("frame_bytes_max")?,
            payload_bytes_max: r.u64("payload_bytes_max")?,
            deadline_ms: r.option("deadline_ms", |r| r.u64("deadline_ms"))?,
            last_id: r.option("last_id", |r| r.u64("last_id"))?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.concurrency_max.into());
        put_u64(out, self.items_max);
        put_u64(out, self.frame_bytes_max.into());
        put_u64(out, self.payload_bytes_max);
        put_option(out, self.deadline_ms, put_u64);
        put_option(out, self.last_id, put_u64);
        self.extensions.put(out);
    }
}
