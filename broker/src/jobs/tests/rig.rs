//! Jobs of two tenants with an engine to run them, and no socket: what a broker is made of.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tollgate_protocol::{
    PairsBuf,
    describe::Encoding,
    id::{BatchId, JobId, RecipeName},
};

use super::super::{Config, Jobs};
use crate::{
    batch::{
        Catalog, Config as BatchConfig, Context, Durable, Engine, Error, Inline, InlineContext,
        JobEnd, Line, NewJob, Of, Recipe, Reply, Retry, Spec, Told,
    },
    events::Events,
    metrics::Metrics,
    store::Store,
    tenancy::{Registry, Settings, Tenant},
};

/// What should be immediate: only a failure reaches it.
const SOON: Duration = Duration::from_secs(10);

pub struct Rig {
    pub jobs: Jobs,
    pub registry: Registry,
    pub tenants: [Arc<Tenant>; 2],
    /// Attempts of `hang` that run now.
    pub hanging: Arc<AtomicUsize>,
}

struct Echo;

impl Inline for Echo {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        out.extend_from_slice(payload);
        Ok(())
    }
}

/// Fails up to this attempt.
struct Fails(u32);

impl Inline for Fails {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        if ctx.attempt() <= self.0 {
            let error = Error::new(format!("attempt {}", ctx.attempt()));
            return Err(if self.0 == u32::MAX { error.permanent() } else { error });
        }
        out.extend_from_slice(payload);
        Ok(())
    }
}

struct Hang(Arc<AtomicUsize>);

impl Recipe for Hang {
    async fn run(&self, _: Context, _: Bytes) -> Result<Reply, Error> {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.0.fetch_add(1, Relaxed);
        let _counted = Counted(self.0.clone());
        std::future::pending().await
    }
}

fn catalog(hanging: &Arc<AtomicUsize>) -> Catalog {
    let wait = Duration::from_millis(1);
    let tries = |attempts_max| Spec {
        retry: Retry { attempts_max, first: wait, factor: 1.0, cap: wait },
        timeout: Some(Duration::from_secs(60)),
        ..Spec::default()
    };
    let schema = r#"{"type": "object", "required": ["n"]}"#.parse().ok();
    let typed = Spec { encoding: Encoding::Json, schema, ..tries(9) };
    Catalog::builder()
        .inline("echo", tries(9), Echo)
        .inline("typed", typed, Echo)
        .inline("flaky", tries(9), Fails(1))
        .inline("never", tries(9), Fails(u32::MAX))
        .inline("dies", tries(2), Fails(1_000))
        .recipe("hang", tries(900), Hang(hanging.clone()))
        .build()
        .expect("a catalog")
}

/// How an attempt to do something ended that a lost store may end: nothing then.
pub type Tried<T> = Result<Option<T>, String>;

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, waits: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(SOON, waits).await.map_err(|_| format!("{what}: nobody is told"))
}

impl Rig {
    pub async fn start(store: &Store) -> Rig {
        Rig::with(store, &Config { checkpoint_events: 12, ..Config::default() }).await
    }

    pub async fn with(store: &Store, config: &Config) -> Rig {
        let registry = Registry::in_memory(&Default::default());
        let mut tenants = Vec::new();
        for id in ["acme", "globex"] {
            let tenant = registry.create_named(id, Settings::default()).await;
            tenants.push(tenant.expect("a tenant"));
        }
        let hanging = Arc::default();
        let catalog = catalog(&hanging);
        let names = catalog.iter().map(|entry| entry.name().as_str());
        let metrics = Metrics::new(&Default::default(), names);
        let config_of_engine =
            BatchConfig { concurrency_max: 64, blocking_threads: 1, ..BatchConfig::default() };
        let book = registry.book().clone();
        let engine = Engine::start(&config_of_engine, catalog, metrics, book).expect("a pool");
        let jobs = Jobs::new(config, store, &registry, &engine, Events::default());
        let tenants = tenants.try_into().unwrap_or_else(|_| unreachable!("there are two"));
        Rig { jobs, registry, tenants, hanging }
    }

    /// Ends it, so that nobody has the store.
    pub async fn stop(self) {
        self.jobs.stop().await;
    }

    pub fn line(&self, tenant: usize, batch: BatchId, durable: bool) -> Box<dyn Line> {
        self.jobs.0.clone().line(&self.tenants[tenant], Of { batch, durable })
    }

    pub fn new_job(&self, tenant: usize, item: u64, recipe: &str, payload: &str) -> NewJob {
        NewJob {
            item,
            recipe: RecipeName::parse(recipe).expect("a name"),
            priority: 0,
            timeout: None,
            deadline: None,
            not_before: None,
            key: None,
            metadata: PairsBuf::new(),
            traceparent: None,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            room: self.tenants[tenant].reserve_bytes(payload.len()).expect("there is room"),
        }
    }

    /// Hands one over and waits for its acceptance.
    pub async fn submit(&self, tenant: usize, batch: BatchId, job: NewJob) -> Told {
        let mut line = self.line(tenant, batch, false);
        line.submit(job).expect("within its quotas");
        soon("a submission", told(&mut *line)).await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// As [`submit`](Self::submit), accepted.
    pub async fn accepted(&self, tenant: usize, recipe: &str, payload: &str) -> JobId {
        let job = self.new_job(tenant, 0, recipe, payload);
        match self.submit(tenant, BatchId::random(), job).await {
            Told::Accepted(accepted) => accepted.job,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a durable batch that is sealed, and whose jobs are over, has its summary.
    pub async fn batch_ends(&self, tenant: usize, batch: BatchId) -> Result<(), String> {
        let shelf = self.jobs.0.shelf(&self.tenants[tenant]);
        shelf.opened().await.map_err(|failure| format!("{failure:?}"))?;
        loop {
            {
                let state = shelf.lock();
                let known = state.jobs.batch(batch).ok_or("a durable batch is lost")?;
                if known.sealed.is_none() || known.open > 0 || known.ended.is_some() {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The result of a job, once it is over.
    pub async fn ended(&self, tenant: usize, job: JobId) -> Result<JobEnd, String> {
        let tenant = &self.tenants[tenant];
        let subject = super::super::Subject::Job(job);
        let attached = self.jobs.attach(tenant, subject, Default::default(), true).await;
        let mut attached = attached.map_err(|e| format!("{job}: {e:?}"))?;
        let read = async {
            let mut last = Err(format!("{job} is told of no end"));
            while let Some(told) = poll_fn(|cx| attached.poll_next(cx)).await {
                if let Told::Ended(end) = told {
                    last = Ok(*end);
                }
            }
            last
        };
        soon("the end of a job", read).await?
    }
}

pub async fn told(line: &mut dyn Line) -> Told {
    poll_fn(|cx| line.poll(cx)).await
}

/// Everything a result says.
pub fn text(end: &JobEnd) -> String {
    let outcome = match &end.outcome {
        Ok(reply) => format!("ok {}", String::from_utf8_lossy(reply.payload())),
        Err(failure) => format!("failed {:?} {}", failure.code, failure.message),
    };
    format!("{} {} {outcome}", end.item, end.attempts)
}
