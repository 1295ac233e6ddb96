//! The drain: a broker that is told to stop finishes what it has begun.

use std::time::{Duration, Instant};

use anyhow::Context;
use tollgate_client::{BatchError, Event, NoticeKind, Request, RetryPolicy};

use super::{Show, Stage, stage};
use crate::cli::format;

const ITEMS: u64 = 8;
const LIMIT: Duration = Duration::from_secs(10);
/// A broker that is gone need not be waited for.
const NOBODY_THERE: Duration = Duration::from_millis(500);

pub(super) async fn play(stage: Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene("Drain", "SIGTERM while a batch of acme runs: what was begun is finished")?;
    let issued = stage::issue(stage.authority()?, "acme", "late")?;
    let Stage { broker, addr, acme, globex, dir } = stage;
    globex.close().await;
    let mut batch = acme.batch().open().await?;
    for n in 0..ITEMS {
        let input = serde_json::json!({ "ms": 600 + 50 * n, "steps": 20 });
        batch.send(Request::new("delay", "").json(&input)).await?;
    }
    batch.finish().await?;
    // It runs.
    while !matches!(batch.next().await.context("the batch ended")??, Event::Progress(_)) {}

    let began = Instant::now();
    let shutdown = tokio::spawn(broker.shutdown(LIMIT));
    let (mut notice, mut summary, mut meanwhile) = (None, None, None);
    while let Some(event) = batch.next().await {
        match event? {
            Event::Notice(n) if n.kind == NoticeKind::Draining => {
                show.line(format_args!("notice: {}", n.message))?;
                let new = acme.batch().retry(RetryPolicy::none());
                meanwhile = Some(new.execute([Request::new("echo", "one more")]).await);
                notice = Some(n);
            }
            Event::Summary(s) => summary = Some(s),
            _ => {}
        }
    }
    let succeeded = summary.map_or(0, |s| s.succeeded);
    show.promise(
        notice.is_some() && succeeded == ITEMS,
        format_args!("the batch was told, and finished: {succeeded} of {ITEMS} items succeeded"),
    )?;
    let refused = match meanwhile {
        Some(Err(BatchError::Failed(f))) => Some(f.to_string()),
        Some(Err(e)) => Some(e.to_string()),
        Some(Ok(result)) => {
            result.failures().next().and_then(|r| r.failure()).map(|f| f.to_string())
        }
        None => None,
    };
    show.promise(
        refused.is_some(),
        format_args!("another batch meanwhile: {}", refused.unwrap_or_else(|| "ran".into())),
    )?;
    shutdown.await?;
    let took = began.elapsed();
    let late = stage::client(addr, &issued)?.connect_timeout(NOBODY_THERE).connect().await;
    show.promise(
        late.is_err() && took < LIMIT,
        format_args!("the broker was gone after {}", format::duration(took)),
    )?;
    acme.close().await;
    dir.close()?;
    Ok(())
}
