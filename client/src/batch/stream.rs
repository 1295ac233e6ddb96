//! The two halves of a batch's stream and what connects them.
//!
//! There is no task and no channel: whoever is polled does the work. A sender that flow control
//! holds up reads results meanwhile; a reader that has nothing to read writes what is gathered.
//! So neither half can starve the other, and a caller who uses one of them at a time cannot
//! dead-lock with the broker.
//!
//! Two leaf locks, never held across an await: `inbox` before `outbox`. A sender only ever tries
//! for `inbox`, because the reader may be showing events to its caller meanwhile.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use tollgate_protocol::{
    batch::{Durability, Order},
    close::StreamCode,
};

use super::{
    inbox::{End, Inbox, Source},
    judge::{Last, LookUp, Said},
    outbox::{Outbox, Stage},
    resume::Home,
};
use crate::{
    error::{BatchError, Disconnected},
    event::{Event, EventRef, Summary},
    link::Session,
};

/// Reads of up to 32 packets in one poll, before other tasks get their turn.
const READS_PER_POLL: usize = 16;

pub(super) struct BatchStream {
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    wakes: Arc<Wakes>,
    /// Wakes both halves: quinn keeps only one waker for each direction of a stream.
    both: Waker,
    /// A sender is held up and found the inbox in use.
    sender_waits: AtomicBool,
    session: Arc<Session>,
    pub(super) home: Home,
}

/// Who waits. Apart from the stream, because quinn keeps the waker: with the stream inside it, a
/// dropped batch would never be let go.
#[derive(Default)]
pub(super) struct Wakes {
    pub(super) sender: AtomicWaker,
    pub(super) events: AtomicWaker,
}

impl Wakes {
    pub(super) fn wake_both(&self) {
        self.sender.wake();
        self.events.wake();
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_both();
    }
}

impl BatchStream {
    /// Opens a stream; nothing is written yet.
    pub(super) async fn open(
        session: Arc<Session>,
        home: Home,
        capacity: usize,
    ) -> Result<Self, Disconnected> {
        let (send, recv) = session.connection.open_bi().await?;
        let wakes = Arc::new(Wakes::default());
        let capacity = capacity.max(session.usual_bytes());
        let outbox = Outbox::new(send, &home.open(), session.frame_bytes_max(), capacity);
        let mut inbox = Inbox::new(recv, session.receive_frame_max);
        inbox.judge.durable = home.options.durability == Durability::Durable;
        inbox.judge.jobs.unordered = home.options.order == Order::Submission;
        Ok(BatchStream {
            outbox: Mutex::new(outbox),
            inbox: Mutex::new(inbox),
            home,
            both: Waker::from(wakes.clone()),
            wakes,
            sender_waits: AtomicBool::new(false),
            session,
        })
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // A panic while it was held came from the caller's own code or from ours before anything
        // was changed; the stream is then dropped soon.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals the batch, with `fin` as the last thing that is said.
    pub(super) fn seal(&self, outbox: &mut Outbox, fin: bool) {
        outbox.seal(fin);
        self.session.learn_usual_bytes(outbox.gathered_most());
    }

    pub(super) fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// The context for polling quinn.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.both)
    }

    /// Lets `send` put something into the outbox. While it is Pending, because the broker does not
    /// read us or has not said its limits, what arrives is read and kept.
    pub(super) fn poll_send<T>(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&mut Outbox) -> Poll<T>,
    ) -> Poll<T> {
        if let Poll::Ready(sent) = send(&mut self.outbox()) {
            return Poll::Ready(sent);
        }
        self.wakes.sender.register(cx.waker());
        let more = self.read_for_sender();
        let sent = send(&mut self.outbox());
        if sent.is_pending() && more {
            cx.waker().wake_by_ref();
        }
        sent
    }

    /// Reads what has arrived, so that the broker goes on reading us; keeps it for the reader.
    /// True when more may have arrived.
    fn read_for_sender(&self) -> bool {
        // Before the attempt: a reader who lets go of the inbox after it looks here.
        self.sender_waits.store(true, Ordering::SeqCst);
        let mut inbox = match self.inbox.try_lock() {
            Ok(inbox) => inbox,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            // The reader is at it, and wakes us when it is done.
            Err(TryLockError::WouldBlock) => return false,
        };
        self.sender_waits.store(false, Ordering::SeqCst);
        for reads in 0..READS_PER_POLL {
            if inbox.end.is_some() || self.poll_read(&mut inbox, Inbox::keep).is_pending() {
                drop(inbox);
                if reads > 0 {
                    self.wakes.events.wake();
                }
                return false;
            }
        }
        drop(inbox);
        self.wakes.events.wake();
        true
    }

    /// Shows every event to `visit` until the batch has ended: as [`Inbox::visit`] does. `fill` is
    /// called before each read and puts into the outbox what there is to send.
    pub(super) fn poll_drive(
        &self,
        cx: &mut Context<'_>,
        own: bool,
        fill: &mut impl FnMut(&mut Outbox),
        visit: &mut impl FnMut(EventRef<'_>, Option<&Bytes>),
    ) -> Poll<Result<(), BatchError>> {
        self.wakes.events.register(cx.waker());
        let mut inbox = self.inbox();
        let mut ended = None;
        for _ in 0..READS_PER_POLL {
            while let Some(event) = inbox.take_kept() {
                visit(event.borrow(), None);
            }
            if let Some(end) = report(&mut inbox) {
                ended = Some(Poll::Ready(end.map_or(Ok(()), Err)));
                break;
            }
            fill(&mut self.outbox());
            let read = self.poll_read(&mut inbox, |inbox, source, look_up| {
                inbox.visit(source, own, look_up, &mut |event, backing| match event {
                    // Comes with the end, behind the items that were refused here.
                    EventRef::Summary(_) => {}
                    event => visit(event, backing),
                })
            });
            if read.is_pending() && !self.write_for_reader(&mut inbox) {
                ended = Some(Poll::Pending);
                break;
            }
        }
        drop(inbox);
        self.release_sender();
        ended.unwrap_or_else(|| {
            // The others' turn; there may be more for us.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// The next event, or `None` when there is no more.
    pub(super) fn poll_next(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, BatchError>>> {
        let turn = ready!(tokio::task::coop::poll_proceed(cx));
        self.wakes.events.register(cx.waker());
        let mut inbox = self.inbox();
        let next = loop {
            if let Some(event) = inbox.take_kept() {
                break Poll::Ready(Some(Ok(event)));
            }
            if let Some(end) = report(&mut inbox) {
                break Poll::Ready(end.map(Err));
            }
            let read = self.poll_read(&mut inbox, Inbox::keep);
            if read.is_pending() && !self.write_for_reader(&mut inbox) {
                break Poll::Pending;
            }
        };
        drop(inbox);
        self.release_sender();
        if next.is_ready() {
            turn.made_progress();
        }
        next
    }

    fn release_sender(&self) {
        if self.sender_waits.swap(false, Ordering::SeqCst) {
            self.wakes.sender.wake();
        }
    }

    /// Reads once and hands what came to `take`; Ready when something changed.
    fn poll_read(
        &self,
        inbox: &mut Inbox,
        take: impl FnOnce(&mut Inbox, Source, LookUp<'_>) -> Result<(), BatchError>,
    ) -> Poll<()> {
        let mut cx = self.context();
        let source = match inbox.poll_fill(&mut cx) {
            Poll::Ready(Ok(true)) => Ok(Source::Own),
            Poll::Ready(Ok(false)) => Err(BatchError::Cut),
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => match ready!(self.poll_back(inbox, &mut cx)) {
                Some(source) => Ok(source),
                None => return Poll::Ready(()),
            },
        };
        match source {
            Ok(source) => {
                let taken = take(inbox, source, &mut self.look_up());
                self.settle(inbox, source, taken);
            }
            Err(e) => self.settle(inbox, Source::Own, Err(e)),
        }
        Poll::Ready(())
    }

    fn look_up(&self) -> impl FnMut(&mut super::ledger::Ledger) -> Said + '_ {
        |ledger| {
            let outbox = self.outbox();
            ledger.catch_up(&outbox.sent);
            Said { sealed: outbox.stage != Stage::Open, detached: outbox.detached }
        }
    }

    /// Draws the consequences of what was read.
    fn settle(&self, inbox: &mut Inbox, source: Source, taken: Result<(), BatchError>) {
        if let Some(frame_bytes_max) = inbox.judge.news.take() {
            self.session.learn_frame_bytes_max(frame_bytes_max);
            self.outbox().frame_bytes_max = Some(frame_bytes_max as usize);
            self.wakes.sender.wake();
        }
        if !inbox.judge.settled.is_empty() {
            let mut outbox = self.outbox();
            for id in inbox.judge.settled.drain(..) {
                outbox.unaccepted.remove(&id);
            }
        }
        match (taken, source) {
            (Err(e), Source::Own) if self.can_come_back(inbox, &e) => self.come_back(inbox, e),
            (Err(e), _) => self.fail(inbox, e),
            (Ok(()), Source::Attached) => self.advance(inbox),
            (Ok(()), Source::Own) => match inbox.judge.last.take() {
                None => {
                    if let Some(back) = &mut inbox.back {
                        back.silence = None;
                    }
                }
                Some(last) if inbox.back.is_some() => self.own_stream_ended(inbox, last),
                Some(Last::Summary(summary)) => self.finish(inbox, Some(summary)),
                Some(Last::Detached) => self.finish(inbox, None),
            },
        }
    }

    /// Writes what is gathered, now that there is nothing to read; true when that gave events.
    fn write_for_reader(&self, inbox: &mut Inbox) -> bool {
        let mut outbox = self.outbox();
        if outbox.is_likely_to_grow() {
            // Looked at again as soon as whoever sends had a turn.
            self.wakes.events.wake();
            return false;
        }
        // Should the stream turn out to be closed, reading it tells why.
        let _ = outbox.poll_flush(&mut self.context());
        keep_refused(inbox, &mut outbox)
    }

    /// The batch has come to its end, or the client detached from it.
    pub(super) fn finish(&self, inbox: &mut Inbox, summary: Option<Summary>) {
        inbox.drain(&mut self.context());
        inbox.end = Some(End::Done);
        inbox.back = None;
        let mut outbox = self.outbox();
        keep_refused(inbox, &mut outbox);
        if let Some(summary) = summary {
            inbox.keep_event(Event::Summary(summary));
        }
        outbox.end();
        drop(outbox);
        // Whoever reads is here, or woken by the sender who reads for them.
        self.wakes.sender.wake();
    }

    pub(super) fn fail(&self, inbox: &mut Inbox, e: BatchError) {
        let mut outbox = self.outbox();
        keep_refused(inbox, &mut outbox);
        outbox.away = false;
        outbox.give_up(e.clone());
        if !matches!(e, BatchError::Failed(_) | BatchError::Disconnected(_)) {
            // A durable batch is let go, not cancelled: what is wrong may be this side's.
            let code = if outbox.durable { StreamCode::Dropped } else { StreamCode::CancelAll };
            outbox.reset(code);
            inbox.stop();
        }
        inbox.back = None;
        drop(outbox);
        inbox.end = Some(End::Failed(e, false));
        self.wakes.wake_both();
    }

    /// The reader went away: for the broker a cancellation of what is no job.
    pub(super) fn drop_reader(&self) {
        let mut inbox = self.inbox();
        if inbox.end.is_none() {
            let mut outbox = self.outbox();
            if outbox.durable {
                // What was sent is to be kept.
                let _ = outbox.poll_flush(&mut self.context());
            }
            inbox.stop();
            inbox.end = Some(End::Dropped);
            outbox.give_up(BatchError::Cancelled);
            drop(outbox);
            self.wakes.wake_both();
        }
    }
}

fn keep_refused(inbox: &mut Inbox, outbox: &mut Outbox) -> bool {
    let any = !outbox.refused.is_empty();
    outbox.refused.drain(..).for_each(|r| inbox.keep_event(Event::Result(r)));
    any
}

/// The end, if there is one to report: at most one error, and then nothing.
fn report(inbox: &mut Inbox) -> Option<Option<BatchError>> {
    match &mut inbox.end {
        None => None,
        Some(End::Failed(e, told)) if !*told => {
            *told = true;
            Some(Some(e.clone()))
        }
        Some(_) => Some(None),
    }
}
