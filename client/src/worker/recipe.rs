//! Recipes by name, and the three shapes of handler made into one.

use std::{
    any::{Any, type_name},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use super::{Answer, Call, Spec, WorkError};

/// What a handler does, once it was called.
pub(super) type Handling = BoxFuture<'static, Result<Answer, WorkError>>;
pub(super) type Handler = Arc<dyn Fn(Call, Bytes) -> Handling + Send + Sync>;

pub(super) struct Recipe {
    pub(super) name: Arc<str>,
    pub(super) spec: Spec,
    pub(super) handler: Handler,
}

/// A handler of bytes.
pub(super) fn bytes<F, Fut, R>(handler: F) -> Handler
where
    F: Fn(Call, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, WorkError>> + Send + 'static,
    R: Into<Answer>,
{
    Arc::new(move |call, payload| handler(call, payload).map(|r| r.map(Into::into)).boxed())
}

/// A handler of values, which are JSON on the wire.
pub(super) fn typed<F, Fut, In, Out>(handler: F) -> Handler
where
    F: Fn(Call, In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, WorkError>> + Send + 'static,
    In: DeserializeOwned,
    Out: Serialize,
{
    Arc::new(move |call, payload| match serde_json::from_slice(&payload) {
        Ok(input) => handler(call, input).map(|r| Answer::json(&r?)).boxed(),
        Err(e) => {
            let wrong = WorkError::validation(format!("the payload is not what is expected: {e}"));
            let wrong = wrong.detail("field", "payload").detail("expected", type_name::<In>());
            futures::future::ready(Err(wrong.permanent())).boxed()
        }
    })
}

/// A handler that blocks, on one of a bounded number of threads.
pub(super) fn blocking<F, R>(handler: F, threads: Arc<Semaphore>) -> Handler
where
    F: Fn(&Call, Bytes) -> Result<R, WorkError> + Send + Sync + 'static,
    R: Into<Answer>,
{
    let handler = Arc::new(handler);
    Arc::new(move |call, payload| {
        let (handler, threads) = (handler.clone(), threads.clone());
        async move {
            let permit = threads.acquire_owned().await?;
            if call.is_cancelled() {
                return Err(WorkError::failed("cancelled before it began"));
            }
            // From here on a cancellation has to wait for the thread.
            call.hold();
            let run = move || {
                let answer = catch_unwind(AssertUnwindSafe(|| handler(&call, payload)));
                // Even when nobody waits any more, the thread was taken until here.
                drop(permit);
                answer.map(|a| a.map(Into::into))
            };
            match tokio::task::spawn_blocking(run).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => resume_unwind(panic),
                // The runtime shuts down.
                Err(_) => Err(WorkError::failed("the worker shuts down")),
            }
        }
        .boxed()
    })
}

/// What a panic said, for the log.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "something that is no text",
    }
}
