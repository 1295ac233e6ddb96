//! How a batch is over: the same for whichever door it came through.

use tollgate_protocol::batch::Ended;

use super::Run;
use crate::batch::outcome::Failure;

/// How a batch is over that is read to its end.
#[derive(Debug)]
pub(crate) enum Over {
    /// Every item read has its result: a summary follows.
    Ended(Ended),
    /// The batch failed as a whole: an error follows.
    Failed(Failure),
    /// The client wants to hear no more, and its jobs go on.
    Detached,
}

/// What was said of the end so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    /// The client sends nothing more.
    pub sealed: bool,
    /// It wants to hear no more.
    pub detached: bool,
    /// Why the batch failed as a whole, if it did.
    pub failed: Option<&'a Failure>,
}

impl Run {
    /// How the batch is over, once nothing but its last word is still to be said.
    pub(crate) fn over(&self, said: Said<'_>) -> Option<Over> {
        let Said { sealed, detached, failed } = said;
        let ending = self.ending();
        let ends = sealed || detached || ending.is_some() || failed.is_some();
        if !(ends || self.jobs_lost().is_some()) || !self.is_idle_but_for_jobs() {
            return None;
        }
        if let Some(failure) = failed.or_else(|| self.jobs_lost()) {
            return Some(Over::Failed(failure.clone()));
        }
        let goes_on = self.has_jobs() || self.awaits_summary();
        if goes_on && ending == Some(Ended::Draining) {
            return Some(Over::Failed(Failure::jobs_go_on()));
        }
        if detached && self.jobs_are_kept() {
            return Some(Over::Detached);
        }
        if goes_on {
            return None;
        }
        match ending {
            Some(ended) => Some(Over::Ended(ended)),
            None => sealed.then_some(Over::Ended(Ended::Sealed)),
        }
    }
}
