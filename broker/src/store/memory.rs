//! The back end in memory: what the port promises and nothing else, for tests and for brokers that
//! keep nothing; and the faults that can be made to happen to it.
//!
//! Has no thread and never waits by itself: a commit is done when it is first polled, unless a test
//! holds the "disk".

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::{
    Change, CheckpointError, ClaimError, CommitError, DropError, Ends, Fence, Offset, Page, Pair,
    Poisoned, ReadError, Record, ScopeId, Space, Stored, Stream, TrimError,
};

/// Everything that is stored, under one lock that is never held across an await.
#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
    poisoned: watch::Sender<Option<Poisoned>>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { state: Mutex::default(), poisoned: watch::Sender::new(None) }
    }
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// Commits that wait for a test to let the disk go on.
    held: VecDeque<Held>,
    holding: bool,
    /// What is used up: none when there is room for everything.
    used: Option<Space>,
    syncs: u64,
    fail_at_sync: Option<u64>,
    poisoned: Option<Poisoned>,
}

/// What a power cut leaves.
#[derive(Debug, Clone, Default)]
struct Kept {
    scopes: BTreeMap<ScopeId, Contents>,
    /// Who owns what; apart from the contents, for claiming stores nothing.
    owners: BTreeMap<ScopeId, u64>,
    epochs: u64,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    streams: BTreeMap<Stream, Log>,
}

#[derive(Debug, Clone, Default)]
struct Log {
    first: u64,
    records: VecDeque<Stored>,
    view: BTreeMap<Bytes, Bytes>,
    upto: Offset,
}

#[derive(Debug)]
struct Held {
    space: Space,
    fence: Fence,
    records: Vec<Record>,
    done: oneshot::Sender<Result<Vec<Offset>, CommitError>>,
}

impl Log {
    fn ends(&self) -> Ends {
        Ends { first: Offset(self.first), next: Offset(self.first + self.records.len() as u64) }
    }
}

impl Kept {
    fn owned(&self, fence: &Fence) -> bool {
        self.owners.get(&fence.scope) == Some(&fence.epoch)
    }

    fn log(&self, scope: ScopeId, stream: Stream) -> Option<&Log> {
        self.scopes.get(&scope)?.streams.get(&stream)
    }

    fn append(&mut self, fence: &Fence, records: Vec<Record>) -> Vec<Offset> {
        let contents = self.scopes.entry(fence.scope).or_default();
        let append = |record: Record| {
            let log = contents.streams.entry(record.stream).or_default();
            let offset = log.ends().next;
            log.records.push_back(Stored {
                offset,
                kind: record.kind,
                layout: record.kind.layout(),
                epoch: fence.epoch,
                body: record.body,
            });
            offset
        };
        records.into_iter().map(append).collect()
    }
}

impl State {
    fn sound(&self) -> Result<(), Poisoned> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    /// One commit and its sync.
    fn commit(
        &mut self,
        space: Space,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        if !self.kept.owned(fence) {
            return Err(CommitError::Fenced { scope: fence.scope });
        }
        if self.used.is_some_and(|used| space <= used) {
            return Err(CommitError::Full { reason: "a test says so".into() });
        }
        self.syncs += 1;
        if self.fail_at_sync == Some(self.syncs) {
            let poisoned = Poisoned { reason: format!("sync {} failed", self.syncs) };
            self.poisoned = Some(poisoned.clone());
            return Err(CommitError::Unknown(poisoned));
        }
        Ok(self.kept.append(fence, records))
    }

    /// Lets the held commits go on, in their order.
    fn release(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let outcome = match self.poisoned.clone() {
                Some(poisoned) => Err(CommitError::Unknown(poisoned)),
                None => self.commit(held.space, &held.fence, held.records),
            };
            // Its caller may have gone.
            let _ = held.done.send(outcome);
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with nothing under way.
    fn settled(&self) -> Result<MutexGuard<'_, State>, Poisoned> {
        let mut state = self.lock();
        state.sound()?;
        state.release();
        let Some(poisoned) = state.poisoned.clone() else { return Ok(state) };
        drop(state);
        self.tell(Some(poisoned.clone()));
        Err(poisoned)
    }

    /// Tells those who wait for the end, outside of the lock.
    fn tell(&self, poisoned: Option<Poisoned>) {
        if poisoned.is_some() {
            self.poisoned.send_replace(poisoned);
        }
    }

    pub(super) async fn failed(&self) -> Poisoned {
        let mut poisoned = self.poisoned.subscribe();
        loop {
            if let Some(poisoned) = poisoned.borrow_and_update().clone() {
                return poisoned;
            }
            if poisoned.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn scopes(&self, after: Option<ScopeId>, count_max: usize) -> Vec<ScopeId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.lock();
        state
            .kept
            .scopes
            .range((from, Bound::Unbounded))
            .map(|(id, _)| *id)
            .take(count_max)
            .collect()
    }

    pub(super) fn claim(&self, scope: ScopeId) -> Result<Fence, ClaimError> {
        // What was committed with earlier fences is decided before the new owner looks.
        let mut state = self.settled()?;
        state.kept.epochs += 1;
        let epoch = state.kept.epochs;
        state.kept.owners.insert(scope, epoch);
        Ok(Fence { scope, epoch })
    }

    pub(super) async fn commit(
        &self,
        space: Space,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        let wait = {
            let mut state = self.lock();
            state.sound()?;
            if !state.holding {
                let outcome = state.commit(space, fence, records);
                let poisoned = state.poisoned.clone();
                drop(state);
                self.tell(poisoned);
                return outcome;
            }
            let (done, wait) = oneshot::channel();
            state.held.push_back(Held { space, fence: fence.clone(), records, done });
            wait
        };
        let gone = || Poisoned { reason: "the power was cut".into() };
        wait.await.unwrap_or_else(|_| Err(CommitError::Unknown(gone())))
    }

    pub(super) fn read(
        &self,
        scope: ScopeId,
        stream: Stream,
        from: Offset,
        page: Page,
    ) -> Result<Vec<Stored>, ReadError> {
        let state = self.lock();
        state.sound()?;
        let Some(log) = state.kept.log(scope, stream) else { return Ok(Vec::new()) };
        let skip = usize::try_from(from.0.saturating_sub(log.first)).unwrap_or(usize::MAX);
        let records = log.records.iter().skip(skip);
        let mut bytes = 0;
        let fits = |record: &&Stored| {
            let first = bytes == 0;
            bytes += record.body.len() + 1;
            first || bytes <= page.bytes_max
        };
        Ok(records.take(page.count_max.max(1)).take_while(fits).cloned().collect())
    }

    pub(super) fn ends(&self, scope: ScopeId, stream: Stream) -> Result<Ends, ReadError> {
        let state = self.lock();
        state.sound()?;
        Ok(state.kept.log(scope, stream).map(Log::ends).unwrap_or_default())
    }

    pub(super) fn streams(&self, scope: ScopeId) -> Result<Vec<Stream>, ReadError> {
        let state = self.lock();
        state.sound()?;
        let contents = state.kept.scopes.get(&scope);
        Ok(contents.map(|c| c.streams.keys().copied().collect()).unwrap_or_default())
    }

    pub(super) fn bytes(&self, scope: ScopeId) -> u64 {
        let state = self.lock();
        let Some(contents) = state.kept.scopes.get(&scope) else { return 0 };
        let records = contents.streams.values().flat_map(|log| &log.records);
        records.map(|record| record.body.len() as u64).sum()
    }

    pub(super) fn trim(
        &self,
        fence: &Fence,
        stream: Stream,
        before: Offset,
    ) -> Result<(), TrimError> {
        let mut state = self.lock();
        state.sound()?;
        if !state.kept.owned(fence) {
            return Err(TrimError::Fenced { scope: fence.scope });
        }
        let contents = state.kept.scopes.get_mut(&fence.scope);
        let Some(log) = contents.and_then(|c| c.streams.get_mut(&stream)) else { return Ok(()) };
        while log.first < before.0 && log.records.pop_front().is_some() {
            log.first += 1;
        }
        Ok(())
    }

    pub(super) fn checkpoint(
        &self,
        fence: &Fence,
        stream: Stream,
        upto: Offset,
        changes: Vec<Change>,
    ) -> Result<(), CheckpointError> {
        let mut state = self.lock();
        state.sound()?;
        if !state.kept.owned(fence) {
            return Err(CheckpointError::Fenced { scope: fence.scope });
        }
        if state.used.is_some() {
            return Err(CheckpointError::Full { reason: "a test says so".into() });
        }
        let (min, max) = state
            .kept
            .log(fence.scope, stream)
            .map_or((Offset::ZERO, Offset::ZERO), |log| (log.upto, log.ends().next));
        if upto < min || upto > max {
            return Err(CheckpointError::Misplaced { upto, min, max });
        }
        let contents = state.kept.scopes.entry(fence.scope).or_default();
        let log = contents.streams.entry(stream).or_default();
        for change in changes {
            match change {
                Change::Put { key, value } => log.view.insert(key, value),
                Change::Delete { key } => log.view.remove(&key),
            };
        }
        log.upto = upto;
        Ok(())
    }

    pub(super) fn view_upto(&self, scope: ScopeId, stream: Stream) -> Result<Offset, ReadError> {
        let state = self.lock();
        state.sound()?;
        Ok(state.kept.log(scope, stream).map_or(Offset::ZERO, |log| log.upto))
    }

    pub(super) fn view_page(
        &self,
        scope: ScopeId,
        stream: Stream,
        after: Option<&[u8]>,
        page: Page,
    ) -> Result<Vec<Pair>, ReadError> {
        let state = self.lock();
        state.sound()?;
        let Some(log) = state.kept.log(scope, stream) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pairs = log.view.range::<[u8], _>((from, Bound::Unbounded));
        let mut bytes = 0;
        let fits = |(key, value): &(&Bytes, &Bytes)| {
            let first = bytes == 0;
            bytes += key.len() + value.len() + 1;
            first || bytes <= page.bytes_max
        };
        let pair = |(key, value): (&Bytes, &Bytes)| Pair { key: key.clone(), value: value.clone() };
        Ok(pairs.take(page.count_max.max(1)).take_while(fits).map(pair).collect())
    }

    pub(super) fn drop_scope(&self, scope: ScopeId) -> Result<(), DropError> {
        let mut state = self.settled()?;
        state.kept.scopes.remove(&scope);
        state.kept.owners.remove(&scope);
        Ok(())
    }
}

/// What a test can make happen to a store in memory.
#[derive(Debug, Clone)]
pub struct Faults {
    memory: Arc<Memory>,
}

impl Faults {
    pub(super) fn of(memory: Arc<Memory>) -> Faults {
        Faults { memory }
    }

    /// The sync after the next `after` ones fails: its commit's outcome is unknown, and the store
    /// is lost.
    pub fn fail_sync(&self, after: u64) {
        let mut state = self.memory.lock();
        state.fail_at_sync = Some(state.syncs + after + 1);
    }

    /// The disk is full, and so is the room that is kept, up to this.
    pub fn used(&self, space: Space) {
        self.memory.lock().used = Some(space);
    }

    /// The disk is full but for the reserve, and that is used up, the last of it too.
    pub fn full_to_the_last(&self) {
        let mut state = self.memory.lock();
        state.used = Some(Space::LastReserve);
    }

    /// The disk is full but for the reserve, or no longer.
    pub fn full(&self, full: bool) {
        let mut state = self.memory.lock();
        state.used = full.then_some(Space::Free);
    }

    /// Commits wait from now on, as if the disk were slow; `false` lets them go on.
    pub fn hold(&self, hold: bool) {
        let mut state = self.memory.lock();
        state.holding = hold;
        if !hold {
            state.release();
        }
        let poisoned = state.poisoned.clone();
        drop(state);
        self.memory.tell(poisoned);
    }

    /// How many commits are held.
    pub fn held(&self) -> usize {
        self.memory.lock().held.len()
    }

    /// Cuts the power: the store is lost, and the one that is given back has what was durable. Of
    /// the commits that are held the first `kept` had reached the disk; none was acknowledged.
    pub fn power_cut(&self, kept: usize) -> (super::Store, Faults) {
        let poisoned = Poisoned { reason: "the power was cut".into() };
        let mut state = self.memory.lock();
        let held: Vec<_> = state.held.drain(..).collect();
        let mut left = state.kept.clone();
        for held in held.iter().take(kept).filter(|held| state.kept.owned(&held.fence)) {
            left.append(&held.fence, held.records.clone());
        }
        left.owners.clear();
        state.poisoned = Some(poisoned.clone());
        drop(state);
        for held in held {
            let _ = held.done.send(Err(CommitError::Unknown(poisoned.clone())));
        }
        self.memory.tell(Some(poisoned));
        let memory = Memory::default();
        memory.lock().kept = left;
        let memory = Arc::new(memory);
        let store = super::Store { backend: super::Backend::Memory(memory.clone()) };
        (store, Faults { memory })
    }
}

#[cfg(test)]
mod tests;
