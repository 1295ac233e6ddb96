//! What a handler gives back: an answer, or why there is none.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tollgate_protocol::{Code, WorkerFrame, encode, limits, truncate, work};

use super::spec::millis;
use crate::item::Metadata;

/// What a call came to: a payload, and metadata where there is some. Bytes and strings turn into
/// one by themselves.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub(super) payload: Bytes,
    pub(super) metadata: Metadata,
}

impl Answer {
    /// An answer of bytes.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Answer { payload: payload.into(), metadata: Metadata::default() }
    }

    /// The JSON of a value.
    ///
    /// # Errors
    /// [`WorkError`] when the value has none.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, WorkError> {
        Ok(Answer::new(serde_json::to_vec(value)?))
    }

    /// Adds a pair for whoever asked; cut to its bounds, dropped when there are 64 already.
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.0.push_lossy(key, value);
        self
    }
}

macro_rules! from_bytes {
    ($($ty:ty)*) => {$(
        impl From<$ty> for Answer {
            fn from(payload: $ty) -> Self {
                Answer::new(payload)
            }
        }
    )*};
}

from_bytes!(Bytes Vec<u8> String &'static str &'static [u8] Box<[u8]>);

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Answer::default()
    }
}

/// Why a call has no answer. Made with `?` from any error, or with a code that says more.
///
/// ```
/// use tollgate_client::{Code, worker::WorkError};
///
/// fn parse(payload: &[u8]) -> Result<u32, WorkError> {
///     let text = std::str::from_utf8(payload)?; // RECIPE_EXECUTION
///     text.parse().map_err(|e| WorkError::validation(format!("not a number: {e}")))
/// }
/// assert_eq!(parse(b"x").expect_err("not a number").code(), Code::ValidationError);
/// assert_eq!(parse(b"\xff").expect_err("not text").code(), Code::RecipeExecution);
/// ```
#[derive(Debug, Clone)]
pub struct WorkError {
    code: Code,
    message: Box<str>,
    permanent: bool,
    retry_after: Option<Duration>,
    app_code: Option<Box<str>>,
    details: Metadata,
}

impl WorkError {
    /// A failure with a code. A handler may use `VALIDATION_ERROR`, `NOT_FOUND`, `UNAUTHORIZED`,
    /// `FORBIDDEN`, `RATE_LIMITED` and `INTERNAL_ERROR`; any other becomes `RECIPE_EXECUTION`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        use Code::{
            Forbidden, InternalError, NotFound, RateLimited, Unauthorized, ValidationError,
        };
        let allowed = matches!(
            code,
            ValidationError | NotFound | Unauthorized | Forbidden | RateLimited | InternalError
        );
        Self::any(if allowed { code } else { Code::RecipeExecution }, message)
    }

    /// The call failed, and nothing more is known: `RECIPE_EXECUTION`.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::RecipeExecution, message)
    }

    /// The payload is wrong: `VALIDATION_ERROR`.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(Code::ValidationError, message)
    }

    pub(super) fn any(code: Code, message: impl Into<String>) -> Self {
        WorkError {
            code,
            message: message.into().into(),
            permanent: false,
            retry_after: None,
            app_code: None,
            details: Metadata::default(),
        }
    }

    /// Trying again cannot help.
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// When trying again makes sense.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The application's own code; cut to 128 bytes.
    pub fn app_code(mut self, code: &str) -> Self {
        self.app_code = Some(truncate(code, limits::APP_CODE_BYTES_MAX).into());
        self
    }

    /// Adds a detail for programs; cut to its bounds, dropped when there are 64 already.
    pub fn detail(mut self, key: &str, value: &str) -> Self {
        self.details.0.push_lossy(key, value);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Appends the frame that ends a lease with it.
    pub(super) fn put(&self, lease: u64, out: &mut Vec<u8>) {
        encode(
            &WorkerFrame::Failed(work::Failed {
                lease,
                code: self.code.number(),
                permanent: self.permanent,
                message: truncate(&self.message, limits::MESSAGE_BYTES_MAX),
                retry_after_ms: self.retry_after.map(millis),
                app_code: self.app_code.as_deref(),
                details: self.details.0.as_pairs(),
            }),
            out,
        );
    }
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

// So that `?` works in handlers; `WorkError` itself can not be a `std::error::Error` then.
impl<E: std::error::Error> From<E> for WorkError {
    fn from(e: E) -> Self {
        let mut message = e.to_string();
        let mut source = e.source();
        while let Some(e) = source {
            message = format!("{message}: {e}");
            source = e.source();
        }
        WorkError::failed(message)
    }
}
