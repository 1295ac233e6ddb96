//! The loop of a batch: take in, run, answer, write; then wait for whatever comes first.
//!
//! Written as one poll function, so that what is ready at once costs no wake-up, no timer and no
//! lock but quinn's own.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quinn::{ReadError, VarInt, WriteError};
use tokio::time::Sleep;
use tollgate_protocol::{
    BrokerFrame,
    batch::{Ended, Notice, NoticeKind},
    close::StreamCode,
};

use super::{
    super::{
        connection::{Caller, Peer},
        hold::Hold,
        output::{FLUSH_BYTES, FULL_BYTES},
        signals::{State, Watch},
        stream::{Stream, poll_now, varint},
    },
    Tenants,
    intake::Pace,
};
use crate::{
    batch::{self, Ending, Failure, Run, Said, Sink, Turn, Unheard},
    tenancy::Kind,
};

/// How the stream of a batch is over.
pub(super) enum Over {
    /// Its last word is to be said.
    Heard(batch::Over),
    /// Nobody reads the results.
    ReaderGone,
    /// The connection is gone.
    Lost,
}

/// What the client's side of the stream can still bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Requests and control frames.
    Open,
    /// Control frames: the batch is sealed, or it ends and requests are dropped unread.
    Control,
    /// Nothing.
    Closed,
}

/// A batch in motion.
pub(super) struct Drive<'a> {
    pub(super) peer: &'a Peer,
    pub(super) stream: Stream,
    pub(super) run: Run,
    pub(super) tenants: Tenants,
    pub(super) input: Input,
    pub(super) sealed: bool,
    /// The client wants to hear no more.
    pub(super) detached: bool,
    /// Set while the stream is not read because there is no room for its next item.
    pub(super) held: Option<Hold>,
    /// Set while the stream waits for a rate.
    pub(super) pace: Option<Pace>,
    /// Items at the front of the input that were charged already.
    pub(super) prepaid: usize,
    /// Set when the batch failed as a whole.
    pub(super) failed: Option<Failure>,
    watch: Watch<'a>,
    heeded: State,
    stopped: Option<Pin<Box<dyn Future<Output = bool> + Send + 'a>>>,
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// When a byte last came, when one was last taken, when progress was last sent.
    pub(super) last_read: Instant,
    pub(super) last_write: Instant,
    pub(super) last_report: Instant,
    /// Since when the reader has taken nothing of what waits for it.
    pub(super) blocked: Option<Instant>,
    /// Until when results wait for the tenant's outgoing rate.
    pub(super) unpaid_until: Option<Instant>,
    pub(super) fail_fast_sent: bool,
    /// The stream's part in the turns of working in place.
    pub(super) turn: Turn,
}

/// Progress of an item is sent at most this often.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// What may be left for the write that ends with the final frame.
const LAST_WRITE_BYTES: usize = 2 * FLUSH_BYTES;
/// Rounds of the loop before other streams get their turn.
const ROUNDS: usize = 2;

impl<'a> Drive<'a> {
    pub(super) fn new(peer: &'a Arc<Peer>, stream: Stream, run: Run, tenants: Tenants) -> Self {
        let now = stream.arrived;
        let turns = &peer.services.engine.turns;
        let turn = match &tenants {
            Tenants::One(tenant) => Turn::new(turns, tenant.index(), tenant.weight()),
            // The turn is the gateway's, who takes it for all: no tenant's own.
            Tenants::Each => Turn::new(turns, u32::MAX, 1),
        };
        Drive {
            peer,
            stream,
            run,
            tenants,
            input: Input::Open,
            sealed: false,
            detached: false,
            held: None,
            pace: None,
            prepaid: 0,
            failed: None,
            watch: Watch::new(&peer.signals),
            heeded: State::default(),
            stopped: None,
            timer: None,
            last_read: now,
            last_write: now,
            last_report: now.checked_sub(REPORT_INTERVAL).unwrap_or(now),
            blocked: None,
            unpaid_until: None,
            fail_fast_sent: false,
            turn,
        }
    }

    pub(super) fn into_parts(self) -> (Stream, Run) {
        (self.stream, self.run)
    }

    /// Makes what progress there is; ready once the batch is over.
    pub(super) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        for _ in 0..ROUNDS {
            let mut progress = self.heed_signals();
            progress |= self.take_in(cx);
            if self.run.is_busy() {
                progress |= self.run.poll(cx, &mut self.stream.output);
                self.take_failed_fast();
                self.report(cx);
            }
            progress |= match self.read(cx) {
                Ok(progress) => progress,
                Err(over) => return Poll::Ready(over),
            };
            // More may be on its way into the buffer: written once that ran dry, or is full.
            let dry = !progress && !self.turn.waits();
            if dry || self.stream.output.len() >= FLUSH_BYTES {
                progress |= match self.write(cx) {
                    Ok(progress) => progress,
                    Err(over) => return Poll::Ready(over),
                };
            }
            if let Some(over) = self.over() {
                return Poll::Ready(over);
            }
            if !progress {
                return self.wait(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether everything has been said but the final frame, and what is not yet written is little
    /// and paid for.
    fn over(&mut self) -> Option<Over> {
        let (sealed, detached) = (self.sealed, self.detached);
        let said = Said { sealed, detached, failed: self.failed.as_ref() };
        let over = self.run.over(said)?;
        let written = self.stream.output.len() <= LAST_WRITE_BYTES && self.pay();
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

    pub(super) fn cancel(&mut self, all: bool, ending: Ending) {
        if all {
            self.run.cancel_all(ending, &mut self.stream.output);
        } else {
            self.run.cancel_pending(ending, &mut self.stream.output);
        }
        if ending.ended() != Ended::Draining {
            self.run.seal_jobs();
        }
        self.stop_reading_items();
    }

    /// Nothing more is started; control frames are still heeded.
    pub(super) fn stop_reading_items(&mut self) {
        (self.held, self.pace, self.prepaid) = (None, None, 0);
        if self.input == Input::Open {
            self.input = Input::Control;
        }
    }

    fn close_input(&mut self) {
        (self.held, self.pace, self.prepaid) = (None, None, 0);
        self.input = Input::Closed;
    }

    /// Whether the stream is not read now, though it could bring something.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some() || self.pace.is_some()
    }

    /// Reads what has arrived, if what was read before is used up and there is room.
    fn read(&mut self, cx: &mut Poller<'_>) -> Result<bool, Over> {
        if self.input == Input::Closed {
            return Ok(false);
        }
        let full = self.stream.output.len() >= FULL_BYTES;
        if !self.is_held() && !full && self.stream.splitter.buffers().is_empty() {
            // What was read before is not used up yet: the next round, or turn, goes on with it.
            return Ok(!self.turn.waits());
        }
        if self.is_held() || full {
            // A reset is heeded even while nothing is read.
            return match poll_now(self.stream.recv.received_reset(), cx) {
                Poll::Ready(Ok(Some(code))) => self.reset(code).map(|()| true),
                Poll::Ready(Err(_)) => Err(Over::Lost),
                _ => Ok(false),
            };
        }
        let Stream { recv, splitter, .. } = &mut self.stream;
        match poll_now(recv.read_chunks(splitter.buffers()), cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(Some(n))) => {
                splitter.filled(n);
                self.stream.arrived = Instant::now();
                self.last_read = self.stream.arrived;
            }
            Poll::Ready(Ok(None)) => {
                if self.input == Input::Open && self.run.is_durable() {
                    // It stays open for a while: its client may come back.
                    self.detached = true;
                } else if self.input == Input::Open {
                    self.run.cancel_all(Ending::CUT, &mut self.stream.output);
                }
                self.close_input();
            }
            Poll::Ready(Err(ReadError::Reset(code))) => self.reset(code)?,
            Poll::Ready(Err(_)) => return Err(Over::Lost),
        }
        Ok(true)
    }

    /// The client reset its side: a cancellation, whatever was not read is gone.
    fn reset(&mut self, code: VarInt) -> Result<(), Over> {
        match StreamCode::from_number(code.into_inner()) {
            Some(StreamCode::CancelPending) => self.cancel(false, Ending::CANCELLED),
            Some(StreamCode::CancelAll) => self.cancel(true, Ending::CANCELLED),
            // Dropping a durable batch is no wish to end it.
            _ if self.run.is_durable() => return Err(self.reader_left()),
            _ => self.cancel(true, Ending::LEFT),
        }
        self.close_input();
        Ok(())
    }

    /// Writes what there is, as far as the tenant's outgoing rate and the reader allow.
    fn write(&mut self, cx: &mut Poller<'_>) -> Result<bool, Over> {
        if self.stream.output.is_empty() || !self.pay() {
            return Ok(false);
        }
        let was_full = self.stream.output.len() >= FULL_BYTES;
        match self.stream.output.write(&mut self.stream.send, cx) {
            Ok(0) => {
                self.blocked.get_or_insert_with(Instant::now);
                Ok(false)
            }
            Ok(_) => {
                self.last_write = Instant::now();
                if was_full {
                    // Until now nothing was read: the client owed nothing.
                    self.last_read = self.last_write;
                }
                self.blocked = (!self.stream.output.is_empty()).then_some(self.last_write);
                Ok(true)
            }
            Err(WriteError::Stopped(_)) => Err(self.reader_left()),
            Err(_) => Err(Over::Lost),
        }
    }

    /// Charges what the results weigh to the tenant. False while they have to wait.
    fn pay(&mut self) -> bool {
        let output = &mut self.stream.output;
        let Tenants::One(tenant) = &self.tenants else {
            output.unpaid = 0;
            return true;
        };
        if output.unpaid == 0 {
            return true;
        }
        let now = Instant::now();
        if self.unpaid_until.is_some_and(|until| now < until) {
            return false;
        }
        let (paid, stop) = tenant.take_out(now, output.unpaid);
        output.unpaid -= paid;
        self.unpaid_until = stop.map(|s| now + until_paid(s.kind));
        output.unpaid == 0
    }

    fn reader_left(&mut self) -> Over {
        self.run.cancel_all(Ending::LEFT, &mut self.stream.output);
        let _ = self.stream.recv.stop(varint(StreamCode::Done));
        Over::ReaderGone
    }

    /// Sends the newest progress of what runs, not too often.
    fn report(&mut self, cx: &Poller<'_>) {
        let now = Instant::now();
        if now.saturating_duration_since(self.last_report) < REPORT_INTERVAL
            || self.stream.output.len() >= FULL_BYTES
        {
            return;
        }
        for report in self.run.reports(cx) {
            self.last_report = now;
            self.stream.output.progress(&report);
        }
    }

    /// Does what the connection asks for. True if anything was said.
    fn heed_signals(&mut self) -> bool {
        let Some(state) = self.watch.changed() else { return false };
        let before = mem::replace(&mut self.heeded, state);
        if let Some(at) = state.draining.filter(|_| before.draining.is_none()) {
            let message = match state.leaving {
                true => "the tenant is being deleted: running batches may finish",
                false => "the broker is shutting down: running batches may finish",
            };
            self.notice(NoticeKind::Draining, at, message);
        }
        if let Some(at) = state.expiring.filter(|_| before.expiring.is_none()) {
            let message = "the certificate is about to expire: connect again with a new one";
            self.notice(NoticeKind::CertificateExpiring, at, message);
        }
        if state.over {
            self.cancel(true, Ending::DRAINING);
        }
        if state.tenants > 0 && matches!(self.peer.caller, Caller::Gateway(_)) {
            self.run.recheck_tenants(&mut self.stream.output);
        }
        true
    }

    fn notice(&mut self, kind: NoticeKind, at: SystemTime, message: &str) {
        let at_unix_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        self.stream.output.frame(&BrokerFrame::Notice(Notice { kind, at_unix_ms, message }));
    }

    /// Nothing is ready: asks to be woken by everything that may make it so.
    fn wait(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        if self.turn.waits() {
            // It comes within milliseconds: nothing else needs to be able to wake this.
            return Poll::Pending;
        }
        self.run.settle();
        if self.watch.register(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        let send = &self.stream.send;
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = send.stopped();
            Box::pin(async move { matches!(stopped.await, Ok(Some(_))) })
        });
        match stopped.as_mut().poll(cx) {
            Poll::Ready(true) => return Poll::Ready(self.reader_left()),
            // The connection is gone: reading says so.
            Poll::Ready(false) => return Poll::Ready(Over::Lost),
            Poll::Pending => {}
        }
        self.wait_for_time(cx)
    }

    pub(super) fn take_failed_fast(&mut self) {
        if self.run.ending() == Some(Ended::FailFast)
            && !mem::replace(&mut self.fail_fast_sent, true)
        {
            let _ = self.stream.recv.stop(varint(StreamCode::FailFast));
            // Nothing more is taken in: a durable batch is over once its jobs are.
            self.run.seal_jobs();
            self.close_input();
        }
    }
}

/// How long results wait for the outgoing rate. A rate of nothing at all is looked at again now and
/// then: an operator may raise it.
fn until_paid(kind: Kind) -> Duration {
    match kind {
        Kind::Wait(d) => d.max(Duration::from_millis(1)),
        Kind::Never => Duration::from_secs(1),
    }
}
