//! What a run is to do, checked: who sends what, how fast, for how long, and what must come back.
//!
//! Built from a file or from flags (`file`), and only read from then on.

mod file;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use tollgate_client::Code;

pub use file::{Load, Overrides, ScenarioFile, TenantFile};

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    /// The broker, as `host:port`.
    pub addr: String,
    /// The name that its certificate must carry.
    pub server_name: String,
    /// How long is measured.
    #[serde(rename = "duration_s", serialize_with = "secs")]
    pub duration: Duration,
    /// How long load runs before that.
    #[serde(rename = "warm_up_s", serialize_with = "secs")]
    pub warm_up: Duration,
    /// How long what is under way may take after that; also the limit of one batch.
    #[serde(rename = "drain_s", serialize_with = "secs")]
    pub drain: Duration,
    /// The p99 of batch latency, of all tenants together, that must not be passed.
    pub p99_max_ms: Option<f64>,
    /// Who sends.
    pub tenants: Vec<Tenant>,
}

/// The load of one tenant.
#[derive(Debug, Clone, Serialize)]
pub struct Tenant {
    /// What the report calls it.
    pub name: String,
    /// Where `cert.pem`, `key.pem` and `ca.pem` are.
    pub certs: PathBuf,
    /// Connections, each with a socket of its own; batches take them in turn.
    pub connections: usize,
    /// Items of a batch.
    pub batch_items: u64,
    /// When batches are sent.
    pub pace: Pace,
    /// The recipes of its items: an item's place in this cycle decides.
    #[serde(skip)]
    pub cycle: Vec<u16>,
    /// What the places of the cycle stand for.
    pub recipes: Vec<Recipe>,
    /// Codes with which items and batches may fail.
    #[serde(serialize_with = "names")]
    pub allow_errors: Vec<Code>,
    /// From 0 to 7.
    pub priority: Option<u8>,
}

impl Tenant {
    /// The recipe of an item.
    pub fn recipe_of(&self, id: u64) -> (usize, &Recipe) {
        let at = usize::from(self.cycle[(id % self.cycle.len() as u64) as usize]);
        (at, &self.recipes[at])
    }

    /// The longest payload it sends, in bytes.
    pub fn payload_max(&self) -> usize {
        self.recipes.iter().map(|r| r.payload.len()).max().unwrap_or(0)
    }
}

/// When batches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// A closed loop: so many batches are under way at any time.
    InFlight(usize),
    /// An open loop: batches are due at this rate, whether or not earlier ones are answered.
    BatchesPerSecond {
        /// The rate.
        rate: f64,
        /// What is due beyond so many under way waits, and its latency counts on.
        in_flight_max: usize,
    },
}

/// One of the recipes of a tenant's items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Its share, against the other weights.
    pub weight: u16,
    /// What it is sent.
    pub payload: Payload,
    /// What is right.
    pub check: Check,
}

/// What an item carries.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// So many bytes that only this item has.
    Bytes(usize),
    /// The same text in every item.
    #[serde(serialize_with = "text")]
    Text(Bytes),
}

impl Payload {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Bytes(n) => *n,
            Payload::Text(t) => t.len(),
        }
    }
}

/// What makes an answer right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It is the payload that was sent.
    Echo,
    /// It is the first answer of the recipe again: for recipes that compute, on a fixed text.
    Same,
    /// There is one.
    Any,
}

/// A scenario that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BadScenario {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that means nothing.
    #[error("{path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

fn secs<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(d.as_secs_f64())
}

fn names<S: Serializer>(codes: &[Code], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(codes.iter().map(|c| c.name()))
}

fn text<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&String::from_utf8_lossy(bytes))
}
