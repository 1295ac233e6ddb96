//! What a run is to do, checked: who does what, how fast, in which phases, what must come back, and
//! what is asked of the figures.
//!
//! Built from a file or from flags (`file`, `load`), and only read from then on.

mod file;
mod goal;
mod load;
mod sizes;

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use serde::{Serialize, Serializer};
use tollgate_client::Code;

pub use file::{Overrides, ScenarioFile, TenantFile};
pub use goal::{Against, Figure, Goal};
pub use load::{Load, OperationName};
pub use sizes::Sizes;

use crate::pattern::mix;

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    /// The broker, as `host:port`.
    pub addr: String,
    /// The name that its certificate must carry.
    pub server_name: String,
    /// How long what is under way may take after the end; also the limit of one operation.
    #[serde(rename = "drain_s", serialize_with = "secs")]
    pub drain: Duration,
    /// The p99 of latency, of all tenants and phases together, that must not be passed.
    pub p99_max_ms: Option<f64>,
    /// How often the phases are gone through.
    pub rounds: usize,
    /// What follows on what, in every round; one at least.
    pub phases: Vec<Phase>,
    /// What is asked of the figures.
    pub goals: Vec<Goal>,
    /// Who does something.
    pub tenants: Vec<Tenant>,
}

impl Scenario {
    /// How long is measured in all.
    pub fn measured(&self) -> Duration {
        self.phases.iter().map(|p| p.duration).sum::<Duration>() * self.rounds as u32
    }
}

/// A stretch of a run that is measured by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// What the report calls it.
    pub name: String,
    /// How long is measured.
    #[serde(rename = "duration_s", serialize_with = "secs")]
    pub duration: Duration,
    /// How long load runs before that.
    #[serde(rename = "warm_up_s", serialize_with = "secs")]
    pub warm_up: Duration,
    /// Which tenants take part, by their place.
    pub tenants: Vec<usize>,
    /// What every rate, and every number in flight, is multiplied by.
    pub load: f64,
}

/// The load of one tenant.
#[derive(Debug, Clone, Serialize)]
pub struct Tenant {
    /// What the report calls it.
    pub name: String,
    /// Where `cert.pem`, `key.pem` and `ca.pem` are.
    pub certs: PathBuf,
    /// What it does.
    pub operation: Operation,
    /// Connections, which operations take in turn. For `connect`: the sockets that its connections
    /// share.
    pub connections: usize,
    /// Items of a batch.
    pub batch_items: Sizes,
    /// When operations begin.
    pub pace: Pace,
    /// How it gets to its full pace.
    pub ramp: Option<Ramp>,
    /// The recipes of its items: an item's place in this cycle decides.
    #[serde(skip)]
    pub cycle: Vec<u16>,
    /// What the places of the cycle stand for.
    pub recipes: Vec<Recipe>,
    /// Codes with which items and operations may fail.
    #[serde(serialize_with = "names")]
    pub allow_errors: Vec<Code>,
    /// Whether what was due and never sent is as it should be: load beyond a quota.
    pub allow_not_sent: bool,
    /// From 0 to 7.
    pub priority: Option<u8>,
    /// What it should get beside the others, for the figures `jain` and `share_error`.
    pub share: f64,
}

impl Tenant {
    /// The recipe of an item.
    #[inline]
    pub fn recipe_of(&self, id: u64) -> (usize, &Recipe) {
        // Batches that are all alike have ids without gaps, and the weights come out exactly.
        let place = if matches!(self.batch_items, Sizes::Fixed(_)) { id } else { mix(id) };
        let at = usize::from(self.cycle[(place % self.cycle.len() as u64) as usize]);
        (at, &self.recipes[at])
    }

    /// The ids of a batch: the first, and how many there are.
    pub fn ids(&self, batch: u64) -> (u64, u64) {
        (batch * self.batch_items.max(), self.batch_items.at(mix(!batch)))
    }

    /// The longest payload it sends, in bytes.
    pub fn payload_max(&self) -> usize {
        self.recipes.iter().map(|r| r.payload.max()).max().unwrap_or(0)
    }
}

/// What a tenant does again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A batch of items, answered on its stream.
    Batch,
    /// A durable batch: each item is a job, kept before it is accepted, and ends exactly once.
    Job {
        /// How many of the newest batches are read again from the broker's records at the end.
        audit: usize,
        /// Whether the jobs are forgotten at the end.
        purge: bool,
    },
    /// A connection: a handshake, a first answer, held for a while, closed.
    Connect {
        /// For how long.
        #[serde(rename = "hold_s", serialize_with = "secs")]
        hold: Duration,
    },
    /// A group of messages, appended to a topic, and read from it meanwhile.
    Produce(Topic),
}

/// What `produce` appends to, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its name; one is made for the run when there is none.
    pub name: Option<String>,
    /// Partitions: of a topic that is made, 1 when left out; one that is there must have as many.
    pub partitions: Option<u32>,
    /// Members of the group that reads it.
    pub consumers: usize,
    /// Without consumers: how many of the newest operations are read back at the end.
    pub audit: usize,
    /// Whether a topic that was made stays at the end.
    pub keep: bool,
}

impl Operation {
    /// Whether its items are jobs: how long their acceptance takes is told.
    pub fn has_jobs(&self) -> bool {
        matches!(self, Operation::Job { .. })
    }

    /// Whether its messages are read while they are produced: how long that takes is told.
    pub fn is_read(&self) -> bool {
        matches!(self, Operation::Produce(topic) if topic.consumers > 0)
    }

    /// Its name in a scenario.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Batch => "batch",
            Operation::Job { .. } => "job",
            Operation::Connect { .. } => "connect",
            Operation::Produce(_) => "produce",
        }
    }
}

/// When operations begin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// A closed loop: so many operations are under way at any time.
    InFlight(usize),
    /// An open loop: operations are due at this rate, whether or not earlier ones are answered.
    PerSecond {
        /// The rate.
        rate: f64,
        /// What is due beyond so many under way waits, and its latency counts on.
        in_flight_max: usize,
    },
}

impl Pace {
    /// The number that a ramp leads to.
    pub fn full(&self) -> f64 {
        match self {
            Pace::InFlight(n) => *n as f64,
            Pace::PerSecond { rate, .. } => *rate,
        }
    }
}

/// How a tenant gets to its full pace, in every phase, from when it is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ramp {
    /// Where it begins: operations a second, or in flight.
    pub from: f64,
    /// How long it takes.
    #[serde(rename = "over_s", serialize_with = "secs")]
    pub over: Duration,
    /// In so many steps, the first at `from`, the last at the full pace; 0: evenly.
    pub steps: u32,
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
    Bytes(Sizes),
    /// The same text in every item.
    #[serde(serialize_with = "text")]
    Text(Bytes),
}

impl Payload {
    /// The length of an item's payload, in bytes.
    #[inline]
    pub fn len_of(&self, id: u64) -> usize {
        match self {
            Payload::Bytes(Sizes::Fixed(n)) => *n as usize,
            Payload::Bytes(sizes) => sizes.at(mix(id)) as usize,
            Payload::Text(t) => t.len(),
        }
    }

    /// The longest there is, in bytes.
    pub fn max(&self) -> usize {
        match self {
            Payload::Bytes(sizes) => usize::try_from(sizes.max()).unwrap_or(usize::MAX),
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
    #[error("cannot read {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not. No source of its own: it is told already.
        why: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that means nothing.
    #[error("{path}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong; as above.
        why: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

/// The same for every key: what is wrong with it.
fn bad(key: &str, problem: impl std::fmt::Display) -> BadScenario {
    BadScenario::Value(format!("`{key}`: {problem}"))
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
