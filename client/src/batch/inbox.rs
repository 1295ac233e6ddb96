//! The receiving half of a batch's stream: bytes to events, each judged against what was sent.
//!
//! Decodes in place. Keeps events only when asked to: for a reader who takes them one by one, or
//! on behalf of a sender that is held up. What is kept is bounded by the items that were sent.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, VarInt};
use tollgate_protocol::{Run, Splitter, close::StreamCode, limits::PREFIX_BYTES};

use super::{
    back::Back,
    judge::{Judge, LookUp},
    outbox::PASS_ALONG_BYTES,
};
use crate::{
    error::{BatchError, Disconnected, Violation},
    event::{Event, EventRef},
};

/// Notices kept for a reader who does not come; later ones are dropped.
const NOTICES_KEPT_MAX: usize = 16;

pub(super) struct Inbox {
    /// The batch's own stream, unless it is lost.
    stream: Option<RecvStream>,
    splitter: Splitter,
    pub(super) judge: Judge,
    kept: Kept,
    /// What takes the place of a lost stream.
    pub(super) back: Option<Box<Back>>,
    pub(super) end: Option<End>,
}

/// From where something has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The batch's own stream.
    Own,
    /// A stream attached to its jobs, after a loss.
    Attached,
}

/// How the receiving side ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Well: with its summary, or detached.
    Done,
    /// Otherwise; the flag says whether the reader was told.
    Failed(BatchError, bool),
    /// The reader went away.
    Dropped,
}

impl Inbox {
    pub(super) fn new(stream: RecvStream, frame_bytes_max: usize) -> Self {
        Inbox {
            stream: Some(stream),
            splitter: Splitter::new(frame_bytes_max),
            judge: Judge::default(),
            kept: Kept::default(),
            back: None,
            end: None,
        }
    }

    /// Whether the batch's own stream is there to be read.
    pub(super) fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Lets go of the batch's own stream.
    pub(super) fn lose_stream(&mut self) {
        self.stream = None;
    }

    /// Reads on from another stream, of which `splitter` holds what has arrived already.
    pub(super) fn replace_stream(&mut self, stream: RecvStream, splitter: Splitter) {
        self.stream = Some(stream);
        self.splitter = splitter;
    }

    /// Reads what has arrived, once. Ready with false when the stream ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BatchError>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let read = pin!(stream.read_chunks(self.splitter.buffers())).poll(cx);
        Poll::Ready(match ready!(read) {
            Ok(Some(n)) => {
                self.splitter.filled(n);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(ReadError::ConnectionLost(e)) => Err(Disconnected(e).into()),
            Err(ReadError::Reset(code)) => Err(BatchError::Reset(code.into_inner())),
            // We stopped it ourselves. Unordered reads and 0-RTT do not happen here.
            Err(_) => Err(BatchError::Cancelled),
        })
    }

    /// Shows every whole frame that has arrived to `visit`. A payload that may be kept without a
    /// copy comes with the buffer whose tail it is, if `own` says that such buffers are wanted.
    pub(super) fn visit(
        &mut self,
        source: Source,
        own: bool,
        look_up: LookUp<'_>,
        visit: &mut impl FnMut(EventRef<'_>, Option<&Bytes>),
    ) -> Result<(), BatchError> {
        let Inbox { splitter, judge, back, .. } = self;
        if source == Source::Attached {
            return match back {
                Some(back) => back.visit(judge, look_up, visit),
                None => Ok(()),
            };
        }
        while judge.last.is_none() {
            if own
                && splitter.peek()?.is_some_and(|frame| frame.len() >= PASS_ALONG_BYTES)
                && let Some(frame) = splitter.take_gathered()
            {
                let frame = Bytes::from(frame);
                if let Some(event) = judge.judge(&frame[PREFIX_BYTES..], look_up)? {
                    visit(event, Some(&frame));
                }
                continue;
            }
            let mut used = 0;
            for frame in splitter.ready()? {
                used += Run::wire_len(frame);
                if let Some(event) = judge.judge(frame, look_up)? {
                    visit(event, None);
                }
                if judge.last.is_some() {
                    break;
                }
            }
            splitter.consume(used);
            if used == 0 {
                return Ok(());
            }
        }
        match splitter.buffered() {
            0 => Ok(()),
            n => Err(Violation::AfterEnd(n).into()),
        }
    }

    /// Keeps every event that has arrived, but for the summary.
    pub(super) fn keep(&mut self, source: Source, look_up: LookUp<'_>) -> Result<(), BatchError> {
        let mut kept = std::mem::take(&mut self.kept);
        let result = self.visit(source, true, look_up, &mut |event, backing| match event {
            EventRef::Summary(_) => {}
            event => kept.push(Event::own(&event, backing)),
        });
        self.kept = kept;
        result
    }

    /// Keeps an event that was made on this side.
    pub(super) fn keep_event(&mut self, event: Event) {
        self.kept.push(event);
    }

    pub(super) fn take_kept(&mut self) -> Option<Event> {
        self.kept.pop()
    }

    /// Looks whether the end of the stream is here already, which spares the broker a stop.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) {
        let mut chunk = [Bytes::new()];
        if let Some(stream) = &mut self.stream {
            let _ = pin!(stream.read_chunks(&mut chunk)).poll(cx);
        }
    }

    /// Wants no more results: for the broker a cancellation of what is no job.
    pub(super) fn stop(&mut self) {
        self.back = None;
        // Nothing of a durable batch is cancelled by going away, and nothing is meant to be.
        let code = if self.judge.durable { StreamCode::Dropped } else { StreamCode::CancelAll };
        if let Some(stream) = &mut self.stream {
            // Refused only when it ended already.
            let _ = stream.stop(VarInt::from_u32(code.number()));
        }
    }
}

impl From<tollgate_protocol::FrameTooLarge> for BatchError {
    fn from(e: tollgate_protocol::FrameTooLarge) -> Self {
        BatchError::Protocol(e.into())
    }
}

/// Events that wait for their reader: a result and a job for each item at most, the newest progress of each,
/// the newest throttling, a few notices.
#[derive(Default)]
struct Kept {
    events: VecDeque<Event>,
    /// How many were taken out: what stands at `events[i]` has the number `taken + i`.
    taken: u64,
    /// The numbers of the progress of items.
    progress: HashMap<u64, u64>,
    throttled: Option<u64>,
    notices: usize,
}

impl Kept {
    fn push(&mut self, event: Event) {
        let number = self.taken + self.events.len() as u64;
        let older = match &event {
            Event::Progress(p) => self.progress.insert(p.id, number),
            Event::Throttled(_) => self.throttled.replace(number),
            Event::Notice(_) if self.notices == NOTICES_KEPT_MAX => return,
            Event::Notice(_) => {
                self.notices += 1;
                None
            }
            _ => None,
        };
        match older {
            None => self.events.push_back(event),
            Some(older) => {
                // Newest wins, in the place of the one it replaces.
                if let Event::Progress(p) = &event {
                    self.progress.insert(p.id, older);
                } else {
                    self.throttled = Some(older);
                }
                self.events[(older - self.taken) as usize] = event;
            }
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.taken += 1;
        match &event {
            Event::Progress(p) => drop(self.progress.remove(&p.id)),
            Event::Throttled(_) => self.throttled = None,
            Event::Notice(_) => self.notices -= 1,
            _ => {}
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tollgate_protocol::batch::{NoticeKind, Scope};

    use super::*;
    use crate::event::{Notice, Progress, Throttled};

    fn progress(id: u64, done: u64) -> Event {
        Event::Progress(Progress {
            id,
            attempt: 1,
            done,
            total: 10,
            at: SystemTime::UNIX_EPOCH,
            message: "".into(),
            metadata: Default::default(),
        })
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_the_broker_sends() {
        let mut kept = Kept::default();
        for round in 0..1_000 {
            kept.push(progress(round % 3, round));
            kept.push(Event::Throttled(Throttled {
                quota: "q".into(),
                scope: Scope::Tenant,
                current: round,
                limit: 1,
                resume_in: Duration::ZERO,
            }));
            kept.push(Event::Notice(Notice {
                kind: NoticeKind::Draining,
                at: SystemTime::UNIX_EPOCH,
                message: "".into(),
            }));
            if round == 500 {
                kept.pop();
            }
        }
        assert!(kept.events.len() <= 3 + 1 + NOTICES_KEPT_MAX, "{}", kept.events.len());
        let mut newest = Vec::new();
        while let Some(event) = kept.pop() {
            if let Event::Progress(p) = event {
                newest.push(p.done);
            }
        }
        newest.sort_unstable();
        assert_eq!(newest, [997, 998, 999]);
        assert!(kept.progress.is_empty() && kept.throttled.is_none() && kept.notices == 0);
    }
}
