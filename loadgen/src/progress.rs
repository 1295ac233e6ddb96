//! What is seen while it runs: one line that changes on a terminal, plain lines where they are asked
//! for, nothing otherwise.
//!
//! On standard error, so that the report on standard output stays a report.

use std::{
    io::IsTerminal,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::{cli::Live, drive::Source, plan::Plan, scenario::Scenario};

/// Between two looks, on a terminal and otherwise.
const LIVE: Duration = Duration::from_millis(250);
const PLAIN: Duration = Duration::from_secs(1);

/// Shows how a run goes.
pub struct Progress {
    form: Form,
    /// What the run is called, where there are several.
    title: String,
}

enum Form {
    Quiet,
    Plain,
    Bar(ProgressBar),
}

/// A run that is shown, until this is dropped.
pub struct Shown(Option<JoinHandle<()>>);

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Progress {
    pub fn new(live: Live, title: impl Into<String>) -> Self {
        let form = match live {
            Live::None => Form::Quiet,
            Live::Plain => Form::Plain,
            Live::Auto if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{bar:20} {wide_msg}") {
                    bar.set_style(style);
                }
                Form::Bar(bar)
            }
            Live::Auto => Form::Quiet,
        };
        Progress { form, title: title.into() }
    }

    /// Shows a run from now on.
    pub fn spawn(self, scenario: &Scenario, sources: Vec<Arc<Source>>, plan: Arc<Plan>) -> Shown {
        if matches!(self.form, Form::Quiet) {
            return Shown(None);
        }
        let phases = scenario.phases.iter().map(|p| p.name.clone()).collect();
        let rounds = scenario.rounds;
        Shown(Some(tokio::spawn(self.show(sources, plan, phases, rounds))))
    }

    async fn show(
        self,
        sources: Vec<Arc<Source>>,
        plan: Arc<Plan>,
        phases: Vec<String>,
        rounds: usize,
    ) {
        let period = match &self.form {
            Form::Quiet => return,
            Form::Plain => PLAIN,
            Form::Bar(bar) => {
                bar.set_length((plan.end - plan.start).as_millis() as u64);
                LIVE
            }
        };
        let mut tick = interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once, when there is nothing to see.
        tick.tick().await;
        let (mut before, mut at) = (0, plan.start);
        loop {
            tick.tick().await;
            let now = Instant::now();
            let answered = sources.iter().map(|s| s.record.answered.load(Relaxed)).sum::<u64>();
            let secs = now.saturating_duration_since(at).as_secs_f64();
            if secs > 0.0 {
                let rate = (answered - before) as f64 / secs;
                self.line(&sources, &plan, &phases, rounds, now, rate);
            }
            (before, at) = (answered, now);
        }
    }

    fn line(
        &self,
        sources: &[Arc<Source>],
        plan: &Plan,
        phases: &[String],
        rounds: usize,
        now: Instant,
        rate: f64,
    ) {
        let at = plan.slots.partition_point(|s| s.end <= now).min(plan.slots.len() - 1);
        let slot = &plan.slots[at];
        let glances: Vec<_> = sources.iter().map(|s| s.record.glance(at)).collect();
        let p99 = glances.iter().map(|(p99, _)| *p99).max().unwrap_or_default();
        let bad: u64 = glances.iter().map(|(_, bad)| bad).sum();
        let doing = if now < slot.measure_from {
            "warming up"
        } else if now < plan.end {
            "measuring"
        } else {
            "finishing"
        };
        let mut what = self.title.clone();
        if phases.len() > 1 {
            what = format!("{what}{}, ", phases[slot.phase]);
        }
        if rounds > 1 {
            what = format!("{what}round {} of {rounds}, ", slot.round + 1);
        }
        let passed = now.saturating_duration_since(plan.start);
        let p99_ms = p99.as_secs_f64() * 1e3;
        let message = format!("{what}{doing}: {rate:.0} items/s, p99 {p99_ms:.3} ms, {bad} errors");
        match &self.form {
            Form::Quiet => {}
            Form::Plain => eprintln!("{:6.1} s  {message}", passed.as_secs_f64()),
            Form::Bar(bar) => {
                bar.set_position(passed.as_millis() as u64);
                bar.set_message(message);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}
