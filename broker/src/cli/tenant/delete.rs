//! `tollgate tenant delete`: a tenant with everything it has.

use std::io::{self, IsTerminal, Write};

use reqwest::Method;
use serde_json::json;

use super::at_revision;
use crate::cli::{
    api,
    exit::Usage,
    output::{self, Output, printable, say},
};

/// What `tenant delete` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant suspend acme && tollgate tenant delete acme --yes
  tollgate tenant delete acme --force --yes

Without --force only a tenant that is suspended and idle is deleted. With it, what runs has five
seconds to end; then its connections are closed and its data is dropped.

Asks for the id once more. Where there is no terminal to ask on, --yes must be given: without it the
command ends with 2 and deletes nothing. A tenant that is created later under the same id is let in
with the certificates of this one: revoke them first (tollgate revocation add).")]
pub(crate) struct Args {
    /// Its id
    id: String,
    /// Even when it is active, or something of it runs
    #[arg(long)]
    force: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    yes: bool,
    /// Only if it is still of this revision: nobody else changed it meanwhile
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let api = args.api.client()?;
    if !args.yes {
        if !io::stdin().is_terminal() {
            let what = "nothing was deleted: there is nobody to ask; a script says --yes";
            return Err(Usage::error(what));
        }
        if !confirmed(&args.id)? {
            return Err(Usage::error("nothing was deleted"));
        }
    }
    let mut request = api.request(Method::DELETE, &["tenants", &args.id]);
    if args.force {
        request = request.query(&[("force", "true")]);
    }
    api.send(at_revision(request, args.if_revision)).await?;
    match output {
        Output::Table => say!("deleted {}", printable(&args.id))?,
        Output::Json => output::json(&json!({ "id": args.id, "state": "Deleted" }))?,
    }
    Ok(())
}

fn confirmed(id: &str) -> io::Result<bool> {
    let id = printable(id);
    let mut err = io::stderr().lock();
    write!(err, "Delete {id}, and all it stored? Type its id to go on: ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == id)
}
