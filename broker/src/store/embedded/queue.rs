//! What waits for the committer: a lane a scope, served in turns.
//!
//! A group takes a job of each lane in turn until it is full; while others wait, no scope gets more
//! than half of it. What waits is bounded before it comes here, in bytes (`Config::queue_bytes`).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::{
    ClaimError, CommitError, DropError, Fence, Offset, Record, ScopeId, Space, Stream, TrimError,
};

/// Something for the committer to do.
#[derive(Debug)]
pub(super) struct Job {
    pub scope: ScopeId,
    pub task: Task,
    pub size: Size,
}

/// What is to be done, and who wants to know.
#[derive(Debug)]
pub(super) enum Task {
    Claim {
        done: oneshot::Sender<Result<Fence, ClaimError>>,
    },
    Commit {
        space: Space,
        epoch: u64,
        records: Vec<Record>,
        /// Its place in the queue, given back at the end.
        permit: OwnedSemaphorePermit,
        done: oneshot::Sender<Result<Vec<Offset>, CommitError>>,
    },
    Trim {
        epoch: u64,
        stream: Stream,
        before: Offset,
        done: oneshot::Sender<Result<(), TrimError>>,
    },
    Drop {
        done: oneshot::Sender<Result<(), DropError>>,
    },
}

/// How much of a group something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Size {
    pub records: usize,
    pub bytes: usize,
}

impl Size {
    fn plus(self, other: Size) -> Size {
        Size { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }

    fn fits(self, max: Size) -> bool {
        self.records <= max.records && self.bytes <= max.bytes
    }

    fn half(self) -> Size {
        Size { records: self.records / 2, bytes: self.bytes / 2 }
    }
}

/// The lanes, behind a lock.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Lanes {
    jobs: HashMap<ScopeId, VecDeque<Job>>,
    /// The scopes that have jobs and are not blocked, each once; the next one in front.
    ring: VecDeque<ScopeId>,
    /// Scopes that are being deleted: what comes after waits until that is over.
    blocked: HashSet<ScopeId>,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job at the end of its scope's lane; gives it back when the store is closed.
    pub(super) fn push(&self, job: Job) -> Result<(), Box<Job>> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(Box::new(job));
        }
        lanes.push(job);
        drop(lanes);
        self.more.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes a group of them; `None` when the queue is closed and empty.
    pub(super) fn take(&self, max: Size) -> Option<Vec<Job>> {
        let mut lanes = self.lock();
        loop {
            let group = lanes.take(max);
            if !group.is_empty() {
                return Some(group);
            }
            if lanes.closed {
                return None;
            }
            lanes = self.more.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// These scopes are being deleted: their lanes wait.
    pub(super) fn block(&self, scopes: &[ScopeId]) {
        self.lock().blocked.extend(scopes);
    }

    /// Lets the lanes of these scopes go on.
    pub(super) fn unblock(&self, scopes: &[ScopeId]) {
        let mut lanes = self.lock();
        for scope in scopes {
            if lanes.blocked.remove(scope) && lanes.jobs.contains_key(scope) {
                lanes.ring.push_back(*scope);
            }
        }
        drop(lanes);
        self.more.notify_one();
    }

    /// Nothing is added any more; what is there can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    /// Everything that is left, blocked or not. Closes it.
    pub(super) fn drain(&self) -> Vec<Job> {
        let mut lanes = self.lock();
        lanes.closed = true;
        lanes.ring.clear();
        lanes.jobs.drain().flat_map(|(_, lane)| lane).collect()
    }
}

impl Lanes {
    fn push(&mut self, job: Job) {
        let scope = job.scope;
        let lane = self.jobs.entry(scope).or_default();
        lane.push_back(job);
        if lane.len() == 1 && !self.blocked.contains(&scope) {
            self.ring.push_back(scope);
        }
    }

    fn take(&mut self, max: Size) -> Vec<Job> {
        let mut group = Vec::new();
        let mut used = Size::default();
        let mut spent: HashMap<ScopeId, Size> = HashMap::new();
        // Those that have had their half: they go on when nobody else waits.
        let mut aside = VecDeque::new();
        while let Some(scope) = self.ring.pop_front().or_else(|| aside.pop_front()) {
            let lane = self.jobs.get_mut(&scope).expect("a lane in the ring has jobs");
            let size = lane.front().expect("a lane in the ring has jobs").size;
            let share = spent.entry(scope).or_default();
            if !self.ring.is_empty() && !share.plus(size).fits(max.half()) && !group.is_empty() {
                aside.push_back(scope);
                continue;
            }
            if !group.is_empty() && !used.plus(size).fits(max) {
                self.ring.push_front(scope);
                break;
            }
            *share = share.plus(size);
            used = used.plus(size);
            let job = lane.pop_front().expect("looked at it above");
            let drops = matches!(job.task, Task::Drop { .. });
            let empty = lane.is_empty();
            group.push(job);
            if empty {
                self.jobs.remove(&scope);
            }
            if drops {
                self.blocked.insert(scope);
            } else if !empty {
                self.ring.push_back(scope);
            }
        }
        // They were held back: they are first in the next group.
        while let Some(scope) = aside.pop_back() {
            self.ring.push_front(scope);
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(scope: u64, bytes: usize) -> Job {
        let (done, _) = oneshot::channel();
        let size = Size { records: 1, bytes };
        Job { scope: ScopeId(scope), task: Task::Claim { done }, size }
    }

    fn drop_of(scope: u64) -> Job {
        let (done, _) = oneshot::channel();
        Job { scope: ScopeId(scope), task: Task::Drop { done }, size: Size::default() }
    }

    fn scopes(queue: &Queue, bytes: usize) -> Vec<u64> {
        let max = Size { records: 100, bytes };
        queue.take(max).expect("jobs").iter().map(|job| job.scope.0).collect()
    }

    fn queue(jobs: impl IntoIterator<Item = Job>) -> Queue {
        let queue = Queue::default();
        jobs.into_iter().for_each(|job| queue.push(job).expect("open"));
        queue
    }

    #[test]
    fn lanes_take_turns() {
        let queue = queue([(1, 1), (1, 1), (1, 1), (2, 1), (3, 1)].map(|(s, b)| job(s, b)));
        assert_eq!(scopes(&queue, 100), [1, 2, 3, 1, 1]);
    }

    #[test]
    fn nobody_gets_more_than_half_while_others_wait() {
        let queue = queue((0..20).map(|_| job(1, 10)).chain((0..20).map(|_| job(2, 2))));
        let group = scopes(&queue, 100);
        assert_eq!(group.iter().filter(|s| **s == 1).count(), 6, "{group:?}");
        assert_eq!(group.iter().filter(|s| **s == 2).count(), 20, "{group:?}");
        assert_eq!(scopes(&queue, 100).len(), 10, "alone it has all of it");
    }

    #[test]
    fn a_job_that_is_larger_than_a_group_goes_alone() {
        let queue = queue([job(1, 500), job(2, 1)]);
        assert_eq!(scopes(&queue, 100), [1]);
        assert_eq!(scopes(&queue, 100), [2]);
    }

    #[test]
    fn what_follows_a_drop_waits_until_it_is_over() {
        let queue = queue([drop_of(1), job(1, 1), job(2, 1)]);
        assert_eq!(scopes(&queue, 100), [1, 2]);
        queue.push(job(1, 1)).expect("open");
        queue.unblock(&[ScopeId(1)]);
        assert_eq!(scopes(&queue, 100), [1, 1]);
    }

    #[test]
    fn a_closed_queue_gives_what_is_left() {
        let queue = queue([job(1, 1)]);
        queue.close();
        assert!(queue.push(job(1, 1)).is_err());
        assert_eq!(scopes(&queue, 100), [1]);
        assert!(queue.take(Size { records: 1, bytes: 1 }).is_none());
    }
}
