//! One attempt of a job: its payload from the store, its run through the engine, its outcome to the
//! owner.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{sync::oneshot, time::Instant};
use tollgate_protocol::{
    Code,
    id::{BatchId, JobId},
};

use super::{
    Inner, record,
    service::read_kept,
    shelf::{Command, Shelf},
};
use crate::{
    batch::{Alone, Entry, Failure, Ran, Report, Watch},
    rules::job::{Job, Progress},
};

/// Readers are told of progress at most this often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Progress is kept at most this often.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What is needed to begin an attempt.
pub(super) struct Start {
    job: JobId,
    batch: BatchId,
    item: u64,
    entry: Arc<Entry>,
    attempt: u32,
    priority: u8,
    timeout: Duration,
    payload_at: u64,
    /// Under which the payload may still be in memory.
    accepted: u64,
    /// Whether its beginning is kept before anything runs: one before it was lost, perhaps because
    /// of it.
    awaited: bool,
}

impl Start {
    /// The next attempt of a job.
    pub(super) fn of(job: &Job, entry: Arc<Entry>, awaited: bool) -> Start {
        let own = job.timeout_ms.map(Duration::from_millis);
        Start {
            job: job.id,
            batch: job.batch,
            item: job.item,
            attempt: job.attempts + 1,
            priority: job.priority,
            timeout: own.map_or(entry.timeout, |own| own.min(entry.timeout)),
            payload_at: job.payload.at,
            accepted: job.accepted,
            awaited,
            entry,
        }
    }
}

/// Runs it to its end, whatever that is. Dropping it stops the attempt.
pub(super) async fn run(inner: Arc<Inner>, shelf: Arc<Shelf>, start: Start) {
    let (job, attempt) = (start.job, start.attempt);
    // A recipe's panic is an outcome; this is for one of our own, which must not cost a job.
    let ran = AssertUnwindSafe(ran(&inner, &shelf, start)).catch_unwind().await;
    let ran = ran.unwrap_or_else(|_| {
        let message = "the broker failed while it ran the job";
        Some(failed(Failure::interrupted(Code::InternalError, message, false)))
    });
    shelf.send(Command::Ran { job, attempt, ran: ran.map(Box::new) });
}

async fn ran(inner: &Arc<Inner>, shelf: &Arc<Shelf>, start: Start) -> Option<Ran> {
    let Start { job, batch, item, entry, attempt, priority, timeout, awaited, .. } = start;
    let recent = shelf.lock().recent.get(start.accepted);
    let kept = match recent {
        Some(body) => Ok(body),
        None => read_kept(&shelf.scope, start.payload_at).await,
    };
    let kept = kept.and_then(|body| record::payload(&body).map_err(|e| e.to_string()));
    let (beside, payload) = match kept {
        Ok(kept) => kept,
        Err(error) => {
            let tenant = shelf.tenant.id();
            tracing::error!(%tenant, %job, error, "the payload of a job can not be read");
            let message = "the payload of the job can not be read";
            return Some(failed(Failure {
                permanent: true,
                ..Failure::new(Code::InternalError, message)
            }));
        }
    };
    let traceparent = beside.traceparent.as_deref().map(Into::into);
    let watch = Watch::new(batch, traceparent);
    let (open, gate) = oneshot::channel();
    let open = std::sync::Mutex::new(awaited.then_some(open));
    let told = shelf.clone();
    let begun = move || {
        let gate = open.lock().ok().and_then(|mut open| open.take());
        told.send(Command::Began { job, attempt, gate });
    };
    let gate = awaited.then(|| {
        let gate: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            if gate.await.is_err() {
                // It is not to begin: whoever says so stops it.
                std::future::pending::<()>().await;
            }
        });
        gate
    });
    let alone = Alone {
        tenant: shelf.tenant.clone(),
        entry,
        item,
        attempt,
        priority,
        timeout,
        metadata: beside.pairs(),
        payload,
        begun: Arc::new(begun),
        gate,
    };
    let mut run = pin!(inner.engine.run_alone(alone, &watch));
    let mut kept_at = Instant::now();
    loop {
        let report = tokio::select! {
            biased;
            ran = &mut run => return Some(ran),
            report = watch.report() => report,
        };
        let now = Instant::now();
        if now.duration_since(kept_at) >= KEEP_EVERY {
            kept_at = now;
            shelf.send(Command::Keep { job, progress: progress(shelf, &report) });
        }
        shelf.report(job, report);
        tokio::select! {
            biased;
            ran = &mut run => return Some(ran),
            () = tokio::time::sleep(TELL_EVERY) => {}
        }
    }
}

fn progress(shelf: &Shelf, report: &Report) -> Progress {
    let at = shelf.clock.now_ms();
    Progress { done: report.done, total: report.total, at, message: report.message.as_str().into() }
}

fn failed(failure: Failure) -> Ran {
    Ran { outcome: Err(failure), running: Duration::ZERO }
}
