//! How an item ended, and who is told.
//!
//! Owned by the broker; turned into a frame (or a line of JSON) only at the edge.

use std::{borrow::Cow, fmt, time::Duration};

use tollgate_protocol::{
    Code, DecodeError, PairsBuf,
    batch::{self as wire, Number, QuotaRefusal},
    limits, truncate,
};

use super::{Error, Reply, context::Report, durable::Accepted, error};
use crate::{
    store::CommitError,
    tenancy::{Quota, Refusal, Stop},
};

/// Why an item or a whole batch failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub retryable: bool,
    pub side_effect_free: bool,
    /// Whoever failed says that another attempt would, too.
    pub permanent: bool,
    pub retry_after: Option<Duration>,
    pub app_code: Option<Box<str>>,
    /// Boxed, as few failures have one and all are passed around.
    pub quota: Option<Box<Refusal>>,
    pub details: PairsBuf,
}

impl Failure {
    /// A failure with the defaults of its code's row in the table.
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Failure {
            code,
            message: message.into(),
            retryable: code.retryable(),
            side_effect_free: code.side_effect_free(),
            permanent: false,
            retry_after: None,
            app_code: None,
            quota: None,
            details: PairsBuf::new(),
        }
    }

    /// A value of the client's is wrong: which, and how.
    pub(crate) fn validation(field: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Failure::new(Code::ValidationError, message).detail("field", field)
    }

    /// The tenant was deleted meanwhile.
    pub(crate) fn no_such_tenant() -> Self {
        Failure::new(Code::NotFound, "the tenant is not there any more")
    }

    /// There is no room for what is new.
    pub(crate) fn disk_full() -> Self {
        Failure::never_started(Code::StorageFull, "there is no room on the broker's disk")
    }

    /// Something could not be kept.
    pub(crate) fn not_kept(error: &CommitError) -> Self {
        match error {
            CommitError::Full { .. } => Failure::disk_full(),
            CommitError::TooLarge { .. } => {
                Failure::never_started(Code::PayloadTooLarge, "this is too large to be kept")
            }
            CommitError::Fenced { .. } => Failure::no_such_tenant(),
            CommitError::Unknown(_) => {
                let message = "the store failed: whether this was kept is not known";
                Failure { side_effect_free: false, ..Failure::new(Code::StoreUnavailable, message) }
            }
            _ => Failure::new(Code::StoreUnavailable, "the store can not be used"),
        }
    }

    pub(crate) fn detail(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.details.push_lossy(key, &value.to_string());
        self
    }

    /// A quota on what there is at once says no, and nobody knows whether it will say yes.
    pub(crate) fn quota(refusal: Refusal) -> Self {
        let Refusal { quota, current, limit, .. } = refusal;
        let message = format!(
            "the quota `{quota}` allows {limit} at once, {current} are there and this does not fit"
        );
        Failure::over(refusal, message)
    }

    /// As [`quota`](Self::quota), in other words. Those of items are short and made once: which
    /// quota, and how much of it, stands beside them, and an answer to thousands of items a second
    /// is to cost less than their results would.
    pub(crate) fn over(refusal: Refusal, message: impl Into<Cow<'static, str>>) -> Self {
        Failure { quota: Some(Box::new(refusal)), ..Failure::new(refusal.code(), message) }
    }

    /// A rate says no: for now, with the time to come back at, or for good.
    pub(crate) fn rate(stop: &Stop) -> Self {
        let refusal = stop.refusal();
        let Some(retry_after) = stop.wait() else {
            let Refusal { quota, limit, .. } = refusal;
            let message = format!("the quota `{quota}` allows {limit}, this alone takes more");
            return Failure::over(refusal, message);
        };
        Failure {
            retry_after: Some(retry_after),
            quota: Some(Box::new(refusal)),
            ..Failure::new(stop.code(), "the rate is used up")
        }
    }

    /// What a recipe reported. Once a recipe was started, another try is safe only when it is
    /// idempotent, or when the recipe promises that it did nothing.
    pub(crate) fn recipe(error: Error, idempotent: bool) -> Self {
        let error::Inner {
            code,
            message,
            app_code,
            details,
            permanent,
            side_effect_free,
            retry_after,
        } = error.into_inner();
        Failure {
            code,
            message,
            retryable: (idempotent || side_effect_free) && !permanent && is_transient(code),
            side_effect_free,
            permanent,
            retry_after,
            app_code: app_code.map(String::into_boxed_str),
            quota: None,
            details,
        }
    }

    /// What validation found, before anything ran.
    pub(crate) fn refused(error: Error) -> Self {
        Failure { side_effect_free: true, ..Failure::recipe(error, false) }
    }

    /// An item that had been started and did not come to its own end.
    pub(crate) fn interrupted(
        code: Code,
        message: impl Into<Cow<'static, str>>,
        idempotent: bool,
    ) -> Self {
        Failure {
            retryable: idempotent && is_transient(code),
            side_effect_free: false,
            ..Failure::new(code, message)
        }
    }

    /// An item that was read and never started.
    pub(crate) fn never_started(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Failure { side_effect_free: true, ..Failure::new(code, message) }
    }

    /// The failure that was put into a frame.
    pub(crate) fn from_wire(code: Code, f: &wire::Failure<'_>) -> Self {
        let refusal = |q: &QuotaRefusal<'_>| {
            let QuotaRefusal { quota, scope, current, limit } = *q;
            Some(Box::new(Refusal { quota: Quota::from_name(quota)?, scope, current, limit }))
        };
        Failure {
            code,
            message: f.message.to_owned().into(),
            retryable: f.retryable,
            side_effect_free: f.side_effect_free,
            permanent: false,
            retry_after: f.retry_after_ms.map(Duration::from_millis),
            app_code: f.app_code.map(Into::into),
            quota: f.quota.as_ref().and_then(refusal),
            details: f.details.to_buf(),
        }
    }

    /// Whether another attempt of a job may help: what went wrong is nobody's last word.
    pub(crate) fn is_transient(&self) -> bool {
        use Code::{
            InternalError, Overloaded, Panic, RecipeExecution, Timeout, UpstreamFailed, WorkerLost,
        };
        let transient = matches!(
            self.code,
            RecipeExecution
                | Panic
                | Timeout
                | WorkerLost
                | UpstreamFailed
                | InternalError
                | Overloaded
        );
        transient && !self.permanent
    }

    /// The failure as it goes into a frame.
    pub(crate) fn as_wire(&self) -> wire::Failure<'_> {
        wire::Failure {
            message: truncate(&self.message, limits::MESSAGE_BYTES_MAX),
            retryable: self.retryable,
            side_effect_free: self.side_effect_free,
            // Rounded up: who comes back then must not be early.
            retry_after_ms: self.retry_after.map(|d| d.as_micros().div_ceil(1000) as u64),
            app_code: self.app_code.as_deref().map(|c| truncate(c, limits::APP_CODE_BYTES_MAX)),
            quota: self.quota.as_ref().map(|r| QuotaRefusal {
                quota: r.quota.name(),
                scope: r.scope,
                current: r.current,
                limit: r.limit,
            }),
            details: self.details.as_pairs(),
        }
    }
}

impl From<DecodeError> for Failure {
    fn from(e: DecodeError) -> Self {
        let code = if e.is_out_of_bounds() { Code::ValidationError } else { Code::MalformedFrame };
        Failure::new(code, e.to_string()).detail("field", e.field)
    }
}

fn is_transient(code: Code) -> bool {
    use Code::{
        InternalError, Panic, RateLimited, RecipeExecution, Timeout, UpstreamFailed, WorkerLost,
    };
    matches!(
        code,
        RecipeExecution
            | Panic
            | Timeout
            | UpstreamFailed
            | WorkerLost
            | InternalError
            | RateLimited
    )
}

/// What stands before the outcome in a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub id: u64,
    /// Set when the stream is a gateway's.
    pub tenant: Option<&'a str>,
    pub attempts: u32,
    /// How long it waited before its last start, in microseconds.
    pub queued_us: u64,
    /// How long its last attempt ran, in microseconds.
    pub duration_us: u64,
    /// Its place among durable outcomes, when it is one.
    pub number: Number,
}

/// How an item ended.
pub(crate) type Outcome = Result<Reply, Failure>;

/// Where results go: the output of a stream.
pub(crate) trait Sink {
    /// Takes one result. A reply's payload may be taken out of it.
    fn result(&mut self, head: &Head<'_>, outcome: Result<&mut Reply, &Failure>);

    /// Takes the news that an item is a job, and of whom, when the stream is a gateway's.
    fn accepted(&mut self, accepted: &Accepted, tenant: Option<&str>);

    /// Takes the news of how far an item has come.
    fn progress(&mut self, report: &Report);

    /// Whether as much waits to be written as may: nothing more is to be made until some of it is
    /// taken.
    fn is_full(&self) -> bool;
}

/// Where the results of a batch go that failed as a whole: nobody is told them.
pub(crate) struct Unheard;

impl Sink for Unheard {
    fn result(&mut self, _: &Head<'_>, _: Result<&mut Reply, &Failure>) {}

    fn accepted(&mut self, _: &Accepted, _: Option<&str>) {}

    fn progress(&mut self, _: &Report) {}

    fn is_full(&self) -> bool {
        false
    }
}
