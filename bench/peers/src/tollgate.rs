//! The broker itself: `echo` through the whole path, under finite quotas far above the load; or a
//! recipe of the same kind that a worker serves, in a process of its own.
//!
//! Options (`--tune`), beside those of `broker.rs`: `confirm=0` connects without the first question;
//! `imtu=`, `mtu=`, `ack=`, `win=`, `cwin=`, `swin=` are the client's transport; `worker=1` for a
//! worker, with `credit=` calls at once and `calls=` of them for the tenant; `others=` so many tenants
//! more, kept by an earlier process.
use anyhow::{ensure, Context, Result};
use bytes::Bytes;
use serde_json::{json, Map, Value};
use std::{path::Path, sync::Arc};
use tollgate_client::{
    wire::{Body, Request as RawRequest},
    BatchSender, Client, ClientBuilder, Event, EventRef, Request, Transport,
};

use crate::{
    broker::{first_connection, served, Broker},
    drive::{Conn, Held, Peer},
    sys::Server,
    tenants,
    tune::Tune,
    wire::id_sum,
    worker,
};

/// From here on a payload is handed over instead of copied, as the client's documentation says.
const HAND_OVER_BYTES: usize = 4 << 10;

pub struct Tollgate {
    servers: Vec<Server>,
    builder: ClientBuilder,
    recipe: &'static str,
    facts: Map<String, Value>,
    /// Keeps the socket that all connections share.
    _first: Client,
}

impl Tollgate {
    /// `serve` is the command that starts a worker, for when there is one.
    pub async fn start(dir: &Path, t: &Tune, serve: Vec<String>) -> Result<Self> {
        let (server, broker, facts) = match t.opt("others") {
            Some(others) => beside(dir, t, others).await?,
            None => {
                let (server, broker) = Broker::start(dir, t)?;
                (server, broker, Map::new())
            }
        };
        let mut servers = vec![server];
        let set_up = |builder: ClientBuilder| {
            builder.transport(transport(t)).confirm(t.get("confirm", 1) == 1)
        };
        let mut builder = set_up(broker.builder("bench")?);
        let mut first = first_connection(&builder).await?;
        let mut recipe = "echo";
        if t.get("worker", 0) == 1 {
            broker.tenant("served", 1, t.get("calls", 1_024))?;
            let certs = broker.worker()?.display().to_string();
            let mut args = serve;
            args.extend(["--worker".into(), certs, "--addr".into(), broker.addr.to_string()]);
            servers.push(Server::spawn_self("worker", &args)?.0);
            builder = set_up(broker.builder("served")?);
            first = first_connection(&builder).await?;
            served(&first, worker::ECHO, "x").await?;
            recipe = worker::ECHO;
        }
        let builder = builder.endpoint(first.endpoint().clone());
        Ok(Tollgate { servers, builder, recipe, facts, _first: first })
    }
}

/// A broker that finds so many tenants in its data directory: what its start took, and what memory
/// it has that one without them has not.
async fn beside(
    dir: &Path,
    t: &Tune,
    others: usize,
) -> Result<(Server, Broker, Map<String, Value>)> {
    let empty = dir.join("empty");
    std::fs::create_dir_all(&empty)?;
    let (server, broker) = Broker::start(&empty, t)?;
    broker.ready()?;
    let without = server.rss_kib() as f64;
    drop(server);
    let store = dir.join("data/store");
    let filled = tokio::task::spawn_blocking(move || tenants::fill(&store, others)).await??;
    let (server, broker) = Broker::start(dir, t)?;
    let ready = broker.ready()?;
    let with = server.rss_kib() as f64;
    let mut facts = Map::new();
    facts.insert("start_ms".into(), json!((ready.as_secs_f64() * 1e4).round() / 10.0));
    facts.insert("ready_rss_mib".into(), json!((with / 102.4).round() / 10.0));
    if others > 0 {
        let each = |x: f64| json!((x / others as f64 * 10.0).round() / 10.0);
        facts.insert("created_per_s".into(), json!((others as f64 / filled.as_secs_f64()).round()));
        facts.insert("start_us_per_tenant".into(), each(ready.as_secs_f64() * 1e6));
        // A few MiB more or less say nothing about a few tenants.
        if others >= 5_000 {
            facts.insert("bytes_per_tenant".into(), each((with - without) * 1024.0));
        }
    }
    Ok((server, broker, facts))
}

fn transport(t: &Tune) -> Transport {
    let d = Transport::default();
    Transport {
        mtu_initial: t.get("imtu", d.mtu_initial),
        mtu_max: t.get("mtu", d.mtu_max),
        ack_threshold: t.get("ack", d.ack_threshold),
        stream_window: t.get("win", d.stream_window),
        connection_window: t.get("cwin", d.connection_window),
        send_window: t.get("swin", d.send_window),
        ..d
    }
}

impl Peer for Tollgate {
    type Conn = TollgateConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    fn facts(&self) -> Map<String, Value> {
        self.facts.clone()
    }
    async fn connect(&self) -> Result<TollgateConn> {
        let client = self.builder.clone().connect().await?;
        Ok(TollgateConn { client, recipe: self.recipe.into() })
    }
}

pub struct TollgateConn {
    client: Client,
    recipe: Arc<str>,
}

impl TollgateConn {
    async fn send(&self, tx: &mut BatchSender, n: u64, payload: &Bytes) -> Result<()> {
        for id in 0..n {
            if payload.len() >= HAND_OVER_BYTES {
                tx.send(Request::new(self.recipe.clone(), payload.clone()).id(id)).await?;
            } else {
                tx.send_raw(&RawRequest::new(id, &self.recipe, payload)).await?;
            }
        }
        tx.finish().await?;
        Ok(())
    }
}

impl Conn for TollgateConn {
    async fn fork(&self) -> Result<Self> {
        Ok(TollgateConn { client: self.client.clone(), recipe: self.recipe.clone() })
    }

    async fn batch(&mut self, n: usize, payload: &Bytes) -> Result<()> {
        let (mut tx, mut rx) = self.client.batch().open().await?.split();
        let (mut results, mut id_total, mut right) = (0, 0u64, 0);
        let read = rx.for_each(|event| {
            if let EventRef::Result(r) = event {
                results += 1;
                id_total = id_total.wrapping_add(r.id);
                right +=
                    usize::from(matches!(r.body, Body::Payload(p) if p.len() == payload.len()));
            }
        });
        // Why sending stopped, if it did, is what the events tell.
        let read = if n == 1 {
            // As a call is made: whoever reads before there is anything is woken for what is sent.
            let _ = self.send(&mut tx, 1, payload).await;
            read.await
        } else {
            futures::join!(read, self.send(&mut tx, n as u64, payload)).0
        };
        read?;
        ensure!(results == n && id_total == id_sum(n), "results are missing");
        ensure!(right == n, "{} results have no answer or a short one", n - right);
        Ok(())
    }
    async fn hold(&mut self, payload: &Bytes) -> Result<Held> {
        let mut batch = self.client.batch().open().await?;
        batch.send_raw(&RawRequest::new(0, &self.recipe, payload)).await?;
        batch.flush().await?;
        loop {
            match batch.next().await.context("the batch ended")?? {
                Event::Result(_) => return Ok(Box::new(batch)),
                _ => continue,
            }
        }
    }
}
