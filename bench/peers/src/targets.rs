//! The broker against another row of the same round, figure by figure, beside what is aimed at.
use anyhow::Result;
use serde_json::Value;
use std::{fmt::Write, fs};

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
    let mut rows = Vec::new();
    for (file, path) in files.iter().enumerate() {
        for line in fs::read_to_string(path)?.lines() {
            rows.push((file, serde_json::from_str::<Value>(line)?));
        }
    }
    let mut peers: Vec<&str> = rows.iter().filter_map(|(_, v)| v["peer"].as_str()).collect();
    peers.retain(|p| p.starts_with("tollgate"));
    peers.sort_unstable();
    peers.dedup();
    let mut out = String::new();
    if peers.is_empty() {
        return Ok(out);
    }
    writeln!(out, "### The broker ÷ quinn (or what is named), round by round\n")?;
    writeln!(out, "| figure | row | median | least | most | rounds | first target | goal | met |")?;
    writeln!(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")?;
    for t in TARGETS {
        for peer in peers.iter().filter(|p| t.row.is_none_or(|row| row == **p)) {
            let mut found: Vec<f64> = rows
                .iter()
                .filter(|(_, v)| v["peer"] == *peer && v["workload"] == t.workload)
                .filter_map(|(file, v)| {
                    let x = v[t.key].as_f64()?;
                    let Some(base) = t.base else { return Some(x) };
                    let base = rows.iter().find(|(f, b)| {
                        f == file
                            && b["peer"] == base
                            && b["workload"] == t.workload
                            && b["round"] == v["round"]
                    })?;
                    Some(x / base.1[t.key].as_f64()?)
                })
                .collect();
            if found.is_empty() {
                continue;
            }
            found.sort_by(f64::total_cmp);
            let n = found.len();
            let median = (found[n / 2] + found[(n - 1) / 2]) / 2.0;
            let meets = |aim: f64| if t.more_is_better { median >= aim } else { median <= aim };
            let met = match (meets(t.goal), meets(t.first)) {
                (true, _) => "goal",
                (_, true) => "first",
                _ if t.first.is_nan() => "",
                _ => "no",
            };
            let label = match t.base {
                Some(base) if base != "quinn" => format!("{} ÷ {base}", t.label),
                _ => t.label.to_owned(),
            };
            let aim = |x: f64| if x.is_nan() { String::new() } else { x.to_string() };
            writeln!(
                out,
                "| {label} | {peer} | {median:.2} | {:.2} | {:.2} | {n} | {} | {} | {met} |",
                found[0],
                found[n - 1],
                aim(t.first),
                aim(t.goal)
            )?;
        }
    }
    Ok(out)
}
