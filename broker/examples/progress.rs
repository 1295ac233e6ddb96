//! How far items have come: a call with a callback, and the events of an open batch.
//!
//! ```sh
//! cargo run -p tollgate-broker --example progress
//! ```

use std::{collections::BTreeMap, sync::mpsc};

use anyhow::Context;
use serde_json::{Value, json};
use tollgate_broker::{recipes, tenancy::Settings};
use tollgate_client::{Client, Ended, Event, Request};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let local = support::Local::start(recipes::builtin().build()?).await?;
    local.broker.tenants().create_named("acme", Settings::default()).await?;
    let client = local.client("acme").await?;

    one_call(&client).await?;
    a_whole_batch(&client).await?;

    client.close().await;
    local.stop().await
}

/// One call: the callback sees progress, the future gives the answer.
async fn one_call(client: &Client) -> anyhow::Result<()> {
    let (seen, reports) = mpsc::channel();
    let answer: Value = client
        .call("delay", &json!({"ms": 300, "steps": 3}))
        .on_progress(move |p| {
            println!(
                "{:.0} % ({} of {}): {}",
                p.percent().unwrap_or(0.0),
                p.done,
                p.total,
                p.message
            );
            // Nobody takes it any more when the call is over: that is fine.
            let _ = seen.send((p.done, p.total));
        })
        .await?;
    assert_eq!(answer, json!({"ms": 300, "steps": 3}));

    // Progress is newest-wins: on a slow path some reports are skipped. What did arrive never goes
    // backwards, and before a success it has come to its total.
    let reports: Vec<_> = reports.iter().collect();
    assert!(reports.is_sorted());
    assert_eq!(reports.last(), Some(&(3, 3)));
    Ok(())
}

/// A batch that is open: items go up while events come down.
async fn a_whole_batch(client: &Client) -> anyhow::Result<()> {
    let mut batch = client.batch().open().await?;
    let mut newest = BTreeMap::new();
    for (ms, steps) in [(300, 3), (100, 5), (200, 2)] {
        let id = batch.send(Request::new("delay", "").json(&json!({"ms": ms, "steps": steps})));
        newest.insert(id.await?, 0);
    }
    // Nothing follows. `finish` gives up in-band control; `seal` would keep it (see `cancellation`).
    batch.finish().await?;

    let mut finished = Vec::new();
    let summary = loop {
        // An item that fails is an `Event::Result`; an error here is about the batch as a whole.
        match batch.next().await.context("a batch ends with its summary")?? {
            Event::Accepted(granted) => {
                println!(
                    "accepted: {} at once, {} in all",
                    granted.concurrency_max, granted.items_max
                );
            }
            Event::Progress(p) => {
                println!("item {}: {} of {}", p.id, p.done, p.total);
                let before = newest.insert(p.id, p.done).context("a report of a strange item")?;
                assert!(p.done >= before);
            }
            Event::Result(item) => {
                println!("item {}: HTTP {} after {:?}", item.id, item.status, item.duration);
                assert!(item.is_success());
                finished.push(item.id);
            }
            // Always last. What reads no summary has not seen the end.
            Event::Summary(summary) => break summary,
            // Throttled, a notice, or what a later version may tell.
            _ => {}
        }
    };
    assert!(batch.next().await.is_none());
    assert_eq!((summary.ended, summary.total, summary.succeeded), (Ended::Sealed, 3, 3));
    // Each has come to its total, and the results came as the items finished.
    assert_eq!(newest.into_values().collect::<Vec<_>>(), [3, 5, 2]);
    finished.sort_unstable();
    assert_eq!(finished, [0, 1, 2]);
    Ok(())
}
