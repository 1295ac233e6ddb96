//! What is seen while it runs: one line that changes on a terminal, plain lines otherwise.
//!
//! On standard error, so that the report on standard output stays a report.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::drive::{Clock, Source};

/// Between two looks, on a terminal and otherwise.
const LIVE: Duration = Duration::from_millis(250);
const PLAIN: Duration = Duration::from_secs(1);

/// Shows how a run goes.
pub struct Progress {
    form: Form,
}

enum Form {
    Quiet,
    Plain,
    Live(ProgressBar),
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let form = if quiet {
            Form::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
                bar.set_style(style);
            }
            Form::Live(bar)
        } else {
            Form::Plain
        };
        Progress { form }
    }

    /// Shows it until the run ends. Aborted then.
    pub async fn show(self, sources: Vec<Arc<Source>>, clock: Clock) {
        let period = match &self.form {
            Form::Quiet => return,
            Form::Plain => PLAIN,
            Form::Live(bar) => {
                bar.set_length((clock.end - clock.start).as_millis() as u64);
                LIVE
            }
        };
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut at) = (0, clock.start);
        loop {
            tick.tick().await;
            let now = Instant::now();
            let answered = sources.iter().map(|s| s.record.answered.load(Relaxed)).sum::<u64>();
            let secs = now.saturating_duration_since(at).as_secs_f64();
            if secs > 0.0 {
                let rate = (answered - before) as f64 / secs;
                self.line(&sources, &clock, now, rate);
            }
            (before, at) = (answered, now);
        }
    }

    fn line(&self, sources: &[Arc<Source>], clock: &Clock, now: Instant, rate: f64) {
        let glances: Vec<_> = sources.iter().map(|s| s.record.glance()).collect();
        let p99 = glances.iter().map(|(p99, _)| *p99).max().unwrap_or_default();
        let bad: u64 = glances.iter().map(|(_, bad)| bad).sum();
        let phase = if now < clock.measure_from {
            "warm-up"
        } else if now < clock.end {
            "measuring"
        } else {
            "finishing"
        };
        let passed = now.saturating_duration_since(clock.start);
        let p99_ms = p99.as_secs_f64() * 1e3;
        let message = format!("{phase}: {rate:.0} items/s, p99 {p99_ms:.3} ms, {bad} errors");
        match &self.form {
            Form::Quiet => {}
            Form::Plain => eprintln!("{:6.1} s  {message}", passed.as_secs_f64()),
            Form::Live(bar) => {
                bar.set_position(passed.as_millis() as u64);
                bar.set_message(message);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Live(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}
