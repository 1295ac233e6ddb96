//! `tollgate tenant update`: what is given changes, what is not stays as it is.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{at_revision, settings::Settings, told};
use crate::cli::{api, exit::Usage, output::Output};

/// What `tenant update` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate tenant update acme --profile enterprise
  tollgate tenant update acme --quota requests_per_second=5000 --quota topics=inherit
  tollgate tenant update acme --weight 4 --metadata plan=gold --unset-metadata trial_until
  tollgate tenant update acme --if-revision 7 --policy reject

Acts at once, on open connections too. --gateway replaces the whole list; --metadata adds to what
there is; a quota set to `inherit` is the profile's again.")]
pub(crate) struct Args {
    /// Its id
    id: String,
    #[command(flatten)]
    settings: Settings,
    /// No gateway may act for it any more
    #[arg(long, conflicts_with = "gateways")]
    no_gateways: bool,
    /// Metadata to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    unset_metadata: Vec<String>,
    /// Only if it is still of this revision: nobody else changed it meanwhile
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

impl Args {
    fn document(&self) -> anyhow::Result<Map<String, Value>> {
        let mut document = self.settings.document()?;
        if self.no_gateways {
            document.insert("gateways".to_owned(), json!([]));
        }
        if !self.unset_metadata.is_empty() {
            let metadata = document.entry("metadata").or_insert_with(|| json!({}));
            for key in &self.unset_metadata {
                metadata[key] = Value::Null;
            }
        }
        if document.is_empty() {
            return Err(Usage::error("nothing to change: see --help for what can be"));
        }
        Ok(document)
    }
}

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let document = args.document()?;
    let api = args.api.client()?;
    let request = api.request(Method::PATCH, &["tenants", &args.id]).json(&document);
    told("updated", &api.send(at_revision(request, args.if_revision)).await?, output)
}
