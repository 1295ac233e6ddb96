//! What is asked of the figures: a value, or the ratio of two phases, and the bounds of it.

use serde::{Deserialize, Serialize};

use super::{BadScenario, Operation, Phase, Tenant, bad};

/// A figure that is reported by itself, and perhaps judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Goal {
    /// What the report calls it.
    pub name: String,
    /// Which figure.
    pub figure: Figure,
    /// Whose, by its place; of all together when there is none.
    pub tenant: Option<usize>,
    /// In which phase, by its place.
    pub phase: usize,
    /// What it is divided by.
    pub to: Against,
    /// The least that is good.
    pub min: Option<f64>,
    /// The most that is good.
    pub max: Option<f64>,
}

/// What a figure is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// By nothing: the figure itself.
    Nothing,
    /// By the same figure in another phase of the same round.
    Phase(usize),
    /// By a number.
    Value(f64),
}

/// Something that was measured. Latencies are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    P50,
    P90,
    P99,
    #[serde(rename = "p99.9")]
    P999,
    Max,
    ItemP50,
    ItemP99,
    AcceptedP50,
    AcceptedP99,
    DeliveredP50,
    DeliveredP99,
    ItemsPerS,
    SucceededPerS,
    OperationsPerS,
    Errors,
    NotSent,
    /// How equal the tenants' successes are, each divided by its share: 1 is wholly equal.
    Jain,
    /// How far the tenant that is most off is from its share, as a fraction of it.
    ShareError,
}

/// Whether an operation has a figure.
type Told = fn(&Operation) -> bool;

impl Figure {
    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Figure::P50 => "p50",
            Figure::P90 => "p90",
            Figure::P99 => "p99",
            Figure::P999 => "p99.9",
            Figure::Max => "max",
            Figure::ItemP50 => "item_p50",
            Figure::ItemP99 => "item_p99",
            Figure::AcceptedP50 => "accepted_p50",
            Figure::AcceptedP99 => "accepted_p99",
            Figure::DeliveredP50 => "delivered_p50",
            Figure::DeliveredP99 => "delivered_p99",
            Figure::ItemsPerS => "items_per_s",
            Figure::SucceededPerS => "succeeded_per_s",
            Figure::OperationsPerS => "operations_per_s",
            Figure::Errors => "errors",
            Figure::NotSent => "not_sent",
            Figure::Jain => "jain",
            Figure::ShareError => "share_error",
        }
    }

    /// What its values are in.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::P50
            | Figure::P90
            | Figure::P99
            | Figure::P999
            | Figure::Max
            | Figure::ItemP50
            | Figure::ItemP99
            | Figure::AcceptedP50
            | Figure::AcceptedP99
            | Figure::DeliveredP50
            | Figure::DeliveredP99 => " ms",
            Figure::ItemsPerS | Figure::SucceededPerS | Figure::OperationsPerS => "/s",
            Figure::Errors | Figure::NotSent | Figure::Jain | Figure::ShareError => "",
        }
    }

    /// Of which operations it is told, and who has those, unless it is told of all.
    fn told_of(self) -> Option<(Told, &'static str)> {
        match self {
            Figure::AcceptedP50 | Figure::AcceptedP99 => {
                Some((Operation::has_jobs, "tenants whose operation is \"job\""))
            }
            Figure::DeliveredP50 | Figure::DeliveredP99 => {
                Some((Operation::is_read, "tenants that produce and have consumers"))
            }
            _ => None,
        }
    }

    fn of_all(self) -> bool {
        matches!(self, Figure::Jain | Figure::ShareError)
    }
}

/// One `[[goals]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalFile {
    name: Option<String>,
    figure: Figure,
    tenant: Option<String>,
    phase: Option<String>,
    to_phase: Option<String>,
    to_value: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
}

impl GoalFile {
    pub(super) fn parse(self, phases: &[Phase], tenants: &[Tenant]) -> Result<Goal, BadScenario> {
        let phase_of = |key: &str, name: &str| {
            let known = || phases.iter().map(|p| format!("{:?}", p.name)).collect::<Vec<_>>();
            let problem = || format!("no phase {name:?}; there is {}", known().join(", "));
            phases.iter().position(|p| p.name == name).ok_or_else(|| bad(key, problem()))
        };
        let phase = match &self.phase {
            Some(name) => phase_of("goals.phase", name)?,
            None if phases.len() == 1 => 0,
            None => return Err(bad("goals.phase", "must be given, as there are several phases")),
        };
        let tenant = match &self.tenant {
            Some(_) if self.figure.of_all() => {
                return Err(bad("goals.tenant", format!("{} is of all", self.figure.name())));
            }
            Some(name) => {
                let problem = || format!("no tenant {name:?}");
                let found = tenants.iter().position(|t| t.name == *name);
                Some(found.ok_or_else(|| bad("goals.tenant", problem()))?)
            }
            None => None,
        };
        let to = match (&self.to_phase, self.to_value) {
            (None, None) => Against::Nothing,
            (Some(name), None) => Against::Phase(phase_of("goals.to_phase", name)?),
            (None, Some(v)) if v > 0.0 && v.is_finite() => Against::Value(v),
            (None, Some(_)) => return Err(bad("goals.to_value", "must be above 0")),
            (Some(_), Some(_)) => return Err(bad("goals.to_phase", "excludes to_value")),
        };
        let sends = |phase: usize| tenant.is_none_or(|t| phases[phase].tenants.contains(&t));
        if !sends(phase) || matches!(to, Against::Phase(p) if !sends(p)) {
            let problem = "the tenant takes no part in that phase";
            return Err(bad("goals.tenant", problem));
        }
        let judged = |t: &usize| tenant.is_none_or(|judged| judged == *t);
        let mut all = phases[phase].tenants.iter().filter(|t| judged(t)).map(|t| &tenants[*t]);
        if let Some((told, of)) = self.figure.told_of()
            && !all.any(|t| told(&t.operation))
        {
            let problem = format!("{} is told of {of}", self.figure.name());
            return Err(bad("goals.figure", problem));
        }
        for (key, bound) in [("goals.min", self.min), ("goals.max", self.max)] {
            if bound.is_some_and(|b| !b.is_finite()) {
                return Err(bad(key, "must be a number"));
            }
        }
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            return Err(bad("goals.min", "must be at most max"));
        }
        let mut goal = Goal {
            name: String::new(),
            figure: self.figure,
            tenant,
            phase,
            to,
            min: self.min,
            max: self.max,
        };
        goal.name = self.name.unwrap_or_else(|| goal.title(phases, tenants));
        Ok(goal)
    }
}

impl Goal {
    fn title(&self, phases: &[Phase], tenants: &[Tenant]) -> String {
        let whose = self.tenant.map_or("all", |t| &tenants[t].name);
        let (figure, phase) = (self.figure.name(), &phases[self.phase].name);
        match self.to {
            Against::Nothing => format!("{whose}: {figure} {phase}"),
            Against::Phase(p) => format!("{whose}: {figure} {phase} ÷ {}", phases[p].name),
            Against::Value(v) => format!("{whose}: {figure} {phase} ÷ {v}"),
        }
    }

    /// What is of interest when nothing was asked for: every later phase beside the first.
    pub(super) fn usual(phases: &[Phase], tenants: &[Tenant]) -> Vec<Goal> {
        let mut goals = Vec::new();
        for phase in 1..phases.len() {
            let both = |t: &usize| phases[0].tenants.contains(t);
            for tenant in phases[phase].tenants.iter().copied().filter(both) {
                for figure in [Figure::P50, Figure::P99, Figure::SucceededPerS] {
                    let mut goal = Goal {
                        name: String::new(),
                        figure,
                        tenant: Some(tenant),
                        phase,
                        to: Against::Phase(0),
                        min: None,
                        max: None,
                    };
                    goal.name = goal.title(phases, tenants);
                    goals.push(goal);
                }
            }
        }
        goals
    }
}
