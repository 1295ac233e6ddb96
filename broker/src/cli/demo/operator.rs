//! The operator: a tenant is created, suspended while it works, and let in again, over HTTP.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::{Value, json};
use tollgate_client::{BatchError, CloseCode, ConnectError, Event, Request};

use super::{Show, Stage, stage};
use crate::cli::{api::Api, format};

/// What is promised for live connections.
const WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene("The operator", "a tenant comes, does not pay, and pays: over the HTTP API")?;
    let api = Api::at(stage.broker.http_addr().context("the broker has its HTTP API")?)?;
    let create = json!({ "id": "initech", "profile": "free", "metadata": { "plan": "trial" } });
    let request = api.request(Method::POST, &["tenants"]).json(&create);
    api.send(request).await.context("cannot create the tenant")?;
    show.line(format_args!("POST /api/v1/tenants {create}"))?;

    let issued = stage::issue(stage.authority()?, "initech", "demo")?;
    let initech = stage::connect(stage.addr, &issued).await?;
    let mut batch = initech.batch().open().await?;
    let slow = Request::new("delay", "").json(&json!({ "ms": 20_000, "steps": 400 }));
    batch.send(slow).await?;
    batch.finish().await?;
    // It runs.
    while !matches!(batch.next().await.context("the batch ended")??, Event::Progress(_)) {}

    let began = Instant::now();
    say_state(&api, "suspend", show).await?;
    let end = loop {
        match batch.next().await {
            Some(Ok(_)) => {}
            Some(Err(e)) => break Some(e),
            None => break None,
        }
    };
    let took = began.elapsed();
    let suspended = Some(CloseCode::TenantSuspended);
    show.promise(
        // A second and a half: this machine does other things, too.
        end.as_ref().and_then(BatchError::close_code) == suspended && took < WITHIN * 3 / 2,
        format_args!(
            "suspended while it worked, it was out after {}: {}",
            format::duration(took),
            end.map_or_else(|| "nothing was said".into(), |e| e.to_string())
        ),
    )?;
    let again = stage::client(stage.addr, &issued)?.connect().await;
    let refused =
        matches!(&again, Err(ConnectError::Refused { code, .. }) if Some(*code) == suspended);
    show.promise(refused, "it cannot come back meanwhile; the others do not notice")?;

    say_state(&api, "activate", show).await?;
    let back = stage::connect(stage.addr, &issued).await?;
    let answer = back.call_bytes("echo", "paid").await?;
    show.promise(answer == "paid", "activated, it is served again, with the same certificate")?;
    back.close().await;
    initech.close().await;
    Ok(())
}

async fn say_state(api: &Api, verb: &str, show: &Show) -> anyhow::Result<Value> {
    let path = ["tenants", "initech", verb];
    let tenant = api.send(api.request(Method::POST, &path)).await?;
    show.line(format_args!("POST /api/v1/tenants/initech/{verb}: {}", tenant["state"]))?;
    Ok(tenant)
}
