//! What came of a run: everything in one serialisable value, and its judgement.

mod figures;
mod files;
mod goals;
mod hgrm;
mod html;
mod judge;
mod plot;
mod text;

use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;

pub use figures::{Figures, Quantiles};
pub use files::prepare;
pub use goals::GoalReport;
pub use html::{head, spread};
pub use judge::Complaint;
pub use plot::{Axis, Chart, Scale, Series, escape};
pub use text::{number, text};

use crate::{
    drive::Measured,
    exit::Exit,
    generator::{Used, Verdict},
    record::Stats,
    scenario::Scenario,
};

/// A run and what came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The shape of this report: 2.
    pub report_version: u32,
    /// The version of the generator.
    pub generator_version: &'static str,
    pub started_at_unix_ms: u64,
    pub passed: bool,
    /// Why it did not pass.
    pub complaints: Vec<Complaint>,
    /// After how long it was ended by a signal, if it was: figures are of what was measured by then.
    pub cut_short_after_s: Option<f64>,
    /// Operations that had not ended then, and were given up after a while.
    pub operations_given_up: u64,
    /// How long was measured, in all.
    pub measured_s: f64,
    /// What was asked for by name, or is of interest.
    pub goals: Vec<GoalReport>,
    /// The figures, phase by phase, all rounds of a phase together.
    pub phases: Vec<PhaseReport>,
    /// All phases together.
    pub total: Figures,
    /// Whether the generator was itself the bottleneck.
    pub generator: Verdict,
    /// The course of the run.
    pub timeline: TimelineReport,
    /// What was asked for.
    pub scenario: Scenario,
    /// What is written to files of their own.
    #[serde(skip)]
    pub histograms: Vec<Named>,
}

/// A histogram, and what its file is called.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    pub histogram: Histogram<u64>,
}

/// One phase.
#[derive(Debug, Serialize)]
pub struct PhaseReport {
    pub name: String,
    /// How long was measured, in all rounds together.
    pub duration_s: f64,
    /// Those that took part.
    pub tenants: Vec<Figures>,
    pub total: Figures,
    pub generator_cpu_us_per_item: Option<f64>,
    /// With `--broker-pid`.
    pub broker_cpu_s: Option<f64>,
    pub broker_cpu_us_per_item: Option<f64>,
    pub broker_resident_bytes: Option<u64>,
}

/// The course of a run, by when answers came.
#[derive(Debug, Serialize)]
pub struct TimelineReport {
    pub interval_s: f64,
    /// Whose items they are, in this order.
    pub tenants: Vec<String>,
    pub points: Vec<PointReport>,
    /// From when to when each phase was measured.
    pub slots: Vec<SlotReport>,
}

/// One interval.
#[derive(Debug, Serialize)]
pub struct PointReport {
    /// Its start, from the start of the run.
    pub t_s: f64,
    pub items: Vec<u64>,
    pub operations: u64,
    pub errors: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub under_way: u64,
}

/// One phase in one round.
#[derive(Debug, Serialize)]
pub struct SlotReport {
    pub phase: String,
    pub round: usize,
    pub from_s: f64,
    pub to_s: f64,
}

impl Report {
    pub fn new(scenario: &Scenario, measured: &Measured, threads: usize) -> Self {
        let collected = &measured.records[..];
        let cells = Cells { scenario, tenants: collected, measured: &measured.measured };
        let used = measured.generator.used();
        let mut histograms = Vec::new();
        let phases: Vec<_> = (0..scenario.phases.len())
            .map(|phase| cells.phase(phase, &used, &mut histograms))
            .collect();
        let mut whole = Stats::default();
        for (slots, rest) in collected {
            slots.iter().chain([rest]).for_each(|s| whole.add(s));
        }
        let total = Figures::new("all", None, &whole, measured.measured.iter().sum());
        if scenario.phases.len() > 1 {
            histograms.push(Named { name: "all".into(), histogram: whole.latency.clone() });
        }
        let goals = goals::evaluate(scenario, collected, &measured.measured);
        let cut_short = measured.cut_at.is_some();
        let mut complaints = judge::complaints(scenario, collected, &whole, &goals, cut_short);
        complaints.extend(judge::unread(scenario, measured));
        let started_at = measured.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Report {
            report_version: 2,
            generator_version: env!("CARGO_PKG_VERSION"),
            started_at_unix_ms: u64::try_from(started_at.as_millis()).unwrap_or(u64::MAX),
            passed: complaints.is_empty(),
            cut_short_after_s: measured
                .cut_at
                .map(|at| at.saturating_duration_since(measured.plan.start).as_secs_f64()),
            operations_given_up: measured.given_up,
            measured_s: measured.measured.iter().sum::<Duration>().as_secs_f64(),
            complaints,
            goals,
            phases: with_ends(phases, scenario, measured),
            total,
            generator: Verdict::of(&measured.generator, threads),
            timeline: TimelineReport::new(scenario, measured),
            scenario: scenario.clone(),
            histograms,
        }
    }

    /// What the process says: the gravest complaint, where a wrong answer is graver than a slow one.
    pub fn exit(&self) -> Exit {
        self.complaints.iter().map(|c| c.exit).min().unwrap_or(Exit::Ok)
    }
}

/// What was recorded: of each tenant, of each slot.
struct Cells<'a> {
    scenario: &'a Scenario,
    tenants: &'a [(Vec<Stats>, Stats)],
    /// How long each slot was measured.
    measured: &'a [Duration],
}

impl Cells<'_> {
    /// The slots of a phase: its place in every round.
    fn slots(&self, phase: usize) -> impl Iterator<Item = usize> {
        let phases = self.scenario.phases.len();
        (0..self.scenario.rounds).map(move |round| round * phases + phase)
    }

    fn phase(&self, at: usize, used: &[Used], histograms: &mut Vec<Named>) -> PhaseReport {
        let phase = &self.scenario.phases[at];
        let duration = self.slots(at).map(|slot| self.measured[slot]).sum();
        let mut sum = Stats::default();
        let mut tenants = Vec::new();
        let mut name = |who: &str, what: &str, h: &Histogram<u64>| {
            if !h.is_empty() && histograms.len() < HISTOGRAMS_MAX {
                let name = format!("{}-{who}{what}", phase.name);
                histograms.push(Named { name, histogram: h.clone() });
            }
        };
        for place in &phase.tenants {
            let tenant = &self.scenario.tenants[*place];
            let mut stats = Stats::default();
            self.slots(at).for_each(|slot| stats.add(&self.tenants[*place].0[slot]));
            name(&tenant.name, "", &stats.latency);
            name(&tenant.name, "-items", &stats.item_latency);
            name(&tenant.name, "-accepted", &stats.accepted_latency);
            name(&tenant.name, "-delivered", &stats.delivered_latency);
            tenants.push(Figures::new(&tenant.name, Some(&tenant.operation), &stats, duration));
            sum.add(&stats);
        }
        if phase.tenants.len() > 1 {
            name("all", "", &sum.latency);
        }
        let slots: Vec<_> = self.slots(at).filter_map(|slot| used.get(slot)).collect();
        let cpu = |part: &dyn Fn(&Used) -> Option<Duration>| {
            let sum = slots.iter().map(|u| part(u)).sum::<Option<Duration>>();
            sum.map(|d| d.as_secs_f64())
        };
        let per_item = |s: Option<f64>| {
            s.filter(|_| sum.answered() > 0).map(|s| s * 1e6 / sum.answered() as f64)
        };
        let broker = cpu(&|u| u.broker);
        PhaseReport {
            name: phase.name.clone(),
            duration_s: Duration::as_secs_f64(&duration),
            tenants,
            generator_cpu_us_per_item: per_item(cpu(&|u| u.own)),
            broker_cpu_s: broker,
            broker_cpu_us_per_item: per_item(broker),
            broker_resident_bytes: slots.iter().filter_map(|u| u.broker_bytes).max(),
            total: Figures::new("all", None, &sum, duration),
        }
    }
}

/// What was read again, and what became of a topic, is of a whole run: it stands with the last phase
/// of its tenant.
fn with_ends(
    mut phases: Vec<PhaseReport>,
    scenario: &Scenario,
    measured: &Measured,
) -> Vec<PhaseReport> {
    let ends = measured.rereads.iter().zip(&measured.topics);
    for (tenant, (reread, topic)) in scenario.tenants.iter().zip(ends) {
        let mut figures = phases.iter_mut().rev().flat_map(|p| &mut p.tenants);
        if let Some(f) = figures.find(|f| f.tenant == tenant.name) {
            (f.reread, f.topic) = (*reread, topic.clone());
        }
    }
    phases
}

impl TimelineReport {
    fn new(scenario: &Scenario, measured: &Measured) -> Self {
        let (plan, timeline) = (&measured.plan, &measured.timeline);
        let interval_s = timeline.interval().as_secs_f64();
        let us = |ns: u64| ns as f64 / 1e3;
        let point = |(at, p): (usize, crate::record::Point)| PointReport {
            t_s: at as f64 * interval_s,
            items: p.items,
            operations: p.operations,
            errors: p.errors,
            p50_us: us(p.p50_ns),
            p99_us: us(p.p99_ns),
            max_us: us(p.max_ns),
            under_way: p.under_way,
        };
        let secs = |at: std::time::Instant| (at - plan.start).as_secs_f64();
        let slot = |s: &crate::plan::Slot| SlotReport {
            phase: scenario.phases[s.phase].name.clone(),
            round: s.round,
            from_s: secs(s.measure_from),
            to_s: secs(s.end),
        };
        TimelineReport {
            interval_s,
            tenants: scenario.tenants.iter().map(|t| t.name.clone()).collect(),
            points: timeline.points().into_iter().enumerate().map(point).collect(),
            slots: plan.slots.iter().map(slot).collect(),
        }
    }
}

/// Files of histograms: beyond so many, only the JSON has the figures.
const HISTOGRAMS_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
