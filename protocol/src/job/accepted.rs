//! What the broker says of the numbered frames: that an item is a job now, that some are lost.

use crate::{
    batch::Number,
    codec::{Reader, Result, put_bool, put_option, put_str, put_u64},
    id::JobId,
    limits,
    pairs::Extensions,
};

/// An item became a job, which is on stable storage: only an explicit cancel ends it early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobAccepted<'a> {
    /// Which item.
    pub id: u64,
    /// Gateways only: whose it is.
    pub tenant: Option<&'a str>,
    /// The broker's name for the job.
    pub job_id: JobId,
    /// Whether the job was there before: its idempotency key named it, or the batch that is
    /// resumed already had the item.
    pub existing: bool,
    /// Its place among the durable outcomes.
    pub number: Number,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> JobAccepted<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(JobAccepted {
            id: r.u64("id")?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            job_id: JobId(r.array("job_id")?),
            existing: r.bool("existing")?,
            number: Number::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        put_option(out, self.tenant, put_str);
        out.extend_from_slice(&self.job_id.0);
        put_bool(out, self.existing);
        self.number.put(out);
        self.extensions.put(out);
    }
}

/// The number space that a reader knew was lost: numbered frames may be missing, and all that is
/// kept follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap<'a> {
    /// The epoch of every number from here on.
    pub epoch: u64,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Gap<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Gap { epoch: r.u64("epoch")?, extensions: Extensions::read(r)? })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.epoch);
        self.extensions.put(out);
    }
}
