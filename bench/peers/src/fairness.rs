//! Who is served when many want the same workers: over real QUIC, in worker time.
//!
//!     peers fairness [--rounds 3] [--secs 6] [--items 100000] [--tune ..]
//!
//! A broker in a process of its own; clients and a worker here, each on a connection of its own. The
//! worker has so many hands, and a call takes one for as long as its item says; the worker notes for
//! whom. What is measured are shares of its time, and how long a neighbour waits. Prints one line a
//! round and a table; asserts nothing.
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::{
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        Arc,
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{interval_at, sleep, MissedTickBehavior},
};
use tollgate_client::{wire::Body, wire::Request, Client, EventRef};

use crate::{
    broker::{first_connection, served, Broker},
    sys::{Server, TempDir},
    tune::Tune,
    worker::{Hands, Shares, TAKES},
    Args,
};

const ITEMS_A_BATCH: u64 = 1_000;
/// Batches of the tenant that offers the most under way at once.
const BATCHES: usize = 32;
const B_EVERY: Duration = Duration::from_millis(100);

/// A broker, a worker with so many hands, and what they need.
struct Stage {
    hands: Hands,
    broker: Broker,
    _server: Server,
    _dir: TempDir,
}

impl Stage {
    async fn set(t: &Tune, hands: u32) -> Result<Self> {
        let dir = TempDir::new()?;
        let (server, broker) = Broker::start(&dir.0, t)?;
        let first = first_connection(&broker.builder("bench")?).await?;
        let hands = Hands::start(&broker.worker()?, broker.addr, hands)?;
        served(&first, TAKES, "0").await?;
        Ok(Stage { hands, broker, _server: server, _dir: dir })
    }

    async fn tenant(&self, id: &str, weight: u32) -> Result<Client> {
        self.broker.tenant(id, weight, 1_024)?;
        Ok(self.broker.builder(id)?.connect().await?)
    }

    /// What was given in a window of time.
    async fn window(&self, secs: f64) -> Shares {
        let before = self.hands.given();
        sleep(Duration::from_secs_f64(secs)).await;
        let mut after = self.hands.given();
        for (tenant, given) in &mut after {
            let before = before.get(tenant).copied().unwrap_or_default();
            given.calls -= before.calls;
            given.busy -= before.busy;
        }
        after
    }
}

/// One batch of items that take `ms` each, and nothing else.
async fn batch(client: &Client, items: u64, ms: &str) -> Result<()> {
    let (mut tx, mut rx) = client.batch().open().await?.split();
    let mut right = 0;
    let read = rx.for_each(|event| {
        if let EventRef::Result(r) = event {
            right += u64::from(matches!(r.body, Body::Payload(_)));
        }
    });
    let send = async {
        for id in 0..items {
            tx.send_raw(&Request::new(id, TAKES, ms.as_bytes())).await?;
        }
        tx.finish().await
    };
    let (read, sent) = futures::join!(read, send);
    (read?, sent?);
    anyhow::ensure!(right == items, "{right} of {items} items ended well");
    Ok(())
}

/// Batches one after the other on so many streams, until `left` items were taken or it is dropped.
fn offer(client: &Client, streams: usize, ms: u64, left: u64) -> JoinSet<Result<()>> {
    let (left, mut all) = (Arc::new(AtomicU64::new(left)), JoinSet::new());
    for _ in 0..streams {
        let (client, left) = (client.clone(), left.clone());
        all.spawn(async move {
            loop {
                let take = |n: u64| Some(n.saturating_sub(ITEMS_A_BATCH));
                let before = left.fetch_update(Relaxed, Relaxed, take).unwrap_or_default();
                if before == 0 {
                    return Ok(());
                }
                batch(&client, before.min(ITEMS_A_BATCH), &ms.to_string()).await?;
            }
        });
    }
    all
}

/// One item every 100 ms, counted from when it was due, until it is told to stop.
async fn steady(client: &Client, ms: u64, stop: &AtomicBool) -> Result<Histogram<u64>> {
    let mut told = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
    let mut ticks = interval_at(tokio::time::Instant::now() + B_EVERY, B_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Relaxed) {
        let due = ticks.tick().await;
        client.call_bytes(TAKES, ms.to_string()).await.context("B's item")?;
        told.record(due.elapsed().as_nanos() as u64)?;
    }
    Ok(told)
}

pub fn run(args: &Args) -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let t = Tune::parse(args.opt("--tune").unwrap_or(""));
    let (rounds, secs) = (args.num("--rounds", 3)?, args.num("--secs", 6.0)?);
    let items = args.num("--items", 100_000)?;
    crate::runtime("multi")?.block_on(async {
        let mut rows = Vec::new();
        // Where the hands are short, and where the cores are: those end so soon that there are more.
        for (hands, ms, items) in [(32, 5, items), (32, 0, 20 * items)] {
            rows.extend(beside(&t, rounds, items, hands, ms).await?);
        }
        rows.push(equal(&t, rounds, secs).await?);
        rows.push(weights(&t, rounds, secs).await?);
        rows.extend(unlike(&t, rounds, secs).await?);
        println!("\n| figure | median | least | most | target | met |");
        println!("| --- | ---: | ---: | ---: | --- | --- |");
        rows.iter().for_each(Row::print);
        Ok(())
    })
}

/// B's p99 beside A, against B's alone right before.
async fn beside(t: &Tune, rounds: usize, items: u64, hands: u32, ms: u64) -> Result<Vec<Row>> {
    let stage = Stage::set(t, hands).await?;
    let (a, b) = (stage.tenant("a", 1).await?, stage.tenant("b", 1).await?);
    let (mut p99s, mut p50s) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        // As long as A will take, about: at least 60 of B's.
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let alone =
            Duration::from_secs_f64((items as f64 * ms as f64 / 1e3 / f64::from(hands)).max(6.0));
        tokio::spawn(async move {
            sleep(alone).await;
            over.store(true, Relaxed);
        });
        let alone = steady(&b, ms, &stop).await?;
        stop.store(false, Relaxed);
        let mut offered = offer(&a, BATCHES, ms, items);
        let began = Instant::now();
        sleep(Duration::from_millis(300)).await;
        let over = async {
            while let Some(ended) = offered.join_next().await {
                ended??;
            }
            stop.store(true, Relaxed);
            anyhow::Ok(())
        };
        let (over, beside) = futures::join!(over, steady(&b, ms, &stop));
        over?;
        let (took, beside) = (began.elapsed(), beside?);
        let ms_at = |h: &Histogram<u64>, q| h.value_at_quantile(q) as f64 / 1e6;
        let of = |q| (ms_at(&alone, q), ms_at(&beside, q));
        let (p50, p99) = (of(0.5), of(0.99));
        println!(
            "items of {ms} ms, {hands} hands, round {round}: {items} of A's in {:.1} s; B alone {} \
             items, p50 {:.2} ms, p99 {:.2}; beside A {} items, p50 {:.2}, p99 {:.2}",
            took.as_secs_f64(), alone.len(), p50.0, p99.0, beside.len(), p50.1, p99.1,
        );
        p50s.push(p50.1 / p50.0);
        p99s.push(p99.1 / p99.0);
    }
    let what = format!("B's {{}} beside A's {items} ÷ alone, items of {ms} ms, {hands} hands");
    Ok(vec![
        Row::new(what.replace("{}", "p99"), p99s, "at most 2", |x| x <= 2.0),
        Row::new(what.replace("{}", "p50"), p50s, "", |_| true),
    ])
}

/// Twenty tenants of one weight that offer more than there are hands, some four times as much.
async fn equal(t: &Tune, rounds: usize, secs: f64) -> Result<Row> {
    let stage = Stage::set(t, 16).await?;
    let (mut clients, mut offered) = (Vec::new(), Vec::new());
    for n in 0..20 {
        let client = stage.tenant(&format!("t{n}"), 1).await?;
        offered.push(offer(&client, 1 + n % 4, 2, u64::MAX));
        clients.push(client);
    }
    sleep(Duration::from_secs(2)).await;
    let mut all = Vec::new();
    for round in 1..=rounds {
        let mut given = stage.window(secs).await;
        given.retain(|tenant, _| tenant.starts_with('t'));
        let shares: Vec<f64> = given.values().map(|g| g.busy.as_secs_f64()).collect();
        let (sum, squares) = shares.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
        let jain = sum * sum / (20.0 * squares);
        let calls: u64 = given.values().map(|g| g.calls).sum();
        println!("20 equal tenants, round {round}: {calls} calls, Jain {jain:.5}");
        all.push(jain);
    }
    Ok(Row::new("Jain index of 20 equal tenants, in worker time", all, "at least 0.98", |x| {
        x >= 0.98
    }))
}

/// The largest deviation of a share from what the weights 1, 2 and 4 say.
async fn weights(t: &Tune, rounds: usize, secs: f64) -> Result<Row> {
    let stage = Stage::set(t, 16).await?;
    let (mut clients, mut offered) = (Vec::new(), Vec::new());
    for (id, weight) in [("one", 1), ("two", 2), ("four", 4)] {
        let client = stage.tenant(id, weight).await?;
        offered.push(offer(&client, 8, 2, u64::MAX));
        clients.push(client);
    }
    sleep(Duration::from_secs(2)).await;
    let mut all = Vec::new();
    for round in 1..=rounds {
        let given = stage.window(secs).await;
        let busy = |id: &str| given.get(id).map_or(0.0, |g| g.busy.as_secs_f64());
        let each = [busy("one"), busy("two") / 2.0, busy("four") / 4.0];
        let mean = (busy("one") + busy("two") + busy("four")) / 7.0;
        let off = each.iter().map(|x| (x / mean - 1.0).abs()).fold(0.0, f64::max);
        println!(
            "weights 1:2:4, round {round}: {:.3} : {:.3} : {:.3} of the mean, off by {:.2} %",
            each[0] / mean,
            each[1] / mean,
            each[2] / mean,
            off * 100.0
        );
        all.push(off * 100.0);
    }
    Ok(Row::new("weights 1:2:4: the share that is most off, %", all, "at most 5", |x| x <= 5.0))
}

/// A's items take a hundred times as long as B's: they share the hands' time. A hand is B's too while
/// its answer and its next call are on their way, which the handler does not see: so what A has of
/// all the time there is says more than the ratio of what the handlers saw.
async fn unlike(t: &Tune, rounds: usize, secs: f64) -> Result<Vec<Row>> {
    const HANDS: u32 = 16;
    let stage = Stage::set(t, HANDS).await?;
    let (a, b) = (stage.tenant("a", 1).await?, stage.tenant("b", 1).await?);
    let _offered = [offer(&a, 8, 100, u64::MAX), offer(&b, 8, 1, u64::MAX)];
    sleep(Duration::from_secs(3)).await;
    let (mut ratios, mut halves) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let given = stage.window(secs).await;
        let of = |id: &str| given.get(id).copied().unwrap_or_default();
        let (a, b) = (of("a"), of("b"));
        let ratio = a.busy.as_secs_f64() / b.busy.as_secs_f64();
        println!(
            "100 ms beside 1 ms, round {round}: {} and {} calls, {:.2} and {:.2} s: {ratio:.3}",
            a.calls,
            b.calls,
            a.busy.as_secs_f64(),
            b.busy.as_secs_f64(),
        );
        ratios.push(ratio);
        halves.push(a.busy.as_secs_f64() / (f64::from(HANDS) * secs));
    }
    let what = "what A (items of 100 ms) has of the hands' time beside B (1 ms)";
    Ok(vec![
        Row::new(what, halves, "0.45 to 0.55", |x| (0.45..=0.55).contains(&x)),
        Row::new("time in A's handlers ÷ in B's", ratios, "", |_| true),
    ])
}

/// A line of the table.
struct Row {
    what: String,
    rounds: Vec<f64>,
    target: &'static str,
    meets: fn(f64) -> bool,
}

impl Row {
    fn new(
        what: impl Into<String>,
        mut rounds: Vec<f64>,
        target: &'static str,
        meets: fn(f64) -> bool,
    ) -> Self {
        rounds.sort_by(f64::total_cmp);
        Row { what: what.into(), rounds, target, meets }
    }

    fn print(&self) {
        let r = &self.rounds;
        let median = (r[r.len() / 2] + r[(r.len() - 1) / 2]) / 2.0;
        let met = match (self.target, (self.meets)(median)) {
            ("", _) => "",
            (_, true) => "yes",
            (_, false) => "no",
        };
        let (what, target) = (&self.what, self.target);
        println!(
            "| {what} | {median:.3} | {:.3} | {:.3} | {target} | {met} |",
            r[0],
            r[r.len() - 1]
        );
    }
}
