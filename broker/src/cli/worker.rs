//! `tollgate worker`: who runs recipes for a broker.

use std::time::SystemTime;

use clap::Subcommand;

use super::{
    api::{self, model},
    block_on,
    exit::Exit,
    format,
    output::{self, Output, excerpt, printable, say},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the workers that are connected
    #[command(after_help = "Examples:
  tollgate worker list
  tollgate worker list --recipe resize
  tollgate worker list --tenant acme --output json | jq '.items[] | {identity, leased, credit}'
  tollgate worker list --all --output json | jq .total

A worker is a service that runs recipes for the broker: for every tenant with a certificate of the
platform, for one with a certificate of that tenant. LEASED is how many calls it has, of CREDIT that
it takes at once. Items that wait while every worker is full need more workers, or more credit; items
whose recipe nobody serves wait until the recipe's queue time-out.

To start one:
  tollgate cert issue --role platform-worker --name resize-1 --out certs/resize-1
  tollgate cert issue --role worker --tenant acme --out certs/acme-worker")]
    List {
        /// Only the workers of this tenant's own
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only those that serve this recipe
        #[arg(long, value_name = "NAME")]
        recipe: Option<String>,
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    let Command::List { tenant, recipe, pages, api } = command;
    let tenant = tenant.map(|t| ("tenant", t)).into_iter();
    let query: Vec<_> = tenant.chain(recipe.map(|r| ("recipe", r))).collect();
    let page = block_on(async { Ok(api.client()?.list(&["workers"], &query, &pages).await?) })?;
    if output == Output::Json {
        output::json(&page)?;
        return Ok(Exit::Ok);
    }
    say!("{}", headline(&model::read(&page["total"])?))?;
    let now = SystemTime::now();
    let rows: Vec<[String; 8]> =
        model::items::<model::Worker>(&page)?.iter().map(|w| row(w, now)).collect();
    output::table(HEADER, &rows)?;
    api::note_the_rest(&page, output);
    Ok(Exit::Ok)
}

/// All workers in a line.
pub(super) fn headline(total: &model::WorkerTotal) -> String {
    let unserved = match total.waiting_unserved {
        0 => String::new(),
        n => format!(", {n} of them for recipes that nobody serves"),
    };
    format!(
        "{}, {} of {} calls taken, {} waiting{unserved}",
        format::count(total.workers, "worker"),
        total.leased,
        total.credit,
        format::count(total.waiting, "item"),
    )
}

const HEADER: [&str; 8] =
    ["ID", "IDENTITY", "ADDRESS", "SINCE", "LEASED", "CREDIT", "ANSWERED", "RECIPES"];

fn row(w: &model::Worker, now: SystemTime) -> [String; 8] {
    let recipes = match w.draining {
        true => format!("(draining) {}", w.recipes.join(" ")),
        false => w.recipes.join(" "),
    };
    let answered = match w.failed {
        0 => w.answered.to_string(),
        failed => format!("{}, {failed} failed", w.answered + failed),
    };
    [
        model::id(&w.id),
        printable(&w.identity),
        w.address.as_deref().map_or_else(|| "-".to_owned(), printable),
        format::ago(&w.connected_at, now),
        w.leased.to_string(),
        w.credit.to_string(),
        answered,
        excerpt(&recipes, RECIPES_WIDTH),
    ]
}

/// Columns for the recipes of a worker, which may be 256.
const RECIPES_WIDTH: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_tells_what_nobody_serves() {
        let mut total = model::WorkerTotal {
            workers: 1,
            credit: 8,
            leased: 3,
            waiting: 5,
            waiting_unserved: 0,
        };
        assert_eq!(headline(&total), "1 worker, 3 of 8 calls taken, 5 items waiting");
        total.waiting_unserved = 2;
        assert!(headline(&total).ends_with("waiting, 2 of them for recipes that nobody serves"));
    }
}
