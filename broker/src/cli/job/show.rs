//! `tollgate job show`: one job, and what its attempts failed with.

use std::time::SystemTime;

use super::Of;
use crate::cli::{
    api::model,
    exit::Exit,
    format,
    output::{self, Output, printable, say},
};

/// What `job show` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job show 0198c0de-0000-7000-8000-000000000000
  tollgate job show 0198c0de-0000-7000-8000-000000000000 --output json | jq '.errors[].message'

Its result: tollgate job watch, which ends at once when the job is over.")]
pub(crate) struct Args {
    /// Its id
    id: String,
    #[command(flatten)]
    of: Of,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let job = args.of.client()?.get(&args.of.path(&[&args.id]), &[]).await?;
    if output == Output::Json {
        output::json(&job)?;
        return Ok(Exit::Ok);
    }
    let (job, now) = (model::read::<model::Job>(&job)?, SystemTime::now());
    let at = |moment: &Option<String>| {
        moment.as_deref().map_or_else(|| "-".to_owned(), |m| format::moment(m, now))
    };
    let of = match job.attempts_max {
        0 => String::new(),
        max => format!(" of {max}"),
    };
    output::record(&[
        ("id", printable(&job.id)),
        ("state", printable(&job.state)),
        ("recipe", printable(&job.recipe)),
        ("batch", format!("{}, item {}", printable(&job.batch_id), job.item_id)),
        ("attempts", format!("{}{of}", job.attempts)),
        ("priority", job.priority.to_string()),
        ("payload", format::bytes(job.payload_bytes)),
        ("result", format::bytes(job.result_bytes)),
        ("created", format::ago(&job.created_at, now)),
        ("started", at(&job.started_at)),
        ("due", at(&job.due_at)),
        ("ended", at(&job.ended_at)),
        ("forgotten", at(&job.expires_at)),
        ("code", job.code.as_deref().map_or_else(|| "-".to_owned(), printable)),
        ("key", job.idempotency_key.as_deref().map_or_else(|| "-".to_owned(), printable)),
    ])?;
    if let Some(p) = &job.progress {
        say!("progress   {} {}", p.so_far(), printable(&p.message))?;
    }
    if !job.errors.is_empty() {
        say!("")?;
        let row = |e: &model::JobError| {
            let when = format::ago(&e.at, now);
            [e.attempt.to_string(), when, printable(&e.code), printable(&e.message)]
        };
        let rows: Vec<_> = job.errors.iter().map(row).collect();
        output::table(["ATTEMPT", "ENDED", "CODE", "BECAUSE"], &rows)?;
    }
    Ok(Exit::Ok)
}
