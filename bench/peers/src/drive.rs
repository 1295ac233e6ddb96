//! The workloads, the same for every peer.
mod grow;

use anyhow::{bail, ensure, Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use serde_json::{json, Map, Value};
use std::{
    any::Any,
    future::Future,
    sync::{
        atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
        Arc, Mutex, PoisonError,
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
    /// Opens a batch, gets one result in it, and leaves it open while what is returned lives.
    fn hold(&mut self, _payload: &Bytes) -> impl Future<Output = Result<Held>> + Send {
        std::future::ready(Err(anyhow::anyhow!("this peer has no batches to leave open")))
    }
}

/// An open batch.
pub type Held = Box<dyn Any + Send>;

/// A running peer: its server processes and a way to connect to it.
pub trait Peer: Send + Sync + 'static {
    type Conn: Conn;
    fn servers(&self) -> &[Server];
    fn connect(&self) -> impl Future<Output = Result<Self::Conn>> + Send;
    /// What was found out while it started.
    fn facts(&self) -> Map<String, Value> {
        Map::new()
    }
}

#[derive(Clone, Debug)]
pub struct Opts {
    pub secs: f64,
    pub warm: f64,
    pub conns: usize,
    pub reps: usize,
    /// Handshakes under way at once (W4).
    pub par: usize,
    /// What `load`, `conns` and `streams` are about.
    pub load: Load,
    /// Batches a second of `conns`.
    pub rate: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub conns: usize,
    /// Batches, over all connections.
    pub in_flight: usize,
    /// Sub-requests of one batch.
    pub n: usize,
    /// Bytes of one.
    pub size: usize,
}

pub fn load(workload: &str) -> Load {
    let conns = 1;
    match workload {
        "w2" => Load { conns, in_flight: 1, n: 1, size: 64 },
        "w3" => Load { conns, in_flight: 4, n: 64, size: 64 << 10 },
        "w5" => Load { conns, in_flight: 1, n: 10_000, size: 64 },
        _ => Load { conns, in_flight: 64, n: 100, size: 64 },
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

/// CPU seconds of all servers between two snapshots.
fn server_cpu(a: &Snap, b: &Snap) -> f64 {
    b.server.iter().sum::<f64>() - a.server.iter().sum::<f64>()
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
/// How many batches one after another a window holds at least.
const BATCHES_A_WINDOW: u32 = 4;
const WINDOW_MAX: Duration = Duration::from_secs(10);
/// Histograms that the workers share: one each would be a GiB for thousands.
const HISTS: usize = 64;

/// One batch within the time limit.
async fn one<C: Conn>(c: &mut C, n: usize, pay: &Bytes, what: &'static str) -> Result<()> {
    timeout(BATCH_LIMIT, c.batch(n, pay)).await.context(what)?
}

/// `in_flight` workers send batches back to back, over as many connections as there are to be.
async fn closed_loop<P: Peer>(peer: &P, l: Load, o: &Opts) -> Result<(Histogram<u64>, Snap, Snap)> {
    let phase = Arc::new(AtomicU8::new(WARM));
    let pay = payload(l.size);
    let mut conns = Vec::with_capacity(l.conns);
    for _ in 0..l.conns {
        let mut c = timeout(BATCH_LIMIT, peer.connect()).await.context("connect")??;
        one(&mut c, l.n, &pay, "first batch").await?;
        conns.push(c);
    }
    let begun = Instant::now();
    let settled = Arc::new(AtomicUsize::new(0));
    let hists: Arc<[_]> = (0..l.in_flight.min(HISTS)).map(|_| Mutex::new(hist())).collect();
    let mut set = JoinSet::new();
    for i in 0..l.in_flight {
        let mut c = conns[i % conns.len()].fork().await?;
        let (hists, phase, pay) = (hists.clone(), phase.clone(), pay.clone());
        let settled = settled.clone();
        set.spawn(async move {
            one(&mut c, l.n, &pay, "a first batch took too long").await?;
            settled.fetch_add(1, Relaxed);
            while phase.load(Relaxed) != STOP {
                let t = Instant::now();
                one(&mut c, l.n, &pay, "a batch took too long").await?;
                if phase.load(Relaxed) == RECORD {
                    let took = t.elapsed().as_nanos() as u64;
                    let h = hists[i % hists.len()].lock();
                    h.unwrap_or_else(PoisonError::into_inner).record(took)?;
                }
            }
            anyhow::Ok(())
        });
    }
    // All that is under way began together: a window says little until that has passed, and must
    // be long beside a batch. A worker that failed settles never.
    let warm = Duration::from_secs_f64(o.warm);
    while settled.load(Relaxed) < l.in_flight && begun.elapsed() < BATCH_LIMIT {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let window = (begun.elapsed() * BATCHES_A_WINDOW).max(Duration::from_secs_f64(o.secs));
    tokio::time::sleep(warm.saturating_sub(begun.elapsed())).await;
    let a = snap(peer.servers());
    phase.store(RECORD, Relaxed);
    tokio::time::sleep(window.min(WINDOW_MAX)).await;
    phase.store(STOP, Relaxed);
    let b = snap(peer.servers());
    while let Some(done) = set.join_next().await {
        done??;
    }
    let mut all = hist();
    for h in hists.iter() {
        all.add(&*h.lock().unwrap_or_else(PoisonError::into_inner))?;
    }
    drop(conns);
    ensure!(!all.is_empty(), "no batch finished in the window");
    Ok((all, a, b))
}

/// Opens so many connections, a few at a time, and keeps them.
async fn open_all<P: Peer>(peer: &Arc<P>, count: usize, par: usize) -> Result<Vec<P::Conn>> {
    let mut held = Vec::with_capacity(count);
    let mut set = JoinSet::new();
    let mut started = 0;
    while held.len() < count {
        while started < count && set.len() < par {
            let peer = peer.clone();
            set.spawn(
                async move { timeout(BATCH_LIMIT, peer.connect()).await.context("connect")? },
            );
            started += 1;
        }
        held.push(set.join_next().await.context("no task")???);
    }
    Ok(held)
}

/// Resident memory of all servers.
fn rss_kib(servers: &[Server]) -> f64 {
    servers.iter().map(|s| s.rss_kib()).sum::<u64>() as f64
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
            let rss0 = rss_kib(peer.servers());
            let peer = Arc::new(peer);
            let a = snap(peer.servers());
            let mut held = open_all(&peer, o.conns, o.par).await?;
            let b = snap(peer.servers());
            let secs = (b.at - a.at).as_secs_f64();
            tokio::time::sleep(Duration::from_millis(700)).await;
            let grown = rss_kib(peer.servers()) - rss0;
            out.insert("conns".into(), json!(held.len()));
            out.insert("handshakes_per_s".into(), r(held.len() as f64 / secs, 0));
            out.insert("server_kib_per_conn".into(), r(grown / held.len() as f64, 1));
            usage(&mut out, peer.servers(), &a, &b, held.len() as f64 / 1e3, "kconn");
            // Are they really usable? The first and the last carry one sub-request.
            let pay = payload(64);
            for i in [0, held.len() - 1] {
                one(&mut held[i], 1, &pay, "idle connection").await?;
            }
        }
        "w5" => {
            let mut c = timeout(BATCH_LIMIT, peer.connect()).await.context("connect")??;
            let pay = payload(l.size);
            for _ in 0..3 {
                one(&mut c, l.n, &pay, "warm-up").await?;
            }
            let a = snap(peer.servers());
            let mut ms = Vec::with_capacity(o.reps);
            for _ in 0..o.reps {
                let t = Instant::now();
                one(&mut c, l.n, &pay, "a batch took too long").await?;
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
        "load" => return grow::load(peer, o).await,
        "conns" => return grow::conns(peer, o).await,
        "streams" => return grow::streams(peer, o).await,
        w => bail!("no workload {w}"),
    }
    Ok(out)
}
