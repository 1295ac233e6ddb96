//! The binary `tollgate-loadgen`: load on a broker, and a check of every answer.
//!
//! Only ever a client: it links no part of the broker, so it cannot cheat.

mod check;
mod cli;
mod compare;
mod drive;
mod exit;
mod find_max;
mod generator;
mod pattern;
mod plan;
mod progress;
mod record;
mod report;
mod scenario;
mod stop;
mod worker;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, Parser};

use crate::{
    cli::{Cli, Command, Output, Show},
    drive::Fleet,
    exit::Exit,
    progress::Progress,
    report::Report,
    scenario::{BadScenario, Scenario},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(exit) => exit.into(),
        Err(e) => {
            eprintln!("error: {e:#}");
            exit::of_error(&e).into()
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => {
            let scenario = args.scenario()?;
            if args.dry_run {
                print(&(serde_json::to_string_pretty(&scenario)? + "\n"));
                return Ok(Exit::Ok);
            }
            run(&scenario, &args.show)
        }
        Command::Storm(args) => run(&args.scenario()?, &args.show),
        Command::FindMax(args) => find_max(&args),
        Command::Compare(args) => compare(&args),
        Command::Worker(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let served = runtime.block_on(worker::serve(&args))?;
            eprintln!("{} calls succeeded, {} failed", served.succeeded, served.failed);
            Ok(Exit::Ok)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tollgate-loadgen", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(Exit::Ok)
        }
    }
}

fn run(scenario: &Scenario, show: &Show) -> anyhow::Result<Exit> {
    prepare(show)?;
    let report = runtime(show)?.block_on(async {
        let fleet = Fleet::connect(scenario).await?;
        let progress = Progress::new(show.live(), "");
        let measured = fleet.run(scenario, progress, show.broker_pid, |_| {}).await;
        // Whatever came of it, topics that were made are deleted.
        fleet.close().await;
        anyhow::Ok(Report::new(scenario, &measured?, show.threads()))
    })?;
    match show.output {
        Output::Json => print(&(serde_json::to_string_pretty(&report)? + "\n")),
        Output::Table => print(&report::text(&report)),
    }
    for complaint in &report.complaints {
        eprintln!("failed: {}", complaint.text);
    }
    if let Some(dir) = &show.out {
        report.write(dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        eprintln!("wrote {}", dir.join("report.html").display());
    }
    Ok(report.exit())
}

fn find_max(args: &cli::FindMax) -> anyhow::Result<Exit> {
    let (scenario, search) = (args.scenario()?, args.search()?);
    prepare(&args.show)?;
    let find = find_max::find(&scenario, search, args.show.live(), args.show.threads());
    let found = runtime(&args.show)?.block_on(find)?;
    let json = serde_json::to_string_pretty(&found)? + "\n";
    if let Some(dir) = &args.show.out {
        std::fs::write(dir.join("find-max.json"), &json)
            .and_then(|()| std::fs::write(dir.join("find-max.html"), find_max::page(&found)))
            .with_context(|| format!("cannot write to {}", dir.display()))?;
    }
    match args.show.output {
        Output::Json => print(&json),
        Output::Table => print(&found.text()),
    }
    Ok(found.exit())
}

fn compare(args: &cli::Compare) -> anyhow::Result<Exit> {
    let compared = compare::compare(&args.a, &args.b, args.fail_if_slower.map(|m| m.0))?;
    match args.output {
        Output::Json => print(&(serde_json::to_string_pretty(&compared)? + "\n")),
        Output::Table => print(&compared.text()),
    }
    Ok(compared.exit())
}

/// Where the report is to be written is looked at before the load begins.
fn prepare(show: &Show) -> anyhow::Result<()> {
    let Some(dir) = &show.out else { return Ok(()) };
    report::prepare(dir).map_err(|e| {
        let problem = format!("--out: cannot write to {}: {e}", dir.display());
        BadScenario::Value(problem).into()
    })
}

fn runtime(show: &Show) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(show.threads()).enable_all().build()
}

/// A reader who has seen enough is no failure.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
