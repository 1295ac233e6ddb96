//! A service of `tower` as a recipe.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
};

use bytes::Bytes;
use tower_service::Service;

use crate::batch::{Context, Error, Recipe, Reply};

/// What services of `tower` fail with when they wrap others.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// One item, as a request to a service.
#[derive(Debug, Clone)]
pub struct Call {
    /// What may be known about the item.
    pub ctx: Context,
    /// Its payload.
    pub payload: Bytes,
}

/// Makes a recipe of a service, and so of whatever `tower::ServiceBuilder` builds.
///
/// Every item gets a clone of the service, which must therefore be cheap to clone and share what is
/// to be shared. An [`Error`] of the innermost service reaches the client as it is, through layers
/// that box errors too; any other error is `RECIPE_EXECUTION` with its text.
pub fn from_service<S>(service: S) -> FromService<S>
where
    S: Service<Call> + Clone + Send + Sync + 'static,
    S::Response: Into<Reply>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    FromService(service)
}

/// A service as a recipe; made by [`from_service`].
#[derive(Debug, Clone)]
pub struct FromService<S>(S);

impl<S> Recipe for FromService<S>
where
    S: Service<Call> + Clone + Send + Sync + 'static,
    S::Response: Into<Reply>,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn run(
        &self,
        ctx: Context,
        payload: Bytes,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        let mut service = self.0.clone();
        async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(unboxed)?;
            let called = service.call(Call { ctx, payload });
            called.await.map(Into::into).map_err(unboxed)
        }
    }
}

fn unboxed(e: impl Into<BoxError>) -> Error {
    match e.into().downcast::<Carried>() {
        Ok(carried) => carried.0,
        // A layer of `tower` says too little alone ("request failed"): the causes go with it.
        Err(e) => {
            let mut text = e.to_string();
            let mut cause = e.source();
            for _ in 0..CAUSES_MAX {
                let Some(c) = cause else { break };
                text.push_str(": ");
                text.push_str(&c.to_string());
                cause = c.source();
            }
            Error::new(text)
        }
    }
}

/// An [`Error`] on its way through layers that know only standard errors.
#[derive(Debug)]
struct Carried(Error);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Carried {}

impl From<Error> for BoxError {
    fn from(e: Error) -> Self {
        Box::new(Carried(e))
    }
}

/// Causes of an error that are told.
const CAUSES_MAX: usize = 8;
