//! A histogram in the percentile distribution format of HdrHistogram: what its plotters read.
//!
//! Values are milliseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Lines of every halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// The whole file.
pub fn text(h: &Histogram<u64>) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(h, &mut out);
    out
}

fn write(h: &Histogram<u64>, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut seen = 0;
    for v in h.iter_quantiles(TICKS_PER_HALF) {
        seen += v.count_since_last_iteration();
        let (value, q) = (v.value_iterated_to() as f64 / NS_PER_MS, v.quantile_iterated_to());
        if q < 1.0 {
            writeln!(out, "{value:12.3} {q:14.12} {seen:10} {:14.2}", 1.0 / (1.0 - q))?;
        } else {
            writeln!(out, "{value:12.3} {q:14.12} {seen:10}")?;
        }
    }
    let (mean, deviation) = if h.is_empty() { (0.0, 0.0) } else { (h.mean(), h.stdev()) };
    let max = h.max() as f64 / NS_PER_MS;
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        mean / NS_PER_MS,
        deviation / NS_PER_MS
    )?;
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {:12}]", h.len())?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        h.buckets(),
        1u64 << (64 - (2 * 10u64.pow(u32::from(h.sigfig()))).leading_zeros())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{histogram, record};

    #[test]
    fn plotters_can_read_it() {
        let mut h = histogram();
        (1..=1_000).for_each(|ms| record(&mut h, ms * 1_000_000));
        let text = text(&h);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|l| !l.starts_with('#') && !l.contains("Value") && !l.is_empty())
            .map(|l| l.split_whitespace().map(|n| n.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 20 && rows.iter().all(|r| r.len() >= 3));
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        let last = rows.last().expect("rows");
        assert_eq!((last[1], last[2], last.len()), (1.0, 1_000.0, 3));
        let half = rows.iter().find(|r| r[1] >= 0.5).expect("a median");
        assert!((half[0] - 500.0).abs() < 1.0 && half[3] == 2.0, "{half:?}");
        assert!(text.contains("#[Mean") && text.contains("Total count    =         1000]"));
    }
}
