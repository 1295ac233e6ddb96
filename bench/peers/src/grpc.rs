//! tonic gRPC with mutual TLS: one bidi stream per batch, or one unary call per sub-request.
use anyhow::{ensure, Result};
use bytes::Bytes;
use futures::{stream::FuturesUnordered, StreamExt};
use std::{net::SocketAddr, pin::Pin};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig},
    Request, Response, Status, Streaming,
};

use crate::{
    certs::Certs,
    drive::{Conn, Peer},
    sys::Server,
    tune::Tune,
    wire::id_sum,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Msg {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

#[allow(clippy::all)]
mod gen {
    include!(concat!(env!("OUT_DIR"), "/peers.Echo.rs"));
}
use gen::{
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};

struct Svc;

#[tonic::async_trait]
impl Echo for Svc {
    type BatchStream = Pin<Box<dyn futures::Stream<Item = Result<Msg, Status>> + Send>>;

    async fn batch(
        &self,
        req: Request<Streaming<Msg>>,
    ) -> Result<Response<Self::BatchStream>, Status> {
        Ok(Response::new(Box::pin(req.into_inner())))
    }
    async fn one(&self, req: Request<Msg>) -> Result<Response<Msg>, Status> {
        Ok(Response::new(req.into_inner()))
    }
}

const STREAM_WINDOW: u32 = 4 << 20;
const CONN_WINDOW: u32 = 16 << 20;

pub async fn serve(certs: Certs, t: Tune) -> Result<()> {
    let l = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certs.pem("server.pem")?, certs.pem("server.key")?))
        .client_ca_root(Certificate::from_pem(certs.pem("ca.pem")?));
    let mut b = tonic::transport::Server::builder()
        .tls_config(tls)?
        .tcp_nodelay(true)
        .max_concurrent_streams(Some(20_000));
    if t.get("windows", 1) != 0 {
        b = b
            .initial_stream_window_size(Some(STREAM_WINDOW))
            .initial_connection_window_size(Some(CONN_WINDOW));
    }
    if let Some(f) = t.opt::<u32>("frame") {
        b = b.max_frame_size(Some(f));
    }
    println!("ready {}", l.local_addr()?);
    let incoming = TcpListenerStream::new(l).map(|s| s.inspect(|s| drop(s.set_nodelay(true))));
    b.add_service(EchoServer::new(Svc)).serve_with_incoming(incoming).await?;
    Ok(())
}

pub struct Grpc {
    servers: [Server; 1],
    ep: Endpoint,
    unary: bool,
}

impl Grpc {
    pub async fn start(certs: &Certs, t: &Tune, unary: bool, serve: Vec<String>) -> Result<Self> {
        let (s, addr): (_, SocketAddr) = Server::spawn_self("tonic", &serve)?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(certs.pem("ca.pem")?))
            .identity(Identity::from_pem(certs.pem("client.pem")?, certs.pem("client.key")?))
            .domain_name("localhost");
        let mut ep =
            Endpoint::from_shared(format!("https://{addr}"))?.tls_config(tls)?.tcp_nodelay(true);
        if t.get("windows", 1) != 0 {
            ep = ep
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONN_WINDOW);
        }
        Ok(Grpc { servers: [s], ep, unary })
    }
}

impl Peer for Grpc {
    type Conn = GrpcConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    async fn connect(&self) -> Result<GrpcConn> {
        let client = EchoClient::new(self.ep.connect().await?);
        Ok(GrpcConn { client, unary: self.unary })
    }
}

pub struct GrpcConn {
    client: EchoClient<Channel>,
    unary: bool,
}

impl Conn for GrpcConn {
    async fn fork(&self) -> Result<Self> {
        Ok(GrpcConn { client: self.client.clone(), unary: self.unary })
    }

    async fn batch(&mut self, n: usize, payload: &Bytes) -> Result<()> {
        let (mut got, mut sum) = (0, 0u64);
        let mut check = |m: Msg| {
            got += 1;
            sum += m.id;
            ensure!(m.body.len() == payload.len(), "a result is short");
            Ok(())
        };
        let msgs = (0..n as u64).map(|id| Msg { id, body: payload.clone() });
        if self.unary {
            let mut calls: FuturesUnordered<_> = msgs
                .map(|m| {
                    let mut c = self.client.clone();
                    async move { c.one(m).await }
                })
                .collect();
            while let Some(res) = calls.next().await {
                check(res?.into_inner())?;
            }
        } else {
            let body = payload.clone();
            let msgs = (0..n as u64).map(move |id| Msg { id, body: body.clone() });
            let mut s = self.client.batch(futures::stream::iter(msgs)).await?.into_inner();
            while let Some(m) = s.message().await? {
                check(m)?;
            }
        }
        ensure!(got == n && sum == id_sum(n), "results are missing");
        Ok(())
    }
}
