//! Items that are to be jobs while their payloads are held against a schema on the pool.
//!
//! A payload at fault is refused before anything is kept of it. What comes behind one that is
//! checked waits for it: so items become jobs in their order, and the last one that is kept says
//! which ones are.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context as Poller, Poll},
};

use crate::batch::{
    durable::NewJob,
    outcome::Failure,
    pool::{RunError, no_thread},
};

/// Payloads of a batch that are checked at once, or wait for one that is.
const CHECKS_MAX: usize = 64;

/// What is being checked, in the order in which it came.
#[derive(Default)]
pub(super) struct Checks(VecDeque<Checking>);

struct Checking {
    verdict: Verdict,
    /// The line it goes to.
    at: usize,
    new: NewJob,
}

type Check = Pin<Box<dyn Future<Output = Result<(), RunError>> + Send>>;

enum Verdict {
    Open(Check),
    Known(Result<(), Failure>),
}

impl Checks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= CHECKS_MAX
    }

    /// Adds an item for a line; with no check it only waits for its turn.
    pub(super) fn push(
        &mut self,
        check: Option<impl Future<Output = Result<(), RunError>> + Send + 'static>,
        at: usize,
        new: NewJob,
    ) {
        let verdict = match check {
            Some(check) => Verdict::Open(Box::pin(check)),
            None => Verdict::Known(Ok(())),
        };
        self.0.push_back(Checking { verdict, at, new });
    }

    /// The first item, once what is said of it is known.
    pub(super) fn poll(
        &mut self,
        cx: &mut Poller<'_>,
    ) -> Option<(Result<(), Failure>, usize, NewJob)> {
        let first = self.0.front_mut()?;
        if let Verdict::Open(check) = &mut first.verdict {
            let Poll::Ready(checked) = check.as_mut().poll(cx) else { return None };
            first.verdict = Verdict::Known(checked.map_err(refused));
        }
        let Checking { verdict: Verdict::Known(verdict), at, new } = self.0.pop_front()? else {
            return None;
        };
        Some((verdict, at, new))
    }

    /// Takes all of it.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (usize, NewJob)> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|c| (c.at, c.new))
    }
}

fn refused(error: RunError) -> Failure {
    match error {
        RunError::Refused(error) => Failure::refused(error),
        // The pool says nothing else of a check.
        _ => no_thread(),
    }
}
