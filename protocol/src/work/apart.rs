//! Payloads too large for a stream of work: each travels on a stream of its own, in raw bytes.

use crate::{
    codec::{Reader, Result, put_u64},
    pairs::Pairs,
};

/// Asks for the payload of a lease that was dispatched apart: the only frame of its stream. The
/// answer is the payload's bytes and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The stream of work, by its QUIC stream id.
    pub work: u64,
    /// The lease.
    pub lease: u64,
}

impl Fetch {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Fetch { work: r.u64("work")?, lease: r.u64("lease")? })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.work);
        put_u64(out, self.lease);
    }
}

/// Answers a lease with a large payload: the only frame of its stream. Exactly `size` raw bytes
/// follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// The stream of work, by its QUIC stream id.
    pub work: u64,
    /// The lease.
    pub lease: u64,
    /// How many bytes the payload has.
    pub size: u64,
    /// For whoever asked.
    pub metadata: Pairs<'a>,
}

impl<'a> Deliver<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Deliver {
            work: r.u64("work")?,
            lease: r.u64("lease")?,
            size: r.u64("size")?,
            metadata: Pairs::read("metadata", r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.work);
        put_u64(out, self.lease);
        put_u64(out, self.size);
        self.metadata.put(out);
    }
}
