//! Giving work up: by saying so, by dropping it, and by a deadline.
//!
//! ```sh
//! cargo run -p tollgate-broker --example cancellation
//! ```

use std::{collections::BTreeMap, future, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tollgate_broker::{
    batch::{Context, Error, Spec, typed},
    recipes,
    tenancy::Settings,
};
use tollgate_client::{Batch, CancelScope, Client, Code, Ended, Event, Request, Summary};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A recipe that never ends by itself, and tells what becomes of it.
    let (told, mut tells) = mpsc::unbounded_channel();
    let forever = typed::bytes(move |_: Context, _: Bytes| {
        let guard = Guard(told.clone());
        async move {
            guard.tell("started");
            // Its future is dropped here, at the await point, when the item is cancelled: what it
            // holds is cleaned up by `Drop`, as always in Rust.
            future::pending::<()>().await;
            drop(guard);
            Ok::<_, Error>(Bytes::new())
        }
    });
    let catalog = recipes::builtin().recipe("forever", Spec::bytes(), forever).build()?;
    let local = support::Local::start(catalog).await?;
    local.broker.tenants().create_named("acme", Settings::default()).await?;
    let client = local.client("acme").await?;

    what_has_not_started(&client).await?;
    everything(&client).await?;
    by_dropping_a_batch(&client, &mut tells).await?;
    by_dropping_a_call(&client, &mut tells).await?;
    by_a_deadline(&client).await?;

    client.close().await;
    local.stop().await
}

/// In band: `Cancel { Pending }` behind the items. What runs finishes.
async fn what_has_not_started(client: &Client) -> anyhow::Result<()> {
    // One after the other, so that two of three wait.
    let mut batch = client.batch().concurrency_max(1).open().await?;
    for _ in 0..3 {
        batch.send(Request::new("delay", "").json(&json!({"ms": 1_000, "steps": 50}))).await?;
    }
    // `seal` says that nothing follows and keeps the stream open, so that `cancel` can still act.
    batch.seal().await?;
    let (codes, summary) = cancel_at_first_progress(&mut batch, CancelScope::Pending).await?;
    assert_eq!(codes, [Code::Ok, Code::Cancelled, Code::Cancelled]);
    assert_eq!((summary.ended, summary.succeeded), (Ended::Cancelled, 1));
    Ok(())
}

/// In band: `Cancel { All }`. What runs is stopped too.
async fn everything(client: &Client) -> anyhow::Result<()> {
    let mut batch = client.batch().open().await?;
    for _ in 0..3 {
        batch
            .send(Request::new("delay", "").json(&json!({"ms": 600_000, "steps": 10_000})))
            .await?;
    }
    batch.seal().await?;
    let (codes, summary) = cancel_at_first_progress(&mut batch, CancelScope::All).await?;
    assert_eq!(codes, [Code::Cancelled; 3]);
    // There is a result for every item that the broker read, and a summary, as always.
    assert_eq!((summary.ended, summary.failed_total()), (Ended::Cancelled, 3));
    Ok(())
}

/// Reads a batch of delays to its end, and cancels it once something runs.
async fn cancel_at_first_progress(
    batch: &mut Batch,
    scope: CancelScope,
) -> anyhow::Result<(Vec<Code>, Summary)> {
    let mut codes = BTreeMap::new();
    let mut cancelled = false;
    loop {
        match batch.next().await.context("a batch ends with its summary")?? {
            Event::Progress(_) if !cancelled => {
                batch.cancel(scope).await?;
                cancelled = true;
            }
            Event::Result(item) => {
                println!("item {}: {:?}", item.id, item.code());
                codes.insert(item.id, item.code().context("a code of the table")?);
            }
            Event::Summary(summary) => return Ok((codes.into_values().collect(), summary)),
            _ => {}
        }
    }
}

/// Dropping a batch cancels it, running items too.
async fn by_dropping_a_batch(client: &Client, tells: &mut Tells) -> anyhow::Result<()> {
    let mut batch = client.batch().open().await?;
    batch.send(Request::new("forever", "")).await?;
    // Items are gathered until somebody reads events; nobody does here.
    batch.flush().await?;
    assert_eq!(tells.recv().await, Some("started"));
    drop(batch);
    assert_eq!(tells.recv().await, Some("dropped"));
    println!("the batch was dropped, and so was the recipe's future");
    Ok(())
}

/// So does dropping the future of a call or of `execute`: `select!`, `timeout` and aborted tasks do
/// what one expects.
async fn by_dropping_a_call(client: &Client, tells: &mut Tells) -> anyhow::Result<()> {
    tokio::select! {
        answer = client.call_bytes("forever", "") => anyhow::bail!("it has no end: {answer:?}"),
        told = tells.recv() => assert_eq!(told, Some("started")),
    }
    assert_eq!(tells.recv().await, Some("dropped"));
    println!("the call was dropped, and so was the recipe's future");
    Ok(())
}

/// A deadline is kept by the broker: what is done stays done, the rest fails.
async fn by_a_deadline(client: &Client) -> anyhow::Result<()> {
    let result = client
        .batch()
        .deadline(Duration::from_millis(500))
        .execute([Request::new("echo", "quick"), Request::new("forever", "")])
        .await?;
    let codes: Vec<_> = result.iter().filter_map(|item| item.code()).collect();
    println!("after {:?}: {codes:?}", result.summary().duration);
    assert_eq!(codes, [Code::Ok, Code::DeadlineExceeded]);
    assert_eq!(result.ended(), Ended::DeadlineExceeded);
    Ok(())
}

type Tells = mpsc::UnboundedReceiver<&'static str>;

/// Tells when it goes.
struct Guard(mpsc::UnboundedSender<&'static str>);

impl Guard {
    fn tell(&self, what: &'static str) {
        // Nobody listens any more at the end of the example.
        let _ = self.0.send(what);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tell("dropped");
    }
}
