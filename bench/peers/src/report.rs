//! Medians and spread over the rounds, and everybody divided by raw quinn, as markdown.
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

use crate::rows::Rows;

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

/// What everybody is compared by.
const FIGURES: &[(&str, &str, &str)] = &[
    ("w1", "subreq_per_s", "W1 items/s"),
    ("w1", "server_cpu_s_per_msub", "W1 server CPU/item"),
    ("w2", "p50_us", "W2 p50"),
    ("w3", "mb_per_s_each_way", "W3 MB/s"),
    ("w3", "server_cpu_s_per_gb", "W3 server CPU/byte"),
    ("w4", "handshakes_per_s", "W4 handshakes/s"),
    ("w4", "server_kib_per_conn", "W4 memory/connection"),
    ("w5", "median_ms", "W5 ms"),
];

/// The row every other row is divided by, within the same round.
const BASE: &str = "quinn";

pub fn table(files: &[String]) -> Result<String> {
    let rows = Rows::load(files)?;
    let mut peers: Vec<String> = Vec::new();
    for v in rows.iter().filter(|v| v["error"].is_null()) {
        let name = name(v);
        if !peers.contains(&name) {
            peers.push(name);
        }
    }
    let mut out = String::new();
    for (w, cols) in COLUMNS {
        workload(&mut out, &rows, &peers, w, cols)?;
    }
    divided(&mut out, &rows, &peers)?;
    for failure in rows.failures(|v| format!("{} {}", name(v), v["workload"])) {
        writeln!(out, "{failure}")?;
    }
    Ok(out)
}

/// What a row is called: W0's rows are variants of one peer.
fn name(v: &Value) -> String {
    let peer = v["peer"].as_str().unwrap_or("");
    match v["n"].as_u64() {
        Some(n) => format!("{peer} {} n={n}", v["tune"].as_str().unwrap_or("")),
        None => peer.into(),
    }
}

fn workload(
    out: &mut String,
    rows: &Rows,
    peers: &[String],
    w: &str,
    cols: &[(&str, &str)],
) -> Result<()> {
    let of = |peer: &str| {
        let peer = peer.to_owned();
        move |v: &Value| v["workload"] == w && name(v) == peer && v["error"].is_null()
    };
    let there: Vec<_> = peers.iter().filter(|p| rows.iter().any(of(p))).collect();
    if there.is_empty() {
        return Ok(());
    }
    writeln!(out, "### {}\n", w.to_uppercase())?;
    let heads: Vec<_> = cols.iter().map(|c| c.1).collect();
    writeln!(out, "| peer | {} | runs |", heads.join(" | "))?;
    writeln!(out, "| --- |{}", " ---: |".repeat(cols.len() + 1))?;
    for p in there {
        write!(out, "| {p} |")?;
        let told = |key| rows.spread(key, of(p)).map(|s| s.told()).unwrap_or_default();
        for (key, _) in cols {
            write!(out, " {} |", told(key))?;
        }
        writeln!(out, " {} |", rows.iter().filter(|v| of(p)(v)).count())?;
    }
    writeln!(out)?;
    Ok(())
}

/// Every peer and figure beside raw quinn's of the same round.
fn divided(out: &mut String, rows: &Rows, peers: &[String]) -> Result<()> {
    let of = |peer: &str, w: &'static str| {
        let peer = peer.to_owned();
        move |v: &Value| v["workload"] == w && v["peer"] == *peer
    };
    let has = |w, key: &str| rows.spread(key, of(BASE, w)).is_some();
    let figures: Vec<_> = FIGURES.iter().filter(|(w, key, _)| has(w, key)).collect();
    if figures.is_empty() {
        return Ok(());
    }
    writeln!(out, "### Everybody ÷ quinn of the same round: median (least–most)\n")?;
    let heads: Vec<_> = figures.iter().map(|f| f.2).collect();
    writeln!(out, "| peer | {} |", heads.join(" | "))?;
    writeln!(out, "| --- |{}", " ---: |".repeat(heads.len()))?;
    for p in peers.iter().filter(|p| *p != BASE && !p.starts_with("inproc")) {
        write!(out, "| {p} |")?;
        for (w, key, _) in &figures {
            let ratio = rows.ratio(key, of(p, w), of(BASE, w));
            write!(out, " {} |", ratio.map(|s| s.told()).unwrap_or_default())?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}
