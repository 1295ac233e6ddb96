//! `tollgate job watch`: a job's progress as it happens, and its result.
//!
//! A stream that breaks is taken up again after the last number that was seen.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Of;
use crate::cli::{
    api::{self, Api, model},
    exit::{self, Exit},
    output::{self, Output, excerpt, printable, say},
};

/// What `job watch` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples (with TOLLGATE_TENANT=acme):
  tollgate job watch 0198c0de-0000-7000-8000-000000000000
  tollgate job watch 0198c0de-0000-7000-8000-000000000000 --output json | jq -c .result

Ends with the job: its payload goes to standard output, and the command ends with 0; why there is none
goes to standard error, and it ends as if the command itself had failed with that. With --output json
every line is what the API said. A broker that restarts meanwhile is waited for. Interrupting it
changes nothing about the job.")]
pub(crate) struct Args {
    /// Its id
    id: String,
    #[command(flatten)]
    of: Of,
}

/// How long to wait before a stream that broke is taken up again.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let api = args.of.client()?;
    let mut watcher = Watcher { args, output, after: None, bar: bar(output), result: None };
    // The first time nobody has to be waited for: a broker that is not there is not.
    let mut opened = watcher.open(&api).await?;
    let result = loop {
        let broke = watcher.read(&mut opened).await?;
        if let Some(result) = watcher.result.take() {
            break result;
        }
        match broke {
            Some(e) => output::note(format_args!("the stream broke: {}", api.failed(&e))),
            None => output::note(format_args!("the broker ended the stream")),
        }
        opened = loop {
            tokio::time::sleep(AGAIN).await;
            match watcher.open(&api).await {
                Ok(opened) => break opened,
                Err(api::Error::Unreachable { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        };
    };
    watcher.finish(&result)
}

fn bar(output: Output) -> Option<ProgressBar> {
    (output == Output::Table && output::watched()).then(|| {
        let bar = ProgressBar::new(0);
        let style = "{spinner} {wide_bar} {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is good"));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    })
}

struct Watcher<'a> {
    args: &'a Args,
    output: Output,
    after: Option<String>,
    bar: Option<ProgressBar>,
    result: Option<Value>,
}

impl Watcher<'_> {
    async fn open(&self, api: &Api) -> Result<reqwest::Response, api::Error> {
        let query: Vec<_> = self.after.iter().map(|after| ("after", after.clone())).collect();
        let of = &self.args.of;
        api.lines(&of.path(&[&self.args.id, "events"]), &query).await
    }

    /// Reads to the end of the stream, which may be that it broke.
    async fn read(
        &mut self,
        response: &mut reqwest::Response,
    ) -> anyhow::Result<Option<reqwest::Error>> {
        let mut rest = Vec::new();
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                Err(e) => return Ok(Some(e)),
            };
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Ok(line) = serde_json::from_slice(&line) {
                    self.show(&line)?;
                }
            }
        }
    }

    fn show(&mut self, line: &Value) -> std::io::Result<()> {
        if self.output == Output::Json {
            output::json_line(line)?;
        }
        let Some((kind, said)) = line.as_object().and_then(|o| o.iter().next()) else {
            return Ok(());
        };
        if let (Some(epoch), Some(sequence)) = (said["epoch"].as_u64(), said["sequence"].as_u64()) {
            self.after = Some(format!("{epoch}.{sequence}"));
        }
        match kind.as_str() {
            // A job that was replayed has more than one: the last is the one that counts.
            "result" => self.result = Some(said.clone()),
            "progress" if self.output == Output::Table => self.progress(said),
            "notice" | "error" if self.output == Output::Table => {
                let message = said["message"].as_str().unwrap_or_default();
                self.aside(&printable(message));
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&self, said: &Value) {
        let Ok(p) = model::read::<model::JobProgress>(said) else { return };
        match &self.bar {
            Some(bar) => {
                bar.set_length(p.total);
                bar.set_position(p.done);
                bar.set_message(excerpt(&p.message, 50));
            }
            None => output::note(format_args!("{} {}", p.so_far(), printable(&p.message))),
        }
    }

    fn aside(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(format_args!("{text}"))),
            None => output::note(format_args!("{text}")),
        }
    }

    /// Prints the result, and says how the command ends.
    fn finish(self, result: &Value) -> anyhow::Result<Exit> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let code = result["code"].as_str().unwrap_or_default();
        if self.output == Output::Table {
            let attempts = result["attempts"].as_u64().unwrap_or_default();
            match &result["error"] {
                Value::Null => match (&result["payload"], result["payload_base64"].as_str()) {
                    (_, Some(base64)) => say!("{base64}")?,
                    (payload, None) => say!("{payload}")?,
                },
                error => {
                    let message = error["message"].as_str().unwrap_or_default();
                    output::note(format_args!(
                        "{} after {}: {}",
                        printable(code),
                        crate::cli::format::count(attempts, "attempt"),
                        printable(message)
                    ));
                }
            }
        }
        Ok(match tollgate_client::Code::from_name(code) {
            Some(tollgate_client::Code::Ok) => Exit::Ok,
            other => exit::of_code(other),
        })
    }
}
