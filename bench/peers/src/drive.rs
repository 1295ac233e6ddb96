//! The workloads, the same for every peer.
use anyhow::{bail, ensure, Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};
use std::{
    future::Future,
    sync::{
        atomic::{AtomicU8, Ordering::Relaxed},
        Arc,
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

use crate::sys::{self, Server};

/// One connection (or one worker's handle on it).
pub trait Conn: Send + 'static + Sized {
    /// A handle for one more batch in flight on the same connection.
    fn fork(&self) -> impl Future<Output = Result<Self>> + Send;
    /// Sends `n` sub-requests, returns once all `n` results are in and checked.
    fn batch(&mut self, n: usize, payload: &Bytes) -> impl Future<Output = Result<()>> + Send;
}

/// A running peer: its server processes and a way to connect to it.
pub trait Peer: Send + Sync + 'static {
    type Conn: Conn;
    fn servers(&self) -> &[Server];
    fn connect(&self) -> impl Future<Output = Result<Self::Conn>> + Send;
}

#[derive(Clone, Debug)]
pub struct Opts {
    pub secs: f64,
    pub warm: f64,
    pub conns: usize,
    pub reps: usize,
    /// Handshakes under way at once (W4).
    pub par: usize,
}

#[derive(Clone, Copy)]
pub struct Load {
    pub in_flight: usize,
    pub n: usize,
    pub size: usize,
}

pub fn load(workload: &str) -> Load {
    match workload {
        "w2" => Load { in_flight: 1, n: 1, size: 64 },
        "w3" => Load { in_flight: 4, n: 64, size: 64 << 10 },
        "w5" => Load { in_flight: 1, n: 10_000, size: 64 },
        _ => Load { in_flight: 64, n: 100, size: 64 },
    }
}

const BATCH_LIMIT: Duration = Duration::from_secs(20);

fn payload(size: usize) -> Bytes {
    (0..size).map(|i| (i * 31) as u8).collect::<Vec<_>>().into()
}

struct Snap {
    at: Instant,
    server: Vec<f64>,
    client: f64,
    host: (f64, f64),
}

fn snap(servers: &[Server]) -> Snap {
    Snap {
        at: Instant::now(),
        server: servers.iter().map(|s| s.cpu()).collect(),
        client: sys::cpu_self(),
        host: sys::host_cpu(),
    }
}

fn r(x: f64, digits: i32) -> Value {
    let k = 10f64.powi(digits);
    json!((x * k).round() / k)
}

/// What was used between two snapshots; `unit` is what the CPU seconds are divided by.
fn usage(
    out: &mut Map<String, Value>,
    servers: &[Server],
    a: &Snap,
    b: &Snap,
    unit: f64,
    per: &str,
) {
    let secs = (b.at - a.at).as_secs_f64();
    let each: Vec<f64> = b.server.iter().zip(&a.server).map(|(x, y)| x - y).collect();
    let server: f64 = each.iter().sum();
    let client = b.client - a.client;
    out.insert(format!("server_cpu_s_per_{per}"), r(server / unit, 4));
    out.insert(format!("client_cpu_s_per_{per}"), r(client / unit, 4));
    out.insert("server_cores".into(), r(server / secs, 2));
    out.insert("client_cores".into(), r(client / secs, 2));
    if servers.len() > 1 {
        let parts: Map<String, Value> =
            servers.iter().zip(&each).map(|(s, c)| (s.name.clone(), r(c / unit, 4))).collect();
        out.insert("server_cpu_parts".into(), Value::Object(parts));
    }
    let rss: u64 = servers.iter().map(|s| s.rss_kib()).sum();
    out.insert("server_rss_mib".into(), r(rss as f64 / 1024.0, 1));
    // How much of the two cores went to someone else, and how much the hypervisor took.
    let busy = b.host.0 - a.host.0;
    out.insert("other_cores".into(), r(((busy - server - client) / secs).max(0.0), 2));
    out.insert("steal_cores".into(), r((b.host.1 - a.host.1) / secs, 2));
}

fn us(h: &Histogram<u64>, q: f64) -> Value {
    r(h.value_at_quantile(q) as f64 / 1000.0, 1)
}

fn hist() -> Histogram<u64> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("bounds")
}

const WARM: u8 = 0;
const RECORD: u8 = 1;
const STOP: u8 = 2;

/// `in_flight` workers send batches back to back on one connection.
async fn closed_loop<P: Peer>(peer: &P, l: Load, o: &Opts) -> Result<(Histogram<u64>, Snap, Snap)> {
    let mut first = timeout(BATCH_LIMIT, peer.connect()).await.context("connect")??;
    let phase = Arc::new(AtomicU8::new(WARM));
    let pay = payload(l.size);
    timeout(BATCH_LIMIT, first.batch(l.n, &pay)).await.context("first batch")??;
    let mut set = JoinSet::new();
    for _ in 0..l.in_flight {
        let (mut c, phase, pay) = (first.fork().await?, phase.clone(), pay.clone());
        set.spawn(async move {
            let mut h = hist();
            loop {
                if phase.load(Relaxed) == STOP {
                    return Ok::<_, anyhow::Error>(h);
                }
                let t = Instant::now();
                timeout(BATCH_LIMIT, c.batch(l.n, &pay))
                    .await
                    .context("a batch took too long")??;
                if phase.load(Relaxed) == RECORD {
                    h.record(t.elapsed().as_nanos() as u64)?;
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs_f64(o.warm)).await;
    let a = snap(peer.servers());
    phase.store(RECORD, Relaxed);
    tokio::time::sleep(Duration::from_secs_f64(o.secs)).await;
    phase.store(STOP, Relaxed);
    let b = snap(peer.servers());
    let mut all = hist();
    while let Some(h) = set.join_next().await {
        all.add(h??)?;
    }
    drop(first);
    ensure!(!all.is_empty(), "no batch finished in the window");
    Ok((all, a, b))
}

pub async fn run<P: Peer>(peer: P, workload: &str, o: &Opts) -> Result<Map<String, Value>> {
    let l = load(workload);
    let mut out = Map::new();
    match workload {
        "w1" => {
            let (h, a, b) = closed_loop(&peer, l, o).await?;
            let secs = (b.at - a.at).as_secs_f64();
            let subs = (h.len() as usize * l.n) as f64;
            out.insert("subreq_per_s".into(), r(subs / secs, 0));
            out.insert("batch_p50_us".into(), us(&h, 0.5));
            out.insert("batch_p99_us".into(), us(&h, 0.99));
            out.insert("batch_p999_us".into(), us(&h, 0.999));
            out.insert("secs".into(), r(secs, 2));
            usage(&mut out, peer.servers(), &a, &b, subs / 1e6, "msub");
        }
        "w2" => {
            let (h, a, b) = closed_loop(&peer, l, o).await?;
            out.insert("p50_us".into(), us(&h, 0.5));
            out.insert("p99_us".into(), us(&h, 0.99));
            out.insert("count".into(), json!(h.len()));
            usage(&mut out, peer.servers(), &a, &b, h.len() as f64 / 1e6, "msub");
        }
        "w3" => {
            let (h, a, b) = closed_loop(&peer, l, o).await?;
            let secs = (b.at - a.at).as_secs_f64();
            let bytes = (h.len() as usize * l.n * l.size) as f64;
            out.insert("mb_per_s_each_way".into(), r(bytes / 1e6 / secs, 1));
            out.insert("batch_p50_us".into(), us(&h, 0.5));
            out.insert("secs".into(), r(secs, 2));
            usage(&mut out, peer.servers(), &a, &b, bytes / 1e9, "gb");
        }
        "w4" => {
            let rss0: u64 = peer.servers().iter().map(|s| s.rss_kib()).sum();
            let peer = Arc::new(peer);
            let a = snap(peer.servers());
            let (todo, mut held) = (o.conns, Vec::with_capacity(o.conns));
            let mut set = JoinSet::new();
            let mut started = 0;
            while held.len() < todo {
                while started < todo && set.len() < o.par {
                    let peer = peer.clone();
                    set.spawn(async move {
                        timeout(BATCH_LIMIT, peer.connect()).await.context("connect")?
                    });
                    started += 1;
                }
                held.push(set.join_next().await.context("no task")???);
            }
            let b = snap(peer.servers());
            let secs = (b.at - a.at).as_secs_f64();
            tokio::time::sleep(Duration::from_millis(700)).await;
            let rss1: u64 = peer.servers().iter().map(|s| s.rss_kib()).sum();
            out.insert("conns".into(), json!(held.len()));
            out.insert("handshakes_per_s".into(), r(held.len() as f64 / secs, 0));
            out.insert(
                "server_kib_per_conn".into(),
                r(rss1.saturating_sub(rss0) as f64 / held.len() as f64, 1),
            );
            usage(&mut out, peer.servers(), &a, &b, held.len() as f64 / 1e3, "kconn");
            // Are they really usable? The first and the last carry one sub-request.
            let pay = payload(64);
            for i in [0, held.len() - 1] {
                timeout(BATCH_LIMIT, held[i].batch(1, &pay)).await.context("idle connection")??;
            }
        }
        "w5" => {
            let mut c = timeout(BATCH_LIMIT, peer.connect()).await.context("connect")??;
            let pay = payload(l.size);
            for _ in 0..3 {
                timeout(BATCH_LIMIT, c.batch(l.n, &pay)).await.context("warm-up")??;
            }
            let a = snap(peer.servers());
            let mut ms = Vec::with_capacity(o.reps);
            for _ in 0..o.reps {
                let t = Instant::now();
                timeout(BATCH_LIMIT, c.batch(l.n, &pay))
                    .await
                    .context("a batch took too long")??;
                ms.push(t.elapsed().as_secs_f64() * 1e3);
            }
            let b = snap(peer.servers());
            ms.sort_by(f64::total_cmp);
            out.insert("median_ms".into(), r(ms[ms.len() / 2], 3));
            out.insert("min_ms".into(), r(ms[0], 3));
            out.insert("p90_ms".into(), r(ms[ms.len() * 9 / 10], 3));
            out.insert("reps".into(), json!(ms.len()));
            usage(&mut out, peer.servers(), &a, &b, (o.reps * l.n) as f64 / 1e6, "msub");
        }
        w => bail!("no workload {w}"),
    }
    Ok(out)
}
