//! Reads on from a job or a batch, through lost connections and restarts of the broker.
//!
//! Frames are shown as they came, none of them twice: it remembers the last number it has seen and
//! attaches after it. No task and no channel: whoever polls does the work.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tollgate_protocol::{
    BrokerFrame, ClientFrame, Extensions,
    batch::{self, CancelScope, Number},
    encode,
    job::{self, JobTarget},
    limits::PREFIX_BYTES,
};

use super::stream::Stream;
use crate::{
    client::Client,
    error::{JobError, Violation},
    frame_name,
    item::Failure,
    retry::{self, Backoff},
};

/// Waits between attempts to come back.
const COME_BACK: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2), tries_max: u32::MAX };
/// Payloads from here on are kept in the buffer that they arrived in; below, a copy is cheaper.
const OWN_BYTES: usize = 4 << 10;

/// What an attached stream tells.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Gap,
    Accepted(job::JobAccepted<'a>),
    Progress(batch::Progress<'a>),
    Result(batch::ItemResult<'a>),
    Notice(batch::Notice<'a>),
    Summary(batch::Summary<'a>),
}

pub(crate) struct Reader {
    client: Client,
    target: JobTarget,
    tenant: Option<Arc<str>>,
    follow: bool,
    seen: Number,
    cancel: Option<CancelScope>,
    state: State,
    retries: Retries,
}

enum State {
    /// To be opened, after a wait.
    Idle(Duration),
    Opening(BoxFuture<'static, Result<Stream, JobError>>),
    Open(Box<Stream>),
    Over,
}

/// How long it has been since the broker last told something.
struct Retries {
    patience: Duration,
    since: Option<Instant>,
    failures: u32,
}

impl Retries {
    /// When to come back after `e`, unless that makes no sense any more.
    fn wait(&mut self, e: JobError) -> Result<Duration, JobError> {
        if !e.comes_back() {
            return Err(e);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
        let wait = COME_BACK.wait(self.failures, retry::spread());
        let wait = e.retry_after().map_or(wait, |hint| hint.max(wait));
        if since.elapsed() + wait > self.patience {
            return Err(JobError::OutOfReach { after: self.patience, last: Box::new(e) });
        }
        tracing::debug!(error = %e, ?wait, "attaching again");
        Ok(wait)
    }

    fn succeeded(&mut self) {
        (self.since, self.failures) = (None, 0);
    }
}

impl Reader {
    pub(crate) fn new(
        client: Client,
        target: JobTarget,
        tenant: Option<Arc<str>>,
        seen: Number,
    ) -> Self {
        let patience = client.patience();
        Reader {
            client,
            target,
            tenant,
            follow: true,
            seen,
            cancel: None,
            state: State::Idle(Duration::ZERO),
            retries: Retries { patience, since: None, failures: 0 },
        }
    }

    pub(crate) fn set_follow(&mut self, follow: bool) {
        self.follow = follow;
    }

    pub(crate) fn set_tenant(&mut self, tenant: Arc<str>) {
        self.tenant = Some(tenant);
    }

    pub(crate) fn set_seen(&mut self, seen: Number) {
        self.seen = seen;
    }

    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.retries.patience = patience;
    }

    pub(crate) fn target(&self) -> JobTarget {
        self.target
    }

    /// The last number seen.
    pub(crate) fn seen(&self) -> Number {
        self.seen
    }

    /// Reads no more.
    pub(crate) fn end(&mut self) {
        self.state = State::Over;
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Cancels the target's jobs; said again after a lost connection, because the broker may not
    /// have heard it.
    pub(crate) fn cancel(&mut self, scope: CancelScope) {
        self.cancel = Some(scope);
        match &mut self.state {
            State::Open(stream) => stream.say(&encoded(&ClientFrame::Cancel(scope))),
            // Opened with what was known before: begin again.
            State::Opening(_) => self.state = State::Idle(Duration::ZERO),
            State::Idle(_) | State::Over => {}
        }
    }

    /// Ready when something may have arrived, or with the error that ended it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), JobError>> {
        loop {
            match &mut self.state {
                State::Over => return Poll::Ready(Ok(())),
                &mut State::Idle(wait) => {
                    let (client, first) = (self.client.clone(), self.first());
                    let open = async move {
                        if !wait.is_zero() {
                            tokio::time::sleep(wait).await;
                        }
                        Stream::open(&client, first).await
                    };
                    self.state = State::Opening(open.boxed());
                }
                State::Opening(open) => match ready!(open.poll_unpin(cx)) {
                    Ok(stream) => self.state = State::Open(Box::new(stream)),
                    Err(e) => self.lose(e)?,
                },
                State::Open(stream) => match ready!(stream.poll(cx)) {
                    Ok(()) => return Poll::Ready(Ok(())),
                    Err(e) => self.lose(e)?,
                },
            }
        }
    }

    fn lose(&mut self, e: JobError) -> Result<(), JobError> {
        self.state = State::Over;
        self.state = State::Idle(self.retries.wait(e)?);
        Ok(())
    }

    /// What a new stream begins with.
    fn first(&self) -> Vec<u8> {
        let mut first = encoded(&ClientFrame::Attach(job::Attach {
            target: self.target,
            tenant: self.tenant.as_deref(),
            after: self.seen,
            follow: self.follow,
            extensions: Extensions::EMPTY,
        }));
        if let Some(scope) = self.cancel {
            encode(&ClientFrame::Cancel(scope), &mut first);
        }
        first
    }

    /// Shows every whole frame that has arrived. A large payload comes with the buffer whose tail
    /// it is.
    pub(crate) fn visit(
        &mut self,
        visit: &mut impl FnMut(Heard<'_>, Option<&Bytes>) -> Result<(), Violation>,
    ) -> Result<(), JobError> {
        let State::Open(stream) = &mut self.state else { return Ok(()) };
        let mut next = Next::Frame;
        while let Next::Frame = next {
            let Some(frame) = stream.splitter.peek()? else { return Ok(()) };
            if frame.len() >= OWN_BYTES
                && let Some(frame) = stream.splitter.take_gathered()
            {
                let frame = Bytes::from(frame);
                let mut own = |heard: Heard<'_>| visit(heard, Some(&frame));
                next = judge(&frame[PREFIX_BYTES..], &mut self.seen, &mut own)?;
            } else {
                let frame = stream.splitter.peek()?.unwrap_or_default();
                next = judge(frame, &mut self.seen, &mut |heard| visit(heard, None))?;
                stream.splitter.advance();
            }
            // Silence is broken by whatever comes, except the end of what was just opened.
            if !matches!(next, Next::Lost(_)) {
                self.retries.succeeded();
            }
        }
        match next {
            Next::Lost(failure) => self.lose(JobError::Failed(failure)),
            _ => {
                let behind = stream.splitter.buffered();
                self.state = State::Over;
                if behind > 0 { Err(Violation::AfterEnd(behind).into()) } else { Ok(()) }
            }
        }
    }
}

/// What follows a frame.
enum Next {
    Frame,
    End,
    Lost(Box<Failure>),
}

/// Takes one frame; shows it, unless it was seen before.
fn judge(
    frame: &[u8],
    seen: &mut Number,
    show: &mut impl FnMut(Heard<'_>) -> Result<(), Violation>,
) -> Result<Next, JobError> {
    let mut fresh = |number: Number| {
        let fresh = number > *seen;
        *seen = number.max(*seen);
        fresh
    };
    match BrokerFrame::decode(frame)? {
        BrokerFrame::Alive => {}
        BrokerFrame::Gap(gap) => {
            check(&gap.extensions)?;
            *seen = Number { epoch: gap.epoch, sequence: 0 };
            show(Heard::Gap)?;
        }
        BrokerFrame::JobAccepted(x) => {
            check(&x.extensions)?;
            if fresh(x.number) {
                show(Heard::Accepted(x))?;
            }
        }
        BrokerFrame::Result(x) => {
            check(&x.extensions)?;
            if fresh(x.number) {
                show(Heard::Result(x))?;
            }
        }
        BrokerFrame::Progress(x) => show(Heard::Progress(x))?,
        BrokerFrame::Notice(x) => show(Heard::Notice(x))?,
        BrokerFrame::Summary(x) => {
            check(&x.extensions)?;
            *seen = x.number.max(*seen);
            show(Heard::Summary(x))?;
            return Ok(Next::End);
        }
        BrokerFrame::End => return Ok(Next::End),
        BrokerFrame::Error { code, failure } => {
            let failure = Box::new(Failure::own(code, &failure));
            return Ok(Next::Lost(failure));
        }
        other => return Err(Violation::Unexpected(frame_name(&other)).into()),
    }
    Ok(Next::Frame)
}

fn check(e: &Extensions<'_>) -> Result<(), Violation> {
    match e.first_critical() {
        None => Ok(()),
        Some(e) => Err(Violation::CriticalExtension(e.number)),
    }
}

fn encoded(frame: &ClientFrame<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode(frame, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use tollgate_protocol::{Code, Pairs, batch::Body, id::JobId};

    use super::*;

    fn number(epoch: u64, sequence: u64) -> Number {
        Number { epoch, sequence }
    }

    fn result(number: Number) -> BrokerFrame<'static> {
        BrokerFrame::Result(batch::ItemResult {
            id: 1,
            tenant: None,
            status: 200,
            code: 0,
            attempts: 1,
            queued_us: 0,
            duration_us: 1,
            number,
            metadata: Pairs::EMPTY,
            extensions: Extensions::EMPTY,
            body: Body::Payload(b"x"),
        })
    }

    fn accepted(number: Number) -> BrokerFrame<'static> {
        BrokerFrame::JobAccepted(job::JobAccepted {
            id: 1,
            tenant: None,
            job_id: JobId([1; 16]),
            existing: false,
            number,
            extensions: Extensions::EMPTY,
        })
    }

    /// How many of the frames are shown, and the last number seen.
    fn shown(seen: Number, frames: &[BrokerFrame<'_>]) -> (usize, Number) {
        let (mut shown, mut seen) = (0, seen);
        for frame in frames {
            let mut bytes = Vec::new();
            encode(frame, &mut bytes);
            let next = judge(&bytes[PREFIX_BYTES..], &mut seen, &mut |_| {
                shown += 1;
                Ok(())
            });
            next.expect("a frame that belongs here");
        }
        (shown, seen)
    }

    #[test]
    fn what_was_seen_before_is_not_shown_again() {
        let frames = [accepted(number(1, 7)), result(number(1, 9))];
        assert_eq!(shown(number(0, 0), &frames), (2, number(1, 9)));
        assert_eq!(shown(number(1, 7), &frames), (1, number(1, 9)));
        assert_eq!(shown(number(1, 9), &frames), (0, number(1, 9)));
    }

    #[test]
    fn after_a_gap_everything_is_shown_even_lower_numbers() {
        let gap = BrokerFrame::Gap(job::Gap { epoch: 2, extensions: Extensions::EMPTY });
        let frames = [gap, accepted(number(2, 1)), result(number(2, 3))];
        assert_eq!(shown(number(1, 900), &frames), (3, number(2, 3)));
    }

    #[test]
    fn a_refusal_ends_it_and_a_broker_that_comes_back_is_waited_for() {
        let mut retries = Retries { patience: Duration::from_secs(60), since: None, failures: 0 };
        let draining = JobError::Failed(Box::new(Failure::new(Code::Draining, "")));
        assert!(retries.wait(draining.clone()).is_ok() && retries.wait(JobError::Cut).is_ok());
        let unknown = JobError::Failed(Box::new(Failure::new(Code::NotFound, "")));
        let e = retries.wait(unknown).expect_err("it will not come");
        assert_eq!(e.code(), Some(Code::NotFound));
        retries.patience = Duration::ZERO;
        let e = retries.wait(draining).expect_err("patience is over");
        assert!(matches!(e, JobError::OutOfReach { .. }), "{e}");
        assert_eq!(e.code(), Some(Code::Draining));
    }
}
