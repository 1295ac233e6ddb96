//! `tollgate tenant stats`: what a tenant did.

use std::time::Duration;

use serde_json::Value;

use super::figures;
use crate::cli::{
    api::model,
    format,
    output::{self, Output, printable, say},
};

/// What `tenant stats` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant stats acme
  tollgate tenant stats                                All of them, the busiest first
  tollgate tenant stats acme --output json | jq .failures

Counted since the broker started.")]
pub(crate) struct Args {
    #[command(flatten)]
    of: figures::Of,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    args.of.show("stats", output, one, all).await
}

fn one(stats: &Value) -> anyhow::Result<()> {
    let stats: model::Stats = model::read(stats)?;
    let latency = stats.latency_us;
    output::record(&[
        ("items succeeded", stats.items_succeeded.to_string()),
        ("items failed", stats.items_failed.to_string()),
        ("bytes in", format::bytes(stats.bytes_in)),
        ("bytes out", format::bytes(stats.bytes_out)),
        ("latency p50", us(latency.p50, latency)),
        ("latency p90", us(latency.p90, latency)),
        ("latency p99", us(latency.p99, latency)),
        ("latency p99.9", us(latency.p999, latency)),
        ("latency max", us(latency.max, latency)),
    ])?;
    if !stats.failures.is_empty() {
        let rows = stats.failures.iter().map(|(code, n)| [printable(code), n.to_string()]);
        say!("")?;
        output::table(["FAILED WITH", "ITEMS"], &rows.collect::<Vec<_>>())?;
    }
    Ok(())
}

fn all(page: &Value) -> anyhow::Result<()> {
    let mut tenants: Vec<model::Stats> = model::items(page)?;
    tenants.sort_by_key(|s| std::cmp::Reverse(s.items_succeeded + s.items_failed));
    let row = |s: &model::Stats| {
        [
            printable(&s.tenant_id),
            s.items_succeeded.to_string(),
            s.items_failed.to_string(),
            format::bytes(s.bytes_in),
            format::bytes(s.bytes_out),
            us(s.latency_us.p50, s.latency_us),
            us(s.latency_us.p99, s.latency_us),
        ]
    };
    let rows: Vec<_> = tenants.iter().map(row).collect();
    Ok(output::table(["TENANT", "SUCCEEDED", "FAILED", "IN", "OUT", "P50", "P99"], &rows)?)
}

/// A latency, or that there is none.
fn us(us: u64, of: model::Latency) -> String {
    if of.count == 0 { "-".to_owned() } else { format::duration(Duration::from_micros(us)) }
}
