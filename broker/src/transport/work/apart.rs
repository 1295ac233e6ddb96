//! Streams beside a stream of work: one payload each that is too large to go between others.
//!
//! Read only when its tenant has room for it, so that one tenant's large results never stand before
//! another's small ones.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use quinn::RecvStream;
use tokio::time::timeout;
use tollgate_protocol::{
    Code, PairsBuf,
    close::StreamCode,
    work::{Deliver, Fetch},
};

use super::super::{
    config::ms,
    connection::Peer,
    stream::{End, Stream, varint},
};
use crate::{
    batch::{Error, Reply},
    workers::{Expected, Session, WorkError},
};

/// Sends the payload of a call that was dispatched without it.
pub(in super::super) async fn fetch(peer: &Arc<Peer>, mut stream: Stream, asked: Fetch) -> End {
    let payload = peer.works.find(asked.work).and_then(|work| work.payload(asked.lease));
    let Some(payload) = payload else {
        let _ = stream.send.reset(varint(StreamCode::Refused));
        let _ = stream.recv.stop(varint(StreamCode::Done));
        return End::Unfinished;
    };
    stream.output.bytes(payload);
    let limit = ms(peer.services.config.limits.reader_timeout_ms);
    // A worker that takes nothing of it loses the call by its time-out.
    loop {
        let before = stream.output.len();
        let written = timeout(limit, stream.output.write_all(&mut stream.send)).await;
        match written {
            Ok(Ok(())) => return stream.finish(End::Completed).await,
            Ok(Err(_)) => return End::Unfinished,
            Err(_) if stream.output.len() < before => {}
            Err(_) => {
                let _ = stream.send.reset(varint(StreamCode::ReaderGone));
                return End::Unfinished;
            }
        }
    }
}

/// Takes an answer that is too large to go between others.
pub(in super::super) async fn deliver(peer: &Arc<Peer>, stream: Stream, head: Delivery) -> End {
    let Some(session) = peer.works.find(head.work) else { return refused(stream) };
    let expected = match session.expects(head.lease) {
        Ok(Some(expected)) => expected,
        Ok(None) | Err(_) => {
            // Answered all the same: the call is over, and its credit goes back.
            let _ = session.answer(head.lease, Err(WorkError::Cut), None);
            return refused(stream);
        }
    };
    if head.size > expected.result_bytes_max as u64 {
        let message = format!(
            "a result of {} bytes, the recipe may give {}",
            head.size, expected.result_bytes_max
        );
        let error = Error::with_code(Code::ResultTooLarge, message)
            .detail("length", head.size)
            .detail("limit", expected.result_bytes_max);
        let _ = session.answer(head.lease, Err(WorkError::Failed(error)), None);
        return refused(stream);
    }
    take(peer, stream, &session, head, expected).await
}

/// The head of a delivery, as it is kept past its frame.
pub(in super::super) struct Delivery {
    work: u64,
    lease: u64,
    size: u64,
    metadata: PairsBuf,
}

impl From<Deliver<'_>> for Delivery {
    fn from(d: Deliver<'_>) -> Self {
        Delivery { work: d.work, lease: d.lease, size: d.size, metadata: d.metadata.to_buf() }
    }
}

async fn take(
    peer: &Arc<Peer>,
    mut stream: Stream,
    session: &Arc<Session>,
    head: Delivery,
    expected: Expected,
) -> End {
    // Judged against the recipe's bound, which is a `usize`.
    let size = usize::try_from(head.size).unwrap_or(usize::MAX);
    let Expected { tenant, reserved, cancel, .. } = &expected;
    let more = size.saturating_sub(*reserved);
    let still = expected.stop_time();
    let room = tokio::select! {
        // Biased: what nobody waits for any more needs no room.
        biased;
        () = cancel.cancelled() => None,
        room = tenant.grow_bytes_wait(more) => Some(room),
    };
    drop(still);
    let limit = ms(peer.services.config.limits.frame_timeout_ms);
    let read = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        read = whole(&mut stream, size, limit) => read,
    };
    let (answer, end) = match read {
        Some(payload) => {
            let mut reply = Reply::from(payload);
            reply.set_metadata(head.metadata);
            (Ok(reply), End::Completed)
        }
        None => (Err(WorkError::Cut), End::Unfinished),
    };
    let _ = session.answer(head.lease, answer, room);
    stream.finish(end).await
}

/// Exactly `size` bytes and the end of the stream; nothing when it is not so.
async fn whole(stream: &mut Stream, size: usize, limit: Duration) -> Option<Bytes> {
    // Grows with what arrives.
    let mut payload = BytesMut::with_capacity(size.min(FIRST_BYTES));
    stream.splitter.take_rest().for_each(|chunk| payload.extend_from_slice(&chunk));
    while payload.len() < size {
        let chunk = next(&mut stream.recv, limit).await??;
        payload.extend_from_slice(&chunk);
    }
    if payload.len() > size {
        return None;
    }
    match next(&mut stream.recv, limit).await? {
        None => Some(payload.freeze()),
        Some(_) => None,
    }
}

/// The next chunk, or the end; nothing when neither comes.
async fn next(recv: &mut RecvStream, limit: Duration) -> Option<Option<Bytes>> {
    let chunk = timeout(limit, recv.read_chunk(usize::MAX, true)).await.ok()?.ok()?;
    Some(chunk.map(|c| c.bytes))
}

fn refused(mut stream: Stream) -> End {
    let _ = stream.recv.stop(varint(StreamCode::Done));
    let _ = stream.send.finish();
    End::Unfinished
}

/// What a payload is given room for before it has shown how much comes.
const FIRST_BYTES: usize = 64 << 10;
