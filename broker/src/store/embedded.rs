//! The back end on a disk of one's own.
//!
//! ```text
//!  commit ─▶ queue ─▶ committer (a thread): a group, one write, one sync ─▶ answers
//!  (lanes, in turns)     │                    journal/…
//!                        ▼
//!                     keeper (a thread): segments, views, checkpoints of the journal
//!                                         scopes/…   index.redb
//! ```
//!
//! A record is durable once its group is synced, and can be read from then on: from memory until
//! it is in its segment, from there afterwards. Layouts: `frame` (a record), `group` (what one sync
//! covers), `files` (names), `index` (redb's tables). Recovery: `scan`, `recover`.

use std::{fs, io, path::Path, sync::Arc, thread};

use tokio::sync::oneshot;

use super::{
    Change, CheckpointError, ClaimError, CommitError, Config, DropError, Ends, Fence, Look, Offset,
    OpenError, Page, Pair, Poisoned, ReadError, Record, ScopeId, Space, Stored, Stream, TrimError,
};
use committer::{Committer, refuse, size_of};
use core::{Core, ViewTask, corrupt, unreadable};
use disk::{Disk, RealDisk};
use index::ViewChange;
use queue::{Job, Size, Task};
use recover::Opened;
use scope::ScopeState;

mod committer;
mod core;
mod disk;
mod files;
mod frame;
mod group;
mod index;
mod journal;
mod keeper;
mod plant;
mod queue;
mod read;
mod recover;
mod reserve;
mod scan;
mod scope;

/// A store on a disk, with its two threads. Dropping it ends them, and gives the directory back.
#[derive(Debug)]
pub(super) struct Embedded {
    core: Arc<Core>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in this directory.
    pub(super) fn open(dir: &Path, config: &Config) -> Result<Embedded, OpenError> {
        let at = |source| OpenError::Io { path: dir.to_owned(), source };
        let disk = RealDisk::new(dir).map_err(at)?;
        let lock = disk.lock().map_err(at)?;
        let lock = lock.ok_or_else(|| OpenError::InUse { path: dir.to_owned() })?;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        Embedded::open_on(&disk, config, Some(lock))
    }

    /// Opens the store on a disk that nobody else uses.
    pub(super) fn open_on(
        disk: &Arc<dyn Disk>,
        config: &Config,
        lock: Option<fs::File>,
    ) -> Result<Embedded, OpenError> {
        let path = disk.root().to_owned();
        let Opened { core, journal, keeper } = recover::open(disk, config.clone(), lock)?;
        let committer = Committer::new(core.clone(), journal);
        let mut store = Embedded { core, threads: Vec::new() };
        let threads = [
            spawn("store-keeper", store.core.clone(), move || keeper.run()),
            spawn("store-commit", store.core.clone(), move || committer.run()),
        ];
        for thread in threads {
            let path = path.clone();
            store.threads.push(thread.map_err(|source| OpenError::Io { path, source })?);
        }
        Ok(store)
    }

    pub(super) fn boot(&self) -> u64 {
        self.core.boot
    }

    pub(super) fn path(&self) -> &Path {
        self.core.disk.root()
    }

    pub(super) async fn failed(&self) -> Poisoned {
        self.core.health.failed().await
    }

    /// How it is. A disk that does not tell what is free has nothing.
    pub(super) fn look(&self) -> Look {
        let free = self.core.disk.free().unwrap_or(0);
        let reserve = self.core.config.free_bytes;
        Look { stats: self.core.stats.clone(), free, reserve }
    }

    /// Resolves once the directory is given back.
    pub(super) fn released(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut held = self.core.held.subscribe();
        // Nothing is ever sent: only its end is told.
        async move { while held.changed().await.is_ok() {} }
    }

    /// The scopes that hold anything. Reads from the index.
    pub(super) fn scopes(&self, after: Option<ScopeId>, count_max: usize) -> Vec<ScopeId> {
        let known = self.core.scopes.all();
        let gone = |id: &ScopeId| known.iter().any(|s| s.id == *id && s.lock().dropped);
        let mut found: Vec<_> = known
            .iter()
            .filter(|scope| !scope.lock().streams.is_empty())
            .map(|scope| scope.id)
            .filter(|id| after.is_none_or(|after| *id > after))
            .collect();
        let mut from = after;
        while found.len() < count_max {
            // Those that are being deleted make a page shorter: then the next one is read too.
            let page = self.core.index.scopes(from, count_max).unwrap_or_else(|error| {
                tracing::error!(%error, "the scopes can not be listed");
                Vec::new()
            });
            from = page.last().copied();
            let more = page.len() == count_max;
            found.extend(page.into_iter().filter(|id| !gone(id)));
            if !more {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(count_max);
        found
    }

    pub(super) async fn claim(&self, scope: ScopeId) -> Result<Fence, ClaimError> {
        let (done, wait) = oneshot::channel();
        self.push(scope, Task::Claim { done }, Size::default());
        wait.await.unwrap_or_else(|_| Err(self.lost().into()))
    }

    pub(super) async fn commit(
        &self,
        space: Space,
        fence: &Fence,
        records: Vec<Record>,
    ) -> Result<Vec<Offset>, CommitError> {
        self.core.health.sound()?;
        let config = &self.core.config;
        let largest = records.iter().map(|record| record.body.len()).max().unwrap_or(0);
        let size = size_of(&records, config.large_bytes);
        let bounds = [
            ("records of a commit", records.len(), config.commit_records),
            ("bytes of a record", largest, config.record_bytes),
            ("bytes of a commit's small records", size.bytes, config.group_bytes / 2),
        ];
        for (what, len, max) in bounds {
            if len > max {
                return Err(CommitError::TooLarge { what, len, max });
            }
        }
        let bytes: usize = records.iter().map(|record| record.body.len() + 1).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(config.queue_bytes);
        let permit = self.core.room.clone().acquire_many_owned(bytes).await;
        let permit = permit.map_err(|_| CommitError::Poisoned(self.lost()))?;
        let (done, wait) = oneshot::channel();
        let task = Task::Commit { space, epoch: fence.epoch, records, permit, done };
        self.push(fence.scope, task, size);
        wait.await.unwrap_or_else(|_| Err(CommitError::Unknown(self.lost())))
    }

    pub(super) async fn trim(
        &self,
        fence: &Fence,
        stream: Stream,
        before: Offset,
    ) -> Result<(), TrimError> {
        let (done, wait) = oneshot::channel();
        let task = Task::Trim { epoch: fence.epoch, stream, before, done };
        self.push(fence.scope, task, Size { records: 1, bytes: frame::HEAD });
        wait.await.unwrap_or_else(|_| Err(TrimError::Unknown(self.lost())))
    }

    pub(super) async fn drop_scope(&self, scope: ScopeId) -> Result<(), DropError> {
        let (done, wait) = oneshot::channel();
        self.push(scope, Task::Drop { done }, Size { records: 1, bytes: 0 });
        wait.await.unwrap_or_else(|_| Err(DropError::Unknown(self.lost())))
    }

    pub(super) async fn checkpoint(
        &self,
        fence: &Fence,
        stream: Stream,
        upto: Offset,
        changes: Vec<Change>,
    ) -> Result<(), CheckpointError> {
        self.core.health.sound()?;
        let (done, wait) = oneshot::channel();
        let change = ViewChange { scope: fence.scope, stream, upto, changes };
        let task = ViewTask { epoch: fence.epoch, change, done };
        if self.core.inbox.push_view(task).is_err() {
            return Err(self.lost().into());
        }
        wait.await.unwrap_or_else(|_| Err(self.lost().into()))
    }

    pub(super) async fn read(
        &self,
        scope: ScopeId,
        stream: Stream,
        from: Offset,
        page: Page,
    ) -> Result<Vec<Stored>, ReadError> {
        self.blocking(move |core| {
            let state = core.scope(scope).map_err(|error| unreadable(&error))?;
            read::read(core, &state, stream, from, page)
        })
        .await
    }

    pub(super) async fn ends(&self, scope: ScopeId, stream: Stream) -> Result<Ends, ReadError> {
        let state = self.state(scope).await?;
        let contents = state.lock();
        if let Some(what) = &contents.damaged {
            return Err(corrupt(scope, what.as_str()).into());
        }
        Ok(contents.streams.get(&stream).map(|state| state.ends()).unwrap_or_default())
    }

    pub(super) async fn streams(&self, scope: ScopeId) -> Result<Vec<Stream>, ReadError> {
        Ok(self.state(scope).await?.lock().streams.keys().copied().collect())
    }

    /// May read from the index.
    pub(super) fn bytes(&self, scope: ScopeId) -> u64 {
        let state = self.core.scope(scope);
        state.map_or(0, |state| state.lock().streams.values().map(|stream| stream.bytes()).sum())
    }

    pub(super) async fn view_upto(
        &self,
        scope: ScopeId,
        stream: Stream,
    ) -> Result<Offset, ReadError> {
        let state = self.state(scope).await?;
        let contents = state.lock();
        if let Some(what) = &contents.damaged {
            return Err(corrupt(scope, what.as_str()).into());
        }
        Ok(Offset(contents.streams.get(&stream).map_or(0, |state| state.upto)))
    }

    pub(super) async fn view_page(
        &self,
        scope: ScopeId,
        stream: Stream,
        after: Option<bytes::Bytes>,
        page: Page,
    ) -> Result<Vec<Pair>, ReadError> {
        let state = self.state(scope).await?;
        if state.lock().dropped {
            return Ok(Vec::new());
        }
        self.blocking(move |core| {
            let pairs = core.index.view(scope, stream, after.as_deref(), page);
            pairs.map_err(|error| unreadable(&error))
        })
        .await
    }

    async fn state(&self, scope: ScopeId) -> Result<Arc<ScopeState>, ReadError> {
        self.core.health.sound()?;
        match self.core.scopes.get(scope) {
            Some(state) => Ok(state),
            None => self.blocking(move |core| core.scope(scope).map_err(|e| unreadable(&e))).await,
        }
    }

    /// Runs something that reads from the disk where that disturbs nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.core.health.sound()?;
        let core = self.core.clone();
        #[cfg(test)]
        let planted = plant::Planted::here();
        let work = move || {
            #[cfg(test)]
            planted.plant();
            work(&core)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(ReadError::Io { reason: error.to_string() }))
    }

    fn push(&self, scope: ScopeId, task: Task, size: Size) {
        if let Err(job) = self.core.queue.push(Job { scope, task, size }) {
            refuse(*job, &self.lost());
        }
    }

    fn lost(&self) -> Poisoned {
        let closed = || Poisoned { reason: "the store is closed".into() };
        self.core.health.sound().err().unwrap_or_else(closed)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.core.queue.close();
        // The keeper outlives the committer: it brings what that one may wait for.
        while let Some(thread) = self.threads.pop() {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
            self.core.inbox.close();
        }
    }
}

/// Starts a thread of the store; a panic in it is the end of the store.
fn spawn(
    name: &str,
    core: Arc<Core>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    #[cfg(test)]
    let planted = plant::Planted::here();
    let guarded = move || {
        #[cfg(test)]
        planted.plant();
        let mut guard = Guard(Some(core));
        run();
        guard.0 = None;
    };
    thread::Builder::new().name(name.into()).spawn(guarded)
}

/// Empty, unless the thread panics.
struct Guard(Option<Arc<Core>>);

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(core) = &self.0 else { return };
        let poisoned = core.health.poison("a thread of the store has panicked".into());
        core.queue.drain().into_iter().for_each(|job| refuse(job, &poisoned));
        core.inbox.close();
        core.supply.close();
    }
}

#[cfg(test)]
pub(super) mod tests;
