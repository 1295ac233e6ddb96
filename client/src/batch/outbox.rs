//! The sending half of a batch's stream: small frames are gathered, large payloads passed along.
//!
//! Writes when there is enough to write or when asked to, never once an item. Knows nothing about
//! what comes back, except why it must stop.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn::{SendStream, VarInt, WriteError};
use tollgate_protocol::{
    ClientFrame,
    batch::{self, BatchOpen, CancelScope, Durability},
    close::StreamCode,
    encode, encode_request_head,
    limits::PREFIX_BYTES,
};

use super::ledger::Ids;
use crate::{
    error::{BatchError, Disconnected},
    item::{Failure, ItemResult},
    request::Request,
};

/// So much is gathered before it is written: one write costs a lock and a wake-up of quinn.
pub(super) const GATHER_BYTES: usize = 32 << 10;
/// Payloads from here on are handed to quinn as they are; below, a copy is cheaper.
pub(super) const PASS_ALONG_BYTES: usize = 4 << 10;
/// Written pieces are forgotten once there are so many.
const PIECES_DONE_MAX: usize = 64;
/// Every broker reads frames of this size, so nobody waits to hear its limit first.
const FRAME_BYTES_ALWAYS: usize = 64 << 10;
/// What a small request takes on the wire besides its payload, roughly: for the first allocation.
pub(super) const HEAD_BYTES_GUESS: usize = 32;

pub(super) struct Outbox {
    stream: SendStream,
    /// Pieces to be written first, from `at` on.
    pieces: Vec<Bytes>,
    at: usize,
    /// Frames to be written after them, and how much of that is written.
    gathered: Vec<u8>,
    written: usize,
    /// The most that was gathered before it was handed over.
    gathered_most: usize,
    /// Bytes not written yet.
    queued: usize,
    pub(super) sent: Ids,
    /// The last id used, also by items that were refused here.
    last_id: Option<u64>,
    /// The broker's frame limit, once it is known.
    pub(super) frame_bytes_max: Option<usize>,
    /// Items that were refused here, for the reader of events.
    pub(super) refused: VecDeque<ItemResult>,
    pub(super) stage: Stage,
    /// Whether anything at all was handed to quinn.
    pub(super) anything_written: bool,
    /// Whether it was left unwritten once, for more to come.
    looked_at: bool,
    /// Why nothing is written any more.
    pub(super) closed: Option<BatchError>,
    /// Requests on this stream: what a seal counts.
    on_stream: u64,
    /// Whether the broker keeps the batch.
    pub(super) durable: bool,
    /// Items of a durable batch that are not known to be on the broker's storage, to be sent again
    /// should the stream be lost. Bounded by what the broker reads ahead of its storage.
    pub(super) unaccepted: BTreeMap<u64, Request>,
    /// The stream is lost and another not there yet: nothing can be written.
    paused: bool,
    /// The stream is lost, and what is said about the batch goes another way.
    pub(super) away: bool,
    /// The last cancellation that was asked for.
    pub(super) cancelled: Option<CancelScope>,
    /// The client wants to hear no more once all is accepted.
    pub(super) detached: bool,
}

/// How far the client has come with saying what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Items are taken.
    Open,
    /// Sealed; the stream stays open for a cancellation.
    Sealed,
    /// Sealed, and FIN follows the last byte.
    Finishing,
    /// FIN was given to quinn.
    Finished,
}

/// What became of an item handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It has this id, and is sent or was refused here.
    Taken(u64),
    /// It may be too large for the broker: hear its limit first.
    AwaitAccepted,
}

impl Outbox {
    /// `capacity` is how many bytes are likely to be gathered first.
    pub(super) fn new(
        stream: SendStream,
        open: &BatchOpen<'_>,
        frame_bytes_max: Option<usize>,
        capacity: usize,
    ) -> Self {
        let mut gathered = Vec::with_capacity(capacity.clamp(128, GATHER_BYTES + PASS_ALONG_BYTES));
        encode(&ClientFrame::Batch(*open), &mut gathered);
        Outbox {
            stream,
            pieces: Vec::new(),
            at: 0,
            queued: gathered.len(),
            gathered,
            written: 0,
            gathered_most: 0,
            sent: Ids::default(),
            last_id: None,
            frame_bytes_max,
            refused: VecDeque::new(),
            stage: Stage::Open,
            anything_written: false,
            looked_at: false,
            closed: None,
            on_stream: 0,
            durable: open.durability == Durability::Durable,
            unaccepted: BTreeMap::new(),
            paused: false,
            away: false,
            cancelled: None,
            detached: false,
        }
    }

    /// Whether enough is gathered to be written before more is taken, or nothing can be taken now.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.queued >= GATHER_BYTES || self.paused
    }

    /// The most bytes that were gathered before they were handed over.
    pub(super) fn gathered_most(&self) -> usize {
        self.gathered_most.max(self.gathered.len())
    }

    /// Whether there is nothing yet but that the batch is opened, which would cost a write and a
    /// packet of its own. Says so just once.
    pub(super) fn is_likely_to_grow(&mut self) -> bool {
        let alone = !self.anything_written && self.on_stream == 0 && self.stage == Stage::Open;
        alone && !std::mem::replace(&mut self.looked_at, true)
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    pub(super) fn check_open(&self) -> Result<(), BatchError> {
        match (&self.closed, self.stage) {
            (Some(e), _) => Err(e.clone()),
            (None, Stage::Open) => Ok(()),
            (None, _) => Err(BatchError::Sealed),
        }
    }

    /// The id that an item gets.
    pub(super) fn next_id(&self, asked: Option<u64>) -> Result<u64, BatchError> {
        match (asked, self.last_id) {
            (Some(id), Some(last)) if id <= last => Err(BatchError::IdNotIncreasing { id, last }),
            (Some(id), _) => Ok(id),
            (None, None) => Ok(0),
            (None, Some(last)) => {
                last.checked_add(1).ok_or(BatchError::IdNotIncreasing { id: last, last })
            }
        }
    }

    /// Takes an item: gathers it, or refuses it alone.
    pub(super) fn push(&mut self, request: &Request) -> Result<Pushed, BatchError> {
        let id = self.next_id(request.id)?;
        if let Some(failure) = &request.invalid {
            self.refuse(id, Failure::clone(failure));
            return Ok(Pushed::Taken(id));
        }
        let payload = &request.payload;
        let taken = self.push_frame(id, &request.head(id), payload.len(), |outbox| {
            outbox.put_payload(payload);
        })?;
        if self.durable && self.sent.last() == Some(id) {
            self.unaccepted.insert(id, request.clone());
        }
        Ok(taken)
    }

    fn put_payload(&mut self, payload: &Bytes) {
        if payload.len() < PASS_ALONG_BYTES {
            self.gathered.extend_from_slice(payload);
        } else {
            self.pass_along(payload.clone());
        }
    }

    /// Takes an item whose payload is borrowed, so that it is always gathered.
    pub(super) fn push_raw(&mut self, r: &batch::Request<'_>) -> Result<Pushed, BatchError> {
        let id = self.next_id(Some(r.id))?;
        let payload = r.payload;
        let taken =
            self.push_frame(id, r, payload.len(), |o| o.gathered.extend_from_slice(payload))?;
        if self.durable && self.sent.last() == Some(id) {
            self.unaccepted.insert(id, Request::own(r));
        }
        Ok(taken)
    }

    #[inline]
    fn push_frame(
        &mut self,
        id: u64,
        head: &batch::Request<'_>,
        payload_len: usize,
        put_payload: impl FnOnce(&mut Self),
    ) -> Result<Pushed, BatchError> {
        let start = self.gathered.len();
        encode_request_head(head, payload_len, &mut self.gathered);
        let wire = self.gathered.len() - start + payload_len;
        let frame = wire - PREFIX_BYTES;
        if frame > self.frame_bytes_max.unwrap_or(FRAME_BYTES_ALWAYS) {
            self.gathered.truncate(start);
            match self.frame_bytes_max {
                None => return Ok(Pushed::AwaitAccepted),
                Some(max) => self.refuse(id, Failure::frame_too_large("item", frame, max)),
            }
            return Ok(Pushed::Taken(id));
        }
        put_payload(self);
        self.queued += wire;
        self.on_stream += 1;
        self.sent.push(id);
        self.last_id = Some(id);
        Ok(Pushed::Taken(id))
    }

    fn refuse(&mut self, id: u64, failure: Failure) {
        self.last_id = Some(id);
        self.refused.push_back(ItemResult::local(id, failure));
    }

    /// Seals the batch with what was sent; with `fin`, the stream ends with it.
    pub(super) fn seal(&mut self, fin: bool) {
        self.control(&ClientFrame::Seal { items: self.on_stream });
        self.stage = if fin { Stage::Finishing } else { Stage::Sealed };
    }

    /// Wants to hear no more of the sealed batch than that it is accepted.
    pub(super) fn detach(&mut self) {
        self.detached = true;
        self.control(&ClientFrame::Detach);
        self.stage = Stage::Finishing;
    }

    /// Nothing can be written until there is another stream; what is not accepted is kept.
    pub(super) fn lose(&mut self) {
        self.pieces.clear();
        self.gathered.clear();
        (self.at, self.written, self.queued) = (0, 0, 0);
        (self.paused, self.away) = (true, true);
        if matches!(self.closed, Some(BatchError::Disconnected(_) | BatchError::Stopped(_))) {
            self.closed = None;
        }
    }

    /// Goes on over another stream, on which the batch is open: what is not known to be accepted
    /// is sent again, and what was said behind it.
    pub(super) fn resume(&mut self, stream: SendStream) {
        self.stream = stream;
        (self.paused, self.away) = (false, false);
        let unaccepted = std::mem::take(&mut self.unaccepted);
        for (id, request) in &unaccepted {
            let (start, payload) = (self.gathered.len(), &request.payload);
            encode_request_head(&request.head(*id), payload.len(), &mut self.gathered);
            self.queued += self.gathered.len() - start + payload.len();
            self.put_payload(payload);
        }
        self.on_stream = unaccepted.len() as u64;
        self.unaccepted = unaccepted;
        if self.stage != Stage::Open {
            self.control(&ClientFrame::Seal { items: self.on_stream });
        }
        if let Some(scope) = self.cancelled {
            self.control(&ClientFrame::Cancel(scope));
        }
        if self.detached {
            self.control(&ClientFrame::Detach);
        }
        if self.stage == Stage::Finished {
            self.stage = Stage::Finishing;
        }
    }

    /// The batch is sealed at the broker: there is nothing to write, and no stream for it.
    pub(super) fn found_sealed(&mut self) {
        self.paused = false;
        if self.stage == Stage::Open {
            self.closed.get_or_insert(BatchError::Sealed);
        }
    }

    /// Cancels in band behind what is gathered, or by a reset when that cannot be written at once.
    pub(super) fn cancel(&mut self, scope: CancelScope, cx: &mut Context<'_>) {
        self.cancelled = Some(scope);
        if self.away {
            // Said by whoever reads, on another stream.
            self.closed.get_or_insert(BatchError::Cancelled);
            return;
        }
        let stopped = matches!(self.closed, Some(BatchError::Stopped(_)));
        if !stopped {
            self.control(&ClientFrame::Cancel(scope));
        }
        if stopped || self.poll_flush(cx).is_pending() {
            self.reset(code_of(scope));
        }
        // Requests behind a cancellation are discarded by the broker.
        self.closed.get_or_insert(BatchError::Cancelled);
    }

    fn control(&mut self, frame: &ClientFrame<'_>) {
        if self.paused {
            // Said once there is another stream.
            return;
        }
        let start = self.gathered.len();
        encode(frame, &mut self.gathered);
        self.queued += self.gathered.len() - start;
    }

    /// Ends the sending side at once and gives up what is gathered.
    pub(super) fn reset(&mut self, code: StreamCode) {
        // Refused only when it ended already, and then there is nothing left to do.
        let _ = self.stream.reset(VarInt::from_u32(code.number()));
        self.give_up(BatchError::Cancelled);
    }

    /// Writes no more; the first reason given is the one that counts.
    pub(super) fn give_up(&mut self, why: BatchError) {
        self.pieces.clear();
        self.gathered.clear();
        (self.at, self.written, self.queued) = (0, 0, 0);
        self.closed.get_or_insert(why);
    }

    /// The batch has ended: there is nothing left to say.
    pub(super) fn end(&mut self) {
        self.give_up(BatchError::Ended);
        self.closed = Some(BatchError::Ended);
    }

    /// Ends the sending side as a dropped handle does: a batch that was sealed goes on, any other
    /// is cancelled.
    pub(super) fn abandon(&mut self, cx: &mut Context<'_>) {
        match self.stage {
            // When it is closed already, everything was said: a cancellation in band, say, which a
            // reset must not sharpen.
            Stage::Open if self.durable && self.closed.is_none() => {
                // The broker keeps it open for a while and then seals it.
                let _ = self.poll_flush(cx);
                let _ = self.stream.finish();
            }
            Stage::Open if self.closed.is_none() => self.reset(StreamCode::CancelAll),
            Stage::Sealed => {
                self.stage = Stage::Finishing;
                // What is still to be written leaves when events are read.
                let _ = self.poll_flush(cx);
            }
            _ => {}
        }
    }

    /// Writes what is gathered. Ready once all of it is quinn's, or when nothing can be written
    /// any more: `closed` then says why.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.paused {
            return Poll::Pending;
        }
        while self.queued > 0 {
            let result = match self.poll_write(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => return Poll::Pending,
            };
            match result {
                Ok(n) => {
                    self.queued -= n;
                    self.anything_written = true;
                }
                // Whoever reads finds it out as well, and looks for another stream or tells the end.
                Err(e) if self.durable && is_loss(&e) => {
                    self.lose();
                    return Poll::Pending;
                }
                Err(e) => self.give_up(match e {
                    WriteError::Stopped(code) => BatchError::Stopped(code.into_inner()),
                    WriteError::ConnectionLost(e) => Disconnected(e).into(),
                    // Reset by us, or 0-RTT, which is never used.
                    WriteError::ClosedStream | WriteError::ZeroRttRejected => BatchError::Cancelled,
                }),
            }
        }
        self.gathered.clear();
        self.written = 0;
        if self.stage == Stage::Finishing && self.closed.is_none() {
            // Refused only when it was ended already.
            let _ = self.stream.finish();
            self.stage = Stage::Finished;
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        if self.at == self.pieces.len() {
            self.at = 0;
            self.pieces.clear();
            if self.gathered.len() < PASS_ALONG_BYTES || self.written > 0 {
                // Copied by quinn into a buffer of the right size; ours is used again.
                let rest = &self.gathered[self.written..];
                let n = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
                self.written += n;
                if self.written == self.gathered.len() {
                    self.written = 0;
                    self.gathered.clear();
                }
                return Poll::Ready(Ok(n));
            }
            self.hand_over();
        }
        let pieces = &mut self.pieces[self.at..];
        let written = std::task::ready!(pin!(self.stream.write_chunks(pieces)).poll(cx))?;
        self.at += written.chunks;
        if self.at >= PIECES_DONE_MAX {
            // A stream that is never quite drained must not collect what it has written.
            self.pieces.drain(..self.at);
            self.at = 0;
        }
        Poll::Ready(Ok(written.bytes))
    }

    /// Makes a piece of what is gathered, without copying it, and a new buffer for what follows, if
    /// much can.
    fn hand_over(&mut self) {
        debug_assert_eq!(self.written, 0);
        let likely = match self.stage {
            Stage::Open => self.gathered.len().min(GATHER_BYTES) + PASS_ALONG_BYTES,
            Stage::Sealed | Stage::Finishing | Stage::Finished => 0,
        };
        self.gathered_most = self.gathered_most();
        let next = Vec::with_capacity(likely);
        self.pieces.push(std::mem::replace(&mut self.gathered, next).into());
    }

    fn pass_along(&mut self, payload: Bytes) {
        if self.written > 0 {
            // Part of it is written already: what is left becomes a piece of its own.
            self.pieces.push(Bytes::copy_from_slice(&self.gathered[self.written..]));
            self.written = 0;
            self.gathered.clear();
        } else if self.gathered.len() < PASS_ALONG_BYTES {
            self.pieces.push(Bytes::copy_from_slice(&self.gathered));
            self.gathered.clear();
        } else {
            self.hand_over();
        }
        self.pieces.push(payload);
    }
}

/// What a reset that cancels this much says.
pub(super) fn code_of(scope: CancelScope) -> StreamCode {
    match scope {
        CancelScope::Pending => StreamCode::CancelPending,
        CancelScope::All => StreamCode::CancelAll,
    }
}

/// Whether a durable batch may go on over another stream.
fn is_loss(e: &WriteError) -> bool {
    match e {
        WriteError::ConnectionLost(_) => true,
        WriteError::Stopped(code) => !matches!(
            StreamCode::from_number(code.into_inner()),
            Some(StreamCode::Done | StreamCode::FailFast)
        ),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => false,
    }
}
