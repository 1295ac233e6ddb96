//! `tollgate top`: which tenants load a broker, as it changes.
//!
//! Built on the public API alone: two looks at usage and statistics, and the difference between them.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use super::{
    api::{self, Api},
    block_on,
    exit::Exit,
    format::parse_duration,
    output::{self, Output},
};

mod live;
mod print;
mod rows;
mod sample;
mod screen;
mod view;

use self::{
    rows::{Picture, Sort},
    sample::Sample,
};

/// What `top` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate top
  tollgate top --sort quota --tenant globex
  tollgate top --once                                  One table, as for a script or a note
  tollgate top --output json | jq -c '.tenants[0]'     One object an interval

Keys: s and S choose the column to sort by, r turns the order, / filters by tenant, p pauses, arrows
and page keys scroll, q quits. Rates are what changed between two looks; without a terminal one table
is printed. Once there are workers, or items wait for one, a line tells of all of them.")]
pub(super) struct Args {
    /// The time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// What to sort by, the largest first
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only tenants with this in their id
    #[arg(long, value_name = "TEXT", default_value = "")]
    tenant: String,
    /// Look twice, print once, and end
    #[arg(long)]
    once: bool,
    /// With --output json: end after so many objects
    #[arg(long, value_name = "N", conflicts_with = "once")]
    count: Option<u64>,
    /// Tenants to ask for: those in use, then others by id
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    tenants_max: usize,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let api = args.api.client()?;
    let terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    match output {
        Output::Json => block_on(objects(args, &api)),
        Output::Table if args.once || !terminal => block_on(once(args, &api)),
        Output::Table => block_on(live::run(args, &api)),
    }?;
    Ok(Exit::Ok)
}

/// Two looks, and what happened between them.
async fn once(args: &Args, api: &Api) -> anyhow::Result<()> {
    let before = Sample::take(api, args.tenants_max).await?;
    tokio::time::sleep(args.interval).await;
    let now = Sample::take(api, args.tenants_max).await?;
    Ok(print::table(&picture(args, Some(&before), &now))?)
}

/// An object an interval, until there are enough.
async fn objects(args: &Args, api: &Api) -> anyhow::Result<()> {
    let mut left = if args.once { 1 } else { args.count.unwrap_or(u64::MAX) };
    let mut before = Sample::take(api, args.tenants_max).await?;
    while left > 0 {
        wait(args.interval, before.at).await;
        let now = Sample::take(api, args.tenants_max).await?;
        output::json_line(&print::document(&picture(args, Some(&before), &now)))?;
        before = now;
        left -= 1;
    }
    Ok(())
}

fn picture(args: &Args, before: Option<&Sample>, now: &Sample) -> Picture {
    let mut picture = Picture::between(before, now);
    picture.arrange(args.sort, false, &args.tenant);
    picture
}

/// Waits until an interval has passed since a look.
async fn wait(interval: Duration, since: Instant) {
    tokio::time::sleep_until((since + interval).into()).await;
}
