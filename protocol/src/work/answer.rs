//! What a worker says of a lease: how far it has come, and what it came to.
//!
//! A field out of bounds leaves the lease's number in the error, so that it alone has to end.

use crate::{
    codec::{DecodeError, Reader, Result, put_bool, put_option, put_str, put_u64},
    limits,
    pairs::Pairs,
};

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Which lease.
    pub lease: u64,
    /// What is done, in units of the recipe's choice.
    pub done: u64,
    /// What there is to do in all; 0 when that is not known.
    pub total: u64,
    /// For people.
    pub message: &'a str,
}

impl<'a> Progress<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        of_lease(r, |lease, r| {
            Ok(Progress {
                lease,
                done: r.u64("done")?,
                total: r.u64("total")?,
                message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
            })
        })
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.lease);
        put_u64(out, self.done);
        put_u64(out, self.total);
        put_str(out, self.message);
    }
}

/// A call succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Which lease.
    pub lease: u64,
    /// For whoever asked.
    pub metadata: Pairs<'a>,
    /// The result, of at most [`limits::WORK_INLINE_BYTES_MAX`] bytes.
    pub payload: &'a [u8],
}

impl<'a> Answer<'a> {
    #[inline]
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        of_lease(r, |lease, r| {
            Ok(Answer {
                lease,
                metadata: Pairs::read("metadata", r)?,
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
        self.metadata.put(out);
        put_u64(out, payload_len as u64);
    }
}

/// A call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Which lease.
    pub lease: u64,
    /// A number of the table of codes; one that a worker may not use counts as `RECIPE_EXECUTION`.
    pub code: u16,
    /// Whether trying again can not help.
    pub permanent: bool,
    /// For people.
    pub message: &'a str,
    /// After how many milliseconds trying again makes sense, where that is known.
    pub retry_after_ms: Option<u64>,
    /// The recipe's own code.
    pub app_code: Option<&'a str>,
    /// More, for programs.
    pub details: Pairs<'a>,
}

impl<'a> Failed<'a> {
    /// A failure with nothing but a code and a message.
    pub fn new(lease: u64, code: crate::Code, message: &'a str) -> Self {
        Failed {
            lease,
            code: code.number(),
            permanent: false,
            message,
            retry_after_ms: None,
            app_code: None,
            details: Pairs::EMPTY,
        }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        of_lease(r, |lease, r| {
            Ok(Failed {
                lease,
                code: r.u16("code")?,
                permanent: r.bool("permanent")?,
                message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
                retry_after_ms: r.option("retry_after_ms", |r| r.u64("retry_after_ms"))?,
                app_code: r
                    .option("app_code", |r| r.str("app_code", limits::APP_CODE_BYTES_MAX))?,
                details: Pairs::read("details", r)?,
            })
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u64(out, self.lease);
        put_u64(out, self.code.into());
        put_bool(out, self.permanent);
        put_str(out, self.message);
        put_option(out, self.retry_after_ms, put_u64);
        put_option(out, self.app_code, put_str);
        self.details.put(out);
    }
}

/// Reads a lease's number and then the rest; what is wrong with the rest names the lease.
#[inline]
pub(super) fn of_lease<'a, T>(
    r: &mut Reader<'a>,
    rest: impl FnOnce(u64, &mut Reader<'a>) -> Result<T>,
) -> Result<T> {
    let lease = r.u64("lease")?;
    rest(lease, r).map_err(|e| DecodeError { item: Some(lease), ..e })
}
