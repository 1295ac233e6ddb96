//! How a stream of work begins, and how its credit grows.

use crate::{
    codec::{DecodeError, Problem, Reader, Result, put_u64},
    limits,
    pairs::Extensions,
};

/// Opens a stream of work: its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkOpen<'a> {
    /// How many calls the worker takes at once; 0: none until a `Credit`.
    pub credit: u32,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl WorkOpen<'_> {
    /// A stream that takes this many calls at once.
    pub fn new(credit: u32) -> Self {
        WorkOpen { credit, extensions: Extensions::EMPTY }
    }
}

impl<'a> WorkOpen<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(WorkOpen { credit: read_credit("credit", r)?, extensions: Extensions::read(r)? })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.credit.into());
        self.extensions.put(out);
    }
}

pub(super) fn read_credit(field: &'static str, r: &mut Reader<'_>) -> Result<u32> {
    match r.u32(field)? {
        n if n <= limits::WORK_CREDIT_MAX => Ok(n),
        n => {
            let problem =
                Problem::OutOfRange { found: n.into(), max: limits::WORK_CREDIT_MAX.into() };
            Err(DecodeError::new(field, problem))
        }
    }
}
