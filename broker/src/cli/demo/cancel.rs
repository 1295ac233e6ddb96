//! Cancellation: what runs and what waits ends at once, and every item is accounted for.

use std::time::{Duration, Instant};

use anyhow::Context;
use tollgate_client::{CancelScope, Code, Event, Request};

use super::{Show, Stage};
use crate::cli::format;

const ITEMS: u64 = 200;
const AT_ONCE: u32 = 20;
const SOON: Duration = Duration::from_secs(1);

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene("Cancellation", "200 items of 30 s each, 20 at once; then acme changes its mind")?;
    let mut batch = stage.acme.batch().concurrency_max(AT_ONCE).open().await?;
    let slow = serde_json::json!({ "ms": 30_000, "steps": 600 });
    for _ in 0..ITEMS {
        batch.send(Request::new("delay", "").json(&slow)).await?;
    }
    batch.seal().await?;
    // They run.
    while !matches!(batch.next().await.context("the batch ended")??, Event::Progress(_)) {}

    let began = Instant::now();
    batch.cancel(CancelScope::All).await?;
    let (mut cancelled, mut summary) = (0, None);
    while let Some(event) = batch.next().await {
        match event? {
            Event::Result(r) if r.code() == Some(Code::Cancelled) => cancelled += 1,
            Event::Summary(s) => summary = Some(s),
            _ => {}
        }
    }
    let took = began.elapsed();
    let read = summary.map_or(0, |s| s.total);
    show.promise(
        read == cancelled && cancelled == ITEMS && took < SOON,
        format_args!(
            "all ended with CANCELLED after {}: {cancelled} of {read}",
            format::duration(took)
        ),
    )?;
    show.promise(
        settled(stage).await,
        "nothing is left behind: no item runs or waits, and all that was counted was given back",
    )?;
    Ok(())
}

/// Waits, not long, until the broker does nothing.
async fn settled(stage: &Stage) -> bool {
    let end = Instant::now() + SOON;
    loop {
        let c = stage.broker.counters();
        let acme = stage.broker.tenants().get("acme");
        let running = acme.map_or(1, |t| t.bytes_in_flight());
        if c.streams == 0 && c.items_running == 0 && c.items_waiting == 0 && running == 0 {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
