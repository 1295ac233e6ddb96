//! Why a worker ended without being told to.

use tollgate_protocol::{Code, close::CloseCode};

use crate::{
    error::{ConnectError, Violation},
    item::Failure,
};

/// Why a worker ended without being told to. What passes (a lost connection, a broker that drains)
/// is not among it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The settings cannot be used; nothing was connected.
    #[error("the worker's settings cannot be used: {0}")]
    Config(Box<str>),
    /// There is no connection, and trying again does not help.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker does not want this worker: it may not work here (`FORBIDDEN`), a spec is wrong
    /// (`VALIDATION_ERROR`), or a recipe is registered with another spec (`CONFLICT`, after some
    /// tries).
    #[error("the broker refused the worker: {0}")]
    Refused(Box<Failure>),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(#[from] Violation),
}

impl WorkerError {
    /// The code with the same meaning, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            WorkerError::Config(_) => Some(Code::ValidationError),
            WorkerError::Connect(e) => e.code(),
            WorkerError::Refused(f) => f.code(),
            WorkerError::Protocol(_) => None,
        }
    }

    /// Why the broker closed the connection, if it did.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            WorkerError::Connect(e) => e.close_code(),
            _ => None,
        }
    }
}
