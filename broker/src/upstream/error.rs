//! What can be wrong with the configuration of upstreams.

use std::{io, path::PathBuf};

use super::template::BadPath;
use crate::batch::CatalogError;

/// Why an upstream can not be used, and which.
#[derive(Debug, thiserror::Error)]
#[error("upstreams.{name}{at}: {problem}")]
pub struct UpstreamError {
    /// The upstream.
    pub name: String,
    /// Where in its section, with a point before it; empty for the section itself.
    pub at: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an upstream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// More than there may be.
    #[error("there are {count} upstreams, at most {max} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Its name is none.
    #[error("a name has 1 to 63 lower-case letters, digits and hyphens")]
    Name,
    /// Its URL is none that can be asked.
    #[error("{0}")]
    Url(String),
    /// A number is outside its bounds.
    #[error("is {value}, must be from {min} to {max}")]
    OutOfRange {
        /// What it is.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// The path of a recipe is none.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// A header's name is none.
    #[error("not the name of a header")]
    HeaderName,
    /// A header that the broker sets itself, or that would break the message.
    #[error("the broker sets this header itself")]
    HeaderReserved,
    /// A header's value can not be sent.
    #[error("its value has a character that no header may have, or more than {max} bytes")]
    HeaderValue {
        /// The most bytes.
        max: usize,
    },
    /// A secret stands in the configuration.
    #[error("a secret is read from a file or a variable: {{ file = \"…\" }} or {{ env = \"…\" }}")]
    Secret,
    /// The variable with a secret is not there.
    #[error("the variable {0} is not set")]
    NoVariable(String),
    /// A variable that would be taken for a key of the configuration.
    #[error("variables that begin with TOLLGATE_ are keys of the configuration")]
    VariableIsKey,
    /// A file can not be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Two keys that belong together, or exclude each other.
    #[error("{0}")]
    Pair(&'static str),
    /// The TLS library refuses.
    #[error("TLS: {0}")]
    Tls(String),
    /// The HTTP library refuses.
    #[error("{0}")]
    Client(String),
    /// The recipe's name or spec is wrong.
    #[error(transparent)]
    Recipe(#[from] CatalogError),
}

impl Problem {
    /// Says where.
    pub(super) fn at(self, name: &str, at: impl Into<String>) -> UpstreamError {
        UpstreamError { name: name.to_owned(), at: at.into(), problem: self }
    }
}
