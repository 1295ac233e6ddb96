//! The open loop: operations are due at a set rate, whatever became of those before.
//!
//! What is due and finds no room waits, and its latency counts on. What has not been sent when the
//! time for stragglers is over was never sent, and the run fails: nothing is left out silently.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::timeout_at,
};

use super::{Source, pacer::Pacer};
use crate::plan::{Plan, Schedule};

pub(super) fn spawn(
    loops: &mut JoinSet<()>,
    pacer: &mut Pacer,
    source: &Arc<Source>,
    plan: &Arc<Plan>,
    in_flight_max: usize,
) {
    let stretches = |slot: &crate::plan::Slot| slot.stretches(source.place, &source.tenant);
    let schedules: Vec<_> =
        plan.slots.iter().map(|s| Schedule::new(&stretches(s), source.place)).collect();
    let schedules = Arc::new(schedules);
    let wake = Arc::new(Notify::new());
    pacer.add(schedules.clone(), wake.clone());
    let dispatcher = Dispatcher {
        source: source.clone(),
        plan: plan.clone(),
        room: Arc::new(Semaphore::new(in_flight_max)),
        wake,
        operations: JoinSet::new(),
    };
    loops.spawn(dispatcher.run(schedules));
}

struct Dispatcher {
    source: Arc<Source>,
    plan: Arc<Plan>,
    room: Arc<Semaphore>,
    wake: Arc<Notify>,
    operations: JoinSet<()>,
}

impl Dispatcher {
    async fn run(mut self, schedules: Arc<Vec<Schedule>>) {
        for (slot, schedule) in schedules.iter().enumerate() {
            self.slot(slot, schedule).await;
        }
        while self.operations.join_next().await.is_some() {}
    }

    async fn slot(&mut self, slot: usize, schedule: &Schedule) {
        let give_up = self.plan.give_up(slot);
        let mut number = 0;
        // Since when this loop is not held up by want of room.
        let mut free_since = self.plan.start;
        while let Some(due) = schedule.due(number) {
            while Instant::now() < due {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = self.source.stopped() => return,
                }
            }
            if self.source.is_stopped() {
                return;
            }
            let permit = match self.room.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    let waited = timeout_at(give_up.into(), self.room.clone().acquire_owned());
                    let permit = tokio::select! {
                        permit = waited => permit.ok().and_then(Result::ok),
                        () = self.source.stopped() => return,
                    };
                    free_since = Instant::now();
                    permit
                }
            };
            let Some(permit) = permit.filter(|_| Instant::now() < give_up) else {
                self.source.record.not_sent(slot, self.measured(slot, schedule, number));
                return;
            };
            let (source, plan) = (self.source.clone(), self.plan.clone());
            // Relaxed: only that no number comes twice matters.
            let id = source.links.numbers.fetch_add(1, Relaxed);
            let could = due.max(free_since);
            self.operations.spawn(async move {
                if plan.measured_in(due).is_some() {
                    source.generator.sent_late(could.elapsed());
                }
                source.operation(id, due, &plan).await;
                drop(permit);
            });
            number += 1;
            while self.operations.try_join_next().is_some() {}
        }
    }

    /// How many that are due from this number on count.
    fn measured(&self, slot: usize, schedule: &Schedule, from: u64) -> u64 {
        let measure_from = self.plan.slots[slot].measure_from;
        let counts = |n: &u64| schedule.due(*n).is_some_and(|due| due >= measure_from);
        (from..schedule.count()).filter(counts).count() as u64
    }
}
