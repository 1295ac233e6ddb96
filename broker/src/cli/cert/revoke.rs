//! `tollgate cert revoke`: certificates that are no longer to be accepted.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context;
use tollgate_certs::Serial;

use super::CaArgs;
use crate::cli::{
    exit::Usage,
    output::{self, Output, say},
};

/// What `cert revoke` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate cert revoke --cert certs/acme/cert.pem
  tollgate cert revoke --ca ca --serial 4f1d0a6b

Adds to crl.pem in the authority's directory. A broker on its development authority sees it within
a second; others have the file under tls.crls. What is revoked stays so. With nothing to revoke, the
list is made when there is none, and renewed for a year otherwise. `tollgate revocation add` does
it over the API, where the key of the authority is not at hand.")]
pub(crate) struct Args {
    #[command(flatten)]
    ca: CaArgs,
    /// A serial number, in hex; may be repeated
    #[arg(long, value_name = "HEX")]
    serial: Vec<String>,
    /// A file with the certificate; may be repeated
    #[arg(long, value_name = "FILE")]
    cert: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let mut serials = Vec::new();
    for serial in &args.serial {
        let parsed = Serial::parse(serial);
        serials.push(parsed.map_err(|e| Usage::error(format!("--serial {serial}: {e}")))?);
    }
    for path in &args.cert {
        let reading = || format!("cannot read {}", path.display());
        let pem = std::fs::read(path).with_context(reading)?;
        let info = tollgate_certs::inspect(&pem, SystemTime::now()).with_context(reading)?;
        serials.push(Serial::parse(&info.serial).with_context(reading)?);
    }
    let (dir, authority) = args.ca.load()?;
    authority.revoke(&dir, &serials)?;
    let list = dir.join("crl.pem");
    let names: Vec<String> = serials.iter().map(ToString::to_string).collect();
    match output {
        Output::Table => {
            for name in &names {
                say!("revoked {name}")?;
            }
            if names.is_empty() {
                say!("revoked nothing more")?;
            }
            say!("  the list is {}", list.display())?;
        }
        Output::Json => output::json(&serde_json::json!({ "revoked": names, "crl": list }))?,
    }
    Ok(())
}
