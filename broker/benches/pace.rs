//! One connection of a gateway, two tenants, policy `pace`: A offers more bytes than its quota for
//! as long as it lasts, and B runs small batches at a steady rate far below its own.
//!
//! ```sh
//! cargo bench -p tollgate-broker --bench pace [-- --rounds 5 --windows 10 --rate-kib 4096 --bucket-ms 100]
//! ```
//!
//! Each round measures B alone, then B beside A, for as many windows of a second. It prints B's
//! latencies beside those of the same round alone; what A was given in each window after its first,
//! as parts of its quota; how long after A's first window was used up it was told so; and the
//! memory of the broker, sampled ten times a second. Nothing is asserted: machines differ.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tollgate_certs::Identity;
use tollgate_client::{Client, EventRef, wire::Body, wire::Request};

mod support;
use support::{Outcome, Server, arg, spread, text};

/// Bytes of one of A's items; its result is a hash, so that nothing of B's waits for A's results.
const ITEM: usize = 16 << 10;
/// Items of a batch of B's, and bytes of each.
const B_ITEMS: u64 = 10;
const B_BYTES: usize = 64;
const WINDOW: Duration = Duration::from_secs(1);

type Said<T> = Result<T, String>;

fn main() -> Outcome<()> {
    let (rounds, windows) = (arg("--rounds", 5)?, arg("--windows", 10)?);
    let every = Duration::from_micros(arg("--every-us", 2_000)?);
    let (rate, bucket_ms) = (arg("--rate-kib", 4_096)? << 10, arg("--bucket-ms", 100)?);
    // A window has ten buckets.
    let room = rate * bucket_ms / 100 / ITEM as u64;
    let bucket = format!("tenancy.window.bucket_ms={bucket_ms}");
    let server = Server::start(text("--binary").map(Into::into), std::slice::from_ref(&bucket))?;
    server.operate(&format!("tenant create a --gateway edge --quota bytes_per_second={rate}"))?;
    server.operate("tenant create b --gateway edge")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let gateway = server.connect(&Identity::gateway("edge")?).await?;
        // The first second of a process is not like those that follow.
        steady(&gateway, every, WINDOW).await?;
        let length = WINDOW * u32::try_from(windows)?;
        let (mut p50, mut p99, mut sums, mut told) = (vec![], vec![], vec![], vec![]);
        println!("A: {rate} B/s ({bucket}); B: {B_ITEMS} x {B_BYTES} B every {every:?}");
        for round in 1..=rounds {
            let alone = steady(&gateway, every, length).await?;
            let over = Arc::new(AtomicBool::new(false));
            let (a, cpu) = (tokio::spawn(greedy(gateway.clone(), room, over.clone())), server.cpu()?);
            // A's first window, and the moment at which it is told to wait.
            sleep(WINDOW).await;
            let both = (steady(&gateway, every, length), memory(&server, windows));
            let (beside, memory) = tokio::join!(both.0, both.1);
            over.store(true, Relaxed);
            let cpu = (server.cpu()? - cpu).as_secs_f64() / (length + WINDOW).as_secs_f64();
            let (beside, (least, most), a) = (beside?, memory?, a.await??);
            let taken = a.windows(windows, rate);
            let sum = taken.iter().sum::<f64>() / windows as f64;
            let (_, low, high) = spread(taken);
            println!(
                "round {round}: B alone p50 {:?} p99 {:?}, beside A p50 {:?} p99 {:?} ({} batches); \
                 A {sum:.3} of its quota ({low:.3} to {high:.3} a window), told after {:?}; \
                 memory {least} to {most} KiB, {:.1} % of a core",
                quantile(&alone, 0.5),
                quantile(&alone, 0.99),
                quantile(&beside, 0.5),
                quantile(&beside, 0.99),
                beside.len(),
                a.told,
                cpu * 100.0,
            );
            let ratio = |q| quantile(&beside, q).as_secs_f64() / quantile(&alone, q).as_secs_f64();
            p50.push(ratio(0.5));
            p99.push(ratio(0.99));
            sums.push(sum);
            told.push(a.told.as_secs_f64() * 1e3);
            // Until A's window is empty again.
            sleep(2 * WINDOW).await;
        }
        println!("over {rounds} rounds of {windows} windows: median (least to most)");
        for (name, figures) in [
            ("B's p50 beside A ÷ alone", p50),
            ("B's p99 beside A ÷ alone", p99),
            ("A's bytes ÷ its quota", sums),
            ("told after going over, ms", told),
        ] {
            let (middle, least, most) = spread(figures);
            println!("{name:<28} {middle:>8.3}   ({least:.3} to {most:.3})");
        }
        Ok(())
    })
}

/// B, at its own pace: what each of its batches took, sorted. A batch that is late does not make
/// those after it late.
async fn steady(gateway: &Client, every: Duration, length: Duration) -> Said<Vec<Duration>> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        ticks.tick().await;
        let begin = Instant::now();
        small_batch(gateway).await?;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

async fn small_batch(gateway: &Client) -> Said<()> {
    let opened = gateway.batch().tenant("b").open().await.map_err(|e| e.to_string())?;
    let (mut tx, mut rx) = opened.split();
    let mut right = 0;
    let read = rx.for_each(|event| {
        if let EventRef::Result(r) = event {
            right += u64::from(matches!(r.body, Body::Payload(p) if p.len() == B_BYTES));
        }
    });
    let send = async {
        for id in 0..B_ITEMS {
            tx.send_raw(&Request::new(id, "echo", &[7; B_BYTES])).await?;
        }
        tx.finish().await
    };
    let (read, sent) = futures::join!(read, send);
    read.and(sent).map_err(|e| e.to_string())?;
    if right == B_ITEMS { Ok(()) } else { Err(format!("B: {right} of {B_ITEMS} answers")) }
}

/// What became of A.
struct Given {
    /// When each item was answered.
    at: Vec<Instant>,
    began: Instant,
    /// From when a window's worth was answered to when it was told to wait.
    told: Duration,
}

impl Given {
    /// What was given in each window after the first, as parts of the quota.
    fn windows(&self, n: u64, rate: u64) -> Vec<f64> {
        let mut bytes = vec![0; n as usize];
        for at in &self.at {
            let window = at.duration_since(self.began).as_millis() as usize / 1_000;
            if let Some(sum) = window.checked_sub(1).and_then(|w| bytes.get_mut(w)) {
                *sum += ITEM;
            }
        }
        bytes.iter().map(|sum| *sum as f64 / rate as f64).collect()
    }
}

/// A, offering as fast as the broker takes it, until it is over. A window has room for `room` items.
async fn greedy(gateway: Client, room: u64, over: Arc<AtomicBool>) -> Said<Given> {
    let opened = gateway.batch().tenant("a").open().await.map_err(|e| e.to_string())?;
    let (mut tx, mut rx) = opened.split();
    let (began, mut at) = (Instant::now(), Vec::new());
    let (mut used_up, mut told) = (None, None);
    let mut refused = 0;
    let read = rx.for_each(|event| match event {
        EventRef::Result(r) => {
            refused += u64::from(r.code != 0);
            at.push(Instant::now());
            if at.len() as u64 == room {
                used_up = Some(Instant::now());
            }
        }
        EventRef::Throttled(_) if told.is_none() => told = Some(Instant::now()),
        _ => {}
    });
    let send = async {
        let payload = vec![7; ITEM];
        for id in 0.. {
            if over.load(Relaxed) {
                break;
            }
            tx.send_raw(&Request::new(id, "sha256", &payload)).await?;
        }
        tx.finish().await
    };
    let (read, sent) = futures::join!(read, send);
    read.and(sent).map_err(|e| e.to_string())?;
    if refused > 0 {
        return Err(format!("A: {refused} items were refused: its policy is to wait"));
    }
    let (used_up, told) = (used_up.ok_or("A got no window")?, told.ok_or("A was never told")?);
    Ok(Given { at, began, told: told.saturating_duration_since(used_up) })
}

/// The memory of a broker for so many windows, sampled ten times in each: the least and the most.
async fn memory(server: &Server, windows: u64) -> Said<(u64, u64)> {
    let (mut least, mut most) = (u64::MAX, 0);
    for _ in 0..10 * windows {
        let now = server.resident_kib().map_err(|e| e.to_string())?;
        (least, most) = (least.min(now), most.max(now));
        sleep(WINDOW / 10).await;
    }
    Ok((least, most))
}

fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q) as usize).copied().unwrap_or_default()
}
