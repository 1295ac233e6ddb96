//! What is known of one tenant's jobs, and the way to whoever changes it.
//!
//! One owner writes (`owner`), everyone reads, under one lock that is never held across an await or
//! while a task is woken.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use foldhash::HashMap;
use tokio::sync::{Notify, oneshot, watch};
use tollgate_protocol::id::{BatchId, JobId};

use super::inbox::{Inbox, Note};
use crate::{
    batch::{Failure, NewJob, Of, Ran, Report},
    clock::Clock,
    rules::job::{Cancel, How, Jobs, Progress, Sequence, Which},
    store::Scope,
    tenancy::{Permit, Tenant},
};

/// The jobs of one tenant.
pub(super) struct Shelf {
    pub tenant: Arc<Tenant>,
    pub scope: Scope,
    pub clock: Clock,
    state: Mutex<State>,
    commands: Mutex<VecDeque<Command>>,
    pub bell: Notify,
    /// Items that were handed over and are not in the state yet.
    under_way: Arc<AtomicUsize>,
    pub phase: watch::Sender<Phase>,
}

/// How far the jobs are.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// They are being read.
    Loading,
    /// They can be asked for.
    Open,
    /// They can not be used any more, or could not be read.
    Gone(Failure),
}

/// What the lock guards.
pub(super) struct State {
    pub jobs: Jobs,
    /// The epoch of the tenant's numbers.
    pub epoch: u64,
    /// Who is told of a job, and what it is called there.
    pub watchers: HashMap<JobId, Vec<(Arc<Inbox>, u64)>>,
    /// Who is told of all jobs of a batch.
    pub batch_watchers: HashMap<BatchId, Vec<Arc<Inbox>>>,
    /// Who is told of a batch's end, and of nothing else.
    pub end_watchers: HashMap<BatchId, Vec<Arc<Inbox>>>,
    pub recent: Recent,
}

/// Which jobs something is done to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    One(JobId),
    All(Which),
}

/// What is done to many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Cancel(Cancel),
    Replay,
    Purge,
}

/// How many jobs were changed.
pub(super) type Answer = oneshot::Sender<Result<u64, Failure>>;

/// What the owner is asked to do, or told.
pub(super) enum Command {
    /// Open a durable batch, or go on with it: the last item it has.
    Open {
        batch: BatchId,
        fail_fast: bool,
        answer: oneshot::Sender<Result<Option<u64>, Failure>>,
    },
    Submit(Box<Submit>),
    Seal {
        batch: BatchId,
        how: How,
        last_item: Option<u64>,
        refused: Vec<(u16, u64)>,
    },
    /// A job of the batch is over, or it was sealed: see what follows.
    Settle {
        batch: BatchId,
    },
    /// The stream of a durable batch is gone.
    Left {
        batch: BatchId,
    },
    Act {
        act: Act,
        target: Target,
        /// Goes on after this one.
        after: Option<JobId>,
        count: u64,
        answer: Option<Answer>,
    },
    /// An attempt begins; it waits for the gate, if it has one.
    Began {
        job: JobId,
        attempt: u32,
        gate: Option<oneshot::Sender<()>>,
    },
    /// An attempt is over, or never began when the outcome is none.
    Ran {
        job: JobId,
        attempt: u32,
        ran: Option<Box<Ran>>,
    },
    /// An attempt reported something that is worth being kept.
    Keep {
        job: JobId,
        progress: Progress,
    },
}

/// An item that is to become a job.
pub(super) struct Submit {
    pub new: NewJob,
    pub of: Of,
    pub digest: [u8; 16],
    pub inbox: Arc<Inbox>,
    /// Its share of `jobs_queued`, and of `storage_bytes`.
    pub permits: Permits,
}

/// What an item holds until it is a job: of `jobs_queued`, of `storage_bytes`, and that it is under
/// way.
pub(super) type Permits = (Permit, Permit, UnderWay);

/// An item is under way from being handed over to being in the state, or refused.
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shelf {
    pub(super) fn new(
        tenant: Arc<Tenant>,
        scope: Scope,
        clock: Clock,
        jobs: Jobs,
        recent: usize,
    ) -> Shelf {
        let state = State {
            jobs,
            epoch: 0,
            watchers: HashMap::default(),
            batch_watchers: HashMap::default(),
            end_watchers: HashMap::default(),
            recent: Recent::new(recent),
        };
        Shelf {
            tenant,
            scope,
            clock,
            state: Mutex::new(state),
            commands: Mutex::default(),
            bell: Notify::new(),
            under_way: Arc::default(),
            phase: watch::Sender::new(Phase::Loading),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the owner.
    pub(super) fn send(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push_back(command);
        self.bell.notify_one();
    }

    /// An item is about to be handed over.
    pub(super) fn begins(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self.under_way.clone())
    }

    /// Whether what the tenant holds is what the state says, and nothing on its way there.
    pub(super) fn is_settled(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Open) && self.under_way.load(Ordering::SeqCst) == 0
    }

    /// What the owner was asked since the last time.
    pub(super) fn take_commands(&self, into: &mut VecDeque<Command>) {
        into.append(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the jobs can be asked for.
    pub(super) async fn opened(&self) -> Result<(), Failure> {
        let mut phase = self.phase.subscribe();
        loop {
            match &*phase.borrow_and_update() {
                Phase::Loading => {}
                Phase::Open => return Ok(()),
                Phase::Gone(failure) => return Err(failure.clone()),
            }
            if phase.changed().await.is_err() {
                return Err(super::stopped());
            }
        }
    }

    /// Whether they are gone, and why.
    pub(super) fn gone(&self) -> Option<Failure> {
        match &*self.phase.borrow() {
            Phase::Gone(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// An attempt that runs reported how far it is.
    pub(super) fn report(&self, job: JobId, report: Report) {
        let at = self.clock.now_ms();
        let Report { done, total, message, .. } = report;
        let progress = Progress { done, total, at, message: message.into() };
        let mut state = self.lock();
        state.jobs.report(job, progress);
        let wakers = state.tell(job, |item| Note::Progress { item, job });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Tells who watches a job, or its batch; whom to wake.
    pub(super) fn tell(&mut self, job: JobId, note: impl Fn(u64) -> Note) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if let Some(watchers) = self.watchers.get(&job) {
            wakers.extend(watchers.iter().filter_map(|(inbox, item)| inbox.put(note(*item))));
        }
        let Some(known) = self.jobs.get(job) else { return wakers };
        if let Some(watchers) = self.batch_watchers.get_mut(&known.batch) {
            watchers.retain(|inbox| !inbox.is_closed());
            wakers.extend(watchers.iter().filter_map(|inbox| inbox.put(note(known.item))));
        }
        wakers
    }

    /// From now on this one is told of a job.
    pub(super) fn watch(&mut self, job: JobId, inbox: &Arc<Inbox>, item: u64) {
        let watchers = self.watchers.entry(job).or_default();
        watchers.retain(|(inbox, _)| !inbox.is_closed());
        watchers.push((inbox.clone(), item));
    }

    /// From now on this one is told when a batch is over.
    pub(super) fn watch_end(&mut self, batch: BatchId, inbox: &Arc<Inbox>) {
        let watchers = self.end_watchers.entry(batch).or_default();
        watchers.retain(|inbox| !inbox.is_closed());
        watchers.push(inbox.clone());
    }

    /// Tells a batch's watchers that it is over.
    pub(super) fn tell_over(&mut self, batch: BatchId) -> Vec<Waker> {
        let mut watchers = self.batch_watchers.remove(&batch).unwrap_or_default();
        watchers.extend(self.end_watchers.remove(&batch).unwrap_or_default());
        watchers.iter().filter_map(|inbox| inbox.put(Note::Over(batch))).collect()
    }

    /// Who reads no more is forgotten: of a job's watchers.
    pub(super) fn forget_watchers(&mut self, job: JobId) {
        if let Some(watchers) = self.watchers.get_mut(&job) {
            watchers.retain(|(inbox, _)| !inbox.is_closed());
            if watchers.is_empty() {
                self.watchers.remove(&job);
            }
        }
    }

    /// Likewise, of a batch's.
    pub(super) fn forget_batch_watchers(&mut self, batch: BatchId) {
        prune(&mut self.batch_watchers, batch);
    }

    /// Likewise, of those of a batch's end.
    pub(super) fn forget_end_watchers(&mut self, batch: BatchId) {
        prune(&mut self.end_watchers, batch);
    }

    /// Tells everyone that nothing more comes.
    pub(super) fn tell_lost(&mut self, failure: &Failure) -> Vec<Waker> {
        let of_jobs = self.watchers.drain().flat_map(|(_, w)| w).map(|(inbox, _)| inbox);
        let inboxes: Vec<_> =
            of_jobs.chain(self.batch_watchers.drain().flat_map(|(_, w)| w)).collect();
        let inboxes = [inboxes, self.end_watchers.drain().flat_map(|(_, w)| w).collect()].concat();
        inboxes.iter().filter_map(|inbox| inbox.put(Note::Lost(failure.clone()))).collect()
    }
}

fn prune(watchers: &mut HashMap<BatchId, Vec<Arc<Inbox>>>, batch: BatchId) {
    if let Some(of_batch) = watchers.get_mut(&batch) {
        of_batch.retain(|inbox| !inbox.is_closed());
        if of_batch.is_empty() {
            watchers.remove(&batch);
        }
    }
}

/// The bytes of the newest submissions and results, by their numbers: most are read right after they
/// were made.
pub(super) struct Recent {
    max: usize,
    bytes: usize,
    order: VecDeque<Sequence>,
    by_number: HashMap<Sequence, Bytes>,
}

impl Recent {
    pub(super) fn new(max: usize) -> Recent {
        Recent { max, bytes: 0, order: VecDeque::new(), by_number: HashMap::default() }
    }

    pub(super) fn put(&mut self, number: Sequence, result: Bytes) {
        if result.len() > self.max / 4 {
            return;
        }
        self.bytes += result.len();
        self.order.push_back(number);
        self.by_number.insert(number, result);
        while self.bytes > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.by_number.remove(&oldest).map_or(0, |r| r.len());
        }
    }

    pub(super) fn get(&self, number: Sequence) -> Option<Bytes> {
        self.by_number.get(&number).cloned()
    }
}
