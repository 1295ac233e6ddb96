//! The loop of a stream of work: take in, give out, write; then wait for whatever comes first.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quinn::{ReadError, WriteError};
use tokio::{task::JoinHandle, time::Sleep};
use tollgate_protocol::{
    Code, WorkerFrame,
    batch::{Notice, NoticeKind},
    close::StreamCode,
    limits::WORK_INLINE_BYTES_MAX,
    work::{Dispatch as Frame, DispatchFrame, encode_dispatch_head},
};

use super::{
    super::{
        config::ms,
        connection::Peer,
        output::{FLUSH_BYTES, FULL_BYTES},
        signals::{State, Watch},
        stream::{Stream, poll_now, too_large, varint},
    },
    heard::{Heard, hear, never_given},
};
use crate::{
    batch::Failure,
    workers::{Answered, Dispatch, Outgoing, Prepared, Session},
};

/// How a stream of work is over.
pub(super) enum Over {
    /// The worker drained and has answered everything.
    Drained,
    /// It said what it may not, or may not go on.
    Failed(Failure),
    /// It takes nothing of what it is sent.
    ReaderGone,
    /// It ended its side, or stopped reading ours.
    Left,
    /// The connection is gone.
    Lost,
}

/// A stream of work in motion.
pub(super) struct Drive<'a> {
    pub(super) peer: &'a Peer,
    pub(super) stream: Stream,
    pub(super) session: Arc<Session>,
    pub(super) draining: bool,
    /// A recipe whose spec is looked at elsewhere; nothing is read past it meanwhile.
    pub(super) registering: Option<JoinHandle<Result<Prepared, Failure>>>,
    /// What ends the stream.
    pub(super) failed: Option<Failure>,
    /// Calls that are answered in what was read and not settled yet.
    answers: Vec<Answered>,
    /// What the worker is to be told and was not written yet, the next one last.
    outgoing: Vec<Outgoing>,
    watch: Watch<'a>,
    heeded: State,
    stopped: Option<Pin<Box<dyn Future<Output = bool> + Send + 'a>>>,
    timer: Option<Pin<Box<Sleep>>>,
    last_read: Instant,
    last_write: Instant,
    /// Since when the worker has taken nothing of what waits for it.
    blocked: Option<Instant>,
}

/// Frames taken in before other streams get their turn.
const FRAMES_A_TURN: usize = 64;
/// Rounds of the loop before other streams get their turn.
const ROUNDS: usize = 2;

impl<'a> Drive<'a> {
    pub(super) fn new(peer: &'a Peer, stream: Stream, session: Arc<Session>) -> Self {
        let now = stream.arrived;
        Drive {
            peer,
            stream,
            session,
            draining: false,
            registering: None,
            failed: None,
            answers: Vec::new(),
            outgoing: Vec::new(),
            watch: Watch::new(&peer.signals),
            heeded: State::default(),
            stopped: None,
            timer: None,
            last_read: now,
            last_write: now,
            blocked: None,
        }
    }

    pub(super) fn into_parts(self) -> (Stream, Arc<Session>) {
        (self.stream, self.session)
    }

    /// Makes what progress there is; ready once the stream is over.
    pub(super) fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        for _ in 0..ROUNDS {
            let mut progress = self.heed_signals();
            progress |= self.registered(cx);
            progress |= self.take_in();
            if let Some(failure) = self.failed.take() {
                return Poll::Ready(Over::Failed(failure));
            }
            progress |= self.give_out(cx);
            progress |= match self.read(cx) {
                Ok(progress) => progress,
                Err(over) => return Poll::Ready(over),
            };
            if !progress || self.stream.output.len() >= FLUSH_BYTES {
                progress |= match self.write(cx) {
                    Ok(progress) => progress,
                    Err(over) => return Poll::Ready(over),
                };
            }
            if self.draining && self.stream.output.is_empty() && self.session.is_drained() {
                return Poll::Ready(Over::Drained);
            }
            if !progress {
                return self.wait(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes frames that are whole, up to a turn's worth.
    fn take_in(&mut self) -> bool {
        let mut taken = 0;
        while taken < FRAMES_A_TURN && self.registering.is_none() && self.failed.is_none() {
            let frame = match self.stream.splitter.peek() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(e) => {
                    self.failed = Some(too_large(e));
                    break;
                }
            };
            taken += 1;
            let frame = WorkerFrame::decode(frame);
            let is_answer = matches!(frame, Ok(WorkerFrame::Answer(_) | WorkerFrame::Failed(_)));
            // What is said after an answer may be about it.
            let settled = if is_answer { Ok(()) } else { settle(&self.session, &mut self.answers) };
            let heard = settled.and_then(|()| hear(&self.session, frame, self.draining));
            self.stream.splitter.advance();
            match heard {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Answered(answered)) => self.answers.push(answered),
                Ok(Heard::Drains) => self.draining = true,
                Ok(Heard::Registers(recipe)) => {
                    let workers = self.peer.services.workers.clone();
                    let (session, owner) = (Arc::downgrade(&self.session), self.session.owner());
                    self.registering = Some(tokio::spawn(async move {
                        // A schema may take long to compile, and others are served here.
                        let judged =
                            tokio::task::spawn_blocking(move || recipe.prepare(owner)).await;
                        let recipe = judged.map_err(|_| not_judged())??;
                        // Not held while it waits: a worker that leaves is gone at once.
                        let news = session.upgrade().map(|s| s.is_news(&recipe)).transpose()?;
                        if news == Some(true) {
                            workers.keep(owner, &recipe).await?;
                        }
                        Ok(recipe)
                    }));
                }
                Err(failure) => self.failed = Some(failure),
            }
        }
        if let Err(failure) = settle(&self.session, &mut self.answers) {
            self.failed.get_or_insert(failure);
        }
        taken > 0
    }

    /// Goes on with a recipe once its spec was looked at.
    fn registered(&mut self, cx: &mut Poller<'_>) -> bool {
        let Some(judging) = &mut self.registering else { return false };
        let Poll::Ready(judged) = Pin::new(judging).poll(cx) else { return false };
        self.registering = None;
        let judged = judged.unwrap_or_else(|_| Err(not_judged()));
        match judged.and_then(|recipe| self.session.register(recipe)) {
            Ok(recipe) => self.stream.output.frame(&DispatchFrame::Registered { recipe }),
            Err(failure) => self.failed = Some(failure),
        }
        true
    }

    /// Puts what the worker is to be told into the output, while that has room.
    fn give_out(&mut self, cx: &mut Poller<'_>) -> bool {
        if self.outgoing.is_empty() {
            self.session.take(&mut self.outgoing, cx.waker());
            self.outgoing.reverse();
        }
        let mut any = false;
        while self.stream.output.len() < FULL_BYTES
            && let Some(next) = self.outgoing.pop()
        {
            any = true;
            match next {
                Outgoing::Cancel(lease) => {
                    self.stream.output.frame(&DispatchFrame::Cancel { lease });
                }
                Outgoing::Dispatch(dispatch) => self.dispatch(&dispatch),
            }
        }
        any
    }

    fn dispatch(&mut self, d: &Dispatch) {
        let apart = d.payload().len() > WORK_INLINE_BYTES_MAX;
        let frame = Frame {
            lease: d.lease,
            recipe: d.recipe,
            attempt: d.attempt,
            timeout_ms: d.timeout_ms(),
            item_id: d.item_id(),
            batch_id: d.batch_id(),
            tenant: d.tenant(),
            traceparent: d.traceparent(),
            metadata: d.metadata(),
            apart: apart.then_some(d.payload().len() as u64),
            payload: &[],
        };
        if apart {
            self.stream.output.frame(&DispatchFrame::Dispatch(frame));
            return;
        }
        let len = d.payload().len();
        let head = |out: &mut Vec<u8>| encode_dispatch_head(&frame, len, out);
        self.stream.output.payload_after(head, d.payload());
    }

    /// Reads what has arrived, once what was read before is used up.
    fn read(&mut self, cx: &mut Poller<'_>) -> Result<bool, Over> {
        if self.stream.splitter.buffers().is_empty() {
            return Ok(self.registering.is_none());
        }
        let Stream { recv, splitter, .. } = &mut self.stream;
        match poll_now(recv.read_chunks(splitter.buffers()), cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(Some(n))) => {
                splitter.filled(n);
                self.last_read = Instant::now();
                Ok(true)
            }
            Poll::Ready(Ok(None)) | Poll::Ready(Err(ReadError::Reset(_))) => Err(Over::Left),
            Poll::Ready(Err(_)) => Err(Over::Lost),
        }
    }

    fn write(&mut self, cx: &mut Poller<'_>) -> Result<bool, Over> {
        let Stream { send, output, .. } = &mut self.stream;
        if output.is_empty() {
            self.blocked = None;
            return Ok(false);
        }
        match output.write(send, cx) {
            Ok(0) => {
                self.blocked.get_or_insert_with(Instant::now);
                Ok(false)
            }
            Ok(_) => {
                self.last_write = Instant::now();
                self.blocked = (!output.is_empty()).then_some(self.last_write);
                Ok(true)
            }
            Err(WriteError::Stopped(_)) => Err(Over::Left),
            Err(_) => Err(Over::Lost),
        }
    }

    fn heed_signals(&mut self) -> bool {
        let Some(state) = self.watch.changed() else { return false };
        let before = mem::replace(&mut self.heeded, state);
        if let Some(at) = state.draining.filter(|_| before.draining.is_none()) {
            let message = "the broker is shutting down: connect again, elsewhere or later";
            self.notice(NoticeKind::Draining, at, message);
        }
        if let Some(at) = state.expiring.filter(|_| before.expiring.is_none()) {
            let message = "the certificate is about to expire: connect again with a new one";
            self.notice(NoticeKind::CertificateExpiring, at, message);
        }
        if state.over {
            self.failed = Some(Failure::new(Code::Draining, "the broker is shutting down"));
        }
        true
    }

    fn notice(&mut self, kind: NoticeKind, at: SystemTime, message: &str) {
        let at_unix_ms = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        self.stream.output.frame(&DispatchFrame::Notice(Notice { kind, at_unix_ms, message }));
    }

    /// Nothing is ready: asks to be woken by everything that may make it so.
    fn wait(&mut self, cx: &mut Poller<'_>) -> Poll<Over> {
        if self.watch.register(cx.waker()) {
            cx.waker().wake_by_ref();
        }
        let send = &self.stream.send;
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = send.stopped();
            Box::pin(async move { matches!(stopped.await, Ok(Some(_))) })
        });
        match stopped.as_mut().poll(cx) {
            Poll::Ready(true) => return Poll::Ready(Over::Left),
            Poll::Ready(false) => return Poll::Ready(Over::Lost),
            Poll::Pending => {}
        }
        let due = self.due();
        match &mut self.timer {
            // An earlier wake-up than needed is harmless, and spares moving the timer.
            Some(timer) if timer.deadline().into_std() <= due => {}
            Some(timer) => timer.as_mut().reset(due.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(due.into()))),
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer = None;
        if let Some(over) = self.on_time(Instant::now()) {
            return Poll::Ready(over);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn due(&self) -> Instant {
        let limits = &self.peer.services.config.limits;
        let mut due = self.last_write + ms(limits.alive_interval_ms);
        if let Some(since) = self.blocked {
            due = since + ms(limits.reader_timeout_ms);
        }
        if self.within_a_frame() {
            due = due.min(self.last_read + ms(limits.frame_timeout_ms));
        }
        due.max(Instant::now() + SHORTEST)
    }

    /// Whether the worker owes the rest of a frame that it began.
    fn within_a_frame(&self) -> bool {
        self.registering.is_none() && self.stream.splitter.buffered() > 0
    }

    fn on_time(&mut self, now: Instant) -> Option<Over> {
        let limits = &self.peer.services.config.limits;
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.blocked.is_some_and(|at| since(at) >= ms(limits.reader_timeout_ms)) {
            return Some(Over::ReaderGone);
        }
        if self.within_a_frame() && since(self.last_read) >= ms(limits.frame_timeout_ms) {
            let _ = self.stream.recv.stop(varint(StreamCode::Stalled));
            let message = format!("a frame stalled for {} ms", limits.frame_timeout_ms);
            let failure = Failure::new(Code::Timeout, message);
            return Some(Over::Failed(failure.detail("config_key", "limits.frame_timeout_ms")));
        }
        if self.stream.output.is_empty() && since(self.last_write) >= ms(limits.alive_interval_ms) {
            self.stream.output.frame(&DispatchFrame::Alive);
        }
        None
    }
}

/// Ends calls that were answered: all under one lock, and what waits for their credit is given away
/// once.
fn settle(session: &Session, answers: &mut Vec<Answered>) -> Result<(), Failure> {
    if answers.is_empty() {
        return Ok(());
    }
    session.answers(answers.drain(..)).map_err(never_given)
}

fn not_judged() -> Failure {
    Failure::new(Code::InternalError, "the recipe could not be looked at")
}

/// A timer that is due already fires at the next look, not at once again and again.
const SHORTEST: Duration = Duration::from_millis(1);
