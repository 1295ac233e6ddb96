//! Whom it is about, and as whom: the flags that all commands share.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

use crate::scenario::{BadScenario, Load, Overrides, ScenarioFile, TenantFile};

/// The broker, the tenants and the times.
#[derive(Debug, Args)]
pub struct Target {
    /// A scenario in TOML; flags go before what it says
    pub scenario: Option<PathBuf>,
    /// The broker [default: 127.0.0.1:4433]
    #[arg(long, value_name = "HOST:PORT", env = "TOLLGATE_ADDR")]
    pub addr: Option<String>,
    /// The name in the broker's certificate [default: the host]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Directory with a tenant's cert.pem, key.pem and ca.pem; once for each of several tenants
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "scenario",
        required_unless_present = "scenario"
    )]
    pub certs: Vec<PathBuf>,
    /// Where relative `certs` of a scenario begin [default: beside the file]
    #[arg(long, value_name = "DIR", requires = "scenario")]
    pub certs_root: Option<PathBuf>,
    /// How long is measured, such as 30s; of a scenario with phases: in each [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub duration: Option<SignedDuration>,
    /// How long load runs before that [default: 1s]
    #[arg(long, value_name = "TIME")]
    pub warm_up: Option<SignedDuration>,
    /// How long what is under way may take after that, and any one operation [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub drain: Option<SignedDuration>,
}

impl Target {
    /// What is to be done, as it is written down, and what flags say instead.
    pub fn file(&self, load: &Load) -> Result<(ScenarioFile, Overrides), BadScenario> {
        let file = match &self.scenario {
            Some(_) if *load != Load::default() => {
                let problem = "what tenants send is the scenario's to say: leave these flags out";
                return Err(BadScenario::Value(problem.into()));
            }
            Some(path) => ScenarioFile::load(path, self.certs_root.as_deref())?,
            None => ScenarioFile { tenants: self.tenants(load), ..ScenarioFile::default() },
        };
        let overrides = Overrides {
            addr: self.addr.clone(),
            server_name: self.server_name.clone(),
            duration: self.duration,
            warm_up: self.warm_up,
            drain: self.drain,
            ..Overrides::default()
        };
        Ok((file, overrides))
    }

    fn tenants(&self, load: &Load) -> Vec<TenantFile> {
        let tenant = |certs: &PathBuf| TenantFile {
            name: None,
            certs: certs.clone(),
            count: None,
            load: load.clone(),
        };
        self.certs.iter().map(tenant).collect()
    }
}
