//! The configuration of a broker: one struct a subsystem, every default in one place.
//!
//! Only data: reading files, variables and flags is the command line's business.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::{
    batch::Config as Batch,
    events::Config as Events,
    http::Config as Http,
    jobs::Config as Jobs,
    metrics::Config as Metrics,
    store::Config as Store,
    tenancy::Config as Tenancy,
    topics::Config as Topics,
    transport::Config as Limits,
    upstream::{Config as Upstreams, Upstream},
    workers::Config as Workers,
};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen for QUIC (UDP).
    pub listen: SocketAddr,
    /// Where to keep what outlives the process. Without it nothing does, and `tls` must be set.
    pub data_dir: Option<PathBuf>,
    /// Threads.
    pub runtime: Runtime,
    /// Certificates.
    pub tls: Tls,
    /// Connections and streams.
    pub limits: Limits,
    /// Tenants and their quotas.
    pub tenancy: Tenancy,
    /// The engine.
    pub batch: Batch,
    /// Services that run recipes.
    pub workers: Workers,
    /// Items that outlive their batch.
    pub jobs: Jobs,
    /// Tenants' durable logs.
    pub topics: Topics,
    /// HTTP services that recipes call, by name.
    pub upstreams: Upstreams,
    /// The durable store, when there is a data directory.
    pub store: Store,
    /// The bus of what happens.
    pub events: Events,
    /// Metrics and statistics.
    pub metrics: Metrics,
    /// The HTTP API.
    pub http: Http,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go; the binary's business, not the library's.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 4433)),
            data_dir: Some("tollgate-data".into()),
            runtime: Runtime::default(),
            tls: Tls::default(),
            limits: Limits::default(),
            tenancy: Tenancy::default(),
            batch: Batch::default(),
            workers: Workers::default(),
            jobs: Jobs::default(),
            topics: Topics::default(),
            upstreams: Upstreams::default(),
            store: Store::default(),
            events: Events::default(),
            metrics: Metrics::default(),
            http: Http::default(),
            log: Log::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// The threads that QUIC and the engine run on; the binary's business, not the library's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// 1 runs everything on one thread, more on as many; 0 chooses: one thread on up to 4 cores
    /// (the endpoint's driver is one task, and hopping between cores costs more than it gives),
    /// half of the cores beyond.
    pub threads: usize,
}

impl Runtime {
    /// The number of threads that is meant.
    pub fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.threads {
            0 if cores <= 4 => 1,
            0 => cores / 2,
            n => n,
        }
    }
}

/// Certificates. With none of the first three set, a development authority is made in the data
/// directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// The server's private key, PEM.
    pub key: Option<PathBuf>,
    /// The authorities that vouch for clients, PEM.
    pub roots: Vec<PathBuf>,
    /// Lists of revoked certificates, PEM.
    pub crls: Vec<PathBuf>,
    /// Serials and SPIFFE IDs that are turned away, one a line.
    pub deny: Option<PathBuf>,
    /// The trust domain of all identities.
    pub trust_domain: String,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            certificate: None,
            key: None,
            roots: Vec::new(),
            crls: Vec::new(),
            deny: None,
            trust_domain: "tollgate.local".into(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives of `tracing`'s `EnvFilter`.
    pub level: String,
    /// Text for people, JSON for machines.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// A collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; empty for
    /// none.
    pub otlp_endpoint: String,
    /// The share of batches that are recorded, 0.0 to 1.0, among those whose client did not decide
    /// it with a `traceparent`.
    pub otlp_sample_ratio: f64,
    /// By which name the broker is known there.
    pub service_name: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            otlp_endpoint: String::new(),
            otlp_sample_ratio: 1.0,
            service_name: "tollgate".into(),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
