//! `tollgate config`: what a broker would be started with, judged and shown.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use tollgate_broker::{Config, upstream};
use tollgate_certs::{Paths, TrustDomain, rotate};

use super::{
    exit::{Exit, Usage},
    output::{self, Output, say},
    settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Judge the configuration, the certificates and the upstreams, and start nothing
    #[command(after_help = "Examples:
  tollgate config check --config /etc/tollgate/tollgate.toml
  tollgate config check --set limits.frame_bytes_max=4194304

Ends with 2 and the key at fault when something is wrong.")]
    Check(#[command(flatten)] settings::Args),
    /// Print the configuration that the file, the variables and these flags make together
    #[command(after_help = "Examples:
  tollgate config print > tollgate.toml
  TOLLGATE_LIMITS__MTU_MAX=1400 tollgate config print --output json")]
    Print(#[command(flatten)] settings::Args),
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Check(args) => check(&args, output),
        Command::Print(args) => print(&args.load()?, output),
    }
}

fn print(config: &Config, output: Output) -> anyhow::Result<Exit> {
    match output {
        Output::Table => output::text(&toml::to_string_pretty(config)?)?,
        Output::Json => output::json(config)?,
    }
    Ok(Exit::Ok)
}

/// What was found to be good.
#[derive(Debug, Serialize)]
struct Checked {
    good: bool,
    file: Option<String>,
    listen: String,
    certificates: &'static str,
    upstreams: usize,
}

fn check(args: &settings::Args, output: Output) -> anyhow::Result<Exit> {
    let config = args.load()?;
    tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .map_err(|e| Usage::error(format!("log.level: {e}")))?;
    let domain = TrustDomain::parse(&config.tls.trust_domain)
        .map_err(|e| Usage::error(format!("tls.trust_domain: {e}")))?;
    let checked = Checked {
        good: true,
        file: args.file().map(|path| path.display().to_string()),
        listen: config.listen.to_string(),
        certificates: certificates(&config, domain)?,
        upstreams: upstreams(&config)?,
    };
    match output {
        Output::Table => {
            let file = checked.file.as_deref().unwrap_or("no file, the defaults");
            say!("good: {file}")?;
            say!("certificates: {}", checked.certificates)?;
            if checked.upstreams > 0 {
                say!("upstreams: {}", checked.upstreams)?;
            }
        }
        Output::Json => output::json(&checked)?,
    }
    Ok(Exit::Ok)
}

/// Reads the secrets, certificates and schemas of the upstreams, and asks none of them.
fn upstreams(config: &Config) -> anyhow::Result<usize> {
    upstream::check_files(&config.upstreams).map_err(|e| Usage::error(e.to_string()))?;
    Ok(config.upstreams.len())
}

/// Loads what a broker would load.
fn certificates(config: &Config, domain: TrustDomain) -> anyhow::Result<&'static str> {
    let tls = &config.tls;
    match (&tls.certificate, &tls.key, &tls.roots[..]) {
        (None, None, []) => match &config.data_dir {
            Some(dir) if is_there(dir) => Ok("the development authority of the data directory"),
            _ => Ok("a development authority, made at the first start"),
        },
        (Some(certificate), Some(key), [_, ..]) => {
            let paths = Paths {
                certificate: certificate.clone(),
                key: key.clone(),
                roots: tls.roots.clone(),
                crls: tls.crls.clone(),
                deny: tls.deny.clone(),
                domain,
            };
            rotate::load(&paths).map_err(|e| Usage::error(e.to_string()))?;
            Ok("those of [tls]")
        }
        _ => Err(Usage::error(
            "tls.certificate, tls.key and tls.roots are set together or not at all",
        )),
    }
}

fn is_there(data_dir: &Path) -> bool {
    data_dir.join("dev-ca").join("ca.pem").exists()
}
