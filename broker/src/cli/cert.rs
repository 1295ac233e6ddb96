//! `tollgate cert`: an authority of one's own, and the certificates it issues.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use tollgate_certs::{Authority, IssueOptions};

use super::{
    exit::{Exit, Usage},
    output::Output,
    settings,
};

mod init;
mod inspect;
mod issue;
mod revoke;
mod server;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an authority
    Init(init::Args),
    /// Issue a broker's certificate
    Server(server::Args),
    /// Issue a certificate to whoever connects to a broker
    Issue(issue::Args),
    /// Show what a certificate says
    Inspect(inspect::Args),
    /// Revoke certificates; a broker throws their holders out within a second
    Revoke(revoke::Args),
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Init(args) => init::run(&args, output),
        Command::Server(args) => server::run(&args, output),
        Command::Issue(args) => issue::run(&args, output),
        Command::Inspect(args) => inspect::run(&args, output),
        Command::Revoke(args) => revoke::run(&args, output),
    }?;
    Ok(Exit::Ok)
}

/// Which authority issues.
#[derive(Debug, clap::Args)]
struct CaArgs {
    /// The authority's directory [default: dev-ca in the broker's data directory]
    #[arg(long, value_name = "DIR")]
    ca: Option<PathBuf>,
}

impl CaArgs {
    fn load(&self) -> anyhow::Result<(PathBuf, Authority)> {
        let dir = match &self.ca {
            Some(dir) => dir.clone(),
            None => default_ca()?,
        };
        let authority = Authority::load(&dir).map_err(|e| {
            Usage::error(format!(
                "cannot use the authority in {}: {e}; `tollgate serve` makes one for development, \
                 and `tollgate cert init --dir DIR` makes another",
                dir.display()
            ))
        })?;
        Ok((dir, authority))
    }
}

/// Where a broker that is started here keeps its development authority.
pub(super) fn default_ca() -> anyhow::Result<PathBuf> {
    let config = settings::Args::default().load()?;
    Ok(config.data_dir.unwrap_or_default().join("dev-ca"))
}

/// Reads `--days`.
fn days(text: &str) -> Result<Duration, String> {
    const MAX: u64 = 3_650;
    match text.parse() {
        Ok(days @ 1..=MAX) => Ok(Duration::from_secs(days * 24 * 3_600)),
        _ => Err(format!("expected 1 to {MAX}")),
    }
}

fn valid_for(validity: Duration) -> IssueOptions {
    IssueOptions::valid_for(validity)
}
