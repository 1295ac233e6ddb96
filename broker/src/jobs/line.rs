//! A batch's way to its jobs, and every reader's way back to what became of them.
//!
//! Notes come as references; the results they name are looked up when they are read: from memory,
//! or from the store. So a slow reader costs its notes, not its results.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Poller, Poll, ready},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tollgate_protocol::{
    Code, Extensions,
    batch::{Ended, Number, Summary},
    id::{BatchId, JobId},
};

use super::{
    inbox::{Inbox, Note},
    record, result,
    service::{self, read_kept},
    shelf::{Act, Command, Shelf, State, Submit, Target},
};
use crate::{
    batch::{Accepted, Failure, Line, NewJob, Of, Report, Told},
    rules::job::{Cancel, Counts, Frame, How, JOB_BYTES, What, Which},
    tenancy::{Quota, Refusal},
};

/// Frames of a replay that are looked up at once.
const REPLAY_STEP: usize = 1_024;

/// What a reader follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Its own batch: what it hands over itself, as it happens.
    Own(Of),
    /// One job.
    Job(JobId),
    /// Every job of a batch.
    Batch(BatchId),
}

/// One reader.
pub(super) struct Reader {
    shelf: Arc<Shelf>,
    follows: Follows,
    inbox: Arc<Inbox>,
    /// What was there before it began to follow.
    replay: VecDeque<Note>,
    /// The last number of the replay so far; none once it is live.
    cursor: Option<u64>,
    /// Whether it ends with the replay.
    replay_only: bool,
    fetching: Option<Fetch>,
    over: bool,
}

type Fetch = Pin<Box<dyn Future<Output = Told> + Send>>;

impl Reader {
    /// The way of a batch.
    pub(super) fn own(shelf: Arc<Shelf>, of: Of) -> Reader {
        let inbox = Inbox::new();
        if of.durable {
            // For its end.
            shelf.lock().watch_end(of.batch, &inbox);
        }
        Reader::new(shelf, Follows::Own(of), inbox, None)
    }

    /// A reader of what is kept after a number, and then of what happens.
    pub(super) fn attached(shelf: Arc<Shelf>, follows: Follows, after: u64, live: bool) -> Reader {
        let mut reader = Reader::new(shelf, follows, Inbox::new(), Some(after));
        reader.replay_only = !live;
        reader
    }

    fn new(shelf: Arc<Shelf>, follows: Follows, inbox: Arc<Inbox>, cursor: Option<u64>) -> Reader {
        let (replay, fetching) = (VecDeque::new(), None);
        Reader { shelf, follows, inbox, replay, cursor, replay_only: false, fetching, over: false }
    }

    /// The next of what happened; nothing after the last.
    pub(super) fn poll_next(&mut self, cx: &mut Poller<'_>) -> Poll<Option<Told>> {
        loop {
            if let Some(fetching) = &mut self.fetching {
                let told = ready!(fetching.as_mut().poll(cx));
                self.fetching = None;
                return Poll::Ready(Some(told));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let note = match self.replay.pop_front() {
                Some(note) => note,
                None if self.cursor.is_some() => {
                    self.replay_more();
                    continue;
                }
                None => ready!(self.inbox.poll(cx)),
            };
            if let Some(told) = self.tell(note) {
                return Poll::Ready(Some(told));
            }
        }
    }

    /// Looks up the next frames of the replay; once there are none, follows what happens.
    fn replay_more(&mut self) {
        let Some(cursor) = self.cursor else { return };
        let shelf = self.shelf.clone();
        let mut state = shelf.lock();
        let frames: Vec<Frame> = match self.follows {
            Follows::Own(_) => Vec::new(),
            Follows::Job(id) => state.jobs.get(id).map_or_else(Vec::new, |job| {
                let accepted = Frame { number: job.accepted, what: What::Accepted(id) };
                let finished = Frame { number: job.finished, what: What::Finished(id) };
                let there = |f: &Frame| f.number > cursor;
                [accepted, finished].into_iter().filter(there).collect()
            }),
            Follows::Batch(id) => state.jobs.batch(id).map_or_else(Vec::new, |batch| {
                batch.frames_after(cursor).take(REPLAY_STEP).collect()
            }),
        };
        if let Some(last) = frames.last() {
            self.cursor = Some(last.number);
            let notes = frames.iter().filter_map(|frame| note_of(&state, frame, self.follows));
            self.replay.extend(notes);
            return;
        }
        self.cursor = None;
        self.over = self.replay_only || self.is_over(&state);
        if self.over {
            return;
        }
        match self.follows {
            Follows::Own(_) => {}
            Follows::Job(id) => {
                let item = state.jobs.get(id).map_or(0, |job| job.item);
                state.watch(id, &self.inbox, item);
            }
            Follows::Batch(id) => {
                let watchers = state.batch_watchers.entry(id).or_default();
                watchers.retain(|inbox| !inbox.is_closed());
                watchers.push(self.inbox.clone());
            }
        }
    }

    /// Whether nothing more can happen.
    fn is_over(&self, state: &State) -> bool {
        match self.follows {
            Follows::Own(_) => false,
            Follows::Job(id) => state.jobs.get(id).is_none_or(|job| job.state.is_over()),
            Follows::Batch(id) => state.jobs.batch(id).is_none_or(|batch| batch.is_over()),
        }
    }

    /// What a note says; nothing when it is out of date, or is being looked up.
    fn tell(&mut self, note: Note) -> Option<Told> {
        match note {
            Note::Accepted(accepted) => Some(Told::Accepted(accepted)),
            Note::Refused { item, failure } => Some(Told::Refused { item, failure }),
            Note::Contradicts { item, failure } => Some(Told::Contradicts { item, failure }),
            Note::Progress { item, job } => self.progress(item, job).map(Told::Progress),
            Note::Ended { item, job } => {
                self.ended(item, job);
                let state = self.shelf.lock();
                // An own batch ends with its summary, whatever that is made of.
                let last = self.is_over(&state) && self.inbox.is_empty();
                let durable = match self.follows {
                    Follows::Batch(id) => state.jobs.batch(id).is_some_and(|b| b.durable),
                    _ => false,
                };
                drop(state);
                let read = self.replay.is_empty() && self.cursor.is_none();
                self.over |= last && !durable && read;
                None
            }
            Note::Over(batch) => {
                self.over = true;
                let state = self.shelf.lock();
                // Forgotten, when it was read so late.
                let gone = || Told::Lost(service::no_such_batch());
                Some(summary(&state, batch).map_or_else(gone, |s| Told::Over(Box::new(s))))
            }
            Note::Lost(failure) => {
                self.over = true;
                Some(Told::Lost(failure))
            }
        }
    }

    fn progress(&self, item: u64, job: JobId) -> Option<Report> {
        let state = self.shelf.lock();
        let job = state.jobs.get(job).filter(|job| !job.state.is_over())?;
        let progress = job.progress.as_ref()?;
        Some(Report {
            item_id: item,
            attempt: job.attempts.max(1),
            done: progress.done,
            total: progress.total,
            at: std::time::UNIX_EPOCH + std::time::Duration::from_millis(progress.at),
            message: progress.message.to_string(),
        })
    }

    /// Looks the result of a job up.
    fn ended(&mut self, item: u64, id: JobId) {
        let state = self.shelf.lock();
        let Some(job) = state.jobs.get(id).filter(|job| job.state.is_over()) else {
            // Replayed, or purged, before it was read.
            let known = state.jobs.get(id).is_some();
            drop(state);
            if !known {
                let failure =
                    Failure::new(Code::NotFound, "the job was purged before this was read");
                self.fetching = Some(Box::pin(async move { Told::Refused { item, failure } }));
            }
            return;
        };
        let own = match self.follows {
            Follows::Own(of) => (of.batch, item) == (job.batch, job.item),
            _ => true,
        };
        // Another item's number means nothing here.
        let number = service::number(state.epoch, if own { job.finished } else { 0 });
        let recent = state.recent.get(job.finished);
        let at = job.result.at;
        drop(state);
        let scope = self.shelf.scope.clone();
        self.fetching = Some(Box::pin(async move {
            let bytes = match recent {
                Some(bytes) => Ok(bytes),
                None => kept_result(&scope, at).await,
            };
            match bytes {
                Ok(bytes) => Told::Ended(Box::new(result::decoded(&bytes, item, number))),
                Err(error) => {
                    tracing::error!(job = %id, error, "the result of a job can not be read");
                    let message = "the result of the job can not be read";
                    Told::Refused { item, failure: Failure::new(Code::StoreUnavailable, message) }
                }
            }
        }));
    }
}

/// The result that a record keeps.
pub(super) async fn kept_result(scope: &crate::store::Scope, at: u64) -> Result<Bytes, String> {
    let body = read_kept(scope, at).await?;
    record::result(&body).map_err(|error| error.to_string())
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.inbox.close();
        let mut state = self.shelf.lock();
        match self.follows {
            // The jobs it handed over forget it when they end.
            Follows::Own(of) => state.forget_end_watchers(of.batch),
            Follows::Job(id) => state.forget_watchers(id),
            Follows::Batch(id) => state.forget_batch_watchers(id),
        }
        drop(state);
        if let Follows::Own(of) = self.follows
            && of.durable
        {
            self.shelf.send(Command::Left { batch: of.batch });
        }
    }
}

/// A frame of the past as a note.
fn note_of(state: &State, frame: &Frame, follows: Follows) -> Option<Note> {
    match frame.what {
        What::Accepted(job) => {
            let item = state.jobs.get(job)?.item;
            let number = service::number(state.epoch, frame.number);
            Some(Note::Accepted(Accepted { item, job, existing: false, number }))
        }
        What::Finished(job) => Some(Note::Ended { item: state.jobs.get(job)?.item, job }),
        What::Summary => match follows {
            Follows::Batch(batch) => Some(Note::Over(batch)),
            _ => None,
        },
    }
}

/// The last word of a durable batch.
fn summary(state: &State, id: BatchId) -> Option<Summary<'static>> {
    let batch = state.jobs.batch(id)?;
    let ((at, sequence), sealed) = (batch.ended?, batch.sealed.as_ref()?);
    let (mut failed, mut succeeded) = (sealed.refused.clone(), 0);
    if let Ok(at) = failed.binary_search_by_key(&0, |f| f.0) {
        // Of other items' jobs.
        succeeded = failed.remove(at).1;
    }
    let Counts { codes, bytes_in, bytes_out } = batch.counts();
    for (code, n) in codes {
        match (code, failed.binary_search_by_key(&code, |f| f.0)) {
            (0, _) => succeeded += n,
            (_, Ok(at)) => failed[at].1 += n,
            (_, Err(at)) => failed.insert(at, (code, n)),
        }
    }
    Some(Summary {
        ended: match sealed.how {
            How::Client => Ended::Sealed,
            How::Cancelled => Ended::Cancelled,
            How::Deadline => Ended::DeadlineExceeded,
            How::FailFast => Ended::FailFast,
            How::Broker => Ended::SealedByBroker,
        },
        total: succeeded + failed.iter().map(|f| f.1).sum::<u64>(),
        succeeded,
        failed,
        last_id_read: batch.last_item,
        duration_us: at.saturating_sub(batch.opened).saturating_mul(1_000),
        bytes_in,
        bytes_out,
        throttled_us: 0,
        number: Number { epoch: state.epoch, sequence },
        extensions: Extensions::EMPTY,
    })
}

/// The line of a batch: [`Line`] over a [`Reader`].
pub(super) struct BatchLine {
    of: Of,
    reader: Reader,
}

impl BatchLine {
    pub(super) fn new(shelf: Arc<Shelf>, of: Of) -> BatchLine {
        BatchLine { of, reader: Reader::own(shelf, of) }
    }
}

impl Line for BatchLine {
    fn submit(&mut self, new: NewJob) -> Result<(), Failure> {
        let shelf = &self.reader.shelf;
        if let Some(failure) = shelf.gone() {
            return Err(failure);
        }
        let refused = |refusal: Refusal| Failure::quota(refusal);
        // First, so that nobody finds a permit and neither its item nor a job.
        let under_way = shelf.begins();
        let queued = shelf.tenant.permit(Quota::JobsQueued, 1).map_err(refused)?;
        let bytes = JOB_BYTES + new.payload.len() as u64;
        let storage = shelf.tenant.permit(Quota::StorageBytes, bytes).map_err(refused)?;
        // Only what may be sent twice is ever compared.
        let digest = if self.of.durable || new.key.is_some() {
            let digest: [u8; 32] = Sha256::digest(&new.payload).into();
            std::array::from_fn(|at| digest[at])
        } else {
            [0; 16]
        };
        let (of, inbox) = (self.of, self.reader.inbox.clone());
        let permits = (queued, storage, under_way);
        shelf.send(Command::Submit(Box::new(Submit { new, of, digest, inbox, permits })));
        Ok(())
    }

    fn cancel(&mut self, all: bool) {
        let scope = if all { Cancel::All } else { Cancel::Pending };
        let which = Which { batch: Some(self.of.batch), ..Which::default() };
        let (act, target) = (Act::Cancel(scope), Target::All(which));
        let command = Command::Act { act, target, after: None, count: 0, answer: None };
        self.reader.shelf.send(command);
    }

    fn seal(&mut self, ended: Ended, last_item: Option<u64>, refused: &[(u16, u64)]) {
        let how = match ended {
            Ended::Cancelled => How::Cancelled,
            Ended::DeadlineExceeded => How::Deadline,
            Ended::FailFast => How::FailFast,
            _ => How::Client,
        };
        let (batch, shelf) = (self.of.batch, &self.reader.shelf);
        let refused = refused.to_vec();
        shelf.send(Command::Seal { batch, how, last_item, refused });
    }

    fn poll(&mut self, cx: &mut Poller<'_>) -> Poll<Told> {
        match ready!(self.reader.poll_next(cx)) {
            Some(told) => Poll::Ready(told),
            None => Poll::Pending,
        }
    }
}
