//! Is this program itself the bottleneck? Its processor time, how late its loop comes round, how
//! late it sends; and how busy the machine is.
//!
//! Only measures; what it means is `verdict`'s to say.

mod cpu;
mod verdict;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{sync::Notify, task::JoinHandle, time::sleep_until};

pub use verdict::Verdict;

use crate::{
    plan::Plan,
    record::{histogram, nanos, record},
};

/// What is measured of the generator while a run is measured.
pub struct Generator {
    broker_pid: Option<u32>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// How late the runtime comes to what is ready.
    loop_lag: Histogram<u64>,
    /// How late operations of open loops were sent, for no lack of room.
    late_sends: Histogram<u64>,
    slots: Vec<Used>,
}

/// What was used while one slot was measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub wall: Duration,
    /// Processor time of this process; unknown off Linux.
    pub own: Option<Duration>,
    /// Of its busiest thread.
    pub busiest: Option<Duration>,
    /// Time of all processors together in which they did nothing, and in all.
    pub idle: Option<(f64, f64)>,
    /// Processor time of the broker, if its process is known.
    pub broker: Option<Duration>,
    /// Resident memory of the broker at the end of the slot, in bytes.
    pub broker_bytes: Option<u64>,
}

impl Generator {
    pub fn new(slots: usize, broker_pid: Option<u32>) -> Self {
        let inner = Inner {
            loop_lag: histogram(),
            late_sends: histogram(),
            slots: vec![Used::default(); slots],
        };
        Generator { broker_pid, inner: Mutex::new(inner) }
    }

    /// An operation was sent so much later than it could have been.
    pub fn sent_late(&self, late: Duration) {
        record(&mut self.lock().late_sends, nanos(late));
    }

    /// What was used in each slot.
    pub fn used(&self) -> Vec<Used> {
        self.lock().slots.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who measure, as long as a run lasts.
pub struct Watch {
    stop: Arc<AtomicBool>,
    lag: JoinHandle<()>,
    used: JoinHandle<()>,
}

impl Watch {
    pub fn start(generator: Arc<Generator>, plan: Arc<Plan>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let beat = Arc::new(Beat::default());
        let (to, stopped) = (beat.clone(), stop.clone());
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(BEAT);
                *to.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                to.notify.notify_one();
            }
        });
        let lag = tokio::spawn(lag(generator.clone(), plan.clone(), beat));
        let used = tokio::spawn(used(generator, plan));
        Watch { stop, lag, used }
    }

    /// After the last that was measured; `early`: before its end.
    pub async fn stop(self, early: bool) {
        self.stop.store(true, Ordering::Relaxed);
        self.lag.abort();
        if early {
            // The slot that was cut is left out.
            self.used.abort();
        }
        // Ends with the last slot.
        let _ = self.used.await;
    }
}

#[derive(Default)]
struct Beat {
    at: Mutex<Option<Instant>>,
    notify: Notify,
}

/// How long it takes from when something is ready until the runtime runs it.
async fn lag(generator: Arc<Generator>, plan: Arc<Plan>, beat: Arc<Beat>) {
    loop {
        beat.notify.notified().await;
        let at = beat.at.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(at) = at else { continue };
        if plan.measured_in(at).is_some() {
            record(&mut generator.lock().loop_lag, nanos(at.elapsed()));
        }
    }
}

async fn used(generator: Arc<Generator>, plan: Arc<Plan>) {
    for (at, slot) in plan.slots.iter().enumerate() {
        sleep_until(slot.measure_from.into()).await;
        let before = cpu::Sample::take(generator.broker_pid);
        sleep_until(slot.end.into()).await;
        let after = cpu::Sample::take(generator.broker_pid);
        generator.lock().slots[at] = after.since(&before);
    }
}

/// Between two looks at the loop.
const BEAT: Duration = Duration::from_millis(10);
