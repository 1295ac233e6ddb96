//! How a batch comes to its end: when everything is said, and what ends it before that.

use tollgate_protocol::batch::Ended;

use super::{
    drive::{Drive, Input, Over},
    output::FULL_BYTES,
};
use crate::batch::{Ending, Failure, Unheard};

impl Drive {
    /// Whether everything has been said but the last line, and what waits is paid for.
    pub(super) fn over(&mut self) -> Option<Over> {
        let ending = self.run.ending();
        let ends = self.sealed || self.detached || ending.is_some() || self.failed.is_some();
        if !(ends || self.run.jobs_lost().is_some())
            || !self.run.is_idle_but_for_jobs()
            || self.output.len() > FULL_BYTES
            || !self.pay()
        {
            return None;
        }
        if let Some(failure) = self.failed.take() {
            return Some(Over::Failed(failure));
        }
        if let Some(lost) = self.run.jobs_lost() {
            return Some(Over::Failed(lost.clone()));
        }
        let goes_on = self.run.has_jobs() || self.run.awaits_summary();
        if goes_on && ending == Some(Ended::Draining) {
            return Some(Over::Failed(Failure::jobs_go_on()));
        }
        if self.detached && self.run.jobs_are_kept() {
            return Some(Over::Detached);
        }
        if goes_on {
            return None;
        }
        match ending {
            Some(ended) => Some(Over::Ended(ended)),
            None if self.sealed => Some(Over::Ended(Ended::Sealed)),
            None => None,
        }
    }

    /// The batch failed as a whole: what runs is stopped.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.run.cancel_all(Ending::FAILED, &mut Unheard);
        let side_effect_free = failure.side_effect_free && !self.run.has_started();
        // The first failure is the batch's.
        self.failed.get_or_insert(Failure { side_effect_free, ..failure });
        self.close_input();
    }

    pub(super) fn cancel(&mut self, ending: Ending) {
        self.run.cancel_all(ending, &mut self.output);
        if ending.ended() != Ended::Draining {
            self.run.seal_jobs();
        }
        self.close_input();
    }

    pub(super) fn close_input(&mut self) {
        (self.full, self.pace, self.prepaid) = (false, None, 0);
        self.input = Input::Closed;
        self.ahead.clear();
        self.body.close();
    }

    pub(super) fn reader_left(&mut self) -> Over {
        // What became a job goes on.
        self.run.cancel_all(Ending::LEFT, &mut Unheard);
        Over::ReaderGone
    }
}
