//! What is told of one tenant, or of all: what `tenant usage` and `tenant stats` have in common.

use serde_json::Value;

use crate::cli::{
    api,
    output::{self, Output},
};

/// Whose figures.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// Its id [default: all tenants]
    id: Option<String>,
    #[command(flatten)]
    pages: api::Pages,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

impl Of {
    /// Asks for the figures of this name, and shows them as one tenant's or as a table of all.
    pub(super) async fn show(
        &self,
        name: &str,
        output: Output,
        one: fn(&Value) -> anyhow::Result<()>,
        all: fn(&Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let api = self.api.client()?;
        let document = match &self.id {
            Some(id) => api.get(&["tenants", id, name], &[]).await?,
            None => api.list(&[name], &[], &self.pages).await?,
        };
        if output == Output::Json {
            return Ok(output::json(&document)?);
        }
        if self.id.is_some() {
            return one(&document);
        }
        all(&document)?;
        api::note_the_rest(&document, output);
        Ok(())
    }
}
