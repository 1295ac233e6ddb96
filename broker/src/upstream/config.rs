//! The settings of HTTP upstreams, under `[upstreams.<name>]` of the configuration.
//!
//! Only data; what is wrong with it is said by [`check`](super::check).

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use tollgate_protocol::describe;

use crate::batch;

/// One HTTP service, and the recipes that call it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Where it is: `http://` or `https://`, a host, and the part of the path that all recipes share.
    pub url: String,
    /// Requests to it at once, of all its recipes: 64. Items beyond it wait in their batch.
    pub concurrency_max: u32,
    /// How long a connection may take to be made, TLS included: 2 s.
    pub connect_timeout_ms: u64,
    /// Connections that are kept open while nothing needs them: 16.
    pub pool_idle_max: usize,
    /// For how long: 15 s. Shorter than the upstream keeps them, or a request may meet a closed one.
    pub pool_idle_timeout_ms: u64,
    /// The authorities that vouch for it, PEM; without it, those of the operating system.
    pub tls_roots: Option<PathBuf>,
    /// The certificate chain that the broker shows it, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// The key of that certificate, PEM.
    pub tls_key: Option<PathBuf>,
    /// Headers of every request.
    pub headers: BTreeMap<String, HeaderText>,
    /// When it is left alone.
    pub breaker: Breaker,
    /// The recipes that call it, by name.
    pub recipes: BTreeMap<String, Recipe>,
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            url: String::new(),
            concurrency_max: 64,
            connect_timeout_ms: 2_000,
            pool_idle_max: 16,
            pool_idle_timeout_ms: 15_000,
            tls_roots: None,
            tls_certificate: None,
            tls_key: None,
            headers: BTreeMap::new(),
            breaker: Breaker::default(),
            recipes: BTreeMap::new(),
        }
    }
}

/// What a header says. Secrets are read from a file or a variable, never written here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HeaderText {
    /// The text itself.
    Text(String),
    /// A file has it.
    File(SecretFile),
    /// A variable of the process has it.
    Env(SecretEnv),
}

/// The first line of a file, read at the start and on SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Which file.
    pub file: PathBuf,
    /// What stands before the secret, such as `"Bearer "`.
    #[serde(default)]
    pub prefix: String,
}

/// A variable of the process, read at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretEnv {
    /// Its name.
    pub env: String,
    /// What stands before the secret, such as `"Bearer "`.
    #[serde(default)]
    pub prefix: String,
}

/// When an upstream that fails is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that open it: 5. 0 leaves them uncounted.
    pub failures: u32,
    /// The share of failures in the window that opens it, in per cent: 50. 0 leaves it unlooked at.
    pub ratio_percent: u32,
    /// Requests that must have ended in the window before their share counts: 20.
    pub requests_min: u32,
    /// How long the window is: 10 s.
    pub window_ms: u64,
    /// How long it stays open: 5 s.
    pub open_ms: u64,
    /// Requests that are let through then, all of which must be answered: 1.
    pub probes: u32,
    /// Statuses that count as failures, beside the lack of any answer: 502, 503, 504.
    pub statuses: Vec<u16>,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failures: 5,
            ratio_percent: 50,
            requests_min: 20,
            window_ms: 10_000,
            open_ms: 5_000,
            probes: 1,
            statuses: vec![502, 503, 504],
        }
    }
}

/// A recipe that is a request to an upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// How it is asked.
    pub method: Method,
    /// What follows the upstream's URL: `/render/{tenant}?size={metadata.size}`.
    pub path: String,
    /// Headers of its requests, beside and before those of the upstream.
    pub headers: BTreeMap<String, HeaderText>,
    /// For people.
    pub description: String,
    /// What its payload is, and the `Content-Type` that is sent.
    pub encoding: Encoding,
    /// The longest an attempt may take; without it, the larger of 5 s and four times
    /// `estimated_duration_ms`.
    pub timeout_ms: Option<u64>,
    /// The longest an item waits to be sent: 30 s.
    pub queue_timeout_ms: u64,
    /// How long it usually takes.
    pub estimated_duration_ms: u64,
    /// How many run at once; without it, the upstream's bound alone.
    pub concurrency_max: Option<u32>,
    /// Whether asking twice does no more than asking once: only then may a failure be tried again.
    pub idempotent: bool,
    /// How jobs of it are tried again.
    pub retry: Retry,
    /// The largest payload; without it, as large as a frame may be. `GET` and `DELETE` have none.
    pub payload_bytes_max: Option<usize>,
    /// The largest answer: 1 MiB.
    pub result_bytes_max: usize,
    /// JSON Schema of its payload.
    pub schema: Option<serde_json::Value>,
    /// The same, in a file.
    pub schema_file: Option<PathBuf>,
}

impl Default for Recipe {
    fn default() -> Self {
        let spec = batch::Spec::default();
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Recipe {
            method: Method::Post,
            path: "/".into(),
            headers: BTreeMap::new(),
            description: String::new(),
            encoding: Encoding::Json,
            timeout_ms: None,
            queue_timeout_ms: ms(spec.queue_timeout),
            estimated_duration_ms: 0,
            concurrency_max: None,
            idempotent: false,
            retry: Retry::default(),
            payload_bytes_max: None,
            result_bytes_max: spec.result_bytes_max,
            schema: None,
            schema_file: None,
        }
    }
}

/// How jobs of a recipe are tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often in all: 5.
    pub attempts_max: u32,
    /// The wait before the second attempt: 1 s.
    pub first_ms: u64,
    /// How much longer each later one is: 2.
    pub factor: f64,
    /// The longest wait: 5 min.
    pub cap_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts_max: 5, first_ms: 1_000, factor: 2.0, cap_ms: 300_000 }
    }
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// No payload.
    Get,
    /// The payload is the body.
    Post,
    /// The payload is the body.
    Put,
    /// The payload is the body.
    Patch,
    /// No payload.
    Delete,
}

impl Method {
    pub(super) fn has_body(self) -> bool {
        !matches!(self, Method::Get | Method::Delete)
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        }
    }
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON text: `application/json`.
    Json,
    /// Postcard: `application/octet-stream`.
    Postcard,
    /// Anything: `application/octet-stream`, unless a header says otherwise.
    Bytes,
}

impl From<Encoding> for describe::Encoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Json => describe::Encoding::Json,
            Encoding::Postcard => describe::Encoding::Postcard,
            Encoding::Bytes => describe::Encoding::Bytes,
        }
    }
}
