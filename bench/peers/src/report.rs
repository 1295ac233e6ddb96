//! Medians and spread over the rounds, as markdown.
use anyhow::Result;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write, fs};

const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    (
        "w1",
        &[
            ("subreq_per_s", "sub-req/s"),
            ("batch_p50_us", "batch p50 µs"),
            ("batch_p99_us", "p99 µs"),
            ("batch_p999_us", "p99.9 µs"),
            ("server_cpu_s_per_msub", "server CPU s/M"),
            ("client_cpu_s_per_msub", "client CPU s/M"),
            ("server_rss_mib", "server RSS MiB"),
            ("other_cores", "others' cores"),
        ],
    ),
    ("w2", &[("p50_us", "p50 µs"), ("p99_us", "p99 µs"), ("count", "batches")]),
    (
        "w3",
        &[
            ("mb_per_s_each_way", "MB/s each way"),
            ("batch_p50_us", "batch p50 µs"),
            ("server_cpu_s_per_gb", "server CPU s/GB"),
            ("client_cpu_s_per_gb", "client CPU s/GB"),
            ("server_rss_mib", "server RSS MiB"),
        ],
    ),
    (
        "w4",
        &[
            ("handshakes_per_s", "handshakes/s"),
            ("server_kib_per_conn", "server KiB/conn"),
            ("server_cpu_s_per_kconn", "server CPU ms/conn"),
            ("client_cpu_s_per_kconn", "client CPU ms/conn"),
            ("conns", "conns"),
        ],
    ),
    (
        "w5",
        &[
            ("median_ms", "median ms"),
            ("min_ms", "min ms"),
            ("p90_ms", "p90 ms"),
            ("server_cpu_s_per_msub", "server CPU s/M"),
        ],
    ),
    (
        "wu",
        &[
            ("mb_per_s", "MB/s"),
            ("send_ns_per_packet", "send ns/packet"),
            ("recv_ns_per_packet", "recv ns/packet"),
            ("packets_per_recv", "packets/recvmmsg"),
            ("cpu_s_per_gb", "CPU s/GB"),
            ("lost_pct", "lost %"),
        ],
    ),
    ("w0", &[("ns_per_subreq", "ns/sub-req"), ("median_us", "median µs")]),
];

fn num(x: f64) -> String {
    if x >= 1000.0 {
        format!("{x:.0}")
    } else if x >= 10.0 {
        format!("{x:.1}")
    } else if x >= 0.1 {
        format!("{x:.2}")
    } else {
        format!("{x:.3}")
    }
}

/// Median, and the spread (max - min) / median over the rounds.
fn stat(v: &mut [f64]) -> (f64, f64) {
    v.sort_by(f64::total_cmp);
    let m = (v[v.len() / 2] + v[(v.len() - 1) / 2]) / 2.0;
    (m, if m == 0.0 { 0.0 } else { (v[v.len() - 1] - v[0]) / m })
}

/// The row every other row is divided by, within the same round.
const BASE: &str = "quinn";

pub fn table(files: &[String]) -> Result<String> {
    let mut rounds: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let mut rows_seen: Vec<(usize, u64, String, String, f64)> = Vec::new();
    let mut cells: BTreeMap<(String, String), BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut errors = Vec::new();
    for (file, f) in files.iter().enumerate() {
        for line in fs::read_to_string(f)?.lines() {
            let v: Value = serde_json::from_str(line)?;
            let s = |k: &str| v[k].as_str().unwrap_or("").to_string();
            let mut name = s("peer");
            if let Some(n) = v["n"].as_u64() {
                name = format!("{name} {} n={n}", s("tune"));
            }
            if let Some(e) = v["error"].as_str() {
                errors.push(format!("{name} {}: {e}", s("workload")));
                continue;
            }
            if !order.contains(&name) {
                order.push(name.clone());
            }
            let first =
                COLUMNS.iter().find(|c| c.0 == s("workload")).map(|c| c.1[0].0).unwrap_or("");
            if let Some(x) = v[first].as_f64() {
                rows_seen.push((
                    file,
                    v["round"].as_u64().unwrap_or(0),
                    s("workload"),
                    name.clone(),
                    x,
                ));
            }
            let cell = cells.entry((s("workload"), name)).or_default();
            for (k, x) in v.as_object().into_iter().flatten() {
                if let Some(x) = x.as_f64() {
                    cell.entry(k.clone()).or_default().push(x);
                }
            }
        }
    }
    for (file, round, w, name, x) in &rows_seen {
        let base =
            rows_seen.iter().find(|b| (b.0, b.1, &b.2, b.3.as_str()) == (*file, *round, w, BASE));
        if let Some(b) = base {
            rounds.entry((w.clone(), name.clone())).or_default().push(x / b.4);
        }
    }
    let mut out = String::new();
    for (w, cols) in COLUMNS {
        let rows: Vec<_> =
            order.iter().filter(|p| cells.contains_key(&(w.to_string(), p.to_string()))).collect();
        if rows.is_empty() {
            continue;
        }
        writeln!(out, "### {}\n", w.to_uppercase())?;
        let heads: Vec<_> = cols.iter().map(|c| c.1).collect();
        writeln!(out, "| peer | {} | spread | × quinn, same round | runs |", heads.join(" | "))?;
        writeln!(out, "| --- |{}", " ---: |".repeat(cols.len() + 3))?;
        for p in rows {
            let cell = cells.get_mut(&(w.to_string(), p.to_string())).expect("filtered");
            let mut line = format!("| {p} |");
            let (mut spread, mut runs) = (0.0, 0);
            for (i, (k, _)) in cols.iter().enumerate() {
                match cell.get_mut(*k) {
                    Some(v) => {
                        let (m, s) = stat(v);
                        if i == 0 {
                            (spread, runs) = (s, v.len());
                        }
                        write!(line, " {} |", num(m))?;
                    }
                    None => line += " |",
                }
            }
            let ratio = rounds
                .get_mut(&(w.to_string(), p.to_string()))
                .map(|v| num(stat(v).0))
                .unwrap_or_default();
            writeln!(out, "{line} {:.0}% | {ratio} | {runs} |", spread * 100.0)?;
        }
        writeln!(out)?;
    }
    for e in errors {
        writeln!(out, "- failed: {e}")?;
    }
    Ok(out)
}
