//! The settings of the HTTP listener.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use tollgate_protocol::id::TenantId;

use super::auth::{self, TokenError};

/// The settings of the HTTP listener, under `[http]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is one: `tollgate serve` has one, a broker within another program only when
    /// it is told to.
    pub enabled: bool,
    /// Where to listen (TCP). Any address that is not this machine's own needs `tls`.
    pub listen: SocketAddr,
    /// Whether it speaks TLS. Implied by `certificate`. Operators' certificates are then let in.
    pub tls: bool,
    /// Its certificate chain, PEM; without it, that of `tls.certificate`.
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`, PEM.
    pub key: Option<PathBuf>,
    /// The authorities that vouch for its clients, PEM; without them, those of `tls.roots`.
    pub client_roots: Vec<PathBuf>,
    /// A file that holds the operators' bearer token.
    pub operator_token_file: Option<PathBuf>,
    /// Bearer tokens that are good for one tenant.
    pub tokens: Vec<TokenOf>,
    /// Connections open at once. A sixteenth of them is not for tenants. When all are taken, the
    /// oldest that came without a credential so far gives its place to who comes; when there is
    /// none, who comes is closed.
    pub connections_max: usize,
    /// Connections open at once of one source (an IPv4 address, an IPv6 /64) that came without a
    /// credential so far; the oldest of them gives its place to who comes. This machine is a source
    /// like any other.
    pub source_connections_max: usize,
    /// How long a new connection may take until its first request is there: TLS, and the head, in
    /// milliseconds.
    pub first_request_timeout_ms: u64,
    /// How long the head of a request may take, the wait for it included, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a request may take that is not a stream, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long an answer may wait without one byte taken, in milliseconds.
    pub write_timeout_ms: u64,
    /// The largest body, in bytes; batches are bounded by the line.
    pub body_bytes_max: usize,
    /// The longest line of a batch, in bytes.
    pub line_bytes_max: usize,
    /// Streams of events open at once.
    pub event_streams_max: usize,
    /// Streams of what becomes of jobs open at once, of one tenant.
    pub job_streams_max: usize,
}

/// A bearer token that is good for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenOf {
    /// The tenant's id.
    pub tenant: String,
    /// What its holder is.
    pub role: TokenRole,
    /// The file that holds it.
    pub file: PathBuf,
}

/// What the holder of a tenant's token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Submits work.
    Client,
    /// Serves recipes.
    Worker,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            enabled: false,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            tls: false,
            certificate: None,
            key: None,
            client_roots: Vec::new(),
            operator_token_file: None,
            tokens: Vec::new(),
            connections_max: 1_024,
            source_connections_max: 64,
            first_request_timeout_ms: 5_000,
            header_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            write_timeout_ms: 10_000,
            body_bytes_max: 1 << 20,
            line_bytes_max: 2 << 20,
            event_streams_max: 64,
            job_streams_max: 64,
        }
    }
}

/// A setting of the HTTP listener that can not be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("http.{key}: {why}")]
pub struct BadHttp {
    /// The key, without its section.
    pub key: &'static str,
    /// What is allowed, and why.
    pub why: &'static str,
}

impl Config {
    /// A listener on any free port of this machine: for tests.
    pub fn anywhere() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config { enabled: true, listen, ..Config::default() }
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls || self.certificate.is_some()
    }

    /// Reads the token files, and says everything that is wrong with them.
    pub fn token_mistakes(&self) -> Vec<TokenError> {
        if self.enabled { auth::mistakes(self) } else { Vec::new() }
    }

    /// Finds the first setting that can not be honoured.
    ///
    /// # Errors
    /// [`BadHttp`], naming the key and what is allowed.
    pub fn check(&self) -> Result<(), BadHttp> {
        let bad = |key, why| Err(BadHttp { key, why });
        if !self.enabled {
            return Ok(());
        }
        if !self.listen.ip().to_canonical().is_loopback() && !self.is_tls() {
            let why = "an address that is not this machine's own needs TLS and a credential: set \
                       http.tls = true (operators then present certificates of the role operator, \
                       or a token of http.operator_token_file)";
            return bad("listen", why);
        }
        if self.certificate.is_some() != self.key.is_some() {
            return bad("certificate", "certificate and key are set together or not at all");
        }
        if !self.client_roots.is_empty() && !self.is_tls() {
            return bad("client_roots", "certificates of clients need http.tls");
        }
        if self.tokens.iter().any(|t| TenantId::check(&t.tenant).is_err()) {
            return bad("tokens", "tenant is not a tenant's id");
        }
        if self.connections_max == 0 {
            return bad("connections_max", "must be at least 1");
        }
        if self.source_connections_max == 0 {
            return bad("source_connections_max", "must be at least 1");
        }
        if self.first_request_timeout_ms < 100 {
            return bad("first_request_timeout_ms", "must be at least 100");
        }
        if self.header_timeout_ms < 100 {
            return bad("header_timeout_ms", "must be at least 100");
        }
        if self.request_timeout_ms < 100 {
            return bad("request_timeout_ms", "must be at least 100");
        }
        if self.write_timeout_ms < 100 {
            return bad("write_timeout_ms", "must be at least 100");
        }
        if !(1_024..=64 << 20).contains(&self.body_bytes_max) {
            return bad("body_bytes_max", "must be from 1024 to 67108864");
        }
        if !(1_024..=64 << 20).contains(&self.line_bytes_max) {
            return bad("line_bytes_max", "must be from 1024 to 67108864");
        }
        Ok(())
    }
}
