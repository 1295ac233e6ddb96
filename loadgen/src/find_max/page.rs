//! The search as an HTML page: latency over the offered rate, and every step.

use std::fmt::Write;

use super::{Found, Step};
use crate::report::{Axis, Chart, Scale, Series, escape, head, number, spread};

/// The whole file.
pub fn page(found: &Found) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(found, &mut out);
    out
}

fn write(found: &Found, out: &mut String) -> std::fmt::Result {
    let addr = &found.scenario.addr;
    head(out, &format!("Highest rate of {addr}"))?;
    writeln!(
        out,
        "<header><h1>Highest rate of {}</h1><p class=\"muted\">{} · tollgate-loadgen {}</p></header>",
        escape(addr),
        escape(&found.verdict()),
        escape(found.generator_version)
    )?;
    writeln!(out, "<section class=\"charts\">{}</section>", chart(found).draw())?;
    writeln!(
        out,
        "<h2>Steps</h2><div class=\"scroll\"><table><thead><tr><th class=\"n\">step</th>\
         <th class=\"n\">offered/s</th><th class=\"n\">succeeded/s</th><th class=\"n\">p50 ms</th>\
         <th class=\"n\">{} ms</th><th class=\"n\">errors</th><th>objective</th></tr></thead><tbody>",
        found.quantile()
    )?;
    for (n, step) in found.steps.iter().enumerate() {
        row(n + 1, step, out)?;
    }
    let scenario = serde_json::to_string_pretty(&found.scenario).unwrap_or_default();
    writeln!(
        out,
        "</tbody></table></div><details><summary>What was asked for</summary><pre>{}</pre>\
         </details></main></body></html>",
        escape(&scenario)
    )
}

fn row(number_of: usize, step: &Step, out: &mut String) -> std::fmt::Result {
    let met = match &step.why {
        None => "<b class=\"ok\">met</b>".to_owned(),
        Some(why) => format!("<b class=\"bad\">missed</b> {}", escape(why)),
    };
    let generator = if step.generator_was_bottleneck { " (generator saturated)" } else { "" };
    write!(out, "<tr>")?;
    let cells = [
        number_of.to_string(),
        format!("{:.0}", step.offered_items_per_s),
        format!("{:.0}", step.succeeded_per_s),
        format!("{:.3}", step.p50_ms),
        format!("{:.3}", step.quantile_ms),
        step.errors.to_string(),
    ];
    for cell in cells {
        write!(out, "<td class=\"n\">{cell}</td>")?;
    }
    writeln!(out, "<td>{met}{generator}</td></tr>")
}

fn chart(found: &Found) -> Chart<'static> {
    let mut steps: Vec<&Step> = found.steps.iter().collect();
    // Of a rate that was measured twice, the better.
    let key = |s: &Step| (s.offered_items_per_s, s.quantile_ms);
    steps.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
    steps.dedup_by(|a, b| a.offered_items_per_s == b.offered_items_per_s);
    let points = |value: fn(&Step) -> f64| {
        steps.iter().map(|s| (s.offered_items_per_s, value(s))).collect::<Vec<_>>()
    };
    let high = steps.last().map_or(0.0, |s| s.offered_items_per_s);
    let asked = found.search.objective_ms;
    let objective = Series::new(
        format!("at most {} ms is asked", number(asked)),
        5,
        vec![(0.0, asked), (high, asked)],
    );
    let series = vec![
        Series::new(found.quantile(), 0, points(|s| s.quantile_ms)),
        Series::new("p50", 2, points(|s| s.p50_ms)),
        Series { dash: 1, ..objective },
    ];
    let scale = spread(series.iter().flat_map(|s| s.points.iter().map(|p| p.1)));
    Chart {
        title: "Latency by offered rate",
        x: Axis { label: "items offered a second", scale: Scale::Linear },
        y: Axis { label: "latency, ms", scale },
        series,
        wide: true,
        bands: Vec::new(),
    }
}
