//! The open loop: batches are due at a set rate, whatever became of those before.
//!
//! A thread of its own wakes the dispatcher, because the runtime's timers are a millisecond coarse.
//! What is due and finds no room waits, and its latency counts on. What has not been sent when the
//! time for stragglers is over was never sent, and the run fails: nothing is left out silently.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::timeout_at,
};

use super::{Clock, Source};

pub(super) fn spawn(
    loops: &mut JoinSet<()>,
    source: &Arc<Source>,
    clock: &Clock,
    rate: f64,
    in_flight_max: usize,
) {
    let schedule = Schedule { start: clock.start, end: clock.end, rate };
    let wake = Arc::new(Notify::new());
    let pacer = wake.clone();
    thread::spawn(move || schedule.tick(&pacer));
    loops.spawn(dispatch(source.clone(), *clock, schedule, in_flight_max, wake));
}

async fn dispatch(
    source: Arc<Source>,
    clock: Clock,
    schedule: Schedule,
    in_flight_max: usize,
    wake: Arc<Notify>,
) {
    let room = Arc::new(Semaphore::new(in_flight_max));
    let give_up = clock.end + clock.limit;
    let mut batches = JoinSet::new();
    for number in 0.. {
        let due = schedule.due(number);
        if due >= clock.end {
            break;
        }
        while Instant::now() < due {
            wake.notified().await;
        }
        let Ok(permit) = timeout_at(give_up.into(), room.clone().acquire_owned()).await else {
            source.record.not_sent(schedule.count() - number);
            break;
        };
        let source = source.clone();
        batches.spawn(async move {
            source.batch(number, due, &clock).await;
            drop(permit);
        });
        while batches.try_join_next().is_some() {}
    }
    while batches.join_next().await.is_some() {}
}

/// When batches are due: evenly, from the start to the end.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    end: Instant,
    rate: f64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many are due before the end.
    fn count(&self) -> u64 {
        ((self.end - self.start).as_secs_f64() * self.rate).ceil() as u64
    }

    /// Wakes the dispatcher whenever a batch is due. Batches that are due within less than a system
    /// can sleep come together.
    fn tick(&self, dispatcher: &Notify) {
        let mut number = 0;
        while self.due(number) < self.end {
            let now = Instant::now();
            match self.due(number).checked_duration_since(now) {
                Some(left) if !left.is_zero() => thread::sleep(left),
                _ => {
                    while self.due(number) <= now {
                        number += 1;
                    }
                    dispatcher.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_lies_evenly_between_start_and_end() {
        let start = Instant::now();
        let s = Schedule { start, end: start + Duration::from_millis(250), rate: 100.0 };
        assert_eq!(s.count(), 25);
        assert_eq!(s.due(0), start);
        assert!(s.due(24) < s.end && s.due(25) >= s.end);
    }
}
