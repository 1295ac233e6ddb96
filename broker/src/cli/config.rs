//! `tollgate config`: what a broker would be started with, judged and shown.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use tollgate_broker::{Config, upstream};
use tollgate_certs::{Paths, TrustDomain, rotate};

use super::{
    exit::{Exit, Usage},
    output::{self, Output, say},
    serve::logging,
    settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Judge the configuration and the files that it names, and start nothing
    #[command(after_help = "Examples:
  tollgate config check --config /etc/tollgate/tollgate.toml
  tollgate config check --set limits.frame_bytes_max=4194304

The files that it names are read too: certificates, lists of revocations, tokens, secrets. Ends with
2 when something is wrong, and names every mistake.")]
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
    let (config, mistakes) = args.look().map_err(|all| together(&texts(&all)))?;
    let mut mistakes = texts(&mistakes);
    mistakes.extend(logging::check(&config.log, &config.telemetry).iter().map(one));
    let certificates = certificates(&config, &mut mistakes);
    mistakes.extend(config.http.token_mistakes().iter().map(ToString::to_string));
    mistakes.extend(upstreams(&config));
    if !mistakes.is_empty() {
        return Err(together(&mistakes));
    }
    let checked = Checked {
        good: true,
        file: args.file().map(|path| path.display().to_string()),
        listen: config.listen.to_string(),
        certificates,
        upstreams: config.upstreams.len(),
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

fn one(mistake: &anyhow::Error) -> String {
    format!("{mistake:#}")
}

fn texts(mistakes: &[anyhow::Error]) -> Vec<String> {
    mistakes.iter().map(one).collect()
}

/// All mistakes as one, each in a line of its own.
fn together(mistakes: &[String]) -> anyhow::Error {
    let mut each: Vec<&String> = Vec::new();
    mistakes.iter().for_each(|m| {
        if !each.contains(&m) {
            each.push(m)
        }
    });
    match &each[..] {
        [only] => Usage::error(only.as_str()),
        _ => {
            let lines: String = each.iter().map(|mistake| format!("\n  {mistake}")).collect();
            Usage::error(format!("{} mistakes:{lines}", each.len()))
        }
    }
}

/// Reads the secrets, certificates and schemas of the upstreams, each by itself, and asks none of
/// them.
fn upstreams(config: &Config) -> Vec<String> {
    let alone = |(name, one): (&String, &upstream::Upstream)| {
        upstream::check_files(&[(name.clone(), one.clone())].into()).err()
    };
    config.upstreams.iter().filter_map(alone).map(|e| e.to_string()).collect()
}

/// Loads what a broker would load, for QUIC and for HTTP, and says whose it is.
fn certificates(config: &Config, mistakes: &mut Vec<String>) -> &'static str {
    let tls = &config.tls;
    for list in tls.crls.iter().chain(&tls.deny) {
        mistakes.extend(rotate::require([list]).err().map(|e| e.to_string()));
    }
    let domain = match TrustDomain::parse(&tls.trust_domain) {
        Ok(domain) => domain,
        Err(e) => {
            mistakes.push(format!("tls.trust_domain: {e}"));
            return "";
        }
    };
    let mut load = |certificate: &PathBuf, key: &PathBuf, roots: &Vec<PathBuf>| {
        let paths = Paths {
            certificate: certificate.clone(),
            key: key.clone(),
            roots: roots.clone(),
            crls: tls.crls.clone(),
            deny: tls.deny.clone(),
            domain: domain.clone(),
        };
        mistakes.extend(rotate::load(&paths).err().map(|e| e.to_string()));
    };
    let whose = match (&tls.certificate, &tls.key, &tls.roots[..]) {
        (None, None, []) => match &config.data_dir {
            Some(dir) if is_there(dir) => "the development authority of the data directory",
            _ => "a development authority, made at the first start",
        },
        (Some(certificate), Some(key), [_, ..]) => {
            load(certificate, key, &tls.roots);
            "those of [tls]"
        }
        _ => {
            let what = "tls.certificate, tls.key and tls.roots are set together or not at all";
            mistakes.push(what.to_owned());
            return "";
        }
    };
    // With an authority that is made later there is nothing yet to read them with.
    let http = &config.http;
    let certificate = http.certificate.as_ref().or(tls.certificate.as_ref());
    let key = http.key.as_ref().or(tls.key.as_ref());
    let roots = if http.client_roots.is_empty() { &tls.roots } else { &http.client_roots };
    let own = http.certificate.is_some() || !http.client_roots.is_empty();
    if let (Some(certificate), Some(key), [_, ..]) = (certificate, key, &roots[..])
        && http.enabled
        && own
    {
        load(certificate, key, roots);
    }
    whose
}

fn is_there(data_dir: &Path) -> bool {
    data_dir.join("dev-ca").join("ca.pem").exists()
}
