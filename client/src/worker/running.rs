//! One handler while it runs: its panics are caught, and it is dropped once nobody waits for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tollgate_protocol::Code;

use super::{
    Answer, Call, WorkError,
    recipe::{Handler, Handling, panic_text},
};

/// How a call ended here.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Answer),
    Failed(WorkError),
    Cancelled,
}

/// A handler with its call. Resolves once, also when the handler panics or is given up.
pub(super) struct Running {
    call: Call,
    handler: Option<Handling>,
}

impl Running {
    /// Calls the handler; nothing of it is polled yet.
    pub(super) fn start(handler: &Handler, call: Call, payload: Bytes) -> Result<Self, Outcome> {
        let made = catch_unwind(AssertUnwindSafe(|| handler(call.clone(), payload)));
        match made {
            Ok(handler) => Ok(Running { call, handler: Some(handler) }),
            Err(panic) => Err(panicked(&call, &*panic)),
        }
    }

    /// What runs already, such as a handler behind the fetching of its payload.
    pub(super) fn of(call: Call, handler: Handling) -> Self {
        Running { call, handler: Some(handler) }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Drops the handler; what it does on being dropped is its own affair, a panic too.
    fn give_up(&mut self) {
        let handler = self.handler.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(handler))) {
            panicked(&self.call, &*panic);
        }
    }
}

impl Future for Running {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        // Before the flag is read, so that no cancellation is missed.
        this.call.wake_on_cancel(cx.waker());
        if this.call.is_cancelled() && !this.call.is_held() {
            this.give_up();
            return Poll::Ready(Outcome::Cancelled);
        }
        let Some(handler) = &mut this.handler else { return Poll::Ready(Outcome::Cancelled) };
        let outcome = match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(_)) if this.call.is_cancelled() => Outcome::Cancelled,
            Ok(Poll::Ready(Ok(answer))) => Outcome::Answer(answer),
            Ok(Poll::Ready(Err(e))) => Outcome::Failed(e),
            Err(panic) => panicked(&this.call, &*panic),
        };
        this.give_up();
        Poll::Ready(outcome)
    }
}

/// The caller hears that it panicked, the log what it said.
fn panicked(call: &Call, panic: &(dyn std::any::Any + Send)) -> Outcome {
    tracing::error!(?call, panic = panic_text(panic), "a recipe panicked");
    Outcome::Failed(WorkError::any(Code::Panic, Code::Panic.message()))
}
