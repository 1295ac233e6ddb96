//! `tollgate connection`: who is connected to a broker.

use std::time::SystemTime;

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
    /// List connections
    #[command(after_help = "Examples:
  tollgate connection list
  tollgate connection list --tenant acme
  tollgate connection list --all --output json | jq -r '.items[].address'")]
    List {
        /// Only those of this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    let Command::List { tenant, pages, api } = command;
    let query: Vec<_> = tenant.map(|t| ("tenant", t)).into_iter().collect();
    let page = block_on(async { Ok(api.client()?.list(&["connections"], &query, &pages).await?) })?;
    if output == Output::Json {
        output::json(&page)?;
        return Ok(Exit::Ok);
    }
    let now = SystemTime::now();
    let rows: Vec<[String; 6]> =
        model::items::<model::Connection>(&page)?.iter().map(|c| row(c, now)).collect();
    output::table(["ID", "IDENTITY", "ADDRESS", "CONNECTED", "LAST SEEN", "STREAMS"], &rows)?;
    api::note_the_rest(&page, output);
    Ok(Exit::Ok)
}

fn row(c: &model::Connection, now: SystemTime) -> [String; 6] {
    [
        model::id(&c.id),
        printable(&c.identity),
        printable(&c.address),
        format::ago(&c.connected_at, now),
        format::ago(&c.last_seen_at, now),
        c.streams.to_string(),
    ]
}
