//! Jobs handed over a second, each acknowledged once it is synced, beside JetStream's publish to a
//! stream in files, and beside the disk's own rate of syncs; and how long a restart takes.
//!
//! Each client is a connection of its own with one durable batch, and keeps 64 items
//! unacknowledged. The jobs are not due for an hour, so that nothing but their acceptance is
//! measured. JetStream (`nats-server`, when it is installed) is given the same number of
//! connections, each with 64 messages unacknowledged, without TLS; with its defaults it acknowledges
//! before it syncs, which it does every two minutes: so its figures are of another promise. All rows
//! of one number of clients are measured one right after the other, on one file system.
//!
//!     cargo bench -p tollgate-broker --bench jobs [-- --seconds 3 --recover 100000 --binary PATH]
//!
//! `--recover 0` leaves the restart out; `--clients 16` measures one row.

mod support;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use support::{Outcome, Server, arg, text};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tollgate_certs::Identity;
use tollgate_client::{Client, Event, JobFilter, JobState, Request};
use tollgate_protocol::id::TenantId;

const OUTSTANDING: u64 = 64;
const PAYLOAD: usize = 256;

fn main() -> Outcome<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Outcome<()> {
    let time = Duration::from_secs(arg("--seconds", 3)?);
    let only = arg("--clients", 0)?;
    println!("clients   jobs/s  p50 ms  p99 ms   JetStream/s  ratio   fdatasync/s  jobs a sync");
    for clients in [1, 16, 256].into_iter().filter(|n| only == 0 || only == *n) {
        let server = server().await?;
        let jobs = submits(&server, clients, time, u64::MAX).await?;
        drop(server);
        let syncs = syncs(time.min(Duration::from_secs(2)))?;
        let nats = match Nats::start() {
            Ok(nats) => Some(nats.publishes(clients, time).await?),
            Err(why) => {
                eprintln!("no nats-server: {why}");
                None
            }
        };
        let rate = jobs.rate();
        println!(
            "{clients:7} {rate:8.0} {:7.2} {:7.2} {:13} {:6} {syncs:13.0} {:12.1}",
            jobs.quantile(0.5),
            jobs.quantile(0.99),
            nats.map_or("-".into(), |n| format!("{n:.0}")),
            nats.map_or("-".into(), |n| format!("{:.2}", rate / n)),
            rate / syncs,
        );
    }
    match arg("--recover", 100_000)? {
        0 => Ok(()),
        jobs => recover(jobs).await,
    }
}

/// A broker with one tenant that may do anything.
async fn server() -> Outcome<Server> {
    let server = Server::start(text("--binary").map(Into::into), &[])?;
    let roomy = "--quota requests_per_second=-1 --quota bytes_per_second=-1 --quota jobs_queued=-1 \
        --quota batch_items=-1 --quota batches_in_flight=-1 --quota storage_bytes=-1 \
        --quota connections=-1";
    server.operate(&format!("tenant create acme {roomy}"))?;
    Ok(server)
}

fn identity() -> Outcome<Identity> {
    Ok(Identity::client(TenantId::parse("acme")?, None)?)
}

/// What came of it.
struct Rate {
    count: u64,
    elapsed: Duration,
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
}

impl Rate {
    fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    fn quantile(&self, q: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * q) as usize).copied().unwrap_or(0.0)
    }
}

/// Hands jobs over from so many connections, until the time is over or so many are there.
async fn submits(server: &Server, clients: u64, time: Duration, max: u64) -> Outcome<Rate> {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(server.connect(&identity()?).await?);
    }
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for client in connections {
        let share = max / clients;
        tasks.push(tokio::spawn(one(client, share, stop.clone(), count.clone())));
    }
    let all = async {
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await?.map_err(|e| e.to_string())?);
        }
        Outcome::Ok(latencies)
    };
    let mut all = std::pin::pin!(all);
    let (counted, elapsed, mut latencies) = tokio::select! {
        latencies = &mut all => (count.load(Relaxed), begin.elapsed(), latencies?),
        () = tokio::time::sleep(time) => {
            let counted = (count.load(Relaxed), begin.elapsed());
            stop.store(true, Relaxed);
            (counted.0, counted.1, all.await?)
        }
    };
    latencies.sort_by(f64::total_cmp);
    Ok(Rate { count: counted, elapsed, latencies })
}

type Sent<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

async fn one(
    client: Client,
    max: u64,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Sent<Vec<f64>> {
    let due = SystemTime::now() + Duration::from_secs(3_600);
    let payload = bytes::Bytes::from(vec![0x5a; PAYLOAD]);
    let batch = client.batch().durable().open().await?;
    let (mut sender, mut events) = batch.split();
    let (mut sent, mut acked) = (0_u64, 0_u64);
    let (mut begun, mut latencies) = (std::collections::VecDeque::new(), Vec::new());
    while !stop.load(Relaxed) && acked < max || acked < sent {
        let more = sent < max && !stop.load(Relaxed);
        let mut wrote = false;
        while more && sent - acked < OUTSTANDING && sent < max {
            sender.send(Request::new("echo", payload.clone()).not_before(due)).await?;
            begun.push_back(Instant::now());
            sent += 1;
            wrote = true;
        }
        if wrote {
            sender.flush().await?;
        }
        let event = events.next().await.ok_or("the batch ended")??;
        match event {
            Event::JobAccepted(_) => {
                acked += 1;
                count.fetch_add(1, Relaxed);
                let since: Instant = begun.pop_front().ok_or("acknowledged twice")?;
                latencies.push(since.elapsed().as_secs_f64() * 1e3);
            }
            Event::Result(result) => return Err(format!("refused: {result:?}").into()),
            _ => {}
        }
    }
    // Its jobs stay; the batch is let go.
    sender.seal().await?;
    Ok(latencies)
}

/// How many syncs of 4 KiB the disk does a second.
fn syncs(time: Duration) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let mut file = fs::File::create(dir.path().join("raw"))?;
    let (begin, mut syncs) = (Instant::now(), 0);
    while begin.elapsed() < time {
        file.write_all(&[0x5a; 4_096])?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / begin.elapsed().as_secs_f64())
}

/// How long a process needs until it takes requests, and until it knows its jobs.
async fn recover(jobs: u64) -> Outcome<()> {
    let server = server().await?;
    let stored = submits(&server, 16, Duration::from_secs(3_600), jobs).await?;
    let before = server.resident_kib()?;
    let begin = Instant::now();
    let server = server.restart()?;
    let ready = begin.elapsed();
    let client = server.connect(&identity()?).await?;
    let queued = JobFilter::new().state(JobState::Queued);
    let page = client.jobs().page(&queued, None, 1).await?;
    let known = begin.elapsed();
    if page.jobs.is_empty() {
        return Err("no job is there after the restart".into());
    }
    println!(
        "{} jobs stored ({:.0}/s): after a kill ready in {:.2} s, its jobs known in {:.2} s; {} MiB \
         resident, {} before",
        stored.count,
        stored.rate(),
        ready.as_secs_f64(),
        known.as_secs_f64(),
        server.resident_kib()? / 1024,
        before / 1024
    );
    Ok(())
}

/// A `nats-server` with a stream in files.
struct Nats {
    child: Child,
    addr: std::net::SocketAddr,
    _dir: tempfile::TempDir,
}

impl Nats {
    fn start() -> Outcome<Nats> {
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let conf = dir.path().join("nats.conf");
        let store = dir.path().join("js");
        fs::write(&conf, nats_conf(port, &store))?;
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Nats { child, addr: port, _dir: dir })
    }

    async fn connect(&self) -> Sent<Wire> {
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(self.addr).await {
                Ok(stream) => break stream,
                Err(e) if begin.elapsed() > Duration::from_secs(10) => return Err(e.into()),
                // It is starting.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        stream.set_nodelay(true)?;
        let mut wire = Wire { stream: BufReader::new(stream), line: String::new() };
        wire.say("CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB inbox 1\r\n").await?;
        Ok(wire)
    }

    async fn publishes(&self, clients: u64, time: Duration) -> Outcome<f64> {
        let mut admin = self.connect().await.map_err(|e| e.to_string())?;
        let config = "{\"name\":\"jobs\",\"subjects\":[\"jobs\"],\"storage\":\"file\"}";
        let len = config.len();
        let create = format!("PUB $JS.API.STREAM.CREATE.jobs inbox {len}\r\n{config}\r\n");
        admin.say(&create).await.map_err(|e| e.to_string())?;
        let answer = admin.message().await.map_err(|e| e.to_string())?;
        if answer.contains("\"error\"") {
            return Err(format!("no stream: {answer}").into());
        }
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut wires = Vec::new();
        for n in 0..clients {
            let mut wire = self.connect().await.map_err(|e| e.to_string())?;
            // Acknowledgements go to whoever listens: each has a subject of its own.
            let own = format!("UNSUB 1\r\nSUB acks.{n} 2\r\n");
            wire.say(&own).await.map_err(|e| e.to_string())?;
            wires.push(wire);
        }
        let begin = Instant::now();
        let mut tasks = Vec::new();
        for (n, mut wire) in wires.into_iter().enumerate() {
            let (stop, count) = (stop.clone(), count.clone());
            tasks.push(tokio::spawn(async move {
                let payload = "z".repeat(PAYLOAD);
                let publish = format!("PUB jobs acks.{n} {PAYLOAD}\r\n{payload}\r\n");
                let mut outstanding = 0;
                while !stop.load(Relaxed) || outstanding > 0 {
                    if !stop.load(Relaxed) && outstanding < OUTSTANDING {
                        let more = (OUTSTANDING - outstanding) as usize;
                        wire.say(&publish.repeat(more)).await?;
                        outstanding = OUTSTANDING;
                    }
                    loop {
                        let ack = wire.message().await?;
                        if ack.contains("\"error\"") {
                            return Err(format!("refused: {ack}").into());
                        }
                        outstanding -= 1;
                        count.fetch_add(1, Relaxed);
                        if wire.stream.buffer().is_empty() || outstanding == 0 {
                            break;
                        }
                    }
                }
                Sent::Ok(())
            }));
        }
        tokio::time::sleep(time).await;
        let (count, elapsed) = (count.load(Relaxed), begin.elapsed());
        stop.store(true, Relaxed);
        for task in tasks {
            task.await?.map_err(|e| e.to_string())?;
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nats_conf(addr: std::net::SocketAddr, store: &Path) -> String {
    let store = store.display();
    format!("listen: \"{addr}\"\njetstream {{ store_dir: \"{store}\", max_file: 20GB }}\n")
}

/// A connection that speaks just enough of the protocol of NATS.
struct Wire {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Wire {
    async fn say(&mut self, text: &str) -> Sent<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes()).await?)
    }

    /// The payload of the next message.
    async fn message(&mut self) -> Sent<String> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line).await? == 0 {
                return Err("nats-server is gone".into());
            }
            if self.line.starts_with("PING") {
                self.say("PONG\r\n").await?;
            } else if self.line.starts_with("-ERR") {
                return Err(self.line.clone().into());
            } else if self.line.starts_with("MSG") {
                self.line.clear();
                self.stream.read_line(&mut self.line).await?;
                return Ok(self.line.clone());
            }
        }
    }
}
