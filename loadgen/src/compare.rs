//! Two reports, figure by figure: the second divided by the first, and whether it got worse.
//!
//! Reads only what it compares, so that reports of other versions of the same shape do.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{exit::Exit, report::number, scenario::BadScenario};

/// What is read of a report.
#[derive(Debug, Deserialize)]
struct Old {
    report_version: u32,
    #[serde(default)]
    phases: Vec<Phase>,
    generator: Generator,
}

#[derive(Debug, Deserialize)]
struct Generator {
    was_bottleneck: bool,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
    tenants: Vec<Figures>,
    total: Figures,
    generator_cpu_us_per_item: Option<f64>,
    broker_cpu_us_per_item: Option<f64>,
    broker_resident_bytes: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    tenant: String,
    succeeded_per_s: f64,
    operations_per_s: f64,
    errors: BTreeMap<String, u64>,
    wrong: BTreeMap<String, u64>,
    latency: Quantiles,
    item_latency: Quantiles,
    accepted_latency: Option<Quantiles>,
    delivered_latency: Option<Quantiles>,
}

#[derive(Debug, Deserialize)]
struct Quantiles {
    count: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p99_9_us: f64,
    max_us: f64,
}

/// Two reports beside each other.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub a: PathBuf,
    pub b: PathBuf,
    pub rows: Vec<Row>,
    /// What is to be known before anything is concluded.
    pub notes: Vec<String>,
    /// What may be worse by, as a fraction.
    pub margin: Option<f64>,
    pub passed: bool,
}

/// A figure.
#[derive(Debug, Serialize)]
pub struct Row {
    pub phase: String,
    pub tenant: String,
    pub figure: &'static str,
    pub a: f64,
    pub b: f64,
    /// B divided by A; nothing when A is 0.
    pub ratio: Option<f64>,
    /// Whether it is worse by more than the margin; nothing when it is not judged.
    pub worse: Option<bool>,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq)]
enum Better {
    Higher,
    Lower,
}

/// Reads and compares. `margin` is the fraction by which a judged figure may be worse.
///
/// # Errors
/// [`BadScenario`] when a file is no report, or the two have nothing in common.
pub fn compare(a: &Path, b: &Path, margin: Option<f64>) -> Result<Compared, BadScenario> {
    let (first, second) = (read(a)?, read(b)?);
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (which, report) in [("A", &first), ("B", &second)] {
        if report.generator.was_bottleneck {
            notes.push(format!("in {which} the generator was the bottleneck"));
        }
    }
    for x in &first.phases {
        let Some(y) = second.phases.iter().find(|y| y.name == x.name) else {
            notes.push(format!("only A has the phase {:?}", x.name));
            continue;
        };
        let mut phase = Phases { name: &x.name, margin, rows: &mut rows };
        for f in &x.tenants {
            match y.tenants.iter().find(|g| g.tenant == f.tenant) {
                Some(g) => phase.figures(f, g),
                None => notes.push(format!("only A has the tenant {:?}", f.tenant)),
            }
        }
        if x.tenants.len() > 1 && y.tenants.len() > 1 {
            phase.figures(&x.total, &y.total);
        }
        phase.machine(x, y);
    }
    if rows.is_empty() {
        let problem = "the reports have no phase and tenant of the same name";
        return Err(BadScenario::Value(problem.into()));
    }
    let passed = rows.iter().all(|r| r.worse != Some(true));
    Ok(Compared { a: a.into(), b: b.into(), rows, notes, margin, passed })
}

fn read(path: &Path) -> Result<Old, BadScenario> {
    // What `run --out DIR` made may be named by its directory.
    let path = &if path.is_dir() { path.join("report.json") } else { path.into() };
    let text =
        fs::read_to_string(path).map_err(|why| BadScenario::Read { path: path.into(), why })?;
    let problem = |what: String| {
        BadScenario::Value(format!("{}: is no report of `run`: {what}", path.display()))
    };
    let report: Old = serde_json::from_str(&text).map_err(|e| problem(e.to_string()))?;
    if report.report_version != 2 {
        let version = report.report_version;
        return Err(problem(format!("its report_version is {version}, this compares version 2")));
    }
    Ok(report)
}

struct Phases<'a> {
    name: &'a str,
    margin: Option<f64>,
    rows: &'a mut Vec<Row>,
}

impl Phases<'_> {
    fn row(&mut self, tenant: &str, figure: &'static str, a: f64, b: f64, judged: Option<Better>) {
        let worse = judged.zip(self.margin).map(|(better, margin)| match better {
            Better::Higher => b < a * (1.0 - margin),
            Better::Lower => b > a * (1.0 + margin),
        });
        let ratio = (a != 0.0).then(|| b / a);
        let (phase, tenant) = (self.name.to_owned(), tenant.to_owned());
        self.rows.push(Row { phase, tenant, figure, a, b, ratio, worse });
    }

    fn figures(&mut self, f: &Figures, g: &Figures) {
        let (higher, lower) = (Some(Better::Higher), Some(Better::Lower));
        let t = &f.tenant;
        self.row(t, "ok/s", f.succeeded_per_s, g.succeeded_per_s, higher);
        self.row(t, "ops/s", f.operations_per_s, g.operations_per_s, None);
        self.quantiles(
            t,
            ["p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"],
            &f.latency,
            &g.latency,
        );
        let items = ["item p50 ms", "item p90 ms", "item p99 ms", "item p99.9 ms", "item max ms"];
        self.quantiles(t, items, &f.item_latency, &g.item_latency);
        if let (Some(a), Some(b)) = (&f.accepted_latency, &g.accepted_latency) {
            let names = [
                "accepted p50 ms",
                "accepted p90 ms",
                "accepted p99 ms",
                "accepted p99.9 ms",
                "accepted max ms",
            ];
            self.quantiles(t, names, a, b);
        }
        if let (Some(a), Some(b)) = (&f.delivered_latency, &g.delivered_latency) {
            let names = [
                "delivered p50 ms",
                "delivered p90 ms",
                "delivered p99 ms",
                "delivered p99.9 ms",
                "delivered max ms",
            ];
            self.quantiles(t, names, a, b);
        }
        let sum = |m: &BTreeMap<String, u64>| m.values().sum::<u64>() as f64;
        self.row(t, "errors", sum(&f.errors), sum(&g.errors), lower);
        self.row(t, "wrong", sum(&f.wrong), sum(&g.wrong), lower);
    }

    /// The p50 and p99 are judged: what is beyond is noise of single answers.
    fn quantiles(&mut self, tenant: &str, names: [&'static str; 5], a: &Quantiles, b: &Quantiles) {
        if a.count == 0 || b.count == 0 {
            return;
        }
        let parts = |q: &Quantiles| [q.p50_us, q.p90_us, q.p99_us, q.p99_9_us, q.max_us];
        for (n, (x, y)) in parts(a).into_iter().zip(parts(b)).enumerate() {
            let judged = [0, 2].contains(&n).then_some(Better::Lower);
            self.row(tenant, names[n], x / 1e3, y / 1e3, judged);
        }
    }

    fn machine(&mut self, x: &Phase, y: &Phase) {
        let parts = |p: &Phase| {
            [
                ("generator CPU µs/item", p.generator_cpu_us_per_item),
                ("broker CPU µs/item", p.broker_cpu_us_per_item),
                ("broker MiB", p.broker_resident_bytes.map(|b| b / f64::from(1 << 20))),
            ]
        };
        for ((figure, a), (_, b)) in parts(x).into_iter().zip(parts(y)) {
            if let (Some(a), Some(b)) = (a, b) {
                self.row("all", figure, a, b, None);
            }
        }
    }
}

impl Compared {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "A = {}, B = {}", self.a.display(), self.b.display())?;
        let several = self.rows.iter().any(|r| r.phase != self.rows[0].phase);
        let label = |r: &Row| {
            let phase = if several { format!("{} ", r.phase) } else { String::new() };
            format!("{phase}{} {}", r.tenant, r.figure)
        };
        let width = self.rows.iter().map(|r| label(r).chars().count()).max().unwrap_or(0);
        writeln!(out, "{:width$}  {:>10}  {:>10}  {:>7}", "", "A", "B", "B ÷ A")?;
        for r in &self.rows {
            let ratio = r.ratio.map_or_else(|| "-".into(), |v| format!("{v:.3}"));
            let worse = if r.worse == Some(true) { "  WORSE" } else { "" };
            writeln!(
                out,
                "{:width$}  {:>10}  {:>10}  {ratio:>7}{worse}",
                label(r),
                number(r.a),
                number(r.b)
            )?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        if let Some(margin) = self.margin {
            let verdict = if self.passed { "passed" } else { "FAILED" };
            writeln!(out, "nothing worse by more than {} % is asked: {verdict}", margin * 100.0)?;
        }
        Ok(())
    }

    /// What the process says.
    pub fn exit(&self) -> Exit {
        if self.passed { Exit::Ok } else { Exit::Threshold }
    }
}

#[cfg(test)]
mod tests;
