//! Turns at working in place: while several streams have items to run at once, their tenants are
//! served by weighted deficit round robin over the time they take.
//!
//! A stream alone has its turn at once. Never holds its lock while a recipe runs or a task wakes.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crate::rules::fair::{Claim, Fair, Id, Turns as Shape};

/// How long one turn may take: then the others have theirs, and the endpoint is polled.
pub(crate) const TURN: Duration = Duration::from_micros(50);
/// How many items one turn may take.
pub(crate) const HANDFUL: usize = 64;

/// Far less than a turn, in nanoseconds: a tenant with one stream has nothing in line while it has
/// its turn and keeps no credit, so shares are exact only to a round. Nobody waits so long that
/// priority matters.
const SHAPE: Shape = Shape { quantum: 1_000, rise_ns: u64::MAX };

/// The turns of a broker: as many at once as it has threads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    waiting: Fair<u32, Arc<Wait>>,
}

#[derive(Debug)]
struct Wait {
    granted: AtomicBool,
    waker: Waker,
}

impl Turns {
    /// At most `threads` turns at once.
    pub(crate) fn new(threads: usize) -> Self {
        let state = State { free: threads.max(1), waiting: Fair::new(SHAPE) };
        Turns(Arc::new(Inner { base: Instant::now(), state: Mutex::new(state) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Gives what is free to who waits.
    fn grant(&self, mut state: MutexGuard<'_, State>) {
        let mut granted = None;
        if state.free > 0
            && let Some((_, wait)) = state.waiting.pop(0)
        {
            state.free -= 1;
            wait.granted.store(true, Ordering::Release);
            granted = Some(wait);
        }
        drop(state);
        if let Some(wait) = granted {
            wait.waker.wake_by_ref();
        }
    }
}

/// One stream's part in the turns. Dropping it gives up its turn, or its wait for one.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    tenant: u32,
    weight: u32,
    state: Mine,
}

#[derive(Debug)]
enum Mine {
    /// Has nothing to do.
    Idle,
    Waits(Id<u32>, Arc<Wait>),
    Has,
}

impl Turn {
    pub(crate) fn new(turns: &Turns, tenant: u32, weight: u32) -> Self {
        Turn { turns: turns.clone(), tenant, weight, state: Mine::Idle }
    }

    /// Ready when it is this stream's turn; asks for it otherwise.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        match &self.state {
            Mine::Has => Poll::Ready(()),
            Mine::Waits(_, wait) if wait.granted.load(Ordering::Acquire) => {
                self.state = Mine::Has;
                Poll::Ready(())
            }
            Mine::Waits(..) => Poll::Pending,
            Mine::Idle => {
                let mut state = self.turns.lock();
                if state.free > 0 && state.waiting.is_empty() {
                    state.free -= 1;
                    self.state = Mine::Has;
                    return Poll::Ready(());
                }
                self.state = self.join(&mut state, waker);
                Poll::Pending
            }
        }
    }

    /// Whether it stands in line: it will be woken.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, Mine::Waits(..))
    }

    /// Gives up the turn, or the wait for one: there is nothing to do with it now.
    pub(crate) fn give_up(&mut self) {
        match std::mem::replace(&mut self.state, Mine::Idle) {
            Mine::Idle => return,
            Mine::Has => self.turns.lock().free += 1,
            Mine::Waits(id, _) => {
                let mut state = self.turns.lock();
                // Not there any more: it was granted meanwhile.
                if state.waiting.remove(id).is_none() {
                    state.free += 1;
                }
            }
        }
        self.turns.grant(self.turns.lock());
    }

    fn join(&self, state: &mut State, waker: &Waker) -> Mine {
        let wait = Arc::new(Wait { granted: AtomicBool::new(false), waker: waker.clone() });
        let at = self.turns.now();
        let (key, weight) = (self.tenant, self.weight);
        let claim = Claim { key, class: (), weight, priority: 0, cost: 1 };
        let id = state.waiting.push(claim, at, wait.clone());
        Mine::Waits(id, wait)
    }

    /// Ends a turn that took this long. A stream that has more to do stands in line again: true
    /// when it may just go on, because nobody else waits.
    pub(crate) fn end(&mut self, took: Duration, more: bool, waker: &Waker) -> bool {
        if !matches!(self.state, Mine::Has) {
            return false;
        }
        let mut state = self.turns.lock();
        if state.waiting.is_empty() {
            if !more {
                state.free += 1;
                self.state = Mine::Idle;
            }
            return more;
        }
        let cost = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
        state.waiting.correct(self.tenant, self.weight, cost);
        state.free += 1;
        self.state = if more { self.join(&mut state, waker) } else { Mine::Idle };
        self.turns.grant(state);
        false
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turns: &Turns, tenant: u32, weight: u32) -> Turn {
        Turn::new(turns, tenant, weight)
    }

    fn has(t: &mut Turn) -> bool {
        t.poll(Waker::noop()).is_ready()
    }

    #[test]
    fn alone_it_is_always_ones_turn() {
        let turns = Turns::new(1);
        let mut a = turn(&turns, 1, 1);
        assert!(has(&mut a));
        assert!(a.end(TURN, true, Waker::noop()), "nobody waits: go on");
        assert!(has(&mut a));
        assert!(!a.end(TURN, false, Waker::noop()));
        assert!(has(&mut turn(&turns, 2, 1)));
    }

    /// Runs a stream for each (tenant, weight), all with work without end; turns had by each.
    fn contend(streams: &[(u32, u32)], turns_had: usize) -> Vec<(u32, usize)> {
        let turns = Turns::new(1);
        let mut all: Vec<_> = streams.iter().map(|&(t, w)| turn(&turns, t, w)).collect();
        let mut had = vec![0; all.len()];
        // The first has it, the others stand in line.
        for t in &mut all {
            has(t);
        }
        for _ in 0..turns_had {
            let i = all.iter_mut().position(has).expect("somebody has the turn");
            had[i] += 1;
            all[i].end(TURN, true, Waker::noop());
        }
        streams.iter().map(|s| s.0).zip(had).collect()
    }

    #[test]
    fn tenants_share_not_streams() {
        // One tenant has nine streams, the other one.
        let mut streams = vec![(1, 1); 9];
        streams.push((2, 1));
        let had = contend(&streams, 2_000);
        let of = |tenant| had.iter().filter(|h| h.0 == tenant).map(|h| h.1).sum::<usize>();
        let (a, b) = (of(1) as f64, of(2) as f64);
        assert!((a / b - 1.0).abs() < 0.1, "{a} against {b}");
    }

    #[test]
    fn weights_are_shares() {
        let had = contend(&[(1, 1), (2, 2), (3, 4)], 4_000);
        let base = had[0].1 as f64;
        assert!((had[1].1 as f64 / base - 2.0).abs() < 0.2, "{had:?}");
        assert!((had[2].1 as f64 / base - 4.0).abs() < 0.4, "{had:?}");
    }

    #[test]
    fn who_leaves_passes_the_turn_on() {
        let turns = Turns::new(1);
        let (mut a, mut b, mut c) = (turn(&turns, 1, 1), turn(&turns, 2, 1), turn(&turns, 3, 1));
        assert!(has(&mut a) && !has(&mut b) && !has(&mut c));
        drop(a);
        // Granted to `b`, which leaves without having looked.
        drop(b);
        assert!(has(&mut c));
        drop(c);
        assert_eq!(turns.lock().free, 1);
    }
}
