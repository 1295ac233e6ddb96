//! The search for the highest rate that meets a latency objective.
//!
//! Which rate comes next is `Hunt`'s to say, which is pure; the rest measures it. Every step is a
//! fresh measurement on the same connections.

mod hunt;
mod page;

use std::time::Duration;

use serde::Serialize;

use crate::{
    cli::Live,
    drive::{Fleet, Measured},
    exit::Exit,
    generator::Verdict,
    progress::Progress,
    record::Stats,
    report::number,
    scenario::{BadScenario, Operation, Pace, Scenario},
};

use hunt::{Hunt, Next};
pub use page::page;

/// What is searched for, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Search {
    pub objective_ms: f64,
    pub quantile: f64,
    pub latency: Latency,
    /// In items a second of all tenants together.
    pub from: Option<f64>,
    pub to: Option<f64>,
    pub precision: f64,
    pub tries: u32,
}

/// Which latency the objective is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    Operation,
    Item,
    Accepted,
    Delivered,
}

/// What was found, and the way there.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The shape of this report: 1.
    pub find_max_version: u32,
    pub generator_version: &'static str,
    pub search: Search,
    /// The highest rate that met the objective, in items a second; nothing when none did.
    pub max_items_per_s: Option<f64>,
    /// What limited it.
    pub limited_by: LimitedBy,
    /// Every measurement, in the order in which they were made.
    pub steps: Vec<Step>,
    pub scenario: Scenario,
}

/// What kept the rate from being higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// The objective: the next higher rate missed it.
    Objective,
    /// This program: where the objective was missed, it was itself the bottleneck.
    Generator,
    /// What was asked for at most.
    Bound,
    /// A signal ended the search.
    Signal,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Items a second that were due.
    pub offered_items_per_s: f64,
    /// Items a second that succeeded.
    pub succeeded_per_s: f64,
    /// How many latencies the quantile is one of.
    pub count: u64,
    /// What the objective is about.
    pub quantile_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub errors: u64,
    pub wrong: u64,
    pub not_sent: u64,
    pub met: bool,
    /// Why the objective was missed.
    pub why: Option<String>,
    pub generator_was_bottleneck: bool,
}

/// Searches. An error means that it did not begin.
pub async fn find(
    scenario: &Scenario,
    search: Search,
    live: Live,
    threads: usize,
) -> anyhow::Result<Found> {
    let base = rate_of(scenario, 1.0);
    if base <= 0.0 {
        let problem = "no tenant has a rate that could be multiplied: give one items_per_second, \
                       batches_per_second or connections_per_second";
        return Err(BadScenario::Value(problem.into()).into());
    }
    let judged = |told: fn(&Operation) -> bool| {
        let open = scenario.tenants.iter().filter(|t| matches!(t.pace, Pace::PerSecond { .. }));
        open.map(|t| &t.operation).any(told)
    };
    let untold = match search.latency {
        Latency::Accepted if !judged(Operation::has_jobs) => {
            Some("--latency accepted: no tenant with a rate has jobs (operation \"job\")")
        }
        Latency::Delivered if !judged(Operation::is_read) => {
            Some("--latency delivered: no tenant with a rate produces and has consumers")
        }
        _ => None,
    };
    if let Some(problem) = untold {
        return Err(BadScenario::Value(problem.into()).into());
    }
    let factor = |rate: Option<f64>| rate.map(|r| r / base);
    if operations(scenario, factor(search.from).unwrap_or(1.0)) < 1.0 {
        let problem = "not one operation is due in a step at the first rate: a longer --window, a \
                       higher --from or smaller batches";
        return Err(BadScenario::Value(problem.into()).into());
    }
    let fleet = Fleet::connect(scenario).await?;
    let mut hunt =
        Hunt::new(factor(search.from).unwrap_or(1.0), factor(search.to), search.precision);
    let mut steps: Vec<Step> = Vec::new();
    let mut cut = false;
    while let Next::Try(factor) = hunt.next()
        && !cut
        && operations(scenario, factor) >= 1.0
    {
        let scaled = scaled(scenario, factor);
        let mut met = false;
        for _ in 0..search.tries {
            let rate = rate_of(scenario, factor);
            let title = format!("step {}, {} items/s: ", steps.len() + 1, number(rate));
            // Line by line, the steps are enough.
            let inner = if live == Live::Plain { Live::None } else { live };
            let progress = Progress::new(inner, title);
            // What waits longer than the objective has missed it already.
            let patience = Duration::from_secs_f64(search.objective_ms / 1e3);
            let patience = patience.max(Duration::from_millis(200)).min(scenario.drain);
            let measured = fleet.run(&scaled, progress, None, |plan| plan.patience = patience);
            let measured = match measured.await {
                Ok(measured) => measured,
                Err(e) => {
                    fleet.close().await;
                    return Err(e);
                }
            };
            cut = measured.cut_at.is_some();
            if cut {
                // A step that was cut short says nothing.
                break;
            }
            let step = Step::of(&scaled, &search, &measured, rate, threads);
            met = step.met;
            if live == Live::Plain {
                eprintln!("{}", step.line(steps.len() + 1));
            }
            let hopeless = step.wrong > 0;
            steps.push(step);
            if met || hopeless {
                break;
            }
        }
        if !cut {
            hunt.tried(met);
        }
    }
    fleet.close().await;
    let best = hunt.best();
    let above = best.map_or(0.0, |f| rate_of(scenario, f));
    let missed = steps.iter().rev().find(|s| !s.met && s.offered_items_per_s > above);
    let limited_by = match missed {
        _ if cut => LimitedBy::Signal,
        None => LimitedBy::Bound,
        Some(s) if s.generator_was_bottleneck => LimitedBy::Generator,
        Some(_) => LimitedBy::Objective,
    };
    Ok(Found {
        find_max_version: 1,
        generator_version: env!("CARGO_PKG_VERSION"),
        max_items_per_s: best.map(|f| rate_of(scenario, f)),
        limited_by,
        steps,
        search,
        scenario: scenario.clone(),
    })
}

/// Items a second of all tenants with a rate, when each rate is multiplied.
fn rate_of(scenario: &Scenario, factor: f64) -> f64 {
    let rate = |t: &crate::scenario::Tenant| match t.pace {
        Pace::InFlight(_) => 0.0,
        Pace::PerSecond { rate, .. } => match t.operation {
            Operation::Connect { .. } => rate,
            Operation::Batch | Operation::Job { .. } | Operation::Produce(_) => {
                rate * t.batch_items.mean()
            }
        },
    };
    scenario.tenants.iter().map(rate).sum::<f64>() * factor
}

/// Operations that are due while a step is measured, of the tenant that has most.
fn operations(scenario: &Scenario, factor: f64) -> f64 {
    let due = |t: &crate::scenario::Tenant| match t.pace {
        Pace::InFlight(_) => 0.0,
        Pace::PerSecond { rate, .. } => rate * factor * scenario.measured().as_secs_f64(),
    };
    scenario.tenants.iter().map(due).fold(0.0, f64::max)
}

fn scaled(scenario: &Scenario, factor: f64) -> Scenario {
    let mut scaled = scenario.clone();
    for tenant in &mut scaled.tenants {
        if let Pace::PerSecond { rate, .. } = &mut tenant.pace {
            *rate *= factor;
        }
        // A step is short; it begins with its rate.
        tenant.ramp = None;
    }
    scaled
}

impl Step {
    fn of(
        scenario: &Scenario,
        search: &Search,
        measured: &Measured,
        offered: f64,
        threads: usize,
    ) -> Step {
        let (mut judged, mut all) = (Stats::default(), Stats::default());
        for (tenant, (slots, rest)) in scenario.tenants.iter().zip(&measured.records) {
            let open = matches!(tenant.pace, Pace::PerSecond { .. });
            for s in slots.iter().chain([rest]) {
                all.add(s);
                if open {
                    judged.add(s);
                }
            }
        }
        let verdict = Verdict::of(&measured.generator, threads);
        let latency = match search.latency {
            Latency::Operation => &judged.latency,
            Latency::Item => &judged.item_latency,
            Latency::Accepted => &judged.accepted_latency,
            Latency::Delivered => &judged.delivered_latency,
        };
        let ms = |ns: u64| ns as f64 / 1e6;
        let mut step = Step {
            offered_items_per_s: offered,
            succeeded_per_s: judged.succeeded as f64 / scenario.measured().as_secs_f64(),
            count: latency.len(),
            quantile_ms: ms(latency.value_at_quantile(search.quantile)),
            p50_ms: ms(latency.value_at_quantile(0.5)),
            p99_ms: ms(latency.value_at_quantile(0.99)),
            errors: all.unexpected(),
            wrong: all.wrong.total(),
            not_sent: judged.not_sent,
            met: false,
            why: None,
            generator_was_bottleneck: verdict.was_bottleneck,
        };
        step.why = step.why(search, latency.is_empty());
        step.met = step.why.is_none();
        step
    }

    fn why(&self, search: &Search, empty: bool) -> Option<String> {
        if self.wrong > 0 {
            Some(format!("{} wrong answers", self.wrong))
        } else if self.errors > 0 {
            Some(format!("{} errors", self.errors))
        } else if self.not_sent > 0 {
            Some(format!("{} were due and not sent in time", self.not_sent))
        } else if empty {
            Some("nothing was answered".into())
        } else if self.quantile_ms > search.objective_ms {
            Some(format!("{:.3} ms > {} ms", self.quantile_ms, search.objective_ms))
        } else {
            None
        }
    }

    fn line(&self, number: usize) -> String {
        let met = self.why.as_deref().map_or_else(|| "met".to_owned(), |w| format!("missed: {w}"));
        let generator = if self.generator_was_bottleneck { " (generator saturated)" } else { "" };
        format!(
            "{number:>4}  {:>12.0}  {:>12.0}  {:>10.3}  {:>10.3}  {:>8}  {met}{generator}",
            self.offered_items_per_s,
            self.succeeded_per_s,
            self.p50_ms,
            self.quantile_ms,
            self.errors
        )
    }
}

impl Found {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{:>4}  {:>12}  {:>12}  {:>10}  {:>10}  {:>8}  objective\n",
            "step",
            "offered/s",
            "succeeded/s",
            "p50 ms",
            format!("{} ms", self.quantile()),
            "errors"
        );
        for (n, step) in self.steps.iter().enumerate() {
            out.push_str(&step.line(n + 1));
            out.push('\n');
        }
        out.push_str(&self.verdict());
        out.push('\n');
        let enough = (1.0 / (1.0 - self.search.quantile)).round();
        let few = self.steps.iter().map(|s| s.count).min().filter(|n| (*n as f64) < enough);
        if let Some(few) = few {
            out.push_str(&format!(
                "note: a step had only {few} latencies, too few for this quantile: a longer \
                 --window or smaller batches\n"
            ));
        }
        out
    }

    /// What the quantile is called.
    fn quantile(&self) -> String {
        // Not 99.9 of binary fractions.
        format!("p{}", (self.search.quantile * 1e8).round() / 1e6)
    }

    /// What was found, in a sentence.
    fn verdict(&self) -> String {
        let of = match self.search.latency {
            Latency::Operation => "",
            Latency::Item => " of items",
            Latency::Accepted => " until accepted",
            Latency::Delivered => " until delivered",
        };
        let objective = format!("{}{of} ≤ {} ms", self.quantile(), self.search.objective_ms);
        let Some(rate) = self.max_items_per_s else { return format!("no rate met {objective}") };
        let by = match self.limited_by {
            LimitedBy::Objective => "the next step up missed it",
            LimitedBy::Generator => {
                "but where it was missed THE GENERATOR WAS THE BOTTLENECK: the broker may do more"
            }
            LimitedBy::Bound => "and more was not asked for",
            LimitedBy::Signal => "when a signal ended the search",
        };
        format!("highest rate with {objective}: {} items/s, {by}", number(rate))
    }

    /// What the process says.
    pub fn exit(&self) -> Exit {
        if self.steps.iter().any(|s| s.wrong > 0) {
            Exit::Failure
        } else if self.max_items_per_s.is_none() {
            Exit::Threshold
        } else {
            Exit::Ok
        }
    }
}
