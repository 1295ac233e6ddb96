//! A report as one HTML file that needs nothing else: no network, no script.

use std::fmt::Write;

use super::{
    Figures, PhaseReport, PointReport, Quantiles, Report, judge,
    plot::{Axis, Chart, SERIES_MAX, Scale, Series, escape, short},
    text,
};

/// The whole file.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(r: &Report, out: &mut String) -> std::fmt::Result {
    let started = i64::try_from(r.started_at_unix_ms).ok();
    let started = started.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let started =
        started.map_or_else(String::new, |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let verdict = if r.passed { ("passed", "ok") } else { ("failed", "bad") };
    head(out, &format!("Load on {}, {started}", r.scenario.addr))?;
    writeln!(
        out,
        "<header><h1>Load on {addr} <b class=\"{}\">{}</b></h1>\
         <p class=\"muted\">{started} · measured {} s in {} · tollgate-loadgen {}</p></header>",
        verdict.1,
        verdict.0,
        text::number(r.measured_s),
        phases(r),
        escape(r.generator_version),
        addr = escape(&r.scenario.addr),
    )?;
    notices(r, out)?;
    tiles(r, out)?;
    goals(r, out)?;
    writeln!(out, "<section class=\"charts\">")?;
    for chart in charts(r) {
        out.push_str(&chart.draw());
    }
    writeln!(out, "</section>")?;
    table(r, out)?;
    generator(r, out)?;
    let scenario = serde_json::to_string_pretty(&r.scenario).unwrap_or_default();
    writeln!(
        out,
        "<details><summary>What was asked for</summary><pre>{}</pre></details>\
         </main></body></html>",
        escape(&scenario)
    )
}

/// What every page begins with, up to its heading.
pub fn head(out: &mut String, title: &str) -> std::fmt::Result {
    writeln!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>",
        escape(title)
    )
}

fn phases(r: &Report) -> String {
    let (phases, rounds) = (r.phases.len(), r.scenario.rounds);
    match (phases, rounds) {
        (1, 1) => "one go".into(),
        (1, _) => format!("{rounds} rounds"),
        (_, 1) => format!("{phases} phases"),
        _ => format!("{rounds} rounds of {phases} phases"),
    }
}

fn notices(r: &Report, out: &mut String) -> std::fmt::Result {
    if !r.complaints.is_empty() {
        write!(out, "<div class=\"notice bad\"><ul>")?;
        for c in &r.complaints {
            write!(out, "<li>{}</li>", escape(&c.text))?;
        }
        writeln!(out, "</ul></div>")?;
    }
    if let Some(after) = r.cut_short_after_s {
        writeln!(
            out,
            "<div class=\"notice warn\">Ended by a signal after {after:.1} s: the figures are of what \
             was measured by then. {} operations that were under way were given up.</div>",
            r.operations_given_up
        )?;
    }
    if r.generator.was_bottleneck {
        writeln!(
            out,
            "<div class=\"notice warn\"><strong>The generator was the bottleneck:</strong> {}. The \
             figures say less of the broker than of the generator.</div>",
            escape(&r.generator.reasons.join("; "))
        )?;
    } else if r.generator.machine_full() {
        writeln!(
            out,
            "<div class=\"notice\">The machine's cores were all busy: whatever runs here shares \
             them, so only ratios of runs on this machine mean something.</div>"
        )?;
    }
    Ok(())
}

fn tiles(r: &Report, out: &mut String) -> std::fmt::Result {
    let t = &r.total;
    let ms = |us: f64| format!("{} ms", text::number(us / 1e3));
    let tiles = [
        ("successes a second", short(t.succeeded_per_s)),
        ("p50", ms(t.latency.p50_us)),
        ("p99", ms(t.latency.p99_us)),
        ("max", ms(t.latency.max_us)),
        ("errors", t.errors.values().sum::<u64>().to_string()),
        ("wrong answers", t.wrong.total().to_string()),
    ];
    write!(out, "<section class=\"tiles\">")?;
    for (name, value) in tiles {
        write!(out, "<div><span>{name}</span><strong>{value}</strong></div>")?;
    }
    writeln!(out, "</section>")
}

fn goals(r: &Report, out: &mut String) -> std::fmt::Result {
    if r.goals.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>What was asked</h2><div class=\"scroll\"><table><thead><tr><th>figure</th>\
         <th class=\"n\">median</th><th class=\"n\">least</th><th class=\"n\">most</th>\
         <th>asked</th></tr></thead><tbody>"
    )?;
    for g in &r.goals {
        let n = |v: Option<f64>| v.map_or_else(|| "–".into(), text::number);
        let met = match g.met {
            Some(true) => format!("<b class=\"ok\">met</b> {}", judge::asked(g)),
            Some(false) => format!("<b class=\"bad\">missed</b> {}", judge::asked(g)),
            None => String::new(),
        };
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td>{met}</td></tr>",
            escape(&g.name),
            n(g.value),
            g.unit,
            n(g.least),
            n(g.most)
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn charts(r: &Report) -> Vec<Chart<'static>> {
    let curves = curves(r);
    let scale = spread(curves.iter().flat_map(|s| s.points.iter().map(|p| p.1)));
    let t = &r.timeline;
    let named = r.phases.len() > 1 || r.scenario.rounds > 1;
    let name = |phase: &str| if named { phase.to_owned() } else { "measured".to_owned() };
    let bands: Vec<_> = t.slots.iter().map(|s| (s.from_s, s.to_s, name(&s.phase))).collect();
    let over_time = |title, label, scale, series| Chart {
        title,
        x: Axis { label: "seconds from the start", scale: Scale::Linear },
        y: Axis { label, scale },
        series,
        wide: false,
        bands: bands.clone(),
    };
    let line = |name: &str, colour: usize, value: &dyn Fn(&PointReport) -> f64| {
        let points = t.points.iter().map(|p| (p.t_s + t.interval_s, value(p))).collect();
        Series::new(name, colour, points)
    };
    let answered = |name: &str, colour: usize, value: fn(&PointReport) -> f64| {
        let answered = t.points.iter().filter(|p| p.operations > 0);
        let points = answered.map(|p| (p.t_s + t.interval_s, value(p) / 1e3)).collect();
        Series::new(name, colour, points)
    };
    let latency = vec![
        answered("max", 1, |p| p.max_us),
        answered("p99", 2, |p| p.p99_us),
        answered("p50", 0, |p| p.p50_us),
    ];
    let latency_scale = spread(latency.iter().flat_map(|s| s.points.iter().map(|p| p.1)));
    vec![
        Chart {
            title: "Latency by percentile",
            x: Axis { label: "percentile", scale: Scale::Nines },
            y: Axis { label: "latency, ms", scale },
            series: curves,
            wide: true,
            bands: Vec::new(),
        },
        over_time("Throughput over time", "successes a second", Scale::Linear, throughput(r)),
        over_time("Latency over time", "latency, ms", latency_scale, latency),
        over_time(
            "Errors over time",
            "errors a second",
            Scale::Linear,
            vec![line("errors", 5, &|p| p.errors as f64 / t.interval_s)],
        ),
        over_time(
            "Under way over time",
            "operations",
            Scale::Linear,
            vec![line("operations", 0, &|p| p.under_way as f64)],
        ),
    ]
}

/// The tenants that did most first, each with a colour that it keeps in every chart.
fn ranked(r: &Report) -> Vec<usize> {
    let t = &r.timeline;
    let sum = |n: &usize| t.points.iter().map(|p| p.items[*n]).sum::<u64>();
    let mut places: Vec<_> = (0..t.tenants.len()).collect();
    places.sort_by_key(|n| std::cmp::Reverse(sum(n)));
    places
}

/// A line for each tenant in each phase; where those are too many, one for each phase.
fn curves(r: &Report) -> Vec<Series> {
    let several = r.phases.len() > 1;
    let label = |p: &PhaseReport, f: &Figures| {
        if several { format!("{} · {}", p.name, f.tenant) } else { f.tenant.clone() }
    };
    let ranks = ranked(r);
    let rank = |name: &str| ranks.iter().position(|n| r.timeline.tenants[*n] == name).unwrap_or(0);
    let mut all = Vec::new();
    for (at, p) in r.phases.iter().enumerate() {
        for f in p.tenants.iter().filter(|f| !f.curve.is_empty()) {
            let line = Series::new(label(p, f), rank(&f.tenant), in_ms(&f.curve));
            all.push(Series { dash: at.min(DASHES_MAX), ..line });
        }
    }
    if all.len() <= SERIES_MAX {
        return all;
    }
    let of_all = |(at, p): (usize, &PhaseReport)| Series::new(&p.name, at, in_ms(&p.total.curve));
    r.phases.iter().take(SERIES_MAX).enumerate().map(of_all).collect()
}

/// A line for each of the tenants that did most, and one for the mean of all others.
fn throughput(r: &Report) -> Vec<Series> {
    let t = &r.timeline;
    let ranks = ranked(r);
    let fits = ranks.len() <= SERIES_MAX;
    let alone = if fits { ranks.len() } else { SERIES_MAX - 1 };
    let sum = |places: &[usize]| -> Vec<(f64, f64)> {
        let of = |p: &PointReport| places.iter().map(|n| p.items[*n]).sum::<u64>() as f64;
        t.points.iter().map(|p| (p.t_s + t.interval_s, of(p) / t.interval_s)).collect()
    };
    let mut series: Vec<_> = ranks[..alone]
        .iter()
        .enumerate()
        .map(|(rank, n)| Series::new(&t.tenants[*n], rank, sum(&[*n])))
        .collect();
    if !fits {
        let others = ranks.len() - alone;
        let mean = sum(&ranks[alone..]).into_iter().map(|(t, n)| (t, n / others as f64)).collect();
        series.push(Series::new(format!("each of {others} others"), alone, mean));
    }
    series
}

fn in_ms(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    curve.iter().map(|(p, us)| (*p, us / 1e3)).collect()
}

/// Powers of ten where values lie far apart.
pub fn spread(values: impl Iterator<Item = f64> + Clone) -> Scale {
    let low = values.clone().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    if high > 20.0 * low { Scale::Log } else { Scale::Linear }
}

fn table(r: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "<h2>Tenants</h2><div class=\"scroll\"><table><thead><tr><th>phase</th><th>tenant</th>\
         <th>does</th><th class=\"n\">ok/s</th><th class=\"n\">ops/s</th>\
         <th class=\"n\">ok</th><th class=\"n\">p50 ms</th><th class=\"n\">p90 ms</th>\
         <th class=\"n\">p99 ms</th><th class=\"n\">p99.9 ms</th><th class=\"n\">max ms</th>\
         <th class=\"n\">not sent</th><th class=\"n\">errors</th></tr></thead><tbody>"
    )?;
    for p in &r.phases {
        let total = (p.tenants.len() > 1).then_some(&p.total);
        for f in p.tenants.iter().take(ROWS_MAX).chain(total) {
            row(p, f, out)?;
        }
        if p.tenants.len() > ROWS_MAX {
            let more = p.tenants.len() - ROWS_MAX;
            writeln!(out, "<tr><td colspan=\"13\">{more} more are in report.json</td></tr>")?;
        }
    }
    writeln!(out, "</tbody></table></div>")
}

fn row(p: &PhaseReport, f: &Figures, out: &mut String) -> std::fmt::Result {
    let Quantiles { p50_us, p90_us, p99_us, p99_9_us, max_us, .. } = f.latency;
    let mut errors: Vec<_> = f.errors.iter().map(|(name, n)| format!("{n} × {name}")).collect();
    if errors.is_empty() {
        errors.push("0".into());
    }
    write!(
        out,
        "<tr><td>{}</td><td>{}</td><td>{}</td>",
        escape(&p.name),
        escape(&f.tenant),
        f.operation.unwrap_or_default()
    )?;
    let counts = [
        format!("{:.0}", f.succeeded_per_s),
        format!("{:.1}", f.operations_per_s),
        f.items_succeeded.to_string(),
    ];
    let quantiles = [p50_us, p90_us, p99_us, p99_9_us, max_us].map(|us| format!("{:.3}", us / 1e3));
    let rest = [f.operations_not_sent.to_string(), escape(&errors.join(", "))];
    for cell in counts.iter().chain(&quantiles).chain(&rest) {
        write!(out, "<td class=\"n\">{cell}</td>")?;
    }
    writeln!(out, "</tr>")?;
    if let Some(q) = &f.accepted_latency {
        writeln!(
            out,
            "<tr><td></td><td colspan=\"12\" class=\"muted\">{} jobs accepted after p50 {:.3} ms, \
             p99 {:.3} ms, max {:.3} ms</td></tr>",
            f.jobs_accepted,
            q.p50_us / 1e3,
            q.p99_us / 1e3,
            q.max_us / 1e3
        )?;
    }
    if let Some(q) = &f.delivered_latency {
        writeln!(
            out,
            "<tr><td></td><td colspan=\"12\" class=\"muted\">{} messages delivered after p50 {:.3} \
             ms, p99 {:.3} ms, max {:.3} ms</td></tr>",
            q.count,
            q.p50_us / 1e3,
            q.p99_us / 1e3,
            q.max_us / 1e3
        )?;
    }
    if let Some(t) = &f.topic {
        let said = escape(&text::topic(t));
        writeln!(out, "<tr><td></td><td colspan=\"12\" class=\"muted\">{said}</td></tr>")?;
    }
    Ok(())
}

fn generator(r: &Report, out: &mut String) -> std::fmt::Result {
    let g = &r.generator;
    let known = |v: Option<f64>, unit: &str| {
        v.map_or_else(|| "unknown".into(), |v| format!("{}{unit}", text::number(v)))
    };
    let ms = |q: &Quantiles| {
        let (p50, p99, max) = (q.p50_us / 1e3, q.p99_us / 1e3, q.max_us / 1e3);
        format!("{p50:.3} / {p99:.3} / {max:.3} ms")
    };
    let rows = [
        ("cores used, of those of the machine", {
            format!("{} of {}", known(g.cores_used, ""), g.cores)
        }),
        ("busiest thread", known(g.busiest_thread.map(|b| b * 100.0), " % of the time")),
        ("machine idle", known(g.machine_idle.map(|i| i * 100.0), " %")),
        ("loop late, p50 / p99 / max", ms(&g.loop_lag)),
        ("sent late, p50 / p99 / max", ms(&g.late_sends)),
        ("was the bottleneck", if g.was_bottleneck { "yes" } else { "no" }.to_owned()),
    ];
    writeln!(out, "<h2>The generator itself</h2><table class=\"small\"><tbody>")?;
    for (name, value) in rows {
        writeln!(out, "<tr><td>{name}</td><td class=\"n\">{value}</td></tr>")?;
    }
    for p in &r.phases {
        let (Some(cpu), Some(bytes)) = (p.broker_cpu_s, p.broker_resident_bytes) else { continue };
        writeln!(
            out,
            "<tr><td>broker, {}</td><td class=\"n\">{:.2} cores, {:.2} µs an item, {:.1} MiB</td>\
             </tr>",
            escape(&p.name),
            cpu / p.duration_s,
            p.broker_cpu_us_per_item.unwrap_or(0.0),
            bytes as f64 / f64::from(1 << 20)
        )?;
    }
    writeln!(out, "</tbody></table>")
}

/// Ways in which a line is broken.
const DASHES_MAX: usize = 3;
/// Tenants of a phase that get a row.
const ROWS_MAX: usize = 50;

const STYLE: &str = include_str!("style.css");
