//! `tollgate topic`: a tenant's durable logs, over the HTTP API.

use std::time::{Duration, SystemTime};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    api::{self, Api, model},
    block_on,
    exit::{Exit, Usage},
    format::{self, parse_duration},
    output::{self, Output, excerpt, printable, say},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List a tenant's topics
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate topic list
  tollgate topic list --output json | jq -r '.items[].name'

Dead letters are topics, too: those of `orders` are in `orders.dead`.")]
    List {
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten)]
        of: Of,
    },
    /// Make a topic
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate topic create orders
  tollgate topic create orders --partitions 8 --retain-for 24h --retain-bytes 1073741824

A topic has as many partitions for good: messages of one key are in one of them, in their order, and
as many members of a group as there are partitions can share the work.")]
    Create(Create),
    /// Show a topic: what each of its partitions holds
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate topic show orders")]
    Show {
        /// The topic
        name: String,
        #[command(flatten)]
        of: Of,
    },
    /// Change how long a topic's messages are kept
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate topic update orders --retain-for 12h
  tollgate topic update orders --retain-bytes 100000000

What is not given is not bounded any more, but by the tenant's quotas.")]
    Update(Update),
    /// Delete a topic, its messages, its groups and its dead letters
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate topic delete orders --yes")]
    Delete {
        /// The topic
        name: String,
        /// It is meant: it cannot be undone
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        of: Of,
    },
}

/// Whose topics, and where they are.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Of {
    /// Whose topics
    #[arg(long, value_name = "ID", env = "TOLLGATE_TENANT")]
    tenant: String,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

impl Of {
    pub(super) fn client(&self) -> anyhow::Result<Api> {
        self.api.client()
    }

    /// A path below the tenant.
    pub(super) fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["tenants", &self.tenant], rest].concat()
    }

    /// Deletes what is at a path, and says so.
    pub(super) async fn delete(
        &self,
        path: &[&str],
        name: &str,
        output: Output,
    ) -> anyhow::Result<Exit> {
        let api = self.client()?;
        api.send(api.request(Method::DELETE, path)).await?;
        match output {
            Output::Table => say!("deleted {}", printable(name))?,
            Output::Json => output::json(&json!({ "deleted": name }))?,
        }
        Ok(Exit::Ok)
    }
}

/// How long messages are kept.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Retention {
    /// For how long: 90s, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retain_for: Option<Duration>,
    /// The oldest messages of a partition go while it holds more bytes than this
    /// (10MiB; k, m, g and t are short for KiB … TiB)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    retain_bytes: Option<u64>,
}

fn bytes(text: &str) -> Result<u64, String> {
    format::parse_amount(text).ok_or_else(|| "expected bytes, as 1000000 or 10MiB".to_owned())
}

impl Retention {
    fn document(&self) -> Value {
        let age_ms = self.retain_for.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        json!({ "age_ms": age_ms, "bytes": self.retain_bytes })
    }
}

/// What `topic create` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Its name: lower case letters, digits, `.`, `_` and `-`
    name: String,
    /// How many partitions
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    #[command(flatten)]
    retention: Retention,
    #[command(flatten)]
    of: Of,
}

/// What `topic update` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    /// The topic
    name: String,
    #[command(flatten)]
    retention: Retention,
    #[command(flatten)]
    of: Of,
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::List { pages, of } => list(&pages, &of, output).await,
            Command::Create(args) => create(&args, output).await,
            Command::Show { name, of } => {
                let topic = of.client()?.get(&of.path(&["topics", &name]), &[]).await?;
                show(&topic, output)
            }
            Command::Update(args) => update(&args, output).await,
            Command::Delete { name, yes, of } => delete(&name, yes, &of, output).await,
        }
    })
}

async fn list(pages: &api::Pages, of: &Of, output: Output) -> anyhow::Result<Exit> {
    let page = of.client()?.list(&of.path(&["topics"]), &[], pages).await?;
    if output == Output::Json {
        output::json(&page)?;
        return Ok(Exit::Ok);
    }
    let now = SystemTime::now();
    let row = |t: &model::Topic| {
        [
            excerpt(&t.name, 48),
            t.partitions.len().to_string(),
            t.messages.to_string(),
            format::bytes(t.bytes),
            kept(&t.retention),
            t.groups.to_string(),
            format::ago(&t.created_at, now),
        ]
    };
    let rows: Vec<_> = model::items::<model::Topic>(&page)?.iter().map(row).collect();
    output::table(
        ["TOPIC", "PARTITIONS", "MESSAGES", "BYTES", "KEPT", "GROUPS", "CREATED"],
        &rows,
    )?;
    api::note_the_rest(&page, output);
    Ok(Exit::Ok)
}

/// How long messages are kept, in words.
fn kept(retention: &model::Retention) -> String {
    let age = retention.age_ms.map(|ms| format::duration(Duration::from_millis(ms)));
    let bytes = retention.bytes.map(|n| format!("{} a partition", format::bytes(n)));
    let both: Vec<String> = age.into_iter().chain(bytes).collect();
    if both.is_empty() { "as the quota says".to_owned() } else { both.join(", ") }
}

async fn create(args: &Create, output: Output) -> anyhow::Result<Exit> {
    let api = args.of.client()?;
    let document = json!({
        "name": args.name,
        "partitions": args.partitions,
        "retention": args.retention.document(),
    });
    let request = api.request(Method::POST, &args.of.path(&["topics"])).json(&document);
    let topic = api.send(request).await?;
    match output {
        Output::Table => say!("created {}", printable(&args.name))?,
        Output::Json => output::json(&topic)?,
    }
    Ok(Exit::Ok)
}

async fn update(args: &Update, output: Output) -> anyhow::Result<Exit> {
    let api = args.of.client()?;
    let document = json!({ "retention": args.retention.document() });
    let path = args.of.path(&["topics", &args.name]);
    let topic = api.send(api.request(Method::PATCH, &path).json(&document)).await?;
    show(&topic, output)
}

fn show(document: &Value, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        output::json(document)?;
        return Ok(Exit::Ok);
    }
    let topic: model::Topic = model::read(document)?;
    output::record(&[
        ("topic", printable(&topic.name)),
        ("messages", topic.messages.to_string()),
        ("bytes", format::bytes(topic.bytes)),
        ("kept", kept(&topic.retention)),
        ("groups", topic.groups.to_string()),
        ("created", format::ago(&topic.created_at, SystemTime::now())),
    ])?;
    say!("")?;
    let row = |p: &model::Partition| {
        let offsets = [p.partition, p.first_offset, p.next_offset].map(|n| n.to_string());
        let [partition, first, next] = offsets;
        [partition, first, next, format::bytes(p.bytes)]
    };
    let rows: Vec<_> = topic.partitions.iter().map(row).collect();
    output::table(["PARTITION", "FIRST", "NEXT", "BYTES"], &rows)?;
    Ok(Exit::Ok)
}

async fn delete(name: &str, yes: bool, of: &Of, output: Output) -> anyhow::Result<Exit> {
    if !yes {
        let what = format!(
            "nothing was done: {name} is deleted with its messages, groups and dead letters; \
             --yes says that this is meant"
        );
        return Err(Usage::error(what));
    }
    of.delete(&of.path(&["topics", name]), name, output).await
}
