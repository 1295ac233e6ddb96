//! `tollgate tenant suspend` and `activate`: out, and in again.

use reqwest::Method;

use super::{at_revision, told};
use crate::cli::{api, output::Output};

/// What `tenant suspend` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  tollgate tenant suspend acme

Closes its connections within a second, and turns new ones and every operation away. What is set for
it and what it stored is kept; `tollgate tenant activate` undoes it.")]
pub(crate) struct Suspend {
    /// Its id
    id: String,
    /// Only if it is still of this revision: nobody else changed it meanwhile
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

/// What `tenant activate` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  tollgate tenant activate acme")]
pub(crate) struct Activate {
    /// Its id
    id: String,
    /// Only if it is still of this revision: nobody else changed it meanwhile
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

pub(super) async fn suspend(args: &Suspend, output: Output) -> anyhow::Result<()> {
    told("suspended", &post(&args.api, &args.id, args.if_revision, "suspend").await?, output)
}

pub(super) async fn activate(args: &Activate, output: Output) -> anyhow::Result<()> {
    told("activated", &post(&args.api, &args.id, args.if_revision, "activate").await?, output)
}

async fn post(
    api: &api::Args,
    id: &str,
    if_revision: Option<u64>,
    verb: &str,
) -> anyhow::Result<serde_json::Value> {
    let api = api.client()?;
    let request = api.request(Method::POST, &["tenants", id, verb]);
    Ok(api.send(at_revision(request, if_revision)).await?)
}
