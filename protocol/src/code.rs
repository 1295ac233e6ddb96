//! The table of codes: the one place where an outcome's number, name and meaning stand.
//!
//! Numbers are never changed or used again; new codes are added at the end.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $status:literal,
       $retryable:literal, $side_effect_free:literal, $message:literal;)*) => {
        /// How an item, a batch or an operation ended.
        ///
        /// On the wire a code is its number; a number that a reader does not know is judged by the
        /// status that stands beside it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`, HTTP ", stringify!($status), ": ", $message, ".")]
              $(#[$doc])* $variant = $number,)*
        }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The code of a number, if this version knows it.
            pub fn from_number(n: u16) -> Option<Code> {
                match n { $($number => Some(Code::$variant),)* _ => None }
            }

            /// The name that people and programs know, in `SCREAMING_SNAKE`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The HTTP status with the same meaning.
            pub const fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// Whether the same request may succeed later, unless the answer itself says otherwise.
            pub const fn retryable(self) -> bool {
                match self { $(Code::$variant => $retryable,)* }
            }

            /// Whether the broker promises that nothing happened, unless the answer itself says
            /// otherwise.
            pub const fn side_effect_free(self) -> bool {
                match self { $(Code::$variant => $side_effect_free,)* }
            }

            /// What it means, for people.
            pub const fn message(self) -> &'static str {
                match self { $(Code::$variant => $message,)* }
            }
        }
    };
}

codes! {
    Ok = 0, "OK", 200, false, false, "the work was done";
    MalformedFrame = 1, "MALFORMED_FRAME", 400, false, false, "the bytes of a frame do not decode";
    FrameTooLarge = 2, "FRAME_TOO_LARGE", 413, false, false, "a frame is longer than allowed";
    InvalidAction = 3, "INVALID_ACTION", 400, false, true, "this is not allowed here";
    ValidationError = 4, "VALIDATION_ERROR", 400, false, true, "a value is wrong";
    Unauthorized = 5, "UNAUTHORIZED", 401, false, true, "the credential does not suffice";
    Forbidden = 6, "FORBIDDEN", 403, false, true, "the identity may not do this";
    NotFound = 7, "NOT_FOUND", 404, false, true, "there is no such thing";
    RecipeNotFound = 8, "RECIPE_NOT_FOUND", 404, false, true, "there is no recipe of this name";
    Conflict = 9, "CONFLICT", 409, false, true, "the state does not allow this now";
    BatchTooLarge = 10, "BATCH_TOO_LARGE", 413, false, true, "the batch has more items than allowed";
    PayloadTooLarge = 11, "PAYLOAD_TOO_LARGE", 413, false, true, "the payload is larger than the recipe takes";
    RateLimited = 12, "RATE_LIMITED", 429, true, true, "a rate is used up, wait and try again";
    QuotaExceeded = 13, "QUOTA_EXCEEDED", 403, false, true, "a quota is used up, trying again does not help";
    Cancelled = 14, "CANCELLED", 499, false, false, "the client cancelled it";
    Timeout = 15, "TIMEOUT", 504, false, false, "it took longer than its time-out";
    DeadlineExceeded = 16, "DEADLINE_EXCEEDED", 504, false, false, "the batch's deadline passed";
    RecipeExecution = 17, "RECIPE_EXECUTION", 500, false, false, "the recipe failed";
    Panic = 18, "PANIC", 500, false, false, "the recipe panicked";
    InternalError = 19, "INTERNAL_ERROR", 500, false, false, "the broker failed";
    ResultTooLarge = 20, "RESULT_TOO_LARGE", 500, false, false, "the result is larger than allowed";
    NoWorker = 21, "NO_WORKER", 503, true, true, "no worker serves the recipe now";
    WorkerLost = 22, "WORKER_LOST", 503, false, false, "the worker was lost while it ran";
    UpstreamFailed = 23, "UPSTREAM_FAILED", 502, false, false, "the upstream failed";
    Draining = 24, "DRAINING", 503, true, true, "the broker is shutting down, try again";
    Overloaded = 25, "OVERLOADED", 503, true, true, "the broker has no room now, try again";
    StoreUnavailable = 26, "STORE_UNAVAILABLE", 503, true, false, "the store does not answer";
    StorageFull = 27, "STORAGE_FULL", 507, false, true, "the storage is full";
}

impl Code {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of a name, as `name` gives it.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|c| c.name() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_one_to_one_and_dense() {
        for (i, &c) in Code::ALL.iter().enumerate() {
            assert_eq!(usize::from(c.number()), i, "{c}");
            assert_eq!(Code::from_number(c.number()), Some(c));
            assert_eq!(Code::from_name(c.name()), Some(c));
            assert!(c.message().chars().all(|x| !x.is_uppercase()), "{c}");
        }
        assert_eq!(Code::from_number(Code::ALL.len() as u16), None);
    }

    #[test]
    fn what_may_be_retried_by_default_has_a_status_that_says_so() {
        for &c in Code::ALL.iter().filter(|c| c.retryable()) {
            assert!(matches!(c.status(), 429 | 503), "{c}");
        }
    }
}
