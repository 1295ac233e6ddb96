//! Live progress: a batch whose items report how far they have come.

use std::{fmt::Write, time::Instant};

use serde_json::Value;
use tollgate_client::{Event, Request};

use super::{Show, Stage};
use crate::cli::format;

/// Rows of the table that is profiled: just below a payload's largest size.
const ROWS: u64 = 40_000;
const DELAYS_MS: [u64; 4] = [500, 900, 1_300, 1_700];

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene(
        "Live progress",
        "one batch of acme: a table to profile, four items that take their time",
    )?;
    let (table, sum) = table();
    let size = format::bytes(table.len() as u64);
    let mut batch = stage.acme.batch().open().await?;
    batch.send(Request::new("csv.profile", table)).await?;
    for ms in DELAYS_MS {
        let input = serde_json::json!({ "ms": ms, "steps": 50 });
        batch.send(Request::new("delay", "").json(&input)).await?;
    }
    batch.finish().await?;
    let names = DELAYS_MS.map(|ms| format!("delay {ms} ms"));
    let names: Vec<&str> =
        std::iter::once("csv.profile").chain(names.iter().map(String::as_str)).collect();
    let mut bars = show.bars(&names);
    let began = Instant::now();
    let mut last = vec![0.0; names.len()];
    let (mut reports, mut rising, mut profile) = (0, true, None);
    let (mut succeeded, mut total) = (0, 0);
    while let Some(event) = batch.next().await {
        match event? {
            Event::Progress(p) => {
                let (item, percent) = (p.id as usize, p.percent().unwrap_or(0.0));
                rising &= percent >= last[item];
                last[item] = percent;
                reports += 1;
                bars.set(item, percent, &p.message)?;
            }
            Event::Result(r) => {
                let took = format!("done in {}", format::duration(r.duration));
                bars.set(r.id as usize, 100.0, &took)?;
                if r.id == 0 {
                    profile = Some(r.json::<Value>()?);
                }
            }
            Event::Summary(s) => (succeeded, total) = (s.succeeded, s.total),
            _ => {}
        }
    }
    bars.finish()?;
    let took = began.elapsed();
    let slowest = DELAYS_MS.iter().max().copied().unwrap_or(0);
    show.promise(
        succeeded == 5 && total == 5 && u128::from(slowest) <= took.as_millis(),
        format_args!("5 of 5 items succeeded, side by side, in {}", format::duration(took)),
    )?;
    show.promise(
        rising && reports >= DELAYS_MS.len(),
        format_args!("{reports} reports of progress came on the batch's own stream, never falling"),
    )?;
    let profile = profile.unwrap_or_default();
    let mean = profile["columns"][1]["mean"].as_f64().unwrap_or(f64::NAN);
    let right = sum as f64 / ROWS as f64;
    show.promise(
        profile["rows"] == ROWS && (mean - right).abs() < 1e-6 * right,
        format_args!("csv.profile counted {ROWS} rows of {size}; the mean of `value` is {mean:.3}"),
    )?;
    Ok(())
}

/// A table of two columns, and the sum of the second.
fn table() -> (String, u64) {
    let mut table = String::from("id,value,city\n");
    let mut sum = 0;
    for row in 0..ROWS {
        let value = row * 7_919 % 1_000;
        let city = ["Oslo", "Lima", "Kyoto"][row as usize % 3];
        sum += value;
        // Writing to a string does not fail.
        let _ = writeln!(table, "{row},{value},{city}");
    }
    (table, sum)
}
