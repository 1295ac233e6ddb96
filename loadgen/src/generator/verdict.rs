//! What the measurements of the generator mean.

use std::time::Duration;

use serde::Serialize;

use super::{Generator, Used};
use crate::report::Quantiles;

/// What is known of the generator, and whether it was the bottleneck.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Threads of its runtime.
    pub threads: usize,
    /// Processors of the machine.
    pub cores: usize,
    /// Processor time while it was measured; unknown off Linux.
    pub cpu_s: Option<f64>,
    /// The same as a number of processors.
    pub cores_used: Option<f64>,
    /// The share of the time in which its busiest thread was on a processor.
    pub busiest_thread: Option<f64>,
    /// The share of the machine's processor time that nobody used.
    pub machine_idle: Option<f64>,
    /// From when something was ready until its loop came to it.
    pub loop_lag: Quantiles,
    /// From when an operation of an open loop could be sent until it was.
    pub late_sends: Quantiles,
    /// Whether it was itself what limited the figures...
    pub was_bottleneck: bool,
    /// ...and what shows it.
    pub reasons: Vec<String>,
}

impl Verdict {
    pub fn of(generator: &Generator, threads: usize) -> Self {
        let inner = generator.lock();
        let sum = |part: &dyn Fn(&Used) -> Option<Duration>| {
            inner.slots.iter().map(part).sum::<Option<Duration>>()
        };
        let wall: f64 = inner.slots.iter().map(|u| u.wall.as_secs_f64()).sum();
        let of_wall =
            |d: Option<Duration>| d.filter(|_| wall > 0.0).map(|d| d.as_secs_f64() / wall);
        let own = sum(&|u| u.own);
        let idle = inner.slots.iter().map(|u| u.idle).collect::<Option<Vec<_>>>();
        let machine_idle = idle.and_then(|all| {
            let (idle, whole) = all.iter().fold((0.0, 0.0), |s, u| (s.0 + u.0, s.1 + u.1));
            (whole > 0.0).then_some(idle / whole)
        });
        let mut verdict = Verdict {
            threads,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_s: own.map(|d| d.as_secs_f64()),
            cores_used: of_wall(own),
            busiest_thread: of_wall(sum(&|u| u.busiest)),
            machine_idle,
            loop_lag: Quantiles::of(&inner.loop_lag),
            late_sends: Quantiles::of(&inner.late_sends),
            was_bottleneck: false,
            reasons: Vec::new(),
        };
        verdict.reasons = verdict.reasons();
        verdict.was_bottleneck = !verdict.reasons.is_empty();
        verdict
    }

    fn reasons(&self) -> Vec<String> {
        let mut all = Vec::new();
        let room = self.threads.min(self.cores) as f64;
        if let Some(used) = self.cores_used.filter(|used| *used >= CPU_SHARE * room) {
            all.push(format!("its {} threads used {used:.2} of {room:.0} cores", self.threads));
        } else if let Some(busy) = self.busiest_thread.filter(|busy| *busy >= THREAD_SHARE) {
            all.push(format!("one of its threads was busy {:.0} % of the time", busy * 100.0));
        }
        let lag = self.loop_lag.p99_us;
        if lag > LAG_US {
            all.push(format!("its loop came round {:.1} ms late (p99)", lag / 1e3));
        }
        let late = self.late_sends.p99_us;
        if late > LAG_US {
            all.push(format!("it sent {:.1} ms late (p99)", late / 1e3));
        }
        if let Some(idle) = self.machine_idle.filter(|idle| *idle < MACHINE_IDLE)
            && !all.is_empty()
        {
            all.push(format!("the machine's cores were {:.0} % busy", 100.0 * (1.0 - idle)));
        }
        all
    }

    /// Whether the machine had nothing left, whoever used it.
    pub fn machine_full(&self) -> bool {
        self.machine_idle.is_some_and(|idle| idle < MACHINE_IDLE)
    }
}

/// From this share of the cores that its threads can use on, it is the bottleneck.
const CPU_SHARE: f64 = 0.9;
/// A thread that is busy for so much of the time has nothing left for what comes.
const THREAD_SHARE: f64 = 0.95;
/// What is later than this at the p99 is seen in the latencies.
const LAG_US: f64 = 5_000.0;
/// A machine with less than this idle is full.
const MACHINE_IDLE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_or_full_is_told() {
        let generator = Generator::new(1, None);
        for _ in 0..100 {
            generator.sent_late(Duration::from_millis(1));
        }
        let slot = |own, idle| Used {
            wall: Duration::from_secs(10),
            own: Some(Duration::from_millis(own)),
            busiest: Some(Duration::from_millis(own / 2)),
            idle: Some((idle, 100.0)),
            ..Used::default()
        };
        generator.lock().slots[0] = slot(5_000, 60.0);
        let good = Verdict::of(&generator, 1);
        assert!(!good.was_bottleneck && good.cores_used == Some(0.5), "{:?}", good.reasons);
        generator.lock().slots[0] = slot(9_500, 1.0);
        for _ in 0..100 {
            generator.sent_late(Duration::from_millis(8));
        }
        let bad = Verdict::of(&generator, 1);
        assert_eq!(bad.reasons.len(), 3, "{:?}", bad.reasons);
        assert!(bad.was_bottleneck && bad.machine_full());
    }
}
