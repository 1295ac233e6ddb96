//! `tollgate cert inspect`: what a certificate says.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context;

use crate::cli::output::{self, Output, printable};

/// What `cert inspect` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate cert inspect certs/acme/cert.pem
  tollgate cert inspect certs/acme/cert.pem --output json | jq -r .serial

Nothing is verified: this is what the certificate says of itself.")]
pub(crate) struct Args {
    /// A file with a certificate in PEM; the first one counts
    file: PathBuf,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let file = args.file.display();
    let pem = std::fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let info = tollgate_certs::inspect(&pem, SystemTime::now())
        .with_context(|| format!("cannot read {file}"))?;
    if output == Output::Json {
        return Ok(output::json(&info)?);
    }
    let mut fields = vec![("subject", info.subject), ("issuer", info.issuer)];
    fields.push(("serial", info.serial));
    match (info.spiffe_id, info.identity_error) {
        (Some(id), _) => fields.push(("identity", id)),
        (None, Some(why)) if !info.authority => {
            fields.push(("identity", format!("none: {}", printable(&why))));
        }
        _ => {}
    }
    let optional =
        [("role", info.role.map(str::to_owned)), ("tenant", info.tenant), ("name", info.name)];
    fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    fields.push(("valid from", info.not_before));
    let expired = if info.expired { " (expired)" } else { "" };
    fields.push(("valid until", format!("{}{expired}", info.not_after)));
    fields.push(("authority", if info.authority { "yes" } else { "no" }.to_owned()));
    fields.push(("names", info.alternative_names.join(", ")));
    fields.push(("usage", [info.key_usage, info.extended_key_usage].concat().join(", ")));
    fields.push(("sha-256", info.sha256));
    Ok(output::record(&fields)?)
}
