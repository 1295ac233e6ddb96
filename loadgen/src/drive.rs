//! A run: every tenant is connected once, kept busy as the plan says, and what came of it is
//! gathered.
//!
//! What a tenant does is an [`Operation`]; each kind has a file that does it once (`batch`,
//! `connect`), and `Source::operation` is where they meet. The loops (`closed`, `open`) know none of
//! them: another kind is a variant, an arm and a file.
//!
//! An operation belongs to the time at which it was due. What was due while it was measured counts,
//! whenever it is answered.

mod batch;
mod closed;
mod connect;
mod open;
mod pacer;
mod reread;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

pub use reread::Reread;

use anyhow::{Context, anyhow};
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use quinn::Endpoint;
use tokio::{sync::watch, task::JoinSet};
use tollgate_client::{Client, ClientCredentials};

use crate::{
    check::Answers,
    generator::{Generator, Watch},
    plan::Plan,
    progress::Progress,
    record::{Recorder, Stats, Timeline},
    scenario::{BadScenario, Operation, Pace, Scenario, Tenant},
    stop,
};

/// Whoever is to make load, connected.
pub struct Fleet {
    links: Vec<Arc<Links>>,
    /// Becomes true when a run is to end early.
    stop: watch::Receiver<bool>,
}

/// What a tenant works with, over as many runs as there are.
pub struct Links {
    addr: SocketAddr,
    server_name: String,
    credentials: ClientCredentials,
    /// The connections that its batches take in turn.
    clients: Vec<Client>,
    /// The sockets that connections of the operation `connect` share.
    sockets: Vec<Endpoint>,
    /// The names of the recipes, to be shared with the client crate.
    recipes: Vec<Arc<str>>,
    answers: Answers,
    /// The next operation's number: none comes twice.
    numbers: AtomicU64,
}

/// A tenant at work in one run.
pub struct Source {
    /// Its place in the scenario.
    pub place: usize,
    pub tenant: Tenant,
    pub record: Recorder,
    links: Arc<Links>,
    timeline: Arc<Timeline>,
    generator: Arc<Generator>,
    /// Durable batches, to be read again or forgotten at the end.
    durable: Mutex<reread::Durable>,
}

/// What one run came to, before it is made into a report.
pub struct Measured {
    pub started_at: SystemTime,
    pub plan: Arc<Plan>,
    /// When it was ended early, if it was...
    pub cut_at: Option<Instant>,
    /// ...and how long each slot was measured.
    pub measured: Vec<Duration>,
    /// Of each tenant, in the order of the scenario: what each slot came to, and what belongs to
    /// none.
    pub records: Vec<(Vec<Stats>, Stats)>,
    /// Of each tenant that has jobs: what reading them again came to.
    pub rereads: Vec<Option<Reread>>,
    pub timeline: Arc<Timeline>,
    pub generator: Arc<Generator>,
}

impl Fleet {
    /// Connects everybody. An error means that nothing began.
    pub async fn connect(scenario: &Scenario) -> anyhow::Result<Fleet> {
        let stop = stop::on_signal();
        let addr = resolve(&scenario.addr).await?;
        let wanted = |t: &Tenant| match t.operation {
            Operation::Connect { .. } => 0,
            Operation::Batch | Operation::Job { .. } => t.connections,
        };
        // A socket takes two megabytes: where there would be many, they are shared.
        let shared = if scenario.tenants.iter().map(wanted).sum::<usize>() > SOCKETS_MAX {
            let sockets = (0..SOCKETS_MAX).map(|_| connect::socket(addr));
            sockets.collect::<Result<Vec<_>, _>>().context("cannot open a UDP socket")?
        } else {
            Vec::new()
        };
        let opened = scenario.tenants.iter().enumerate().map(async |(place, tenant)| {
            let links = Links::open(addr, &scenario.server_name, tenant, place, &shared).await;
            links.map(Arc::new).with_context(|| format!("tenant {:?}", tenant.name))
        });
        let links = stream::iter(opened).buffered(CONNECTING_MAX).try_collect().await?;
        Ok(Fleet { links, stop })
    }

    /// Goes through the scenario once. `change` may change the plan before it begins.
    pub async fn run(
        &self,
        scenario: &Scenario,
        progress: Progress,
        broker_pid: Option<u32>,
        change: impl FnOnce(&mut Plan),
    ) -> anyhow::Result<Measured> {
        debug_assert_eq!(self.links.len(), scenario.tenants.len());
        let started_at = SystemTime::now();
        let mut plan = Plan::new(scenario, Instant::now());
        change(&mut plan);
        let plan = Arc::new(plan);
        let timeline = Arc::new(Timeline::new(&plan, scenario.tenants.len()));
        let generator = Arc::new(Generator::new(plan.slots.len(), broker_pid));
        let source = |(place, tenant): (usize, &Tenant)| {
            Arc::new(Source {
                place,
                tenant: tenant.clone(),
                record: Recorder::new(plan.slots.len()),
                links: self.links[place].clone(),
                timeline: timeline.clone(),
                generator: generator.clone(),
                durable: Mutex::default(),
            })
        };
        let sources: Vec<_> = scenario.tenants.iter().enumerate().map(source).collect();
        let watch = Watch::start(generator.clone(), plan.clone());
        let mut loops = JoinSet::new();
        let mut pacer = pacer::Pacer::default();
        for source in &sources {
            match source.tenant.pace {
                Pace::InFlight(_) => closed::spawn(&mut loops, source, &plan),
                Pace::PerSecond { in_flight_max, .. } => {
                    open::spawn(&mut loops, &mut pacer, source, &plan, in_flight_max);
                }
            }
        }
        pacer.start();
        let progress = progress.spawn(scenario, sources.clone(), plan.clone());
        let cut_at = self.finish(loops).await?;
        watch.stop(cut_at.is_some()).await;
        drop(progress);
        for source in &sources {
            source.reread(&plan).await;
        }
        let records = sources.iter().map(|s| s.record.stats()).collect();
        let rereads = sources.iter().map(|s| s.reread_done()).collect();
        let measured = plan.slots.iter().map(|s| s.measured(cut_at)).collect();
        Ok(Measured { started_at, plan, cut_at, measured, records, rereads, timeline, generator })
    }

    /// Waits for all loops; when it was cut short, if it was.
    async fn finish(&self, mut loops: JoinSet<()>) -> anyhow::Result<Option<Instant>> {
        let mut stop = self.stop.clone();
        let mut cut_at = None;
        loop {
            tokio::select! {
                ended = loops.join_next() => match ended {
                    None => return Ok(cut_at),
                    Some(Err(e)) if e.is_panic() => return Err(e).context("a sender panicked"),
                    Some(_) => {}
                },
                Ok(_) = stop.wait_for(|stop| *stop), if cut_at.is_none() => {
                    cut_at = Some(Instant::now());
                    loops.abort_all();
                }
            }
        }
    }

    /// Says good-bye.
    pub async fn close(self) {
        join_all(self.links.iter().flat_map(|l| &l.clients).map(Client::close)).await;
    }
}

impl Links {
    async fn open(
        addr: SocketAddr,
        server_name: &str,
        tenant: &Tenant,
        place: usize,
        shared: &[Endpoint],
    ) -> anyhow::Result<Links> {
        let credentials = ClientCredentials::load_dir(&tenant.certs)
            .map_err(|e| BadScenario::Value(format!("`certs`: {e}")))?;
        let (mut clients, mut sockets) = (Vec::new(), Vec::new());
        for n in 0..tenant.connections {
            if let Operation::Connect { .. } = tenant.operation {
                sockets.push(connect::socket(addr).context("cannot open a UDP socket")?);
            } else {
                let mut client =
                    Client::builder(addr).server_name(server_name).credentials(credentials.clone());
                if !shared.is_empty() {
                    client = client.endpoint(shared[(place + n) % shared.len()].clone());
                }
                clients.push(client.connect().await?);
            }
        }
        Ok(Links {
            addr,
            server_name: server_name.to_owned(),
            credentials,
            clients,
            sockets,
            recipes: tenant.recipes.iter().map(|r| r.name.as_str().into()).collect(),
            answers: Answers::new(tenant, place as u64),
            numbers: AtomicU64::new(0),
        })
    }
}

#[cfg(test)]
impl Measured {
    /// A run that was never made, with these records.
    pub fn of(scenario: &Scenario, records: &[Recorder]) -> Self {
        let plan = Plan::new(scenario, Instant::now());
        Measured {
            started_at: SystemTime::now(),
            timeline: Arc::new(Timeline::new(&plan, scenario.tenants.len())),
            generator: Arc::new(Generator::new(plan.slots.len(), None)),
            rereads: vec![None; records.len()],
            cut_at: None,
            measured: plan.slots.iter().map(|s| s.measured(None)).collect(),
            records: records.iter().map(Recorder::stats).collect(),
            plan: Arc::new(plan),
        }
    }
}

impl Source {
    /// Does what the tenant does, once. True if it came to a regular end.
    async fn operation(&self, number: u64, due: Instant, plan: &Plan) -> bool {
        self.timeline.begins();
        let regular = match self.tenant.operation {
            Operation::Batch | Operation::Job { .. } => self.batch(number, due, plan).await,
            Operation::Connect { hold } => self.connection(number, due, hold, plan).await,
        };
        self.timeline.ends();
        regular
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, reread::Durable> {
        // A list of what is there: of use whatever happened to who wrote to it.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a `host:port` leads.
pub async fn resolve(addr: &str) -> anyhow::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(addr)
        .await
        .map_err(|e| anyhow!(BadScenario::Value(format!("`addr`: {addr:?} leads nowhere: {e}"))))?;
    found.next().ok_or_else(|| anyhow!(BadScenario::Value(format!("`addr`: no {addr:?}"))))
}

/// What an operation that did not end within its limit is called.
const NO_ANSWER: &str = "NO_ANSWER_IN_TIME";
/// After an operation that failed: a broker that refuses at once is not to be hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Sockets for the connections of all tenants.
const SOCKETS_MAX: usize = 64;
/// Tenants that are connected at once.
const CONNECTING_MAX: usize = 16;
