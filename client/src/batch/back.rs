//! How a batch comes back when its stream is lost: its jobs went on.
//!
//! A durable batch is opened again for what is not accepted yet, and goes on there. For jobs that
//! were accepted, a stream is attached; where they come from another batch, to one job after the
//! other. Items that are no jobs are lost with the stream, as they always were.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tollgate_protocol::{
    Code,
    batch::{CancelScope, Number},
    job::JobTarget,
};

use super::{
    inbox::{Inbox, Source},
    judge::{Judge, Last, LookUp},
    outbox::Stage,
    resume::{Resumed, Silence, resume},
    stream::BatchStream,
};
use crate::{
    attach::Reader,
    error::{BatchError, JobError},
    event::{Event, EventRef, Summary},
    item::{Failure, ItemResult},
};

/// What takes the place of a lost stream.
pub(super) struct Back {
    /// Opening the durable batch again.
    resuming: Option<BoxFuture<'static, Result<Resumed, BatchError>>>,
    /// Streams that are attached, one after the other; those of a job with the item that it is.
    readers: VecDeque<(Option<u64>, Reader)>,
    /// The end of the batch, as far as one was told.
    summary: Option<Summary>,
    /// The client has detached from the batch.
    detached: bool,
    /// Which cancellation was said to the stream that is attached.
    told: Option<CancelScope>,
    /// Since when the batch's own stream has told nothing.
    pub(super) silence: Option<Silence>,
    /// Why the stream was lost.
    why: BatchError,
}

impl Back {
    /// Shows what has arrived on the attached stream.
    pub(super) fn visit(
        &mut self,
        judge: &mut Judge,
        look_up: LookUp<'_>,
        visit: &mut impl FnMut(EventRef<'_>, Option<&Bytes>),
    ) -> Result<(), BatchError> {
        let Some((item, reader)) = self.readers.front_mut() else { return Ok(()) };
        let visited = reader.visit(&mut |heard, backing| {
            if let Some(event) = judge.judge_heard(heard, *item, look_up)? {
                visit(event, backing);
            }
            Ok(())
        });
        self.reader_failed(visited)
    }

    /// A job or batch that is not known any more has nothing to tell; what is missing then shows in
    /// the end.
    fn reader_failed(&mut self, result: Result<(), JobError>) -> Result<(), BatchError> {
        let Err(e) = result else { return Ok(()) };
        if let Some((_, reader)) = self.readers.front_mut() {
            reader.end();
        }
        match e.code() {
            Some(Code::NotFound) => Ok(()),
            _ => Err(batch_error(e)),
        }
    }
}

fn batch_error(e: JobError) -> BatchError {
    match e {
        JobError::Connect(e) => e.into(),
        JobError::Disconnected(e) => e.into(),
        JobError::Failed(f) => BatchError::Failed(f),
        JobError::Batch(e) => e,
        JobError::Protocol(e) => e.into(),
        JobError::Reset(code) => BatchError::Reset(code),
        JobError::OutOfReach { last, .. } => batch_error(*last),
        _ => BatchError::Cut,
    }
}

impl BatchStream {
    /// Whether the loss of the batch's own stream is no end of the batch.
    pub(super) fn can_come_back(&self, inbox: &Inbox, e: &BatchError) -> bool {
        let lost = match e {
            BatchError::Disconnected(lost) => lost.retryable(),
            BatchError::Cut | BatchError::Reset(_) => true,
            BatchError::Failed(f) => f.code() == Some(Code::Draining) && inbox.judge.accepted,
            _ => false,
        };
        lost && (inbox.judge.durable || inbox.judge.jobs.any_open())
    }

    /// The batch's own stream is lost: looks for what can take its place.
    pub(super) fn come_back(&self, inbox: &mut Inbox, why: BatchError) {
        tracing::debug!(error = %why, batch = %self.home.id, "the batch comes back");
        inbox.lose_stream();
        inbox.judge.again = true;
        let mut outbox = self.outbox();
        let detached = outbox.detached;
        let mut resuming = None;
        if outbox.durable {
            outbox.lose();
            let silence = Silence::lost(inbox.back.as_ref().and_then(|b| b.silence));
            let again = resume(self.home.clone(), silence, why.clone());
            resuming = Some((again.boxed(), silence));
        } else {
            outbox.away = true;
            outbox.give_up(why.clone());
        }
        drop(outbox);
        let spaces: Vec<_> = inbox.judge.jobs.open_spaces().collect();
        let back = inbox.back.get_or_insert_with(|| {
            let (readers, summary, told) = (VecDeque::new(), None, None);
            let (resuming, silence) = (None, None);
            Box::new(Back { resuming, readers, summary, detached, told, silence, why })
        });
        (back.resuming, back.silence) = resuming.unzip();
        back.detached = detached;
        // Who has detached needs no results.
        let attached = back.readers.iter().any(|(item, r)| item.is_none() && !r.is_over());
        if !attached && !detached {
            for (tenant, after) in spaces {
                back.attach(self, tenant, after);
            }
        }
        self.advance(inbox);
        self.wakes().wake_both();
    }

    /// Ready when something changed; with where frames have arrived, if they have.
    pub(super) fn poll_back(
        &self,
        inbox: &mut Inbox,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Source>> {
        let Some(back) = &mut inbox.back else { return Poll::Pending };
        if let Some(resuming) = &mut back.resuming
            && let Poll::Ready(resumed) = resuming.poll_unpin(cx)
        {
            back.resuming = None;
            return Poll::Ready(self.resumed(inbox, resumed));
        }
        let away = self.outbox().away;
        let asked = self.outbox().cancelled.filter(|_| away && back.resuming.is_none());
        let Some((_, reader)) = back.readers.front_mut() else { return Poll::Pending };
        if asked.is_some() && asked != back.told {
            back.told = asked;
            asked.into_iter().for_each(|scope| reader.cancel(scope));
        }
        let Poll::Ready(read) = reader.poll(cx) else { return Poll::Pending };
        match back.reader_failed(read) {
            Ok(()) => Poll::Ready(Some(Source::Attached)),
            Err(e) => {
                self.fail(inbox, e);
                Poll::Ready(None)
            }
        }
    }

    fn resumed(&self, inbox: &mut Inbox, resumed: Result<Resumed, BatchError>) -> Option<Source> {
        match resumed {
            Ok(Resumed::Open(send, recv, splitter)) => {
                self.outbox().resume(send);
                inbox.replace_stream(recv, splitter);
                inbox.judge.accepted = true;
                self.wakes().wake_both();
                Some(Source::Own)
            }
            Ok(Resumed::Sealed) => {
                let mut outbox = self.outbox();
                outbox.found_sealed();
                let unsure = !outbox.detached || !outbox.unaccepted.is_empty();
                drop(outbox);
                if let Some(back) = &mut inbox.back
                    && back.readers.is_empty()
                    && unsure
                {
                    // It tells which items were accepted, and the end.
                    let after = inbox.judge.jobs.open_spaces().next().map(|(_, after)| after);
                    back.attach(self, self.home.options.tenant.clone(), after.unwrap_or_default());
                }
                self.advance(inbox);
                self.wakes().wake_both();
                None
            }
            Err(e) => {
                self.fail(inbox, e);
                None
            }
        }
    }

    /// The stream on which the batch was resumed has said its last word.
    pub(super) fn own_stream_ended(&self, inbox: &mut Inbox, last: Last) {
        inbox.lose_stream();
        if let Some(back) = &mut inbox.back {
            match last {
                Last::Summary(summary) => back.summary = Some(summary),
                Last::Detached => {
                    // It may have been asked for after the stream was lost.
                    back.detached = true;
                    back.readers.clear();
                }
            }
        }
        self.advance(inbox);
    }

    /// Goes on to the next stream to attach, or to the end.
    pub(super) fn advance(&self, inbox: &mut Inbox) {
        let waits = inbox.has_stream();
        let Some(back) = &mut inbox.back else { return };
        if let Some(summary) = inbox.judge.heard.take() {
            back.summary = Some(summary);
        }
        while back.readers.front().is_some_and(|(_, r)| r.is_over()) {
            back.readers.pop_front();
            back.told = None;
        }
        let (stage, durable) = {
            let outbox = self.outbox();
            inbox.judge.ledger.catch_up(&outbox.sent);
            (outbox.stage, outbox.durable)
        };
        let told = back.summary.is_some() || (!durable && stage != Stage::Open);
        if !(told && inbox.judge.ledger.is_complete()) {
            // It may yet tell of items that were refused.
            if back.resuming.is_some() || waits {
                return;
            }
            if back.readers.is_empty()
                && !back.detached
                && let Some((item, job)) = inbox.judge.jobs.take_existing()
            {
                let target = JobTarget::Job(job.job_id);
                let client = self.home.client.clone();
                let reader = Reader::new(client, target, job.tenant, Number::default());
                back.readers.push_back((Some(item), reader));
            }
            if !back.readers.is_empty() {
                return;
            }
        }
        if let Some(back) = inbox.back.take() {
            self.conclude(inbox, *back);
        }
    }

    /// Nothing more can be heard: tells what is missing, and ends the batch.
    fn conclude(&self, inbox: &mut Inbox, back: Back) {
        let mut missing: Vec<_> = inbox.judge.ledger.unanswered().collect();
        let (sealed, durable) = {
            let outbox = self.outbox();
            (outbox.stage != Stage::Open, outbox.durable)
        };
        if back.detached {
            missing.retain(|(_, job)| !job);
        }
        let summary = back.summary.or_else(|| {
            let own = || inbox.judge.ledger.own_summary(self.home.opened.elapsed());
            (!durable && sealed && !back.detached).then(own)
        });
        let known = missing.iter().all(|(_, job)| !job) && !inbox.judge.gap;
        if !missing.is_empty() && durable && known {
            // The broker told of everything that it had accepted.
            for (id, _) in missing.drain(..) {
                inbox.keep_event(Event::Result(ItemResult::local(id, not_accepted())));
            }
        }
        match (missing.len() as u64, summary) {
            (0, summary) if summary.is_some() || back.detached => self.finish(inbox, summary),
            (items, _) if durable && items > 0 => {
                self.fail(inbox, BatchError::Forgotten { items });
            }
            _ => self.fail(inbox, back.why),
        }
    }
}

impl Back {
    fn attach(&mut self, stream: &BatchStream, tenant: Option<std::sync::Arc<str>>, after: Number) {
        let (client, target) = (stream.home.client.clone(), JobTarget::Batch(stream.home.id));
        let mut reader = Reader::new(client, target, tenant, after);
        reader.set_follow(!self.detached);
        self.readers.push_back((None, reader));
    }
}

fn not_accepted() -> Failure {
    let message = "the connection was lost before the item was accepted, and the batch was sealed \
                   before it could be sent again: it was not started";
    let mut failure = Failure::new(Code::Conflict, message);
    (failure.retryable, failure.side_effect_free) = (true, true);
    failure
}
