//! The flags of a worker to load: it serves one recipe that takes a set time.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;
use jiff::SignedDuration;

/// Serve a recipe that takes a set time and answers with its payload
///
/// The other side of a load on workers: so many hands, each busy for --time with a call. Needs the
/// certificate of a worker (`tollgate cert issue --role platform-worker --name w1 --out certs/w1`).
/// Ends on SIGINT or SIGTERM, after the calls that it has.
///
/// Examples:
///   tollgate-loadgen worker --certs certs/w1
///   tollgate-loadgen worker --certs certs/w1 --recipe work --hands 16 --time 5ms
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Worker {
    /// Directory with the worker's cert.pem, key.pem and ca.pem
    #[arg(long, value_name = "DIR")]
    pub certs: PathBuf,
    /// The broker
    #[arg(long, value_name = "HOST:PORT", env = "TOLLGATE_ADDR", default_value = "127.0.0.1:4433")]
    pub addr: String,
    /// The name in the broker's certificate [default: the host]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// The recipe
    #[arg(long, value_name = "NAME", default_value = "work")]
    pub recipe: String,
    /// Calls at once
    #[arg(long, value_name = "N", default_value = "16")]
    pub hands: NonZeroU32,
    /// How long a call takes
    #[arg(long, value_name = "TIME", default_value = "5ms")]
    pub time: SignedDuration,
}
