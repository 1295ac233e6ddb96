//! redis-server with a TLS port and client certificates; a batch is one pipeline.
//!
//! mode `echo`   ECHO payload (no data structure touched)
//!      `set`    SET key payload (one key per sub-request id)
//!      `stream` XADD to one stream, append-only file on; `fsync=everysec|always` (durable)
use anyhow::{ensure, Result};
use bytes::Bytes;
use redis::{aio::MultiplexedConnection, AsyncConnectionConfig, ClientTlsConfig, TlsCertificates};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    certs::Certs,
    drive::{Conn, Peer},
    sys::{self, Server},
    tune::Tune,
};

#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Echo,
    Set,
    Stream,
}

pub struct Redis {
    servers: [Server; 1],
    client: redis::Client,
    mode: Mode,
}

impl Redis {
    pub async fn start(certs: &Certs, t: &Tune, mode: Mode, dir: &Path) -> Result<Self> {
        let addr = sys::free_port()?;
        let mut cmd = Command::new("redis-server");
        let port = addr.port().to_string();
        cmd.args([
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            "yes",
        ])
        .args(["--tls-protocols", "TLSv1.3", "--maxclients", "4000", "--save", "", "--dir"])
        .arg(dir)
        .arg("--tls-cert-file")
        .arg(certs.path("server.pem"))
        .arg("--tls-key-file")
        .arg(certs.path("server.key"))
        .arg("--tls-ca-cert-file")
        .arg(certs.path("ca.pem"));
        if mode == Mode::Stream {
            cmd.args(["--appendonly", "yes", "--appendfsync", t.str("fsync", "everysec")]);
        }
        if let Some(n) = t.opt::<u32>("iothreads") {
            cmd.args(["--io-threads", &n.to_string(), "--io-threads-do-reads", "yes"]);
        }
        cmd.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        let s = Server::spawn("redis-server", cmd)?;
        s.wait_tcp(addr)?;
        let tls = TlsCertificates {
            client_tls: Some(ClientTlsConfig {
                client_cert: certs.pem("client.pem")?,
                client_key: certs.pem("client.key")?,
            }),
            root_cert: Some(certs.pem("ca.pem")?),
        };
        let client = redis::Client::build_with_tls(format!("rediss://127.0.0.1:{port}/"), tls)?;
        Ok(Redis { servers: [s], client, mode })
    }
}

impl Peer for Redis {
    type Conn = RedisConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    async fn connect(&self) -> Result<RedisConn> {
        let c = AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(20)))
            .set_connection_timeout(Some(Duration::from_secs(10)));
        let conn = self.client.get_multiplexed_async_connection_with_config(&c).await?;
        Ok(RedisConn { conn, mode: self.mode })
    }
}

pub struct RedisConn {
    conn: MultiplexedConnection,
    mode: Mode,
}

impl Conn for RedisConn {
    async fn fork(&self) -> Result<Self> {
        Ok(RedisConn { conn: self.conn.clone(), mode: self.mode })
    }

    async fn batch(&mut self, n: usize, payload: &Bytes) -> Result<()> {
        let mut p = redis::Pipeline::with_capacity(n);
        for id in 0..n as u64 {
            match self.mode {
                Mode::Echo => p.cmd("ECHO").arg(&payload[..]),
                Mode::Set => p.cmd("SET").arg(id).arg(&payload[..]),
                Mode::Stream => p
                    .cmd("XADD")
                    .arg("s")
                    .arg("MAXLEN")
                    .arg("~")
                    .arg(1_000_000)
                    .arg("*")
                    .arg("b")
                    .arg(&payload[..]),
            };
        }
        let got: Vec<redis::Value> = p.query_async(&mut self.conn).await?;
        ensure!(got.len() == n, "results are missing");
        if self.mode == Mode::Echo {
            let whole = got
                .iter()
                .all(|v| matches!(v, redis::Value::BulkString(b) if b.len() == payload.len()));
            ensure!(whole, "a result is short");
        }
        Ok(())
    }
}
