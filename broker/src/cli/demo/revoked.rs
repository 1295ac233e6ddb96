//! Revocation: a certificate that is revoked ends its connections, and no others.

use std::time::{Duration, Instant};

use anyhow::Context;
use tollgate_certs::{Authority, Serial};
use tollgate_client::{BatchError, CloseCode, Event, Request};

use super::{Show, Stage, stage};
use crate::cli::format;

/// What is promised for live connections.
const WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene("Revocation", "a laptop of acme is stolen while it runs a batch")?;
    let issued = stage::issue(stage.authority()?, "acme", "laptop")?;
    let laptop = stage::connect(stage.addr, &issued).await?;
    let mut batch = laptop.batch().open().await?;
    let slow = Request::new("delay", "").json(&serde_json::json!({ "ms": 20_000, "steps": 400 }));
    batch.send(slow).await?;
    batch.finish().await?;
    // It runs.
    while !matches!(batch.next().await.context("the batch ended")??, Event::Progress(_)) {}

    let dir = stage.authority()?.dir();
    let began = Instant::now();
    Authority::load(dir)?.revoke(dir, &[Serial::parse(&issued.serial)?])?;
    show.line(format_args!("tollgate cert revoke --serial {}", issued.serial))?;
    let end = loop {
        match batch.next().await {
            Some(Ok(_)) => {}
            Some(Err(e)) => break Some(e),
            None => break None,
        }
    };
    let took = began.elapsed();
    let code = end.as_ref().and_then(BatchError::close_code);
    show.promise(
        // A second and a half: this machine does other things, too.
        code == Some(CloseCode::CertificateRevoked) && took < WITHIN * 3 / 2,
        format_args!(
            "its connection was closed after {}: {}",
            format::duration(took),
            end.map_or_else(|| "nothing was said".into(), |e| e.to_string())
        ),
    )?;
    let again = stage::client(stage.addr, &issued)?.connect().await;
    show.promise(
        again.is_err(),
        match &again {
            Ok(_) => "it cannot come back, but it did".to_owned(),
            Err(e) => format!("it cannot come back: {e}"),
        },
    )?;
    let other = stage.acme.call_bytes("echo", "still here").await;
    show.promise(
        other.is_ok_and(|answer| answer == "still here"),
        "acme's other client was not disturbed",
    )?;
    Ok(())
}
