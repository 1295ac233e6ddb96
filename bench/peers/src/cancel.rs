//! From a client's reset to the worker's handler: how long a cancellation takes, over real QUIC.
//!
//!     peers cancel [--count 500] [--tune ..]
//!
//! A broker in a process of its own; a client and a worker here, so that there is one clock. A batch
//! of one item is dropped once its handler runs; the handler, which would run for a minute, is
//! dropped in turn, and notes when. First with nothing else under way, then beside another tenant
//! that keeps everything busy. Prints a table; asserts nothing.
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tollgate_client::{
    worker::{Spec, WorkError},
    Client, ClientCredentials, Request, Worker,
};

use crate::{
    broker::{first_connection, served, Broker},
    sys::TempDir,
    tune::Tune,
    worker::ECHO,
    Args,
};

const HELD: &str = "held";
const LIMIT: Duration = Duration::from_secs(20);
const BUSY_BATCHES: usize = 16;
const BUSY_ITEMS: usize = 500;

/// Whoever waits for a handler to begin, and then to be dropped.
type Watch = (oneshot::Sender<()>, oneshot::Sender<Instant>);

/// Notes when the handler that holds it is dropped.
struct OnDrop(Option<oneshot::Sender<Instant>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let now = Instant::now();
        if let Some(tell) = self.0.take() {
            let _ = tell.send(now);
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let t = Tune::parse(args.opt("--tune").unwrap_or(""));
    let count = args.num("--count", 500)?;
    crate::runtime("multi")?.block_on(measure(&t, count))
}

async fn measure(t: &Tune, count: usize) -> Result<()> {
    let dir = TempDir::new()?;
    let (_server, broker) = Broker::start(&dir.0, t)?;
    first_connection(&broker.builder("bench")?).await?;
    let watched: Arc<Mutex<Option<Watch>>> = Arc::default();
    let next = watched.clone();
    let worker = Worker::builder(broker.addr)
        .server_name("localhost")
        .credentials(ClientCredentials::load_dir(&broker.worker()?)?)
        .concurrency(256)
        .recipe(ECHO, Spec::new(), |_, payload| async move { Ok(payload) })
        .recipe(HELD, Spec::new(), move |_, _| {
            let watch = next.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let (began, dropped) = watch.ok_or_else(|| WorkError::failed("unasked"))?;
                let _noted = OnDrop(Some(dropped));
                let _ = began.send(());
                sleep(Duration::from_secs(60)).await;
                Ok("late")
            }
        })
        .build()?;
    let working = tokio::spawn(worker.run());
    broker.tenant("asks", 1, 1_024)?;
    broker.tenant("busy", 1, 1_024)?;
    let client = broker.builder("asks")?.connect().await?;
    served(&client, ECHO, "x").await?;
    println!("| from reset to handler | p50 ms | p90 | p99 | most | of | target | met |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |");
    row("nothing else under way", &cancelled(&client, &watched, count).await?);
    let busy = broker.builder("busy")?.connect().await?;
    let load: Vec<_> = (0..BUSY_BATCHES).map(|_| tokio::spawn(keep_busy(busy.clone()))).collect();
    sleep(Duration::from_millis(500)).await;
    row("beside a tenant that keeps both cores busy", &cancelled(&client, &watched, count).await?);
    load.iter().for_each(|task| task.abort());
    working.abort();
    Ok(())
}

async fn keep_busy(client: Client) {
    loop {
        let items = (0..BUSY_ITEMS).map(|_| Request::new(ECHO, "xxxxxxxxxxxxxxxx"));
        if client.execute(items).await.is_err() {
            return;
        }
    }
}

async fn cancelled(
    client: &Client,
    watched: &Mutex<Option<Watch>>,
    count: usize,
) -> Result<Histogram<u64>> {
    let mut took = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
    for _ in 0..count {
        let ((began, begins), (dropped, drops)) = (oneshot::channel(), oneshot::channel());
        *watched.lock().unwrap_or_else(PoisonError::into_inner) = Some((began, dropped));
        let mut batch = client.batch().open().await?;
        batch.send(Request::new(HELD, "x")).await?;
        batch.flush().await?;
        timeout(LIMIT, begins).await.context("no handler began")??;
        let reset = Instant::now();
        drop(batch);
        let at = timeout(LIMIT, drops).await.context("a handler was not cancelled")??;
        took.record(at.saturating_duration_since(reset).as_nanos() as u64)?;
    }
    Ok(took)
}

fn row(what: &str, h: &Histogram<u64>) {
    let ms = |q| h.value_at_quantile(q) as f64 / 1e6;
    let most = h.max() as f64 / 1e6;
    let met = if most <= 100.0 { "yes" } else { "no" };
    println!(
        "| {what} | {:.2} | {:.2} | {:.2} | {most:.2} | {} | at most 100 | {met} |",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        h.len()
    );
}
