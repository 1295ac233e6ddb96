//! The command line: flags to a scenario, and to what is done with it.
//!
//! Decides nothing: what can be wrong with a scenario is the scenario's business.

mod compare;
mod find_max;
mod storm;
mod target;
mod worker;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use compare::Compare;
pub use find_max::FindMax;
pub use storm::Storm;
pub use target::Target;
pub use worker::Worker;

use crate::scenario::{BadScenario, Load, Scenario};

/// Load on a Tollgate broker; every answer is checked
///
/// Start with `tollgate-loadgen run --certs certs/acme` beside a running broker (`tollgate serve
/// --tenant acme`, `tollgate cert issue --tenant acme --out certs/acme`). What a scenario file may
/// say, and what the figures mean, is in docs/load-testing.md.
///
/// Exit codes: 0 ok, 1 a wrong answer or an error that the scenario does not allow, 2 usage,
/// 3 a threshold or a goal not met, or a rate not kept up, 4 broker unreachable, 5 not authorised,
/// 6 refused by a quota.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do. What a command is about stands with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<Run>),
    FindMax(Box<FindMax>),
    Storm(Box<Storm>),
    Compare(Compare),
    Worker(Worker),
    /// Print a script with which a shell completes these commands
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Run a scenario, from a file or from flags
///
/// Closed loop (the default): a set number of batches is under way, each followed by the next.
/// Open loop (--items-per-second or --batches-per-second): batches are due at a set rate, and
/// latency counts from when a batch was due, so a broker that stalls cannot hide it.
///
/// Examples:
///   tollgate-loadgen run --certs certs/acme
///   tollgate-loadgen run --certs certs/acme --items-per-second 20000 --p99-max-ms 20
///   tollgate-loadgen run --certs certs/acme --operation job --batches-per-second 20
///   tollgate-loadgen run --certs certs/acme --operation produce --partitions 4 --consumers 2
///   tollgate-loadgen run --certs certs/a --certs certs/b --payload-bytes 64:9,65536:1 --out report
///   tollgate-loadgen run scenario.toml --output json > report.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Run {
    #[command(flatten)]
    pub target: Target,
    /// Fail with exit code 3 if the p99 of latency passes this
    #[arg(long, value_name = "MS")]
    pub p99_max_ms: Option<f64>,
    /// Go through the phases so often [default: 1]
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Check the scenario, print it as it is understood, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub show: Show,
    #[command(flatten)]
    pub load: Load,
}

/// How it is shown, and what with.
#[derive(Debug, Args)]
pub struct Show {
    /// What is printed at the end
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Write report.json, report.html and histograms (.hgrm) to this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What is seen while it runs, on standard error
    #[arg(long, value_enum, default_value_t = Live::Auto)]
    pub progress: Live,
    /// Say nothing while it runs: as --progress none
    #[arg(long, short)]
    pub quiet: bool,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// The broker's process, when it runs on this machine: its processor time and memory are
    /// reported
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// Everything, for programs.
    Json,
}

/// What is seen while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Live {
    /// A line that changes on a terminal, nothing elsewhere.
    Auto,
    /// A line a second, anywhere.
    Plain,
    /// Nothing.
    None,
}

impl Show {
    /// What is to be seen while it runs.
    pub fn live(&self) -> Live {
        if self.quiet { Live::None } else { self.progress }
    }

    /// Threads of the runtime.
    pub fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism();
        self.threads.or(cores.ok()).map_or(1, NonZeroUsize::get)
    }
}

impl Run {
    /// The scenario that is meant.
    pub fn scenario(&self) -> Result<Scenario, BadScenario> {
        let (file, mut overrides) = self.target.file(&self.load)?;
        overrides.p99_max_ms = self.p99_max_ms;
        overrides.rounds = self.rounds;
        file.parse(overrides)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(flags: &str) -> Run {
        let args = ["tollgate-loadgen", "run"].into_iter().chain(flags.split(' '));
        let Command::Run(run) = Cli::try_parse_from(args).expect("fine").command else {
            panic!("another command")
        };
        *run
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_tenants_are_alike() {
        let s = run("--certs a --certs b/c --batch-items 7 --allow-error RATE_LIMITED").scenario();
        let names: Vec<_> = s
            .expect("fine")
            .tenants
            .into_iter()
            .map(|t| (t.name, t.batch_items.max(), t.allow_errors.len()))
            .collect();
        assert_eq!(names, [("a".into(), 7, 1), ("c".into(), 7, 1)]);
    }

    #[test]
    fn a_scenario_says_itself_what_tenants_send() {
        let e = run("x.toml --batch-items 7").scenario().expect_err("refused").to_string();
        assert!(e.contains("leave these flags out"), "{e}");
    }

    #[test]
    fn rates_exclude_each_other_and_sizes_are_checked() {
        let refused = |flags: &str| {
            let args = ["tollgate-loadgen", "run", "--certs", "a"].into_iter();
            let e = Cli::try_parse_from(args.chain(flags.split(' '))).expect_err("refused");
            e.to_string()
        };
        refused("--items-per-second 1 --batches-per-second 1");
        refused("--ramp-from 3");
        assert!(refused("--payload-bytes 9..1").contains("begins above its end"));
        assert!(refused("--operation publish").contains("`connect`"));
    }
}
