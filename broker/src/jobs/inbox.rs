//! Where a reader of jobs is told what happened: references in order, never a result.
//!
//! Written by the owner of the jobs, under its lock; read by the task of a stream. Progress is
//! newest-wins: however slow the reader, a job has one report here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context as Poller, Poll, Waker},
};

use tollgate_protocol::id::{BatchId, JobId};

use crate::batch::{Accepted, Failure};

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Note {
    /// An item is a job.
    Accepted(Accepted),
    /// An item did not become one.
    Refused { item: u64, failure: Failure },
    /// An item contradicts the one that the batch has.
    Contradicts { item: u64, failure: Failure },
    /// A job has come further; `item` is what the reader knows it by.
    Progress { item: u64, job: JobId },
    /// A job is over.
    Ended { item: u64, job: JobId },
    /// A durable batch is over.
    Over(BatchId),
    /// Nothing more will be told.
    Lost(Failure),
}

/// The place where one reader is told.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    notes: Mutex<Notes>,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Notes {
    queue: VecDeque<Note>,
    waker: Option<Waker>,
}

impl Inbox {
    pub(super) fn new() -> Arc<Inbox> {
        Arc::default()
    }

    /// Tells; whom to wake, under no lock.
    #[must_use = "the reader is to be woken"]
    pub(super) fn put(&self, note: Note) -> Option<Waker> {
        let mut notes = self.lock();
        if let Note::Progress { job, .. } = &note {
            let same = |n: &Note| matches!(n, Note::Progress { job: j, .. } if j == job);
            // Few of a reader's jobs run at once, and reports wait at the end.
            if notes.queue.iter().rev().take(64).any(same) {
                return None;
            }
        }
        notes.queue.push_back(note);
        notes.waker.take()
    }

    /// The next note.
    pub(super) fn poll(&self, cx: &mut Poller<'_>) -> Poll<Note> {
        let mut notes = self.lock();
        if let Some(note) = notes.queue.pop_front() {
            return Poll::Ready(note);
        }
        if !notes.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            notes.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether everything was read.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Nobody reads any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.lock().queue = VecDeque::new();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_progress_the_newest_is_enough() {
        let inbox = Inbox::new();
        let job = JobId([1; 16]);
        for _ in 0..9 {
            assert!(inbox.put(Note::Progress { item: 1, job }).is_none());
        }
        assert!(inbox.put(Note::Ended { item: 1, job }).is_none());
        let mut cx = Poller::from_waker(Waker::noop());
        assert!(matches!(inbox.poll(&mut cx), Poll::Ready(Note::Progress { .. })));
        assert!(matches!(inbox.poll(&mut cx), Poll::Ready(Note::Ended { .. })));
        assert!(inbox.poll(&mut cx).is_pending());
        assert!(inbox.put(Note::Progress { item: 1, job }).is_some(), "and then it is told again");
    }

    #[test]
    fn who_reads_no_more_keeps_nothing() {
        let inbox = Inbox::new();
        let _ = inbox.put(Note::Over(BatchId([0; 16])));
        inbox.close();
        assert!(inbox.is_closed());
        assert!(inbox.poll(&mut Poller::from_waker(Waker::noop())).is_pending());
    }
}
