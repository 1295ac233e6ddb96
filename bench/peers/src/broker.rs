//! A broker in a process of its own, its authority, and whoever is to use it.
//!
//! Options (`--tune`): `quotas=none` bounds none of them; a key with a dot, such as
//! `runtime.threads` or `limits.mtu_initial`, goes into the broker's configuration.
use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};
use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tollgate_certs::{Authority, Identity, IssueOptions, TrustDomain};
use tollgate_client::{Client, ClientBuilder, ClientCredentials};
use tollgate_protocol::id::TenantId;

use crate::{
    sys::{self, Server},
    tune::Tune,
};

/// How long the broker may take to answer for the first time.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Those that a batch meets.
const QUOTAS: [(&str, i64); 6] = [
    ("connections", 20_000),
    ("requests_per_second", 1_000_000_000),
    ("bytes_per_second", 1_000_000_000_000),
    ("batch_items", 100_000),
    ("batches_in_flight", 100_000),
    ("payload_bytes", 1 << 20),
];

pub struct Broker {
    pub addr: SocketAddr,
    http: SocketAddr,
    authority: Authority,
    dir: PathBuf,
    begun: Instant,
}

impl Broker {
    /// Starts one whose files are in `dir`, with the tenant `bench`.
    pub fn start(dir: &Path, t: &Tune) -> Result<(Server, Self)> {
        let addr = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let http = sys::free_port()?;
        let config = write_config(dir, addr, http, t)?;
        // Made where the broker looks for its development authority.
        let domain = TrustDomain::parse("tollgate.local")?;
        let authority = Authority::create("peers bench CA", &domain)?;
        authority.save(&dir.join("data/dev-ca"))?;
        let begun = Instant::now();
        let server = Server::spawn("tollgate", command(&config)?)?;
        Ok((server, Broker { addr, http, authority, dir: dir.into(), begun }))
    }

    /// Waits until it says that it is ready: how long that took from its start.
    pub fn ready(&self) -> Result<Duration> {
        while self.begun.elapsed() < START_LIMIT {
            if self.ask("GET", "/ready", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
            {
                return Ok(self.begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        bail!("the broker is not ready")
    }

    /// Makes a tenant under quotas like those of `bench`.
    pub fn tenant(&self, id: &str, weight: u32, concurrency: u32) -> Result<()> {
        let new = json!({
            "id": id, "profile": "bench", "weight": weight, "concurrency": concurrency,
        });
        self.post("/api/v1/tenants", &new)
    }

    fn post(&self, path: &str, body: &Value) -> Result<()> {
        let answer = self.ask("POST", path, &body.to_string())?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "{path}: {answer}");
        Ok(())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let http = self.http;
        let mut stream = TcpStream::connect(http)?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {http}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The directory of a new certificate.
    pub fn issue(&self, name: &str, identity: &Identity) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        self.authority.issue(identity, &IssueOptions::default())?.write(&dir)?;
        Ok(dir)
    }

    /// A worker of the platform: the directory of its certificate.
    pub fn worker(&self) -> Result<PathBuf> {
        self.issue("worker", &Identity::platform_worker("w")?)
    }

    /// Sets up a tenant's client.
    pub fn builder(&self, tenant: &str) -> Result<ClientBuilder> {
        let id = TenantId::parse(tenant).context("the tenant's name")?;
        let dir = self.issue(tenant, &Identity::client(id, None)?)?;
        let credentials = ClientCredentials::load_dir(&dir)?;
        Ok(Client::builder(self.addr).server_name("localhost").credentials(credentials))
    }
}

/// The first connection of a process: the broker may still be starting.
pub async fn first_connection(builder: &ClientBuilder) -> Result<Client> {
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

/// Waits until somebody serves a recipe.
pub async fn served(client: &Client, recipe: &str, payload: &'static str) -> Result<()> {
    let end = Instant::now() + START_LIMIT;
    loop {
        match client.call_bytes(recipe, payload).await {
            Ok(_) => return Ok(()),
            Err(e) if Instant::now() > end => return Err(e).context("nobody serves it"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
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
fn write_config(dir: &Path, addr: SocketAddr, http: SocketAddr, t: &Tune) -> Result<PathBuf> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for (key, value) in t.iter() {
        if let Some((section, key)) = key.split_once('.') {
            sections.push((section, format!("{key} = {value}")));
        }
    }
    sections.sort();
    let mut text = format!("listen = \"{addr}\"\ndata_dir = {:?}\n", dir.join("data"));
    write!(text, "http.enabled = true\nhttp.listen = \"{http}\"\nlog.level = \"warn\"\n")?;
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
