//! `tollgate produce`: messages from lines, files and arguments, appended over QUIC.

use std::{collections::VecDeque, path::PathBuf, time::Instant};

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tollgate_client::{Appending, Message, Position, TopicError};

use super::{
    block_on, connect,
    exit::Exit,
    format,
    output::{self, Output, note, say},
};

/// What `produce` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_CERTS=certs/acme):
  tollgate produce orders --message hello --message world
  tollgate produce orders --input orders.jsonl
  tail -f orders.log | tollgate produce orders --input - --key-separator '|'

Each line is a message. One is acknowledged once it is on stable storage; a lost connection, even a
restarted broker, is waited for, and nothing is appended twice. Ends with 1 when a message was
refused; the others are appended.")]
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
        let producer = builder.open().await?;
        let mut told = Told { output, began: Instant::now(), kept: 0, failed: 0 };
        let mut queue = VecDeque::new();
        match &args.input {
            None => {
                for text in &args.message {
                    let message = args.message(None, text.clone());
                    queue.push_back(producer.queue(message).await?);
                }
            }
            Some(path) => {
                let mut lines = lines(path).await?.split(b'\n');
                while let Some(mut line) = lines.next_segment().await.context("cannot read on")? {
                    if line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    let message = args.line(line)?;
                    queue.push_back(producer.queue(message).await?);
                    // What is answered is told, and memory stays bounded.
                    while queue.len() > 8_192
                        && let Some(first) = queue.pop_front()
                    {
                        told.tell(first).await?;
                    }
                }
            }
        }
        for appending in queue {
            told.tell(appending).await?;
        }
        producer.close().await?;
        told.end()
    })
}

async fn lines(path: &std::path::Path) -> anyhow::Result<Box<dyn AsyncBufRead + Unpin>> {
    if path == std::path::Path::new("-") {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let file = tokio::fs::File::open(path).await;
    let file = file.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

impl Args {
    fn message(&self, key: Option<Vec<u8>>, payload: impl Into<Vec<u8>>) -> Message {
        let mut message = Message::new(payload.into());
        if let Some(key) = key.or_else(|| self.key.clone().map(String::into_bytes)) {
            message = message.key(key);
        }
        if let Some(partition) = self.partition {
            message = message.partition(partition);
        }
        self.header.iter().fold(message, |message, (key, value)| message.header(key, value))
    }

    fn line(&self, line: Vec<u8>) -> anyhow::Result<Message> {
        let Some(separator) = &self.key_separator else { return Ok(self.message(None, line)) };
        let at = line.windows(separator.len().max(1)).position(|w| w == separator.as_bytes());
        let at = at.with_context(|| {
            let text = output::excerpt(&String::from_utf8_lossy(&line), 60);
            format!("a line without {separator:?}: {text}")
        })?;
        let payload = line[at + separator.len()..].to_vec();
        Ok(self.message(Some(line[..at].to_vec()), payload))
    }
}

/// What was told of messages.
struct Told {
    output: Output,
    began: Instant,
    kept: u64,
    failed: u64,
}

impl Told {
    async fn tell(&mut self, appending: Appending) -> anyhow::Result<()> {
        match appending.await {
            Ok(Position { partition, offset }) => {
                self.kept += 1;
                if self.output == Output::Json {
                    output::json_line(&json!({ "partition": partition, "offset": offset }))?;
                }
            }
            Err(TopicError::Failed(failure)) => {
                self.failed += 1;
                let code = failure.code().map_or("", |code| code.name());
                match self.output {
                    Output::Json => {
                        output::json_line(&json!({ "code": code, "error": failure.message }))?;
                    }
                    Output::Table => note(format_args!("{failure}")),
                }
            }
            Err(e) => return Err(e.into()),
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
