//! The broker itself: `echo` through the whole path, under finite quotas far above the load.
//!
//! Options (`--tune`): `quotas=none` bounds none of them; `confirm=0` connects without the first
//! question; `imtu=`, `mtu=`, `ack=`, `win=`, `cwin=`, `swin=` are the client's transport; a key with
//! a dot, such as `runtime.threads` or `limits.mtu_initial`, goes into the broker's configuration.
use anyhow::{ensure, Context, Result};
use bytes::Bytes;
use std::{
    fmt::Write,
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tollgate_certs::{Authority, Identity, IssueOptions, TrustDomain};
use tollgate_client::{
    wire::{Body, Request as RawRequest},
    BatchSender, Client, ClientBuilder, ClientCredentials, EventRef, Request, Transport,
};

use crate::{
    drive::{Conn, Peer},
    sys::Server,
    tune::Tune,
    wire::id_sum,
};

/// How long the broker may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(10);
/// From here on a payload is handed over instead of copied, as the client's documentation says.
const HAND_OVER_BYTES: usize = 4 << 10;

/// Those that a batch meets.
const QUOTAS: [(&str, i64); 6] = [
    ("connections", 20_000),
    ("requests_per_second", 1_000_000_000),
    ("bytes_per_second", 1_000_000_000_000),
    ("batch_items", 100_000),
    ("batches_in_flight", 100_000),
    ("payload_bytes", 1_000_000),
];

pub struct Tollgate {
    servers: [Server; 1],
    builder: ClientBuilder,
    /// Keeps the socket that all connections share.
    _first: Client,
}

impl Tollgate {
    pub async fn start(dir: &Path, t: &Tune) -> Result<Self> {
        let addr = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let config = write_config(dir, addr, t)?;
        let credentials = credentials(dir)?;
        let servers = [Server::spawn("tollgate", command(&config)?)?];
        let builder = Client::builder(addr)
            .server_name("localhost")
            .credentials(credentials)
            .transport(transport(t))
            .confirm(t.get("confirm", 1) == 1);
        let first = first_connection(&builder).await?;
        let builder = builder.endpoint(first.endpoint().clone());
        Ok(Tollgate { servers, builder, _first: first })
    }
}

/// The real binary where there is one, or the small one built with this harness.
fn command(config: &Path) -> Result<Command> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/tollgate");
    let named = std::env::var_os("TOLLGATE_BIN").map(PathBuf::from);
    let mut cmd = match named.or_else(|| beside.exists().then_some(beside)) {
        Some(bin) if bin.file_name().is_some_and(|n| n != "echo_broker") => {
            let mut cmd = Command::new(bin);
            cmd.args(["serve", "--tenant", "bench=bench", "--config"]);
            cmd
        }
        Some(bin) => Command::new(bin),
        None => Command::new(std::env::current_exe()?.with_file_name("echo_broker")),
    };
    // The broker reads variables of its own with this prefix, and refuses one it does not know.
    cmd.arg(config).env_remove("TOLLGATE_BIN").stdin(Stdio::null()).stdout(Stdio::null());
    Ok(cmd)
}

/// Every quota has a bound, so that every check is made, and none is near; or, with `quotas=none`,
/// none has.
fn write_config(dir: &Path, addr: SocketAddr, t: &Tune) -> Result<PathBuf> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for (key, value) in t.iter() {
        if let Some((section, key)) = key.split_once('.') {
            sections.push((section, format!("{key} = {value}")));
        }
    }
    sections.sort();
    let mut text = format!("listen = \"{addr}\"\ndata_dir = {:?}\n", dir.join("data"));
    text.push_str("log.level = \"warn\"\n");
    for (section, line) in sections {
        writeln!(text, "{section}.{line}")?;
    }
    text.push_str("[tenancy.profiles.bench]\n");
    for (quota, limit) in QUOTAS {
        let limit = if t.str("quotas", "") == "none" { -1 } else { limit };
        writeln!(text, "{quota} = {limit}")?;
    }
    let path = dir.join("tollgate.toml");
    fs::write(&path, text)?;
    Ok(path)
}

/// The authority is made where the broker looks for its development authority.
fn credentials(dir: &Path) -> Result<ClientCredentials> {
    let authority = Authority::create("peers bench CA", &TrustDomain::parse("tollgate.local")?)?;
    authority.save(&dir.join("data/dev-ca"))?;
    let tenant = tollgate_protocol::id::TenantId::parse("bench").context("the tenant's name")?;
    let issued = authority.issue(&Identity::client(tenant, None)?, &IssueOptions::default())?;
    issued.write(&dir.join("bench"))?;
    Ok(ClientCredentials::load_dir(&dir.join("bench"))?)
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

async fn first_connection(builder: &ClientBuilder) -> Result<Client> {
    let end = Instant::now() + START_LIMIT;
    loop {
        let patience = Duration::from_millis(500);
        match builder.clone().connect_timeout(patience).connect().await {
            Ok(client) => return Ok(client),
            Err(e) if Instant::now() > end => return Err(e).context("the broker does not answer"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

impl Peer for Tollgate {
    type Conn = TollgateConn;
    fn servers(&self) -> &[Server] {
        &self.servers
    }
    async fn connect(&self) -> Result<TollgateConn> {
        let client = self.builder.clone().connect().await?;
        Ok(TollgateConn { client, recipe: "echo".into() })
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
