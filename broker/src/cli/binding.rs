//! `tollgate binding`: topics that the broker reads itself, over the HTTP API.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    api::{self, model},
    block_on,
    exit::{Exit, Usage},
    format,
    output::{self, Output, excerpt, printable, say},
    topic::Of,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List a tenant's bindings
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate binding list
  tollgate binding list --topic orders")]
    List {
        /// Only those of this topic
        #[arg(long, value_name = "NAME")]
        topic: Option<String>,
        #[command(flatten)]
        pages: api::Pages,
        #[command(flatten)]
        of: Of,
    },
    /// Bind a topic to a recipe: the broker runs it for each message
    #[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate binding create orders invoices --recipe invoice.make
  tollgate binding create orders digests --recipe sha256 --from latest

The recipe need not be there yet. As many messages run at once as the tenant has workers:
  tollgate tenant update acme --workers 10")]
    Create(Create),
    /// Show a binding: whether it is at work, and what is left for it
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate binding show orders invoices")]
    Show {
        #[command(flatten)]
        binding: Binding,
    },
    /// Take a binding back; its consumer group stays
    #[command(after_help = "Example (with TOLLGATE_TENANT=acme):
  tollgate binding delete orders invoices --yes

What is under way ends first. Bound again under the same name, it goes on where it was.")]
    Delete {
        #[command(flatten)]
        binding: Binding,
        /// It is meant
        #[arg(long, short)]
        yes: bool,
    },
}

/// Which binding.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Binding {
    /// Of which topic
    topic: String,
    /// The binding, which is also the consumer group that it reads as
    binding: String,
    #[command(flatten)]
    of: Of,
}

impl Binding {
    fn path(&self) -> Vec<&str> {
        self.of.path(&["topics", &self.topic, "bindings", &self.binding])
    }
}

/// What `binding create` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    binding: Binding,
    /// The recipe that runs for each message
    #[arg(long, value_name = "RECIPE")]
    recipe: String,
    /// Where it begins, when its group is not there
    #[arg(long, value_name = "END", default_value = "earliest", value_parser = ["earliest", "latest"])]
    from: String,
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            Command::List { topic, pages, of } => {
                let query: Vec<_> = topic.into_iter().map(|topic| ("topic", topic)).collect();
                let page = of.client()?.list(&of.path(&["bindings"]), &query, &pages).await?;
                list(&page, output)
            }
            Command::Create(args) => create(&args, output).await,
            Command::Show { binding } => {
                show(&binding.of.client()?.get(&binding.path(), &[]).await?, output)
            }
            Command::Delete { binding, yes } => delete(&binding, yes, output).await,
        }
    })
}

fn list(page: &Value, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        output::json(page)?;
        return Ok(Exit::Ok);
    }
    let row = |b: &model::Binding| {
        let [topic, name, recipe] = [&b.topic, &b.name, &b.recipe].map(|text| excerpt(text, 40));
        [topic, name, recipe, state(b), b.in_flight.to_string(), b.lag.to_string()]
    };
    let rows: Vec<_> = model::items::<model::Binding>(page)?.iter().map(row).collect();
    output::table(["TOPIC", "BINDING", "RECIPE", "STATE", "IN FLIGHT", "LAG"], &rows)?;
    api::note_the_rest(page, output);
    Ok(Exit::Ok)
}

fn state(binding: &model::Binding) -> String {
    if binding.awake { "awake".to_owned() } else { "asleep".to_owned() }
}

async fn create(args: &Create, output: Output) -> anyhow::Result<Exit> {
    let of = &args.binding.of;
    let api = of.client()?;
    let document = json!({
        "topic": args.binding.topic,
        "name": args.binding.binding,
        "recipe": args.recipe,
        "from": args.from,
    });
    let request = api.request(Method::POST, &of.path(&["bindings"])).json(&document);
    let made = api.send(request).await?;
    match output {
        Output::Table => {
            let [topic, recipe] = [&args.binding.topic, &args.recipe].map(|text| printable(text));
            say!("bound {topic} to {recipe}")?;
        }
        Output::Json => output::json(&made)?,
    }
    Ok(Exit::Ok)
}

fn show(document: &Value, output: Output) -> anyhow::Result<Exit> {
    if output == Output::Json {
        output::json(document)?;
        return Ok(Exit::Ok);
    }
    let binding: model::Binding = model::read(document)?;
    output::record(&[
        ("binding", printable(&binding.name)),
        ("topic", printable(&binding.topic)),
        ("recipe", printable(&binding.recipe)),
        ("state", state(&binding)),
        ("in flight", binding.in_flight.to_string()),
        ("lag", binding.lag.to_string()),
        ("created", format::ago(&binding.created_at, std::time::SystemTime::now())),
    ])?;
    Ok(Exit::Ok)
}

async fn delete(binding: &Binding, yes: bool, output: Output) -> anyhow::Result<Exit> {
    if !yes {
        let what = "nothing was done: a binding that is taken back reads no more; --yes says that \
                    this is meant";
        return Err(Usage::error(what));
    }
    binding.of.delete(&binding.path(), &binding.binding, output).await
}
