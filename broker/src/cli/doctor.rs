//! `tollgate doctor`: what stands between here and a broker.
//!
//! Asks from below to above (UDP, TLS, certificates, the broker itself) and goes on as long as the
//! next question makes sense. Nothing is sent to a broker that is not trusted.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    block_on,
    connect::Target,
    exit::Exit,
    format::parse_duration,
    output::{self, Output, printable, say},
};

mod broker;
mod certificates;
mod host;
mod tls;
mod udp;

/// What `doctor` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate doctor 127.0.0.1:4433 --certs certs/acme
  tollgate doctor broker.example.org
  tollgate doctor 10.0.0.7 --server-name broker.example.org --output json

Without --certs it stops where the broker asks for a certificate. Ends with 0 when all is well
(warnings included), 4 when the broker cannot be reached, 5 when a certificate is refused on either
side, 6 when a quota refuses the connection.")]
pub(super) struct Args {
    /// The broker's address: HOST, HOST:PORT or [IPV6]:PORT
    #[arg(value_name = "ADDR", default_value = "127.0.0.1:4433", env = "TOLLGATE_ADDR")]
    addr: Target,
    /// The directory with cert.pem, key.pem and ca.pem, as `tollgate cert issue` leaves it
    #[arg(long, value_name = "DIR", env = "TOLLGATE_CERTS")]
    certs: Option<PathBuf>,
    /// The name in the broker's certificate [default: the host of the address]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_SERVER_NAME")]
    server_name: Option<String>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    timeout: Duration,
}

impl Args {
    fn name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.addr.host)
    }
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    values: Value,
}

/// What was found so far, and how it ends.
#[derive(Debug)]
struct Findings {
    output: Output,
    list: Vec<Finding>,
    exit: Exit,
}

impl Findings {
    fn add(&mut self, check: &'static str, verdict: Verdict, message: &str, values: Value) {
        let finding = Finding { check, verdict, message: printable(message), values };
        if self.output == Output::Table {
            // Shown as it is found: some of it takes seconds. A reader that left sees nothing.
            let _ = show(&finding);
        }
        self.list.push(finding);
    }

    fn good(&mut self, check: &'static str, message: impl Into<String>, values: Value) {
        self.add(check, Verdict::Good, &message.into(), values);
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Verdict::Warning, &message.into(), Value::Null);
    }

    /// The first bad finding decides how the command ends.
    fn bad(&mut self, check: &'static str, exit: Exit, message: impl Into<String>) {
        if self.exit == Exit::Ok {
            self.exit = exit;
        }
        self.add(check, Verdict::Bad, &message.into(), Value::Null);
    }
}

fn show(finding: &Finding) -> std::io::Result<()> {
    let style = console::Style::new();
    let mark = match finding.verdict {
        Verdict::Good => style.green().apply_to("ok  "),
        Verdict::Warning => style.yellow().apply_to("warn"),
        Verdict::Bad => style.red().bold().apply_to("BAD "),
    };
    say!("{mark} {:11} {}", finding.check, finding.message)
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<Exit> {
    let mut findings = Findings { output, list: Vec::new(), exit: Exit::Ok };
    block_on(examine(args, &mut findings))?;
    if output == Output::Json {
        output::json(&json!({
            "addr": args.addr.to_string(),
            "server_name": args.name(),
            "well": findings.exit == Exit::Ok,
            "findings": findings.list,
        }))?;
    } else {
        let warnings = findings.list.iter().filter(|f| f.verdict == Verdict::Warning).count();
        match (findings.exit, warnings) {
            (Exit::Ok, 0) => say!("all is well")?,
            (Exit::Ok, _) => say!("it works; mind the warnings")?,
            _ => say!("it does not work: begin with the first BAD")?,
        }
    }
    Ok(findings.exit)
}

async fn examine(args: &Args, findings: &mut Findings) -> anyhow::Result<()> {
    host::examine(findings);
    let own = args.certs.as_deref().and_then(|dir| certificates::own(dir, findings));
    let addresses = match args.addr.resolve().await {
        Ok(addresses) => addresses,
        Err(e) => {
            findings.bad("address", Exit::Unreachable, format!("{e:#}"));
            return Ok(());
        }
    };
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    findings.good("address", list.join(", "), json!(list));
    let mut reached = None;
    for &addr in &addresses {
        if udp::examine(addr, args.timeout, findings).await {
            reached = reached.or(Some(addr));
        }
    }
    let Some(addr) = reached else {
        findings.bad("udp", Exit::Unreachable, "no address answers over UDP");
        return Ok(());
    };
    // One address that answers is enough.
    let roots = own.as_ref().map(|own| &own.roots);
    let trusted = tls::examine(addr, args.name(), roots, args.timeout, findings).await?;
    match own {
        Some(own) if trusted => {
            broker::examine(addr, args, own.credentials, findings).await;
        }
        Some(_) => {}
        None => findings.warn("broker", "without --certs nothing more can be asked"),
    }
    Ok(())
}
