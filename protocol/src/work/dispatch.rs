//! One call, as the broker hands it to a worker.

use super::answer::of_lease;
use crate::{
    codec::{Reader, Result, put_option, put_str, put_u64},
    id::BatchId,
    limits,
    pairs::Pairs,
};

/// A call to run. The payload is the last field, so that everything else is judged before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatch<'a> {
    /// By what the worker names the call on this stream: 1, 2, 3, ...
    pub lease: u64,
    /// The recipe, by the number that its `Registered` gave.
    pub recipe: u32,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// The item's id in its batch.
    pub item_id: u64,
    /// The batch.
    pub batch_id: BatchId,
    /// Whose item it is.
    pub tenant: &'a str,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// From whoever asks.
    pub metadata: Pairs<'a>,
    /// The payload's length when it is not here but waits to be fetched.
    pub apart: Option<u64>,
    /// The input, of at most [`limits::WORK_INLINE_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> Dispatch<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        of_lease(r, |lease, r| {
            Ok(Dispatch {
                lease,
                recipe: r.u32("recipe")?,
                attempt: r.u32("attempt")?,
                timeout_ms: r.u64("timeout_ms")?,
                item_id: r.u64("item_id")?,
                batch_id: BatchId(r.array("batch_id")?),
                tenant: r.str("tenant", limits::TENANT_ID_BYTES_MAX)?,
                traceparent: r.option("traceparent", |r| {
                    r.str("traceparent", limits::TRACEPARENT_BYTES_MAX)
                })?,
                metadata: Pairs::read("metadata", r)?,
                apart: r.option("apart", |r| r.u64("apart"))?,
                payload: r.bytes("payload", limits::WORK_INLINE_BYTES_MAX)?,
            })
        })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.put_before_payload(self.payload.len(), out);
        out.extend_from_slice(self.payload);
    }

    /// Everything up to a payload of `payload_len` bytes.
    #[inline]
    pub(crate) fn put_before_payload(&self, payload_len: usize, out: &mut Vec<u8>) {
        put_u64(out, self.lease);
        put_u64(out, self.recipe.into());
        put_u64(out, self.attempt.into());
        put_u64(out, self.timeout_ms);
        put_u64(out, self.item_id);
        out.extend_from_slice(&self.batch_id.0);
        put_str(out, self.tenant);
        put_option(out, self.traceparent, put_str);
        self.metadata.put(out);
        put_option(out, self.apart, put_u64);
        put_u64(out, payload_len as u64);
    }
}
