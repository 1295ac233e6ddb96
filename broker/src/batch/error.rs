//! What a recipe says when it fails.
//!
//! Holds only what the client may know. Like `anyhow::Error` it does not implement
//! `std::error::Error`, so that `?` turns any error into one.

use std::{borrow::Cow, fmt, time::Duration};

use tollgate_protocol::{Code, PairsBuf};

/// Why a recipe failed: boxed, so that a result stays small.
pub struct Error(Box<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub app_code: Option<String>,
    pub details: PairsBuf,
    pub permanent: bool,
    pub side_effect_free: bool,
    pub retry_after: Option<Duration>,
}

impl Error {
    /// The recipe failed: `RECIPE_EXECUTION`. Other codes have their own constructors.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::RecipeExecution, message)
    }

    /// The payload or the metadata is wrong: `VALIDATION_ERROR`.
    pub fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::ValidationError, message)
    }

    /// What the payload names does not exist: `NOT_FOUND`.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::NotFound, message)
    }

    /// The recipe wants a credential that it did not get: `UNAUTHORIZED`.
    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::Unauthorized, message)
    }

    /// The recipe does not allow this: `FORBIDDEN`.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::Forbidden, message)
    }

    /// The recipe can not take more now: `RATE_LIMITED`.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let mut e = Self::with_code(Code::RateLimited, message);
        e.0.retry_after = Some(retry_after);
        e
    }

    /// The recipe is broken: `INTERNAL_ERROR`.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_code(Code::InternalError, message)
    }

    pub(crate) fn with_code(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            app_code: None,
            details: PairsBuf::new(),
            permanent: false,
            side_effect_free: false,
            retry_after: None,
        }))
    }

    /// Adds the application's own code, for programs.
    #[must_use]
    pub fn app_code(mut self, code: impl Into<String>) -> Self {
        self.0.app_code = Some(code.into());
        self
    }

    /// Adds a detail, cut to the bounds of the protocol.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.details.push_lossy(key, &value.to_string());
        self
    }

    /// Says that trying again can not help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.permanent = true;
        self
    }

    /// What a worker says beside the code and the message.
    pub(crate) fn set(
        &mut self,
        permanent: bool,
        retry_after: Option<Duration>,
        app_code: Option<&str>,
    ) {
        (self.0.permanent, self.0.retry_after) = (permanent, retry_after);
        self.0.app_code = app_code.map(str::to_owned);
    }

    /// Promises that the recipe did nothing: trying again is then safe whatever the recipe does.
    #[must_use]
    pub(crate) fn side_effect_free(mut self) -> Self {
        self.0.side_effect_free = true;
        self
    }

    /// Says when to try again.
    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn into_inner(self) -> Inner {
        *self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(e: E) -> Self {
        Error::new(e.to_string())
    }
}
