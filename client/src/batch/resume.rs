//! Opens a durable batch once more, after its stream was lost.
//!
//! Tries for as long as the client's patience lasts; sends nothing but the open frame.

use std::time::{Duration, Instant};

use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Code, Splitter, batch::BatchOpen, encode, id::BatchId,
};

use super::Options;
use crate::{
    client::Client,
    error::{BatchError, Disconnected, Violation},
    frame_name,
    item::Failure,
    retry::{self, Backoff},
};

/// Waits between attempts to come back.
const COME_BACK: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2), tries_max: u32::MAX };

/// Where a batch comes from and how it is opened: the same at each opening.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) client: Client,
    pub(super) options: Options,
    pub(super) id: BatchId,
    pub(super) due: Option<Instant>,
    pub(super) opened: Instant,
}

impl Home {
    pub(super) fn new(client: Client, options: Options, id: BatchId, due: Option<Instant>) -> Self {
        Home { client, options, id, due, opened: Instant::now() }
    }

    pub(super) fn open(&self) -> BatchOpen<'_> {
        let left = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        self.options.open(self.id, left)
    }
}

/// What the broker said to the batch's id.
pub(super) enum Resumed {
    /// It is open: behind `Accepted`, `splitter` holds what has arrived.
    Open(SendStream, RecvStream, Splitter),
    /// It is sealed, or over.
    Sealed,
}

/// How long it has been since the batch's own stream last told something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    since: Instant,
    losses: u32,
}

impl Silence {
    /// It was lost now, or once more since `before`.
    pub(super) fn lost(before: Option<Silence>) -> Self {
        let begins = Silence { since: Instant::now(), losses: 0 };
        let silence = before.unwrap_or(begins);
        Silence { losses: silence.losses.saturating_add(1), ..silence }
    }

    /// When to come back after `e`, unless that makes no sense any more.
    fn wait(&self, e: &BatchError, patience: Duration) -> Option<Duration> {
        let wait = COME_BACK.wait(self.losses, retry::spread());
        let wait = e.retry_after().map_or(wait, |hint| hint.max(wait));
        (comes_back(e) && self.since.elapsed() + wait <= patience).then_some(wait)
    }
}

/// Opens the batch again: at once after a first loss, later with growing waits.
pub(super) async fn resume(
    home: Home,
    mut silence: Silence,
    mut why: BatchError,
) -> Result<Resumed, BatchError> {
    let patience = home.client.patience();
    loop {
        if silence.losses > 1 {
            let Some(wait) = silence.wait(&why, patience) else { return Err(why) };
            tracing::debug!(error = %why, ?wait, "resuming the batch again");
            tokio::time::sleep(wait).await;
        }
        why = match attempt(&home).await {
            Ok(resumed) => return Ok(resumed),
            Err(e) => e,
        };
        silence.losses += 1;
    }
}

/// Whether another attempt may succeed.
fn comes_back(e: &BatchError) -> bool {
    match e {
        BatchError::Connect(e) => e.retryable(),
        BatchError::Disconnected(lost) => lost.retryable(),
        BatchError::Failed(f) => f.retryable,
        BatchError::Cut | BatchError::Reset(_) => true,
        _ => false,
    }
}

async fn attempt(home: &Home) -> Result<Resumed, BatchError> {
    let session = home.client.session().await?;
    let (mut send, mut recv) = session.connection.open_bi().await.map_err(Disconnected)?;
    let mut open = Vec::with_capacity(128);
    encode(&ClientFrame::Batch(home.open()), &mut open);
    // A stream that was stopped before it was read is no error: the answer says why.
    if let Err(WriteError::ConnectionLost(e)) = send.write_all(&open).await {
        return Err(Disconnected(e).into());
    }
    let mut splitter = Splitter::new(session.receive_frame_max);
    loop {
        while let Some(frame) = splitter.peek()? {
            match BrokerFrame::decode(frame).map_err(Violation::from)? {
                BrokerFrame::Alive => {}
                BrokerFrame::Accepted(a) => {
                    if let Some(e) = a.extensions.first_critical() {
                        return Err(Violation::CriticalExtension(e.number).into());
                    }
                    splitter.advance();
                    return Ok(Resumed::Open(send, recv, splitter));
                }
                BrokerFrame::Error { code, failure } => {
                    let failure = Failure::own(code, &failure);
                    return match (failure.code(), failure.retryable) {
                        (Some(Code::Conflict), false) => Ok(Resumed::Sealed),
                        _ => Err(BatchError::Failed(Box::new(failure))),
                    };
                }
                other => return Err(Violation::Unexpected(frame_name(&other)).into()),
            }
            splitter.advance();
        }
        match recv.read_chunks(splitter.buffers()).await {
            Ok(Some(n)) => splitter.filled(n),
            Ok(None) => return Err(BatchError::Cut),
            Err(ReadError::ConnectionLost(e)) => return Err(Disconnected(e).into()),
            Err(ReadError::Reset(code)) => return Err(BatchError::Reset(code.into_inner())),
            // Only 0-RTT and unordered reads give the others, and there are none here.
            Err(_) => return Err(BatchError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(retryable: bool, retry_after: Option<Duration>) -> BatchError {
        let failure = Failure::new(Code::Conflict, "");
        BatchError::Failed(Box::new(Failure { retryable, retry_after, ..failure }))
    }

    #[test]
    fn each_loss_without_a_word_in_between_is_waited_for_longer() {
        let patience = Duration::from_secs(60);
        let mut silence = Silence::lost(None);
        let first = silence.wait(&BatchError::Cut, patience).expect("within patience");
        for _ in 0..4 {
            silence = Silence::lost(Some(silence));
        }
        let fifth = silence.wait(&BatchError::Cut, patience).expect("within patience");
        assert!(first <= COME_BACK.first && fifth >= 8 * COME_BACK.first, "{first:?} {fifth:?}");
        assert_eq!(silence.wait(&BatchError::Cut, Duration::ZERO), None);
    }

    #[test]
    fn a_refusal_that_stays_is_not_asked_again_and_a_hint_is_honoured() {
        let (silence, patience) = (Silence::lost(None), Duration::from_secs(60));
        assert_eq!(silence.wait(&refusal(false, None), patience), None);
        let hint = Duration::from_secs(7);
        assert_eq!(silence.wait(&refusal(true, Some(hint)), patience), Some(hint));
        assert_eq!(silence.wait(&BatchError::Cancelled, patience), None);
    }
}
