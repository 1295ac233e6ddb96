//! Messages appended a second, each acknowledged once it is synced, beside JetStream's publish to a
//! stream in files, and beside a plain file with one fdatasync a group; how soon a reader has them;
//! how fast a topic is read; and what 10,000 topics of 1,000 tenants cost.
//!
//! Each producer is a connection of its own, and keeps 512 messages of 1 KiB unacknowledged.
//! JetStream (`nats-server`, when it is installed) is given as many connections with as many
//! messages unacknowledged, without TLS; with its defaults it acknowledges before it syncs, which it
//! does every two minutes: so its figures are of another promise. All rows of one number of
//! producers are measured one right after the other, on one file system.
//!
//!     cargo bench -p tollgate-broker --bench topics [-- --seconds 3 --rounds 3 --binary PATH]
//!
//! `--topics 0` leaves the many topics out.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use support::{
    Outcome, Server, arg,
    nats::{Load, Nats, Sent},
    syncs, text,
};
use tollgate_certs::Identity;
use tollgate_client::{Client, Message, Retention};
use tollgate_protocol::id::TenantId;

const OUTSTANDING: usize = 512;
const PAYLOAD: usize = 1_024;
/// A group of the store holds so much, mostly, when there is enough to do.
const GROUP_BYTES: usize = 256 << 10;

fn main() -> Outcome<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Outcome<()> {
    let time = Duration::from_secs(arg("--seconds", 3)?);
    let rounds = arg("--rounds", 3)?;
    println!("producers  messages/s  JetStream/s  ratio  file of groups/s  ratio");
    for producers in [1, 16] {
        let mut ratios = Vec::new();
        for _ in 0..rounds {
            let server = server("acme").await?;
            let ours = appends(&server, producers, time).await?;
            drop(server);
            let raw = syncs(Duration::from_secs(1), GROUP_BYTES)?;
            let file = raw * (GROUP_BYTES / PAYLOAD) as f64;
            let nats = match Nats::start() {
                Ok(nats) => {
                    let outstanding = OUTSTANDING as u64;
                    let load = Load { clients: producers, outstanding, payload: PAYLOAD, time };
                    nats.publishes(load).await?
                }
                Err(why) => {
                    eprintln!("no nats-server: {why}");
                    f64::NAN
                }
            };
            let (of_nats, of_file) = (ours / nats, ours / file);
            println!(
                "{producers:9} {ours:11.0} {nats:12.0} {of_nats:6.2} {file:17.0} {of_file:6.2}"
            );
            ratios.push((of_nats, of_file));
        }
        let median = |mut of: Vec<f64>| {
            of.sort_by(f64::total_cmp);
            (of[of.len() / 2], of[0], of[of.len() - 1])
        };
        let (nats, file) = ratios.into_iter().unzip();
        for (what, (middle, least, most)) in [("JetStream", median(nats)), ("file", median(file))] {
            println!("{producers:9} \u{f7} {what}: {middle:.2} ({least:.2} to {most:.2})");
        }
    }
    reads(time).await?;
    match arg("--topics", 10_000)? {
        0 => Ok(()),
        topics => many(topics).await,
    }
}

/// A broker with a tenant that may do anything.
async fn server(tenant: &str) -> Outcome<Server> {
    let server = Server::start(text("--binary").map(Into::into), &[])?;
    server.operate(&format!("tenant create {tenant} {ROOMY}"))?;
    Ok(server)
}

const ROOMY: &str = "--quota messages_per_second=-1 --quota bytes_per_second=-1 \
    --quota storage_bytes=-1 --quota connections=-1 --quota topics=-1 --quota partitions=-1 \
    --quota producers=-1 --quota consumers=-1";

async fn client(server: &Server, tenant: &str) -> Outcome<Client> {
    server.connect(&Identity::client(TenantId::parse(tenant)?, None)?).await
}

/// Messages a second, from so many connections.
async fn appends(server: &Server, producers: u64, time: Duration) -> Outcome<f64> {
    let first = client(server, "acme").await?;
    first.topics().create("t", 1, Retention::default()).await?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..producers {
        let client = client(server, "acme").await?;
        tasks.push(tokio::spawn(one(client, stop.clone(), count.clone())));
    }
    // What begins slowly is not counted.
    tokio::time::sleep(time / 4).await;
    let (begin, before) = (Instant::now(), count.load(Relaxed));
    tokio::time::sleep(time).await;
    let rate = (count.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    for task in tasks {
        task.await?.map_err(|e| e.to_string())?;
    }
    Ok(rate)
}

async fn one(client: Client, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Sent<()> {
    let producer = client.producer("t").in_flight_max(OUTSTANDING).open().await?;
    let payload = bytes::Bytes::from(vec![0x5a; PAYLOAD]);
    let mut queued = std::collections::VecDeque::new();
    while !stop.load(Relaxed) {
        queued.push_back(producer.queue(Message::new(payload.clone())).await?);
        if queued.len() >= OUTSTANDING
            && let Some(first) = queued.pop_front()
        {
            first.await?;
            count.fetch_add(1, Relaxed);
        }
    }
    for appending in queued {
        appending.await?;
    }
    producer.close().await?;
    Ok(())
}

/// How soon a reader has a message, and how fast it reads what is there.
async fn reads(time: Duration) -> Outcome<()> {
    let server = server("acme").await?;
    let (writes, reads) = (client(&server, "acme").await?, client(&server, "acme").await?);
    writes.topics().create("t", 1, Retention::default()).await?;
    let producer = writes.producer("t").open().await?;
    let mut consumer = reads.consumer("t").open().await?;
    let (mut acknowledged, mut had) = (Vec::new(), Vec::new());
    let until = Instant::now() + time;
    while Instant::now() < until {
        let begin = Instant::now();
        let appending = producer.queue(vec![0x5a; PAYLOAD]).await?;
        let message = consumer.next().await.ok_or("the topic ended")??;
        had.push(begin.elapsed().as_secs_f64() * 1e3);
        let position = appending.await?;
        acknowledged.push(begin.elapsed().as_secs_f64() * 1e3);
        if position != message.position() {
            return Err("another message was read".into());
        }
    }
    for (what, of) in [("acknowledged", &mut acknowledged), ("at a reader", &mut had)] {
        of.sort_by(f64::total_cmp);
        let at = |q: f64| of[((of.len() - 1) as f64 * q) as usize];
        println!("one at a time: {what} after p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    }
    drop(consumer);
    let mut queued = std::collections::VecDeque::new();
    for _ in 0..100_000 {
        queued.push_back(producer.queue(vec![0x5a; PAYLOAD]).await?);
        if queued.len() > OUTSTANDING
            && let Some(first) = queued.pop_front()
        {
            first.await?;
        }
    }
    for appending in queued {
        appending.await?;
    }
    let mut consumer = reads.consumer("t").until_end().open().await?;
    let (begin, mut bytes, mut count) = (Instant::now(), 0_usize, 0_u64);
    while let Some(message) = consumer.next().await {
        bytes += message?.payload.len();
        count += 1;
    }
    let took = begin.elapsed().as_secs_f64();
    let rate = bytes as f64 / took / 1e6;
    println!(
        "reading what is there: {count} messages, {rate:.0} MB/s, {:.0}/s",
        count as f64 / took
    );
    Ok(())
}

/// So many topics of a tenth as many tenants: memory, and how long a start takes.
async fn many(topics: u64) -> Outcome<()> {
    const TENANTS: u64 = 1_000;
    let server = server("t0").await?;
    let tenants = TENANTS.min(topics);
    for n in 1..tenants {
        server.operate(&format!("tenant create t{n} --quota topics=-1"))?;
    }
    let before = server.resident_kib()?;
    let mut tasks = Vec::new();
    for n in 0..tenants {
        let client = client(&server, &format!("t{n}")).await?;
        tasks.push(tokio::spawn(async move {
            for topic in 0..topics / tenants {
                let name = format!("topic-{topic}");
                client.topics().create(&name, 1, Retention::default()).await?;
                client.producer(name.as_str()).open().await?.send("hello").await?;
            }
            Sent::Ok(())
        }));
        if tasks.len() == 64 {
            for task in tasks.drain(..) {
                task.await?.map_err(|e| e.to_string())?;
            }
        }
    }
    for task in tasks {
        task.await?.map_err(|e| e.to_string())?;
    }
    let with = server.resident_kib()?;
    let begin = Instant::now();
    let server = server.restart()?;
    let ready = begin.elapsed().as_secs_f64();
    let last = client(&server, &format!("t{}", tenants - 1)).await?;
    let there = last.topics().list().await?.len() as u64;
    if there != topics / tenants {
        return Err(format!("{there} topics of the last tenant").into());
    }
    let known = begin.elapsed().as_secs_f64();
    println!(
        "{topics} topics of {tenants} tenants, a message each: {} MiB resident, {} before them; after \
         a kill ready in {ready:.2} s, the last tenant's topics known in {known:.2} s, {} MiB",
        with / 1024,
        before / 1024,
        server.resident_kib()? / 1024
    );
    Ok(())
}
