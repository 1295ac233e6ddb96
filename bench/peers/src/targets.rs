//! The broker against another row of the same round, figure by figure, beside what is aimed at.
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

use crate::rows::{num, Rows};

struct Target {
    workload: &'static str,
    key: &'static str,
    label: &'static str,
    /// The row whose figure it is divided by; absolute figures stand for themselves.
    base: Option<&'static str>,
    /// The only row that it is about, if it is not about all of the broker's.
    row: Option<&'static str>,
    first: f64,
    goal: f64,
    more_is_better: bool,
}

const fn ratio(
    workload: &'static str,
    key: &'static str,
    label: &'static str,
    first: f64,
    goal: f64,
) -> Target {
    let (base, more_is_better) = (Some("quinn"), goal > first);
    Target { workload, key, label, base, row: None, first, goal, more_is_better }
}

/// The broker with one worker behind it; what is not aimed at is told beside.
const fn through(
    key: &'static str,
    label: &'static str,
    base: &'static str,
    aims: Option<(f64, f64)>,
) -> Target {
    let (first, goal) = match aims {
        Some(aims) => aims,
        None => (f64::NAN, f64::NAN),
    };
    let (base, row) = (Some(base), Some("tollgate-worker"));
    Target { workload: "w1", key, label, base, row, first, goal, more_is_better: true }
}

const TARGETS: &[Target] = &[
    ratio("w1", "subreq_per_s", "W1 items/s", 0.70, 1.0),
    ratio("w1", "server_cpu_s_per_msub", "W1 server CPU an item", 1.5, 1.1),
    ratio("w2", "p50_us", "W2 p50", 1.2, 0.75),
    ratio("w3", "mb_per_s_each_way", "W3 MB/s", 0.90, 1.1),
    Target {
        workload: "w3",
        key: "mb_per_s_each_way",
        label: "W3 MB/s, packets of 6,500 B",
        base: Some("tonic-bidi"),
        row: Some("tollgate-jumbo"),
        first: f64::NAN,
        goal: 1.0,
        more_is_better: true,
    },
    ratio("w4", "handshakes_per_s", "W4 handshakes/s", 0.9, 1.2),
    Target {
        workload: "w4",
        key: "server_kib_per_conn",
        label: "W4 KiB a connection, absolute",
        base: None,
        row: None,
        first: 60.0,
        goal: 45.0,
        more_is_better: false,
    },
    ratio("w5", "median_ms", "W5 ms", 1.4, 1.0),
    through("subreq_per_s", "W1 items/s", "nats-request", Some((3.0, 8.0))),
    through("subreq_per_s", "W1 items/s", "nats-inbox", None),
    through("subreq_per_s", "W1 items/s", "quinn-relay", None),
    through("server_cpu_s_per_msub", "W1 server CPU an item", "nats-request", None),
    through("server_cpu_s_per_msub", "W1 server CPU an item", "quinn-relay", None),
    Target {
        workload: "w1",
        key: "subreq_per_s",
        label: "W1 items/s, quotas",
        base: Some("tollgate-unlimited"),
        row: Some("tollgate"),
        first: 0.95,
        goal: 0.97,
        more_is_better: true,
    },
];

/// One line a target for every row of the broker's; empty when there is none.
pub fn table(files: &[String]) -> Result<String> {
    let rows = Rows::load(files)?;
    let mut peers: Vec<&str> = rows.iter().filter_map(|v| v["peer"].as_str()).collect();
    peers.retain(|p| p.starts_with("tollgate"));
    peers.sort_unstable();
    peers.dedup();
    let mut out = String::new();
    if peers.is_empty() {
        return Ok(out);
    }
    writeln!(out, "### The broker ÷ quinn (or what is named), round by round\n")?;
    writeln!(
        out,
        "| figure | row | measured | ratio: median | least | most | rounds | first target | goal | met |"
    )?;
    writeln!(out, "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
    for t in TARGETS {
        for peer in peers.iter().filter(|p| t.row.is_none_or(|row| row == **p)) {
            line(&mut out, &rows, t, peer)?;
        }
    }
    Ok(out)
}

fn line(out: &mut String, rows: &Rows, t: &Target, peer: &str) -> Result<()> {
    let of = |peer: &str| {
        let peer = peer.to_owned();
        move |v: &Value| v["workload"] == t.workload && v["peer"] == *peer
    };
    let Some(own) = rows.spread(t.key, of(peer)) else { return Ok(()) };
    let (found, measured) = match t.base {
        None => (own, num(own.median)),
        Some(base) => {
            let Some(ratio) = rows.ratio(t.key, of(peer), of(base)) else { return Ok(()) };
            let beside = rows.spread(t.key, of(base)).map_or(f64::NAN, |s| s.median);
            (ratio, format!("{} beside {}", num(own.median), num(beside)))
        }
    };
    let median = found.median;
    let meets = |aim: f64| if t.more_is_better { median >= aim } else { median <= aim };
    let met = match (meets(t.goal), meets(t.first)) {
        (true, _) => "goal",
        (_, true) => "first",
        _ if t.goal.is_nan() => "",
        _ => "no",
    };
    let label = match t.base {
        Some(base) if base != "quinn" => format!("{} ÷ {base}", t.label),
        _ => t.label.to_owned(),
    };
    let aim = |x: f64| if x.is_nan() { String::new() } else { x.to_string() };
    writeln!(
        out,
        "| {label} | {peer} | {measured} | {median:.2} | {:.2} | {:.2} | {} | {} | {} | {met} |",
        found.least,
        found.most,
        found.rounds,
        aim(t.first),
        aim(t.goal)
    )?;
    Ok(())
}
