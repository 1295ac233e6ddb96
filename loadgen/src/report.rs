//! What came of a run: everything in one serialisable value, and its judgement.

mod text;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use serde::Serialize;

pub use text::text;

use crate::{
    check::Wrong,
    exit::Exit,
    record::Stats,
    scenario::{Scenario, Tenant},
};

/// A run and what came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The shape of this report: 1.
    pub report_version: u32,
    /// The version of the generator.
    pub generator_version: &'static str,
    pub started_at_unix_ms: u64,
    /// What was asked for.
    pub scenario: Scenario,
    pub tenants: Vec<Figures>,
    /// All of them together.
    pub total: Figures,
    /// Processor time of this process while it measured; unknown off Linux.
    pub generator_cpu_s: Option<f64>,
    pub generator_cpu_us_per_item: Option<f64>,
    pub passed: bool,
    /// Why it did not pass.
    pub complaints: Vec<Complaint>,
}

/// What was measured, of one tenant or of all.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub tenant: String,
    pub batches: u64,
    pub batches_failed: u64,
    pub batches_not_sent: u64,
    pub items_succeeded: u64,
    pub items_failed: u64,
    pub items_unanswered: u64,
    pub items_per_s: f64,
    pub batches_per_s: f64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Items and batches that failed, by code.
    pub errors: BTreeMap<String, u64>,
    pub wrong: Wrong,
    pub throttled_s: f64,
    pub throttlings: u64,
    /// From when a batch was due to its end.
    pub batch_latency: Quantiles,
    /// From when its batch was due to an item's result.
    pub item_latency: Quantiles,
}

/// Latency, in microseconds.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub min_us: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub p99_99_us: f64,
    pub max_us: f64,
}

/// A reason why a run did not pass.
#[derive(Debug, Serialize)]
pub struct Complaint {
    #[serde(skip)]
    pub exit: Exit,
    pub text: String,
}

/// What is known of the generator itself.
#[derive(Debug, Clone, Copy)]
pub struct Generator {
    pub started_at: SystemTime,
    pub cpu: Option<Duration>,
}

impl Report {
    pub fn new(scenario: &Scenario, tenants: &[(&Tenant, Stats)], generator: Generator) -> Self {
        let mut sum = Stats::default();
        tenants.iter().for_each(|(_, stats)| sum.add(stats));
        let complaints = complaints(scenario, tenants, &sum);
        let cpu_s = generator.cpu.map(|d| d.as_secs_f64());
        let started_at = generator.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Report {
            report_version: 1,
            generator_version: env!("CARGO_PKG_VERSION"),
            started_at_unix_ms: u64::try_from(started_at.as_millis()).unwrap_or(u64::MAX),
            tenants: tenants
                .iter()
                .map(|(t, stats)| Figures::new(&t.name, stats, scenario.duration))
                .collect(),
            total: Figures::new("all", &sum, scenario.duration),
            generator_cpu_s: cpu_s,
            generator_cpu_us_per_item: cpu_s
                .filter(|_| sum.answered() > 0)
                .map(|s| s * 1e6 / sum.answered() as f64),
            passed: complaints.is_empty(),
            complaints,
            scenario: scenario.clone(),
        }
    }

    /// What the process says: the gravest complaint, where a wrong answer is graver than a slow one.
    pub fn exit(&self) -> Exit {
        self.complaints.iter().map(|c| c.exit).min().unwrap_or(Exit::Ok)
    }
}

impl Figures {
    fn new(name: &str, s: &Stats, duration: Duration) -> Self {
        let secs = duration.as_secs_f64();
        Figures {
            tenant: name.to_owned(),
            batches: s.batches,
            batches_failed: s.batches_failed,
            batches_not_sent: s.not_sent,
            items_succeeded: s.succeeded,
            items_failed: s.failed,
            items_unanswered: s.unanswered,
            items_per_s: s.answered() as f64 / secs,
            batches_per_s: (s.batches - s.batches_failed) as f64 / secs,
            bytes_sent: s.bytes_in,
            bytes_received: s.bytes_out,
            errors: s.errors.clone(),
            wrong: s.wrong,
            throttled_s: s.throttled.as_secs_f64(),
            throttlings: s.throttlings,
            batch_latency: Quantiles::of(&s.batch_latency),
            item_latency: Quantiles::of(&s.item_latency),
        }
    }
}

impl Quantiles {
    fn of(h: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |q| us(h.value_at_quantile(q));
        let empty = h.is_empty();
        Quantiles {
            count: h.len(),
            min_us: if empty { 0.0 } else { us(h.min()) },
            mean_us: if empty { 0.0 } else { h.mean() / 1e3 },
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: us(h.max()),
        }
    }
}

fn complaints(scenario: &Scenario, tenants: &[(&Tenant, Stats)], sum: &Stats) -> Vec<Complaint> {
    let mut all = Vec::new();
    let mut complain = |exit, text| all.push(Complaint { exit, text });
    for (tenant, s) in tenants {
        let name = &tenant.name;
        let Wrong { missing, duplicate, foreign, payload, protocol } = s.wrong;
        if s.wrong.total() > 0 {
            let text = format!(
                "tenant {name:?}: wrong answers: {missing} missing, {duplicate} duplicate, \
                 {foreign} foreign, {payload} with a wrong payload, {protocol} batches against \
                 the protocol"
            );
            complain(Exit::Failure, text);
        }
        if s.unexpected > 0 {
            let text = format!(
                "tenant {name:?}: {} errors that the scenario does not allow (`allow_errors`)",
                s.unexpected
            );
            complain(Exit::Failure, text);
        }
        if s.not_sent > 0 {
            let text = format!(
                "tenant {name:?}: the rate was not kept up: {} batches were due and never sent",
                s.not_sent
            );
            complain(Exit::Threshold, text);
        }
    }
    if sum.batches == 0 {
        complain(Exit::Failure, "no batch ended within the time measured".to_owned());
    }
    let p99_ms = sum.batch_latency.value_at_quantile(0.99) as f64 / 1e6;
    if let Some(max) = scenario.p99_max_ms.filter(|max| p99_ms > *max) {
        let text = format!("the p99 of batch latency is {p99_ms:.3} ms, at most {max} ms is asked");
        complain(Exit::Threshold, text);
    }
    all
}

#[cfg(test)]
mod tests;
