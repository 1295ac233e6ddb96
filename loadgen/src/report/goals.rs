//! The figures that were asked for: in each round, and the median over the rounds, which is judged.

use std::time::Duration;

use serde::Serialize;

use super::Cells;
use crate::{
    record::Stats,
    scenario::{Against, Figure, Goal, Scenario},
};

/// A figure that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct GoalReport {
    pub name: String,
    /// What the values are in; empty for ratios and counts.
    pub unit: &'static str,
    /// The median over the rounds; nothing when there is nothing to compute it from.
    pub value: Option<f64>,
    pub least: Option<f64>,
    pub most: Option<f64>,
    /// Round by round.
    pub rounds: Vec<Option<f64>>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Whether it is within its bounds; nothing when there are none.
    pub met: Option<bool>,
}

/// Computes every goal of a scenario. `tenants`: of each, the sums of each slot; `measured`: how long
/// each slot was.
pub fn evaluate(
    scenario: &Scenario,
    tenants: &[(Vec<Stats>, Stats)],
    measured: &[Duration],
) -> Vec<GoalReport> {
    let cells = Cells { scenario, tenants, measured };
    scenario.goals.iter().map(|goal| one(&cells, goal)).collect()
}

fn one(cells: &Cells<'_>, goal: &Goal) -> GoalReport {
    let scenario = cells.scenario;
    let in_round = |round: usize| {
        let value = |phase| value(cells, goal, round, phase);
        let above = value(goal.phase)?;
        let below = match goal.to {
            Against::Nothing => return Some(above),
            Against::Phase(phase) => value(phase)?,
            Against::Value(v) => v,
        };
        (below != 0.0).then_some(above / below)
    };
    let rounds: Vec<_> = (0..scenario.rounds).map(in_round).collect();
    let mut known: Vec<f64> = rounds.iter().copied().flatten().collect();
    known.sort_by(f64::total_cmp);
    let value = median(&known);
    let judged = goal.min.is_some() || goal.max.is_some();
    let good = value.is_some_and(|v| {
        goal.min.is_none_or(|min| v >= min) && goal.max.is_none_or(|max| v <= max)
    });
    GoalReport {
        name: goal.name.clone(),
        unit: if goal.to == Against::Nothing { goal.figure.unit() } else { "" },
        value,
        least: known.first().copied(),
        most: known.last().copied(),
        rounds,
        min: goal.min,
        max: goal.max,
        met: judged.then_some(good),
    }
}

/// Of sorted values.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

fn value(cells: &Cells<'_>, goal: &Goal, round: usize, phase: usize) -> Option<f64> {
    let Cells { scenario, tenants, measured } = *cells;
    let slot = round * scenario.phases.len() + phase;
    let here = &scenario.phases[phase];
    let secs = measured[slot].as_secs_f64();
    if secs <= 0.0 {
        return None;
    }
    let mut sum;
    let stats = match goal.tenant {
        Some(tenant) => &tenants[tenant].0[slot],
        None => {
            sum = Stats::default();
            here.tenants.iter().for_each(|t| sum.add(&tenants[*t].0[slot]));
            &sum
        }
    };
    let shares = || {
        let share = |t: &usize| tenants[*t].0[slot].succeeded as f64 / scenario.tenants[*t].share;
        here.tenants.iter().map(share).collect::<Vec<_>>()
    };
    let quantile = |h: &hdrhistogram::Histogram<u64>, q: f64| {
        (!h.is_empty()).then(|| h.value_at_quantile(q) as f64 / 1e6)
    };
    match goal.figure {
        Figure::P50 => quantile(&stats.latency, 0.5),
        Figure::P90 => quantile(&stats.latency, 0.9),
        Figure::P99 => quantile(&stats.latency, 0.99),
        Figure::P999 => quantile(&stats.latency, 0.999),
        Figure::Max => quantile(&stats.latency, 1.0),
        Figure::ItemP50 => quantile(&stats.item_latency, 0.5),
        Figure::ItemP99 => quantile(&stats.item_latency, 0.99),
        Figure::AcceptedP50 => quantile(&stats.accepted_latency, 0.5),
        Figure::AcceptedP99 => quantile(&stats.accepted_latency, 0.99),
        Figure::DeliveredP50 => quantile(&stats.delivered_latency, 0.5),
        Figure::DeliveredP99 => quantile(&stats.delivered_latency, 0.99),
        Figure::ItemsPerS => Some(stats.answered() as f64 / secs),
        Figure::SucceededPerS => Some(stats.succeeded as f64 / secs),
        Figure::OperationsPerS => Some((stats.operations - stats.operations_failed) as f64 / secs),
        Figure::Errors => Some(stats.errors() as f64),
        Figure::NotSent => Some(stats.not_sent as f64),
        Figure::Jain => jain(&shares()),
        Figure::ShareError => share_error(&shares()),
    }
}

/// Jain's index of fairness: 1 when all have the same, 1/n when one has everything.
fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|s| s * s).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// How far the one that is most off is from the mean, as a fraction of it.
fn share_error(shares: &[f64]) -> Option<f64> {
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    (mean > 0.0).then(|| shares.iter().map(|s| (s / mean - 1.0).abs()).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_for_equals() {
        assert_eq!(jain(&[5.0, 5.0, 5.0]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[0.0]), None);
        let off = share_error(&[9.0, 10.0, 11.0]).expect("known");
        assert!((off - 0.1).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&[]), median(&[3.0])), (None, Some(3.0)));
        assert_eq!((median(&[1.0, 2.0, 9.0]), median(&[1.0, 2.0])), (Some(2.0), Some(1.5)));
    }
}
