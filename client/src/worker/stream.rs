//! One stream of work: bytes in, bytes out, and the moments at which something is due.
//!
//! `drive` is one poll function: take in, run, answer, write, wait. Nothing is written before the
//! input has run dry or enough is gathered.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::Sleep;
use tollgate_protocol::{
    ClientFrame, FrameTooLarge, Run, Splitter, close::StreamCode, encode, work::WorkOpen,
};

use super::{
    Served, Stopper,
    apart::Way,
    desk::{Desk, Heard},
    recipe::Recipe,
};
use crate::{
    error::{Disconnected, Violation},
    item::Failure,
    link::Session,
};

/// So much is gathered before it is written: one write costs a lock and a wake-up of quinn.
const GATHER_BYTES: usize = 32 << 10;
/// Reads of up to 32 packets in one poll, before other tasks get their turn.
const READS_PER_POLL: usize = 16;
/// How long the broker may take to say `End`, once everything is answered.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How a stream of work ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// In good order, after a stop.
    Stopped,
    /// The broker refused it.
    Refused(Box<Failure>),
    /// It was cut, or reset.
    Cut,
    /// The connection was lost.
    Lost(Disconnected),
    /// The broker broke the protocol.
    Broken(Violation),
}

struct Stream {
    send: SendStream,
    recv: RecvStream,
    splitter: Splitter,
    desk: Desk,
    /// How much of the desk's output is written.
    written: usize,
    /// The broker reads no more; what it says tells why.
    unread: bool,
    phase: Phase,
    stop_timeout: Duration,
    stop_deadline: Option<Instant>,
    /// When calls that still run after a stop are given up; then, when the broker is.
    stop_at: Alarm,
    /// When the next progress may be sent.
    progress_at: Alarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// `Drain` is said; calls finish.
    Draining,
    /// Nothing runs; the broker has the last word, or a call that has crossed `Drain`.
    Idle,
    /// Calls were given up; only the last word is waited for.
    Leaving,
}

/// Serves on a stream of its own, until it ends or `stopper` says so; what was done on it, and
/// whether the recipes were taken.
pub(super) async fn serve(
    session: &Session,
    recipes: &Arc<[Recipe]>,
    credit: u32,
    stop_timeout: Duration,
    stopper: &Stopper,
) -> (Ended, Served) {
    let (send, recv) = match session.connection.open_bi().await {
        Ok(both) => both,
        Err(e) => return (Ended::Lost(Disconnected(e)), Served::default()),
    };
    let work = VarInt::from(send.id()).into_inner();
    let way = Way { connection: session.connection.clone(), work };
    let mut desk = Desk::new(recipes.clone(), credit, way);
    encode(&ClientFrame::Work(WorkOpen::new(credit)), &mut desk.out);
    recipes.iter().for_each(|r| r.spec.register(&r.name, &mut desk.out));
    let mut stream = Stream {
        send,
        recv,
        splitter: Splitter::new(session.receive_frame_max),
        desk,
        written: 0,
        unread: false,
        phase: Phase::Serving,
        stop_timeout,
        stop_deadline: None,
        stop_at: Alarm::default(),
        progress_at: Alarm::default(),
    };
    let mut stopped = pin!(stopper.stopped());
    let ended = std::future::poll_fn(|cx| {
        if stream.phase == Phase::Serving && stopped.as_mut().poll(cx).is_ready() {
            stream.drain();
        }
        stream.drive(cx)
    })
    .await;
    stream.close(&ended);
    (ended, stream.desk.lose())
}

impl Stream {
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..READS_PER_POLL {
            self.desk.poll_tasks(cx);
            match self.take() {
                Ok(None) => {}
                Ok(Some(ended)) => return Poll::Ready(ended),
                Err(e) => return Poll::Ready(Ended::Broken(e)),
            }
            self.put_progress(cx);
            if self.desk.out.len() - self.written >= GATHER_BYTES
                && let Some(lost) = self.poll_flush(cx)
            {
                return Poll::Ready(Ended::Lost(lost));
            }
            if !self.desk.has_room() {
                return self.wait(cx);
            }
            if self.splitter.buffers().is_empty() {
                // Frames were left for want of room, which there is again.
                continue;
            }
            let read = pin!(self.recv.read_chunks(self.splitter.buffers())).poll(cx);
            match read {
                Poll::Ready(Ok(Some(n))) => self.splitter.filled(n),
                Poll::Ready(Err(ReadError::ConnectionLost(e))) => {
                    return Poll::Ready(Ended::Lost(Disconnected(e)));
                }
                Poll::Ready(_) => return Poll::Ready(Ended::Cut),
                // Also asks to be woken by tasks that were started just now.
                Poll::Pending if self.desk.poll_tasks(cx) => {}
                Poll::Pending => return self.wait(cx),
            }
        }
        // The others' turn; there may be more for us.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes every whole frame that has arrived.
    fn take(&mut self) -> Result<Option<Ended>, Violation> {
        let now = Instant::now();
        while self.desk.has_room() {
            let mut used = 0;
            for frame in self.splitter.ready().map_err(too_large)? {
                used += Run::wire_len(frame);
                match self.desk.take(frame, now)? {
                    Heard::GoOn => {}
                    Heard::Refused(failure) => return Ok(Some(Ended::Refused(failure))),
                    Heard::End if self.phase == Phase::Serving => {
                        return Err(Violation::Unexpected("End"));
                    }
                    Heard::End => return Ok(Some(Ended::Stopped)),
                }
                if !self.desk.has_room() {
                    break;
                }
            }
            self.splitter.consume(used);
            if used == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// There is nothing to read: writes what is gathered and looks at the clocks.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(lost) = self.poll_flush(cx) {
            return Poll::Ready(Ended::Lost(lost));
        }
        match (self.phase, self.desk.is_idle()) {
            (Phase::Draining, true) => self.leave(Phase::Idle),
            (Phase::Idle, false) => {
                self.phase = Phase::Draining;
                self.stop_at.set(self.stop_deadline);
            }
            _ => {}
        }
        if !self.stop_at.poll(cx) {
            return Poll::Pending;
        }
        if self.phase != Phase::Draining {
            tracing::warn!("the broker did not say good-bye in time");
            return Poll::Ready(Ended::Stopped);
        }
        tracing::warn!("calls that did not end in time are given up");
        self.desk.abandon();
        self.leave(Phase::Leaving);
        // The new time, and the answers, take another look.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.desk.drain();
        self.stop_deadline = Instant::now().checked_add(self.stop_timeout);
        self.stop_at.set(self.stop_deadline);
    }

    fn leave(&mut self, phase: Phase) {
        self.phase = phase;
        self.stop_at.set(Some(Instant::now() + END_TIMEOUT));
    }

    fn put_progress(&mut self, cx: &mut Context<'_>) {
        let next = self.desk.pace.put_due(cx, &mut self.desk.out);
        self.progress_at.set(next);
        if self.progress_at.poll(cx) {
            cx.waker().wake_by_ref();
        }
    }

    /// Hands to quinn what is gathered, as far as it takes it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Option<Disconnected> {
        while self.written < self.desk.out.len() && !self.unread {
            let rest = &self.desk.out[self.written..];
            match Pin::new(&mut self.send).poll_write(cx, rest) {
                Poll::Pending => {
                    self.desk.out.drain(..std::mem::take(&mut self.written));
                    return None;
                }
                Poll::Ready(Ok(n)) => self.written += n,
                Poll::Ready(Err(WriteError::ConnectionLost(e))) => return Some(Disconnected(e)),
                // Reading tells why.
                Poll::Ready(Err(_)) => self.unread = true,
            }
        }
        self.written = 0;
        self.desk.written();
        None
    }

    fn close(&mut self, ended: &Ended) {
        match ended {
            Ended::Stopped => {
                let _ = self.send.finish();
            }
            // The broker ended its side; ours is of no more use.
            _ => {
                let code = VarInt::from_u32(StreamCode::CancelAll.number());
                let _ = self.send.reset(code);
                let _ = self.recv.stop(code);
            }
        }
    }
}

fn too_large(e: FrameTooLarge) -> Violation {
    e.into()
}

/// A timer that is set anew without being made anew.
#[derive(Default)]
struct Alarm {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn set(&mut self, at: Option<Instant>) {
        if self.at == at {
            return;
        }
        self.at = at;
        let Some(at) = at else { return };
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at.into()),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at.into()))),
        }
    }

    /// Whether its time has come; once.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let (Some(_), Some(sleep)) = (self.at, &mut self.sleep) else { return false };
        let over = sleep.as_mut().poll(cx).is_ready();
        if over {
            self.at = None;
        }
        over
    }
}
