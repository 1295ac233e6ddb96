//! Raw QUIC: what quinn itself can carry. One bidi stream per batch, records echoed.
//!
//! `echo=` how the server treats records
//!   chunk   whatever bytes arrive go back, uncut and uncopied (the limit of the transport)
//!   record  records are cut out, copied to an output buffer, written per arriving chunk (default)
//!   naive   records are cut out, each written with its own write_all
//!   spawn   records are cut out, each handled in its own spawned task, a writer gathers results
use anyhow::{ensure, Result};
use bytes::{Bytes, BytesMut};
use quinn::{
    congestion::{BbrConfig, CubicConfig, NewRenoConfig},
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    AckFrequencyConfig, Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, RecvStream,
    SendStream, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::mpsc;

use crate::{
    certs::Certs,
    drive::{Conn, Held, Peer},
    sys::Server,
    tune::Tune,
    wire::{id_sum, put_head, Cut, Scan, HEAD},
};

const ALPN: &[u8] = b"peers-echo/1";

fn transport(t: &Tune) -> TransportConfig {
    let mut c = TransportConfig::default();
    c.max_concurrent_bidi_streams(VarInt::from_u32(t.get("streams", 256)));
    c.max_idle_timeout(Some(Duration::from_secs(60).try_into().expect("in range")));
    if let Some(v) = t.opt::<u8>("gso") {
        c.enable_segmentation_offload(v != 0);
    }
    if let Some(ms) = t.opt("keep") {
        c.keep_alive_interval(Some(Duration::from_millis(ms)));
    }
    if let Some(v) = t.opt::<u16>("mtu") {
        let mut m = MtuDiscoveryConfig::default();
        m.upper_bound(v);
        c.mtu_discovery_config(Some(m));
    }
    if let Some(v) = t.opt::<u16>("imtu") {
        c.initial_mtu(v);
    }
    if let Some(v) = t.opt::<u64>("win") {
        c.stream_receive_window(VarInt::from_u64(v).expect("in range"));
    }
    if let Some(v) = t.opt::<u64>("cwin") {
        c.receive_window(VarInt::from_u64(v).expect("in range"));
    }
    if let Some(v) = t.opt::<u64>("swin") {
        c.send_window(v);
    }
    if let Some(v) = t.opt::<u8>("fair") {
        c.send_fairness(v != 0);
    }
    if let Some(v) = t.opt::<u32>("ack") {
        let mut a = AckFrequencyConfig::default();
        a.ack_eliciting_threshold(VarInt::from_u32(v));
        if let Some(ms) = t.opt::<u64>("ackms") {
            a.max_ack_delay(Some(Duration::from_millis(ms)));
        }
        c.ack_frequency_config(Some(a));
    }
    if let Some(v) = t.opt::<u32>("pkt") {
        c.packet_threshold(v);
    }
    let iw = t.opt::<u64>("iw");
    match t.str("cc", "") {
        "bbr" => {
            let mut b = BbrConfig::default();
            if let Some(w) = iw {
                b.initial_window(w);
            }
            c.congestion_controller_factory(Arc::new(b));
        }
        "reno" => {
            let mut b = NewRenoConfig::default();
            if let Some(w) = iw {
                b.initial_window(w);
            }
            c.congestion_controller_factory(Arc::new(b));
        }
        _ => {
            let mut b = CubicConfig::default();
            if let Some(w) = iw {
                b.initial_window(w);
            }
            c.congestion_controller_factory(Arc::new(b));
        }
    }
    c
}

fn endpoint(t: &Tune, server: Option<quinn::ServerConfig>) -> Result<Endpoint> {
    let s = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(n) = t.opt::<usize>("sock") {
        s.set_recv_buffer_size(n)?;
        s.set_send_buffer_size(n)?;
    }
    s.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    let mut e = EndpointConfig::default();
    if let Some(v) = t.opt::<u16>("mtu") {
        e.max_udp_payload_size(v)?;
    }
    Ok(Endpoint::new(e, server, s.into(), Arc::new(TokioRuntime))?)
}

pub async fn serve(certs: Certs, t: Tune) -> Result<()> {
    let mut tls = certs.server(&t)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut sc = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    // Who is to be kept alive is the client's business.
    sc.transport_config(Arc::new(transport(&t.without("keep"))));
    let ep = endpoint(&t, Some(sc))?;
    println!("ready {}", ep.local_addr()?);
    let echo = t.str("echo", "record").to_string();
    while let Some(incoming) = ep.accept().await {
        let echo = echo.clone();
        tokio::spawn(async move {
            let Ok(conn) = incoming.await else { return };
            while let Ok((send, recv)) = conn.accept_bi().await {
                match echo.as_str() {
                    "chunk" => tokio::spawn(echo_chunks(send, recv)),
                    "naive" => tokio::spawn(echo_naive(send, recv)),
                    "spawn" => tokio::spawn(echo_spawn(send, recv)),
                    _ => tokio::spawn(echo_records(send, recv)),
                };
            }
        });
    }
    Ok(())
}

/// A hop more: every stream goes on to a server behind, on one connection, whatever is on it.
pub async fn relay(certs: Certs, t: Tune, behind: SocketAddr) -> Result<()> {
    let mut tls = certs.server(&t)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut sc = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    sc.transport_config(Arc::new(transport(&t)));
    let ep = endpoint(&t, Some(sc))?;
    let next = client(&certs, &t)?.connect(behind, "localhost")?.await?;
    println!("ready {}", ep.local_addr()?);
    while let Some(incoming) = ep.accept().await {
        let next = next.clone();
        tokio::spawn(async move {
            let Ok(conn) = incoming.await else { return };
            while let Ok((send, recv)) = conn.accept_bi().await {
                let next = next.clone();
                tokio::spawn(async move {
                    let (there, back) = next.open_bi().await?;
                    tokio::try_join!(echo_chunks(there, recv), echo_chunks(send, back))
                });
            }
        });
    }
    Ok(())
}

async fn echo_chunks(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut bufs: [Bytes; 32] = Default::default();
    while let Some(n) = recv.read_chunks(&mut bufs).await? {
        send.write_all_chunks(&mut bufs[..n]).await?;
    }
    send.finish()?;
    Ok(())
}

async fn echo_records(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut bufs: [Bytes; 32] = Default::default();
    let (mut cut, mut out) = (Cut::default(), BytesMut::new());
    while let Some(n) = recv.read_chunks(&mut bufs).await? {
        for b in &bufs[..n] {
            cut.feed(b);
        }
        while let Some(rec) = cut.next() {
            out.extend_from_slice(&rec);
        }
        if !out.is_empty() {
            send.write_chunk(out.split().freeze()).await?;
        }
    }
    send.finish()?;
    Ok(())
}

async fn echo_naive(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut cut = Cut::default();
    while let Some(c) = recv.read_chunk(usize::MAX, true).await? {
        cut.feed(&c.bytes);
        while let Some(rec) = cut.next() {
            send.write_all(&rec).await?;
        }
    }
    send.finish()?;
    Ok(())
}

async fn echo_spawn(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let (tx, mut rx) = mpsc::unbounded_channel::<Bytes>();
    let reader = async move {
        let mut bufs: [Bytes; 32] = Default::default();
        let mut cut = Cut::default();
        while let Some(n) = recv.read_chunks(&mut bufs).await? {
            for b in &bufs[..n] {
                cut.feed(b);
            }
            while let Some(rec) = cut.next() {
                let tx = tx.clone();
                tokio::spawn(async move {
                    let _ = tx.send(rec);
                });
            }
        }
        anyhow::Ok(())
    };
    let writer = async move {
        let (mut got, mut out) = (Vec::with_capacity(256), BytesMut::new());
        while rx.recv_many(&mut got, 256).await > 0 {
            for rec in got.drain(..) {
                out.extend_from_slice(&rec);
            }
            send.write_chunk(out.split().freeze()).await?;
        }
        send.finish()?;
        anyhow::Ok(())
    };
    tokio::try_join!(reader, writer)?;
    Ok(())
}

pub struct Quinn {
    servers: Vec<Server>,
    addr: SocketAddr,
    ep: Endpoint,
    naive_write: bool,
}

impl Quinn {
    pub async fn start(certs: &Certs, t: &Tune, serve: Vec<String>) -> Result<Self> {
        let (s, mut addr) = Server::spawn_self("quinn", &serve)?;
        let mut servers = vec![s];
        if t.get("relay", 0) == 1 {
            let mut args = serve;
            args.extend(["--addr".into(), addr.to_string()]);
            let (relay, before) = Server::spawn_self("relay", &args)?;
            servers.push(relay);
            addr = before;
        }
        let ep = client(certs, t)?;
        Ok(Quinn { servers, addr, ep, naive_write: t.str("cwrite", "") == "naive" })
    }
}

fn client(certs: &Certs, t: &Tune) -> Result<Endpoint> {
    let mut tls = certs.client(t)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut cc = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    cc.transport_config(Arc::new(transport(t)));
    let mut ep = endpoint(t, None)?;
    ep.set_default_client_config(cc);
    Ok(ep)
}

impl Peer for Quinn {
    type Conn = QuinnConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    async fn connect(&self) -> Result<QuinnConn> {
        let conn = self.ep.connect(self.addr, "localhost")?.await?;
        Ok(QuinnConn { conn, naive_write: self.naive_write })
    }
}

pub struct QuinnConn {
    conn: Connection,
    naive_write: bool,
}

impl Conn for QuinnConn {
    async fn fork(&self) -> Result<Self> {
        Ok(QuinnConn { conn: self.conn.clone(), naive_write: self.naive_write })
    }

    async fn batch(&mut self, n: usize, payload: &Bytes) -> Result<()> {
        let (mut send, mut recv) = self.conn.open_bi().await?;
        let naive = self.naive_write;
        let write = async move {
            let mut out = BytesMut::new();
            for id in 0..n as u64 {
                put_head(&mut out, id, payload.len());
                if payload.len() >= 4096 {
                    send.write_all_chunks(&mut [out.split().freeze(), payload.clone()]).await?;
                    continue;
                }
                out.extend_from_slice(payload);
                if naive {
                    send.write_all(&out.split()).await?;
                } else if out.len() >= 32 << 10 {
                    send.write_chunk(out.split().freeze()).await?;
                }
            }
            if !out.is_empty() {
                send.write_chunk(out.freeze()).await?;
            }
            send.finish()?;
            anyhow::Ok(())
        };
        let read = async move {
            let (mut scan, mut bytes) = (Scan::default(), 0);
            let mut bufs: [Bytes; 32] = Default::default();
            while let Some(k) = recv.read_chunks(&mut bufs).await? {
                for b in &bufs[..k] {
                    bytes += b.len();
                    scan.feed(b);
                }
            }
            ensure!(scan.records == n && scan.id_sum == id_sum(n), "results are missing");
            ensure!(bytes == n * (HEAD + payload.len()), "results are short");
            Ok(())
        };
        tokio::try_join!(write, read)?;
        Ok(())
    }
    async fn hold(&mut self, payload: &Bytes) -> Result<Held> {
        let (mut send, mut recv) = self.conn.open_bi().await?;
        let mut out = BytesMut::new();
        put_head(&mut out, 0, payload.len());
        out.extend_from_slice(payload);
        let mut back = vec![0; out.len()];
        send.write_chunk(out.freeze()).await?;
        recv.read_exact(&mut back).await?;
        Ok(Box::new((send, recv)))
    }
}
