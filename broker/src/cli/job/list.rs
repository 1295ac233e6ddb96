//! `tollgate job list`: which jobs a tenant has, and how many.

use std::time::SystemTime;

use super::{Filter, Of};
use crate::cli::{
    api::{self, model},
    exit::Exit,
    format,
    output::{self, Output, excerpt, printable, say},
};

/// What `job list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job list
  tollgate job list --state dead
  tollgate job list --state queued,retrying --recipe resize --all
  tollgate job list --output json | jq '.items[] | {id, state, attempts}'

The oldest first. A job is an item that outlives its connection: of a durable batch, with an
idempotency key or a start to come, or of a recipe that takes long. Those that are over are kept for a
while (jobs.job_ttl_ms); dead ones, whose attempts are used up, until they are purged.")]
pub(crate) struct Args {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    pages: api::Pages,
    #[command(flatten)]
    of: Of,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let api = args.of.client()?;
    let page = api.list(&args.of.path(&[]), &args.filter.query(), &args.pages).await?;
    if output == Output::Json {
        output::json(&page)?;
        return Ok(Exit::Ok);
    }
    let stats = model::read(&api.get(&args.of.path(&["stats"]), &[]).await?)?;
    say!("{}", headline(&stats))?;
    let now = SystemTime::now();
    let rows: Vec<_> = model::items::<model::Job>(&page)?.iter().map(|j| row(j, now)).collect();
    output::table(["ID", "STATE", "RECIPE", "ATTEMPTS", "CREATED", "LAST"], &rows)?;
    api::note_the_rest(&page, output);
    Ok(Exit::Ok)
}

/// All jobs of the tenant in a line.
fn headline(s: &model::JobStats) -> String {
    let counts = [
        (s.queued, "queued"),
        (s.running, "running"),
        (s.retrying, "retrying"),
        (s.succeeded, "succeeded"),
        (s.failed, "failed"),
        (s.cancelled, "cancelled"),
        (s.dead, "dead"),
    ];
    let there = counts.iter().filter(|(n, _)| *n > 0).map(|(n, state)| format!("{n} {state}"));
    let there: Vec<_> = there.collect();
    if there.is_empty() {
        return "no jobs".to_owned();
    }
    let jobs = format::count(counts.iter().map(|(n, _)| n).sum(), "job");
    format!("{jobs}: {}; {}", there.join(", "), format::bytes(s.bytes))
}

fn row(job: &model::Job, now: SystemTime) -> [String; 6] {
    let last = match (&job.due_at, job.errors.last(), &job.progress) {
        (_, Some(error), _) => format!("{} {}", error.code, error.message),
        (Some(due), None, _) => format!("starts {}", format::moment(due, now)),
        (None, None, Some(p)) => format!("{} {}", p.so_far(), p.message),
        (None, None, None) => String::new(),
    };
    [
        printable(&job.id),
        printable(&job.state),
        excerpt(&job.recipe, 32),
        match job.attempts_max {
            0 => job.attempts.to_string(),
            max => format!("{} of {max}", job.attempts),
        },
        format::ago(&job.created_at, now),
        excerpt(&last, 60),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_counts_what_is_there() {
        let mut stats = model::JobStats::default();
        assert_eq!(headline(&stats), "no jobs");
        (stats.queued, stats.dead, stats.bytes) = (2, 1, 512);
        assert_eq!(headline(&stats), "3 jobs: 2 queued, 1 dead; 512 B");
    }
}
