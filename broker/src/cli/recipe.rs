//! `tollgate recipe`: what a broker can do.

use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde::Serialize;
use tollgate_client::{Encoding, Recipe, RecipeKind};

use super::{
    api, block_on, connect,
    exit::{Exit, Usage},
    format,
    output::{self, Output, excerpt, printable, say},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the recipes that a broker offers to this certificate
    #[command(after_help = "Examples:
  tollgate recipe list --certs certs/acme
  tollgate recipe list --certs certs/acme --output json | jq -r '.[].name'

KIND says where a recipe runs: embedded in the broker, or at a worker; WORKERS how many serve it now.
Nobody is lost while there are 0: its calls wait for a worker, up to the recipe's queue time-out.")]
    List {
        #[command(flatten)]
        connect: connect::Args,
        /// Gateways only: in whose name
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Show one recipe: its limits, its schema
    #[command(after_help = "Example:
  tollgate recipe show csv.profile --certs certs/acme")]
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        connect: connect::Args,
        /// Gateways only: in whose name
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Forget a recipe that workers made known and nobody serves any more
    #[command(after_help = "Examples:
  tollgate recipe forget resize
  tollgate recipe forget sha256 --tenant acme

A recipe stays known for a day after its last worker left: its calls wait for a worker, and one of the same
name of the platform, an upstream or the broker is not asked. This ends that.")]
    Forget {
        /// Its name
        name: String,
        /// The tenant whose own workers made it known; platform workers did without it
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten, next_help_heading = "The API")]
        api: api::Args,
    },
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::List { connect, tenant } => {
            list(&block_on(ask(&connect, tenant.as_deref()))?, output)?;
        }
        Command::Show { name, connect, tenant } => {
            let recipes = block_on(ask(&connect, tenant.as_deref()))?;
            let known = || recipes.iter().map(|r| &*r.name).collect::<Vec<_>>().join(", ");
            let recipe = recipes.iter().find(|r| *r.name == *name).ok_or_else(|| {
                Usage::error(format!("there is no recipe `{name}`; there are {}", known()))
            })?;
            show(recipe, output)?;
        }
        Command::Forget { name, tenant, api } => {
            return block_on(forget(&name, tenant.as_deref(), &api, output));
        }
    }
    Ok(Exit::Ok)
}

async fn forget(
    name: &str,
    tenant: Option<&str>,
    api: &api::Args,
    output: Output,
) -> anyhow::Result<Exit> {
    let api = api.client()?;
    let query: Vec<_> = tenant.map(|t| ("tenant", t)).into_iter().collect();
    api.send(api.request(Method::DELETE, &["recipes", name]).query(&query)).await?;
    match output {
        Output::Table => say!("{} is forgotten", printable(name))?,
        Output::Json => output::json(&serde_json::json!({ "forgotten": name }))?,
    }
    Ok(Exit::Ok)
}

async fn ask(connect: &connect::Args, tenant: Option<&str>) -> anyhow::Result<Vec<Recipe>> {
    let client = connect.client().await?;
    let mut questions = client.describe();
    if let Some(tenant) = tenant {
        questions = questions.tenant(tenant);
    }
    let mut recipes = questions.recipes().await?;
    recipes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    client.close().await;
    Ok(recipes)
}

/// A recipe as JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    kind: &'static str,
    encoding: &'static str,
    description: &'a str,
    timeout_ms: u64,
    queue_timeout_ms: u64,
    estimated_duration_ms: u64,
    concurrency_max: Option<u32>,
    blocking: bool,
    idempotent: bool,
    attempts_max: u32,
    payload_bytes_max: u64,
    result_bytes_max: u64,
    schema: Option<serde_json::Value>,
    /// Null for a recipe that is not workers'.
    workers: Option<u32>,
}

impl<'a> Line<'a> {
    fn of(r: &'a Recipe) -> Self {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Line {
            name: &r.name,
            kind: kind(r.kind),
            encoding: encoding(r.encoding),
            description: &r.description,
            timeout_ms: ms(r.timeout),
            queue_timeout_ms: ms(r.queue_timeout),
            estimated_duration_ms: ms(r.estimated_duration),
            concurrency_max: Some(r.concurrency_max).filter(|&n| n > 0),
            blocking: r.blocking,
            idempotent: r.idempotent,
            attempts_max: r.attempts_max,
            payload_bytes_max: r.payload_bytes_max,
            result_bytes_max: r.result_bytes_max,
            schema: r.schema.as_deref().and_then(|s| serde_json::from_str(s).ok()),
            workers: r.workers,
        }
    }
}

fn list(recipes: &[Recipe], output: Output) -> std::io::Result<()> {
    if output == Output::Json {
        return output::json(&recipes.iter().map(Line::of).collect::<Vec<_>>());
    }
    let rows: Vec<[String; 6]> = recipes
        .iter()
        .map(|r| {
            [
                printable(&r.name),
                kind(r.kind).to_owned(),
                r.workers.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                encoding(r.encoding).to_owned(),
                format::duration(r.timeout),
                excerpt(&r.description, output::width().saturating_sub(57).max(20)),
            ]
        })
        .collect();
    output::table(["RECIPE", "KIND", "WORKERS", "PAYLOAD", "TIME-OUT", "DESCRIPTION"], &rows)
}

fn show(r: &Recipe, output: Output) -> std::io::Result<()> {
    if output == Output::Json {
        return output::json(&Line::of(r));
    }
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let concurrency = match r.concurrency_max {
        0 => "no bound of its own".to_owned(),
        n => n.to_string(),
    };
    let runs = match r.workers {
        None => kind(r.kind).to_owned(),
        Some(0) => format!("{}, and none is connected: calls wait for one", kind(r.kind)),
        Some(n) => format!("{}, {n} connected", kind(r.kind)),
    };
    output::record(&[
        ("recipe", printable(&r.name)),
        ("description", printable(&r.description)),
        ("kind", runs),
        (
            "payload",
            format!("{}, at most {}", encoding(r.encoding), format::bytes(r.payload_bytes_max)),
        ),
        ("result", format!("at most {}", format::bytes(r.result_bytes_max))),
        ("time-out", format::duration(r.timeout)),
        ("waits at most", format::duration(r.queue_timeout)),
        ("usually takes", format::duration(r.estimated_duration)),
        ("runs at once", concurrency),
        ("blocks a core", yes(r.blocking)),
        ("idempotent", yes(r.idempotent)),
        ("attempts as a job", r.attempts_max.to_string()),
    ])?;
    if let Some(schema) = Line::of(r).schema {
        say!("schema")?;
        output::json(&schema)?;
    }
    Ok(())
}

fn kind(kind: RecipeKind) -> &'static str {
    match kind {
        RecipeKind::Embedded => "embedded",
        RecipeKind::Upstream => "upstream",
        RecipeKind::Worker => "worker",
    }
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Bytes => "bytes",
        Encoding::Json => "json",
        Encoding::Postcard => "postcard",
    }
}
