//! `tollgate revocation`: who is turned away by the broker, whatever its certificate says.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    api::{self, model},
    block_on,
    exit::Exit,
    format,
    output::{self, Output, excerpt, printable, say},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what was revoked over the API
    #[command(after_help = "Examples:
  tollgate revocation list
  tollgate revocation list --output json | jq -r '.items[].serial'")]
    List {
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
    /// Revoke a certificate, or everything that one identity holds
    #[command(after_help = "Examples:
  tollgate revocation add --cert certs/acme/cert.pem --reason 'laptop stolen'
  tollgate revocation add --serial 4f1d0a6b
  tollgate revocation add --spiffe-id spiffe://tollgate.local/tenant/acme/client/laptop

Acts within a second, on open connections too, and outlives a restart. `tollgate cert revoke` does
the same without the API, in the authority's own list, for every broker that reads it.")]
    Add(AddArgs),
    /// Take a revocation back
    #[command(after_help = "Example:
  tollgate revocation remove 0198c0de-0000-7000-8000-000000000000")]
    Remove {
        /// Its id, as `revocation list` shows it
        id: String,
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
}

/// What `revocation add` takes.
#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    what: What,
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

/// What is revoked: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// A certificate's serial number, in hex
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// A file with the certificate
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// An identity: every certificate that names it
    #[arg(long, value_name = "URI")]
    spiffe_id: Option<String>,
}

impl What {
    fn document(&self) -> anyhow::Result<Value> {
        Ok(match (&self.serial, &self.cert, &self.spiffe_id) {
            (Some(serial), _, _) => json!({ "serial": serial }),
            (_, Some(cert), _) => json!({ "serial": serial_of(cert)? }),
            (_, _, id) => json!({ "spiffe_id": id }),
        })
    }
}

fn serial_of(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("cannot read {}", path.display());
    let pem = std::fs::read(path).with_context(reading)?;
    Ok(tollgate_certs::inspect(&pem, SystemTime::now()).with_context(reading)?.serial)
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::List { pages, api } => {
                list(&api.client()?.list(&["revocations"], &[], &pages).await?, output)
            }
            Command::Add(args) => add(&args, output).await,
            Command::Remove { id, api } => {
                let api = api.client()?;
                api.send(api.request(Method::DELETE, &["revocations", &id])).await?;
                match output {
                    Output::Table => say!("took {} back", printable(&id))?,
                    Output::Json => output::json(&json!({ "removed": id }))?,
                }
                Ok(())
            }
        }
    })?;
    Ok(Exit::Ok)
}

async fn add(args: &AddArgs, output: Output) -> anyhow::Result<()> {
    let mut document = args.what.document()?;
    if let Some(reason) = &args.reason {
        document["reason"] = reason.as_str().into();
    }
    let api = args.api.client()?;
    let request = api.request(Method::POST, &["revocations"]).json(&document);
    let revocation = api.send(request).await?;
    if output == Output::Json {
        return Ok(output::json(&revocation)?);
    }
    let revocation: model::Revocation = model::read(&revocation)?;
    say!("revoked {}", what(&revocation))?;
    say!("  take it back with: tollgate revocation remove {}", model::id(&revocation.id))?;
    Ok(())
}

fn list(page: &Value, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return Ok(output::json(page)?);
    }
    let now = SystemTime::now();
    let row = |r: &model::Revocation| {
        [
            model::id(&r.id),
            what(r),
            format::ago(&r.created_at, now),
            excerpt(r.reason.as_deref().unwrap_or("-"), 60),
        ]
    };
    let rows: Vec<_> = model::items::<model::Revocation>(page)?.iter().map(row).collect();
    output::table(["ID", "REVOKED", "SINCE", "REASON"], &rows)?;
    api::note_the_rest(page, output);
    Ok(())
}

fn what(r: &model::Revocation) -> String {
    match (&r.serial, &r.spiffe_id) {
        (Some(serial), _) => format!("serial {}", printable(serial)),
        (None, Some(id)) => printable(id),
        (None, None) => "-".to_owned(),
    }
}
