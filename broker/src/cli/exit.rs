//! How a command ends: the exit codes, and which error means which.

use std::{io, process::ExitCode};

use tollgate_client::{
    BatchError, CallError, CloseCode, Code, ConnectError, DescribeError, Disconnected, TopicError,
};

use super::{
    api,
    output::{self, Output},
};

/// What a command came to, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It did what it was asked to.
    Ok = 0,
    /// It failed, or an item of a batch did.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// There is no broker to talk to.
    Unreachable = 4,
    /// The broker does not let this certificate in, or this end does not trust the broker's.
    Unauthorised = 5,
    /// A quota refused the connection or the whole batch.
    Quota = 6,
}

pub(super) const HELP: &str = "\
Exit codes:
  0  it worked
  1  it failed, or an item of the batch or the job did, or results of a batch were lost (| head)
  2  the command line, the configuration or a value in it is wrong, to us or to the broker
  4  the broker cannot be reached
  5  not authorised: a certificate or a token was refused, on one side or the other
  6  a quota refused the connection, the whole batch or the request
  (3 is tollgate-loadgen's: a threshold was not met)

Environment:
  NO_COLOR                             No colours
  TOLLGATE_OUTPUT, TOLLGATE_CONFIG     As --output and --config
  TOLLGATE_ADDR, TOLLGATE_CERTS, TOLLGATE_SERVER_NAME
                                       As --addr, --certs and --server-name
  TOLLGATE_API, TOLLGATE_CA, TOLLGATE_TOKEN_FILE
                                       As --api, --ca and --token-file
  TOLLGATE_TENANT                      As --tenant of `tollgate job`
  TOLLGATE_<SECTION>__<KEY>            A key of the configuration, such as
                                       TOLLGATE_LIMITS__FRAME_BYTES_MAX=4194304";

/// A mistake of whoever typed the command or wrote the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub String);

impl Usage {
    /// The error of a mistake.
    pub(super) fn error(what: impl Into<String>) -> anyhow::Error {
        Usage(what.into()).into()
    }
}

/// No address to talk to.
#[derive(Debug, thiserror::Error)]
#[error("cannot find {host}: {source}")]
pub(super) struct UnknownHost {
    pub host: String,
    pub source: io::Error,
}

/// Says what went wrong, if something did, and gives the code to end with.
pub(super) fn report(end: anyhow::Result<Exit>, output: Output) -> ExitCode {
    let exit = match end {
        Ok(exit) => exit,
        // Whoever read our output has seen enough. (Of a batch, results would be lost: `batch run`
        // makes another error of it.)
        Err(e) if is_broken_pipe(&e) => Exit::Ok,
        Err(e) => {
            let exit = classify(&e);
            output::error(&e, exit as u8, output);
            exit
        }
    };
    ExitCode::from(exit as u8)
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    io.into_iter().any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The code that an error ends with.
pub(super) fn classify(error: &anyhow::Error) -> Exit {
    error.chain().find_map(known).unwrap_or(Exit::Failure)
}

fn known(error: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if error.is::<Usage>() {
        return Some(Exit::Usage);
    }
    if error.is::<UnknownHost>() {
        return Some(Exit::Unreachable);
    }
    if let Some(e) = error.downcast_ref::<api::Error>() {
        return Some(e.exit());
    }
    if let Some(e) = error.downcast_ref::<ConnectError>() {
        return Some(of_connect(e));
    }
    if let Some(e) = error.downcast_ref::<BatchError>() {
        return Some(of_batch(e));
    }
    if let Some(e) = error.downcast_ref::<DescribeError>() {
        return Some(match e {
            DescribeError::Connect(e) => of_connect(e),
            DescribeError::Disconnected(e) => of_disconnected(e),
            other => of_code(other.code()),
        });
    }
    if let Some(e) = error.downcast_ref::<TopicError>() {
        return Some(of_topic(e));
    }
    match error.downcast_ref::<CallError>()? {
        CallError::Batch(e) => Some(of_batch(e)),
        other => Some(of_code(other.code())),
    }
}

fn of_topic(error: &TopicError) -> Exit {
    match error {
        TopicError::Connect(e) => of_connect(e),
        TopicError::Disconnected(e) => of_disconnected(e),
        TopicError::OutOfReach { last, .. } => of_topic(last),
        other => of_code(other.code()),
    }
}

fn of_batch(error: &BatchError) -> Exit {
    match error {
        BatchError::Connect(e) => of_connect(e),
        BatchError::Disconnected(e) => of_disconnected(e),
        // Items are judged one by one, whatever refused them.
        BatchError::ItemsFailed { .. } => Exit::Failure,
        other => of_code(other.code()),
    }
}

pub(super) fn of_connect(error: &ConnectError) -> Exit {
    match error {
        ConnectError::Config(_) => Exit::Usage,
        ConnectError::Unauthorized { .. } | ConnectError::UntrustedBroker { .. } => {
            Exit::Unauthorised
        }
        ConnectError::Refused { code, .. } => of_close(*code),
        ConnectError::Timeout { .. } => Exit::Unreachable,
        ConnectError::Lost(lost) => of_disconnected(lost),
        _ => Exit::Failure,
    }
}

fn of_disconnected(lost: &Disconnected) -> Exit {
    match lost.close_code() {
        Some(code) => of_close(code),
        None if lost.is_unauthorized() => Exit::Unauthorised,
        None => Exit::Unreachable,
    }
}

fn of_close(code: CloseCode) -> Exit {
    match code {
        CloseCode::QuotaExceeded | CloseCode::Abuse => Exit::Quota,
        CloseCode::Done | CloseCode::Draining | CloseCode::Overloaded => Exit::Unreachable,
        _ => Exit::Unauthorised,
    }
}

/// The code that a command ends with when the broker answered with a code of its own.
pub(super) fn of_code(code: Option<Code>) -> Exit {
    match code {
        Some(Code::RateLimited | Code::QuotaExceeded | Code::StorageFull) => Exit::Quota,
        Some(Code::Unauthorized | Code::Forbidden) => Exit::Unauthorised,
        Some(Code::Draining | Code::Overloaded) => Exit::Unreachable,
        // Only the broker can judge some of what is typed.
        Some(Code::ValidationError) => Exit::Usage,
        _ => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::Context;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<anyhow::Error>, exit: Exit) {
        let error: anyhow::Error = error.into();
        assert_eq!(classify(&error), exit, "{error:#}");
        let wrapped = Err::<(), _>(error).context("while doing something").expect_err("an error");
        assert_eq!(classify(&wrapped), exit, "{wrapped:#}");
    }

    #[test]
    fn every_kind_of_end_has_its_code() {
        let refused = |code| ConnectError::Refused { code, reason: "".into() };
        check(Usage("no".into()), Exit::Usage);
        check(anyhow::anyhow!("anything else"), Exit::Failure);
        check(ConnectError::Timeout { after: Duration::from_secs(1) }, Exit::Unreachable);
        check(refused(CloseCode::TenantUnknown), Exit::Unauthorised);
        check(refused(CloseCode::QuotaExceeded), Exit::Quota);
        check(refused(CloseCode::Draining), Exit::Unreachable);
        check(BatchError::Connect(refused(CloseCode::CertificateRevoked)), Exit::Unauthorised);
        check(BatchError::Cut, Exit::Failure);
        check(DescribeError::Connect(refused(CloseCode::QuotaExceeded)), Exit::Quota);
        check(CallError::Batch(BatchError::Cut), Exit::Failure);
        check(ConnectError::Config("no".into()), Exit::Usage);
    }
}
