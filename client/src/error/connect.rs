//! Why there is no connection, and why one was lost.
//!
//! What the broker says by a close code and what TLS says by an alert is told apart from what the
//! network did.

use std::{fmt, io, sync::Arc, time::Duration};

use quinn::ConnectionError;
use tollgate_protocol::{Code, close::CloseCode};

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The settings contradict each other or cannot be used.
    #[error("the client's settings cannot be used: {0}")]
    Config(Box<str>),
    /// The UDP socket could not be opened.
    #[error("cannot open a UDP socket: {0}")]
    Socket(Arc<io::Error>),
    /// The broker refused the client's certificate during the handshake.
    #[error(
        "the broker refused the client's certificate: {reason}; it must be valid now, not \
         revoked, and issued by an authority that the broker trusts"
    )]
    Unauthorized {
        /// What TLS said.
        reason: Box<str>,
    },
    /// The broker's own certificate is not to be trusted.
    #[error(
        "the broker's certificate is not trusted: {reason}; check the server name and the roots \
         in `ca.pem`"
    )]
    UntrustedBroker {
        /// What TLS said.
        reason: Box<str>,
    },
    /// The broker read the certificate and closed the connection.
    #[error("the broker refused the connection: {}", Closed(.code, .reason))]
    Refused {
        /// Why, as a code.
        code: CloseCode,
        /// Why, for people; may be empty.
        reason: Box<str>,
    },
    /// The broker did not answer in time.
    #[error("no answer within {after:?}: the broker may be down, or UDP blocked on the way to it")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The connection was lost before it was of use.
    #[error(transparent)]
    Lost(Disconnected),
    /// The client was closed.
    #[error("the client was closed")]
    ClientClosed,
}

impl ConnectError {
    /// The code with the same meaning, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            ConnectError::Config(_) => Some(Code::ValidationError),
            ConnectError::Unauthorized { .. } => Some(Code::Unauthorized),
            ConnectError::Refused { code, .. } => Some(code_of(*code)),
            ConnectError::Lost(lost) => lost.code(),
            _ => None,
        }
    }

    /// Why the broker closed the connection, if it did.
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            ConnectError::Refused { code, .. } => Some(*code),
            ConnectError::Lost(lost) => lost.close_code(),
            _ => None,
        }
    }

    /// Whether the same attempt may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            ConnectError::Timeout { .. } => true,
            ConnectError::Refused { code, .. } => code.retryable(),
            ConnectError::Lost(lost) => lost.retryable(),
            _ => false,
        }
    }
}

impl From<Disconnected> for ConnectError {
    fn from(lost: Disconnected) -> Self {
        if let Some(code) = lost.close_code() {
            return ConnectError::Refused { code, reason: lost.reason().into() };
        }
        if lost.is_unauthorized() {
            return ConnectError::Unauthorized { reason: lost.reason().into() };
        }
        match &lost.0 {
            // Found on this side, by TLS: what it did not like is the broker's certificate.
            ConnectionError::TransportError(e) if is_alert(u64::from(e.code)) => {
                ConnectError::UntrustedBroker { reason: e.reason.as_str().into() }
            }
            _ => ConnectError::Lost(lost),
        }
    }
}

/// A connection that was lost, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected(pub(crate) ConnectionError);

impl Disconnected {
    /// Why the broker closed the connection, if it did, and this version knows the code.
    pub fn close_code(&self) -> Option<CloseCode> {
        match &self.0 {
            ConnectionError::ApplicationClosed(c) => {
                CloseCode::from_number(c.error_code.into_inner())
            }
            _ => None,
        }
    }

    /// The broker's or the transport's words; may be empty.
    pub fn reason(&self) -> String {
        match &self.0 {
            ConnectionError::ApplicationClosed(c) => text(&c.reason),
            ConnectionError::ConnectionClosed(c) if c.reason.is_empty() => c.error_code.to_string(),
            ConnectionError::ConnectionClosed(c) => text(&c.reason),
            other => other.to_string(),
        }
    }

    /// Whether the broker refused the client's certificate: with TLS 1.3 that shows only after
    /// the handshake succeeded on the client's side.
    pub fn is_unauthorized(&self) -> bool {
        match &self.0 {
            ConnectionError::ConnectionClosed(c) => is_alert(u64::from(c.error_code)),
            _ => false,
        }
    }

    /// The code with the same meaning, where there is one.
    pub fn code(&self) -> Option<Code> {
        if self.is_unauthorized() {
            Some(Code::Unauthorized)
        } else {
            self.close_code().map(code_of)
        }
    }

    /// Whether connecting again may succeed.
    pub fn retryable(&self) -> bool {
        match self.close_code() {
            Some(code) => code.retryable(),
            None => !self.is_unauthorized() && self.0 != ConnectionError::LocallyClosed,
        }
    }

    /// What the transport reported.
    pub fn transport(&self) -> &ConnectionError {
        &self.0
    }
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.close_code()) {
            (_, Some(code)) => {
                write!(f, "the broker closed the connection: {}", Closed(&code, &self.reason()))
            }
            (ConnectionError::ApplicationClosed(c), None) => {
                write!(f, "the broker closed the connection: {c}")
            }
            (ConnectionError::TimedOut, _) => {
                f.write_str("the connection was lost: the broker fell silent")
            }
            (ConnectionError::Reset, _) => {
                f.write_str("the connection was lost: the broker was restarted")
            }
            (ConnectionError::LocallyClosed, _) => f.write_str("the client closed the connection"),
            _ if self.is_unauthorized() => {
                write!(f, "the broker refused the client's certificate: {}", self.reason())
            }
            (other, _) => write!(f, "the connection was lost: {other}"),
        }
    }
}

impl std::error::Error for Disconnected {}

impl From<ConnectionError> for Disconnected {
    fn from(e: ConnectionError) -> Self {
        Disconnected(e)
    }
}

/// A close code with its reason, when there is one.
struct Closed<'a, R>(&'a CloseCode, &'a R);

impl<R: AsRef<str>> fmt::Display for Closed<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.as_ref() {
            "" => self.0.fmt(f),
            reason => write!(f, "{}: {reason}", self.0),
        }
    }
}

/// Transport error codes from 0x100 to 0x1ff carry a TLS alert (RFC 9001, section 4.8).
fn is_alert(code: u64) -> bool {
    (0x100..0x200).contains(&code)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code_of(close: CloseCode) -> Code {
    match close {
        CloseCode::Done | CloseCode::Draining => Code::Draining,
        CloseCode::IdentityInvalid
        | CloseCode::CertificateExpired
        | CloseCode::CertificateRevoked
        | CloseCode::TrustRemoved => Code::Unauthorized,
        CloseCode::QuotaExceeded => Code::QuotaExceeded,
        CloseCode::Overloaded => Code::Overloaded,
        CloseCode::Abuse => Code::RateLimited,
        _ => Code::Forbidden,
    }
}
