//! Did it pass? Every reason why not, with the exit code that it means.

use serde::Serialize;

use super::GoalReport;
use crate::{
    check::Wrong,
    drive::{Measured, Reread, TopicDone},
    exit::Exit,
    record::Stats,
    scenario::{Operation, Scenario, Tenant},
};

/// A reason why a run did not pass.
#[derive(Debug, Serialize)]
pub struct Complaint {
    #[serde(skip)]
    pub exit: Exit,
    pub text: String,
}

pub fn complaints(
    scenario: &Scenario,
    tenants: &[(Vec<Stats>, Stats)],
    whole: &Stats,
    goals: &[GoalReport],
    cut_short: bool,
) -> Vec<Complaint> {
    let mut all = Vec::new();
    let mut complain = |exit, text| all.push(Complaint { exit, text });
    for (tenant, (slots, rest)) in scenario.tenants.iter().zip(tenants) {
        let name = &tenant.name;
        let mut wrong = rest.wrong;
        slots.iter().for_each(|s| wrong.add(&s.wrong));
        if wrong.total() > 0 {
            let Wrong { missing, duplicate, foreign, payload, protocol, lost } = wrong;
            let what = match tenant.operation {
                Operation::Produce(_) => "messages",
                _ => "jobs",
            };
            let text = format!(
                "tenant {name:?}: wrong answers: {missing} missing, {duplicate} duplicate, \
                 {foreign} foreign, {payload} with a wrong payload, {protocol} against the \
                 protocol, {lost} {what} lost"
            );
            complain(Exit::Failure, text);
        }
        let mut unexpected = Stats::default();
        slots.iter().chain([rest]).for_each(|s| unexpected.add(s));
        if unexpected.unexpected() > 0 {
            let codes = unexpected.unexpected.iter().map(|(code, n)| format!("{n} × {code}"));
            let codes = codes.collect::<Vec<_>>().join(", ");
            let limited = unexpected.unexpected.keys().any(|e| QUOTAS.contains(&&**e));
            let hint = if limited {
                "; its quotas are lower than this load: raise them, lower the load, or allow the \
                 code"
            } else {
                ""
            };
            let text = format!(
                "tenant {name:?}: errors that the scenario does not allow (`allow_errors`), the \
                 warm-up included: {codes}{hint}"
            );
            complain(Exit::Failure, text);
        }
        let not_sent = slots.iter().map(|s| s.not_sent).sum::<u64>();
        if not_sent > 0 && !tenant.allow_not_sent {
            let text = format!(
                "tenant {name:?}: the rate was not kept up: {not_sent} operations were due and \
                 never sent"
            );
            complain(Exit::Threshold, text);
        }
    }
    // Who ends a run early knows that nothing may have ended.
    if whole.operations == 0 && !cut_short {
        complain(Exit::Failure, "nothing ended within the time measured".to_owned());
    }
    let p99_ms = whole.latency.value_at_quantile(0.99) as f64 / 1e6;
    if let Some(max) = scenario.p99_max_ms.filter(|max| p99_ms > *max) {
        let text = format!("the p99 of latency is {p99_ms:.3} ms, at most {max} ms is asked");
        complain(Exit::Threshold, text);
    }
    for goal in goals.iter().filter(|g| g.met == Some(false)) {
        let value = goal.value.map_or_else(|| "unknown".to_owned(), |v| format!("{v:.3}"));
        let text = format!("goal {:?} is missed: {value}{}, {}", goal.name, goal.unit, asked(goal));
        complain(Exit::Threshold, text);
    }
    all
}

/// What a tenant is told that does more than it may.
const QUOTAS: [&str; 2] = ["RATE_LIMITED", "QUOTA_EXCEEDED"];

/// The bounds of a goal, for people.
pub fn asked(goal: &GoalReport) -> String {
    match (goal.min, goal.max) {
        (Some(min), Some(max)) => format!("{min} to {max} is asked"),
        (Some(min), None) => format!("at least {min} is asked"),
        (None, Some(max)) => format!("at most {max} is asked"),
        (None, None) => String::new(),
    }
}

/// Jobs and messages that were to be read again and could not be.
pub fn unread(scenario: &Scenario, measured: &Measured) -> Vec<Complaint> {
    let messages = |(tenant, done): (&Tenant, &Option<TopicDone>)| {
        let unread = done.as_ref().filter(|d| d.unread > 0)?.unread;
        let name = &tenant.name;
        let text = format!("tenant {name:?}: {unread} messages could not be read back");
        Some(Complaint { exit: Exit::Failure, text })
    };
    let messages = scenario.tenants.iter().zip(&measured.topics).filter_map(messages);
    let missing = |(tenant, done): (&Tenant, &Option<Reread>)| {
        let unread = done.filter(|d| d.batches_unread > 0)?.batches_unread;
        let name = &tenant.name;
        Some(Complaint {
            exit: Exit::Failure,
            text: format!(
                "tenant {name:?}: {unread} batches could not be read again from the broker's records"
            ),
        })
    };
    let batches = scenario.tenants.iter().zip(&measured.rereads).filter_map(missing);
    batches.chain(messages).collect()
}
