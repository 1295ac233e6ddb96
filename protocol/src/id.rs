//! Names that cross the wire, parsed once at the edge and trusted from there on.
//!
//! Never holds a name that was not checked: the only way in is `parse` (or `FromStr`).

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// The name is longer than allowed.
    #[error("{what} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// How long it is, in bytes.
        len: usize,
        /// The longest allowed, in bytes.
        max: usize,
    },
    /// A character is not allowed where it stands.
    #[error("{what} has {found:?} at byte {at}, allowed is {grammar}")]
    BadCharacter {
        /// Which kind of name.
        what: &'static str,
        /// The offending character.
        found: char,
        /// Its offset, in bytes.
        at: usize,
        /// The grammar, as a regular expression.
        grammar: &'static str,
    },
}

fn check(
    what: &'static str,
    grammar: &'static str,
    max: usize,
    extra: &[u8],
    s: &str,
) -> Result<(), NameError> {
    if s.is_empty() {
        return Err(NameError::Empty { what });
    }
    if s.len() > max {
        return Err(NameError::TooLong { what, len: s.len(), max });
    }
    let bad = s.bytes().enumerate().find(|&(at, b)| {
        !(b.is_ascii_lowercase() || b.is_ascii_digit() || (at > 0 && extra.contains(&b)))
    });
    match bad {
        None => Ok(()),
        Some((at, _)) => {
            // Every byte before `at` is ASCII, so `at` is a character boundary.
            let found = s[at..].chars().next().unwrap_or('\u{fffd}');
            Err(NameError::BadCharacter { what, found, at, grammar })
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $grammar:literal, $max:expr, $extra:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name; the error says what is allowed.
            ///
            /// # Errors
            /// [`NameError`] when the text does not match the grammar.
            pub fn parse(s: &str) -> Result<Self, NameError> {
                Self::check(s)?;
                Ok($name(s.into()))
            }

            /// Checks a name without keeping it.
            ///
            /// # Errors
            /// [`NameError`] when the text does not match the grammar.
            pub fn check(s: &str) -> Result<(), NameError> {
                check($what, $grammar, $max, $extra, s)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::parse(s)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A tenant: `[a-z0-9][a-z0-9-]{0,62}`, which includes UUIDs in lower case.
    TenantId, "tenant id", "[a-z0-9][a-z0-9-]{0,62}", limits::TENANT_ID_BYTES_MAX, b"-"
);
name!(
    /// A recipe: `[a-z0-9][a-z0-9._-]{0,127}`.
    RecipeName, "recipe name", "[a-z0-9][a-z0-9._-]{0,127}", limits::RECIPE_NAME_BYTES_MAX, b"._-"
);

name!(
    /// A topic: `[a-z0-9][a-z0-9._-]{0,122}`.
    TopicName, "topic name", "[a-z0-9][a-z0-9._-]{0,122}", limits::TOPIC_NAME_BYTES_MAX, b"._-"
);
name!(
    /// A consumer group of a topic: `[a-z0-9][a-z0-9._-]{0,127}`.
    GroupName, "group name", "[a-z0-9][a-z0-9._-]{0,127}", limits::GROUP_NAME_BYTES_MAX, b"._-"
);

/// A client's name for one batch: 16 bytes, by convention a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub [u8; 16]);

impl BatchId {
    /// A new id that rises with time (UUID version 7).
    pub fn random() -> Self {
        BatchId(Uuid::now_v7().into_bytes())
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}

/// The broker's name for one job: 16 bytes, a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub [u8; 16]);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}

/// The broker's name for one message of a topic: 16 bytes, a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(s: &str, part: &str) {
        let e = TenantId::parse(s).expect_err("must be refused").to_string();
        assert!(e.contains(part), "{e:?} does not say {part:?}");
    }

    #[test]
    fn tenant_ids_follow_their_grammar() {
        for good in ["a", "0", "acme", "acme-2", &"x".repeat(63), &Uuid::nil().to_string()] {
            assert_eq!(TenantId::parse(good).expect("good").as_str(), good);
        }
        refused("", "empty");
        refused("-a", "'-' at byte 0");
        refused("Acme", "'A' at byte 0");
        refused("a/b", "'/' at byte 1");
        refused("a.b", "'.' at byte 1");
        refused("a\0", "'\\0' at byte 1");
        refused("caf\u{e9}", "'é' at byte 3");
        refused("\u{1b}[31m", "'\\u{1b}'");
        refused(&"x".repeat(64), "64 bytes, at most 63");
    }

    #[test]
    fn recipe_names_may_have_dots_and_underscores_but_not_first() {
        assert!(RecipeName::parse("csv.profile_v2-x").is_ok());
        for bad in [".a", "_a", "a*", "a>b", "../x", "a b"] {
            assert!(RecipeName::parse(bad).is_err(), "{bad}");
        }
        assert!(RecipeName::parse(&"r".repeat(128)).is_ok());
        assert!(RecipeName::parse(&"r".repeat(129)).is_err());
    }
}
