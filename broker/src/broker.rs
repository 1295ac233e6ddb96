//! A broker: built from a configuration and a catalog, run, reloaded, drained.
//!
//! The only file that knows every part; it reads as a checklist of the start and of the end.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate_certs::{Paths, Rotator, Snapshot, TrustDomain, rotate};

use crate::{
    batch::{Catalog, Engine, OpenIds},
    config::Config,
    events::{Events, Kind},
    http::{self, HttpError},
    jobs::{self, Jobs},
    metrics::{Format, Metrics},
    revocations::{self, Revocations},
    store::{self, Store},
    tenancy::{
        Registry, RestoreError, alerts,
        audit::{self, Found},
    },
    topics::{self, Topics},
    transport::{Endpoint, EndpointError, Live, WindowPool},
    upstream::{UpstreamError, Upstreams},
    workers::{self, WorkerInfo, Workers},
};

mod dev_ca;
mod memory;
mod scrape;

pub use crate::transport::ConnectionInfo;
pub use dev_ca::{DevAuthority, DevAuthorityError};
pub(crate) use memory::{Memory, Pressure};

/// What every part of a running broker may use.
pub(crate) struct Services {
    pub config: Arc<Config>,
    pub engine: Engine,
    pub upstreams: Upstreams,
    pub metrics: Metrics,
    pub store: Store,
    pub tenants: Registry,
    pub revocations: Revocations,
    pub workers: Workers,
    pub jobs: Jobs,
    pub topics: Topics,
    pub live: Live,
    pub windows: Arc<WindowPool>,
    pub open_ids: OpenIds,
    /// Batches that run over HTTP.
    pub batches: TaskTracker,
    pub memory: Memory,
    pub events: Events,
    pub trust: watch::Receiver<Snapshot>,
    pub drain: watch::Sender<Drain>,
    pub stop: CancellationToken,
}

impl Services {
    /// Whether nothing can be kept any more.
    pub(crate) fn store_has_failed(&self) -> bool {
        self.store.failed().now_or_never().is_some()
    }
}

/// How far the broker is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// It is not.
    No,
    /// Nothing new begins; what runs may finish until then.
    Until(SystemTime),
    /// What still runs is ended now.
    Over,
}

impl Drain {
    pub(crate) fn until(self) -> Option<SystemTime> {
        match self {
            Drain::No => None,
            Drain::Until(at) => Some(at),
            Drain::Over => Some(SystemTime::now()),
        }
    }
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory can not be made or used.
    #[error("cannot use the data directory {path}: {source}")]
    DataDir {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Some of the certificate settings are there and some are not.
    #[error(
        "tls.certificate, tls.key and tls.roots are set together or not at all (then a development \
         authority is made in data_dir, which must be set)"
    )]
    TlsIncomplete,
    /// The trust domain is not one.
    #[error("tls.trust_domain: {0}")]
    TrustDomain(#[from] tollgate_certs::identity::TrustDomainError),
    /// The development authority can not be made or loaded.
    #[error(transparent)]
    DevAuthority(#[from] DevAuthorityError),
    /// The certificates can not be loaded.
    #[error(transparent)]
    Certificates(#[from] rotate::RotateError),
    /// The store can not be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] store::OpenError),
    /// The store can not be written.
    #[error("cannot write to the store: {0}")]
    Claim(#[from] store::ClaimError),
    /// The tenants can not be read.
    #[error(transparent)]
    Tenants(#[from] RestoreError),
    /// The revocations can not be read.
    #[error(transparent)]
    Revocations(#[from] revocations::RestoreError),
    /// The recipes of workers can not be read.
    #[error(transparent)]
    Workers(#[from] workers::RestoreError),
    /// The listener can not be started.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The HTTP listener can not be started.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An HTTP upstream can not be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A setting of the workers is out of its range.
    #[error(transparent)]
    WorkerSettings(#[from] workers::BadSetting),
    /// A setting of the jobs is out of its range.
    #[error(transparent)]
    JobSettings(#[from] jobs::BadSetting),
    /// A setting of the topics is out of its range.
    #[error(transparent)]
    TopicSettings(#[from] topics::BadSetting),
    /// The threads for blocking recipes can not be started.
    #[error("cannot start the threads for blocking recipes: {0}")]
    Pool(io::Error),
}

/// A broker that runs. Dropping it ends it at once; [`shutdown`](Self::shutdown) ends it well.
pub struct Broker {
    services: Arc<Services>,
    local_addr: SocketAddr,
    certificates: rotate::Handle,
    endpoint: JoinHandle<()>,
    watchers: Vec<JoinHandle<()>>,
    http: Option<http::Server>,
    authority: Option<DevAuthority>,
}

/// Who is trusted, and what keeps that up to date.
struct Trust {
    rotator: Rotator,
    certificates: rotate::Handle,
    domain: TrustDomain,
    authority: Option<DevAuthority>,
}

/// The listeners: bound, not serving yet.
struct Doors {
    endpoint: Endpoint,
    http: Option<http::Listener>,
}

/// What a broker is doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Connections open.
    pub connections: usize,
    /// Streams open on them.
    pub streams: u32,
    /// Items that run and have not answered yet.
    pub items_running: u32,
    /// Items that wait to be started.
    pub items_waiting: usize,
    /// Threads that run a blocking recipe, those whose item has ended already among them.
    pub blocking_running: usize,
    /// Items that wait for a worker.
    pub worker_queue: usize,
    /// Calls that workers have and have not answered.
    pub worker_leases: usize,
}

impl Broker {
    /// Starts a broker on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] says which part could not be started, and why.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(config: Config, catalog: Catalog) -> Result<Broker, StartError> {
        let domain = TrustDomain::parse(&config.tls.trust_domain)?;
        config.workers.check()?;
        config.jobs.check()?;
        config.topics.check()?;
        if let Some(path) = &config.data_dir {
            std::fs::create_dir_all(path)
                .map_err(|source| StartError::DataDir { path: path.clone(), source })?;
        }
        let authority = dev_ca::when_needed(&config, &domain)?;
        let paths = paths(&config, authority.as_ref(), domain)?;
        let (rotator, certificates) = Rotator::new(paths.clone())?;
        let (snapshot, data_dir) = (certificates.current(), config.data_dir.as_deref());
        let endpoint = Endpoint::bind(config.listen, &config.limits, &snapshot, data_dir)?;
        let http = config.http.enabled.then(|| {
            let (paths, trust) = (paths.clone(), certificates.subscribe());
            http::Listener::bind(&config.http, paths, trust)
        });
        let doors = Doors { endpoint, http: http.transpose()? };
        let trust = Trust { rotator, certificates, domain: paths.domain, authority };
        // Last: only now does something begin that has to be brought to its end.
        let store = open_store(&config).await?;
        let released = store.released();
        let started = Broker::start_on(store, config, catalog, trust, doors).await;
        if started.is_err() {
            // Whoever tries again finds the directory free.
            released.await;
        }
        started
    }

    /// What can only be judged with what the store holds.
    async fn start_on(
        store: Store,
        config: Config,
        catalog: Catalog,
        trust: Trust,
        doors: Doors,
    ) -> Result<Broker, StartError> {
        let Trust { mut rotator, certificates, domain, authority } = trust;
        let Doors { mut endpoint, http } = doors;
        let events = Events::new(&config.events);
        let fence = store.system().claim().await?;
        let opened = Registry::open(&config.tenancy, store.clone(), fence.clone(), events.clone());
        let tenants = opened.await?;
        let trust = certificates.clone();
        let revocations =
            Revocations::open(&store, fence.clone(), domain, trust, events.clone()).await?;
        rotator.deny(revocations.entries().collect())?;
        tenants.book().bound(scrape::bounds(&config.metrics));
        let upstreams = Upstreams::load(&config.upstreams, &events)?;
        let catalog = upstreams.extend(&catalog)?;
        let names = catalog.iter().map(|entry| entry.name().as_str());
        let metrics = Metrics::new(&config.metrics, names);
        let book = tenants.book().clone();
        let engine = Engine::start(&config.batch, catalog.clone(), metrics.clone(), book)
            .map_err(StartError::Pool)?;
        let workers =
            Workers::open(&config.workers, (&store, fence), &tenants, &engine, events.clone());
        let workers = workers.await?;
        let jobs = Jobs::new(&config.jobs, &store, &tenants, &engine, events.clone());
        let topics = Topics::new(&config.topics, &store, &tenants, &engine);
        endpoint.trust(&config.limits, &certificates.current())?;
        let local_addr = endpoint
            .local_addr()
            .map_err(|source| EndpointError::Bind { addr: config.listen, source })?;
        let windows = WindowPool::new(
            config.limits.window_pool_tenant_bytes,
            config.limits.window_pool_bytes,
        );
        let services = Arc::new(Services {
            engine,
            upstreams,
            metrics,
            store,
            tenants,
            revocations,
            workers,
            jobs,
            topics,
            live: Live::new(events.clone()),
            windows,
            open_ids: OpenIds::default(),
            batches: TaskTracker::new(),
            memory: Memory::default(),
            events,
            trust: certificates.subscribe(),
            drain: watch::Sender::new(Drain::No),
            stop: CancellationToken::new(),
            config: Arc::new(config),
        });
        let http = http.map(|listener| listener.serve(&services)).transpose()?;
        // Nothing fails from here on.
        let memory = services.memory.clone().watch(services.config.limits.memory_bytes);
        let alerts = alerts::watch(services.tenants.clone(), services.events.clone());
        let watchers = vec![
            tokio::spawn(rotator.run()),
            tokio::spawn(memory),
            tokio::spawn(services.live.clone().watch_seen()),
            tokio::spawn(alerts),
            tokio::spawn(forget_recipes(services.workers.clone())),
            tokio::spawn(audit(services.clone())),
            tokio::spawn(resume(services.clone())),
        ];
        let endpoint = tokio::spawn(endpoint.run(services.clone()));
        Ok(Broker { services, local_addr, certificates, endpoint, watchers, http, authority })
    }

    /// The address it listens on; the port is a real one even when 0 was configured.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address that HTTP listens on, when it does.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Server::addr)
    }

    /// The tenants, to look at and to change.
    pub fn tenants(&self) -> &Registry {
        &self.services.tenants
    }

    /// What was revoked through the API, to look at and to change.
    pub fn revocations(&self) -> &Revocations {
        &self.services.revocations
    }

    /// The recipes.
    pub fn catalog(&self) -> &Catalog {
        &self.services.engine.catalog
    }

    /// The bus of what happens.
    pub fn events(&self) -> &Events {
        &self.services.events
    }

    /// The development authority, when the certificates are its.
    pub fn dev_authority(&self) -> Option<&DevAuthority> {
        self.authority.as_ref()
    }

    /// The connections that are open, the oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.services.live.list()
    }

    /// The workers that are connected, the oldest first.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        self.services.workers.list()
    }

    /// What it is doing now.
    pub fn counters(&self) -> Counters {
        let slots = &self.services.engine.slots;
        let workers = self.services.workers.counts();
        Counters {
            connections: self.services.live.len(),
            streams: self.services.live.streams(),
            items_running: slots.running(),
            items_waiting: slots.waiting(),
            blocking_running: self.services.engine.pool.stats().running,
            worker_queue: workers.waiting,
            worker_leases: workers.leased,
        }
    }

    /// Every metric as text, as a Prometheus server reads it.
    pub fn metrics(&self, format: Format) -> String {
        self.services.metrics_page(format)
    }

    /// Reads certificates, trust roots and revocations again, now, and the secrets and certificates
    /// of upstreams. What changed is in force on live connections when this returns, or shortly
    /// after.
    ///
    /// # Errors
    /// What could not be read; that, and what comes after it, stays as it was.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.certificates.reload().await?;
        if let Some(http) = &self.http {
            http.reload(&self.services.config.http).await?;
        }
        let upstreams = self.services.upstreams.clone();
        // It reads files.
        let read = tokio::task::spawn_blocking(move || upstreams.reload()).await;
        Ok(read.expect("reading files does not panic")?)
    }

    /// Resolves when the broker can not go on: the process should end.
    pub async fn failed(&mut self) -> Failed {
        tokio::select! {
            // A listener that ended, however, is a failure here: the broker is deaf.
            _ = &mut self.endpoint => Failed::Listener,
            () = ended(self.http.as_mut()) => Failed::Http,
            poisoned = self.services.store.failed() => Failed::Store(poisoned),
            () = self.services.tenants.failed() => Failed::Tenants,
        }
    }

    /// Ends well: nothing new begins, clients are told, what runs may finish within `limit`; what
    /// is left then is ended with `DRAINING`.
    pub async fn shutdown(self, limit: Duration) {
        /// How long connections have to end themselves once their time is over.
        const LAST_WORDS: Duration = Duration::from_secs(3);
        let live = &self.services.live;
        let until = SystemTime::now() + limit;
        self.services.drain.send_replace(Drain::Until(until));
        self.services.jobs.drain();
        self.services.topics.drain();
        self.services.events.publish(None, Kind::draining(until));
        let batches = &self.services.batches;
        batches.close();
        let deadline = Instant::now() + limit;
        // Workers stay until nobody is left who may wait for them.
        let jobs = &self.services.jobs;
        let all =
            async { tokio::join!(live.wait_only_workers(deadline), batches.wait(), jobs.quiet()) };
        let _ = tokio::time::timeout(limit, all).await;
        self.services.drain.send_replace(Drain::Over);
        let deadline = Instant::now() + LAST_WORDS;
        let both = async { tokio::join!(live.wait_empty(deadline), batches.wait()) };
        let _ = tokio::time::timeout(LAST_WORDS, both).await;
        self.services.stop.cancel();
        self.services.jobs.stop().await;
        self.services.topics.stop().await;
        let mut this = self;
        if let Some(http) = this.http.take() {
            // Last, so that it can be asked how far the others are.
            http.stop(LAST_WORDS).await;
        }
        let _ = tokio::time::timeout(LAST_WORDS, &mut this.endpoint).await;
        for watcher in std::mem::take(&mut this.watchers) {
            // They hold the store, which the next broker wants.
            watcher.abort();
            let _ = watcher.await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.services.stop.cancel();
        self.services.jobs.stop_now();
        self.services.topics.stop_now();
        self.watchers.iter().for_each(JoinHandle::abort);
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Resolves when the HTTP listener serves no more; never when there is none.
async fn ended(http: Option<&mut http::Server>) {
    match http {
        Some(http) => http.ended().await,
        None => std::future::pending().await,
    }
}

/// Why a broker can not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// Nobody is let in any more.
    #[error("the listener has stopped by itself")]
    Listener,
    /// HTTP is not served any more.
    #[error("the HTTP listener has stopped by itself")]
    Http,
    /// Nothing is kept any more.
    #[error(transparent)]
    Store(#[from] store::Poisoned),
    /// Changes of tenants are not kept any more.
    #[error("the task that keeps changes of tenants has stopped by itself")]
    Tenants,
}

/// What could not be reloaded; it stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Certificates, trust roots or revocations.
    #[error(transparent)]
    Certificates(#[from] rotate::RotateError),
    /// Tokens or certificates of the HTTP listener.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Secrets or certificates of an upstream.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Opens the store of the data directory; without one, a store that ends with the broker.
async fn open_store(config: &Config) -> Result<Store, StartError> {
    let (dir, settings) = (config.data_dir.as_ref().map(|d| d.join("store")), config.store.clone());
    let open = move || Store::open(dir.as_deref(), &settings);
    // It reads what the last end left behind.
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.expect("opening the store does not panic")?)
}

/// Jobs, bindings and what else an earlier process left goes on.
async fn resume(services: Arc<Services>) {
    tokio::join!(services.jobs.resume(), services.topics.resume());
}

/// Forgets recipes of workers that are long gone, again and again.
async fn forget_recipes(workers: Workers) {
    /// How often it is looked for them.
    const LOOK_EVERY: Duration = Duration::from_secs(60);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        workers.forget_old(Instant::now()).await;
    }
}

/// Compares what is counted with what there is, again and again.
async fn audit(services: Arc<Services>) {
    let (tenants, events) = (services.tenants.clone(), services.events.clone());
    let recount = || {
        let (connections, gateways) = services.live.count();
        let (batches, mixed_batches) = services.open_ids.count();
        let items_running = services.engine.slots.running_by_tenant();
        let (consumers, jobs) = (services.workers.by_tenant(), services.jobs.holdings());
        let (topics, streams) = (services.topics.holdings(), services.topics.streams());
        Found {
            connections,
            batches,
            consumers,
            mixed_batches,
            items_running,
            jobs,
            topics,
            streams,
            gateways,
        }
    };
    audit::watch(tenants, events, services.config.tenancy.audit_interval_ms, recount).await;
}

fn paths(
    config: &Config,
    authority: Option<&DevAuthority>,
    domain: TrustDomain,
) -> Result<Paths, StartError> {
    let tls = &config.tls;
    rotate::require(tls.crls.iter().chain(&tls.deny))?;
    let (crls, deny) = (tls.crls.clone(), tls.deny.clone());
    match (authority, &tls.certificate, &tls.key) {
        (Some(authority), ..) => Ok(authority.paths(crls, deny, domain)),
        (None, Some(certificate), Some(key)) if !tls.roots.is_empty() => Ok(Paths {
            certificate: certificate.clone(),
            key: key.clone(),
            roots: tls.roots.clone(),
            crls,
            deny,
            domain,
        }),
        _ => Err(StartError::TlsIncomplete),
    }
}
