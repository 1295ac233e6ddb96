//! The command line: flags to a scenario.
//!
//! Decides nothing: what can be wrong with a scenario is the scenario's business.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::scenario::{BadScenario, Load, Overrides, Scenario, ScenarioFile, TenantFile};

/// Load on a Tollgate broker; every answer is checked
///
/// Exit codes: 0 ok, 1 a wrong answer or an error that the scenario does not allow, 2 usage,
/// 3 a threshold not met or a rate not kept up, 4 broker unreachable, 5 not authorised, 6 refused
/// by a quota.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario, from a file or from flags
    Run(Box<Run>),
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
///   tollgate-loadgen run scenario.toml --output json > report.json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Run {
    /// A scenario in TOML; flags go before what it says
    pub scenario: Option<PathBuf>,
    /// The broker [default: 127.0.0.1:4433]
    #[arg(long, value_name = "HOST:PORT")]
    pub addr: Option<String>,
    /// The name in the broker's certificate [default: the host]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// How long is measured, such as 30s [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub duration: Option<SignedDuration>,
    /// How long load runs before that [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub warm_up: Option<SignedDuration>,
    /// How long what is under way may take after that, and any one batch [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub drain: Option<SignedDuration>,
    /// Fail with exit code 3 if the p99 of batch latency passes this
    #[arg(long, value_name = "MS")]
    pub p99_max_ms: Option<f64>,
    /// Directory with a tenant's cert.pem, key.pem and ca.pem; once for each of several tenants
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "scenario",
        required_unless_present = "scenario"
    )]
    pub certs: Vec<PathBuf>,
    #[command(flatten)]
    pub load: Load,
    /// What is printed at the end
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Say nothing while it runs
    #[arg(long, short)]
    pub quiet: bool,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// The form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// Everything, for programs.
    Json,
}

impl Run {
    /// The scenario that is meant.
    pub fn scenario(&self) -> Result<Scenario, BadScenario> {
        let file = match &self.scenario {
            Some(_) if self.load != Load::default() => {
                let problem = "what tenants send is the scenario's to say: leave these flags out";
                return Err(BadScenario::Value(problem.into()));
            }
            Some(path) => ScenarioFile::load(path)?,
            None => ScenarioFile { tenants: self.tenants(), ..ScenarioFile::default() },
        };
        file.parse(Overrides {
            addr: self.addr.clone(),
            server_name: self.server_name.clone(),
            duration: self.duration,
            warm_up: self.warm_up,
            drain: self.drain,
            p99_max_ms: self.p99_max_ms,
        })
    }

    fn tenants(&self) -> Vec<TenantFile> {
        let tenant = |certs: &PathBuf| TenantFile {
            name: None,
            certs: certs.clone(),
            load: self.load.clone(),
        };
        self.certs.iter().map(tenant).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(flags: &str) -> Run {
        let args = ["tollgate-loadgen", "run"].into_iter().chain(flags.split(' '));
        let Command::Run(run) = Cli::try_parse_from(args).expect("fine").command;
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
            .map(|t| (t.name, t.batch_items, t.allow_errors.len()))
            .collect();
        assert_eq!(names, [("a".into(), 7, 1), ("c".into(), 7, 1)]);
    }

    #[test]
    fn a_scenario_says_itself_what_tenants_send() {
        let e = run("x.toml --batch-items 7").scenario().expect_err("refused").to_string();
        assert!(e.contains("leave these flags out"), "{e}");
    }
}
