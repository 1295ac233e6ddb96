//! How a stream that reads on from a job or a batch begins.

use crate::{
    batch::Number,
    codec::{DecodeError, Problem, Reader, Result, put_bool, put_option, put_str},
    id::{BatchId, JobId},
    limits,
    pairs::Extensions,
};

/// What is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobTarget {
    /// 0: one job.
    Job(JobId),
    /// 1: every job of a batch, and its end when it is durable.
    Batch(BatchId),
}

impl JobTarget {
    fn read(r: &mut Reader<'_>) -> Result<Self> {
        match r.variant("target")? {
            0 => Ok(JobTarget::Job(JobId(r.array("job_id")?))),
            1 => Ok(JobTarget::Batch(BatchId(r.array("batch_id")?))),
            n => Err(DecodeError::new("target", Problem::UnknownVariant(n.into()))),
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            JobTarget::Job(id) => {
                out.push(0);
                out.extend_from_slice(&id.0);
            }
            JobTarget::Batch(id) => {
                out.push(1);
                out.extend_from_slice(&id.0);
            }
        }
    }
}

/// Reads on from a job or a batch: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attach<'a> {
    /// What is attached to.
    pub target: JobTarget,
    /// Gateways only: whose it is.
    pub tenant: Option<&'a str>,
    /// The last number seen: every kept frame after it comes again; (0, 0) for all of them.
    pub after: Number,
    /// Whether to go on live until all is over; without it the stream ends after the replay.
    pub follow: bool,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl Attach<'_> {
    /// Everything there is of the target, from its beginning, until it is over.
    pub fn new(target: JobTarget) -> Self {
        Attach {
            target,
            tenant: None,
            after: Number::default(),
            follow: true,
            extensions: Extensions::EMPTY,
        }
    }
}

impl<'a> Attach<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Attach {
            target: JobTarget::read(r)?,
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            after: Number::read(r)?,
            follow: r.bool("follow")?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.target.put(out);
        put_option(out, self.tenant, put_str);
        self.after.put(out);
        put_bool(out, self.follow);
        self.extensions.put(out);
    }
}
