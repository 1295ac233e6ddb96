//! Neighbours: a tenant beyond its rate is held back, and the one beside it does not feel it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tollgate_client::{BatchEvents, BatchSender, CallError, CancelScope, Client, Event, Request};

use super::{Show, Stage, show::quantile, stage::GLOBEX_REQUESTS};
use crate::cli::{format, output::padded};

const ALONE: Duration = Duration::from_secs(1);
const TOGETHER: Duration = Duration::from_secs(3);
/// Calls of acme that are under way at any time.
const CALLERS: usize = 4;
/// What globex wants in `TOGETHER`: several times what it may.
const WANTED: u64 = 20_000;
/// A machine that does other work too must not make a liar of us; held-back work of a neighbour
/// would cost a thousand times as much.
const CALM: Duration = Duration::from_millis(250);

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene(
        "Neighbours",
        "globex sends 20,000 items and may send 400 a second; acme goes about its calls beside it",
    )?;
    let alone = Calls::make(&stage.acme, ALONE, &AtomicU64::new(0)).await?;
    let acme_done = Arc::new(AtomicU64::new(0));
    let globex_done = Arc::new(AtomicU64::new(0));
    let flood = Flood::begin(&stage.globex, globex_done.clone()).await?;
    let calls = {
        let (client, done) = (stage.acme.clone(), acme_done.clone());
        tokio::spawn(async move { Calls::make(&client, TOGETHER, &done).await })
    };
    for second in 1..=TOGETHER.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (acme, globex) = (acme_done.load(Relaxed), globex_done.load(Relaxed));
        show.line(format_args!("{second} s   acme {acme:>6} done   globex {globex:>6} done"))?;
    }
    let together = calls.await??;
    let flood = flood.end().await?;

    let row = |who: &str, done: u64, time: Duration, p50: String, p99: String| {
        let rate = format!("{:.0}/s", done as f64 / time.as_secs_f64());
        padded(&[who.to_owned(), done.to_string(), rate, p50, p99], &[16, 8, 10, 9, 9])
    };
    let of = |calls: &Calls, q| format::duration(quantile(&calls.latencies, q));
    show.line(padded(&["", "done", "rate", "p50", "p99"].map(str::to_owned), &[16, 8, 10, 9, 9]))?;
    for (who, calls, time) in [("acme alone", &alone, ALONE), ("acme beside", &together, TOGETHER)]
    {
        show.line(row(who, calls.done(), time, of(calls, 0.5), of(calls, 0.99)))?;
    }
    show.line(row("globex", flood.done, flood.took, "-".into(), "-".into()))?;

    // The first window may be used up at once; after it, a tenth of the limit each tenth second.
    let seconds = flood.took.as_secs_f64();
    let most = (GLOBEX_REQUESTS as f64 * (seconds + 1.1)) as u64;
    let least = (GLOBEX_REQUESTS as f64 * seconds * 0.5) as u64;
    show.promise(
        (least..=most).contains(&flood.done) && flood.failed == 0,
        format_args!(
            "globex was held to its rate, and none of its items failed for it ({} done in {})",
            flood.done,
            format::duration(flood.took)
        ),
    )?;
    show.promise(
        flood.throttled > 0,
        format_args!(
            "it was told so: {} messages `Throttled`, with the quota's name",
            flood.throttled
        ),
    )?;
    show.promise(
        together.failed == 0 && quantile(&together.latencies, 0.99) < CALM,
        format_args!(
            "acme did not feel it: p99 {} alone, {} beside",
            of(&alone, 0.99),
            of(&together, 0.99)
        ),
    )?;
    Ok(())
}

/// Calls of one item each, one after the other, by several callers at once.
#[derive(Default)]
struct Calls {
    /// In order.
    latencies: Vec<Duration>,
    failed: u64,
}

impl Calls {
    async fn make(client: &Client, time: Duration, done: &AtomicU64) -> anyhow::Result<Calls> {
        let end = Instant::now() + time;
        let payload = Bytes::from(vec![b'a'; 256]);
        let caller = || async {
            let mut calls = Calls::default();
            while Instant::now() < end {
                let began = Instant::now();
                match client.call_bytes("echo", payload.clone()).await {
                    Ok(_) => calls.latencies.push(began.elapsed()),
                    Err(CallError::Failed(_)) => calls.failed += 1,
                    Err(e) => return Err(e),
                }
                done.fetch_add(1, Relaxed);
            }
            Ok(calls)
        };
        let callers = futures::future::try_join_all((0..CALLERS).map(|_| caller())).await?;
        let mut all = Calls::default();
        for calls in callers {
            all.latencies.extend(calls.latencies);
            all.failed += calls.failed;
        }
        all.latencies.sort_unstable();
        Ok(all)
    }

    fn done(&self) -> u64 {
        self.latencies.len() as u64
    }
}

/// A batch of far more items than the tenant may send.
struct Flood {
    feed: tokio::task::JoinHandle<BatchSender>,
    stop: Arc<AtomicBool>,
    events: tokio::task::JoinHandle<anyhow::Result<Flooded>>,
    began: Instant,
}

/// What came of it.
#[derive(Default)]
struct Flooded {
    done: u64,
    failed: u64,
    throttled: u64,
    took: Duration,
}

impl Flood {
    async fn begin(client: &Client, done: Arc<AtomicU64>) -> anyhow::Result<Flood> {
        let (sender, events) = client.batch().open().await?.split();
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Flood {
            feed: tokio::spawn(feed(sender, stop.clone())),
            events: tokio::spawn(count(events, done, stop.clone())),
            stop,
            began: Instant::now(),
        })
    }

    /// Gives up what has not started.
    async fn end(self) -> anyhow::Result<Flooded> {
        let took = self.began.elapsed();
        self.stop.store(true, Relaxed);
        // It waits for the broker to read on.
        self.feed.abort();
        if let Ok(mut sender) = self.feed.await {
            sender.cancel(CancelScope::Pending).await?;
        }
        Ok(Flooded { took, ..self.events.await?? })
    }
}

/// Sends until nothing more is wanted.
async fn feed(mut sender: BatchSender, stop: Arc<AtomicBool>) -> BatchSender {
    let payload = Bytes::from(vec![b'g'; 256]);
    for _ in 0..WANTED {
        if stop.load(Relaxed) || sender.send(Request::new("echo", payload.clone())).await.is_err() {
            break;
        }
    }
    sender
}

async fn count(
    mut events: BatchEvents,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Flooded> {
    let mut flooded = Flooded::default();
    while let Some(event) = events.next().await {
        match event {
            // What was given up in the end is not what the quota did.
            Ok(Event::Result(r)) if stop.load(Relaxed) => drop(r),
            Ok(Event::Result(r)) if r.is_success() => {
                flooded.done += 1;
                done.fetch_add(1, Relaxed);
            }
            Ok(Event::Result(_)) => flooded.failed += 1,
            Ok(Event::Throttled(_)) => flooded.throttled += 1,
            Ok(_) => {}
            // Dropping the sender cancels, too.
            Err(_) if stop.load(Relaxed) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(flooded)
}
