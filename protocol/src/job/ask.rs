//! What may be asked of jobs and done to them, and what ends an answer that is about many.

use super::JobStates;
use crate::{
    batch::CancelScope,
    codec::{DecodeError, Problem, Reader, Result, put_option, put_str, put_u64},
    id::{BatchId, JobId},
    limits,
    pairs::Extensions,
};

/// Some of a tenant's jobs: those that match every field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobFilter<'a> {
    /// In which state; [`JobStates::ANY`] takes all.
    pub states: JobStates,
    /// Of which recipe.
    pub recipe: Option<&'a str>,
    /// Of which batch.
    pub batch_id: Option<BatchId>,
}

impl<'a> JobFilter<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(JobFilter {
            states: JobStates::read(r)?,
            recipe: r.option("recipe", |r| r.str("recipe", limits::RECIPE_NAME_BYTES_MAX))?,
            batch_id: r.option("batch_id", |r| r.array("batch_id"))?.map(BatchId),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.states.put(out);
        put_option(out, self.recipe, put_str);
        put_option(out, self.batch_id, |out, id| out.extend_from_slice(&id.0));
    }
}

/// The jobs that something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobWhich<'a> {
    /// 0: this one; `NOT_FOUND` when it is not there.
    One(JobId),
    /// 1: all that match; none is no error.
    Filter(JobFilter<'a>),
}

impl<'a> JobWhich<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        match r.variant("which")? {
            0 => Ok(JobWhich::One(JobId(r.array("job_id")?))),
            1 => Ok(JobWhich::Filter(JobFilter::read(r)?)),
            n => Err(DecodeError::new("which", Problem::UnknownVariant(n.into()))),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            JobWhich::One(id) => {
                out.push(0);
                out.extend_from_slice(&id.0);
            }
            JobWhich::Filter(filter) => {
                out.push(1);
                filter.put(out);
            }
        }
    }
}

/// What is asked of jobs, or done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAction<'a> {
    /// 0: one `Job` frame, then `End`.
    Get {
        /// Which job.
        job_id: JobId,
    },
    /// 1: a `Job` frame each, the oldest first, then `Jobs` and `End`.
    List {
        /// Which jobs.
        filter: JobFilter<'a>,
        /// Where a page before this one ended, as its `Jobs` said.
        cursor: Option<&'a str>,
        /// The most jobs of one page, up to [`limits::JOBS_LISTED_MAX`]; 0: 100.
        limit: u32,
    },
    /// 2: ends jobs; `Jobs` and `End`.
    Cancel {
        /// Which jobs.
        which: JobWhich<'a>,
        /// Whether those that run are ended too.
        scope: CancelScope,
    },
    /// 3: runs dead jobs again, with as many attempts as at first; `Jobs` and `End`.
    Replay {
        /// Which jobs.
        which: JobWhich<'a>,
    },
    /// 4: forgets jobs that are over; `Jobs` and `End`.
    Purge {
        /// Which jobs.
        which: JobWhich<'a>,
    },
}

impl<'a> JobAction<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(match r.variant("action")? {
            0 => JobAction::Get { job_id: JobId(r.array("job_id")?) },
            1 => JobAction::List {
                filter: JobFilter::read(r)?,
                cursor: r.option("cursor", |r| r.str("cursor", limits::CURSOR_BYTES_MAX))?,
                limit: read_limit(r)?,
            },
            2 => JobAction::Cancel { which: JobWhich::read(r)?, scope: CancelScope::read(r)? },
            3 => JobAction::Replay { which: JobWhich::read(r)? },
            4 => JobAction::Purge { which: JobWhich::read(r)? },
            n => return Err(DecodeError::new("action", Problem::UnknownVariant(n.into()))),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            JobAction::Get { job_id } => {
                out.push(0);
                out.extend_from_slice(&job_id.0);
            }
            JobAction::List { filter, cursor, limit } => {
                out.push(1);
                filter.put(out);
                put_option(out, *cursor, put_str);
                put_u64(out, (*limit).into());
            }
            JobAction::Cancel { which, scope } => {
                out.push(2);
                which.put(out);
                scope.put(out);
            }
            JobAction::Replay { which } => {
                out.push(3);
                which.put(out);
            }
            JobAction::Purge { which } => {
                out.push(4);
                which.put(out);
            }
        }
    }
}

fn read_limit(r: &mut Reader<'_>) -> Result<u32> {
    match r.u32("limit")? {
        n if n <= limits::JOBS_LISTED_MAX => Ok(n),
        n => {
            let problem =
                Problem::OutOfRange { found: n.into(), max: limits::JOBS_LISTED_MAX.into() };
            Err(DecodeError::new("limit", problem))
        }
    }
}

/// Asks about jobs or acts on them: the first frame of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobAsk<'a> {
    /// Gateways only: whose jobs.
    pub tenant: Option<&'a str>,
    /// What is asked for.
    pub action: JobAction<'a>,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> JobAsk<'a> {
    /// A question about one's own jobs.
    pub fn new(action: JobAction<'a>) -> Self {
        JobAsk { tenant: None, action, extensions: Extensions::EMPTY }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(JobAsk {
            tenant: r.option("tenant", |r| r.str("tenant", limits::TENANT_ID_BYTES_MAX))?,
            action: JobAction::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_option(out, self.tenant, put_str);
        self.action.put(out);
        self.extensions.put(out);
    }
}

/// Ends an answer about many jobs; `End` follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jobs<'a> {
    /// How many were listed, or changed.
    pub count: u64,
    /// Of a list: the cursor of the next page, when there is one.
    pub next: Option<&'a str>,
}

impl<'a> Jobs<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Jobs {
            count: r.u64("count")?,
            next: r.option("next", |r| r.str("next", limits::CURSOR_BYTES_MAX))?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count);
        put_option(out, self.next, put_str);
    }
}
