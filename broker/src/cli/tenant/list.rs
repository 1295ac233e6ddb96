//! `tollgate tenant list`: a page of tenants, or all of them.

use clap::ValueEnum;

use crate::cli::{
    api::{self, model},
    output::{self, Output, excerpt, printable},
};

/// What `tenant list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant list
  tollgate tenant list --state suspended --profile free
  tollgate tenant list --all --output json | jq -r '.items[].id'")]
pub(crate) struct Args {
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those of this profile
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    pages: api::Pages,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

/// States that a tenant in a list can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Active,
    Suspended,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Active => "Active",
            State::Suspended => "Suspended",
        }
    }
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(args.state.map(|s| ("state", s.name().to_owned())));
    query.extend(args.profile.clone().map(|p| ("profile", p)));
    let page = args.api.client()?.list(&["tenants"], &query, &args.pages).await?;
    if output == Output::Json {
        return Ok(output::json(&page)?);
    }
    let rows: Vec<[String; 7]> = model::items::<model::Tenant>(&page)?.iter().map(row).collect();
    output::table(["ID", "STATE", "PROFILE", "OVERRIDES", "POLICY", "WEIGHT", "NAME"], &rows)?;
    api::note_the_rest(&page, output);
    Ok(())
}

fn row(t: &model::Tenant) -> [String; 7] {
    [
        printable(&t.id),
        t.state.to_lowercase(),
        printable(&t.profile),
        match t.overrides.len() {
            0 => "-".to_owned(),
            n => n.to_string(),
        },
        t.policy.clone(),
        t.weight.to_string(),
        excerpt(&t.name, 40),
    ]
}
