//! `tollgate tenant usage`: how much of its quotas a tenant uses.

use console::Style;
use serde_json::Value;

use super::figures;
use crate::cli::{
    api::model::{self, Level, QuotaUsage},
    format,
    output::{self, Output, printable},
};

/// What `tenant usage` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant usage acme
  tollgate tenant usage                                The tenants closest to a limit first
  tollgate tenant usage acme --output json | jq '.quotas[] | select(.level != \"normal\")'

All of them are listed each with the quota closest to its limit. From tenancy.alerts.warning_percent
of a quota on (80) its level is `warning`, from critical_percent on (95) `critical`.")]
pub(crate) struct Args {
    #[command(flatten)]
    of: figures::Of,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    args.of.show("usage", output, one, all).await
}

fn one(usage: &Value) -> anyhow::Result<()> {
    let usage: model::Usage = model::read(usage)?;
    let rows: Vec<[String; 5]> = usage.quotas.iter().map(row).collect();
    Ok(output::table(["QUOTA", "CURRENT", "LIMIT", "USED", ""], &rows)?)
}

fn all(page: &Value) -> anyhow::Result<()> {
    let mut tenants: Vec<model::Usage> = model::items(page)?;
    let percent = |u: &model::Usage| worst(u).map_or(-1.0, utilisation);
    tenants.sort_by(|a, b| percent(b).total_cmp(&percent(a)));
    let rows: Vec<[String; 5]> = tenants
        .iter()
        .map(|usage| {
            let [quota, current, limit, used, _] = worst(usage).map(row).unwrap_or_default();
            [printable(&usage.tenant_id), quota, current, limit, used]
        })
        .collect();
    Ok(output::table(["TENANT", "CLOSEST TO ITS LIMIT", "CURRENT", "LIMIT", "USED"], &rows)?)
}

/// The quota that is closest to its limit, if any of it is used.
fn worst(usage: &model::Usage) -> Option<&QuotaUsage> {
    let used = usage.quotas.iter().filter(|q| q.current > 0 && q.limit >= 0);
    used.max_by(|a, b| utilisation(a).total_cmp(&utilisation(b)))
}

fn utilisation(q: &QuotaUsage) -> f64 {
    q.utilisation_percent.unwrap_or(0.0)
}

fn row(q: &QuotaUsage) -> [String; 5] {
    let percent = match q.utilisation_percent {
        Some(percent) if q.limit >= 0 => format!("{} {percent:>5.1} %", bar(percent)),
        _ => "-".to_owned(),
    };
    let (style, word) = match q.level {
        Level::Normal => (Style::new(), ""),
        Level::Warning => (Style::new().yellow(), "warning"),
        Level::Critical => (Style::new().red().bold(), "critical"),
    };
    [
        printable(&q.quota),
        format::amount(&q.quota, q.current),
        format::limit(&q.quota, q.limit),
        style.apply_to(percent).to_string(),
        style.apply_to(word).to_string(),
    ]
}

/// A bar of ten steps, whose last one is only full at the limit.
fn bar(percent: f64) -> String {
    const STEPS: usize = 10;
    let full = (percent.clamp(0.0, 100.0) / 100.0 * STEPS as f64) as usize;
    format!("{}{}", "█".repeat(full), "·".repeat(STEPS - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(quota: &str, current: u64, limit: i64, percent: Option<f64>) -> QuotaUsage {
        let level = match percent {
            Some(p) if p >= 95.0 => Level::Critical,
            Some(p) if p >= 80.0 => Level::Warning,
            _ => Level::Normal,
        };
        QuotaUsage { quota: quota.into(), current, limit, utilisation_percent: percent, level }
    }

    #[test]
    fn a_quota_is_a_bar_and_a_word() {
        console::set_colors_enabled(false);
        let row = |q: QuotaUsage| row(&q).map(|cell| console::strip_ansi_codes(&cell).into_owned());
        assert_eq!(
            row(quota("connections", 9, 10, Some(90.0))),
            ["connections", "9", "10", "█████████·  90.0 %", "warning"]
        );
        assert_eq!(
            row(quota("bytes_per_second", 1 << 20, -1, None)),
            ["bytes_per_second", "1.0 MiB/s", "unlimited", "-", ""]
        );
        assert_eq!(
            row(quota("topics", 3, 2, Some(150.0)))[3..],
            ["██████████ 150.0 %", "critical"]
        );
    }

    #[test]
    fn the_worst_is_what_is_closest_to_its_limit() {
        let usage = |quotas| model::Usage { tenant_id: "acme".into(), quotas };
        let some = usage(vec![
            quota("topics", 1, 100, Some(1.0)),
            quota("connections", 8, 10, Some(80.0)),
            quota("partitions", 900, -1, None),
        ]);
        assert_eq!(worst(&some).map(|q| &*q.quota), Some("connections"));
        assert!(worst(&usage(vec![quota("topics", 0, 0, Some(0.0))])).is_none());
    }
}
