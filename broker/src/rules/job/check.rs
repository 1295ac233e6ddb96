//! Whether what is counted and indexed is what the jobs add up to: for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Job, State,
    jobs::{Batch, JOB_BYTES, Jobs, What},
    queue::Due,
};

impl Jobs {
    /// Counts everything again.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (mut counts, mut bytes, mut wanted) = ([0; 7], 0, BTreeMap::new());
        for job in self.jobs.values() {
            counts[usize::from(job.state.number())] += 1;
            bytes += JOB_BYTES + u64::from(job.payload.len);
            wanted.insert(job.payload.at, job.id);
            if job.state.is_over() {
                bytes += u64::from(job.result.len);
                wanted.insert(job.result.at, job.id);
            }
            self.check_job(job)?;
        }
        same("counts", &self.counts, &counts)?;
        same("bytes", &self.bytes, &bytes)?;
        same("wanted", &self.wanted, &wanted)?;
        for (recipe, set) in self.queue.ready() {
            for waiting in set {
                let waits = self.jobs.get(&waiting.job).is_some_and(|job| {
                    job.recipe == *recipe && matches!(job.state, State::Queued | State::Retrying)
                });
                right(waits, || format!("{waiting:?} may start and does not wait"))?;
            }
        }
        for (key, id) in &self.keys {
            let job = self.jobs.get(id);
            let named = job.is_some_and(|j| j.recipe == key.0 && j.key.as_ref() == Some(&key.1));
            right(named, || format!("{key:?} names {id}"))?;
        }
        for (id, batch) in &self.batches {
            let jobs: Vec<&Job> = self.jobs.values().filter(|job| job.batch == *id).collect();
            right(batch.durable || !jobs.is_empty(), || format!("batch {id} has no jobs"))?;
            check_batch(batch, &jobs).map_err(|why| format!("batch {id}: {why}"))?;
        }
        let batches: BTreeSet<_> = self.jobs.values().map(|job| job.batch).collect();
        let known = batches.iter().all(|id| self.batches.contains_key(id));
        right(known, || "a job has no batch".into())
    }

    fn check_job(&self, job: &Job) -> Result<(), String> {
        let about = |what: &str| format!("{what}: {job:?}");
        let waits = matches!(job.state, State::Queued | State::Retrying);
        let ready = self.queue.ready().any(|(_, set)| set.iter().any(|w| w.job == job.id));
        let timers = |due: Due| self.queue.timers().filter(|(_, d)| *d == due).count();
        let start = timers(Due::Start(job.id));
        right(!waits || ready || start > 0, || about("it waits, and never starts"))?;
        let deadlines = usize::from(waits && job.deadline.is_some());
        same("timers of its deadline", &timers(Due::Deadline(job.id)), &deadlines)?;
        let kept = job.state.is_over() && job.state != State::Dead;
        same("timers of its end", &timers(Due::Forget(job.id)), &usize::from(kept))?;
        right(job.state.is_over() == (job.finished > 0), || about("over, and no number"))?;
        right(job.finished == 0 || job.finished > job.accepted, || about("numbers"))?;
        right(job.state.is_over() == job.ended.is_some(), || about("over, and no time"))?;
        let begun = matches!(job.state, State::Running | State::Retrying | State::Succeeded);
        right(!begun || job.attempts > 0, || about("it ran, and no attempt is counted"))
    }

    /// Everything that is known after a restart as it was before, to be compared.
    pub(crate) fn essence(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let batches: BTreeMap<_, _> = self
            .batches
            .iter()
            .map(|(id, batch)| {
                let mut batch = Batch { left: None, ..batch.clone() };
                if !batch.durable {
                    // Of one that is not kept itself, what its jobs happen to say.
                    (batch.opened, batch.last_item) = (0, None);
                }
                (id.0, batch)
            })
            .collect();
        let jobs: Vec<Job> =
            self.jobs.values().map(|job| Job { locked: false, ..job.clone() }).collect();
        let keys: BTreeMap<_, _> = self.keys.iter().map(|(k, id)| (k.clone(), *id)).collect();
        (jobs, batches, keys, self.counts, self.bytes, self.wanted.clone())
    }

    /// Whether nothing is under way.
    pub(crate) fn is_settled(&self) -> bool {
        let unlocked = self.jobs.values().all(|job| !job.locked);
        unlocked && self.locked_items.is_empty() && self.locked_keys.is_empty()
    }
}

fn check_batch(batch: &Batch, jobs: &[&Job]) -> Result<(), String> {
    let sum = |of: fn(&Job) -> u64| jobs.iter().map(|job| of(job)).sum::<u64>();
    same("jobs", &batch.jobs, &(jobs.len() as u64))?;
    same("open", &batch.open, &sum(|job| u64::from(!job.state.is_over())))?;
    same("bytes in", &batch.bytes_in, &sum(|job| job.payload.len.into()))?;
    let out = sum(|job| if job.state.is_over() { job.result.len.into() } else { 0 });
    same("bytes out", &batch.bytes_out, &out)?;
    let (mut codes, mut frames, mut items) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for job in jobs {
        frames.insert(job.accepted, What::Accepted(job.id));
        items.insert(job.item, job.id);
        if job.state.is_over() {
            frames.insert(job.finished, What::Finished(job.id));
            *codes.entry(job.code).or_insert(0) += 1;
        }
    }
    if let Some((_, number)) = batch.ended {
        frames.insert(number, What::Summary);
    }
    same("codes", &batch.codes, &codes.into_iter().collect())?;
    same("frames", &batch.frames, &frames)?;
    let last = items.keys().next_back().copied();
    right(batch.last_item >= last, || format!("last item {:?} {last:?}", batch.last_item))?;
    same("items", &batch.items, &if batch.durable { items } else { BTreeMap::new() })
}

fn right(right: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(why()) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, right: &T) -> Result<(), String> {
    if found == right { Ok(()) } else { Err(format!("{what}: {found:?} instead of {right:?}")) }
}
