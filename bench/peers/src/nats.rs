//! nats-server (separate process) with `verify: true`, and a responder process connected to it.
//!
//! mode `request`  `Client::request` per sub-request, joined (what the documentation shows)
//!      `inbox`    one inbox subscription per worker, all sub-requests published at once (the fast way)
//!      `js`       JetStream publish to a file-backed stream; a result is the stream's ack (durable, no responder)
use anyhow::{bail, ensure, Context, Result};
use async_nats::{jetstream, Client, ConnectOptions, Subscriber};
use bytes::{Bytes, BytesMut};
use futures::{stream::FuturesUnordered, StreamExt};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    certs::Certs,
    drive::{Conn, Peer},
    sys::{self, Server},
    tune::Tune,
    wire::id_sum,
};

fn options(certs: &Certs, t: &Tune) -> Result<ConnectOptions> {
    let mut tls = certs.client(t)?;
    tls.alpn_protocols.clear();
    let mut o = ConnectOptions::new()
        .tls_client_config(tls)
        .require_tls(true)
        .subscription_capacity(1 << 17)
        .connection_timeout(Duration::from_secs(10))
        .request_timeout(Some(Duration::from_secs(20)));
    if let Some(n) = t.opt("capacity") {
        o = o.client_capacity(n);
    }
    Ok(o)
}

async fn connect(addr: SocketAddr, certs: &Certs, t: &Tune) -> Result<Client> {
    Ok(options(certs, t)?.connect(format!("tls://{addr}")).await?)
}

/// The responder: answers every message on `echo` with its own payload.
pub async fn serve(certs: Certs, t: Tune, addr: SocketAddr) -> Result<()> {
    let c = connect(addr, &certs, &t).await?;
    let mut sub = c.subscribe("echo").await?;
    c.flush().await?;
    println!("ready {addr}");
    while let Some(m) = sub.next().await {
        if let Some(reply) = m.reply {
            c.publish(reply, m.payload).await?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Request,
    Inbox,
    Js,
}

pub struct Nats {
    servers: Vec<Server>,
    addr: SocketAddr,
    certs: Certs,
    tune: Tune,
    mode: Mode,
}

fn broker(certs: &Certs, dir: &Path, js: bool) -> Result<(Server, SocketAddr)> {
    let addr = sys::free_port()?;
    let q = |f: &str| certs.path(f).display().to_string();
    let mut conf = format!(
        "listen: \"{addr}\"\nmax_pending: 256MB\ntls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true, timeout: 10 }}\n",
        q("server.pem"), q("server.key"), q("ca.pem"));
    if js {
        conf += &format!(
            "jetstream {{ store_dir: \"{}\", max_mem: 1GB, max_file: 20GB }}\n",
            dir.join("js").display()
        );
    }
    let file = dir.join("nats.conf");
    fs::write(&file, conf)?;
    let mut cmd = Command::new("nats-server");
    cmd.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let s = Server::spawn("nats-server", cmd)?;
    s.wait_tcp(addr)?;
    Ok((s, addr))
}

impl Nats {
    pub async fn start(
        certs: &Certs,
        t: &Tune,
        mode: Mode,
        dir: &Path,
        serve: Vec<String>,
    ) -> Result<Self> {
        let (s, addr) = broker(certs, dir, mode == Mode::Js)?;
        let mut servers = vec![s];
        if mode == Mode::Js {
            let js = jetstream::new(connect(addr, certs, t).await?);
            js.create_stream(jetstream::stream::Config {
                name: "batches".into(),
                subjects: vec!["durable".into()],
                storage: jetstream::stream::StorageType::File,
                max_bytes: 4 << 30,
                ..Default::default()
            })
            .await
            .context("create stream")?;
        } else {
            let mut args = serve;
            args.extend(["--addr".into(), addr.to_string()]);
            servers.push(Server::spawn_self("responder", &args)?.0);
        }
        Ok(Nats { servers, addr, certs: certs.clone(), tune: t.clone(), mode })
    }
}

impl Peer for Nats {
    type Conn = NatsConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    async fn connect(&self) -> Result<NatsConn> {
        let client = connect(self.addr, &self.certs, &self.tune).await?;
        NatsConn::new(client, self.mode).await
    }
}

pub struct NatsConn {
    client: Client,
    js: jetstream::Context,
    inbox: Option<(async_nats::Subject, Subscriber)>,
    mode: Mode,
}

impl NatsConn {
    async fn new(client: Client, mode: Mode) -> Result<Self> {
        // The default limit of acks in flight (5,000) would stall a batch of 10,000.
        let js = jetstream::ContextBuilder::new()
            .max_ack_inflight(1 << 16)
            .ack_timeout(Duration::from_secs(20))
            .build(client.clone());
        Ok(NatsConn { client, js, inbox: None, mode })
    }
}

fn with_id(payload: &Bytes, id: u64) -> Bytes {
    let mut b = BytesMut::from(&payload[..]);
    b[..8].copy_from_slice(&id.to_le_bytes());
    b.freeze()
}

fn id_of(b: &Bytes) -> Result<u64> {
    match b.get(..8) {
        Some(x) => Ok(u64::from_le_bytes(x.try_into()?)),
        None => bail!("a result is short"),
    }
}

impl Conn for NatsConn {
    async fn fork(&self) -> Result<Self> {
        Self::new(self.client.clone(), self.mode).await
    }

    async fn batch(&mut self, n: usize, payload: &Bytes) -> Result<()> {
        let (mut got, mut sum) = (0, 0u64);
        match self.mode {
            Mode::Request => {
                let mut calls: FuturesUnordered<_> = (0..n as u64)
                    .map(|id| self.client.request("echo", with_id(payload, id)))
                    .collect();
                while let Some(m) = calls.next().await {
                    let m = m?;
                    ensure!(m.payload.len() == payload.len(), "a result is short");
                    got += 1;
                    sum += id_of(&m.payload)?;
                }
            }
            Mode::Inbox => {
                if self.inbox.is_none() {
                    let subject = async_nats::Subject::from(self.client.new_inbox());
                    let sub = self.client.subscribe(subject.clone()).await?;
                    self.inbox = Some((subject, sub));
                }
                let (subject, sub) = self.inbox.as_mut().expect("just set");
                let (client, subject) = (&self.client, subject.clone());
                let write = async {
                    for id in 0..n as u64 {
                        client
                            .publish_with_reply("echo", subject.clone(), with_id(payload, id))
                            .await?;
                    }
                    anyhow::Ok(())
                };
                let read = async {
                    while got < n {
                        let m = sub.next().await.context("inbox closed")?;
                        ensure!(m.payload.len() == payload.len(), "a result is short");
                        got += 1;
                        sum += id_of(&m.payload)?;
                    }
                    Ok(())
                };
                tokio::try_join!(write, read)?;
            }
            Mode::Js => {
                let mut acks = Vec::with_capacity(n);
                for id in 0..n as u64 {
                    acks.push(self.js.publish("durable", with_id(payload, id)).await?);
                }
                for a in acks {
                    a.await?;
                    got += 1;
                }
                sum = id_sum(n);
            }
        }
        ensure!(got == n && sum == id_sum(n), "results are missing");
        Ok(())
    }
}
