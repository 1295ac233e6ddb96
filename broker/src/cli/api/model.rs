//! The API's documents, as far as tables show them. JSON output never goes through these: it is
//! the document as the broker gave it.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A document as one of the types below.
///
/// # Errors
/// When the broker is of another version, and this is not how its document looks.
pub(in crate::cli) fn read<T: DeserializeOwned>(document: &Value) -> anyhow::Result<T> {
    T::deserialize(document)
        .map_err(|e| anyhow::anyhow!("the broker's answer is not of this version: {e}"))
}

/// The items of a list.
///
/// # Errors
/// As [`read`].
pub(in crate::cli) fn items<T: DeserializeOwned>(page: &Value) -> anyhow::Result<Vec<T>> {
    read(&page["items"])
}

/// A tenant.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Tenant {
    pub id: String,
    #[serde(default)]
    pub name: String,
    pub state: String,
    pub profile: String,
    pub quotas: BTreeMap<String, i64>,
    #[serde(default)]
    pub overrides: BTreeMap<String, i64>,
    pub policy: String,
    pub concurrency: u64,
    pub workers: u64,
    pub weight: u64,
    #[serde(default)]
    pub gateways: Vec<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    pub created_at: String,
    pub updated_at: String,
    pub revision: u64,
}

/// What a tenant uses of its quotas.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::cli) struct Usage {
    #[serde(default)]
    pub tenant_id: String,
    #[serde(default)]
    pub quotas: Vec<QuotaUsage>,
}

/// One of them.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::cli) struct QuotaUsage {
    pub quota: String,
    pub current: u64,
    /// -1 is unlimited.
    pub limit: i64,
    #[serde(default)]
    pub utilisation_percent: Option<f64>,
    #[serde(default)]
    pub level: Level,
}

/// How close to its limit a quota is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Level {
    #[default]
    Normal,
    /// From 80 % on.
    Warning,
    /// From 95 % on.
    Critical,
}

/// What a tenant did since the broker started.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Stats {
    pub tenant_id: String,
    pub items_succeeded: u64,
    pub items_failed: u64,
    pub failures: BTreeMap<String, u64>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub latency_us: Latency,
}

/// How long its items took.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub count: u64,
}

/// A profile of quotas.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Profile {
    pub name: String,
    pub quotas: BTreeMap<String, i64>,
}

/// A connection.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Connection {
    pub id: Value,
    pub identity: String,
    #[serde(default)]
    pub role: String,
    pub address: String,
    pub connected_at: String,
    pub last_seen_at: String,
    #[serde(default)]
    pub streams: u64,
}

/// A worker.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Worker {
    pub id: Value,
    pub identity: String,
    #[serde(default)]
    pub address: Option<String>,
    pub connected_at: String,
    pub recipes: Vec<String>,
    pub credit: u64,
    pub leased: u64,
    pub answered: u64,
    pub failed: u64,
    pub draining: bool,
}

/// All workers together.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct WorkerTotal {
    pub workers: u64,
    pub credit: u64,
    pub leased: u64,
    pub waiting: u64,
    pub waiting_unserved: u64,
}

/// Something that was revoked.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Revocation {
    pub id: Value,
    #[serde(default)]
    pub serial: Option<String>,
    #[serde(default)]
    pub spiffe_id: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
    pub created_at: String,
}

/// An id as people read it, whether it is a number or text.
pub(in crate::cli) fn id(value: &Value) -> String {
    match value {
        Value::String(text) => crate::cli::output::printable(text),
        other => other.to_string(),
    }
}

/// The states of jobs, as the API names them.
pub(in crate::cli) const JOB_STATES: [&str; 7] =
    ["queued", "running", "retrying", "succeeded", "failed", "cancelled", "dead"];

/// A job.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Job {
    pub id: String,
    pub batch_id: String,
    pub item_id: u64,
    pub recipe: String,
    pub state: String,
    pub priority: u8,
    pub attempts: u32,
    pub attempts_max: u32,
    pub payload_bytes: u64,
    pub result_bytes: u64,
    pub created_at: String,
    pub started_at: Option<String>,
    pub due_at: Option<String>,
    pub ended_at: Option<String>,
    pub expires_at: Option<String>,
    pub code: Option<String>,
    pub progress: Option<JobProgress>,
    pub idempotency_key: Option<String>,
    #[serde(default)]
    pub errors: Vec<JobError>,
}

/// How far a job is.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct JobProgress {
    pub done: u64,
    pub total: u64,
    #[serde(default)]
    pub message: String,
}

impl JobProgress {
    /// So much of so much.
    pub fn so_far(&self) -> String {
        if self.total == 0 {
            self.done.to_string()
        } else {
            format!("{}/{}", self.done, self.total)
        }
    }
}

/// What an attempt of a job failed with.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct JobError {
    pub attempt: u32,
    pub at: String,
    pub code: String,
    pub message: String,
}

/// How many jobs a tenant has.
#[derive(Debug, Default, Deserialize)]
pub(in crate::cli) struct JobStats {
    pub queued: u64,
    pub running: u64,
    pub retrying: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub dead: u64,
    pub bytes: u64,
}

/// A topic.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Topic {
    pub name: String,
    pub partitions: Vec<Partition>,
    pub messages: u64,
    pub bytes: u64,
    pub retention: Retention,
    pub groups: u64,
    pub created_at: String,
}

/// One of its partitions.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Partition {
    pub partition: u64,
    pub first_offset: u64,
    pub next_offset: u64,
    pub bytes: u64,
}

/// How long its messages are kept.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Retention {
    pub age_ms: Option<u64>,
    pub bytes: Option<u64>,
}

/// A topic that is bound to a recipe.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Binding {
    pub topic: String,
    pub name: String,
    pub recipe: String,
    pub created_at: String,
    pub awake: bool,
    pub in_flight: u64,
    pub lag: u64,
}

/// A consumer group.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Group {
    pub topic: String,
    pub name: String,
    pub members: u64,
    pub lag: u64,
    #[serde(default)]
    pub partitions: Vec<GroupPartition>,
}

/// How far it is in one partition.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct GroupPartition {
    pub partition: u32,
    pub position: u64,
    pub next_offset: u64,
    pub in_flight: u64,
    pub member: Option<u64>,
}
