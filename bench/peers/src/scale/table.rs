//! Curves as markdown: the points, how cost grows between neighbours, and what memory is taken.
use anyhow::Result;
use serde_json::Value;
use std::fmt::Write;

use super::curves::{Curve, Unit, CURVES};
use crate::rows::{num, Rows, Spread};

/// More than this per ten-fold is more than proportional.
const GROWTH_MAX: f64 = 1.3;

pub fn all(rows: &Rows) -> Result<String> {
    let mut out = String::from("Medians of the rounds (least–most).\n\n");
    for curve in &CURVES {
        let points = points(rows, curve);
        if !points.is_empty() {
            curve_table(&mut out, rows, curve, &points)?;
            growth_table(&mut out, rows, curve, &points)?;
        }
    }
    memory(&mut out, rows)?;
    let name = |v: &Value| format!("{} {} {}", v["curve"], v["at"], v["peer"]);
    for failure in rows.failures(name) {
        writeln!(out, "{failure}")?;
    }
    Ok(out)
}

/// The points that were measured, in order.
pub fn points(rows: &Rows, curve: &Curve) -> Vec<u64> {
    let mine = rows.iter().filter(|v| v["curve"] == curve.name && v["error"].is_null());
    let mut all: Vec<u64> = mine.filter_map(|v| v["at"].as_u64()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The lines of one cell.
pub fn cell(curve: &Curve, peer: &'static str, at: u64) -> impl Fn(&Value) -> bool {
    let name = curve.name;
    move |v| v["curve"] == name && v["peer"] == peer && v["at"] == at
}

pub fn point_name(unit: Unit, at: u64) -> String {
    match unit {
        Unit::Count if at >= 1_000_000 => format!("{} M", at / 1_000_000),
        Unit::Count if at >= 10_000 => format!("{} k", at / 1_000),
        Unit::Bytes if at > 512 << 10 => "1 MiB".into(),
        Unit::Bytes if at >= 1 << 10 => format!("{} KiB", at >> 10),
        _ => at.to_string(),
    }
}

fn curve_table(out: &mut String, rows: &Rows, curve: &Curve, points: &[u64]) -> Result<()> {
    writeln!(out, "### {}\n\n{}\n", curve.title, curve.says)?;
    let mut heads: Vec<String> = curve.columns.iter().map(|c| c.1.to_string()).collect();
    let divided = divided(curve);
    heads.extend(divided.iter().map(|(_, head)| format!("{head} ÷ quinn")));
    writeln!(out, "| {} | | {} |", curve.axis, heads.join(" | "))?;
    writeln!(out, "| ---: | --- |{}", " ---: |".repeat(heads.len()))?;
    for at in points {
        for (peer, _) in curve.peers {
            write!(out, "| {} | {peer} |", point_name(curve.unit, *at))?;
            for (key, _) in curve.columns {
                let told = rows.spread(key, cell(curve, peer, *at)).map(|s| s.told());
                write!(out, " {} |", told.unwrap_or_default())?;
            }
            for (key, _) in &divided {
                let base = cell(curve, "quinn", *at);
                let ratio = rows.ratio(key, cell(curve, peer, *at), base);
                let told = ratio.filter(|_| *peer != "quinn").map(|s| s.told());
                write!(out, " {} |", told.unwrap_or_default())?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

/// What is divided by quinn's of the same round, where there is a quinn.
fn divided(curve: &Curve) -> Vec<(&'static str, &'static str)> {
    let mut all = curve.columns[..1].to_vec();
    all.extend(curve.costs.iter().filter(|(key, _)| *key != all[0].0).copied().collect::<Vec<_>>());
    all.retain(|_| curve.peers.len() > 1);
    all
}

fn growth_table(out: &mut String, rows: &Rows, curve: &Curve, points: &[u64]) -> Result<()> {
    let mut text = String::new();
    for (key, label) in curve.costs {
        for pair in points.windows(2).filter(|p| p[0] > 0) {
            let of = |peer| growth(rows, curve, key, peer, pair[0], pair[1]);
            let Some(own) = of("tollgate") else { continue };
            let (from, to) = (point_name(curve.unit, pair[0]), point_name(curve.unit, pair[1]));
            let beside = of("quinn");
            let flag = flag(own, beside);
            let quinn = beside.map(|s| s.told()).unwrap_or_default();
            writeln!(text, "| {label} | {from} → {to} | {} | {quinn} | {flag} |", own.told())?;
        }
    }
    if !text.is_empty() {
        writeln!(out, "Growth of cost per ten-fold, round by round (1 is proportional):\n")?;
        writeln!(out, "| cost | from → to | tollgate | quinn | more than {GROWTH_MAX} |")?;
        writeln!(out, "| --- | --- | ---: | ---: | --- |\n{text}")?;
    }
    Ok(())
}

/// By what a cost is multiplied per ten-fold of the parameter, within a round.
fn growth(
    rows: &Rows,
    curve: &Curve,
    key: &str,
    peer: &'static str,
    from: u64,
    to: u64,
) -> Option<Spread> {
    let ratio = rows.ratio(key, cell(curve, peer, to), cell(curve, peer, from))?;
    let tens = (to as f64 / from as f64).log10();
    Some(ratio.map(|x| x.max(0.0).powf(1.0 / tens)))
}

fn flag(own: Spread, quinn: Option<Spread>) -> &'static str {
    match quinn {
        _ if own.median <= GROWTH_MAX => "",
        Some(q) if own.median <= q.median * 1.1 => "yes, as quinn's does",
        _ if own.least > GROWTH_MAX => "**yes**",
        _ => "median only",
    }
}

/// What one of each takes, at the largest point that was measured.
fn memory(out: &mut String, rows: &Rows) -> Result<()> {
    let mut text = String::new();
    for (curve, key, what, kib) in [
        ("connections", "server_kib_per_conn", "an idle connection", 1.0),
        ("streams", "server_kib_per_stream", "an open batch that is idle", 1.0),
        ("tenants", "bytes_per_tenant", "a tenant that is idle", 1_024.0),
    ] {
        let Some(curve) = CURVES.iter().find(|c| c.name == curve) else { continue };
        let points = points(rows, curve);
        let of = |peer, at| rows.spread(key, cell(curve, peer, at)).map(|s| s.map(|x| x / kib));
        let measured = points.iter().rev().find_map(|at| Some((*at, of("tollgate", *at)?)));
        let Some((at, own)) = measured else { continue };
        let quinn = of("quinn", at).map(|s| s.told()).unwrap_or_default();
        writeln!(text, "| {what} | {} | {} | {quinn} |", num(at as f64), own.told())?;
    }
    if !text.is_empty() {
        writeln!(out, "### Memory of the server, KiB each\n")?;
        writeln!(out, "| | of | tollgate | quinn |\n| --- | ---: | ---: | ---: |\n{text}")?;
    }
    Ok(())
}
