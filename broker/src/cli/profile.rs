//! `tollgate profile`: the quotas that tenants start from.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::{
    api::{self, model},
    block_on,
    exit::Exit,
    format,
    output::{self, Output, printable},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the profiles with their quotas
    #[command(after_help = "Examples:
  tollgate profile list
  tollgate profile list --output json | jq '.items[] | select(.name == \"pro\").quotas'

Profiles stand in the configuration, under [tenancy.profiles.NAME], over the built-in ones; SIGHUP
reloads them, and a change acts at once on every tenant of the profile.")]
    List {
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    let Command::List { api } = command;
    let page = block_on(async { Ok(api.client()?.get(&["quota-profiles"], &[]).await?) })?;
    match output {
        Output::Json => output::json(&page)?,
        Output::Table => list(&model::items(&page)?)?,
    }
    Ok(Exit::Ok)
}

/// A row a quota, a column a profile: there are few profiles and many quotas.
fn list(profiles: &[model::Profile]) -> std::io::Result<()> {
    let names: Vec<String> = profiles.iter().map(|p| printable(&p.name)).collect();
    let header: Vec<&str> =
        std::iter::once("QUOTA").chain(names.iter().map(String::as_str)).collect();
    let quotas: BTreeSet<&String> = profiles.iter().flat_map(|p| p.quotas.keys()).collect();
    let row = |quota: &String| {
        let limit = |p: &model::Profile| {
            p.quotas.get(quota).map_or_else(|| "-".to_owned(), |n| format::limit(quota, *n))
        };
        std::iter::once(printable(quota)).chain(profiles.iter().map(limit)).collect()
    };
    let rows: Vec<Vec<String>> = quotas.into_iter().map(row).collect();
    output::columns(&header, &rows)
}
