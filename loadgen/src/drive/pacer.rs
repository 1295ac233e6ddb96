//! Who wakes the open loops: one thread for all of them, because the runtime's timers are a
//! millisecond coarse.
//!
//! It only wakes: what is due is the dispatcher's to know.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::plan::Schedule;

/// What is due when, of everybody.
#[derive(Default)]
pub(super) struct Pacer {
    lines: Vec<Line>,
}

struct Line {
    schedules: Arc<Vec<Schedule>>,
    slot: usize,
    number: u64,
    dispatcher: Arc<Notify>,
}

impl Pacer {
    /// Has a dispatcher woken whenever something of these is due.
    pub(super) fn add(&mut self, schedules: Arc<Vec<Schedule>>, dispatcher: Arc<Notify>) {
        self.lines.push(Line { schedules, slot: 0, number: 0, dispatcher });
    }

    /// Ends by itself with the last that is due.
    pub(super) fn start(self) {
        if !self.lines.is_empty() {
            thread::spawn(move || tick(self.lines));
        }
    }
}

impl Line {
    fn next(&self) -> Option<Instant> {
        self.schedules.get(self.slot)?.due(self.number)
    }

    /// Past all that is due by now. Those that are due within less than a system can sleep come
    /// together.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        while self.slot < self.schedules.len() {
            match self.next() {
                Some(due) if due > now => return Some(due),
                Some(_) => self.number += 1,
                None => (self.slot, self.number) = (self.slot + 1, 0),
            }
        }
        None
    }
}

fn tick(mut lines: Vec<Line>) {
    let start = Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now);
    let mut heap: BinaryHeap<_> = (0..lines.len()).map(|at| Reverse((start, at))).collect();
    while let Some(Reverse((due, at))) = heap.pop() {
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::sleep(left);
        }
        let next = lines[at].advance(Instant::now());
        lines[at].dispatcher.notify_one();
        if let Some(next) = next {
            heap.push(Reverse((next, at)));
        }
    }
}
