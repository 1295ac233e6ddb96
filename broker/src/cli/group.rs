//! `tollgate group`: who reads a topic together, over the HTTP API.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    api::{self, model},
    block_on,
    exit::{Exit, Usage},
    output::{self, Output, excerpt, printable, say},
    topic::Of,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List a tenant's consumer groups
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate group list
  tollgate group list --topic orders")]
    List {
        /// Only those of this topic
        #[arg(long, value_name = "NAME")]
        topic: Option<String>,
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten)]
        of: Of,
    },
    /// Show a consumer group: how far it is in each partition, and who has that
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate group show orders billing")]
    Show {
        #[command(flatten)]
        group: Group,
    },
    /// Move a consumer group to another position, while it has no members
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate group reset orders billing --to earliest
  tollgate group reset orders billing --partition 3 --offset 1200")]
    Reset(Reset),
    /// Forget a consumer group and its positions, while it has no members
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate group delete orders billing --yes")]
    Delete {
        #[command(flatten)]
        group: Group,
        /// It is meant: it cannot be undone
        #[arg(long, short)]
        yes: bool,
    },
}

/// Which group.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Group {
    /// Of which topic
    topic: String,
    /// The group
    group: String,
    #[command(flatten)]
    of: Of,
}

impl Group {
    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        self.of.path(&[&["topics", &self.topic, "groups", &self.group], rest].concat())
    }
}

/// What `group reset` takes.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "offset", "time"]))]
pub(super) struct Reset {
    #[command(flatten)]
    group: Group,
    /// To an end
    #[arg(long, value_name = "END", value_parser = ["earliest", "latest"])]
    to: Option<String>,
    /// To this offset
    #[arg(long, value_name = "OFFSET")]
    offset: Option<u64>,
    /// To the first message of this time or later: 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    time: Option<jiff::Timestamp>,
    /// Only in this partition
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::List { topic, pages, of } => {
                let query: Vec<_> = topic.into_iter().map(|topic| ("topic", topic)).collect();
                let page = of.client()?.list(&of.path(&["groups"]), &query, &pages).await?;
                list(&page, output)
            }
            Command::Show { group } => {
                show(&group.of.client()?.get(&group.path(&[]), &[]).await?, output)
            }
            Command::Reset(args) => {
                let api = args.group.of.client()?;
                let document = json!({
                    "to": args.to,
                    "offset": args.offset,
                    "time_unix_ms": args.time.map(|at| at.as_millisecond().max(0)),
                    "partition": args.partition,
                });
                let path = args.group.path(&["reset"]);
                show(&api.send(api.request(Method::POST, &path).json(&document)).await?, output)
            }
            Command::Delete { group, yes } => {
                if !yes {
                    let what = "nothing was done: a group is forgotten with its positions; --yes \
                                says that this is meant";
                    return Err(Usage::error(what));
                }
                group.of.delete(&group.path(&[]), &group.group, output).await
            }
        }
    })
}

fn list(page: &Value, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        output::json(page)?;
        return Ok(Exit::Ok);
    }
    let row = |g: &model::Group| {
        let topic = excerpt(&g.topic, 40);
        [topic, excerpt(&g.name, 40), g.members.to_string(), g.lag.to_string()]
    };
    let rows: Vec<_> = model::items::<model::Group>(page)?.iter().map(row).collect();
    output::table(["TOPIC", "GROUP", "MEMBERS", "LAG"], &rows)?;
    api::note_the_rest(page, output);
    Ok(Exit::Ok)
}

fn show(document: &Value, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        output::json(document)?;
        return Ok(Exit::Ok);
    }
    let group: model::Group = model::read(document)?;
    output::record(&[
        ("group", printable(&group.name)),
        ("topic", printable(&group.topic)),
        ("members", group.members.to_string()),
        ("lag", group.lag.to_string()),
    ])?;
    say!("")?;
    let row = |p: &model::GroupPartition| {
        let member = p.member.map_or_else(|| "-".to_owned(), |member| member.to_string());
        let numbers = [u64::from(p.partition), p.position, p.next_offset, p.in_flight];
        let [partition, position, next, in_flight] = numbers.map(|n| n.to_string());
        [partition, position, next, in_flight, member]
    };
    let rows: Vec<_> = group.partitions.iter().map(row).collect();
    output::table(["PARTITION", "POSITION", "END", "IN FLIGHT", "MEMBER"], &rows)?;
    Ok(Exit::Ok)
}
