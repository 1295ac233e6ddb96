//! What one frame of a worker comes to.
//!
//! A frame that is wrong about one call ends that call; one that is wrong about the stream ends it.

use std::time::Duration;

use tollgate_protocol::{
    Code, DecodeError,
    work::{Failed, WorkerFrame},
};

use super::super::stream::refuse_critical;
use crate::{
    batch::{Error, Failure, Reply},
    workers::{Answered, NotLeased, Registration, Session, WorkError},
};

/// What is to be done beyond what was done.
pub(super) enum Heard {
    Nothing,
    /// A call is answered.
    Answered(Answered),
    /// A recipe is offered.
    Registers(Box<Registration>),
    /// The worker takes no more calls.
    Drains,
}

/// Heeds one frame.
pub(super) fn hear(
    session: &Session,
    frame: Result<WorkerFrame<'_>, DecodeError>,
    draining: bool,
) -> Result<Heard, Failure> {
    match frame {
        Ok(WorkerFrame::Answer(answer)) => {
            let mut reply = Reply::from(answer.payload.to_vec());
            reply.set_metadata(answer.metadata.to_buf());
            return Ok(Heard::Answered((answer.lease, Ok(reply), None)));
        }
        Ok(WorkerFrame::Failed(failed)) => {
            return Ok(Heard::Answered((failed.lease, Err(reported(&failed)), None)));
        }
        Ok(WorkerFrame::Progress(p)) => {
            session.progress(p.lease, p.done, p.total, p.message).map_err(never_given)?;
        }
        Ok(WorkerFrame::Credit { add }) => session.add_credit(add),
        Ok(WorkerFrame::Drain) => {
            session.drain();
            return Ok(Heard::Drains);
        }
        Ok(WorkerFrame::Register(_)) if draining => {
            let message = "a worker that drains offers no recipes";
            return Err(Failure::new(Code::InvalidAction, message));
        }
        Ok(WorkerFrame::Register(spec)) => {
            refuse_critical(&spec.extensions)?;
            return Ok(Heard::Registers(Box::new(Registration::of(&spec))));
        }
        Err(e) if e.is_out_of_bounds() && e.item.is_some() => {
            let message = format!("its worker answered out of bounds: {e}");
            let error = Error::internal(message).detail("field", e.field);
            let lease = e.item.unwrap_or_default();
            return Ok(Heard::Answered((lease, Err(WorkError::Failed(error)), None)));
        }
        Err(e) => return Err(e.into()),
    }
    Ok(Heard::Nothing)
}

pub(super) fn never_given(e: NotLeased) -> Failure {
    Failure::new(Code::InvalidAction, e.to_string()).detail("lease", e.0)
}

/// A failure as the worker reports it. Codes that are the broker's own to use are not believed.
fn reported(f: &Failed<'_>) -> WorkError {
    let code = match Code::from_number(f.code) {
        Some(Code::Panic) => return WorkError::Panicked(f.message.to_owned()),
        Some(
            code @ (Code::ValidationError
            | Code::NotFound
            | Code::Unauthorized
            | Code::Forbidden
            | Code::RateLimited
            | Code::InternalError),
        ) => code,
        _ => Code::RecipeExecution,
    };
    let mut error = Error::with_code(code, f.message.to_owned());
    error.set(f.permanent, f.retry_after_ms.map(Duration::from_millis), f.app_code);
    for (key, value) in f.details.iter() {
        error = error.detail(key, value);
    }
    WorkError::Failed(error)
}
