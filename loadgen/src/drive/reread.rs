//! Durable batches after the load is over: jobs that were accepted and not seen to end are waited
//! for, some batches are read again from the broker's records, and the jobs are forgotten.
//!
//! What the records say is judged as an answer is: every job once, with the right result.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use tokio::time::{sleep, timeout};
use tollgate_client::{Attachment, BatchId, CancelScope, JobEvent, JobFilter, JobTarget};

use super::Source;
use crate::{
    check::{self, Bits},
    plan::Plan,
    scenario::Operation,
};

/// How many are dealt with at once.
const AT_ONCE: usize = 16;
/// How long after a look at jobs that were cancelled the next one is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Batches whose jobs are forgotten at the end: more are left with the broker, and that is told.
const BATCHES_MAX: usize = 1_000_000;

/// What is known of durable batches that are over.
#[derive(Default)]
pub struct Durable {
    /// Those that have begun and are not over: they are given up when the load is.
    under_way: HashSet<BatchId>,
    /// Every batch, to be forgotten.
    all: Vec<BatchId>,
    /// The newest that ended well, to be read again.
    newest: VecDeque<(BatchId, u64)>,
    /// Those that did not end well and have jobs: which are jobs, and which of them ended.
    open: Vec<(BatchId, u64, (Bits, Bits))>,
    /// What came of it.
    pub done: Reread,
}

/// What reading again came to.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Reread {
    /// Jobs whose end was seen only after the load was over.
    pub jobs_settled: u64,
    /// Batches and jobs that were read again from the broker's records.
    pub batches_audited: u64,
    pub jobs_audited: u64,
    /// Batches that were to be read again and did not come to their end in time.
    pub batches_unread: u64,
    pub jobs_purged: u64,
    /// Batches whose jobs are still with the broker.
    pub batches_left: u64,
}

impl Durable {
    pub(super) fn begins(&mut self, id: BatchId) {
        self.under_way.insert(id);
    }

    pub(super) fn ended(
        &mut self,
        id: BatchId,
        number: u64,
        complete: bool,
        audit: usize,
        check: check::Batch<'_>,
    ) {
        self.under_way.remove(&id);
        if self.all.len() < BATCHES_MAX {
            self.all.push(id);
        } else {
            self.done.batches_left += 1;
        }
        if complete {
            self.newest.push_back((id, number));
            if self.newest.len() > audit {
                self.newest.pop_front();
            }
        } else if check.open_jobs() > 0 {
            self.open.push((id, number, check.into_record()));
        }
    }
}

impl Source {
    /// Reads again what there is, within the limit of an operation.
    pub(super) async fn reread(self: &Arc<Self>, plan: &Plan) {
        let Operation::Job { purge, .. } = self.tenant.operation else { return };
        let mut durable = std::mem::take(&mut *self.durable());
        let until = Instant::now() + plan.limit;
        let open = std::mem::take(&mut durable.open);
        let settled = stream::iter(open)
            .map(|(id, number, record)| self.settle(id, number, record, plan.limit))
            .buffer_unordered(AT_ONCE);
        durable.done.jobs_settled = settled.fold(0, async |sum, n| sum + n).await;
        let audited = stream::iter(durable.newest.iter().copied())
            .map(|(id, number)| self.audit(id, number, plan.limit))
            .buffer_unordered(AT_ONCE);
        let done = &mut durable.done;
        (done.batches_audited, done.jobs_audited, done.batches_unread) = audited
            .fold((0, 0, 0), async |sum, read| match read {
                Some(jobs) => (sum.0 + 1, sum.1 + jobs, sum.2),
                None => (sum.0, sum.1, sum.2 + 1),
            })
            .await;
        let given_up = std::mem::take(&mut durable.under_way);
        let batches = durable.all.len() + given_up.len();
        let purged = if purge {
            // Before the others: they need some time to end.
            let cancelled = self.give_up(given_up.iter().copied(), until).await;
            let (n, jobs) = self.purge(&durable.all, until).await;
            (n + cancelled.0, jobs + cancelled.1)
        } else {
            (0, 0)
        };
        durable.done.jobs_purged = purged.1;
        durable.done.batches_left += batches as u64 - purged.0;
        *self.durable() = durable;
    }

    /// What reading again came to, of a tenant that has jobs.
    pub fn reread_done(&self) -> Option<Reread> {
        let job = matches!(self.tenant.operation, Operation::Job { .. });
        job.then(|| self.durable().done)
    }

    /// Waits for the jobs of a batch that were accepted and not seen to end; how many ended.
    async fn settle(&self, id: BatchId, number: u64, record: (Bits, Bits), limit: Duration) -> u64 {
        let mut check = check::Batch::new(&self.tenant, &self.links.answers, number);
        check.resume(record);
        let open = check.open_jobs();
        let attached = self.attach(id, number).patience(limit);
        let _ = timeout(limit, read(attached, &mut check, false)).await;
        let lost = check.open_jobs();
        // Items that came before are told again, which is no fault here.
        self.record.wrong(&check::Wrong {
            lost,
            payload: check.wrong.payload,
            ..check::Wrong::default()
        });
        open - lost
    }

    /// Reads a batch that ended well from the broker's records; how many jobs it has, if it could
    /// be read.
    async fn audit(&self, id: BatchId, number: u64, limit: Duration) -> Option<u64> {
        let mut check = check::Batch::new(&self.tenant, &self.links.answers, number);
        let attached = self.attach(id, number).replay().patience(limit);
        timeout(limit, read(attached, &mut check, true)).await.ok().filter(|whole| *whole)?;
        check.complete();
        self.record.wrong(&check.wrong);
        Some(check.answered)
    }

    fn attach(&self, id: BatchId, number: u64) -> Attachment {
        let clients = &self.links.clients;
        clients[(number % clients.len() as u64) as usize].attach(JobTarget::Batch(id))
    }

    /// Cancels the jobs of batches and forgets them once they are over; how many batches, and how
    /// many jobs.
    async fn give_up(&self, batches: impl Iterator<Item = BatchId>, until: Instant) -> (u64, u64) {
        let jobs = self.links.clients[0].jobs();
        let one = |id: BatchId| {
            let jobs = &jobs;
            async move {
                let filter = || JobFilter::new().batch(id);
                let gone = async {
                    jobs.cancel(filter(), CancelScope::All).await.ok()?;
                    let mut purged = 0;
                    loop {
                        purged += jobs.purge(filter()).await.ok()?;
                        if jobs.list(&filter()).await.ok()?.is_empty() {
                            return Some(purged);
                        }
                        sleep(LOOK_AGAIN).await;
                    }
                };
                timeout(until.saturating_duration_since(Instant::now()), gone).await.ok()?
            }
        };
        let gone = stream::iter(batches).map(one).buffer_unordered(AT_ONCE);
        count(gone).await
    }

    /// Forgets the jobs of batches; how many batches, and how many jobs.
    async fn purge(&self, batches: &[BatchId], until: Instant) -> (u64, u64) {
        let jobs = self.links.clients[0].jobs();
        let one = |id: BatchId| {
            let jobs = &jobs;
            async move {
                let left = until.saturating_duration_since(Instant::now());
                let purge = jobs.purge(JobFilter::new().batch(id));
                timeout(left, purge).await.ok().and_then(Result::ok)
            }
        };
        let purged = stream::iter(batches.iter().copied()).map(one).buffer_unordered(AT_ONCE);
        count(purged).await
    }
}

/// Of how many batches the jobs are forgotten, and how many jobs those were.
async fn count(batches: impl Stream<Item = Option<u64>>) -> (u64, u64) {
    let add = async |sum: (u64, u64), jobs: Option<u64>| match jobs {
        Some(jobs) => (sum.0 + 1, sum.1 + jobs),
        None => sum,
    };
    batches.fold((0, 0), add).await
}

/// Judges what is told of a batch, until it is over; false when it could not be read to its end.
/// `all`: from the first on, and not only until no job is open.
async fn read(mut attached: Attachment, check: &mut check::Batch<'_>, all: bool) -> bool {
    while let Some(event) = attached.next().await {
        let Ok(event) = event else { return false };
        match event {
            JobEvent::Accepted(x) if all => {
                check.accepted(x.id);
            }
            JobEvent::Result(r) => {
                let answer = r.outcome.as_ref().ok().map(|bytes| &**bytes);
                check.end_of(r.id, r.code_number, answer);
            }
            _ => {}
        }
        if !all && check.open_jobs() == 0 {
            break;
        }
    }
    true
}
