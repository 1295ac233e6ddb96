//! What the store's two threads and its callers share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot, watch};

use super::{
    super::{CheckpointError, Config, Corrupt, Poisoned, ReadError, ScopeId, Stream, stats::Stats},
    disk::Disk,
    files::Open,
    index::{Index, IndexError, Position, ViewChange},
    journal::Supply,
    queue::Queue,
    reserve::Reserve,
    scope::{ScopeState, Scopes},
};

/// Everything shared.
#[derive(Debug)]
pub(super) struct Core {
    pub config: Config,
    pub disk: Arc<dyn Disk>,
    /// For the index.
    pub reserve: Reserve,
    pub index: Index,
    pub scopes: Scopes,
    pub files: Open,
    /// To the committer.
    pub queue: Queue,
    /// Room in the queue, in bytes.
    pub room: Arc<Semaphore>,
    /// To the keeper.
    pub inbox: Inbox,
    pub supply: Arc<Supply>,
    pub health: Health,
    pub stats: Arc<Stats>,
    pub boot: u64,
    /// The directory is ours as long as this is open: it is closed after redb.
    pub _lock: Option<std::fs::File>,
    /// Dropped last: whoever waits for the directory sees that it is free.
    pub held: watch::Sender<()>,
}

impl Core {
    /// A scope, read from the index if need be. May read from the disk.
    pub(super) fn scope(&self, id: ScopeId) -> Result<Arc<ScopeState>, IndexError> {
        if let Some(state) = self.scopes.get(id) {
            return Ok(state);
        }
        let _one_at_a_time = self.scopes.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = self.scopes.get(id) {
            return Ok(state);
        }
        let rows = self.index.streams(id)?;
        Ok(self.scopes.add(ScopeState::of(id, &rows, None)))
    }
}

/// Whether the store still works.
#[derive(Debug)]
pub(super) struct Health {
    poisoned: watch::Sender<Option<Poisoned>>,
}

impl Default for Health {
    fn default() -> Self {
        Health { poisoned: watch::Sender::new(None) }
    }
}

impl Health {
    pub(super) fn sound(&self) -> Result<(), Poisoned> {
        self.poisoned.borrow().clone().map_or(Ok(()), Err)
    }

    /// The store has failed. The first reason stays.
    pub(super) fn poison(&self, reason: String) -> Poisoned {
        let poisoned = Poisoned { reason };
        self.poisoned.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                tracing::error!(reason = poisoned.reason, "the store has failed");
                *now = Some(poisoned.clone());
            }
            first
        });
        self.poisoned.borrow().clone().unwrap_or(poisoned)
    }

    pub(super) async fn failed(&self) -> Poisoned {
        let mut poisoned = self.poisoned.subscribe();
        let failed = poisoned.wait_for(Option::is_some).await;
        match failed.ok().and_then(|failed| failed.clone()) {
            Some(poisoned) => poisoned,
            // The store is gone, and did not fail.
            None => std::future::pending().await,
        }
    }
}

/// Something for the keeper to do, in this order.
#[derive(Debug)]
pub(super) enum Chore {
    /// Records wait in the tail of a stream.
    Fill(Arc<ScopeState>, Stream),
    /// A stream was trimmed, durably.
    Trimmed(Arc<ScopeState>, Stream),
    /// The scope was dropped, durably.
    Drop(Arc<ScopeState>),
    /// Everything before this position has been handed over: the journal may begin here.
    Mark(Position),
}

/// A change of a view, and who waits for it.
#[derive(Debug)]
pub(super) struct ViewTask {
    pub epoch: u64,
    pub change: ViewChange,
    pub done: oneshot::Sender<Result<(), CheckpointError>>,
}

/// What waits for the keeper, and how far it is behind.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<Waiting>,
    more: Condvar,
    /// The keeper has got on.
    less: Condvar,
}

/// What the keeper takes.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub chores: Vec<Chore>,
    pub views: Vec<ViewTask>,
    /// Look at the supply of files.
    pub supply: bool,
    pub closed: bool,
    /// Bytes in tails.
    behind: usize,
    /// Where the journal begins.
    from: Position,
    /// Why the keeper can not go on: the disk is full.
    stuck: Option<String>,
}

impl Default for Position {
    fn default() -> Self {
        Position { file: 1, at: 0, number: 1 }
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds chores; `bytes` more are in tails.
    pub(super) fn push(&self, chores: Vec<Chore>, bytes: usize, supply: bool) {
        if chores.is_empty() && !supply {
            return;
        }
        let mut waiting = self.lock();
        waiting.behind += bytes;
        waiting.chores.extend(chores);
        waiting.supply |= supply;
        drop(waiting);
        self.more.notify_one();
    }

    /// Adds a change of a view; gives it back when the store is closed.
    pub(super) fn push_view(&self, task: ViewTask) -> Result<(), Box<ViewTask>> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Box::new(task));
        }
        waiting.views.push(task);
        drop(waiting);
        self.more.notify_one();
        Ok(())
    }

    /// Waits for something to do; `patience` bounds the wait.
    pub(super) fn take(&self, patience: Option<std::time::Duration>) -> Waiting {
        let idle =
            |w: &mut Waiting| w.chores.is_empty() && w.views.is_empty() && !w.supply && !w.closed;
        let waiting = self.lock();
        let mut waiting = match patience {
            None => self.more.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.more.wait_timeout_while(waiting, patience, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        Waiting {
            chores: std::mem::take(&mut waiting.chores),
            views: std::mem::take(&mut waiting.views),
            supply: std::mem::take(&mut waiting.supply),
            closed: waiting.closed,
            ..Waiting::default()
        }
    }

    /// So many bytes have left their tails.
    pub(super) fn filled(&self, bytes: usize) {
        let mut waiting = self.lock();
        waiting.behind = waiting.behind.saturating_sub(bytes);
        drop(waiting);
        self.less.notify_all();
    }

    /// The journal begins here now.
    pub(super) fn begin_at(&self, from: Position) {
        self.lock().from = from;
        self.less.notify_all();
    }

    /// Where the journal begins.
    pub(super) fn begin(&self) -> Position {
        self.lock().from
    }

    /// Why the keeper can not go on, or that it can.
    pub(super) fn stuck(&self, reason: Option<String>) {
        self.lock().stuck = reason;
        self.less.notify_all();
    }

    /// Waits until the keeper is close enough behind; says why it will not be, when the disk is
    /// full.
    pub(super) fn wait_close(
        &self,
        behind_max: usize,
        files_max: u64,
        end: Position,
    ) -> Option<String> {
        let mut waiting = self.lock();
        loop {
            let close = waiting.behind <= behind_max
                && end.file.saturating_sub(waiting.from.file) < files_max;
            if waiting.stuck.is_some() || close || waiting.closed {
                return waiting.stuck.clone();
            }
            waiting = self.less.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing is added any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
        self.less.notify_all();
    }
}

/// Damage, said to a caller.
pub(super) fn corrupt(scope: ScopeId, what: impl Into<String>) -> Corrupt {
    Corrupt { scope, what: what.into() }
}

/// What the index could not read, said to a caller.
pub(super) fn unreadable(error: &IndexError) -> ReadError {
    ReadError::Io { reason: error.to_string() }
}
