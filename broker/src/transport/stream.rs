//! One stream: its first frame says which operation it is.
//!
//! Reads that frame and nothing more, then hands the stream over. What can not be served is told
//! so in an `Error` frame; the connection goes on.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context as Poller, Poll},
    time::Instant,
};

use futures::FutureExt;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use tokio::time::timeout;
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Extensions, FrameTooLarge, Splitter, close::StreamCode,
};

use super::{batch, config::ms, connection::Peer, describe, jobs, output::Output, topics, work};
use crate::batch::Failure;

/// How a stream came to its end, for the connection that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The operation ran to its final frame.
    Completed,
    /// The peer reset the stream without one of the cancel codes.
    Reset,
    /// It ended in any other way: nothing was completed.
    Unfinished,
}

/// A stream as it is handed to its operation.
pub(super) struct Stream {
    pub send: SendStream,
    pub recv: RecvStream,
    pub splitter: Splitter,
    pub output: Output,
    /// When the bytes that are being read arrived.
    pub arrived: Instant,
    /// Whether the final frame is among what goes out.
    pub is_final: bool,
}

pub(super) fn varint(code: StreamCode) -> VarInt {
    VarInt::from_u32(code.number())
}

/// Polls a future that loses nothing when it is dropped: quinn's reads and writes.
pub(super) fn poll_now<F: Future>(future: F, cx: &mut Poller<'_>) -> Poll<F::Output> {
    pin!(future).poll(cx)
}

/// Serves one stream to its end.
pub(super) async fn serve(peer: Arc<Peer>, send: SendStream, recv: RecvStream) -> End {
    let frame_bytes_max = peer.services.config.limits.frame_bytes_max;
    let mut stream = Stream {
        send,
        recv,
        splitter: Splitter::new(frame_bytes_max),
        output: Output::default(),
        arrived: Instant::now(),
        is_final: false,
    };
    let limit = ms(peer.services.config.limits.first_frame_timeout_ms);
    // Mostly it is there already: then neither timer nor watch is needed.
    let first = match stream.first_frame().now_or_never() {
        Some(first) => Ok(first),
        None => timeout(limit, stream.first_frame_or_gone()).await,
    };
    match first {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return End::Unfinished,
        Ok(Err(First::Reset)) => return End::Reset,
        Ok(Err(First::Lost)) => return End::Unfinished,
        Ok(Err(First::Gone)) => {
            let _ = stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = stream.recv.stop(varint(StreamCode::Done));
            return End::Unfinished;
        }
        Ok(Err(First::TooLarge(e))) => return stream.refuse(too_large(e)).await,
        Err(_) => {
            let _ = stream.send.reset(varint(StreamCode::Stalled));
            let _ = stream.recv.stop(varint(StreamCode::Stalled));
            return End::Unfinished;
        }
    }
    stream.dispatch(&peer).await
}

/// Why there is no first frame.
enum First {
    Reset,
    Lost,
    /// The client reads no answer.
    Gone,
    TooLarge(FrameTooLarge),
}

impl Stream {
    /// As [`first_frame`](Self::first_frame), for a client that still reads: one that gives up
    /// reading before it has asked for anything is done.
    async fn first_frame_or_gone(&mut self) -> Result<bool, First> {
        let gone = self.send.stopped();
        tokio::select! {
            // Biased: what has arrived is heeded.
            biased;
            first = self.first_frame() => first,
            _ = gone => Err(First::Gone),
        }
    }

    /// Reads until there is one whole frame. False when the stream ended before.
    async fn first_frame(&mut self) -> Result<bool, First> {
        loop {
            if self.splitter.peek().map_err(First::TooLarge)?.is_some() {
                return Ok(true);
            }
            match self.recv.read_chunks(self.splitter.buffers()).await {
                Ok(Some(n)) => self.splitter.filled(n),
                Ok(None) => return Ok(false),
                Err(ReadError::Reset(code)) => {
                    let code = StreamCode::from_number(code.into_inner());
                    let cancel =
                        matches!(code, Some(StreamCode::CancelAll | StreamCode::CancelPending));
                    return Err(if cancel { First::Lost } else { First::Reset });
                }
                Err(_) => return Err(First::Lost),
            }
            self.arrived = Instant::now();
        }
    }

    async fn dispatch(mut self, peer: &Arc<Peer>) -> End {
        // What belongs to calls that run goes on to the end.
        match self.splitter.peek().ok().flatten().map(ClientFrame::decode) {
            Some(Ok(ClientFrame::Fetch(asked))) => return work::fetch(peer, self, asked).await,
            Some(Ok(ClientFrame::Deliver(head))) => {
                let head = head.into();
                self.splitter.advance();
                return work::deliver(peer, self, head).await;
            }
            _ => {}
        }
        let state = peer.signals.state();
        let draining = state.draining.is_some();
        let first = match self.splitter.peek() {
            Ok(Some(frame)) => ClientFrame::decode(frame),
            // `first_frame` returned because there is one.
            _ => return End::Unfinished,
        };
        let refusal = match first {
            Err(e) => e.into(),
            Ok(ClientFrame::Work(_)) if draining => {
                let refusal = Failure::new(Code::Draining, "the broker is shutting down");
                return work::refuse(self, &refusal).await;
            }
            Ok(_) if state.leaving => Failure::new(Code::Forbidden, "the tenant is being deleted"),
            Ok(_) if draining => Failure::new(Code::Draining, "the broker is shutting down"),
            Ok(ClientFrame::Batch(open)) => match batch::open(peer, &open) {
                Ok(opened) => {
                    self.splitter.advance();
                    // Apart, so that a stream that is refused has no room made for a batch.
                    return Box::pin(batch::serve(peer, self, opened)).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Describe(ask)) => {
                match describe::answer(peer, &ask, &mut self.output) {
                    Ok(()) => return self.finish(End::Completed).await,
                    Err(refusal) => refusal,
                }
            }
            Ok(ClientFrame::Attach(attach)) => match jobs::attach(peer, &attach) {
                Ok(asked) => {
                    self.splitter.advance();
                    return jobs::follow(peer, self, asked).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Job(ask)) => match jobs::ask(peer, &ask) {
                Ok(asked) => {
                    self.splitter.advance();
                    return jobs::answer(peer, self, asked).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Produce(open)) => match topics::produce(peer, &open) {
                Ok(opened) => {
                    self.splitter.advance();
                    return Box::pin(topics::serve_producer(peer, self, opened)).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Consume(open)) => match topics::consume(peer, &open) {
                Ok(opened) => {
                    self.splitter.advance();
                    return Box::pin(topics::serve_consumer(peer, self, opened)).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Topic(ask)) => match topics::ask(peer, &ask) {
                Ok(asked) => {
                    self.splitter.advance();
                    return Box::pin(topics::answer(peer, self, asked)).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Group(ask)) => match topics::ask_group(peer, &ask) {
                Ok(asked) => {
                    self.splitter.advance();
                    return Box::pin(topics::answer(peer, self, asked)).await;
                }
                Err(refusal) => refusal,
            },
            Ok(ClientFrame::Work(open)) => match work::open(peer, &open) {
                Ok(opened) => {
                    self.splitter.advance();
                    return work::serve(peer, self, opened).await;
                }
                Err(refusal) => return work::refuse(self, &refusal).await,
            },
            Ok(other) => Failure::new(
                Code::InvalidAction,
                format!(
                    "a stream does not begin with {}, but with Batch, Attach, Job, Produce, \
                     Consume, Topic, Group, Work or Describe",
                    other.name()
                ),
            ),
        };
        self.refuse(refusal).await
    }

    /// Answers with an `Error` frame and ends the stream.
    pub(super) async fn refuse(mut self, failure: Failure) -> End {
        error_frame(&mut self.output, &failure);
        self.finish(End::Unfinished).await
    }

    /// Writes what there is and ends both sides, waiting for the peer to have it.
    pub(super) async fn finish(mut self, end: End) -> End {
        /// How long a peer may take to acknowledge what was sent last.
        const ACKNOWLEDGE_MS: u64 = 10_000;
        // What the client still sends is not read: tell it, unless it is done already.
        let _ = self.recv.stop(varint(StreamCode::Done));
        let Stream { send, output, .. } = &mut self;
        let last = async {
            output.write_all(send).await.ok()?;
            send.finish().ok()?;
            send.stopped().await.ok()
        };
        if timeout(ms(ACKNOWLEDGE_MS), last).await.is_err() {
            // Never acknowledged: what quinn keeps for it is given back.
            let _ = self.send.reset(varint(StreamCode::ReaderGone));
            return End::Unfinished;
        }
        end
    }
}

/// Appends an `Error` frame.
pub(super) fn error_frame(output: &mut Output, failure: &Failure) {
    let (code, failure) = (failure.code.number(), failure.as_wire());
    output.frame(&BrokerFrame::Error { code, failure });
}

/// What is said of a frame that is too large.
pub(super) fn too_large(e: FrameTooLarge) -> Failure {
    Failure::new(
        Code::FrameTooLarge,
        format!("{e}: see `limits.frame_bytes_max`, and for payloads the quota `payload_bytes`"),
    )
    .detail("length", e.len)
    .detail("limit", e.max)
    .detail("config_key", "limits.frame_bytes_max")
}

/// Refuses what a later version of the protocol marked as critical.
pub(super) fn refuse_critical(extensions: &Extensions<'_>) -> Result<(), Failure> {
    match extensions.first_critical() {
        None => Ok(()),
        Some(e) => {
            let message = format!("extension {} is critical and not known here", e.number);
            Err(Failure::validation("extensions", message).detail("extension", e.number))
        }
    }
}
