//! How a client is set up.
//!
//! Opens nothing until `connect`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use quinn::Endpoint;
use tollgate_certs::ClientCredentials;
use tollgate_protocol::limits;

use crate::{
    client::{Client, Habits},
    error::ConnectError,
    link::{Dialing, Link},
    retry::{Backoff, RetryPolicy},
    transport::{SocketBuffers, Transport},
};

/// Everything about a client but whom it talks to and as whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket, packet sizes, windows and time-outs.
    pub transport: Transport,
    /// How long one attempt to connect may take, confirmation included (10 s).
    pub connect_timeout: Duration,
    /// How often, and after what waits, a lost connection is opened again before an operation
    /// gives up. The first connection is tried once.
    pub reconnect: Backoff,
    /// Which items are tried again, unless a batch or call says otherwise.
    pub retry: RetryPolicy,
    /// For how long a broker that is out of reach is looked for while there are jobs to hear of
    /// (10 min): it may be restarting. The jobs go on without the client.
    pub patience: Duration,
    /// The local address (any, of the broker's address family).
    pub bind: Option<SocketAddr>,
    /// The longest frame taken from the broker, in bytes (16 MiB, the most there can be). Memory
    /// grows with what arrives, not with what is announced.
    pub frame_bytes_max: usize,
    /// Whether connecting ends with a question that the broker must answer (yes). With TLS 1.3 a
    /// refused certificate shows only after the handshake: without this it shows in the first
    /// operation.
    pub confirm: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            transport: Transport::default(),
            connect_timeout: Duration::from_secs(10),
            reconnect: Backoff::RECONNECT,
            retry: RetryPolicy::default(),
            patience: Duration::from_secs(600),
            bind: None,
            frame_bytes_max: limits::FRAME_BYTES_HARD_MAX,
            confirm: true,
        }
    }
}

/// Sets up a client; made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect`"]
pub struct ClientBuilder {
    addr: SocketAddr,
    server_name: Option<String>,
    credentials: Option<ClientCredentials>,
    endpoint: Option<Endpoint>,
    config: Config,
}

impl ClientBuilder {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        ClientBuilder {
            addr,
            server_name: None,
            credentials: None,
            endpoint: None,
            config: Config::default(),
        }
    }

    /// The name that the broker's certificate must carry; the address itself when left out.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Who the client is, and which authorities it trusts. Required.
    pub fn credentials(mut self, credentials: ClientCredentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Replaces the whole configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The socket, packet sizes, windows and time-outs.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.config.transport = transport;
        self
    }

    /// How long one attempt to connect may take.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How a lost connection is opened again.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.config.reconnect = backoff;
        self
    }

    /// Which items are tried again, unless a batch or call says otherwise.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.config.retry = retry;
        self
    }

    /// For how long a broker that is out of reach is looked for while there are jobs to hear of.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.config.patience = patience;
        self
    }

    /// The local address to send from.
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.config.bind = Some(addr);
        self
    }

    /// The longest frame taken from the broker, in bytes; at most 16 MiB.
    pub fn frame_bytes_max(mut self, bytes: usize) -> Self {
        self.config.frame_bytes_max = bytes;
        self
    }

    /// Whether connecting ends with a question that the broker must answer.
    pub fn confirm(mut self, confirm: bool) -> Self {
        self.config.confirm = confirm;
        self
    }

    /// Uses an endpoint that is there already, so that many clients share one socket. The
    /// settings of the socket are then the endpoint's, and `close` leaves it open.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Opens the socket and connects: one attempt.
    ///
    /// Must be called within a tokio runtime. Cancel-safe: dropping the future gives up.
    ///
    /// # Errors
    /// [`ConnectError`]: `Unauthorized` and `Refused` when the broker does not want this client
    /// (only with [`confirm`](Self::confirm)), `Timeout` when nobody answers, `Config` when the
    /// settings cannot be used or no credentials were given.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let (link, habits, buffers) = self.into_link()?;
        link.connect().await?;
        Ok(Client::new(link, habits, buffers))
    }

    /// Opens the socket, if it is to be this client's own; nothing is sent yet.
    pub(crate) fn into_link(self) -> Result<(Link, Habits, Option<SocketBuffers>), ConnectError> {
        let ClientBuilder { addr, server_name, credentials, endpoint, config } = self;
        let credentials =
            credentials.ok_or_else(|| ConnectError::Config("no credentials were given".into()))?;
        let transport = Arc::new(config.transport.to_quinn()?);
        let (endpoint, buffers) = match endpoint {
            Some(endpoint) => (endpoint, None),
            None => {
                let bind = config.bind.unwrap_or_else(|| any(&addr));
                let (endpoint, buffers) = config.transport.open(bind)?;
                (endpoint, Some(buffers))
            }
        };
        let dialing = Dialing {
            endpoint,
            addr,
            server_name: server_name.unwrap_or_else(|| addr.ip().to_string()).into(),
            transport,
            connect_timeout: config.connect_timeout,
            confirm: config.confirm,
            receive_frame_max: config.frame_bytes_max.min(limits::FRAME_BYTES_HARD_MAX),
        };
        let link = Link::new(dialing, config.reconnect, &credentials)?;
        Ok((link, Habits { retry: config.retry, patience: config.patience }, buffers))
    }
}

fn any(remote: &SocketAddr) -> SocketAddr {
    let ip: IpAddr =
        if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}
