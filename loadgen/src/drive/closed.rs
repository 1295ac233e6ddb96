//! The closed loop: a set number of batches under way, each followed at once by the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{Clock, Source};

/// After a batch that failed: a broker that refuses at once is not to be hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

pub(super) fn spawn(
    loops: &mut JoinSet<()>,
    source: &Arc<Source>,
    clock: &Clock,
    in_flight: usize,
) {
    let numbers = Arc::new(AtomicU64::new(0));
    for _ in 0..in_flight {
        let (source, clock, numbers) = (source.clone(), *clock, numbers.clone());
        loops.spawn(async move {
            loop {
                let due = Instant::now();
                if due >= clock.end {
                    return;
                }
                // Relaxed: only that no number comes twice matters.
                let number = numbers.fetch_add(1, Relaxed);
                if !source.batch(number, due, &clock).await {
                    sleep(AFTER_FAILURE).await;
                }
            }
        });
    }
}
