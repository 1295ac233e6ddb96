//! A report for people: one line a tenant and phase, the goals, then what went wrong.

use std::fmt::Write;

use super::{Figures, PhaseReport, Quantiles, Report, judge};
use crate::drive::TopicDone;

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let several = report.phases.len() > 1;
    let rows: Vec<(&PhaseReport, &Figures)> = report.phases.iter().flat_map(rows).collect();
    let label = |p: &PhaseReport, f: &Figures| {
        if several { format!("{} {}", p.name, f.tenant) } else { f.tenant.clone() }
    };
    let head = if several { "phase tenant" } else { "tenant" };
    let width = rows.iter().map(|(p, f)| label(p, f).chars().count()).max().unwrap_or(0);
    let width = width.max(head.len());
    writeln!(
        out,
        "{head:width$}  {:>10}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
        "ok/s", "ops/s", "ok", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "errors"
    )?;
    for (p, f) in &rows {
        let ms = |us: f64| us / 1e3;
        let Quantiles { p50_us, p90_us, p99_us, p99_9_us, max_us, .. } = f.latency;
        writeln!(
            out,
            "{:width$}  {:>10.0}  {:>9.1}  {:>10}  {:>9.3}  {:>9.3}  {:>9.3}  {:>9.3}  {:>9.3}  \
             {:>9}",
            label(p, f),
            f.succeeded_per_s,
            f.operations_per_s,
            f.items_succeeded,
            ms(p50_us),
            ms(p90_us),
            ms(p99_us),
            ms(p99_9_us),
            ms(max_us),
            f.errors.values().sum::<u64>(),
        )?;
    }
    // What a row has, the sum has too; but where rows are left out, only the sum tells it.
    let cut = |p: &PhaseReport| p.tenants.len() > ROWS_MAX;
    for (p, f) in rows.iter().filter(|(p, f)| cut(p) || !std::ptr::eq(&p.total, *f)) {
        details(&label(p, f), f, out)?;
    }
    for p in report.phases.iter().filter(|p| cut(p)) {
        let more = p.tenants.len() - ROWS_MAX;
        writeln!(out, "{more} more tenants of {:?} are in --output json", p.name)?;
    }
    goals(report, out)?;
    generator(report, out)?;
    let storm = |f: &Figures| f.operation == Some("connect");
    if rows.iter().all(|(p, f)| std::ptr::eq(&p.total, *f) || storm(f)) {
        let most = report.timeline.points.iter().map(|p| p.under_way).max().unwrap_or(0);
        writeln!(out, "at most {most} connections were open or on their way at once")?;
    }
    if let Some(after) = report.cut_short_after_s {
        writeln!(
            out,
            "ended by a signal after {after:.1} s, {:.1} s of them measured; {} operations under way \
             were given up",
            report.measured_s, report.operations_given_up
        )?;
    }
    let wrong = report.total.wrong.total();
    writeln!(out, "{wrong} wrong answers; {}", if report.passed { "passed" } else { "FAILED" })
}

fn rows(phase: &PhaseReport) -> impl Iterator<Item = (&PhaseReport, &Figures)> {
    let total = (phase.tenants.len() > 1).then_some(&phase.total);
    phase.tenants.iter().take(ROWS_MAX).chain(total).map(move |f| (phase, f))
}

fn details(label: &str, f: &Figures, out: &mut String) -> std::fmt::Result {
    if let Some(q) = &f.accepted_latency {
        let (p50, p99, max) = (q.p50_us / 1e3, q.p99_us / 1e3, q.max_us / 1e3);
        let n = f.jobs_accepted;
        writeln!(
            out,
            "{label}: {n} jobs accepted after p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.3} ms"
        )?;
    }
    if let Some(q) = &f.delivered_latency {
        let (p50, p99, max) = (q.p50_us / 1e3, q.p99_us / 1e3, q.max_us / 1e3);
        let n = q.count;
        writeln!(
            out,
            "{label}: {n} messages delivered after p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.3} ms"
        )?;
    }
    if let Some(t) = &f.topic {
        writeln!(out, "{label}: {}", topic(t))?;
    }
    if let Some(r) = &f.reread {
        write!(
            out,
            "{label}: {} jobs of {} batches read again from the broker's records",
            r.jobs_audited, r.batches_audited
        )?;
        if r.jobs_settled > 0 {
            write!(out, "; {} ended after the load", r.jobs_settled)?;
        }
        writeln!(out, "; {} purged, {} batches left", r.jobs_purged, r.batches_left)?;
    }
    if f.throttlings > 0 {
        let (n, s) = (f.throttlings, f.throttled_s);
        writeln!(out, "{label}: throttled {n} times, {s:.1} s over all batches")?;
    }
    if f.operations_not_sent > 0 {
        writeln!(out, "{label}: {} were due and never sent", f.operations_not_sent)?;
    }
    for (name, n) in &f.errors {
        writeln!(out, "{label}: {n} × {name}")?;
    }
    if f.items_unanswered > 0 {
        writeln!(out, "{label}: {} items unanswered in batches that failed", f.items_unanswered)?;
    }
    Ok(())
}

/// What became of a topic.
pub fn topic(t: &TopicDone) -> String {
    let (name, all, again) = (&t.name, t.delivered, t.redelivered);
    if t.read_back > 0 {
        format!("{} messages of {name:?} read back", t.read_back)
    } else if all > 0 {
        format!("{name:?}: {all} messages read over the whole run, {again} delivered again")
    } else {
        format!("{name:?}: nothing was read")
    }
}

fn goals(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.goals.is_empty() {
        return Ok(());
    }
    let width = report.goals.iter().map(|g| g.name.chars().count()).max().unwrap_or(0).max(6);
    let rounds = report.scenario.rounds;
    writeln!(out, "\n{:width$}  {:>12}  {:>9}  {:>9}  asked", "figure", "median", "least", "most")?;
    for g in &report.goals {
        let n = |v: Option<f64>| v.map_or_else(|| "-".into(), number);
        let met = match g.met {
            Some(true) => format!("{}: met", judge::asked(g)),
            Some(false) => format!("{}: MISSED", judge::asked(g)),
            None => String::new(),
        };
        let value = format!("{}{}", n(g.value), g.unit);
        let line =
            format!("{:width$}  {value:>12}  {:>9}  {:>9}  {met}", g.name, n(g.least), n(g.most));
        writeln!(out, "{}", line.trim_end())?;
    }
    if rounds > 1 {
        writeln!(out, "over {rounds} rounds")?;
    }
    writeln!(out)
}

/// Tenants of a phase that get a line.
const ROWS_MAX: usize = 40;

/// With as many digits as tell something.
pub fn number(v: f64) -> String {
    match v.abs() {
        a if v.fract() == 0.0 && a < 1e15 => format!("{v:.0}"),
        a if a >= 1_000.0 => format!("{v:.0}"),
        a if a >= 100.0 => format!("{v:.1}"),
        a if a >= 10.0 => format!("{v:.2}"),
        _ => format!("{v:.3}"),
    }
}

fn generator(report: &Report, out: &mut String) -> std::fmt::Result {
    let g = &report.generator;
    if let Some(used) = g.cores_used {
        write!(out, "generator: {used:.2} of {} cores", g.cores)?;
        let items = report.total.items_succeeded + report.total.items_failed;
        if let Some(cpu) = g.cpu_s.filter(|_| items > 0) {
            write!(out, ", {:.2} µs an item", cpu * 1e6 / items as f64)?;
        }
        write!(out, "; loop {:.1} ms late at the p99", g.loop_lag.p99_us / 1e3)?;
        if g.late_sends.count > 0 {
            write!(out, ", sends {:.1} ms", g.late_sends.p99_us / 1e3)?;
        }
        if let Some(idle) = g.machine_idle {
            write!(out, "; machine {:.0} % idle", idle * 100.0)?;
        }
        writeln!(out)?;
    }
    for p in &report.phases {
        let (Some(cpu), Some(bytes)) = (p.broker_cpu_s, p.broker_resident_bytes) else { continue };
        let cores = cpu / p.duration_s.max(1e-9);
        let us = p.broker_cpu_us_per_item.unwrap_or(0.0);
        let mib = bytes as f64 / f64::from(1 << 20);
        let name = if report.phases.len() > 1 { format!("{}: ", p.name) } else { String::new() };
        writeln!(out, "{name}broker: {cores:.2} cores, {us:.2} µs an item, {mib:.1} MiB resident")?;
    }
    if g.was_bottleneck {
        writeln!(
            out,
            "THE GENERATOR WAS THE BOTTLENECK: {}. The figures say less of the broker than of this \
             program: give it more cores, or run it elsewhere",
            g.reasons.join("; ")
        )?;
    } else if g.machine_full() {
        writeln!(
            out,
            "the machine's cores were all busy: whatever runs here shares them, so only ratios of \
             runs on this machine mean something"
        )?;
    }
    Ok(())
}
