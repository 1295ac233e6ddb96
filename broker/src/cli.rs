//! The command line: what can be asked for, and how a command's end becomes an exit code.
//!
//! A command a file. None of them holds a rule of the broker: they start one, or talk to one as
//! any client does.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod api;
mod batch;
mod binding;
mod cert;
mod config;
mod connect;
mod connection;
mod consume;
mod demo;
mod doctor;
mod events;
mod exit;
mod format;
mod group;
mod job;
mod output;
mod produce;
mod profile;
mod recipe;
mod revocation;
mod serve;
mod settings;
mod tenant;
mod top;
mod topic;
mod worker;

use self::{exit::Exit, output::Output};

/// A QUIC-native broker for many tenants: batches of work, authenticated, metered and streamed.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, propagate_version = true, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
struct Cli {
    /// How data is printed: for people, or as JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t, env = "TOLLGATE_OUTPUT")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tollgate demo                                        See it work, in half a minute
  tollgate serve                                       Start a broker on 127.0.0.1:4433
  tollgate tenant create globex --profile pro          Make room for one more tenant
  tollgate cert issue --tenant acme --out certs/acme   Let a client in
  tollgate batch run --certs certs/acme --recipe sha256 --payload hello
  tollgate job list --tenant acme --state dead         See what was given up, and why
  tollgate top                                         See which tenants load it
  tollgate doctor 127.0.0.1:4433 --certs certs/acme    Find out why it does not connect";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what Tollgate does: a broker, two tenants and real batches, in one process
    Demo(demo::Args),
    /// Run a broker
    Serve(Box<serve::Args>),
    /// Run batches of work
    Batch {
        #[command(subcommand)]
        command: batch::Command,
    },
    /// Look at jobs, watch them, cancel them, run them again
    Job {
        #[command(subcommand)]
        command: job::Command,
    },
    /// Make, look at, change and delete topics
    Topic {
        #[command(subcommand)]
        command: topic::Command,
    },
    /// Look at consumer groups, move them, forget them
    Group {
        #[command(subcommand)]
        command: group::Command,
    },
    /// Have the broker run a recipe for each message of a topic
    Binding {
        #[command(subcommand)]
        command: binding::Command,
    },
    /// Append messages to a topic
    Produce(Box<produce::Args>),
    /// Read the messages of a topic
    Consume(Box<consume::Args>),
    /// Look at the recipes that a broker offers
    Recipe {
        #[command(subcommand)]
        command: recipe::Command,
    },
    /// Create, change, look at and delete tenants
    Tenant {
        #[command(subcommand)]
        command: tenant::Command,
    },
    /// Look at the quotas that tenants start from
    Profile {
        #[command(subcommand)]
        command: profile::Command,
    },
    /// Look at who is connected
    Connection {
        #[command(subcommand)]
        command: connection::Command,
    },
    /// Look at who runs recipes
    Worker {
        #[command(subcommand)]
        command: worker::Command,
    },
    /// Turn certificates and identities away
    Revocation {
        #[command(subcommand)]
        command: revocation::Command,
    },
    /// Watch which tenants load a broker
    Top(Box<top::Args>),
    /// Follow what happens at a broker
    Events(Box<events::Args>),
    /// Make, look at and revoke certificates
    Cert {
        #[command(subcommand)]
        command: cert::Command,
    },
    /// Check and print a broker's configuration
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Find out what stands between here and a broker
    Doctor(doctor::Args),
    /// Print a script that completes commands in a shell
    #[command(
        after_help = "Example:\n  tollgate completions bash > ~/.local/share/bash-completion/completions/tollgate"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let Cli { output, command } = Cli::parse();
    let end = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args, output),
        Command::Batch { command } => batch::run(command, output),
        Command::Job { command } => job::run(command, output),
        Command::Topic { command } => topic::run(command, output),
        Command::Group { command } => group::run(command, output),
        Command::Binding { command } => binding::run(command, output),
        Command::Produce(args) => produce::run(&args, output),
        Command::Consume(args) => consume::run(&args, output),
        Command::Recipe { command } => recipe::run(command, output),
        Command::Tenant { command } => tenant::run(command, output),
        Command::Profile { command } => profile::run(command, output),
        Command::Connection { command } => connection::run(command, output),
        Command::Worker { command } => worker::run(command, output),
        Command::Revocation { command } => revocation::run(command, output),
        Command::Top(args) => top::run(&args, output),
        Command::Events(args) => events::run(&args, output),
        Command::Cert { command } => cert::run(command, output),
        Command::Config { command } => config::run(command, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Completions { shell } => completions(shell),
    };
    exit::report(end, output)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tollgate", &mut script);
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Runs what talks to a broker: one thread does.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(work);
    // A read from a terminal would keep the process until somebody presses enter.
    runtime.shutdown_background();
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
