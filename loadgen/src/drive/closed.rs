//! The closed loop: a set number of operations under way, each followed at once by the next.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{AFTER_FAILURE, Source};
use crate::plan::{self, Plan};

pub(super) fn spawn(loops: &mut JoinSet<()>, source: &Arc<Source>, plan: &Arc<Plan>) {
    for slot in &plan.slots {
        let places = plan::places(&slot.stretches(source.place, &source.tenant));
        if places.is_empty() {
            continue;
        }
        let (source, plan) = (source.clone(), plan.clone());
        let (start, end) = (slot.start, slot.end);
        loops.spawn(async move {
            tokio::select! {
                () = sleep_until(start.into()) => {}
                () = source.stopped() => return,
            }
            let mut workers = JoinSet::new();
            for from in places {
                workers.spawn(place(source.clone(), plan.clone(), from, end));
            }
            while workers.join_next().await.is_some() {}
        });
    }
}

async fn place(source: Arc<Source>, plan: Arc<Plan>, from: Instant, end: Instant) {
    if Instant::now() < from {
        tokio::select! {
            () = sleep_until(from.into()) => {}
            () = source.stopped() => return,
        }
    }
    loop {
        let due = Instant::now();
        if due >= end || source.is_stopped() {
            return;
        }
        // Relaxed: only that no number comes twice matters.
        let number = source.links.numbers.fetch_add(1, Relaxed);
        if !source.operation(number, due, &plan).await {
            sleep(AFTER_FAILURE).await;
        }
    }
}
