//! The flags of a storm of connections: a scenario of the operation `connect`.

use clap::Args;
use jiff::SignedDuration;

use super::{Show, Target};
use crate::scenario::{BadScenario, Load, OperationName, Scenario};

/// Open and close connections at a rate, and count what becomes of them
///
/// Each connection is a whole handshake with the tenant's certificate and a first answer of the
/// broker; its latency counts from when it was due. It is held for --hold and then closed. Refusals
/// are counted by the broker's code, and so are connections that end while they are held.
///
/// Examples:
///   tollgate-loadgen storm --certs certs/acme --per-second 200
///   tollgate-loadgen storm --certs certs/acme --per-second 100 --hold 10s --duration 30s
///   tollgate-loadgen storm --certs certs/acme --at-once 32
///   tollgate-loadgen storm --certs certs/acme --per-second 500 --allow-error QUOTA_EXCEEDED
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Storm {
    #[command(flatten)]
    pub target: Target,
    /// Connections that are due a second, of each tenant
    #[arg(long, value_name = "RATE", conflicts_with = "at_once")]
    pub per_second: Option<f64>,
    /// Churn instead: so many at any time, each followed by the next [default: 16]
    #[arg(long, value_name = "N")]
    pub at_once: Option<usize>,
    /// How long a connection is held open [default: 0s]
    #[arg(long, value_name = "TIME")]
    pub hold: Option<SignedDuration>,
    /// With --per-second: the most that are open at once [default: 10000]
    #[arg(long, value_name = "N", requires = "per_second")]
    pub open_max: Option<usize>,
    /// Sockets that they share
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub sockets: usize,
    /// Begin at this rate and rise to the full one
    #[arg(long, value_name = "N", requires = "ramp_over")]
    pub ramp_from: Option<f64>,
    /// How long that takes
    #[arg(long, value_name = "TIME")]
    pub ramp_over: Option<SignedDuration>,
    /// Codes with which connections may be refused, such as QUOTA_EXCEEDED; any other fails the run
    #[arg(long = "allow-error", value_name = "CODE")]
    pub allow_errors: Vec<String>,
    /// Fail with exit code 3 if the p99 of latency passes this
    #[arg(long, value_name = "MS")]
    pub p99_max_ms: Option<f64>,
    #[command(flatten)]
    pub show: Show,
}

impl Storm {
    /// The scenario that is meant.
    pub fn scenario(&self) -> Result<Scenario, BadScenario> {
        let load = Load {
            operation: Some(OperationName::Connect),
            connections: Some(self.sockets),
            connections_per_second: self.per_second,
            in_flight: match self.per_second {
                Some(_) => self.open_max,
                None => Some(self.at_once.unwrap_or(16)),
            },
            hold: self.hold,
            ramp_from: self.ramp_from,
            ramp_over: self.ramp_over,
            allow_errors: self.allow_errors.clone(),
            ..Load::default()
        };
        if self.target.scenario.is_some() {
            let problem =
                "a storm is made of flags; a scenario with operation = \"connect\" is run";
            return Err(BadScenario::Value(problem.into()));
        }
        let (file, mut overrides) = self.target.file(&load)?;
        overrides.p99_max_ms = self.p99_max_ms;
        file.parse(overrides)
    }
}
