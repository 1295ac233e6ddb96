//! The binary `tollgate-loadgen`: load on a broker, and a check of every answer.
//!
//! Only ever a client: it links no part of the broker, so it cannot cheat.

mod check;
mod cli;
mod cpu;
mod drive;
mod exit;
mod pattern;
mod progress;
mod record;
mod report;
mod scenario;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, exit::Exit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Cli { command: cli::Command::Run(args) } = Cli::parse();
    match run(&args) {
        Ok(exit) => exit.into(),
        Err(e) => {
            eprintln!("error: {e:#}");
            exit::of_error(&e).into()
        }
    }
}

fn run(args: &cli::Run) -> anyhow::Result<Exit> {
    let scenario = args.scenario()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.get());
    }
    let report = runtime.enable_all().build()?.block_on(drive::run(&scenario, args.quiet))?;
    match args.output {
        cli::Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        cli::Output::Table => print!("{}", report::text(&report)),
    }
    for complaint in &report.complaints {
        eprintln!("failed: {}", complaint.text);
    }
    Ok(report.exit())
}
