//! `tollgate tenant`: who may use a broker, and how much; over its HTTP API.

use clap::Subcommand;
use reqwest::RequestBuilder;

use super::{
    block_on,
    exit::Exit,
    output::{Output, say},
};

mod create;
mod delete;
mod figures;
mod list;
mod settings;
mod show;
mod state;
mod stats;
mod update;
mod usage;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a tenant
    Create(Box<create::Args>),
    /// List tenants
    List(list::Args),
    /// Show a tenant: its settings, and its quotas with where each comes from
    Show(show::Args),
    /// Change what is set for a tenant; acts at once, on open connections too
    Update(Box<update::Args>),
    /// Suspend a tenant: its connections are closed within a second, its data is kept
    Suspend(state::Suspend),
    /// Let a suspended tenant in again
    Activate(state::Activate),
    /// Delete a tenant with its data; it cannot be undone
    Delete(delete::Args),
    /// Show what a tenant uses of its quotas, or all of them do
    Usage(usage::Args),
    /// Show what a tenant did since the broker started, or all of them did
    Stats(stats::Args),
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::Create(args) => create::run(&args, output).await,
            Command::List(args) => list::run(&args, output).await,
            Command::Show(args) => show::run(&args, output).await,
            Command::Update(args) => update::run(&args, output).await,
            Command::Suspend(args) => state::suspend(&args, output).await,
            Command::Activate(args) => state::activate(&args, output).await,
            Command::Delete(args) => delete::run(&args, output).await,
            Command::Usage(args) => usage::run(&args, output).await,
            Command::Stats(args) => stats::run(&args, output).await,
        }
    })?;
    Ok(Exit::Ok)
}

/// Says what became of a tenant: a sentence for people, the tenant itself for programs.
fn told(what: &str, tenant: &serde_json::Value, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return Ok(super::output::json(tenant)?);
    }
    let t: super::api::model::Tenant = super::api::model::read(tenant)?;
    let id = super::output::printable(&t.id);
    Ok(say!(
        "{what} {id}: {}, profile {}, revision {}",
        t.state.to_lowercase(),
        t.profile,
        t.revision
    )?)
}

/// Makes a request depend on the tenant's revision, if one was given.
fn at_revision(request: RequestBuilder, revision: Option<u64>) -> RequestBuilder {
    match revision {
        Some(revision) => request.header("if-match", format!("\"{revision}\"")),
        None => request,
    }
}
