//! What a stream has to say: frames, gathered into few large writes.
//!
//! Small frames are gathered in one buffer; large payloads go beside it, uncopied. Knows nothing of
//! batches.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::poll_fn,
    task::{Context as Poller, Poll},
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use quinn::{SendStream, WriteError};
use tollgate_protocol::{
    BrokerFrame, Code, Extensions, Frame, Pairs,
    batch::{Body, ItemResult, Number, Progress, Scope, Success, Throttled},
    encode, encode_failure_body, encode_result_as, encode_result_head, encode_success_head,
    job::JobAccepted,
};

use super::stream::poll_now;
use crate::{
    batch::{Accepted, Failure, Head, Reply, Report, Sink},
    tenancy::{Refusal, Stop, WaitNews},
};

/// The buffer is handed to quinn once it holds this much, even while more is to come.
pub(super) const FLUSH_BYTES: usize = 32 << 10;
/// While this much waits to be written, nothing new is read.
pub(super) const FULL_BYTES: usize = 128 << 10;
/// Payloads from here on are not copied into the buffer.
const APART_BYTES: usize = 4 << 10;
/// The capacity of a buffer that has not shown yet how much it will hold.
const FIRST_BYTES: usize = 1 << 10;
/// Chunks handed to quinn in one call.
const CHUNKS_A_WRITE: usize = 32;

/// Frames on their way out.
#[derive(Debug, Default)]
pub(super) struct Output {
    buf: Vec<u8>,
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    queued: usize,
    /// How large the last buffer grew: what the next one starts with.
    grown: usize,
    /// Result payload bytes not yet charged to the tenant.
    pub unpaid: u64,
    told: Told,
    wait_news: WaitNews,
}

/// The last refusal by a quota, as it was encoded: of items that are refused there are many, one
/// after the other, and they are told the same.
#[derive(Debug, Default)]
struct Told {
    words: Option<Words>,
    body: Vec<u8>,
}

/// All that a refusal by a quota says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Words {
    code: Code,
    message: &'static str,
    retryable: bool,
    side_effect_free: bool,
    retry_after: Option<Duration>,
    quota: Refusal,
}

impl Words {
    /// What a failure says, if that is all.
    fn of(failure: &Failure) -> Option<Words> {
        let Failure { code, retryable, side_effect_free, retry_after, .. } = *failure;
        let quota = **failure.quota.as_ref()?;
        match failure.message {
            Cow::Borrowed(message) if failure.app_code.is_none() && failure.details.is_empty() => {
                Some(Words { code, message, retryable, side_effect_free, retry_after, quota })
            }
            _ => None,
        }
    }
}

impl Output {
    /// Bytes that wait to be written.
    pub(super) fn len(&self) -> usize {
        self.queued + self.buf.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says about how many bytes of results are to come, so that the buffer starts large enough.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.grown = self.grown.max(bytes.min(FLUSH_BYTES));
    }

    pub(super) fn frame(&mut self, frame: &impl Frame) {
        self.room();
        encode(frame, &mut self.buf);
    }

    /// Says that the stream waits for a rate, unless that was said just now.
    pub(super) fn throttled(&mut self, now: Instant, stop: &Stop) {
        if self.wait_news.is_due(now) {
            self.frame(&BrokerFrame::Throttled(Throttled {
                quota: stop.quota.name(),
                scope: Scope::Tenant,
                current: stop.current,
                limit: stop.limit,
                resume_ms: stop.wait_ms().unwrap_or(0),
            }));
        }
    }

    /// A frame whose payload is its end; a large one is not copied.
    pub(super) fn payload_after(&mut self, head: impl FnOnce(&mut Vec<u8>), payload: &Bytes) {
        self.room();
        head(&mut self.buf);
        if payload.len() < APART_BYTES {
            self.buf.extend_from_slice(payload);
        } else {
            self.bytes(payload.clone());
        }
        if self.buf.len() >= FLUSH_BYTES {
            self.close_buffer();
        }
    }

    /// Bytes as they are, uncopied.
    pub(super) fn bytes(&mut self, bytes: Bytes) {
        self.close_buffer();
        self.queued += bytes.len();
        self.chunks.push_back(bytes);
    }

    fn failure(&mut self, head: &Head<'_>, failure: &Failure) {
        let (status, code) = (failure.code.status(), failure.code.number());
        let result = ItemResult { status, code, ..empty(head) };
        match Words::of(failure) {
            Some(words) => {
                if self.told.words != Some(words) {
                    self.told.words = Some(words);
                    self.told.body.clear();
                    encode_failure_body(&failure.as_wire(), &mut self.told.body);
                }
                encode_result_as(&result, &self.told.body, &mut self.buf);
            }
            None => {
                let result = ItemResult { body: Body::Failure(failure.as_wire()), ..result };
                encode(&BrokerFrame::Result(result), &mut self.buf);
            }
        }
    }

    fn room(&mut self) {
        if self.buf.capacity() == 0 {
            self.buf.reserve(self.grown.clamp(FIRST_BYTES, FLUSH_BYTES + APART_BYTES));
        }
    }

    /// Closes the gathering buffer: what is in it goes out as one chunk.
    fn close_buffer(&mut self) {
        if !self.buf.is_empty() {
            self.grown = self.buf.len();
            self.queued += self.buf.len();
            self.chunks.push_back(std::mem::take(&mut self.buf).into());
        }
    }

    /// Writes as much as quinn takes now, and asks to be woken when it takes more. How many bytes
    /// it took.
    pub(super) fn write(
        &mut self,
        send: &mut SendStream,
        cx: &mut Poller<'_>,
    ) -> Result<usize, WriteError> {
        self.close_buffer();
        let mut written = 0;
        while !self.chunks.is_empty() {
            let chunks = self.chunks.make_contiguous();
            let n = chunks.len().min(CHUNKS_A_WRITE);
            match poll_now(send.write_chunks(&mut chunks[..n]), cx)? {
                Poll::Ready(w) => {
                    written += w.bytes;
                    self.queued -= w.bytes;
                    self.chunks.drain(..w.chunks);
                }
                Poll::Pending => break,
            }
        }
        Ok(written)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// As quinn's; what was not written is then lost.
    pub(super) async fn write_all(&mut self, send: &mut SendStream) -> Result<(), WriteError> {
        poll_fn(|cx| match self.write(send, cx) {
            Err(e) => Poll::Ready(Err(e)),
            Ok(_) if self.is_empty() => Poll::Ready(Ok(())),
            Ok(_) => Poll::Pending,
        })
        .await
    }
}

/// What an item says that ended well, but for its payload and what few have.
fn plain(head: &Head<'_>) -> Success {
    let Head { id, attempts, queued_us, duration_us, .. } = *head;
    Success { id, attempts, queued_us, duration_us }
}

/// The result of an item that answers nothing.
fn empty<'a>(head: &Head<'a>) -> ItemResult<'a> {
    let Head { tenant, number, .. } = *head;
    ItemResult { tenant, number, ..plain(head).result(&[]) }
}

impl Sink for Output {
    fn result(&mut self, head: &Head<'_>, outcome: Result<&mut Reply, &Failure>) {
        self.room();
        match outcome {
            Ok(reply) => {
                let len = reply.payload().len();
                let is_plain = head.tenant.is_none() && head.number == Number::default();
                if is_plain && reply.pairs().is_empty() {
                    encode_success_head(&plain(head), len, &mut self.buf);
                } else {
                    let metadata = reply.pairs().as_pairs();
                    let result = ItemResult { metadata, ..empty(head) };
                    encode_result_head(&result, len, &mut self.buf);
                }
                self.unpaid += len as u64;
                if len < APART_BYTES {
                    self.buf.extend_from_slice(reply.payload());
                } else {
                    self.bytes(reply.take_payload());
                }
            }
            Err(failure) => self.failure(head, failure),
        }
        if self.buf.len() >= FLUSH_BYTES {
            self.close_buffer();
        }
    }

    fn is_full(&self) -> bool {
        self.len() >= FULL_BYTES
    }

    fn accepted(&mut self, a: &Accepted, tenant: Option<&str>) {
        self.frame(&BrokerFrame::JobAccepted(JobAccepted {
            id: a.item,
            tenant,
            job_id: a.job,
            existing: a.existing,
            number: a.number,
            extensions: Extensions::EMPTY,
        }));
    }

    fn progress(&mut self, r: &Report) {
        let at = r.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.frame(&BrokerFrame::Progress(Progress {
            id: r.item_id,
            attempt: r.attempt,
            done: r.done,
            total: r.total,
            at_unix_ms: at.as_millis() as u64,
            message: &r.message,
            metadata: Pairs::EMPTY,
        }));
    }
}
