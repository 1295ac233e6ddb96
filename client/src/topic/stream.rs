//! One stream of a producer or consumer: written and read by one task, so that neither side waits
//! for the other. And when to come back after one was lost.

use std::{
    collections::VecDeque,
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tollgate_protocol::Splitter;

use crate::{
    client::Client,
    error::{Disconnected, TopicError},
    retry::{self, Backoff},
};

/// Pieces from here on are handed to quinn as they are; below, a copy is cheaper.
const PASS_ALONG_BYTES: usize = 4 << 10;
/// Waits between attempts to come back.
const COME_BACK: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2), tries_max: u32::MAX };

/// A stream, with what is to be written.
pub(super) struct Stream {
    send: SendStream,
    recv: RecvStream,
    pub(super) splitter: Splitter,
    pieces: VecDeque<Bytes>,
    gathered: Vec<u8>,
    queued: usize,
    /// Whether the sending side is to end with what is written.
    finish: Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    No,
    Asked,
    Done,
}

impl Stream {
    /// Opens a stream; `first` is to be written first.
    pub(super) async fn open(client: &Client, first: Vec<u8>) -> Result<Stream, TopicError> {
        let session = client.session().await?;
        let (send, recv) = session.connection.open_bi().await.map_err(Disconnected)?;
        let (splitter, queued) = (Splitter::new(session.receive_frame_max), first.len());
        let (pieces, gathered, finish) = (VecDeque::new(), first, Finish::No);
        Ok(Stream { send, recv, splitter, pieces, gathered, queued, finish })
    }

    /// Bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Adds a frame: its head, and a payload that is its end.
    pub(super) fn say(&mut self, head: impl FnOnce(&mut Vec<u8>), payload: &Bytes) {
        let before = self.gathered.len();
        head(&mut self.gathered);
        self.queued += self.gathered.len() - before + payload.len();
        if payload.len() < PASS_ALONG_BYTES {
            self.gathered.extend_from_slice(payload);
        } else {
            self.pieces.push_back(std::mem::take(&mut self.gathered).into());
            self.pieces.push_back(payload.clone());
        }
    }

    /// Ends the sending side once everything is written.
    pub(super) fn finish(&mut self) {
        if self.finish == Finish::No {
            self.finish = Finish::Asked;
        }
    }

    /// Writes what can be written. Pending while something is left.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TopicError>> {
        if !self.gathered.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.gathered).into());
        }
        while !self.pieces.is_empty() {
            let pieces = self.pieces.make_contiguous();
            let n = pieces.len().min(32);
            let written = poll_now(self.send.write_chunks(&mut pieces[..n]), cx);
            match written {
                Poll::Ready(Ok(written)) => {
                    self.queued -= written.bytes;
                    self.pieces.drain(..written.chunks);
                }
                Poll::Ready(Err(WriteError::ConnectionLost(e))) => {
                    return Poll::Ready(Err(Disconnected(e).into()));
                }
                // A stream that was stopped is no error here: what is read tells why.
                Poll::Ready(Err(_)) => {
                    self.pieces.clear();
                    self.queued = 0;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.finish == Finish::Asked {
            // Refused only when it was stopped.
            let _ = self.send.finish();
            self.finish = Finish::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what can be written and reads what has arrived, once: into the splitter.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TopicError>> {
        if let Poll::Ready(Err(e)) = self.poll_write(cx) {
            return Poll::Ready(Err(e));
        }
        if self.splitter.buffers().is_empty() {
            // What came before is to be taken out first.
            return Poll::Ready(Ok(()));
        }
        let read = match poll_now(self.recv.read_chunks(self.splitter.buffers()), cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read,
        };
        Poll::Ready(match read {
            Ok(Some(n)) => {
                self.splitter.filled(n);
                Ok(())
            }
            Err(ReadError::ConnectionLost(e)) => Err(Disconnected(e).into()),
            Err(ReadError::Reset(code)) => Err(TopicError::Reset(code.into_inner())),
            // Only 0-RTT and unordered reads give the others, and there are none here.
            Ok(None) | Err(_) => Err(TopicError::Cut),
        })
    }
}

/// Polls a future that loses nothing when it is dropped: quinn's reads and writes.
fn poll_now<F: Future>(future: F, cx: &mut Context<'_>) -> Poll<F::Output> {
    pin!(future).poll(cx)
}

/// How long it has been since the broker last told something.
pub(super) struct Comeback {
    patience: Duration,
    since: Option<Instant>,
    failures: u32,
}

impl Comeback {
    pub(super) fn new(patience: Duration) -> Comeback {
        Comeback { patience, since: None, failures: 0 }
    }

    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// When to come back after `e`, unless that makes no sense any more.
    pub(super) fn wait(&mut self, e: TopicError) -> Result<Duration, TopicError> {
        if !e.comes_back() {
            return Err(e);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        let wait = COME_BACK.wait(self.failures, retry::spread());
        let wait = e.retry_after().map_or(wait, |hint| hint.max(wait));
        if since.elapsed() + wait > self.patience {
            return Err(TopicError::OutOfReach { after: self.patience, last: Box::new(e) });
        }
        tracing::debug!(error = %e, ?wait, "coming back");
        Ok(wait)
    }

    /// The broker told something.
    pub(super) fn succeeded(&mut self) {
        (self.since, self.failures) = (None, 0);
    }
}
