//! The owner of one tenant's topics: decides, commits, applies, and does what follows; then again.
//!
//! One task a tenant, as long as it has topics. What arrives while a group is committed makes the
//! next one, so that under load one sync serves many. Nothing is known before it is kept.

use std::{collections::VecDeque, sync::Arc};

use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep, sleep_until},
};
use tollgate_protocol::Code;

use super::{
    Inner, binding,
    load::{self, LoadError},
    shelf::{Command, Fate, Phase, Shelf, State},
    staged::{self, Appending, Change, Staged, Then, What},
    view::View,
};
use crate::{
    batch::Failure,
    rules::topic::{
        At, Producers,
        plant::{self, Bug},
    },
    store::{CommitError, Fence, Offset, Record},
    tenancy::{Changes, Permit, Quota, State as Standing},
};

mod aside;
mod decide;
mod retain;

pub(super) use decide::{DEAD, INBOX, fenced, no_such_partition};

/// How long a change that finds no room on the disk waits before it is tried again.
const FULL_WAIT: Duration = Duration::from_millis(500);
/// How long an owner without anything to own stays.
const LINGER: Duration = Duration::from_secs(60);

/// The owner.
pub(super) struct Owner {
    pub(super) inner: Arc<Inner>,
    pub(super) shelf: Arc<Shelf>,
    fence: Fence,
    view: View,
    backlog: VecDeque<Command>,
    topics: Permit,
    partitions: Permit,
    groups: Permit,
    storage: Permit,
    /// Suspended, activated, deleted, other quotas.
    changes: Changes,
    /// When it is looked for messages that are kept no longer.
    retain_at: Instant,
    /// Who waits for messages, and is woken once the lock is free.
    tails: Vec<Arc<Notify>>,
}

/// Why an owner ends.
enum End {
    /// There is nothing to own, and nobody asks.
    Idle,
    /// The topics can not be used any more.
    Gone(Failure),
}

/// Owns a tenant's topics until there is nothing to own.
pub(super) async fn run(inner: Arc<Inner>, shelf: Arc<Shelf>) {
    let failure = Failure::new(Code::InternalError, "the topics of the tenant ended by a fault");
    let mut leaving = Leaving { inner, shelf, late: VecDeque::new(), failure };
    leaving.failure = match Owner::open(&leaving.inner, &leaving.shelf).await {
        Ok(mut owner) => {
            let end = owner.work().await;
            leaving.late.append(&mut owner.backlog);
            match end {
                End::Idle => super::stopped(),
                End::Gone(failure) => failure,
            }
        }
        Err(error) => {
            let tenant = leaving.shelf.tenant.id();
            tracing::error!(%tenant, %error, "the topics of a tenant can not be read");
            Failure::new(Code::StoreUnavailable, "the topics of the tenant can not be read")
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
        shelf.take_commands(late);
        let count = late.len();
        late.drain(..).for_each(|command| decide::refuse(command, failure));
        shelf.happened(count);
        let state = shelf.lock();
        state.tails.values().for_each(|tail| tail.notify_waiters());
        state.groups.values().for_each(|live| live.bell.notify_waiters());
    }
}

impl Owner {
    async fn open(inner: &Arc<Inner>, shelf: &Arc<Shelf>) -> Result<Owner, LoadError> {
        let loaded = load::load(shelf, &|| inner.producers()).await?;
        let tenant = &shelf.tenant;
        let mut owner = Owner {
            inner: inner.clone(),
            shelf: shelf.clone(),
            fence: loaded.fence,
            view: View::new(loaded.viewed, loaded.next, inner.config.checkpoint_every),
            backlog: VecDeque::new(),
            topics: tenant.none_of(Quota::Topics),
            partitions: tenant.none_of(Quota::Partitions),
            groups: tenant.none_of(Quota::ConsumerGroups),
            storage: tenant.none_of(Quota::StorageBytes),
            changes: tenant.subscribe(),
            retain_at: Instant::now(),
            tails: Vec::new(),
        };
        owner.level(&shelf.lock());
        owner.wake_bindings(&mut shelf.lock());
        shelf.phase.send_replace(Phase::Open);
        Ok(owner)
    }

    async fn work(&mut self) -> End {
        let mut idle_since = Instant::now();
        loop {
            if self.inner.stop.is_cancelled() {
                self.view.last(&self.shelf, &self.fence).await;
                return End::Gone(super::stopped());
            }
            if self.shelf.tenant.state() == Standing::Deleted {
                return End::Gone(Failure::no_such_tenant());
            }
            let mut batch = self.decide();
            if !batch.is_empty() {
                if let Err(failure) = self.commit(&mut batch).await {
                    self.lose(batch, &failure);
                    return End::Gone(failure);
                }
                self.shelf.happened(batch.commands);
                self.view.turn(&self.shelf, &self.fence).await;
                idle_since = Instant::now();
                continue;
            }
            self.shelf.happened(batch.commands);
            if batch.commands > 0 {
                continue;
            }
            match self.look_after().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(failure) => return End::Gone(failure),
            }
            self.wake_bindings(&mut self.shelf.lock());
            let empty = self.shelf.lock().topics.is_empty() && self.backlog.is_empty();
            if empty && idle_since.elapsed() > LINGER && self.inner.retire(&self.shelf) {
                return End::Idle;
            }
            self.wait().await;
        }
    }

    /// Does what is due by time. Whether there was anything.
    async fn look_after(&mut self) -> Result<bool, Failure> {
        let now = self.shelf.clock.now_ms();
        let late = {
            let mut state = self.shelf.lock();
            let mut late = false;
            for live in state.groups.values_mut() {
                if live.group.on_time(now) {
                    live.bell.notify_waiters();
                    late = true;
                }
            }
            late
        };
        let aside = self.put_aside().await?;
        let mut freed = false;
        if self.retain_at <= Instant::now() {
            self.shelf.lock().forget_producers();
            let more = self.retain(now).await? | self.free_streams().await?;
            if !more {
                let every = Duration::from_millis(self.inner.config.retention_interval_ms);
                self.retain_at = Instant::now() + every;
            }
            freed = more;
        }
        Ok(late || aside || freed)
    }

    /// Waits until there may be something to decide.
    async fn wait(&mut self) {
        let due = {
            let state = self.shelf.lock();
            state.groups.values().filter_map(|live| live.group.next_due()).min()
        };
        let due = due.and_then(|at| self.shelf.clock.instant(at));
        let due = due.map_or(self.retain_at, |at| at.min(self.retain_at));
        let linger = Instant::now() + LINGER;
        tokio::select! {
            () = self.shelf.bell.notified() => {}
            () = self.inner.stop.cancelled() => {}
            // A quota may be lower now.
            () = self.changes.changed() => {
                self.retain_at = Instant::now();
                self.wake_bindings(&mut self.shelf.lock());
            }
            () = sleep_until(due.min(linger)) => {}
        }
    }

    /// Makes a group durable, adds it up, and does what follows.
    async fn commit(&mut self, batch: &mut Staged) -> Result<(), Failure> {
        if plant::is(Bug::EarlyAcknowledgement) {
            for append in &mut batch.appends {
                let (early, _) = tokio::sync::oneshot::channel();
                let answer = std::mem::replace(&mut append.answer, early);
                let _ = answer.send(append.fates.clone());
            }
        }
        let changes: Vec<Record> = batch.changes.iter().map(|c| c.record.clone()).collect();
        let messages = batch.appends.iter().flat_map(|a| &a.messages);
        let messages: Vec<Record> = messages.map(|m| m.record.clone()).collect();
        let scope = self.shelf.scope.clone();
        // Asked for in this order, and mostly one sync for both.
        let (changed, appended) =
            tokio::join!(self.keep(changes), scope.commit(&self.fence, messages));
        let changed = changed.map_err(|e| Failure::not_kept(&e))?;
        match appended {
            Ok(offsets) => self.check_places(batch, &offsets),
            Err(error @ (CommitError::Full { .. } | CommitError::TooLarge { .. })) => {
                refuse(&mut batch.appends, &self.shelf, &Failure::not_kept(&error));
            }
            Err(error) => return Err(Failure::not_kept(&error)),
        }
        let events = batch.changes.iter().zip(&changed);
        let events = events.filter(|(change, _)| matches!(change.what, What::Event(_)));
        self.view.learn(events.map(|(_, offset)| offset.next().0).max());
        let appends = std::mem::take(&mut batch.appends);
        self.apply(std::mem::take(&mut batch.changes), appends);
        Ok(())
    }

    /// Where the store put messages must be where they were said to be: nobody else writes here.
    fn check_places(&self, batch: &Staged, offsets: &[Offset]) {
        let state = self.shelf.lock();
        let messages = batch.appends.iter().flat_map(|a| &a.messages);
        for (message, offset) in messages.zip(offsets) {
            let part =
                state.topics.get(message.place.0).map(|t| &t.parts[message.place.1 as usize]);
            let base = part.map_or(0, |part| part.base);
            assert_eq!(offset.0, base + message.offset, "a partition has one writer");
        }
    }

    /// Commits what must find room: on a full disk, again and again, as long as there is a tenant
    /// and a broker.
    async fn keep(&self, records: Vec<Record>) -> Result<Vec<Offset>, CommitError> {
        loop {
            let kept = self.shelf.scope.commit_from_reserve(&self.fence, records.clone()).await;
            let Err(CommitError::Full { reason }) = &kept else { return kept };
            tracing::warn!(tenant = %self.shelf.tenant.id(), reason, "no room to note what groups do");
            let deleted = self.shelf.tenant.state() == Standing::Deleted;
            if deleted || self.inner.stop.is_cancelled() {
                return kept;
            }
            tokio::select! {
                () = sleep(FULL_WAIT) => {}
                () = self.inner.stop.cancelled() => {}
            }
        }
    }

    /// Adds up what is durable now, and does what follows.
    fn apply(&mut self, changes: Vec<Change>, appends: Vec<Appending>) {
        let shelf = self.shelf.clone();
        let mut state = shelf.lock();
        let now = shelf.clock.now_ms();
        let mut answers = Vec::new();
        for Change { what, then, record } in changes {
            match what {
                What::Event(event) => {
                    state.apply(&event, || self.inner.producers());
                }
                What::Message { place, at } => {
                    state.appended(place, record.body, at);
                    self.tails.extend(state.tails.get(&place.0).cloned());
                }
            }
            match then {
                Then::Nothing => {}
                Then::Answer(answer) => answers.push(answer),
                Then::Granted(permits, answer) => {
                    // Counted again, with all there is, in a moment.
                    drop(permits);
                    answers.push(answer);
                }
                Then::Tell { topic, group, partition, told } => {
                    let done = state.topics.groups(topic).and_then(|groups| groups.get(&group));
                    let position = done.and_then(|done| done.get(partition as usize));
                    match (told, position) {
                        (Some(told), Some(done)) => told.put(partition, done.position),
                        (Some(told), None) => told.forget(),
                        (None, _) => {}
                    }
                    self.wake_group(&state, topic, &group);
                }
                Then::PutAside { topic, group, partition, offset } => {
                    if let Some(live) = state.groups.get_mut(&(topic, group.clone())) {
                        live.group.done(partition, offset);
                    }
                    self.wake_group(&state, topic, &group);
                }
            }
        }
        let mut fates = Vec::with_capacity(appends.len());
        for append in appends {
            if append.messages.is_empty() {
                fates.push(append.settle());
                continue;
            }
            self.inner.tallies.appended(append.messages.len() as u64);
            for message in &append.messages {
                state.appended(message.place, message.record.body.clone(), message.at);
                if let Some((id, epoch, sequence)) = message.producer
                    && let Some(run) = state.parts.get_mut(&message.place)
                {
                    run.producers.note(id, epoch, sequence, message.offset, now);
                    run.dirty.insert(id);
                }
            }
            let tail = state.tails.get(&append.topic).cloned();
            if !tail.as_ref().is_some_and(|tail| self.tails.iter().any(|t| Arc::ptr_eq(t, tail))) {
                self.tails.extend(tail);
            }
            fates.push(append.settle());
        }
        self.level(&state);
        self.wake_bindings(&mut state);
        drop(state);
        answers.into_iter().for_each(|answer| _ = answer.send(Ok(())));
        fates.into_iter().for_each(|(answer, fates)| _ = answer.send(fates));
        self.tails.drain(..).for_each(|tail| tail.notify_waiters());
    }

    /// Begins readers of bindings that have something to read.
    fn wake_bindings(&self, state: &mut State) {
        let may = self.shelf.tenant.state() == Standing::Active && !self.inner.is_draining();
        if !may || !state.topics.has_bindings() {
            return;
        }
        let all = state.topics.iter().flat_map(|topic| {
            let bindings = state.topics.bindings(topic.number);
            bindings.map(|(name, _)| (topic.number, name.clone()))
        });
        let late: Vec<_> =
            all.filter(|key| !state.awake.contains(key) && state.lag_of(key) > 0).collect();
        for key in late {
            state.awake.insert(key.clone());
            let reader = binding::run(self.inner.clone(), self.shelf.clone(), key);
            self.inner.runtime.spawn(self.inner.owners.track_future(reader));
        }
    }

    fn wake_group(&mut self, state: &State, topic: u32, group: &tollgate_protocol::id::GroupName) {
        let live = state.groups.get(&(topic, group.clone()));
        self.tails.extend(live.map(|live| live.bell.clone()));
    }

    /// Holds of the quotas what there is.
    fn level(&mut self, state: &State) {
        let (topics, partitions) = state.topics.counted();
        self.topics.become_one_of(topics);
        self.partitions.become_one_of(partitions);
        self.groups.become_one_of(state.topics.group_count());
        self.storage.become_one_of(state.bytes);
    }

    /// Nothing of a group is known to be kept: whoever waits for it is told.
    fn lose(&self, mut batch: Staged, failure: &Failure) {
        refuse(&mut batch.appends, &self.shelf, failure);
        for append in batch.appends.drain(..) {
            let (answer, fates) = append.settle();
            let _ = answer.send(fates);
        }
        for change in batch.changes {
            if let Then::Answer(answer) | Then::Granted(_, answer) = change.then {
                let _ = answer.send(Err(failure.clone()));
            }
        }
        self.shelf.happened(batch.commands);
    }

    fn now(&self) -> At {
        self.shelf.clock.now_ms()
    }
}

impl Appending {
    /// Whom to answer, and what: its share of the quotas is counted with all there is.
    fn settle(self) -> (tokio::sync::oneshot::Sender<Vec<Fate>>, Vec<Fate>) {
        let Appending { answer, fates, .. } = self;
        (answer, fates)
    }
}

/// What was to be kept is not. What came again is there only if it was before.
fn refuse(appends: &mut [Appending], shelf: &Shelf, failure: &Failure) {
    let state = shelf.lock();
    for append in appends {
        append.messages.clear();
        let fates = std::mem::take(&mut append.fates);
        for fate in fates {
            let Fate::Kept { sequence, count, partition, offset, duplicate } = fate else {
                append.fates.push(fate);
                continue;
            };
            let next = state.parts.get(&(append.topic, partition)).map_or(0, |run| run.next);
            for n in 0..u64::from(count) {
                let (sequence, offset) = (sequence + n, offset + n);
                if duplicate && offset < next {
                    let told = (sequence, partition, offset);
                    staged::tell_kept(&mut append.fates, told, true);
                } else {
                    let failure = failure.clone();
                    append.fates.push(Fate::Refused { sequence, failure });
                }
            }
        }
    }
}

impl Inner {
    /// What a new partition knows of producers: nothing.
    pub(super) fn producers(&self) -> Producers {
        Producers::new(self.config.producers_max, tollgate_protocol::limits::PRODUCER_WINDOW)
    }
}
