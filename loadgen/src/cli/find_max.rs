//! The flags of the search for the highest rate.

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::{Show, Target};
use crate::{
    find_max::{Latency, Search},
    scenario::{BadScenario, Load, OperationName, Scenario},
};

/// Find the highest rate that meets a latency objective
///
/// The rate is doubled until the objective is missed, then narrowed down between the last rate that
/// met it and the first that did not; each step is a measurement of its own on connections that are
/// open. Latency counts from when a batch was due. A step meets the objective when its quantile does,
/// everything that was due was sent, and no answer was wrong or an error. In a scenario every rate is
/// multiplied alike, and tenants without a rate are the background.
///
/// Examples:
///   tollgate-loadgen find-max --certs certs/acme --p99-max-ms 10
///   tollgate-loadgen find-max --certs certs/acme --p99-max-ms 50 --operation job --output json
///   tollgate-loadgen find-max topics.toml --p99-max-ms 20 --latency delivered
///   tollgate-loadgen find-max scenario.toml --p99-max-ms 5 --window 10s --precision 2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FindMax {
    #[command(flatten)]
    pub target: Target,
    /// The objective: the p99 of latency (see --quantile) is at most this
    #[arg(long, value_name = "MS")]
    pub p99_max_ms: f64,
    /// Another quantile than the 99th percentile, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 99.0)]
    pub quantile: f64,
    /// Of what: of whole operations, of items (or the acknowledgement of messages), of the acceptance
    /// of jobs, or of the delivery of messages
    #[arg(long, value_enum, default_value_t = LatencyName::Operation)]
    pub latency: LatencyName,
    /// The first rate, in items a second of all tenants [default: what the scenario
    /// says; 10000, or 100 connections]
    #[arg(long, value_name = "RATE")]
    pub from: Option<f64>,
    /// No higher than this, in items a second of all tenants
    #[arg(long, value_name = "RATE")]
    pub to: Option<f64>,
    /// How near the result is to the limit, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub precision: f64,
    /// How long each step is measured [default: 5s]
    #[arg(long, value_name = "TIME")]
    pub window: Option<SignedDuration>,
    /// Measurements of a rate that misses, before it counts as missed: one stall of the machine is
    /// not the broker's limit
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub tries: u32,
    #[command(flatten)]
    pub show: Show,
    #[command(flatten)]
    pub load: Load,
}

/// Which latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LatencyName {
    /// From when an operation was due to its end.
    Operation,
    /// From when its batch was due to an item's result.
    Item,
    /// From when its batch was due to a job's acceptance.
    Accepted,
    /// From when its operation was due until a reader has a message.
    Delivered,
}

impl FindMax {
    /// The scenario whose rates are multiplied.
    pub fn scenario(&self) -> Result<Scenario, BadScenario> {
        let mut load = self.load.clone();
        let rates = [load.items_per_second, load.batches_per_second, load.connections_per_second];
        if self.target.scenario.is_none() && rates.iter().all(Option::is_none) {
            let connect = load.operation == Some(OperationName::Connect);
            let first = self.from.unwrap_or(if connect { 100.0 } else { 10_000.0 });
            let each = first / self.target.certs.len().max(1) as f64;
            let rate =
                if connect { &mut load.connections_per_second } else { &mut load.items_per_second };
            *rate = Some(each);
        }
        let (file, mut overrides) = self.target.file(&load)?;
        overrides.duration =
            self.window.or(overrides.duration).or(Some(SignedDuration::from_secs(5)));
        file.parse(overrides)
    }

    /// How it is searched.
    pub fn search(&self) -> Result<Search, BadScenario> {
        let bad = |key: &str, problem: &str| {
            Err(BadScenario::Value(format!("`--{key}`: must be {problem}")))
        };
        if !(self.p99_max_ms > 0.0 && self.p99_max_ms <= 3_600_000.0) {
            return bad("p99-max-ms", "above 0 and at most an hour");
        }
        if !(self.quantile > 0.0 && self.quantile < 100.0) {
            return bad("quantile", "above 0 and below 100");
        }
        if !(0.1..=50.0).contains(&self.precision) {
            return bad("precision", "0.1 to 50");
        }
        if !(1..=10).contains(&self.tries) {
            return bad("tries", "1 to 10");
        }
        let rates = [self.from, self.to];
        if rates.iter().flatten().any(|r| !(*r > 0.0 && r.is_finite())) {
            return bad("from", "a rate above 0, and so must --to");
        }
        if self.from.zip(self.to).is_some_and(|(from, to)| from > to) {
            return bad("from", "at most what --to is");
        }
        Ok(Search {
            objective_ms: self.p99_max_ms,
            quantile: self.quantile / 100.0,
            latency: match self.latency {
                LatencyName::Operation => Latency::Operation,
                LatencyName::Item => Latency::Item,
                LatencyName::Accepted => Latency::Accepted,
                LatencyName::Delivered => Latency::Delivered,
            },
            from: self.from,
            to: self.to,
            precision: self.precision / 100.0,
            tries: self.tries,
        })
    }
}
