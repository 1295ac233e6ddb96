//! What a client may be told, given what it sent and heard before. No I/O.

use tollgate_protocol::{
    BrokerFrame, Extensions,
    batch::{Accepted, ItemResult, Success},
    job::JobAccepted,
};

use super::{jobs::Jobs, ledger::Ledger};
use crate::{
    attach::Heard,
    error::{BatchError, Violation},
    event::{EventRef, Summary},
    frame_name,
    item::Failure,
};

/// What the client has said about its batch as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) sealed: bool,
    pub(super) detached: bool,
}

/// Brings the list of sent items up to date, and tells what was said.
pub(super) type LookUp<'a> = &'a mut dyn FnMut(&mut Ledger) -> Said;

/// How the batch's own stream ended well.
#[derive(Debug, Clone)]
pub(super) enum Last {
    Summary(Summary),
    Detached,
}

#[derive(Default)]
pub(super) struct Judge {
    pub(super) ledger: Ledger,
    pub(super) jobs: Jobs,
    pub(super) accepted: bool,
    /// The batch's stream was lost before: what comes now may have come already.
    pub(super) again: bool,
    /// Whether jobs that were accepted are to be listed in `settled`.
    pub(super) durable: bool,
    /// Items that need not be sent again, taken by who keeps them.
    pub(super) settled: Vec<u64>,
    /// Set as soon as `Accepted` came, taken by who passes it on.
    pub(super) news: Option<u32>,
    /// Set at the end, taken by who ends the batch.
    pub(super) last: Option<Last>,
    /// What an attached stream said of the batch's end.
    pub(super) heard: Option<Summary>,
    /// Whether numbers were lost meanwhile.
    pub(super) gap: bool,
}

impl Judge {
    #[inline]
    pub(super) fn judge<'a>(
        &'a mut self,
        frame: &'a [u8],
        look_up: LookUp<'_>,
    ) -> Result<Option<EventRef<'a>>, BatchError> {
        if self.accepted
            && let Some((success, payload)) = Success::decode(frame)
        {
            if !self.ledger.knows(success.id) {
                look_up(&mut self.ledger);
            }
            let news = self.answered(success.id, 0)?;
            return Ok(news.then(|| EventRef::Result(success.result(payload))));
        }
        // Frames are large where they are moved: a result is taken from where it was decoded.
        match BrokerFrame::decode(frame) {
            Ok(BrokerFrame::Result(r)) if self.accepted => {
                if !self.ledger.knows(r.id) {
                    look_up(&mut self.ledger);
                }
                Ok(if self.result(&r)? { Some(EventRef::Result(r)) } else { None })
            }
            Ok(frame) => self.judge_rare(frame, look_up),
            Err(e) => Err(Violation::from(e).into()),
        }
    }

    /// Whether the result is news.
    #[inline]
    fn result(&mut self, r: &ItemResult<'_>) -> Result<bool, Violation> {
        check_extensions(&r.extensions)?;
        let news = self.answered(r.id, r.code)?;
        if news {
            self.jobs.ended(r);
        }
        Ok(news)
    }

    /// Whether it is news that an item has its result.
    #[inline]
    fn answered(&mut self, id: u64, code: u16) -> Result<bool, Violation> {
        match self.ledger.result(id, code) {
            Err(Violation::SecondResult(_)) if self.again => return Ok(false),
            judged => judged?,
        }
        if self.durable {
            self.settled.push(id);
        }
        Ok(true)
    }

    /// Whether the job is news.
    fn job(&mut self, x: &JobAccepted<'_>) -> Result<bool, Violation> {
        match self.ledger.job(x.id) {
            Err(Violation::SecondJob(_) | Violation::SecondResult(_)) if self.again => {
                return Ok(false);
            }
            judged => judged?,
        }
        check_extensions(&x.extensions)?;
        self.jobs.accepted(x);
        // A job that was there before is no part of the batch's own record: it is sent again until
        // its result is here.
        if self.durable && !x.existing {
            self.settled.push(x.id);
        }
        Ok(true)
    }

    /// Everything but results.
    fn judge_rare<'a>(
        &'a mut self,
        frame: BrokerFrame<'a>,
        look_up: LookUp<'_>,
    ) -> Result<Option<EventRef<'a>>, BatchError> {
        Ok(Some(match frame {
            BrokerFrame::Alive => return Ok(None),
            BrokerFrame::Error { code, failure } => {
                return Err(BatchError::Failed(Box::new(Failure::own(code, &failure))));
            }
            BrokerFrame::Accepted(a) if !self.accepted => {
                self.accept(&a)?;
                EventRef::Accepted(a)
            }
            other if !self.accepted => {
                return Err(Violation::Unexpected(frame_name(&other)).into());
            }
            BrokerFrame::JobAccepted(x) => {
                if !self.ledger.knows(x.id) {
                    look_up(&mut self.ledger);
                }
                return Ok(self.job(&x)?.then_some(EventRef::JobAccepted(x)));
            }
            BrokerFrame::Progress(p) => {
                if !self.ledger.knows(p.id) {
                    look_up(&mut self.ledger);
                }
                match self.ledger.progress(p.id) {
                    Err(Violation::SecondResult(_)) if self.again => return Ok(None),
                    judged => judged?,
                }
                EventRef::Progress(p)
            }
            BrokerFrame::Throttled(t) => EventRef::Throttled(t),
            BrokerFrame::Notice(n) => EventRef::Notice(n),
            BrokerFrame::Summary(s) => {
                let said = look_up(&mut self.ledger);
                // Of a batch that was resumed, it counts what came on other streams too.
                if !self.again {
                    self.ledger.summary(&s, said.sealed)?;
                }
                check_extensions(&s.extensions)?;
                let last = self.last.insert(Last::Summary(Summary::own(&s)));
                let Last::Summary(summary) = last else { unreachable!("just made") };
                EventRef::Summary(summary)
            }
            BrokerFrame::End if look_up(&mut self.ledger).detached => {
                self.last = Some(Last::Detached);
                return Ok(None);
            }
            other => return Err(Violation::Unexpected(frame_name(&other)).into()),
        }))
    }

    fn accept(&mut self, a: &Accepted<'_>) -> Result<(), Violation> {
        check_extensions(&a.extensions)?;
        self.accepted = true;
        self.news = Some(a.frame_bytes_max);
        Ok(())
    }

    /// What an attached stream told. `item` is what this batch calls the job, when the stream is
    /// that of one job. Items that are not ours are somebody else's who resumed the batch.
    pub(super) fn judge_heard<'a>(
        &mut self,
        heard: Heard<'a>,
        item: Option<u64>,
        look_up: LookUp<'_>,
    ) -> Result<Option<EventRef<'a>>, Violation> {
        let mut knows = |ledger: &mut Ledger, id| {
            ledger.knows(id) || {
                look_up(ledger);
                ledger.knows(id)
            }
        };
        Ok(match heard {
            Heard::Gap => {
                self.gap = true;
                None
            }
            Heard::Accepted(x) => {
                let x = JobAccepted { id: item.unwrap_or(x.id), ..x };
                let news = knows(&mut self.ledger, x.id) && item.is_none() && self.job(&x)?;
                news.then_some(EventRef::JobAccepted(x))
            }
            Heard::Progress(p) => {
                let p = tollgate_protocol::batch::Progress { id: item.unwrap_or(p.id), ..p };
                let news = knows(&mut self.ledger, p.id) && self.ledger.progress(p.id).is_ok();
                news.then_some(EventRef::Progress(p))
            }
            Heard::Result(r) => {
                let r = ItemResult { id: item.unwrap_or(r.id), ..r };
                let news = knows(&mut self.ledger, r.id) && self.result(&r)?;
                news.then_some(EventRef::Result(r))
            }
            Heard::Notice(n) => Some(EventRef::Notice(n)),
            Heard::Summary(s) => {
                self.heard = Some(Summary::own(&s));
                None
            }
        })
    }
}

fn check_extensions(e: &Extensions<'_>) -> Result<(), Violation> {
    match e.first_critical() {
        None => Ok(()),
        Some(e) => Err(Violation::CriticalExtension(e.number)),
    }
}
