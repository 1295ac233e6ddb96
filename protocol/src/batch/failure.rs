//! What went wrong, for programs and for people.

use super::plain_enum;
use crate::{
    codec::{Reader, Result, put_bool, put_option, put_str, put_u64},
    limits,
    pairs::Pairs,
};

plain_enum! {
    /// Whose limit a refusal is about.
    Scope, "scope" {
        /// The tenant's own quota.
        Tenant = 0,
        /// The gateway's limit.
        Gateway = 1,
        /// The broker's limit for everyone.
        Broker = 2,
    }
}

/// Which quota was used up, and by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaRefusal<'a> {
    /// The quota's name, as the configuration spells it.
    pub quota: &'a str,
    /// Whose limit it is.
    pub scope: Scope,
    /// What is used now, in the quota's unit.
    pub current: u64,
    /// What is allowed, in the quota's unit.
    pub limit: u64,
}

impl<'a> QuotaRefusal<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(QuotaRefusal {
            quota: r.str("quota", limits::QUOTA_NAME_BYTES_MAX)?,
            scope: Scope::read(r)?,
            current: r.u64("current")?,
            limit: r.u64("limit")?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.quota);
        self.scope.put(out);
        put_u64(out, self.current);
        put_u64(out, self.limit);
    }
}

/// Why an item, a batch or an operation failed. The code stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// For people; no promise about its wording.
    pub message: &'a str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the broker promises that nothing happened.
    pub side_effect_free: bool,
    /// After how many milliseconds trying again makes sense, where that is known.
    pub retry_after_ms: Option<u64>,
    /// The recipe's own code.
    pub app_code: Option<&'a str>,
    /// Set when a quota refused it.
    pub quota: Option<QuotaRefusal<'a>>,
    /// More, for programs: which field, which limit, which configuration key.
    pub details: Pairs<'a>,
}

impl<'a> Failure<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self> {
        Ok(Failure {
            message: r.str("message", limits::MESSAGE_BYTES_MAX)?,
            retryable: r.bool("retryable")?,
            side_effect_free: r.bool("side_effect_free")?,
            retry_after_ms: r.option("retry_after_ms", |r| r.u64("retry_after_ms"))?,
            app_code: r.option("app_code", |r| r.str("app_code", limits::APP_CODE_BYTES_MAX))?,
            quota: r.option("quota", QuotaRefusal::read)?,
            details: Pairs::read("details", r)?,
        })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_str(out, self.message);
        put_bool(out, self.retryable);
        put_bool(out, self.side_effect_free);
        put_option(out, self.retry_after_ms, put_u64);
        put_option(out, self.app_code, put_str);
        put_option(out, self.quota, |out, q| q.put(out));
        self.details.put(out);
    }
}
