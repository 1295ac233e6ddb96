//! A run: connects every tenant, keeps them sending, and gathers what came of it.
//!
//! A batch belongs to the time at which it was due. What was due while it was measured counts,
//! whenever it is answered.

mod batch;
mod closed;
mod open;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, anyhow};
use tokio::{task::JoinSet, time::sleep_until};
use tollgate_client::{Client, ClientCredentials};

use crate::{
    check::Answers,
    cpu,
    progress::Progress,
    record::Recorder,
    report::{Generator, Report},
    scenario::{BadScenario, Pace, Scenario, Tenant},
};

/// Runs a scenario. An error means that it did not begin.
pub async fn run(scenario: &Scenario, quiet: bool) -> anyhow::Result<Report> {
    let sources = connect(scenario).await?;
    let started_at = SystemTime::now();
    let clock = Clock::start(scenario);
    let mut loops = JoinSet::new();
    for source in &sources {
        match source.tenant.pace {
            Pace::InFlight(n) => closed::spawn(&mut loops, source, &clock, n),
            Pace::BatchesPerSecond { rate, in_flight_max } => {
                open::spawn(&mut loops, source, &clock, rate, in_flight_max);
            }
        }
    }
    let progress = tokio::spawn(Progress::new(quiet).show(sources.clone(), clock));
    sleep_until(clock.measure_from.into()).await;
    let cpu_before = cpu::used();
    sleep_until(clock.end.into()).await;
    let cpu_after = cpu::used();
    while let Some(ended) = loops.join_next().await {
        ended.context("a sender panicked")?;
    }
    progress.abort();
    for client in sources.iter().flat_map(|s| &s.clients) {
        client.close().await;
    }
    let cpu = cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let tenants: Vec<_> = sources.iter().map(|s| (&s.tenant, s.record.stats())).collect();
    Ok(Report::new(scenario, &tenants, Generator { started_at, cpu }))
}

/// The times of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub start: Instant,
    pub measure_from: Instant,
    pub end: Instant,
    /// How long one batch may take, and what is under way at the end.
    pub limit: Duration,
}

impl Clock {
    fn start(scenario: &Scenario) -> Self {
        let start = Instant::now();
        let measure_from = start + scenario.warm_up;
        let end = measure_from + scenario.duration;
        Clock { start, measure_from, end, limit: scenario.drain }
    }

    /// Whether what was due then counts.
    fn measures(&self, due: Instant) -> bool {
        (self.measure_from..self.end).contains(&due)
    }
}

/// A tenant that sends.
#[derive(Debug)]
pub struct Source {
    pub tenant: Tenant,
    clients: Vec<Client>,
    /// The names of the recipes, to be shared with the client crate.
    recipes: Vec<Arc<str>>,
    answers: Answers,
    pub record: Recorder,
}

async fn connect(scenario: &Scenario) -> anyhow::Result<Vec<Arc<Source>>> {
    let addr = resolve(&scenario.addr).await?;
    let mut sources = Vec::new();
    for (seed, tenant) in scenario.tenants.iter().enumerate() {
        let credentials = ClientCredentials::load_dir(&tenant.certs).map_err(|e| {
            let problem = format!("tenant {:?}: `certs`: {e}", tenant.name);
            BadScenario::Value(problem)
        })?;
        let mut clients = Vec::new();
        for _ in 0..tenant.connections {
            let client = Client::connect(addr, &scenario.server_name, credentials.clone());
            let client = client.await.with_context(|| format!("tenant {:?}", tenant.name))?;
            clients.push(client);
        }
        sources.push(Arc::new(Source {
            clients,
            recipes: tenant.recipes.iter().map(|r| r.name.as_str().into()).collect(),
            answers: Answers::new(tenant, seed as u64),
            record: Recorder::default(),
            tenant: tenant.clone(),
        }));
    }
    Ok(sources)
}

async fn resolve(addr: &str) -> anyhow::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(addr)
        .await
        .map_err(|e| anyhow!(BadScenario::Value(format!("`addr`: {addr:?} leads nowhere: {e}"))))?;
    found.next().ok_or_else(|| anyhow!(BadScenario::Value(format!("`addr`: no {addr:?}"))))
}
