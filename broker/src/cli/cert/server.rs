//! `tollgate cert server`: a certificate for a broker.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use rustls::pki_types::{DnsName, ServerName};

use super::{CaArgs, days, issue, valid_for};
use crate::cli::{exit::Usage, output::Output};

/// What `cert server` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  tollgate cert server --ca ca --name broker.example.org --ip 10.0.0.7 --out certs/broker

A broker uses it with
  [tls]
  certificate = \"certs/broker/cert.pem\"
  key = \"certs/broker/key.pem\"
  roots = [\"certs/broker/ca.pem\"]")]
pub(crate) struct Args {
    #[command(flatten)]
    ca: CaArgs,
    /// A DNS name that clients reach it under; may be repeated
    #[arg(long, value_name = "NAME", required_unless_present = "ip")]
    name: Vec<String>,
    /// An IP address that clients reach it under; may be repeated
    #[arg(long, value_name = "IP")]
    ip: Vec<IpAddr>,
    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value = "90", value_parser = days)]
    days: Duration,
    /// Where to write cert.pem, key.pem and ca.pem; what is there is renewed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for name in &args.name {
        let dns = DnsName::try_from(name.as_str())
            .map_err(|_| Usage::error(format!("`{name}` is not a DNS name")))?;
        names.push(ServerName::DnsName(dns));
    }
    names.extend(args.ip.iter().map(|&ip| ServerName::IpAddress(ip.into())));
    let (_, authority) = args.ca.load()?;
    let issued = authority.issue_server(&names, &valid_for(args.days))?;
    let ips = args.ip.iter().map(ToString::to_string);
    let holder = args.name.iter().cloned().chain(ips).collect::<Vec<_>>().join(", ");
    issue::write(&issued, &args.out, &holder, output)
}
