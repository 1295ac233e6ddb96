//! All jobs of one tenant: what is known of them, and what can be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use foldhash::{HashMap, HashSet};
use tollgate_protocol::id::{BatchId, JobId, RecipeName};

use super::{
    At, How, Job, Sequence, State,
    queue::{Due, Queue, Waiting},
};

/// How long things are kept, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Jobs that are over, and their results. Dead ones are kept until they are purged.
    pub job_ms: u64,
    /// What an idempotency key names.
    pub key_ms: u64,
    /// Durable batches that nobody is connected to and that are not sealed, and those that are over
    /// and have no jobs.
    pub unsealed_ms: u64,
}

/// What an idempotency key is unique within: a recipe of the tenant.
pub type Key = (RecipeName, Box<str>);

/// A numbered frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub number: Sequence,
    /// What it says.
    pub what: What,
}

/// What a numbered frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A job was accepted.
    Accepted(JobId),
    /// A job is over.
    Finished(JobId),
    /// A batch is over.
    Summary,
}

/// A batch that has jobs, or a durable one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Whether it was opened to outlive its connection.
    pub durable: bool,
    /// Whether its first failure cancels what has not started.
    pub fail_fast: bool,
    /// When it was opened, or its first job accepted.
    pub opened: At,
    /// When it was sealed, whether by the broker, and what was refused until then.
    pub sealed: Option<Sealed>,
    /// When it was over, and the number of its summary.
    pub ended: Option<(At, Sequence)>,
    /// What its jobs had come to when it was over: they may be replayed or forgotten since.
    pub counts: Option<Counts>,
    /// The last item that became a job; once it is sealed, the last that was read.
    pub last_item: Option<u64>,
    /// Its jobs that are not over.
    pub open: u64,
    /// Its jobs.
    pub jobs: u64,
    /// How its jobs ended so far: codes (0: success) and how many, in rising order. Jobs that were
    /// replayed count with their last end.
    pub codes: Vec<(u16, u64)>,
    /// Payload bytes of its jobs.
    pub bytes_in: u64,
    /// Bytes of the results of its jobs.
    pub bytes_out: u64,
    pub(super) frames: BTreeMap<Sequence, What>,
    /// Of a durable batch: its items that became jobs.
    pub(super) items: BTreeMap<u64, JobId>,
    /// Since when nobody is connected to it; never stored.
    pub(super) left: Option<At>,
}

/// What the jobs of a batch came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Codes (0: success) and how many, in rising order.
    pub codes: Vec<(u16, u64)>,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// Bytes of their results.
    pub bytes_out: u64,
}

/// How a durable batch was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// When.
    pub at: At,
    /// What did it.
    pub how: How,
    /// Items that are no jobs of its own: how they ended, and how many.
    pub refused: Vec<(u16, u64)>,
}

impl Batch {
    /// The job that an item of a durable batch became.
    pub fn job_of(&self, item: u64) -> Option<JobId> {
        self.items.get(&item).copied()
    }

    /// What its jobs came to: as it was when the batch was over, if it is.
    pub fn counts(&self) -> Counts {
        let Batch { codes, bytes_in, bytes_out, .. } = self;
        let now = || Counts { codes: codes.clone(), bytes_in: *bytes_in, bytes_out: *bytes_out };
        self.counts.clone().unwrap_or_else(now)
    }

    /// Forgets all but its jobs.
    pub(super) fn begin_again(&mut self) {
        if let Some((_, number)) = self.ended.take() {
            self.frames.remove(&number);
        }
        (self.sealed, self.counts) = (None, None);
        self.last_item = self.items.last_key_value().map(|(item, _)| *item);
    }

    /// Whether all of it is over. What is not durable is over whenever nothing of it is open.
    pub fn is_over(&self) -> bool {
        if self.durable { self.ended.is_some() } else { self.open == 0 }
    }

    /// Numbered frames after a number, in order.
    pub fn frames_after(&self, number: Sequence) -> impl Iterator<Item = Frame> {
        let after = self.frames.range((Excluded(number), Unbounded));
        after.map(|(number, what)| Frame { number: *number, what: *what })
    }
}

/// Which jobs are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Which {
    /// Bits of [`State::number`]; 0 means every state.
    pub states: u8,
    /// Only those of a recipe.
    pub recipe: Option<RecipeName>,
    /// Only those of a batch.
    pub batch: Option<BatchId>,
}

impl Which {
    /// Whether a job is meant.
    pub fn has(&self, job: &Job) -> bool {
        (self.states == 0 || self.states & (1 << job.state.number()) != 0)
            && self.recipe.as_ref().is_none_or(|recipe| *recipe == job.recipe)
            && self.batch.is_none_or(|batch| batch == job.batch)
    }
}

/// The jobs of a tenant.
#[derive(Debug)]
pub struct Jobs {
    pub(super) keep: Keep,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) batches: HashMap<BatchId, Batch>,
    pub(super) keys: HashMap<Key, JobId>,
    /// Keys, and items of durable batches, of jobs whose acceptance is under way.
    pub(super) locked_keys: HashSet<Key>,
    pub(super) locked_items: HashSet<(BatchId, u64)>,
    pub(super) queue: Queue,
    /// The offsets of records whose bytes are still wanted.
    pub(super) wanted: BTreeMap<u64, JobId>,
    pub(super) counts: [u64; 7],
    /// What is kept of it, in bytes: payloads, results, and what the jobs themselves take.
    pub(super) bytes: u64,
}

/// What a job costs beside its payload and result, in bytes of the tenant's storage.
pub const JOB_BYTES: u64 = 256;

impl Jobs {
    /// None.
    pub fn new(keep: Keep) -> Jobs {
        Jobs {
            keep,
            jobs: BTreeMap::new(),
            batches: HashMap::default(),
            keys: HashMap::default(),
            locked_keys: HashSet::default(),
            locked_items: HashSet::default(),
            queue: Queue::default(),
            wanted: BTreeMap::new(),
            counts: [0; 7],
            bytes: 0,
        }
    }

    /// A bug of tests: keys are not known again.
    pub(crate) fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// A job.
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A batch that has jobs, or a durable one.
    pub fn batch(&self, id: BatchId) -> Option<&Batch> {
        self.batches.get(&id)
    }

    /// Every batch.
    pub fn batches(&self) -> impl Iterator<Item = (BatchId, &Batch)> {
        self.batches.iter().map(|(id, batch)| (*id, batch))
    }

    /// Jobs after a name, in the order of their names, which is that of their submission.
    pub fn after(&self, id: Option<JobId>) -> impl Iterator<Item = &Job> {
        let from = id.map_or(Unbounded, Excluded);
        self.jobs.range((from, Unbounded)).map(|(_, job)| job)
    }

    /// Every job of a batch.
    pub fn of_batch(&self, id: BatchId) -> impl Iterator<Item = &Job> {
        let frames = self.batches.get(&id).into_iter().flat_map(|batch| batch.frames.values());
        frames.filter_map(|what| match what {
            What::Accepted(job) => self.jobs.get(job),
            _ => None,
        })
    }

    /// How many are in a state.
    pub fn count(&self, state: State) -> u64 {
        self.counts[usize::from(state.number())]
    }

    /// How many are not over.
    pub fn open(&self) -> u64 {
        self.count(State::Queued) + self.count(State::Running) + self.count(State::Retrying)
    }

    /// Whether nothing is known at all.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.batches.is_empty()
    }

    /// What is kept, in bytes: payloads, results, and [`JOB_BYTES`] a job.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The recipes that some job waits to run, and those jobs in the order of their turn.
    pub fn ready(&self) -> impl Iterator<Item = (&RecipeName, &BTreeSet<Waiting>)> {
        self.queue.ready()
    }

    /// When time next brings something about.
    pub fn next_due(&self) -> Option<At> {
        self.queue.next()
    }

    /// Takes the oldest thing that is due by `now`. When nothing can come of it yet, it is put back
    /// with [`Jobs::again`].
    pub fn take_due(&mut self, now: At) -> Option<Due> {
        self.queue.take_due(now)
    }

    /// What was due is due again at a later time.
    pub fn again(&mut self, at: At, due: Due) {
        self.queue.at(at, due);
    }

    /// The records before this hold nothing that is still wanted.
    pub fn spent_before(&self) -> Option<u64> {
        self.wanted.first_key_value().map(|(at, _)| *at)
    }

    /// The oldest records that keep something that is wanted, when most of those behind them keep
    /// nothing: they are to be moved, so that the others can go. `next` is the end of the stream;
    /// nothing is said below `span_min` records.
    pub fn to_move(&self, next: u64, span_min: u64, max: usize) -> Vec<(u64, JobId)> {
        /// Records for each that is wanted, from which on they are moved.
        const SPENT_FOR_EACH: u64 = 4;
        let Some(first) = self.spent_before() else { return Vec::new() };
        let (span, wanted) = (next.saturating_sub(first), self.wanted.len() as u64);
        if span < span_min || wanted.saturating_mul(SPENT_FOR_EACH) > span {
            return Vec::new();
        }
        self.wanted.iter().take(max).map(|(at, job)| (*at, *job)).collect()
    }
}
