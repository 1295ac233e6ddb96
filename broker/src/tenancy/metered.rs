//! The rates of a tenant and the line of those who wait for them, under one leaf lock.
//!
//! One lock a handful; nothing is locked, awaited or woken under it. Compiled twice, as `count` is.

use std::task::Waker;

use super::sync::{Mutex, MutexGuard, PoisonError};
use crate::rules::{
    line::Line,
    quota::{Charged, Cost, Limits, Load, Policy, Rate, Rates, Stop, Turn},
    window::Shape,
};

/// What is charged, and who waits.
#[derive(Debug)]
pub struct Metered(Mutex<State>);

#[derive(Debug)]
struct State {
    rates: Rates,
    line: Line<Waker>,
    /// Grows when the limits change: what was computed before is void.
    epoch: u64,
}

/// How things stand for one in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Others came before; the waker is kept.
    Behind,
    /// It is this one's turn, under limits that have not changed; the waker is kept.
    Same,
    /// It is this one's turn, under other limits.
    Changed,
}

impl Metered {
    /// Nothing was charged yet, and nobody waits.
    pub fn new(shape: Shape, limits: Limits, policy: Policy) -> Metered {
        let rates = Rates::new(shape, limits, policy);
        Metered(Mutex::new(State { rates, line: Line::new(), epoch: 0 }))
    }

    /// Charges for one that is not in line: nothing that is paced comes in past those who are.
    pub fn charge(
        &self,
        now: u64,
        load: Load,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> Charged {
        let mut state = self.lock();
        let free = load == Load::Consumed || state.line.is_empty();
        let turn = if free { Turn::Own } else { Turn::Behind };
        state.rates.charge(now, turn, load, costs)
    }

    /// Takes up to `want` bytes to give out: how many now, and why not all.
    pub fn take_out(&self, now: u64, want: u64) -> (u64, Option<Stop>) {
        self.lock().rates.take_out(now, want)
    }

    /// Joins those who wait, at the end: the place, and the epoch of the limits.
    pub fn join(&self) -> (u64, u64) {
        let mut state = self.lock();
        (state.line.join(), state.epoch)
    }

    /// Charges for one in line, when it is its turn; the epoch of the limits beside it.
    pub fn charge_in_line(
        &self,
        place: u64,
        now: u64,
        load: Load,
        costs: impl Iterator<Item = Cost> + Clone,
    ) -> (Charged, u64) {
        let mut state = self.lock();
        let turn = if state.line.is_first(place) { Turn::Own } else { Turn::Behind };
        (state.rates.charge(now, turn, load, costs), state.epoch)
    }

    /// Looks how things stand for a place, given the epoch that it knows.
    pub fn look(&self, place: u64, epoch: u64, waker: &Waker) -> Look {
        let mut state = self.lock();
        let first = state.line.is_first(place);
        if first && state.epoch != epoch {
            return Look::Changed;
        }
        // The first is woken too: when the limits change.
        state.line.keep(place, waker.clone());
        if first { Look::Same } else { Look::Behind }
    }

    /// Leaves the line; what wakes the new first, if the first left.
    #[must_use = "who is first now waits to be woken"]
    pub fn leave(&self, place: u64) -> Option<Waker> {
        self.lock().line.leave(place)
    }

    /// Changes what is allowed to what `limits` says once nothing else is charged: so that of two
    /// changes at once the newer is what stays. What wakes the first in line.
    #[must_use = "who is first waits to be woken"]
    pub fn change(&self, limits: impl FnOnce() -> (Limits, Policy)) -> Option<Waker> {
        let mut state = self.lock();
        let (limits, policy) = limits();
        state.rates.change(limits, policy);
        state.epoch += 1;
        state.line.wake_first()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().line.len()
    }

    /// What the windows hold at `now`, of each of these rates.
    pub fn used<const N: usize>(&self, now: u64, rates: [Rate; N]) -> [u64; N] {
        let mut state = self.lock();
        rates.map(|rate| state.rates.used(now, rate))
    }

    /// Whether no window holds anything at `now` and nobody waits.
    pub fn is_quiet(&self, now: u64) -> bool {
        let mut state = self.lock();
        state.line.is_empty() && state.rates.is_empty(now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic under it leaves is whole: sums are added in one go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
