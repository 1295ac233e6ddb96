//! What is said about a batch as a whole while it runs and when it ends.

use super::{Number, Scope, plain_enum};
use crate::{
    codec::{Reader, Result, put_option, put_str, put_u64},
    limits,
    pairs::Extensions,
};

plain_enum! {
    /// How much of a batch a client gives up.
    CancelScope, "scope" {
        /// What has not started.
        Pending = 0,
        /// Everything, what is running too.
        All = 1,
    }
}

/// The broker reads a stream no further for now, because a rate is used up. Newest wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttled<'a> {
    /// The quota's name.
    pub quota: &'a str,
    /// Whose limit it is.
    pub scope: Scope,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed, in the quota's unit.
    pub limit: u64,
    /// In how many milliseconds reading goes on, at the earliest.
    pub resume_ms: u64,
}

impl<'a> Throttled<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Throttled {
            quota: r.str("quota", limits::QUOTA_NAME_BYTES_MAX)?,
            scope: Scope::read(r)?,
            current: r.u64("current")?,
            limit: r.u64("limit")?,
            resume_ms: r.u64("resume_ms")?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.quota);
        self.scope.put(out);
        put_u64(out, self.current);
        put_u64(out, self.limit);
        put_u64(out, self.resume_ms);
    }
}

plain_enum! {
    /// What a notice announces.
    NoticeKind, "kind" {
        /// The broker is shutting down: finish here, start nothing new.
        Draining = 0,
        /// The client's certificate is about to expire: connect again with a new one.
        CertificateExpiring = 1,
    }
}

/// Something that is about to happen to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice<'a> {
    /// What it is.
    pub kind: NoticeKind,
    /// When it happens, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// For people.
    pub message: &'a str,
}

impl<'a> Notice<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Notice {
            kind: NoticeKind::read(r)?,
            at_unix_ms: r.u64("at_unix_ms")?,
            message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.kind.put(out);
        put_u64(out, self.at_unix_ms);
        put_str(out, self.message);
    }
}

plain_enum! {
    /// What ended a batch.
    Ended, "ended" {
        /// The client sealed it and every item came to its end.
        Sealed = 0,
        /// The client cancelled it.
        Cancelled = 1,
        /// Its deadline passed.
        DeadlineExceeded = 2,
        /// An item failed in a `FailFast` batch.
        FailFast = 3,
        /// The client's side of the stream ended without a seal.
        Cut = 4,
        /// The broker sealed a durable batch whose client did not come back.
        SealedByBroker = 5,
        /// The broker is shutting down and ended it.
        Draining = 6,
    }
}

/// The end of a batch: always its last frame, unless the batch failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary<'a> {
    /// What ended it.
    pub ended: Ended,
    /// Items read.
    pub total: u64,
    /// Items that succeeded.
    pub succeeded: u64,
    /// Items that failed: how many with each code, in the order of the codes.
    pub failed: Vec<(u16, u64)>,
    /// The last item id that was read: ids above it never started.
    pub last_id_read: Option<u64>,
    /// From the open frame to here, in microseconds.
    pub duration_us: u64,
    /// Payload bytes read.
    pub bytes_in: u64,
    /// Payload bytes of results.
    pub bytes_out: u64,
    /// How long the broker did not read because a rate was used up, in microseconds.
    pub throttled_us: u64,
    /// Its place among the durable outcomes; (0, 0) when it is not durable.
    pub number: Number,
    /// Additions to this frame.
    pub extensions: Extensions<'a>,
}

impl<'a> Summary<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Summary {
            ended: Ended::read(r)?,
            total: r.u64("total")?,
            succeeded: r.u64("succeeded")?,
            failed: {
                let n = r.count("failed", limits::SUMMARY_CODES_MAX)?;
                (0..n)
                    .map(|_| Ok((r.u16("failed.code")?, r.u64("failed.count")?)))
                    .collect::<Result<_>>()?
            },
            last_id_read: r.option("last_id_read", |r| r.u64("last_id_read"))?,
            duration_us: r.u64("duration_us")?,
            bytes_in: r.u64("bytes_in")?,
            bytes_out: r.u64("bytes_out")?,
            throttled_us: r.u64("throttled_us")?,
            number: Number::read(r)?,
            extensions: Extensions::read(r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.ended.put(out);
        put_u64(out, self.total);
        put_u64(out, self.succeeded);
        put_u64(out, self.failed.len() as u64);
        for &(code, count) in &self.failed {
            put_u64(out, code.into());
            put_u64(out, count);
        }
        put_option(out, self.last_id_read, put_u64);
        put_u64(out, self.duration_us);
        put_u64(out, self.bytes_in);
        put_u64(out, self.bytes_out);
        put_u64(out, self.throttled_us);
        self.number.put(out);
        self.extensions.put(out);
    }
}
