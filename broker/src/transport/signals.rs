//! What a connection tells its streams: that it drains, that it must end, that tenants changed.
//!
//! A level, not a queue: a stream that looks late sees the newest state.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Acquire, Ordering::Release},
    },
    task::Waker,
    time::SystemTime,
};

use foldhash::HashMap;

/// What streams must know of their connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    /// When the broker stops at the latest; set once it drains.
    pub draining: Option<SystemTime>,
    /// It is the tenant that goes, not the broker.
    pub leaving: bool,
    /// The time for draining is over: end now.
    pub over: bool,
    /// When the certificate expires; set once that is near.
    pub expiring: Option<SystemTime>,
    /// Counts the changes of tenants.
    pub tenants: u64,
}

/// The newest state, and who wants to know of a change.
#[derive(Debug, Default)]
pub(super) struct Signals {
    version: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    wakers: HashMap<u64, Waker>,
    next: u64,
}

impl Signals {
    /// Changes the state and wakes every stream.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner.state);
        self.version.fetch_add(1, Release);
        let wakers: Vec<Waker> = inner.wakers.values().cloned().collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn state(&self) -> State {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).state
    }
}

/// One stream's view; forgotten by the connection when dropped.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    signals: &'a Signals,
    seen: u64,
    key: Option<u64>,
}

impl<'a> Watch<'a> {
    /// Starts with the state as it is: the first look shows it unless it is the default.
    pub(super) fn new(signals: &'a Signals) -> Self {
        Watch { signals, seen: 0, key: None }
    }

    /// The state, if it changed since the last look.
    pub(super) fn changed(&mut self) -> Option<State> {
        let version = self.signals.version.load(Acquire);
        if version == self.seen {
            return None;
        }
        self.seen = version;
        Some(self.signals.state())
    }

    /// Asks to be woken at the next change; once is enough for a task's life. True when something
    /// changed meanwhile.
    pub(super) fn register(&mut self, waker: &Waker) -> bool {
        if self.key.is_none() {
            let mut inner = self.signals.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let key = inner.next;
            inner.next += 1;
            inner.wakers.insert(key, waker.clone());
            self.key = Some(key);
        }
        self.signals.version.load(Acquire) != self.seen
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut inner = self.signals.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.wakers.remove(&key);
        }
    }
}
