//! A broker made of a script: real QUIC and real certificates, and whatever frames a test wants.
//!
//! It answers questions by itself and hands every batch to the test's own function.

pub mod bench;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use quinn::{
    Connection, Endpoint, ReadError, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tollgate_client::{BatchId, Client, ClientBuilder, ClientCredentials, CloseCode, Mode, Order};
use tollgate_protocol::{
    ALPN, BrokerFrame, ClientFrame, Extensions, Splitter,
    batch::{CancelScope, Durability, Number},
    describe::{Limits, Subject, Usage, UsageLine, Version},
    encode,
    id::JobId,
    job::{JobAction, JobTarget, JobWhich},
};

use crate::frames::{Counts, accepted, recipe, success, summary};

/// Nothing here takes long: what does hangs.
pub async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test hangs")
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Ca { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    fn credentials(&self, roots: &Ca) -> ClientCredentials {
        let (certificate, key) = self.issue("client");
        ClientCredentials::from_pem(
            certificate.pem().as_bytes(),
            key.serialize_pem().as_bytes(),
            roots.certificate.pem().as_bytes(),
        )
        .expect("good credentials")
    }
}

static CA: LazyLock<Ca> = LazyLock::new(Ca::new);
static OTHER_CA: LazyLock<Ca> = LazyLock::new(Ca::new);

pub fn credentials() -> ClientCredentials {
    CA.credentials(&CA)
}

/// Issued by an authority that the broker does not trust.
pub fn foreign_credentials() -> ClientCredentials {
    OTHER_CA.credentials(&CA)
}

/// Good for the broker, and expects a broker of another authority.
pub fn suspicious_credentials() -> ClientCredentials {
    CA.credentials(&OTHER_CA)
}

fn server_config(transport: TransportConfig) -> ServerConfig {
    let (certificate, key) = CA.issue("localhost");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CA.certificate.der().clone()).expect("a root");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.expect("a verifier"))
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a certificate");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("a QUIC configuration");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

type Script = Arc<dyn Fn(Peer) -> BoxFuture<'static, ()> + Send + Sync>;

/// A running broker; it stops when dropped.
pub struct Broker {
    pub addr: SocketAddr,
    pub endpoint: Endpoint,
}

impl Broker {
    /// Starts a broker that hands each batch, its open frame read, to `script`.
    pub fn start<F, Fut>(script: F) -> Broker
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(256 << 10));
        Broker::start_with(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), transport, None, script)
    }

    /// Starts a broker that closes every connection as soon as it is there.
    pub fn refusing(code: CloseCode, reason: &'static str) -> Broker {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let refuse = Some((code, reason));
        Broker::start_with(addr, TransportConfig::default(), refuse, |_| async {})
    }

    pub fn start_with<F, Fut>(
        addr: SocketAddr,
        transport: TransportConfig,
        refuse: Option<(CloseCode, &'static str)>,
        script: F,
    ) -> Broker
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let endpoint = Endpoint::server(server_config(transport), addr).expect("an endpoint");
        let addr = endpoint.local_addr().expect("an address");
        let script: Script = Arc::new(move |peer| script(peer).boxed());
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let script = script.clone();
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    if let Some((code, reason)) = refuse {
                        connection.close(VarInt::from_u32(code.number()), reason.as_bytes());
                        return;
                    }
                    while let Ok((send, recv)) = connection.accept_bi().await {
                        let peer = Peer::new(connection.clone(), send, recv);
                        tokio::spawn(serve(peer, script.clone()));
                    }
                });
            }
        });
        Broker { addr, endpoint }
    }

    /// Starts an echoing broker at an address that another is just giving up.
    pub async fn restart(addr: SocketAddr) -> Broker {
        while let Err(e) = std::net::UdpSocket::bind(addr) {
            assert_eq!(e.kind(), std::io::ErrorKind::AddrInUse);
            tokio::task::yield_now().await;
        }
        Broker::start_with(addr, TransportConfig::default(), None, Peer::echo)
    }

    pub fn client(&self) -> ClientBuilder {
        Client::builder(self.addr).server_name("localhost").credentials(credentials())
    }

    pub async fn connect(&self) -> Client {
        self.client().connect().await.expect("connected")
    }

    /// Says good-bye to every client and gives up the port.
    pub async fn stop(self, code: CloseCode, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code.number()), reason.as_bytes());
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn serve(mut peer: Peer, script: Script) {
    match peer.first().await {
        In::Open(open) => {
            peer.open = Some(open);
            script(peer).await;
        }
        In::Describe(subject) => peer.answer(subject).await,
        first @ (In::Work { .. }
        | In::Fetch { .. }
        | In::Deliver { .. }
        | In::Attach { .. }
        | In::Job(_)) => {
            peer.first = Some(first);
            script(peer).await;
        }
        other => panic!("a stream begins with {other:?}"),
    }
}

/// What a client says, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum In {
    Open(Opened),
    Work { credit: u32 },
    Fetch { work: u64, lease: u64 },
    Deliver { work: u64, lease: u64, size: u64 },
    Request { id: u64, recipe: String, payload: Bytes },
    Seal(u64),
    Cancel(CancelScope),
    Describe(Subject),
    Detach,
    Attach { target: JobTarget, after: Number, follow: bool },
    Job(Asked),
    Fin,
    Reset(u64),
    Lost,
}

/// What a client asks of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Get(JobId),
    List { states: u8, cursor: Option<String>, limit: u32 },
    Cancel(Option<JobId>, CancelScope),
    Replay(Option<JobId>),
    Purge(Option<JobId>),
}

/// What a client asks for a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub id: BatchId,
    pub tenant: Option<String>,
    pub durable: bool,
    pub fail_fast: bool,
    pub submission: bool,
    pub concurrency_max: u32,
    pub deadline_ms: Option<u64>,
    pub priority: u8,
    pub traceparent: Option<String>,
}

/// A client's stream, from the broker's side.
pub struct Peer {
    pub connection: Connection,
    pub open: Option<Opened>,
    /// What opened a stream that is no batch's.
    pub first: Option<In>,
    pub send: SendStream,
    pub recv: RecvStream,
    pub splitter: Splitter,
}

impl Peer {
    fn new(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        Peer { connection, open: None, first: None, send, recv, splitter: Splitter::new(16 << 20) }
    }

    /// The first frame, read to its end and no further: what follows may be raw bytes.
    async fn first(&mut self) -> In {
        let mut prefix = [0; 4];
        if self.recv.read_exact(&mut prefix).await.is_err() {
            return In::Lost;
        }
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        match self.recv.read_exact(&mut frame).await {
            Ok(()) => own(ClientFrame::decode(&frame).expect("a frame")),
            Err(_) => In::Lost,
        }
    }

    pub async fn next(&mut self) -> In {
        loop {
            if let Some(frame) = self.splitter.peek().expect("a frame within its limit") {
                let frame = own(ClientFrame::decode(frame).expect("a frame"));
                self.splitter.advance();
                return frame;
            }
            match self.recv.read_chunks(self.splitter.buffers()).await {
                Ok(Some(n)) => self.splitter.filled(n),
                Ok(None) => return In::Fin,
                Err(ReadError::Reset(code)) => return In::Reset(code.into_inner()),
                Err(_) => return In::Lost,
            }
        }
    }

    /// Every request up to the seal or whatever ends the stream, and that.
    pub async fn requests(&mut self) -> (Vec<(u64, String, Bytes)>, In) {
        let mut requests = Vec::new();
        loop {
            match self.next().await {
                In::Request { id, recipe, payload } => requests.push((id, recipe, payload)),
                end => return (requests, end),
            }
        }
    }

    pub async fn say(&mut self, frames: &[BrokerFrame<'_>]) {
        let mut out = Vec::new();
        frames.iter().for_each(|f| encode(f, &mut out));
        self.raw(&out).await;
    }

    /// A client may be gone: then there is nothing to say.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.send.write_all(bytes).await;
    }

    /// Accepts, echoes every item until the seal, and says good-bye.
    pub async fn echo(mut self) {
        self.say(&[accepted()]).await;
        let mut counts = Counts::default();
        loop {
            match self.next().await {
                In::Request { id, payload, .. } => {
                    counts.last = Some(id);
                    counts.ok += 1;
                    self.say(&[success(id, &payload)]).await;
                }
                In::Seal(items) => {
                    assert_eq!(items, counts.ok);
                    return self.end(counts).await;
                }
                _ => return,
            }
        }
    }

    pub async fn end(mut self, counts: Counts) {
        self.say(&[summary(&counts)]).await;
        let _ = self.send.finish();
    }

    /// Closes the connection, as a broker that is restarted does.
    pub fn go_away(&self) {
        self.connection.close(VarInt::from_u32(CloseCode::Draining.number()), b"");
    }

    pub fn stop(&mut self, code: tollgate_client::StreamCode) {
        let _ = self.recv.stop(code.number().into());
    }

    async fn answer(mut self, subject: Subject) {
        let answer = match subject {
            Subject::Version => {
                BrokerFrame::Version(Version { protocol: "tollgate/1", broker: "9.9.9" })
            }
            Subject::Limits => BrokerFrame::Limits(Limits {
                frame_bytes_max: 1 << 20,
                payload_bytes_max: 1_000_000,
                batch_items_max: 10_000,
                concurrency_max: 256,
                batches_in_flight_max: 16,
                extensions: Extensions::EMPTY,
            }),
            Subject::Usage => BrokerFrame::Usage(Usage {
                lines: vec![
                    UsageLine { quota: "connections", current: 1, limit: Some(10) },
                    UsageLine { quota: "requests_per_second", current: 0, limit: None },
                ],
            }),
            Subject::Recipes => BrokerFrame::Recipe(recipe()),
        };
        self.say(&[answer, BrokerFrame::End]).await;
        let _ = self.send.finish();
    }
}

fn own(frame: ClientFrame<'_>) -> In {
    match frame {
        ClientFrame::Batch(open) => In::Open(Opened {
            id: open.batch_id,
            tenant: open.tenant.map(Into::into),
            durable: open.durability == Durability::Durable,
            fail_fast: open.mode == Mode::FailFast,
            submission: open.order == Order::Submission,
            concurrency_max: open.concurrency_max,
            deadline_ms: open.deadline_ms,
            priority: open.priority,
            traceparent: open.traceparent.map(Into::into),
        }),
        ClientFrame::Request(r) => In::Request {
            id: r.id,
            recipe: r.recipe.into(),
            payload: Bytes::copy_from_slice(r.payload),
        },
        ClientFrame::Seal { items } => In::Seal(items),
        ClientFrame::Cancel(scope) => In::Cancel(scope),
        ClientFrame::Detach => In::Detach,
        ClientFrame::Attach(a) => In::Attach { target: a.target, after: a.after, follow: a.follow },
        ClientFrame::Job(ask) => In::Job(asked(ask.action)),
        ClientFrame::Describe(d) => In::Describe(d.subject),
        ClientFrame::Work(w) => In::Work { credit: w.credit },
        ClientFrame::Fetch(f) => In::Fetch { work: f.work, lease: f.lease },
        ClientFrame::Deliver(d) => In::Deliver { work: d.work, lease: d.lease, size: d.size },
        other => panic!("{other:?} is not expected"),
    }
}

fn asked(action: JobAction<'_>) -> Asked {
    let one = |which| match which {
        JobWhich::One(id) => Some(id),
        JobWhich::Filter(_) => None,
    };
    match action {
        JobAction::Get { job_id } => Asked::Get(job_id),
        JobAction::List { filter, cursor, limit } => {
            Asked::List { states: filter.states.bits(), cursor: cursor.map(Into::into), limit }
        }
        JobAction::Cancel { which, scope } => Asked::Cancel(one(which), scope),
        JobAction::Replay { which } => Asked::Replay(one(which)),
        JobAction::Purge { which } => Asked::Purge(one(which)),
    }
}
