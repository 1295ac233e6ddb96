//! How cost grows: one curve a parameter, each point a measured cell, raw quinn beside it in turn.
//!
//!     peers scale [--short] [--curves items,payload] [--rounds 3] [--out FILE] [--plots DIR]
//!     peers curves FILE.. [--plots DIR]      tables and plots of what was measured before
mod curves;
mod plot;
mod table;

use anyhow::{ensure, Context, Result};
use serde_json::json;
use std::{fs, path::Path, time::Duration, time::Instant};

use crate::{
    rows::Rows,
    suite::{cell, list, Sink},
    Args,
};
use curves::{Curve, CURVES};

pub fn run(args: &Args) -> Result<()> {
    let short = args.flag("--short");
    let rounds: usize = args.num("--rounds", if short { 2 } else { 3 })?;
    let names = list(args, "--curves", CURVES.iter().map(|c| c.name).collect());
    let chosen: Vec<_> = CURVES.iter().filter(|c| names.contains(&c.name)).collect();
    ensure!(chosen.len() == names.len(), "curves are {:?}", CURVES.map(|c| c.name));
    let secs: f64 = args.num("--secs", if short { 0.6 } else { 1.0 })?;
    let out = args.opt("--out").unwrap_or("results-scale.jsonl");
    let mut sink = Sink::create(out)?;
    let begun = Instant::now();
    for round in 1..=rounds {
        for curve in &chosen {
            one_round(curve, round, short, secs, &mut sink)?;
        }
    }
    eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    show(&[out.to_string()], &out.replace(".jsonl", ".md"), args)
}

/// Every other round goes the other way, so that a slow drift of the machine hits all alike.
fn one_round(curve: &Curve, round: usize, short: bool, secs: f64, sink: &mut Sink) -> Result<()> {
    let mut points: Vec<_> = curve.points.iter().filter(|p| !short || p.short).collect();
    let mut peers = curve.peers.to_vec();
    if round % 2 == 0 {
        points.reverse();
        peers.reverse();
    }
    for point in points {
        for (peer, tune) in &peers {
            let shape = (curve.cell)(point.at);
            let secs = if shape.slow { secs * 2.0 } else { secs };
            let options = shape.options(secs);
            let tune = [*tune, &shape.tune].join(",");
            let mut v = cell(peer, shape.workload, &tune, &options, LIMIT)?;
            let m = v.as_object_mut().context("not an object")?;
            m.insert("curve".into(), json!(curve.name));
            m.insert("at".into(), json!(point.at));
            sink.put(round, v)?;
        }
    }
    Ok(())
}

pub fn curves(args: &Args) -> Result<()> {
    let files: Vec<_> = args.0[1..].iter().take_while(|a| !a.starts_with("--")).cloned().collect();
    let first = files.first().context("which results?")?;
    show(&files, &first.replace(".jsonl", ".md"), args)
}

fn show(files: &[String], out: &str, args: &Args) -> Result<()> {
    let rows = Rows::load(files)?;
    let text = table::all(&rows)?;
    ensure!(!files.contains(&out.to_owned()), "results end in .jsonl");
    fs::write(out, &text)?;
    print!("{text}");
    if let Some(dir) = args.opt("--plots") {
        fs::create_dir_all(dir)?;
        for curve in &CURVES {
            if let Some(svg) = plot::svg(&rows, curve) {
                fs::write(Path::new(dir).join(format!("scale-{}.svg", curve.name)), svg)?;
            }
        }
    }
    Ok(())
}

/// A cell that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(170);
