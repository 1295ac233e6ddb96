//! Workloads whose size is a parameter, for the curves (`scale`): `load`, `conns` and `streams`.
use anyhow::{ensure, Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{
    closed_loop, hist, one, open_all, payload, r, rss_kib, server_cpu, snap, us, usage, Conn, Opts,
    Peer, BATCH_LIMIT,
};

/// How long a server is left alone before its memory counts.
const SETTLE: Duration = Duration::from_millis(700);
/// How long one batch after another is sent with nothing else under way.
const ALONE: Duration = Duration::from_millis(300);
/// How long connections are watched idle: twice as long as from one sign of life to the next.
const IDLE: Duration = Duration::from_secs(3);
/// The same for batches: as long as the broker's default from one empty frame to the next.
const IDLE_BATCH: Duration = Duration::from_secs(5);
/// Of fewer, what a server has and does anyway is most of what would be told of each.
const OPENED_MIN: usize = 100;
/// The same for memory: pages that the allocator has already do not show.
const HELD_MIN: usize = 1_000;

/// So many batches of so many sub-requests, back to back; then one at a time.
pub async fn load<P: Peer>(peer: P, o: &Opts) -> Result<Map<String, Value>> {
    let l = o.load;
    let mut out = peer.facts();
    let rss = rss_kib(peer.servers());
    let (h, a, b) = closed_loop(&peer, l, o).await?;
    let secs = (b.at - a.at).as_secs_f64();
    let items = (h.len() as usize * l.n) as f64;
    let bytes = items * l.size as f64;
    out.insert("under_way".into(), json!(l.in_flight * l.n));
    out.insert("items_per_s".into(), r(items / secs, 0));
    out.insert("mb_per_s".into(), r(bytes / 1e6 / secs, 1));
    out.insert("p50_ms".into(), r(h.value_at_quantile(0.5) as f64 / 1e6, 3));
    out.insert("p99_ms".into(), r(h.value_at_quantile(0.99) as f64 / 1e6, 3));
    usage(&mut out, peer.servers(), &a, &b, items / 1e6, "msub");
    if l.size > 0 {
        out.insert("server_ns_per_byte".into(), r(server_cpu(&a, &b) * 1e9 / bytes, 4));
    }
    let grown = rss_kib(peer.servers()) - rss;
    out.insert("rss_grown_mib".into(), r(grown / 1024.0, 1));
    out.insert("alone_ms".into(), r(alone(&peer, l.n, &payload(l.size)).await?, 3));
    Ok(out)
}

/// The median of one batch at a time, in milliseconds.
async fn alone<P: Peer>(peer: &P, n: usize, pay: &Bytes) -> Result<f64> {
    let mut c = timeout(BATCH_LIMIT, peer.connect()).await.context("connect")??;
    let mut ms = Vec::new();
    let end = Instant::now() + ALONE;
    while ms.len() < 5 || Instant::now() < end {
        let t = Instant::now();
        one(&mut c, n, pay, "a batch alone").await?;
        ms.push(t.elapsed().as_secs_f64() * 1e3);
    }
    ms.sort_by(f64::total_cmp);
    Ok(ms[ms.len() / 2])
}

/// So many connections: opened, left idle, then used in turn at a rate that does not depend on how
/// many they are.
pub async fn conns<P: Peer>(peer: P, o: &Opts) -> Result<Map<String, Value>> {
    let count = o.load.conns;
    let mut out = Map::new();
    let rss = rss_kib(peer.servers());
    let peer = Arc::new(peer);
    let a = snap(peer.servers());
    let held = open_all(&peer, count, o.par).await?;
    let b = snap(peer.servers());
    if count >= OPENED_MIN {
        let took = (b.at - a.at).as_secs_f64();
        out.insert("handshakes_per_s".into(), r(count as f64 / took, 0));
        let opening = server_cpu(&a, &b);
        out.insert("open_cpu_ms_per_conn".into(), r(opening * 1e3 / count as f64, 3));
    }
    sleep(SETTLE).await;
    if count >= HELD_MIN {
        let grown = rss_kib(peer.servers()) - rss;
        out.insert("server_kib_per_conn".into(), r(grown / count as f64, 1));
    }
    let a = snap(peer.servers());
    sleep(IDLE).await;
    let b = snap(peer.servers());
    let idle = server_cpu(&a, &b) / (b.at - a.at).as_secs_f64();
    if count >= OPENED_MIN {
        out.insert("idle_cpu_us_per_conn_s".into(), r(idle * 1e6 / count as f64, 2));
    }
    in_turn(&*peer, &held, o, idle, &mut out).await?;
    Ok(out)
}

/// Each connection sends when it is its turn, whether or not earlier batches are done.
async fn in_turn<P: Peer>(
    peer: &P,
    held: &[P::Conn],
    o: &Opts,
    idle: f64,
    out: &mut Map<String, Value>,
) -> Result<()> {
    let (pay, mut all) = (payload(o.load.size), hist());
    let mut set: JoinSet<Result<Option<u64>>> = JoinSet::new();
    let (mut sent, mut recorded, mut before) = (0, 0, None);
    let (begun, mut tick) = (Instant::now(), interval(Duration::from_millis(1)));
    while begun.elapsed().as_secs_f64() < o.warm + o.secs {
        tick.tick().await;
        let now = begun.elapsed().as_secs_f64();
        if now >= o.warm && before.is_none() {
            before = Some(snap(peer.servers()));
        }
        while sent < (now * o.rate) as usize {
            let mut c = held[sent % held.len()].fork().await?;
            let (pay, n, record) = (pay.clone(), o.load.n, before.is_some());
            set.spawn(async move {
                let t = Instant::now();
                one(&mut c, n, &pay, "a batch took too long").await?;
                Ok(record.then(|| t.elapsed().as_nanos() as u64))
            });
            sent += 1;
            recorded += usize::from(record);
        }
        while let Some(done) = set.try_join_next() {
            note(&mut all, done??)?;
        }
    }
    let (a, b) = (before.context("no time to measure")?, snap(peer.servers()));
    while let Some(done) = set.join_next().await {
        note(&mut all, done??)?;
    }
    ensure!(!all.is_empty(), "no batch finished in the window");
    let (secs, items) = ((b.at - a.at).as_secs_f64(), (recorded * o.load.n) as f64);
    out.insert("items_per_s".into(), r(items / secs, 0));
    out.insert("p50_us".into(), us(&all, 0.5));
    out.insert("p99_us".into(), us(&all, 0.99));
    usage(out, peer.servers(), &a, &b, items / 1e6, "msub");
    let net = server_cpu(&a, &b) - idle * secs;
    out.insert("net_cpu_us_per_item".into(), r(net * 1e6 / items, 3));
    Ok(())
}

fn note(all: &mut Histogram<u64>, took: Option<u64>) -> Result<()> {
    if let Some(took) = took {
        all.record(took)?;
    }
    Ok(())
}

/// So many batches that stay open and have nothing to do.
pub async fn streams<P: Peer>(peer: P, o: &Opts) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    let peer = Arc::new(peer);
    let pay = payload(o.load.size);
    let mut conns = open_all(&peer, o.load.conns, o.par).await?;
    for c in &mut conns {
        one(c, 1, &pay, "first batch").await?;
    }
    sleep(SETTLE).await;
    let before = rss_kib(peer.servers());
    let mut held = Vec::with_capacity(o.load.in_flight);
    let a = snap(peer.servers());
    for i in 0..o.load.in_flight {
        let c = i % conns.len();
        held.push(timeout(BATCH_LIMIT, conns[c].hold(&pay)).await.context("open a batch")??);
    }
    let b = snap(peer.servers());
    sleep(SETTLE).await;
    let (grown, count) = (rss_kib(peer.servers()) - before, held.len() as f64);
    if held.len() >= HELD_MIN {
        out.insert("server_kib_per_stream".into(), r(grown / count, 2));
    }
    out.insert("open_cpu_us_per_stream".into(), r(server_cpu(&a, &b) * 1e6 / count, 1));
    let a = snap(peer.servers());
    sleep(IDLE_BATCH).await;
    let b = snap(peer.servers());
    usage(&mut out, peer.servers(), &a, &b, count * (b.at - a.at).as_secs_f64() / 1e6, "mstream_s");
    Ok(out)
}
