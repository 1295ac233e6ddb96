//! `tollgate job cancel`, `replay` and `purge`: one job, or all that a filter means.
//!
//! What is done to many is asked about first: nobody means every job by leaving a word out.

use std::io::{self, IsTerminal, Write};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Filter, Of};
use crate::cli::{
    api::Api,
    exit::{Exit, Usage},
    format,
    output::{self, Output, printable, say},
};

/// Which jobs: one by its id, or many.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Which {
    /// The job's id
    #[arg(conflicts_with_all = ["state", "recipe", "batch", "every"])]
    id: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every job of the tenant
    #[arg(long = "all", conflicts_with_all = ["state", "recipe", "batch"])]
    every: bool,
    /// Do not ask; needed for many jobs where there is no terminal
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    of: Of,
}

/// What `job cancel` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job cancel 0198c0de-0000-7000-8000-000000000000
  tollgate job cancel --recipe resize --pending --yes
  tollgate job cancel --all

A job that is cancelled ends as `cancelled`, and can be replayed. Cancelling many asks first; where
there is no terminal to ask on, --yes must be given.")]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Which,
    /// Only what does not run now
    #[arg(long)]
    pending: bool,
}

/// What `job replay` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job replay 0198c0de-0000-7000-8000-000000000000
  tollgate job replay --state dead --recipe resize --yes

A job runs again from its first attempt, with the payload that it had. Those that succeeded do not.")]
pub(crate) struct Replay {
    #[command(flatten)]
    which: Which,
}

/// What `job purge` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job purge 0198c0de-0000-7000-8000-000000000000
  tollgate job purge --state succeeded,failed --yes

Only what is over is forgotten: payload, result and key. It cannot be undone.")]
pub(crate) struct Purge {
    #[command(flatten)]
    which: Which,
}

pub(super) async fn cancel(args: &Cancel, output: Output) -> anyhow::Result<Exit> {
    let api = args.which.of.client()?;
    let scope = if args.pending { "pending" } else { "all" };
    if let Some(id) = &args.which.id {
        let path = args.which.of.path(&[id, "cancel"]);
        let request = api.request(Method::POST, &path).query(&[("scope", scope)]);
        return told("cancelled", &api.send(request).await?, output);
    }
    let mut filter = args.which.filter.document();
    filter["scope"] = scope.into();
    args.which.many(&api, ("cancel", "cancelled"), &filter, output).await
}

pub(super) async fn replay(args: &Replay, output: Output) -> anyhow::Result<Exit> {
    let api = args.which.of.client()?;
    if let Some(id) = &args.which.id {
        let path = args.which.of.path(&[id, "replay"]);
        return told("replayed", &api.send(api.request(Method::POST, &path)).await?, output);
    }
    let filter = args.which.filter.document();
    args.which.many(&api, ("replay", "replayed"), &filter, output).await
}

pub(super) async fn purge(args: &Purge, output: Output) -> anyhow::Result<Exit> {
    let api = args.which.of.client()?;
    if let Some(id) = &args.which.id {
        let path = args.which.of.path(&[id]);
        api.send(api.request(Method::DELETE, &path)).await?;
        match output {
            Output::Table => say!("purged {}", printable(id))?,
            Output::Json => output::json(&json!({ "purged": id }))?,
        }
        return Ok(Exit::Ok);
    }
    let filter = args.which.filter.document();
    args.which.many(&api, ("purge", "purged"), &filter, output).await
}

impl Which {
    async fn many(
        &self,
        api: &Api,
        (verb, done): (&str, &str),
        filter: &Value,
        output: Output,
    ) -> anyhow::Result<Exit> {
        if self.filter.is_empty() && !self.every {
            let what = "say which jobs are meant: an id, --state, --recipe, --batch, or --all";
            return Err(Usage::error(what));
        }
        if !self.yes {
            if !io::stdin().is_terminal() {
                let what = "nothing was done: there is nobody to ask; a script says --yes";
                return Err(Usage::error(what));
            }
            if !confirmed(verb, &self.filter.words(), &self.of.tenant)? {
                return Err(Usage::error("nothing was done"));
            }
        }
        let request = api.request(Method::POST, &self.of.path(&[verb])).json(filter);
        let answer = api.send(request).await?;
        match output {
            Output::Table => {
                let count = answer["count"].as_u64().unwrap_or_default();
                say!("{done} {}", format::count(count, "job"))?;
            }
            Output::Json => output::json(&answer)?,
        }
        Ok(Exit::Ok)
    }
}

fn confirmed(verb: &str, which: &str, tenant: &str) -> io::Result<bool> {
    let mut err = io::stderr().lock();
    write!(err, "{verb} {} of {}? Type yes to go on: ", printable(which), printable(tenant))?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

fn told(done: &str, job: &Value, output: Output) -> anyhow::Result<Exit> {
    match output {
        Output::Table => {
            let text = |key: &str| printable(job[key].as_str().unwrap_or_default());
            say!("{done} {}: it is {}", text("id"), text("state"))?;
        }
        Output::Json => output::json(job)?,
    }
    Ok(Exit::Ok)
}
