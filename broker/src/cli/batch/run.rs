//! `tollgate batch run`: feeds a batch and reports what comes back, both at once.

use std::{cell::RefCell, path::PathBuf, time::Duration};

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tollgate_client::{
    BatchBuilder, BatchError, BatchEvents, BatchSender, CancelScope, Event, Mode, Order, Request,
};

use super::{
    items::{Item, Items, Sources},
    report::{Detached, Report},
};
use crate::cli::{
    block_on, connect,
    exit::{self, Exit},
    format::parse_duration,
    output::{self, Output},
};

/// What `batch run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("items").required(true).args(["input", "file", "payload"]))]
pub(crate) struct Args {
    /// The recipe that every item is for
    #[arg(long, value_name = "NAME")]
    recipe: String,
    /// A file whose lines are items, or `-` for standard input; with --field, a JSON document
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where in the JSON document the array is whose elements are items, as a JSON pointer
    /// ("" is the document itself)
    #[arg(long, value_name = "POINTER", requires = "input")]
    field: Option<String>,
    /// Files that are items, each as a whole
    #[arg(long, value_name = "PATH", num_args = 1..)]
    file: Vec<PathBuf>,
    /// An item as text; may be repeated
    #[arg(long, value_name = "TEXT")]
    payload: Vec<String>,
    /// For json.validate: a JSON Schema that every item is checked against; the item then is
    /// {"schema": …, "value": …}
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    #[command(flatten)]
    connect: connect::Args,
    #[command(flatten)]
    terms: Terms,
}

/// On which terms the batch is run.
#[derive(Debug, clap::Args)]
struct Terms {
    /// Gateways only: the tenant that the items are for
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// A pair for the recipe, with every item; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// In which order results come
    #[arg(long, value_enum, default_value_t)]
    order: OrderArg,
    /// Keep every item before it is acknowledged, and run it whoever goes away: each becomes a job.
    /// A lost connection, even a restarted broker, is waited for
    #[arg(long)]
    durable: bool,
    /// With --durable: end once everything is kept; `tollgate job list --batch ID` shows the rest
    #[arg(long, requires = "durable")]
    detach: bool,
    /// Start nothing more once an item has failed
    #[arg(long)]
    fail_fast: bool,
    /// How long the batch may take: 500ms, 30s, 1m30s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// How long an item may run; only ever shortens the recipe's own time-out
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Before which other batches of the tenant: 7 goes first [default: 3]
    #[arg(long, value_name = "0-7", value_parser = clap::value_parser!(u8).range(0..=7))]
    priority: Option<u8>,
    /// How many items run at once at most [default: what the broker grants]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
}

const EXAMPLES: &str = "\
Examples (with TOLLGATE_CERTS=certs/acme):
  tollgate batch run --recipe sha256 --payload hello --payload world
  tollgate batch run --recipe csv.profile --file data/*.csv
  tollgate batch run --recipe echo --input lines.txt --order submission
  tail -f orders.jsonl | tollgate batch run --recipe echo --input -
  tollgate batch run --recipe delay --payload '{\"ms\": 60000}' --durable --detach
  tollgate batch run --recipe json.validate --schema quake.schema.json \\
      --input earthquakes.json --field /features --output json | jq -c 'select(.code != \"OK\")'

Results go to standard output: columns, or with --output json an object a line, whose `event` is
`result`, `throttled`, `notice` or `summary`. A result has `payload` when it is JSON, otherwise
`payload_text` or `payload_base64`; a failed one has `error`.

Items fail one by one. One that is larger than the broker reads, or a file that cannot be read, is
that item's failure; the others go on. Nothing is tried again. Ends with 1 when an item failed, the
batch was cut short, or whoever read the results had gone before the last.

Ctrl-C cancels at once what has not started, also while the batch is throttled, and waits for what
runs; once more, what runs is cancelled too, and no results come any more; a third time ends the
command as it is.";

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OrderArg {
    /// As items finish
    #[default]
    Completion,
    /// As they were given
    Submission,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let sources = match (&args.input, &args.field) {
        (Some(path), Some(pointer)) => Sources::Elements { path, pointer },
        (Some(path), None) => Sources::Lines { path },
        (None, _) if !args.file.is_empty() => Sources::Files(&args.file),
        (None, _) => Sources::Texts { texts: &args.payload, called: "payload" },
    };
    block_on(async {
        let items = Items::open(sources, args.schema.as_deref()).await?;
        let client = args.connect.client().await?;
        let batch = args.terms.apply(client.batch()).open().await?;
        let id = batch.id().to_string();
        let detached = args.terms.detach.then(|| {
            let tenant = args.terms.tenant.clone().or_else(|| args.connect.own_tenant());
            Detached { id, tenant }
        });
        let report = RefCell::new(Report::new(output, detached));
        let (sender, events) = batch.split();
        let ends = Ends::default();
        let interrupted = interrupted(ends.clone());
        let both = async {
            let feed = feed(args, sender, items, &report, &ends);
            let watch = watch(events, &report, &ends);
            tokio::join!(feed, watch)
        };
        tokio::select! {
            (fed, watched) = both => {
                // What the broker said explains more than that nothing could be sent.
                watched.map_err(of_reader)?;
                fed.map_err(of_reader)?;
            }
            () = interrupted => anyhow::bail!("interrupted"),
        }
        let exit = report.into_inner().finish().map_err(|e| of_reader(e.into()))?;
        client.close().await;
        Ok(exit)
    })
}

/// The ways in which a batch ends early.
#[derive(Debug, Clone, Default)]
struct Ends {
    /// The user wants nothing more to be started.
    pending: CancellationToken,
    /// Nor what runs.
    all: CancellationToken,
    /// The batch has come to its end.
    over: CancellationToken,
}

/// Heeds Ctrl-C; over with the third.
async fn interrupted(ends: Ends) {
    // One listener for all three: between two of them one would be lost.
    let Ok(mut interrupts) = signal(SignalKind::interrupt()) else {
        return std::future::pending().await;
    };
    for press in [Some((&ends.pending, FIRST)), Some((&ends.all, SECOND)), None] {
        interrupts.recv().await;
        if let Some((token, note)) = press {
            token.cancel();
            output::note(format_args!("{note}"));
        }
    }
}

const FIRST: &str = "cancelled what has not started; once more to cancel what runs";
const SECOND: &str = "cancelled; once more to end at once";

/// Whoever reads the results has gone, so that some were lost.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the results any more: the batch was cancelled")]
struct ReaderGone;

/// Elsewhere a reader that has gone has seen enough; here it would not have seen what failed.
fn of_reader(error: anyhow::Error) -> anyhow::Error {
    if exit::is_broken_pipe(&error) { ReaderGone.into() } else { error }
}

/// Sends items until there are none, or the batch ends.
async fn feed(
    args: &Args,
    mut sender: BatchSender,
    mut items: Items<'_>,
    report: &RefCell<Report>,
    ends: &Ends,
) -> anyhow::Result<()> {
    let recipe: std::sync::Arc<str> = args.recipe.as_str().into();
    let send_all = async {
        for id in 0.. {
            let Some(item) = items.next().await? else { break };
            let Item { source, payload } = item;
            match payload {
                Ok(payload) => {
                    report.borrow_mut().sent(id, source);
                    let request = Request::new(recipe.clone(), payload).id(id);
                    match sender.send(args.terms.dress(request)).await {
                        Ok(_) => {}
                        // The events say why.
                        Err(BatchError::Stopped(_)) => return Ok(()),
                        Err(e) => return Err(e.into()),
                    }
                }
                Err(unsent) => report.borrow_mut().unsent(id, &source, &unsent)?,
            }
        }
        anyhow::Ok(())
    };
    let sent = tokio::select! {
        sent = send_all => sent,
        () = ends.pending.cancelled() => Ok(()),
        () = ends.over.cancelled() => return Ok(()),
    };
    report.borrow_mut().all_sent();
    if !ends.pending.is_cancelled() {
        // What was sent before the input failed is still reported; what is wrong with the batch
        // the events say.
        let _ = match args.terms.detach {
            true => sender.detach().await,
            false => sender.seal().await,
        };
    }
    tokio::select! {
        // The events say what comes of it.
        () = ends.pending.cancelled() => sender.cancel_at_once(CancelScope::Pending),
        () = ends.over.cancelled() => {}
    }
    ends.over.cancelled().await;
    sent
}

/// Reports events up to the last.
async fn watch(
    mut events: BatchEvents,
    report: &RefCell<Report>,
    ends: &Ends,
) -> anyhow::Result<()> {
    let _over = ends.over.clone().drop_guard();
    loop {
        let event = tokio::select! {
            // Biased: what has come is shown before the rest is given up.
            biased;
            event = events.next() => event,
            // Dropping the events cancels what runs: the sender's side was reset before.
            () = ends.all.cancelled() => None,
        };
        let Some(event) = event else { return Ok(()) };
        let mut report = report.borrow_mut();
        match event? {
            Event::JobAccepted(job) => report.job(&job),
            Event::Progress(progress) => report.progress(&progress),
            Event::Result(result) => report.result(&result)?,
            Event::Throttled(throttled) => report.throttled(&throttled)?,
            Event::Notice(notice) => report.notice(&notice)?,
            Event::Summary(summary) => report.summary(summary),
            _ => {}
        }
    }
}

impl Terms {
    fn apply(&self, mut batch: BatchBuilder) -> BatchBuilder {
        batch = batch.order(match self.order {
            OrderArg::Completion => Order::Completion,
            OrderArg::Submission => Order::Submission,
        });
        if self.durable {
            batch = batch.durable();
        }
        if self.fail_fast {
            batch = batch.mode(Mode::FailFast);
        }
        if let Some(tenant) = &self.tenant {
            batch = batch.tenant(tenant.as_str());
        }
        if let Some(deadline) = self.deadline {
            batch = batch.deadline(deadline);
        }
        if let Some(priority) = self.priority {
            batch = batch.priority(priority);
        }
        batch.concurrency_max(self.concurrency.unwrap_or(0))
    }

    fn dress(&self, mut request: Request) -> Request {
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        self.metadata.iter().fold(request, |request, (key, value)| request.metadata(key, value))
    }
}

/// Reads `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
