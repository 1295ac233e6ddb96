//! The broker itself: `echo` through the whole path, under finite quotas far above the load; or a
//! recipe of the same kind that a worker serves, in a process of its own.
//!
//! Options (`--tune`), beside those of `broker.rs`: `confirm=0` connects without the first question;
//! `imtu=`, `mtu=`, `ack=`, `win=`, `cwin=`, `swin=` are the client's transport; `worker=1` for a
//! worker, with `credit=` calls at once and `calls=` of them for the tenant.
use anyhow::{ensure, Result};
use bytes::Bytes;
use std::{path::Path, sync::Arc};
use tollgate_client::{
    wire::{Body, Request as RawRequest},
    BatchSender, Client, ClientBuilder, EventRef, Request, Transport,
};

use crate::{
    broker::{first_connection, served, Broker},
    drive::{Conn, Peer},
    sys::Server,
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
    /// Keeps the socket that all connections share.
    _first: Client,
}

impl Tollgate {
    /// `serve` is the command that starts a worker, for when there is one.
    pub async fn start(dir: &Path, t: &Tune, serve: Vec<String>) -> Result<Self> {
        let (server, broker) = Broker::start(dir, t)?;
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
        Ok(Tollgate { servers, builder, recipe, _first: first })
    }
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
        let (read, _) = futures::join!(read, self.send(&mut tx, n as u64, payload));
        read?;
        ensure!(results == n && id_total == id_sum(n), "results are missing");
        ensure!(right == n, "{} results have no answer or a short one", n - right);
        Ok(())
    }
}
