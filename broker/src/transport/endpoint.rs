//! The listener: one UDP socket, hardened settings, certificates that change while it runs.
//!
//! The accept loop never waits for a handshake. If it ends, the broker is told: never up but deaf.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration, time::Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use quinn::{
    AckFrequencyConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use tollgate_certs::{Snapshot, server_config};
use tollgate_protocol::close::CloseCode;

use super::{
    Config, connection,
    gate::{Gate, Verdict},
    keys::Secret,
    socket,
};
use crate::{broker::Services, metrics::Handshake};

/// Why a listener can not be started.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address can not be bound.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// Which address.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The keys that outlive the process can not be read or made.
    #[error("cannot use the transport keys: {0}")]
    Keys(io::Error),
    /// The certificate and the trust do not make a TLS configuration.
    #[error("cannot use the certificates: {0}")]
    Tls(#[from] rustls::Error),
    /// The TLS configuration does not serve QUIC.
    #[error("cannot use the certificates for QUIC: {0}")]
    Quic(#[from] NoInitialCipherSuite),
    /// A setting is out of its range.
    #[error(transparent)]
    Limit(#[from] super::config::BadLimit),
}

/// A listener that is bound and not yet serving.
pub(crate) struct Endpoint {
    endpoint: quinn::Endpoint,
    secret: Secret,
    transport: Arc<TransportConfig>,
}

impl Endpoint {
    /// Binds the address. Keys are kept in `data_dir`, or made for this process only.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub(crate) fn bind(
        addr: SocketAddr,
        config: &Config,
        snapshot: &Snapshot,
        data_dir: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        config.check()?;
        let secret = match data_dir {
            Some(dir) => Secret::load_or_create(dir),
            None => Secret::random(),
        }
        .map_err(EndpointError::Keys)?;
        let transport = Arc::new(transport(config));
        let server = server(config, snapshot, &secret, &transport)?;
        let bind = |source| EndpointError::Bind { addr, source };
        let socket = socket::bind(addr, config.socket_buffer_bytes).map_err(bind)?;
        let endpoint = quinn::Endpoint::new(
            endpoint_config(config, &secret),
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(bind)?;
        Ok(Endpoint { endpoint, secret, transport })
    }

    /// Trusts whom a later snapshot does, from the first handshake on.
    ///
    /// # Errors
    /// [`EndpointError`]; it trusts whom it did.
    pub(crate) fn trust(
        &mut self,
        config: &Config,
        snapshot: &Snapshot,
    ) -> Result<(), EndpointError> {
        let server = server(config, snapshot, &self.secret, &self.transport)?;
        self.endpoint.set_server_config(Some(server));
        Ok(())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Accepts connections until the endpoint is closed.
    pub(crate) async fn run(self, services: Arc<Services>) {
        let mut drain = services.drain.subscribe();
        let mut draining = false;
        let mut trust = services.trust.clone();
        let mut generation = trust.borrow_and_update().generation;
        let mut gate = Gate::new(&services.config.limits, Instant::now());
        let connections = tokio_util::task::TaskTracker::new();
        loop {
            // Biased: new certificates are in force before the next handshake begins.
            tokio::select! {
                biased;
                changed = trust.changed() => {
                    if changed.is_err() { break }
                    let snapshot = trust.borrow_and_update().clone();
                    match server(&services.config.limits, &snapshot, &self.secret, &self.transport) {
                        Ok(config) => {
                            self.endpoint.set_server_config(Some(config));
                            generation = snapshot.generation;
                            tracing::info!(generation, "certificates and trust were reloaded");
                        }
                        Err(error) => tracing::error!(%error, "new certificates can not be used"),
                    }
                }
                Ok(()) = drain.changed() => {
                    draining = drain.borrow_and_update().until().is_some();
                }
                () = services.stop.cancelled() => break,
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    if draining {
                        // Told, rather than left waiting: the next broker may take it at once.
                        incoming.refuse();
                        services.metrics.handshake(Handshake::Refused);
                        continue;
                    }
                    self.knock(incoming, &mut gate, &services, &connections, generation);
                }
            }
        }
        self.endpoint.close(VarInt::from_u32(CloseCode::Done.number()), b"the broker has stopped");
        connections.close();
        /// How long connections have to end, and the last packets to leave.
        const LAST_PACKETS: Duration = Duration::from_secs(2);
        let gone = async {
            connections.wait().await;
            self.endpoint.wait_idle().await;
        };
        let _ = tokio::time::timeout(LAST_PACKETS, gone).await;
    }

    fn knock(
        &self,
        incoming: quinn::Incoming,
        gate: &mut Gate,
        services: &Arc<Services>,
        connections: &tokio_util::task::TaskTracker,
        generation: u64,
    ) {
        let validated = incoming.remote_address_validated();
        match gate.judge(incoming.remote_address(), validated, Instant::now()) {
            Verdict::Accept => {}
            Verdict::Retry => {
                if let Err(e) = incoming.retry() {
                    e.into_incoming().ignore();
                }
                return services.metrics.handshake(Handshake::Retried);
            }
            Verdict::Ignore => {
                incoming.ignore();
                return services.metrics.handshake(Handshake::Ignored);
            }
            Verdict::Refuse => {
                incoming.refuse();
                return services.metrics.handshake(Handshake::Refused);
            }
        }
        match incoming.accept() {
            Ok(connecting) => {
                let (services, under_way) = (services.clone(), gate.begin());
                connections.spawn(connection::serve(services, connecting, under_way, generation));
            }
            Err(error) => {
                tracing::debug!(%error, "a first packet was refused");
                services.metrics.handshake(Handshake::Failed);
            }
        }
    }
}

fn endpoint_config(config: &Config, secret: &Secret) -> EndpointConfig {
    let mut e = EndpointConfig::new(secret.reset_key());
    // A restarted broker tells every old connection at once that it is gone.
    e.min_reset_interval(Duration::from_millis(1));
    e.cid_generator(|| Box::new(RandomIds(SystemRandom::new())));
    // `Config::check` has seen that it is at least 1200.
    let _ = e.max_udp_payload_size(config.mtu_max.max(1_472));
    e
}

fn server(
    config: &Config,
    snapshot: &Snapshot,
    secret: &Secret,
    transport: &Arc<TransportConfig>,
) -> Result<ServerConfig, EndpointError> {
    let tls = server_config(&snapshot.server, &snapshot.trust)?;
    let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
    let mut server = ServerConfig::new(crypto, secret.token_key());
    server.transport_config(transport.clone());
    server.migration(true);
    server.max_incoming(config.handshakes_max * 4);
    // A client hello with a long chain, per connection that has not been judged yet, and in all.
    server.incoming_buffer_size(64 << 10);
    server.incoming_buffer_size_total(16 << 20);
    Ok(server)
}

fn transport(config: &Config) -> TransportConfig {
    let mut t = TransportConfig::default();
    t.max_concurrent_bidi_streams(VarInt::from_u32(config.streams_unknown));
    t.max_concurrent_uni_streams(VarInt::from_u32(0));
    t.datagram_receive_buffer_size(None);
    t.stream_receive_window(VarInt::from_u32(config.stream_window_bytes));
    t.receive_window(VarInt::from_u32(config.connection_window_unknown_bytes));
    t.send_window(config.send_window_bytes);
    t.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(config.idle_timeout_ms))));
    t.initial_mtu(config.mtu_initial);
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(config.mtu_max);
    t.mtu_discovery_config((config.mtu_max > config.mtu_initial).then_some(mtu));
    t.enable_segmentation_offload(config.segmentation_offload);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(config.ack_threshold));
    t.ack_frequency_config(Some(acks));
    t
}

/// Connection ids of nothing but chance. quinn's own leave 3 bytes to it, and with kept keys the
/// ids before and after a restart would collide.
struct RandomIds(SystemRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        self.0.fill(&mut id).expect("the system has given randomness before");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Long enough that random ids do not collide, short enough to cost little in every packet.
const CONNECTION_ID_BYTES: usize = 8;
