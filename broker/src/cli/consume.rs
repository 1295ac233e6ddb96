//! `tollgate consume`: the messages of a topic as they come, over QUIC.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tollgate_client::{Consumer, ReceivedMessage, StartAt};

use super::{
    block_on, connect,
    exit::Exit,
    format::parse_duration,
    output::{self, Output, printable, say},
};

/// What `consume` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_CERTS=certs/acme):
  tollgate consume orders --from earliest --until-end
  tollgate consume orders --from latest
  tollgate consume orders --group billing --output json | jq .payload
  tollgate consume orders.dead --from earliest --until-end

Without a group, reading changes nothing. A member of a group acknowledges each message once it is
printed; Ctrl-C leaves the group when that is kept. With --output json a message is an object a
line: `payload` when it is JSON, otherwise `payload_text` or `payload_base64`.")]
pub(crate) struct Args {
    /// The topic
    topic: String,
    /// Where to begin: earliest, latest, an offset, or a time such as 2026-01-31T12:00:00Z; for a
    /// group, where it has no position
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = from)]
    from: StartAt,
    /// Only this partition
    #[arg(long, value_name = "N", conflicts_with = "group")]
    partition: Option<u32>,
    /// As a member of this consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Members: how long until a message that was not acknowledged is delivered again
    #[arg(long, value_name = "TIME", requires = "group", value_parser = parse_duration)]
    ack_timeout: Option<Duration>,
    /// End with what there is now
    #[arg(long)]
    until_end: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Gateways only: the tenant whose topic it is
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    #[command(flatten)]
    connect: connect::Args,
}

fn from(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        _ => {
            if let Ok(offset) = text.parse() {
                return Ok(StartAt::Offset(offset));
            }
            let at: jiff::Timestamp = text.parse().map_err(
                |_| "expected earliest, latest, an offset, or a time as 2026-01-31T12:00:00Z",
            )?;
            Ok(StartAt::Time(u64::try_from(at.as_millisecond()).unwrap_or(0)))
        }
    }
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    block_on(async {
        let client = args.connect.client().await?;
        let mut builder = client.consumer(args.topic.as_str()).from(args.from);
        if let Some(tenant) = &args.tenant {
            builder = builder.tenant(tenant.as_str());
        }
        if let Some(partition) = args.partition {
            builder = builder.partition(partition);
        }
        if let Some(group) = &args.group {
            builder = builder.group(group.as_str());
        }
        if let Some(timeout) = args.ack_timeout {
            builder = builder.ack_timeout(timeout);
        }
        if args.until_end {
            builder = builder.until_end();
        }
        let mut consumer = builder.open().await?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut left = args.limit.unwrap_or(u64::MAX);
        let member = args.group.is_some();
        while left > 0 {
            let message = tokio::select! {
                message = consumer.next() => message,
                _ = interrupted.recv() => break,
                _ = terminated.recv() => break,
            };
            let Some(message) = message.transpose()? else { break };
            if let Err(e) = print(&message, output) {
                // Whoever read the messages has gone: what was not printed is not done.
                leave(consumer).await?;
                return Err(e);
            }
            if member {
                consumer.ack(&message);
            }
            left -= 1;
        }
        leave(consumer).await?;
        Ok(Exit::Ok)
    })
}

async fn leave(consumer: Consumer) -> anyhow::Result<()> {
    const LONGEST: Duration = Duration::from_secs(10);
    match tokio::time::timeout(LONGEST, consumer.close()).await {
        Ok(closed) => Ok(closed?),
        Err(_) => anyhow::bail!("the broker did not say that what was acknowledged is kept"),
    }
}

fn print(m: &ReceivedMessage, output: Output) -> anyhow::Result<()> {
    if output == Output::Table {
        let place = format!("{}/{}", m.partition, m.offset);
        let key = m.key.as_ref().map_or_else(String::new, |key| {
            format!("{}  ", printable(&String::from_utf8_lossy(key)))
        });
        let text = printable(&String::from_utf8_lossy(&m.payload));
        say!("{place:<12}  {key}{text}")?;
        return Ok(());
    }
    let mut line = json!({
        "partition": m.partition,
        "offset": m.offset,
        "id": m.id.to_string(),
        "timestamp": jiff::Timestamp::try_from(m.timestamp)?.to_string(),
    });
    if m.deliveries > 0 {
        line["deliveries"] = m.deliveries.into();
    }
    if let Some(key) = &m.key {
        match std::str::from_utf8(key) {
            Ok(key) => line["key"] = key.into(),
            Err(_) => line["key_base64"] = STANDARD.encode(key).into(),
        }
    }
    let headers: serde_json::Map<String, Value> =
        m.headers.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    if !headers.is_empty() {
        line["headers"] = headers.into();
    }
    match (serde_json::from_slice::<Value>(&m.payload), std::str::from_utf8(&m.payload)) {
        (Ok(json), _) => line["payload"] = json,
        (Err(_), Ok(text)) => line["payload_text"] = text.into(),
        (Err(_), Err(_)) => line["payload_base64"] = STANDARD.encode(&m.payload).into(),
    }
    output::json_line(&line)?;
    Ok(())
}
