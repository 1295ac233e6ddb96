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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use support::{
    Outcome, Server, arg,
    nats::{Load, Nats, Sent},
    syncs, text,
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
        let syncs = syncs(time.min(Duration::from_secs(2)), 4_096)?;
        let nats = match Nats::start() {
            Ok(nats) => {
                let load = Load { clients, outstanding: OUTSTANDING, payload: PAYLOAD, time };
                Some(nats.publishes(load).await?)
            }
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
