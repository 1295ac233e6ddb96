//! `tollgate batch`: work for a broker, from files, lines and records.

use clap::Subcommand;

use super::{exit::Exit, output::Output};

pub(super) mod items;
mod payload;
pub(super) mod report;
mod run;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a batch: a line, a file or a record is an item, and results are printed as they come
    Run(Box<run::Args>),
}

pub(super) fn run(command: Command, output: Output) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => run::run(&args, output),
    }
}
