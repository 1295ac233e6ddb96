//! A whole batch at once: sent and read in the caller's own task, failures retried by hint.
//!
//! Never retries what may have run: only items whose answer says `retryable`, and the batch as a
//! whole only when nothing of it was started.

use std::{
    future::poll_fn,
    iter::Fuse,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Code,
    batch::{Ended, Mode},
    close::StreamCode,
    id::BatchId,
};

use super::{
    Batch, BatchResult, Options,
    ledger::Ids,
    options::open_stream,
    outbox::{GATHER_BYTES, HEAD_BYTES_GUESS, Outbox, Pushed},
    resume::Home,
};
use crate::{
    client::Client,
    error::BatchError,
    event::{EventRef, Progress, Summary},
    item::{Failure, ItemResult},
    request::Request,
    retry,
};

/// How long after the deadline the broker's own word on it is waited for.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// Where items come from, and where they stay while they may be needed again.
struct Feed<I: Iterator<Item = Request>> {
    /// Items taken from `rest`, those before `at` pushed already.
    taken: Vec<Request>,
    at: usize,
    rest: Fuse<I>,
    keep: bool,
}

impl<I: Iterator<Item = Request>> Feed<I> {
    /// Moves items to the outbox as far as there is room, and seals the batch behind the last.
    fn fill(&mut self, outbox: &mut Outbox, flush: impl Fn(&mut Outbox) -> bool) -> Fill {
        loop {
            if outbox.closed.is_some() {
                return Fill::Done;
            }
            if outbox.is_full() && !flush(outbox) && outbox.is_full() {
                return Fill::Blocked;
            }
            if self.at == self.taken.len() {
                if !self.keep {
                    self.taken.clear();
                    self.at = 0;
                }
                match self.rest.next() {
                    Some(request) => self.taken.push(request),
                    None => {
                        outbox.seal(true);
                        return Fill::Done;
                    }
                }
            }
            let request = &mut self.taken[self.at];
            match outbox.push(request) {
                Ok(Pushed::Taken(id)) => {
                    // It keeps its id when it is tried again.
                    request.id = Some(id);
                    self.at += 1;
                }
                Ok(Pushed::AwaitAccepted) => {
                    flush(outbox);
                    return Fill::Blocked;
                }
                Err(e) => return Fill::Wrong(e),
            }
        }
    }
}

impl<I: Iterator<Item = Request>> Feed<I> {
    /// The ids of the items that were not pushed, because the batch ended before; `last` is the
    /// highest before them.
    fn take_unsent(&mut self, mut last: Option<u64>) -> Result<Vec<u64>, BatchError> {
        let mut ids = Vec::new();
        let mut number = |request: &mut Request| {
            let next = last.map_or(Some(0), |last| last.checked_add(1));
            let id = match (request.id, last) {
                (Some(id), Some(last)) if id <= last => {
                    return Err(BatchError::IdNotIncreasing { id, last });
                }
                (Some(id), _) => id,
                (None, _) => next.ok_or(BatchError::IdNotIncreasing { id: 0, last: u64::MAX })?,
            };
            (request.id, last) = (Some(id), Some(id));
            ids.push(id);
            Ok(())
        };
        self.taken[self.at..].iter_mut().try_for_each(&mut number)?;
        for mut request in self.rest.by_ref() {
            number(&mut request)?;
            if self.keep {
                self.taken.push(request);
            }
        }
        Ok(ids)
    }
}

enum Fill {
    Blocked,
    Done,
    Wrong(BatchError),
}

/// A run that came to no regular end.
struct Broken {
    error: BatchError,
    /// Whether it is certain that nothing was started, and trying again makes sense.
    again: bool,
}

pub(crate) async fn execute(
    client: &Client,
    options: &Options,
    requests: impl IntoIterator<Item = Request>,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<BatchResult, BatchError> {
    let due = options.deadline.map(|d| Instant::now() + d);
    let (taken, rest) = (Vec::new(), requests.into_iter().fuse());
    let mut feed = Feed { taken, at: 0, rest, keep: !options.retry.is_none() };
    let mut results = Vec::with_capacity(feed.rest.size_hint().0.min(CAPACITY_MAX));
    let mut tries = 1;
    let (mut summary, sent) = loop {
        let Broken { error, again } =
            match run(client, options, due, tries, &mut feed, &mut results, on_progress).await {
                Ok(done) => break done,
                Err(broken) => broken,
            };
        let wait = options.retry.wait(tries, error.retry_after(), retry::spread());
        let Some(wait) = wait.filter(|w| again && in_time(due, *w)) else { return Err(error) };
        tracing::debug!(%error, ?wait, "the batch did not start: trying again");
        tokio::time::sleep(wait).await;
        (tries, feed.at) = (tries + 1, 0);
        results.clear();
    };
    let unsent = feed.take_unsent(sent.last().max(results.iter().map(|r| r.id).max()))?;
    add_missing(&mut results, sent.iter().chain(unsent), summary.ended);
    let mut requests = feed.taken;
    if options.mode == Mode::FailFast {
        // The broker gave the others up because of this failure: it is the last word.
        return Ok(BatchResult::new(results, summary));
    }
    loop {
        let again = again(&mut requests, &results, options, tries);
        let Some((again, wait)) = again.filter(|(_, wait)| in_time(due, *wait)) else { break };
        tracing::debug!(items = again.len(), ?wait, "trying items again");
        tokio::time::sleep(wait).await;
        tries += 1;
        requests = again;
        let more =
            run_again(client, options, due, tries, &requests, &mut results, on_progress).await;
        summary.duration += wait + more.as_ref().map_or(Duration::ZERO, |m| m.duration);
        if let Some(more) = more {
            summary.bytes_in += more.bytes_in;
            summary.bytes_out += more.bytes_out;
            summary.throttled += more.throttled;
        }
    }
    Ok(BatchResult::new(results, summary))
}

/// Room for so many results is made at once, however many are announced.
const CAPACITY_MAX: usize = 16_384;

fn in_time(due: Option<Instant>, wait: Duration) -> bool {
    due.is_none_or(|due| Instant::now() + wait < due)
}

/// The items worth another try, and when: the longest of their hints.
fn again(
    requests: &mut Vec<Request>,
    results: &[ItemResult],
    options: &Options,
    tries: u32,
) -> Option<(Vec<Request>, Duration)> {
    if options.retry.is_none() {
        return None;
    }
    let (spread, mut wait) = (retry::spread(), Duration::ZERO);
    let mut results = results.iter();
    requests.retain(|request| {
        // Both are in the order of the ids, and every request has its result.
        let result = results.find(|r| Some(r.id) == request.id);
        // A job was tried by the broker as often as makes sense.
        let result = result.filter(|r| !r.is_job());
        let failure = result.and_then(ItemResult::failure).filter(|f| f.retryable);
        let hint = failure.and_then(|f| options.retry.wait(tries, f.retry_after, spread));
        wait = wait.max(hint.unwrap_or_default());
        hint.is_some()
    });
    (!requests.is_empty()).then(|| (std::mem::take(requests), wait))
}

/// Runs `requests` once more and puts their new results in the place of the old ones.
async fn run_again(
    client: &Client,
    options: &Options,
    due: Option<Instant>,
    tries: u32,
    requests: &[Request],
    results: &mut [ItemResult],
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Option<Summary> {
    let rest = std::iter::empty().fuse();
    let mut feed = Feed { taken: requests.to_vec(), at: 0, rest, keep: true };
    let mut new = Vec::with_capacity(requests.len());
    let outcome = run(client, options, due, tries, &mut feed, &mut new, on_progress).await;
    let ids = requests.iter().filter_map(|r| r.id);
    let summary = match outcome {
        Ok((summary, _)) => {
            add_missing(&mut new, ids, summary.ended);
            Some(summary)
        }
        // Nothing happened, so the results there are still hold.
        Err(Broken { again: true, .. } | Broken { error: BatchError::Connect(_), .. }) => None,
        Err(Broken { error, .. }) => {
            add_unknown(&mut new, ids, &error);
            None
        }
    };
    for result in new {
        if let Ok(at) = results.binary_search_by_key(&result.id, |r| r.id) {
            results[at] = result;
        }
    }
    summary
}

/// Sends one batch and reads its results.
async fn run<I: Iterator<Item = Request>>(
    client: &Client,
    options: &Options,
    due: Option<Instant>,
    tries: u32,
    feed: &mut Feed<I>,
    results: &mut Vec<ItemResult>,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<(Summary, Ids), Broken> {
    // An id that the caller chose is that of the first try; later ones are batches of their own.
    let id = options.id.filter(|_| tries == 1).unwrap_or_else(BatchId::random);
    let likely = feed.rest.size_hint().0.max(feed.taken.len()).min(GATHER_BYTES);
    let home = Home::new(client.clone(), options.clone(), id, due);
    let stream = open_stream(home, likely * 2 * HEAD_BYTES_GUESS)
        .await
        .map_err(|error| Broken { again: !matches!(error, BatchError::Connect(_)), error })?;
    // Dropped with this future, and then cancels.
    let batch = Batch::new(stream, id);
    let run = drive(&batch, feed, results, on_progress);
    match due {
        None => run.await,
        Some(due) => tokio::time::timeout_at((due + DEADLINE_GRACE).into(), run).await.unwrap_or(
            Err(Broken { error: BatchError::DeadlineExceeded(DEADLINE_GRACE), again: false }),
        ),
    }
}

async fn drive<I: Iterator<Item = Request>>(
    batch: &Batch,
    feed: &mut Feed<I>,
    results: &mut Vec<ItemResult>,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<(Summary, Ids), Broken> {
    let stream = &*batch.events.stream;
    let (mut filling, mut wrong) = (true, None);
    let (mut accepted, mut summary) = (false, None);
    let result = poll_fn(|cx| {
        let mut fill = |outbox: &mut Outbox| {
            if !filling {
                return;
            }
            match feed.fill(outbox, |o| o.poll_flush(&mut stream.context()).is_ready()) {
                Fill::Blocked => {}
                Fill::Done => filling = false,
                Fill::Wrong(e) => {
                    filling = false;
                    wrong = Some(e);
                }
            }
        };
        let mut visit = |event: EventRef<'_>, backing: Option<&bytes::Bytes>| match event {
            EventRef::Result(r) => results.push(ItemResult::own(&r, backing)),
            EventRef::Progress(p) => on_progress(&Progress::own(&p)),
            EventRef::Accepted(_) => accepted = true,
            EventRef::Summary(s) => summary = Some(s.clone()),
            EventRef::JobAccepted(_) | EventRef::Throttled(_) | EventRef::Notice(_) => {}
        };
        let polled = stream.poll_drive(cx, true, &mut fill, &mut visit);
        match wrong.take() {
            Some(e) => std::task::Poll::Ready(Err(e)),
            None => polled,
        }
    })
    .await;
    let mut outbox = stream.outbox();
    match (result, summary) {
        (Ok(()), Some(summary)) => Ok((summary, std::mem::take(&mut outbox.sent))),
        (Ok(()), None) => Err(Broken { again: false, error: BatchError::Cut }),
        (Err(error), _) => {
            let again = match &error {
                // Refused before it was accepted, or with the broker's word that nothing happened.
                BatchError::Failed(f) => f.retryable && (!accepted || f.side_effect_free),
                BatchError::Disconnected(lost) => !outbox.anything_written && lost.retryable(),
                error => error.stream_code() == Some(StreamCode::Refused),
            };
            Err(Broken { again, error })
        }
    }
}

fn sort(results: &mut [ItemResult]) {
    if !results.is_sorted_by_key(|r| r.id) {
        results.sort_unstable_by_key(|r| r.id);
    }
}

/// Items that the broker never read have no result of its own: they were not started.
fn add_missing(results: &mut Vec<ItemResult>, ids: impl Iterator<Item = u64>, ended: Ended) {
    let (code, why) = match ended {
        Ended::DeadlineExceeded => (Code::DeadlineExceeded, "the deadline passed"),
        Ended::Draining => (Code::Draining, "the broker is shutting down"),
        Ended::FailFast => (Code::Cancelled, "another item failed"),
        _ => (Code::Cancelled, "the batch ended"),
    };
    add(results, ids, || {
        let mut failure = Failure::new(code, format!("never started: {why} before it was read"));
        failure.side_effect_free = true;
        failure
    });
}

fn add_unknown(results: &mut Vec<ItemResult>, ids: impl Iterator<Item = u64>, error: &BatchError) {
    add(results, ids, || {
        let message = format!("tried again, and whether it ran is not known: {error}");
        let mut failure = Failure::new(error.code().unwrap_or(Code::InternalError), message);
        (failure.retryable, failure.side_effect_free) = (false, false);
        failure
    });
}

/// Puts the results in order, and adds a failure for each of the rising `ids` without one.
fn add(
    results: &mut Vec<ItemResult>,
    ids: impl Iterator<Item = u64>,
    failure: impl Fn() -> Failure,
) {
    sort(results);
    let (known, mut at) = (results.len(), 0);
    for id in ids {
        while at < known && results[at].id < id {
            at += 1;
        }
        if at == known || results[at].id != id {
            results.push(ItemResult::local(id, failure()));
        }
    }
    sort(results);
}
