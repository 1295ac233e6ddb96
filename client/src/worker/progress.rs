//! Progress on its way to the broker: newest wins, ten a second for each call.
//!
//! What waits is bounded by the calls that are open: each has one slot, and stands on the board at
//! most once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Context,
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;
use tollgate_protocol::{WorkerFrame, encode, work};

use super::call::Call;

/// The shortest time between two reports of one call.
const INTERVAL: Duration = Duration::from_millis(100);

/// How far a call has come.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) message: Box<str>,
}

impl Report {
    pub(super) fn put(&self, lease: u64, out: &mut Vec<u8>) {
        encode(
            &WorkerFrame::Progress(work::Progress {
                lease,
                done: self.done,
                total: self.total,
                message: &self.message,
            }),
            out,
        );
    }
}

/// A call's newest report that was not sent yet.
#[derive(Debug, Default)]
pub(super) struct Slot {
    newest: Option<Report>,
    /// It stands on the board.
    pinned: bool,
    sent: Option<Instant>,
    closed: bool,
}

/// What a slot has to say.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    At(Instant),
    Now(Report),
}

impl Slot {
    /// Takes a report; true when the call has to be put on the board.
    pub(super) fn put(&mut self, report: Report) -> bool {
        if self.closed {
            return false;
        }
        self.newest = Some(report);
        !std::mem::replace(&mut self.pinned, true)
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        match self.sent.map(|at| at + INTERVAL) {
            Some(at) if at > now && self.newest.is_some() => return Due::At(at),
            _ => self.pinned = false,
        }
        match self.newest.take() {
            None => Due::Nothing,
            Some(report) => {
                self.sent = Some(now);
                Due::Now(report)
            }
        }
    }

    /// The call ends: what was not sent yet, and nothing after it.
    pub(super) fn close(&mut self) -> Option<Report> {
        self.closed = true;
        self.newest.take()
    }
}

/// The calls that reported something, and who reads it.
#[derive(Default)]
pub(super) struct Board {
    calls: Mutex<Vec<Call>>,
    reader: AtomicWaker,
}

impl Board {
    pub(super) fn pin(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        self.reader.wake();
    }
}

/// The reader of the board.
#[derive(Default)]
pub(super) struct Pace {
    pub(super) board: Arc<Board>,
    waiting: Vec<Call>,
}

impl Pace {
    /// Writes what is due; when the next will be.
    pub(super) fn put_due(&mut self, cx: &Context<'_>, out: &mut Vec<u8>) -> Option<Instant> {
        self.board.reader.register(cx.waker());
        let mut calls = self.board.calls.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.append(&mut calls);
        drop(calls);
        if self.waiting.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        self.waiting.retain(|call| match call.slot().due(now) {
            Due::Nothing => false,
            Due::At(at) => {
                next = Some(next.map_or(at, |n| n.min(at)));
                true
            }
            Due::Now(report) => {
                report.put(call.lease(), out);
                false
            }
        });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(done: u64) -> Report {
        Report { done, total: 10, message: "".into() }
    }

    #[test]
    fn the_newest_report_is_sent_and_never_more_than_one_an_interval() {
        let (mut slot, start) = (Slot::default(), Instant::now());
        assert!(slot.put(report(1)));
        assert!(!slot.put(report(2)), "it stands there already");
        assert!(matches!(slot.due(start), Due::Now(r) if r.done == 2));
        assert!(matches!(slot.due(start), Due::Nothing));
        assert!(slot.put(report(3)));
        let at = start + INTERVAL;
        assert!(matches!(slot.due(start), Due::At(a) if a == at));
        assert!(!slot.put(report(4)));
        assert!(matches!(slot.due(at), Due::Now(r) if r.done == 4));
    }

    #[test]
    fn the_last_report_is_not_lost_and_nothing_follows_it() {
        let (mut slot, start) = (Slot::default(), Instant::now());
        slot.put(report(1));
        slot.due(start);
        slot.put(report(2));
        assert!(matches!(slot.close(), Some(r) if r.done == 2));
        assert!(!slot.put(report(3)));
        assert!(slot.close().is_none());
    }
}
