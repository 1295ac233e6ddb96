//! What the process says at its end, as a number.

use std::process::ExitCode;

use tollgate_client::{Code, ConnectError, TopicError};

use crate::scenario::BadScenario;

/// The exit codes of the tools, those that this one uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Every answer was right and every threshold met.
    Ok = 0,
    /// A wrong answer, or an error that the scenario does not allow.
    Failure = 1,
    /// The scenario or the flags cannot be used.
    Usage = 2,
    /// A threshold was not met, or the rate not kept up.
    Threshold = 3,
    /// Nobody answered.
    Unreachable = 4,
    /// The broker refused the certificate, or is not trusted itself.
    Unauthorized = 5,
    /// A quota refused the connection.
    Quota = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The code for a run that did not begin.
pub fn of_error(e: &anyhow::Error) -> Exit {
    if e.downcast_ref::<BadScenario>().is_some() {
        return Exit::Usage;
    }
    if let Some(e) = e.downcast_ref::<ConnectError>() {
        return of_connect(e);
    }
    e.downcast_ref::<TopicError>().map_or(Exit::Failure, of_topic)
}

fn of_topic(e: &TopicError) -> Exit {
    match (e, e.code()) {
        (TopicError::Connect(e), _) => of_connect(e),
        (_, Some(Code::QuotaExceeded)) => Exit::Quota,
        (_, Some(Code::Unauthorized | Code::Forbidden)) => Exit::Unauthorized,
        (TopicError::Disconnected(_), _) => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

fn of_connect(e: &ConnectError) -> Exit {
    match (e, e.code()) {
        (ConnectError::Config(_), _) => Exit::Usage,
        (_, Some(Code::QuotaExceeded)) => Exit::Quota,
        (ConnectError::UntrustedBroker { .. }, _)
        | (_, Some(Code::Unauthorized | Code::Forbidden)) => Exit::Unauthorized,
        _ => Exit::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_and_unanswered_are_told_apart() {
        let timeout = ConnectError::Timeout { after: std::time::Duration::from_secs(1) };
        let unauthorized = ConnectError::Unauthorized { reason: "expired".into() };
        let quota = ConnectError::Refused {
            code: tollgate_client::CloseCode::QuotaExceeded,
            reason: "".into(),
        };
        let unknown = ConnectError::Refused {
            code: tollgate_client::CloseCode::TenantUnknown,
            reason: "".into(),
        };
        let of = |e: ConnectError| of_error(&anyhow::Error::new(e).context("tenant acme"));
        assert_eq!(of(timeout), Exit::Unreachable);
        assert_eq!(of(unauthorized), Exit::Unauthorized);
        assert_eq!(of(quota), Exit::Quota);
        assert_eq!(of(unknown), Exit::Unauthorized);
        let topic = TopicError::Connect(ConnectError::Unauthorized { reason: "expired".into() });
        assert_eq!(of_error(&anyhow::Error::new(topic)), Exit::Unauthorized);
    }
}
