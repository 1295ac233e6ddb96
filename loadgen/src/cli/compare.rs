//! The flags of comparing two reports.

use std::{path::PathBuf, str::FromStr};

use clap::Args;

use super::Output;

/// Compare the reports of two runs, figure by figure
///
/// Every figure of the second report divided by that of the first, for each phase and tenant that
/// both have. A report is what `run --output json` prints, or the directory of `run --out DIR`.
///
/// Only runs on the same machine, one right after the other, compare; see docs/load-testing.md.
///
/// Examples:
///   tollgate-loadgen compare before/report.json after/report.json
///   tollgate-loadgen compare a.json b.json --fail-if-slower 10%
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Compare {
    /// What is divided by
    pub a: PathBuf,
    /// What is divided
    pub b: PathBuf,
    /// Exit with code 3 if, in B, the rate of successes, the p50 or the p99 of any tenant is worse by
    /// more than this, or there are more errors
    #[arg(long, value_name = "PERCENT")]
    pub fail_if_slower: Option<Margin>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// A part of a whole, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin(pub f64);

impl FromStr for Margin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
        let margin = number.ok().filter(|n| (0.0..=1_000.0).contains(n));
        margin.map(|n| Margin(n / 100.0)).ok_or_else(|| "0 to 1000 per cent, such as 10%".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_in_per_cent() {
        assert_eq!("10%".parse(), Ok(Margin(0.1)));
        assert_eq!("2.5".parse(), Ok(Margin(0.025)));
        assert!("x".parse::<Margin>().is_err() && "-1%".parse::<Margin>().is_err());
    }
}
