//! `tollgate events`: what happens at a broker, as it happens.
//!
//! A stream that breaks is taken up again after the last event that was seen.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use reqwest::Response;
use serde_json::Value;
use tollgate_broker::events::Kind;

use super::{
    api::{self, Api},
    block_on,
    exit::Exit,
    output::{self, Output, printable, say},
};

mod sse;

use self::sse::Parser;

/// What `events` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate events
  tollgate events --tenant acme --kind quota_warning --kind quota_critical
  tollgate events --since 0 --count 10 --output json | jq .kind

Follows until it is interrupted. The broker keeps the last events (events.kept_max); --since shows
those among them that came after the one with this id, and 0 all of them.")]
pub(super) struct Args {
    /// Only those of this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Only those of this kind, such as tenant_created; may be repeated
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::NAMES.iter().copied()),
        hide_possible_values = true)]
    kind: Vec<String>,
    /// Begin after the event with this id
    #[arg(long, value_name = "ID")]
    since: Option<u64>,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten, next_help_heading = "The API")]
    api: api::Args,
}

/// How long to wait before a stream that broke is taken up again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    block_on(follow(args, output))?;
    Ok(Exit::Ok)
}

async fn follow(args: &Args, output: Output) -> anyhow::Result<()> {
    let api = args.api.client()?;
    let mut follower = Follower { args, output, last: None, left: args.count.unwrap_or(u64::MAX) };
    follower.last = args.since.map(|id| id.to_string());
    if follower.left == 0 {
        return Ok(());
    }
    let mut response = follower.open(&api).await?;
    loop {
        match follower.read(response).await {
            Ok(true) => return Ok(()),
            Ok(false) => output::note(format_args!("the broker ended the stream")),
            Err(Broken::Stream(e)) => {
                output::note(format_args!("the stream broke: {}", api.failed(&e)));
            }
            Err(Broken::Output(e)) => return Err(e.into()),
        }
        // It was there a moment ago, so it is worth waiting for.
        response = loop {
            tokio::time::sleep(AGAIN).await;
            match follower.open(&api).await {
                Ok(response) => break response,
                Err(api::Error::Unreachable { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        };
    }
}

/// Why reading ended early.
enum Broken {
    Stream(reqwest::Error),
    Output(std::io::Error),
}

struct Follower<'a> {
    args: &'a Args,
    output: Output,
    last: Option<String>,
    left: u64,
}

impl Follower<'_> {
    async fn open(&self, api: &Api) -> Result<Response, api::Error> {
        let query: Vec<_> =
            self.args.tenant.iter().map(|tenant| ("tenant", tenant.clone())).collect();
        api.follow(&["events"], &query, self.last.as_deref()).await
    }

    /// Reads to the end of the stream, or until enough was shown: then true.
    async fn read(&mut self, mut response: Response) -> Result<bool, Broken> {
        let mut parser = Parser::default();
        while let Some(chunk) = response.chunk().await.map_err(Broken::Stream)? {
            parser.feed(&chunk);
            while let Some(event) = parser.next() {
                if event.id.is_some() {
                    self.last = event.id.clone();
                }
                if self.show(&event).map_err(Broken::Output)? {
                    self.left -= 1;
                }
                if self.left == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Shows an event, if it is one that was asked for.
    fn show(&self, event: &sse::Event) -> std::io::Result<bool> {
        let Ok(mut document) = serde_json::from_str::<Value>(&event.data) else {
            output::note(format_args!("not JSON: {}", output::excerpt(&event.data, 80)));
            return Ok(false);
        };
        if document["kind"].is_null() && document.is_object() {
            document["kind"] = event.name.as_str().into();
        }
        let kind = document["kind"].as_str().unwrap_or_default();
        if kind == "lost" {
            self.tell_lost(&document)?;
            return Ok(false);
        }
        if !self.args.kind.is_empty() && !self.args.kind.iter().any(|k| k == kind) {
            return Ok(false);
        }
        match self.output {
            Output::Json => output::json_line(&document)?,
            Output::Table => say!("{}", sentence(&document))?,
        }
        Ok(true)
    }
}

impl Follower<'_> {
    /// Events are missing here: whoever follows a state has to look at it anew.
    fn tell_lost(&self, document: &Value) -> std::io::Result<()> {
        match self.output {
            Output::Json => output::json_line(document),
            Output::Table => {
                output::note(format_args!("events were lost, at least {}", document["lost"]));
                Ok(())
            }
        }
    }
}

/// An event in a line: when, what, whose, and whatever else it says.
fn sentence(event: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    };
    let at = event["at"].as_str().unwrap_or_default();
    let at = match at.parse::<jiff::Timestamp>() {
        Ok(at) => format!("{at:.0}"),
        Err(_) => printable(at),
    };
    let mut line = format!("{at}  {:18}", text(&event["kind"]));
    if let Some(tenant) = event["tenant"].as_str() {
        line = format!("{line}  {}", printable(tenant));
    }
    let shown = ["id", "at", "kind", "tenant"];
    let rest = event.as_object().into_iter().flatten();
    for (name, value) in rest.filter(|(name, v)| !shown.contains(&name.as_str()) && !v.is_null()) {
        line = format!("{line}  {}={}", printable(name), text(value));
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "id": 7, "at": "2026-01-01T10:00:00.5Z", "kind": "quota_warning", "tenant": "acme",
            "quota": "connections", "current": 8, "limit": 10, "note": null,
        });
        let line = sentence(&event);
        assert!(line.starts_with("2026-01-01T10:00:00Z  quota_warning       acme  "), "{line}");
        for part in ["quota=connections", "current=8", "limit=10"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("note") && !line.contains("id="), "{line}");
    }
}
