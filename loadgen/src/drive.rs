//! A run: every tenant is connected once, kept busy as the plan says, and what came of it is
//! gathered.
//!
//! What a tenant does is an [`Operation`]; each kind has a file that does it once (`batch`,
//! `connect`, `produce`), and `Source::operation` is where they meet. The loops (`closed`, `open`) know none of
//! them: another kind is a variant, an arm and a file.
//!
//! An operation belongs to the time at which it was due. What was due while it was measured counts,
//! whenever it is answered.

mod batch;
mod closed;
mod connect;
mod consume;
mod open;
mod pacer;
mod produce;
mod read_back;
mod reread;
mod topic;

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

pub use read_back::TopicDone;
pub use reread::Reread;

use anyhow::{Context, anyhow};
use futures::{
    StreamExt,
    future::{join_all, try_join_all},
    stream,
};
use quinn::Endpoint;
use tokio::{sync::watch, task::JoinSet, time::sleep_until};
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

use consume::{Course, Readers};
use topic::TopicLinks;

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
    /// The connections that its batches take in turn; behind those of producers, those of readers.
    clients: Vec<Client>,
    /// The sockets that connections of the operation `connect` share.
    sockets: Vec<Endpoint>,
    /// The names of the recipes, to be shared with the client crate.
    recipes: Vec<Arc<str>>,
    answers: Answers,
    /// The next operation's number: none comes twice.
    numbers: AtomicU64,
    /// Of a tenant that produces.
    topic: Option<TopicLinks>,
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
    /// Messages of its topic.
    course: Course,
    /// Becomes true when nothing more is to begin.
    stop: watch::Receiver<bool>,
}

/// What one run came to, before it is made into a report.
pub struct Measured {
    pub started_at: SystemTime,
    pub plan: Arc<Plan>,
    /// When it was ended early, if it was...
    pub cut_at: Option<Instant>,
    /// ...how many operations were then given up...
    pub given_up: u64,
    /// ...and how long each slot was measured.
    pub measured: Vec<Duration>,
    /// Of each tenant, in the order of the scenario: what each slot came to, and what belongs to
    /// none.
    pub records: Vec<(Vec<Stats>, Stats)>,
    /// Of each tenant that has jobs: what reading them again came to.
    pub rereads: Vec<Option<Reread>>,
    /// Of each tenant that produces: what became of its topic.
    pub topics: Vec<Option<TopicDone>>,
    pub timeline: Arc<Timeline>,
    pub generator: Arc<Generator>,
}

impl Fleet {
    /// Connects everybody. An error means that nothing began.
    pub async fn connect(scenario: &Scenario) -> anyhow::Result<Fleet> {
        let stop = stop::on_signal();
        let addr = resolve(&scenario.addr).await?;
        let wanted = |t: &Tenant| match &t.operation {
            Operation::Connect { .. } => 0,
            Operation::Batch | Operation::Job { .. } => t.connections,
            Operation::Produce(topic) => t.connections + topic.consumers,
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
            links.with_context(|| format!("tenant {:?}", tenant.name))
        });
        let mut links = Vec::with_capacity(scenario.tenants.len());
        let mut opening = pin!(stream::iter(opened).buffered(CONNECTING_MAX));
        while let Some(opened) = opening.next().await {
            match opened {
                Ok(opened) => links.push(opened),
                Err(e) => {
                    // The broker counts them until it hears that they are closed.
                    close(links.iter().flat_map(|l: &Links| &l.clients)).await;
                    return Err(e);
                }
            }
        }
        // Topics only when everybody is connected: what was made must be deleted, too.
        let topics = links.iter_mut().zip(&scenario.tenants).map(async |(links, tenant)| {
            let opened = links.open_topic(tenant, scenario.drain).await;
            opened.with_context(|| format!("tenant {:?}", tenant.name))
        });
        let topics: Vec<_> = stream::iter(topics).buffered(CONNECTING_MAX).collect().await;
        let fleet = Fleet { links: links.into_iter().map(Arc::new).collect(), stop };
        match topics.into_iter().collect::<Result<(), _>>() {
            Ok(()) => Ok(fleet),
            Err(e) => {
                fleet.close().await;
                Err(e)
            }
        }
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
        // Members of a group share its partitions before the first message comes.
        let readers = self.links.iter().zip(&scenario.tenants).map(async |(links, tenant)| {
            links.readers().await.with_context(|| format!("tenant {:?}", tenant.name))
        });
        let readers = try_join_all(readers).await?;
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
                // Relaxed: nothing is under way.
                course: Course::new(self.links[place].numbers.load(Relaxed), &tenant.operation),
                stop: self.stop.clone(),
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
        let readings: Vec<_> = sources
            .iter()
            .zip(readers)
            .map(|(source, readers)| readers.map(|readers| source.read(readers, &plan)))
            .collect();
        pacer.start();
        let progress = progress.spawn(scenario, sources.clone(), plan.clone());
        let cut_at = self.finish(loops).await?;
        let given_up = cut_at.map_or(0, |_| timeline.under_way());
        watch.stop(cut_at.is_some()).await;
        drop(progress);
        let until = Instant::now() + plan.limit;
        let readings = sources.iter().zip(readings);
        let catch_up = readings.filter_map(|(source, r)| r.map(|r| source.catch_up(r, until)));
        try_join_all(catch_up).await?;
        let mut topics = Vec::with_capacity(sources.len());
        for source in &sources {
            source.reread(&plan).await;
            topics.push(source.read_back(&plan).await);
        }
        let records = sources.iter().map(|s| s.record.stats()).collect();
        let rereads = sources.iter().map(|s| s.reread_done()).collect();
        let measured = plan.slots.iter().map(|s| s.measured(cut_at)).collect();
        Ok(Measured {
            started_at,
            plan,
            cut_at,
            given_up,
            measured,
            records,
            rereads,
            topics,
            timeline,
            generator,
        })
    }

    /// Waits for all loops; when it was cut short, if it was. Then they begin nothing more, and what is
    /// under way has some time to end.
    async fn finish(&self, mut loops: JoinSet<()>) -> anyhow::Result<Option<Instant>> {
        let mut stop = self.stop.clone();
        let mut cut_at: Option<Instant> = None;
        loop {
            let patience = async {
                match cut_at {
                    Some(at) => sleep_until((at + STOPPING).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Biased: loops end at once when they are told to, and it must be known why.
                biased;
                Ok(_) = stop.wait_for(|stop| *stop), if cut_at.is_none() => {
                    cut_at = Some(Instant::now());
                }
                ended = loops.join_next() => match ended {
                    None => return Ok(cut_at),
                    Some(Err(e)) if e.is_panic() => return Err(e).context("a sender panicked"),
                    Some(_) => {}
                },
                () = patience => {
                    loops.abort_all();
                    while loops.join_next().await.is_some() {}
                    return Ok(cut_at);
                }
            }
        }
    }

    /// Says good-bye.
    pub async fn close(self) {
        join_all(self.links.iter().filter_map(|l| l.topic.as_ref()).map(TopicLinks::close)).await;
        close(self.links.iter().flat_map(|l| &l.clients)).await;
    }
}

async fn close(clients: impl Iterator<Item = &Client>) {
    join_all(clients.map(Client::close)).await;
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
        let readers = match &tenant.operation {
            Operation::Produce(topic) => topic.consumers,
            _ => 0,
        };
        for n in 0..tenant.connections + readers {
            if let Operation::Connect { .. } = tenant.operation {
                sockets.push(connect::socket(addr).context("cannot open a UDP socket")?);
            } else {
                let mut client =
                    Client::builder(addr).server_name(server_name).credentials(credentials.clone());
                if !shared.is_empty() {
                    client = client.endpoint(shared[(place + n) % shared.len()].clone());
                }
                match client.connect().await {
                    Ok(client) => clients.push(client),
                    Err(e) => {
                        close(clients.iter()).await;
                        return Err(e.into());
                    }
                }
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
            topic: None,
        })
    }

    async fn open_topic(&mut self, tenant: &Tenant, patience: Duration) -> anyhow::Result<()> {
        if let Operation::Produce(topic) = &tenant.operation {
            let (producers, readers) = self.clients.split_at(tenant.connections);
            self.topic = Some(TopicLinks::open(topic, producers, readers, patience).await?);
        }
        Ok(())
    }

    /// The members of a group of their own, of a tenant that produces and has readers.
    async fn readers(&self) -> anyhow::Result<Option<Readers>> {
        match &self.topic {
            Some(topic) if !topic.readers.is_empty() => Ok(Some(topic.readers().await?)),
            _ => Ok(None),
        }
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
            topics: vec![None; records.len()],
            cut_at: None,
            given_up: 0,
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
        let regular = match &self.tenant.operation {
            Operation::Batch | Operation::Job { .. } => self.batch(number, due, plan).await,
            Operation::Connect { hold } => self.connection(number, due, *hold, plan).await,
            Operation::Produce(_) => self.produce(number, due, plan).await,
        };
        self.timeline.ends();
        regular
    }

    /// Whether nothing more is to begin.
    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when nothing more is to begin.
    async fn stopped(&self) {
        if self.stop.clone().wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending().await
        }
    }

    /// The topic of a tenant that produces.
    fn topic(&self) -> &TopicLinks {
        self.links.topic.as_ref().expect("who produces has a topic since it is connected")
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
/// How long what is under way may take to end, once a run was cut short.
const STOPPING: Duration = Duration::from_secs(5);
/// After an operation that failed: a broker that refuses at once is not to be hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Sockets for the connections of all tenants.
const SOCKETS_MAX: usize = 64;
/// Tenants that are connected at once.
const CONNECTING_MAX: usize = 16;
