//! `tollgate produce`: messages from lines, files and arguments, appended over QUIC.

use std::{collections::VecDeque, path::PathBuf, pin::pin, time::Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_client::{Appending, Code, Message, Position, Producer, TopicError};

use super::{
    batch::{
        items::{Items, Sources, Unsent},
        report::json::error,
    },
    block_on, connect,
    exit::Exit,
    format,
    output::{self, Output, note, say},
};

/// Messages that are handed over and not told of yet.
const QUEUED_MAX: usize = 8_192;

/// What `produce` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_CERTS=certs/acme):
  tollgate produce orders --message hello --message world
  tollgate produce orders --input orders.jsonl
  tail -f orders.log | tollgate produce orders --input - --key-separator '|'

Each line is a message, empty ones too. One is acknowledged once it is on stable storage; a lost
connection, even a restarted broker, is waited for, and nothing is appended twice; so is a rate that
is used up. Ends with 1 when a message was refused: which, and why, is said; the others are appended.
As JSON, a line a message: its source, and its partition and offset, or its code and error.")]
#[command(group = clap::ArgGroup::new("messages").required(true).args(["input", "message"]))]
pub(crate) struct Args {
    /// The topic
    topic: String,
    /// A file whose lines are messages, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A message as text; may be repeated
    #[arg(long, value_name = "TEXT")]
    message: Vec<String>,
    /// The key of every message: those of one key keep their order
    #[arg(long, value_name = "KEY", conflicts_with = "key_separator")]
    key: Option<String>,
    /// A line is a key, this, and the message
    #[arg(long, value_name = "TEXT", requires = "input")]
    key_separator: Option<String>,
    /// A header of every message; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// Into this partition, whatever the key
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Gateways only: the tenant whose topic it is
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[command(flatten)]
    connect: connect::Args,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        let client = args.connect.client().await?;
        let mut builder = client.producer(args.topic.as_str());
        if let Some(tenant) = &args.tenant {
            builder = builder.tenant(tenant.as_str());
        }
        let sources = match &args.input {
            Some(path) => Sources::ExactLines { path },
            None => Sources::Texts { texts: &args.message, called: "message" },
        };
        let items = Items::open(sources, None).await?;
        let producer = builder.open().await?;
        let mut told =
            Told { output, began: Instant::now(), queue: VecDeque::new(), kept: 0, failed: 0 };
        let fed = args.feed(items, &producer, &mut told).await;
        // What was handed over is told of, whatever came after it.
        while !told.queue.is_empty() {
            told.next().await?;
        }
        producer.close().await?;
        fed?;
        told.end()
    })
}

impl Args {
    /// Hands everything over, and tells of what is answered meanwhile.
    async fn feed(
        &self,
        mut items: Items<'_>,
        producer: &Producer,
        told: &mut Told,
    ) -> anyhow::Result<()> {
        loop {
            let mut next = pin!(items.next());
            let item = loop {
                tokio::select! {
                    biased;
                    item = &mut next, if told.queue.len() < QUEUED_MAX => break item?,
                    outcome = told.next(), if !told.queue.is_empty() => outcome?,
                }
            };
            let Some(item) = item else { return Ok(()) };
            match item.payload.and_then(|line| self.message(line)) {
                Ok(message) => {
                    let appending = producer.queue(message).await?;
                    told.queue.push_back((item.source, appending));
                }
                Err(why) => {
                    let error = json!({ "message": why.message });
                    told.refused(&item.source, why.code, &error, &why)?;
                }
            }
        }
    }

    fn message(&self, line: Bytes) -> Result<Message, Unsent> {
        let (key, payload) = match &self.key_separator {
            None => (self.key.clone().map(Bytes::from), line),
            Some(separator) => {
                let mut places = line.windows(separator.len().max(1));
                let Some(at) = places.position(|w| w == separator.as_bytes()) else {
                    let text = output::excerpt(&String::from_utf8_lossy(&line), 60);
                    let message = format!("a line without {separator:?}: {text}");
                    return Err(Unsent { code: Code::ValidationError.name(), message });
                };
                (Some(line.slice(..at)), line.slice(at + separator.len()..))
            }
        };
        let mut message = Message::new(payload);
        if let Some(key) = key {
            message = message.key(key);
        }
        if let Some(partition) = self.partition {
            message = message.partition(partition);
        }
        Ok(self.header.iter().fold(message, |message, (key, value)| message.header(key, value)))
    }
}

/// What is told of messages, in the order in which they were handed over.
struct Told {
    output: Output,
    began: Instant,
    /// Each with where it comes from.
    queue: VecDeque<(String, Appending)>,
    kept: u64,
    failed: u64,
}

impl Told {
    /// Tells of the next message. When dropped before it is done, nothing was told.
    async fn next(&mut self) -> anyhow::Result<()> {
        let Some((_, appending)) = self.queue.front_mut() else { return Ok(()) };
        let answer = appending.await;
        let Some((source, _)) = self.queue.pop_front() else { return Ok(()) };
        match answer {
            Ok(Position { partition, offset }) => {
                self.kept += 1;
                if self.output == Output::Json {
                    output::json_line(&json!({
                        "source": source, "partition": partition, "offset": offset,
                    }))?;
                }
                Ok(())
            }
            Err(TopicError::Failed(failure)) => {
                self.refused(&source, failure.code_name(), &error(&failure), &failure)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn refused(
        &mut self,
        source: &str,
        code: &str,
        error: &Value,
        text: &dyn std::fmt::Display,
    ) -> anyhow::Result<()> {
        self.failed += 1;
        match self.output {
            Output::Json => {
                output::json_line(&json!({ "source": source, "code": code, "error": error }))?;
            }
            Output::Table => note(format_args!("{source}: {text}")),
        }
        Ok(())
    }

    fn end(&self) -> anyhow::Result<Exit> {
        if self.output == Output::Table {
            let took = format::duration(self.began.elapsed());
            let failed = match self.failed {
                0 => String::new(),
                n => format!(", {n} refused"),
            };
            say!("appended {} in {took}{failed}", format::count(self.kept, "message"))?;
        }
        Ok(if self.failed == 0 { Exit::Ok } else { Exit::Failure })
    }
}
