//! `tollgate job`: work that outlives its connection, over the HTTP API.

use clap::{Subcommand, builder::PossibleValuesParser};
use serde_json::{Value, json};

use super::{
    api::{self, Api, model},
    block_on,
    exit::Exit,
    output::Output,
};

mod act;
mod list;
mod show;
mod watch;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List a tenant's jobs
    List(Box<list::Args>),
    /// Show a job: where it stands, and what each of its attempts failed with
    Show(Box<show::Args>),
    /// Watch a job until it is over, and print its result
    Watch(Box<watch::Args>),
    /// Cancel jobs: one, or all that a filter means
    Cancel(Box<act::Cancel>),
    /// Run jobs again that failed, were cancelled or are dead
    Replay(Box<act::Replay>),
    /// Forget jobs that are over, with their payloads and results
    Purge(Box<act::Purge>),
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::List(args) => list::run(&args, output).await,
            Command::Show(args) => show::run(&args, output).await,
            Command::Watch(args) => watch::run(&args, output).await,
            Command::Cancel(args) => act::cancel(&args, output).await,
            Command::Replay(args) => act::replay(&args, output).await,
            Command::Purge(args) => act::purge(&args, output).await,
        }
    })
}

/// Whose jobs, and where they are.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Of {
    /// Whose jobs
    #[arg(long, value_name = "ID", env = "TOLLGATE_TENANT")]
    tenant: String,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

impl Of {
    fn client(&self) -> anyhow::Result<Api> {
        self.api.client()
    }

    /// The path of the tenant's jobs, or of one of them.
    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["tenants", &self.tenant, "jobs"], rest].concat()
    }
}

/// Which jobs are meant.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Filter {
    /// Only those in this state; may be repeated, or several with commas between
    #[arg(long, value_name = "STATE", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(model::JOB_STATES))]
    state: Vec<String>,
    /// Only those of this recipe
    #[arg(long, value_name = "NAME")]
    recipe: Option<String>,
    /// Only those of this batch
    #[arg(long, value_name = "ID")]
    batch: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.state.is_empty() && self.recipe.is_none() && self.batch.is_none()
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let states = (!self.state.is_empty()).then(|| ("state", self.state.join(",")));
        let recipe = self.recipe.clone().map(|recipe| ("recipe", recipe));
        let batch = self.batch.clone().map(|batch| ("batch", batch));
        [states, recipe, batch].into_iter().flatten().collect()
    }

    /// As a body: what is not given does not matter.
    fn document(&self) -> Value {
        let mut document = json!({});
        if self.is_empty() {
            document["all"] = true.into();
        }
        if !self.state.is_empty() {
            document["state"] = self.state.as_slice().into();
        }
        for (key, value) in [("recipe", &self.recipe), ("batch", &self.batch)] {
            if let Some(value) = value {
                document[key] = value.as_str().into();
            }
        }
        document
    }

    /// Which these are, in words.
    fn words(&self) -> String {
        let mut words = match self.state.is_empty() {
            true => "every job".to_owned(),
            false => format!("every {} job", self.state.join(" or ")),
        };
        if let Some(recipe) = &self.recipe {
            words += &format!(" of {recipe}");
        }
        if let Some(batch) = &self.batch {
            words += &format!(" of the batch {batch}");
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_says_what_it_means() {
        let mut filter = Filter { state: Vec::new(), recipe: None, batch: None };
        assert_eq!(filter.document(), json!({ "all": true }));
        assert_eq!(filter.words(), "every job");
        filter.state = vec!["dead".to_owned(), "failed".to_owned()];
        filter.recipe = Some("resize".to_owned());
        assert_eq!(filter.document(), json!({ "state": ["dead", "failed"], "recipe": "resize" }));
        assert_eq!(filter.words(), "every dead or failed job of resize");
        assert_eq!(filter.query()[0], ("state", "dead,failed".to_owned()));
    }
}
