//! How a batch comes to its end: when everything is said, and what ends it before that.

use tollgate_protocol::batch::Ended;

use super::{
    drive::{Drive, Input, Over},
    output::FULL_BYTES,
};
use crate::batch::{Ending, Failure, Said, Unheard};

impl Drive {
    /// Whether everything has been said but the last line, and what waits is paid for.
    pub(super) fn over(&mut self) -> Option<Over> {
        let (sealed, detached) = (self.sealed, self.detached);
        let said = Said { sealed, detached, failed: self.failed.as_ref() };
        let over = self.run.over(said)?;
        let written = self.output.len() <= FULL_BYTES && self.pay();
        written.then_some(Over::Heard(over))
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
