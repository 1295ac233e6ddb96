//! A worker to load: it serves one recipe that takes a set time and answers with its payload.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_client::{
    ClientCredentials, Worker,
    worker::{Served, Spec},
};

use crate::{cli, drive::resolve, scenario::BadScenario};

/// Serves until a signal comes. An error means that it cannot serve.
pub async fn serve(args: &cli::Worker) -> anyhow::Result<Served> {
    let bad = |key: &str, problem: String| BadScenario::Value(format!("`--{key}`: {problem}"));
    let addr = resolve(&args.addr).await?;
    let host = args.addr.rsplit_once(':').map_or(&*args.addr, |(host, _)| host);
    let server_name = args.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
    let credentials =
        ClientCredentials::load_dir(&args.certs).map_err(|e| bad("certs", e.to_string()))?;
    let time = std::time::Duration::try_from(args.time)
        .map_err(|_| bad("time", "is negative".to_owned()))?;
    let worker = Worker::builder(addr)
        .server_name(server_name)
        .credentials(credentials)
        .concurrency(args.hands.get())
        .recipe(&args.recipe, Spec::new().idempotent(), move |_call, payload| async move {
            tokio::time::sleep(time).await;
            Ok(payload)
        })
        .build()
        .map_err(|e| bad("recipe", e.to_string()))?;
    let mut terminated = signal(SignalKind::terminate()).context("no signals")?;
    let stop = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    Ok(worker.run_until(stop).await?)
}
