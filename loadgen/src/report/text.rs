//! A report for people: one line a tenant, then what went wrong.

use std::fmt::Write;

use super::{Figures, Quantiles, Report};

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let rows = report.tenants.iter().chain((report.tenants.len() > 1).then_some(&report.total));
    let width = rows.clone().map(|f| f.tenant.chars().count()).max().unwrap_or(0).max(6);
    writeln!(
        out,
        "{:width$}  {:>10}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
        "tenant",
        "items/s",
        "batches/s",
        "items",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "errors"
    )?;
    for f in rows.clone() {
        let ms = |us: f64| us / 1e3;
        let Quantiles { p50_us, p99_us, p99_9_us, max_us, .. } = f.batch_latency;
        writeln!(
            out,
            "{:width$}  {:>10.0}  {:>9.1}  {:>10}  {:>9.3}  {:>9.3}  {:>9.3}  {:>9.3}  {:>9}",
            f.tenant,
            f.items_per_s,
            f.batches_per_s,
            f.items_succeeded + f.items_failed,
            ms(p50_us),
            ms(p99_us),
            ms(p99_9_us),
            ms(max_us),
            f.errors.values().sum::<u64>(),
        )?;
    }
    for f in rows {
        details(f, out)?;
    }
    if let (Some(cpu), Some(us)) = (report.generator_cpu_s, report.generator_cpu_us_per_item) {
        let cores = cpu / report.scenario.duration.as_secs_f64();
        writeln!(out, "generator: {cores:.2} cores, {us:.2} µs an item")?;
    }
    let wrong = report.total.wrong.total();
    writeln!(out, "{wrong} wrong answers: {}", if report.passed { "passed" } else { "FAILED" })
}

fn details(f: &Figures, out: &mut String) -> std::fmt::Result {
    if f.throttlings > 0 {
        let (n, s) = (f.throttlings, f.throttled_s);
        writeln!(out, "{}: throttled {n} times, {s:.1} s over all batches", f.tenant)?;
    }
    for (name, n) in &f.errors {
        writeln!(out, "{}: {n} × {name}", f.tenant)?;
    }
    if f.items_unanswered > 0 {
        writeln!(
            out,
            "{}: {} items unanswered in batches that failed",
            f.tenant, f.items_unanswered
        )?;
    }
    Ok(())
}
