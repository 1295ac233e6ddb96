//! The owner of one tenant's jobs: decides, commits, applies, and does what follows; then again.
//!
//! One task a tenant, as long as there is anything to own. What arrives while a group is committed
//! makes the next one, so that under load one sync serves many. Nothing is known before it is kept,
//! but for the start of a first attempt, whose record is not waited for.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use foldhash::{HashMap, HashSet};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant, sleep, sleep_until};
use tollgate_protocol::{
    Code,
    id::{BatchId, JobId, RecipeName},
};

use super::{
    Inner, attempt,
    group::{Entry, Group, Then},
    load::{self, LoadError},
    pages::Pages,
    record, result, service,
    shelf::{Command, Phase, Shelf, State},
};
use crate::{
    batch::{Accepted, Failure},
    events,
    rules::job::{
        At, AttemptError, Cancel, Due, Event, How, Jobs, State as JobState,
        plant::{self, Bug},
    },
    store::{CommitError, Fence, Offset, Record},
    tenancy::{Changes, Permit, Quota, State as Standing},
};

mod act;
mod room;
mod submit;

/// How often it is looked whether a recipe that is not there, or not served, has come.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long an owner without anything to own stays.
const LINGER: Duration = Duration::from_secs(60);
/// How soon a batch that is over and still has jobs is looked at again, in milliseconds.
const FORGET_AGAIN_MS: u64 = 3_600_000;

/// The owner.
pub(super) struct Owner {
    pub(super) inner: Arc<Inner>,
    pub(super) shelf: Arc<Shelf>,
    fence: Fence,
    /// The next event's offset.
    next: u64,
    /// Whether the first record of all is still to be written.
    begins: bool,
    pages: Pages,
    backlog: VecDeque<Command>,
    queued: Permit,
    storage: Permit,
    tasks: JoinSet<()>,
    /// Suspended, activated, deleted.
    changes: Changes,
    /// What is on its way: from when its attempt is prepared to its end.
    running: HashMap<JobId, Running>,
    in_flight: HashMap<RecipeName, usize>,
    in_flight_bytes: u64,
    /// Who is woken once the lock is free.
    wakers: Vec<Waker>,
    /// Set when a job waits for a recipe that is not there or not served.
    unserved: bool,
}

/// An attempt on its way.
struct Running {
    attempt: u32,
    recipe: RecipeName,
    bytes: u64,
    task: AbortHandle,
}

/// Why an owner ends.
enum End {
    /// There is nothing to own, and nobody asks.
    Idle,
    /// The jobs can not be used any more.
    Gone(Failure),
}

/// Owns a tenant's jobs until there is nothing to own.
pub(super) async fn run(inner: Arc<Inner>, shelf: Arc<Shelf>) {
    let failure = Failure::new(Code::InternalError, "the jobs of the tenant ended by a fault");
    let mut leaving = Leaving { inner, shelf, late: VecDeque::new(), failure };
    leaving.failure = match Owner::open(&leaving.inner, &leaving.shelf).await {
        Ok(mut owner) => {
            let end = owner.work().await;
            // Only who comes after would say that it could not be written.
            owner.pages.settle().await;
            leaving.late.append(&mut owner.backlog);
            match end {
                End::Idle => super::stopped(),
                End::Gone(failure) => failure,
            }
        }
        Err(error) => {
            let tenant = leaving.shelf.tenant.id();
            tracing::error!(%tenant, %error, "the jobs of a tenant can not be read");
            Failure::new(Code::StoreUnavailable, "the jobs of the tenant can not be read")
        }
    };
}

/// The end of an owner, also by a panic: nobody is left waiting for it.
struct Leaving {
    inner: Arc<Inner>,
    shelf: Arc<Shelf>,
    /// What was asked and not decided.
    late: VecDeque<Command>,
    /// What those are told who ask.
    failure: Failure,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Leaving { inner, shelf, late, failure } = self;
        inner.forget(shelf);
        shelf.phase.send_replace(Phase::Gone(failure.clone()));
        let wakers = shelf.lock().tell_lost(failure);
        wakers.into_iter().for_each(Waker::wake);
        // Who asked too late is told so by the end of its answer; items are told in words.
        shelf.take_commands(late);
        late.drain(..).for_each(|command| submit::refuse(command, failure));
    }
}

impl Owner {
    async fn open(inner: &Arc<Inner>, shelf: &Arc<Shelf>) -> Result<Owner, LoadError> {
        let loaded = load::load(&shelf.scope, Jobs::new(inner.keep())).await?;
        let tenant = &shelf.tenant;
        let mut queued = tenant.none_of(Quota::JobsQueued);
        let mut storage = tenant.none_of(Quota::StorageBytes);
        let now = shelf.clock.now_ms();
        let begins = loaded.epoch.is_none();
        let mut pages = Pages::new(loaded.viewed, inner.config.checkpoint_events.max(1));
        // What follows from the last end of a batch's jobs may not have been kept with it.
        let (mut lost, mut settle) = (Vec::new(), Vec::new());
        {
            let mut state = shelf.lock();
            state.jobs = loaded.jobs;
            state.epoch = loaded.epoch.unwrap_or(now.max(1));
            pages.learn(loaded.since.iter());
            queued.become_one_of(state.jobs.open());
            storage.become_one_of(state.jobs.bytes());
            let unsealed = state.jobs.batches().filter(|(_, b)| b.durable && b.sealed.is_none());
            let unsealed: Vec<BatchId> = unsealed.map(|(id, _)| id).collect();
            unsealed.into_iter().for_each(|id| state.jobs.left(id, Some(now)));
            let unended = state.jobs.batches().filter(|(_, b)| b.durable && b.ended.is_none());
            settle.extend(unended.map(|(id, _)| id));
            let over = state.jobs.batches().filter(|(_, b)| b.durable && b.ended.is_some());
            let over: Vec<BatchId> = over.map(|(id, _)| id).collect();
            over.into_iter().for_each(|id| state.jobs.forget_if_empty(id));
            let ran = state.jobs.after(None).filter(|job| job.state == JobState::Running);
            lost.extend(ran.map(|job| (job.id, job.attempts)));
        }
        let mut owner = Owner {
            inner: inner.clone(),
            shelf: shelf.clone(),
            fence: loaded.fence,
            next: loaded.next,
            begins,
            pages,
            backlog: VecDeque::new(),
            queued,
            storage,
            tasks: JoinSet::new(),
            changes: tenant.subscribe(),
            running: HashMap::default(),
            in_flight: HashMap::default(),
            in_flight_bytes: 0,
            wakers: Vec::new(),
            unserved: false,
        };
        for (job, attempt) in lost {
            owner.backlog.push_back(Command::Ran { job, attempt, ran: None });
        }
        for batch in settle {
            owner.backlog.push_back(Command::Settle { batch });
        }
        shelf.phase.send_replace(Phase::Open);
        Ok(owner)
    }

    async fn work(&mut self) -> End {
        let mut idle_since = Instant::now();
        loop {
            if let Some(failure) = self.is_over() {
                return End::Gone(failure);
            }
            let mut group = self.decide();
            if !group.is_empty() {
                if let Err(failure) = self.commit(&mut group).await {
                    self.lose(group, &failure);
                    return End::Gone(failure);
                }
                if let Some(span_min) = self.pages.turn(&self.shelf, &self.fence, self.next).await
                    && let Err(failure) = self.move_the_oldest(span_min).await
                {
                    return End::Gone(failure);
                }
                idle_since = Instant::now();
                continue;
            }
            for (answer, count) in group.answers {
                // Who asked may be gone.
                let _ = answer.send(Ok(count));
            }
            let empty = self.shelf.lock().jobs.is_empty() && self.backlog.is_empty();
            if empty && idle_since.elapsed() > LINGER && self.inner.retire(&self.shelf) {
                return End::Idle;
            }
            self.wait().await;
        }
    }

    /// Waits until there may be something to decide.
    async fn wait(&mut self) {
        let next = self.shelf.lock().jobs.next_due();
        let due = next.and_then(|at| self.shelf.clock.instant(at));
        let look = if self.unserved { LOOK_AGAIN } else { LINGER };
        tokio::select! {
            () = self.shelf.bell.notified() => {}
            () = self.inner.stop.cancelled() => {}
            () = self.changes.changed() => {}
            () = sleep(look) => {}
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
            // What ended has said so; this only forgets the task.
            Some(_) = self.tasks.join_next() => {}
        }
    }

    /// Decides what is to happen now, as far as one group has room.
    fn decide(&mut self) -> Group {
        let mut group = Group::default();
        let shelf = self.shelf.clone();
        shelf.take_commands(&mut self.backlog);
        let now = shelf.clock.now_ms();
        let mut state = shelf.lock();
        while group.has_room()
            && let Some(due) = state.jobs.take_due(now)
        {
            self.on_due(due, &mut state, &mut group, now);
        }
        while group.has_room()
            && let Some(command) = self.backlog.pop_front()
        {
            if command.is_barrier() && !group.submissions.is_empty() {
                self.backlog.push_front(command);
                break;
            }
            if let Some(later) = self.take(command, &mut state, &mut group, now) {
                self.backlog.push_front(later);
                break;
            }
        }
        self.start_what_may(&mut state);
        drop(state);
        self.wakers.drain(..).for_each(Waker::wake);
        group
    }

    /// Wakes readers once the lock is free.
    fn wake_later(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wakers.extend(wakers);
    }

    fn on_due(&mut self, due: Due, state: &mut State, group: &mut Group, now: At) {
        match due {
            Due::Start(job) => state.jobs.wake(job),
            Due::Deadline(job) => {
                let failure = Failure::never_started(
                    Code::DeadlineExceeded,
                    "the batch's deadline passed before the job was started",
                );
                let how = (Cancel::Pending, JobState::Failed, &failure);
                self.give_up(job, how, state, group, now);
            }
            Due::Forget(job) => {
                group.changes_of(state.jobs.remove(job));
            }
            Due::Seal(batch) => {
                group.changes_of(state.jobs.seal(batch, How::Broker, None, Vec::new(), now));
            }
            Due::ForgetBatch(batch) => match state.jobs.remove_batch(batch) {
                Some(event) => group.change(event, Then::Nothing),
                None if state.jobs.batch(batch).is_some_and(|b| b.ended.is_some()) => {
                    state.jobs.again(now + FORGET_AGAIN_MS, due);
                }
                None => {}
            },
        }
    }

    /// Sends jobs on their way, as many as may be.
    fn start_what_may(&mut self, state: &mut State) {
        self.unserved = false;
        if self.inner.is_draining() || self.shelf.tenant.state() != Standing::Active {
            return;
        }
        let config = &self.inner.config;
        let mut starts = Vec::new();
        for (recipe, waiting) in state.jobs.ready() {
            let on_way = self.in_flight.get(recipe).copied().unwrap_or(0);
            let entry = service::find(&self.inner.engine, &self.shelf.tenant, recipe);
            let Some(entry) = entry else {
                self.unserved = true;
                continue;
            };
            let served = entry.handler.remote().is_none_or(|remote| remote.is_served());
            self.unserved |= !served;
            let max = if served { config.in_flight_max } else { 1 };
            // What is on its way and has not begun stands among them.
            let waiting = waiting.iter().filter(|w| !self.running.contains_key(&w.job));
            for w in waiting.take(max.saturating_sub(on_way)) {
                starts.push((w.job, entry.clone()));
            }
        }
        for (id, entry) in starts {
            let Some(job) = state.jobs.get(id).filter(|job| !job.is_locked()) else { continue };
            let bytes = u64::from(job.payload.len);
            let over = self.in_flight_bytes + bytes > config.in_flight_bytes_max;
            if over && self.in_flight_bytes > 0 {
                continue;
            }
            let recipe = job.recipe.clone();
            let attempt = job.attempts + 1;
            let lost = job.errors.last().map(|e| e.code) == Some(Code::WorkerLost.number());
            let start = attempt::Start::of(job, entry, attempt > 1 && lost);
            let future = attempt::run(self.inner.clone(), self.shelf.clone(), start);
            let task = self.tasks.spawn_on(future, &self.inner.runtime);
            *self.in_flight.entry(recipe.clone()).or_default() += 1;
            self.in_flight_bytes += bytes;
            self.running.insert(id, Running { attempt, recipe, bytes, task });
        }
    }

    /// An attempt is over, or is to be.
    fn off_its_way(&mut self, job: JobId) {
        let Some(running) = self.running.remove(&job) else { return };
        if !plant::is(Bug::CancelledRunsOn) {
            running.task.abort();
        }
        self.in_flight_bytes -= running.bytes;
        if let Some(n) = self.in_flight.get_mut(&running.recipe) {
            *n -= 1;
            if *n == 0 {
                self.in_flight.remove(&running.recipe);
            }
        }
    }

    /// Makes a group durable, adds it up, and does what follows.
    async fn commit(&mut self, group: &mut Group) -> Result<(), Failure> {
        let epoch = self.shelf.lock().epoch;
        let records = |entries: &[Entry]| entries.iter().map(|e| e.record.clone()).collect();
        if self.begins {
            let first = self.shelf.scope.commit(&self.fence, vec![record::epoch_record(epoch)]);
            match first.await {
                Ok(_) => (self.begins, self.next) = (false, self.next + 1),
                Err(error) => return self.refuse_all(group, &error),
            }
        }
        if plant::is(Bug::EarlyAcknowledgement) {
            self.acknowledge_early(group, epoch);
        }
        let changes: Vec<Record> = records(&group.changes);
        let submissions: Vec<Record> = records(&group.submissions);
        let scope = self.shelf.scope.clone();
        // Asked for in this order, and mostly one sync for both.
        let (changed, submitted) = tokio::join!(
            scope.commit_in(room::of(&changes), &self.fence, changes.clone()),
            scope.commit(&self.fence, submissions)
        );
        let mut happened = Vec::with_capacity(group.changes.len() + group.submissions.len());
        match submitted {
            Ok(offsets) => happened.extend(group.submissions.drain(..).zip(offsets)),
            Err(error @ (CommitError::Full { .. } | CommitError::TooLarge { .. })) => {
                self.pages.make_room();
                self.refuse(group, &Failure::not_kept(&error));
            }
            Err(error) => return Err(Failure::not_kept(&error)),
        }
        let full = match changed {
            Ok(offsets) => {
                happened.extend(group.changes.drain(..).zip(offsets));
                false
            }
            Err(CommitError::Full { .. }) => true,
            Err(error) => return Err(Failure::not_kept(&error)),
        };
        happened.sort_by_key(|(_, offset)| *offset);
        self.apply(happened, epoch);
        if full {
            let offsets = self.keep(changes).await?;
            self.apply(group.changes.drain(..).zip(offsets).collect(), epoch);
        }
        for (answer, count) in group.answers.drain(..) {
            let _ = answer.send(Ok(count));
        }
        Ok(())
    }

    /// A bug: nothing of it is kept yet.
    fn acknowledge_early(&self, group: &Group, epoch: u64) {
        for (n, entry) in group.submissions.iter().enumerate() {
            let Then::Accept(accept) = &entry.then else { continue };
            let number = service::number(epoch, self.next + (group.changes.len() + n) as u64 + 1);
            let accepted = Accepted { item: accept.item, job: accept.job, existing: false, number };
            accept
                .inbox
                .put(super::inbox::Note::Accepted(accepted))
                .into_iter()
                .for_each(Waker::wake);
        }
    }

    fn refuse(&self, group: &mut Group, failure: &Failure) {
        let mut state = self.shelf.lock();
        let mut wakers = Vec::new();
        for entry in group.submissions.drain(..) {
            state.jobs.give_up(&entry.event);
            if let Then::Accept(accept) = entry.then {
                let (item, failure) = (accept.item, failure.clone());
                wakers.extend(accept.inbox.put(super::inbox::Note::Refused { item, failure }));
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing could be begun: the first record of all found no room.
    fn refuse_all(&mut self, group: &mut Group, error: &CommitError) -> Result<(), Failure> {
        let failure = Failure::not_kept(error);
        if !matches!(error, CommitError::Full { .. }) {
            return Err(failure);
        }
        self.lose(std::mem::take(group), &failure);
        Ok(())
    }

    /// Nothing of a group is known to be kept: whoever waits for it is told.
    fn lose(&self, mut group: Group, failure: &Failure) {
        self.refuse(&mut group, failure);
        let mut state = self.shelf.lock();
        for entry in group.changes {
            state.jobs.give_up(&entry.event);
            if let Then::Opened(answer) = entry.then {
                // Whoever asked may be gone.
                let _ = answer.send(Err(failure.clone()));
            }
        }
        drop(state);
        for (answer, _) in group.answers {
            let _ = answer.send(Err(failure.clone()));
        }
    }

    /// Adds up what is durable now, and does what follows.
    fn apply(&mut self, happened: Vec<(Entry, Offset)>, epoch: u64) {
        let shelf = self.shelf.clone();
        let mut state = shelf.lock();
        let mut wakers = Vec::new();
        let mut ended_in = HashSet::default();
        for (Entry { event, then, record }, offset) in happened {
            self.next = offset.next().0;
            state.jobs.apply(&event, offset.0);
            self.pages.learn([&event]);
            match then {
                Then::Nothing => {}
                Then::Opened(answer) => {
                    if answer.send(Ok(None)).is_err()
                        && let Event::BatchOpened { batch, .. } = &event
                    {
                        // Whoever asked is gone: as if it had left.
                        state.jobs.left(*batch, Some(shelf.clock.now_ms()));
                    }
                }
                Then::Gate(gate) => _ = gate.send(()),
                Then::Accept(accept) => {
                    let super::group::Accept { inbox, item, job, permits, room } = *accept;
                    self.queued.merge(permits.0);
                    self.storage.merge(permits.1);
                    drop(room);
                    // It is read again in a moment, when it is begun.
                    state.recent.put(offset.0 + 1, record.body);
                    let number = service::number(epoch, offset.0 + 1);
                    let accepted = Accepted { item, job, existing: false, number };
                    wakers.extend(state.accept(job, &inbox, accepted));
                }
                Then::Finish(bytes) => state.recent.put(offset.0 + 1, bytes),
            }
            match &event {
                Event::Ended { job, state: how, .. } => {
                    self.off_its_way(*job);
                    let job = *job;
                    wakers.extend(state.tell(job, |item| super::inbox::Note::Ended { item, job }));
                    state.watchers.remove(&job);
                    if let Some(known) = state.jobs.get(job) {
                        ended_in.insert(known.batch);
                        self.tell_of_end(known, *how);
                    }
                }
                Event::AttemptFailed { job, .. } => self.off_its_way(*job),
                Event::BatchSealed { batch, .. } => _ = ended_in.insert(*batch),
                Event::BatchEnded { batch, .. } => wakers.extend(state.tell_over(*batch)),
                _ => {}
            }
        }
        self.queued.become_one_of(state.jobs.open());
        self.storage.become_one_of(state.jobs.bytes());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        for batch in ended_in {
            self.backlog.push_back(Command::Settle { batch });
        }
    }

    fn tell_of_end(&self, job: &crate::rules::job::Job, how: JobState) {
        if how == JobState::Dead {
            let (job_id, recipe) = (job.id.to_string(), job.recipe.to_string());
            let kind = events::Kind::JobDead { job: job_id, recipe, attempts: job.attempts };
            self.inner.events.publish(Some(self.shelf.tenant.id()), kind);
        }
        self.inner.tallies.ended(how);
    }
}

impl Group {
    /// Adds an event, if there is one.
    fn changes_of(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.change(event, Then::Nothing);
        }
    }
}

/// What an attempt came to whose end nobody saw.
fn lost(attempt: u32, now: At) -> (AttemptError, Failure) {
    let message = "the broker was stopped while it ran";
    let failure = Failure::interrupted(Code::WorkerLost, message, false);
    let code = Code::WorkerLost.number();
    (AttemptError { attempt, at: now, code, message: message.into() }, failure)
}

/// What a job is told beside how it ended.
fn facts(job: &crate::rules::job::Job) -> result::Facts {
    result::Facts { item: job.item, attempts: job.attempts, ..result::Facts::default() }
}
