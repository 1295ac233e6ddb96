//! `tollgate tenant create`: a tenant that was not there.

use reqwest::Method;
use serde_json::Value;

use super::{settings::Settings, told};
use crate::cli::{
    api,
    exit::Usage,
    output::{Output, say},
};

/// What `tenant create` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant create acme
  tollgate tenant create acme --name 'Acme Ltd' --profile pro --metadata contact=ops@acme.example
  tollgate tenant create globex --policy reject --quota requests_per_second=1000 \\
      --quota bytes_per_second=1MiB --quota topics=unlimited
  tollgate tenant create --output json | jq -r .id       The broker chooses an id

What is left out is the profile's, or the broker's default. It is kept durably before this ends.")]
pub(crate) struct Args {
    /// Its id: small letters, digits and dashes, at most 63 [default: the broker chooses one]
    id: Option<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    if let Some(quota) = args.settings.inherited() {
        return Err(Usage::error(format!(
            "--quota {quota}=inherit: a new tenant has the profile's"
        )));
    }
    let mut document = args.settings.document()?;
    document.extend(args.id.as_ref().map(|id| ("id".to_owned(), Value::from(id.as_str()))));
    let api = args.api.client()?;
    let tenant = api.send(api.request(Method::POST, &["tenants"]).json(&document)).await?;
    told("created", &tenant, output)?;
    if let (Output::Table, Some(id)) = (output, tenant["id"].as_str()) {
        say!("  let a client in with: tollgate cert issue --tenant {id} --out certs/{id}")?;
    }
    Ok(())
}
