//! Topics of two tenants with an engine to run what is bound, and no socket.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate_protocol::{
    id::{GroupName, TopicName},
    topic::{self, Producer},
};

use super::super::{Config, Fate, Got, Joining, Member, Page, Reading, Start, Topics};
use crate::{
    batch::{
        Catalog, Config as BatchConfig, Engine, Error, Failure, Inline, InlineContext, Reply,
        Retry, Spec,
    },
    metrics::Metrics,
    store::Store,
    tenancy::{Registry, Settings, Tenant},
};

/// What should be immediate: only a failure reaches it.
const SOON: Duration = Duration::from_secs(10);

pub struct Rig {
    pub topics: Topics,
    pub registry: Registry,
    pub tenants: [Arc<Tenant>; 2],
    /// What `note` was given, in its order.
    pub noted: Noted,
}

pub type Noted = Arc<Mutex<Vec<String>>>;

/// Notes its payload; one that begins with `bad` fails.
struct Note(Noted);

impl Inline for Note {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], _: &mut Reply) -> Result<(), Error> {
        let text = String::from_utf8_lossy(payload).into_owned();
        let bad = text.starts_with("bad");
        self.0.lock().expect("no panic").push(text);
        if bad { Err(Error::new("it is bad")) } else { Ok(()) }
    }
}

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, waits: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(SOON, waits).await.map_err(|_| format!("{what}: nobody is told"))
}

impl Rig {
    pub async fn start(store: &Store) -> Rig {
        let config = Config {
            checkpoint_every: 12,
            retention_interval_ms: 2,
            recent_bytes_max: 200,
            ..Config::default()
        };
        Rig::with(store, &config).await
    }

    pub async fn with(store: &Store, config: &Config) -> Rig {
        let registry = Registry::in_memory(&Default::default());
        let mut tenants = Vec::new();
        for id in ["acme", "globex"] {
            let tenant = registry.create_named(id, Settings::default()).await;
            tenants.push(tenant.expect("a tenant"));
        }
        let noted = Noted::default();
        let wait = Duration::from_millis(1);
        let retry = Retry { attempts_max: 3, first: wait, factor: 1.0, cap: wait };
        let spec = Spec { retry, ..Spec::default() };
        let catalog =
            Catalog::builder().inline("note", spec, Note(noted.clone())).build().expect("one");
        let names = catalog.iter().map(|entry| entry.name().as_str());
        let metrics = Metrics::new(&Default::default(), names);
        let config_of_engine =
            BatchConfig { concurrency_max: 64, blocking_threads: 1, ..BatchConfig::default() };
        let book = registry.book().clone();
        let engine = Engine::start(&config_of_engine, catalog, metrics, book).expect("a pool");
        let topics = Topics::new(config, store, &registry, &engine);
        let tenants = tenants.try_into().unwrap_or_else(|_| unreachable!("there are two"));
        Rig { topics, registry, tenants, noted }
    }

    /// Ends it, so that nobody has the store.
    pub async fn stop(self) {
        self.topics.stop().await;
    }

    /// Appends messages, each with its sequence; what became of each.
    pub async fn append(
        &self,
        tenant: usize,
        topic: &TopicName,
        producer: Option<Producer>,
        messages: &[(u64, String)],
    ) -> Result<Vec<Fate>, Failure> {
        let producing = self.topics.produce(&self.tenants[tenant], topic, producer).await?;
        let ready = messages.iter().map(|(sequence, payload)| {
            producing.ready(&topic::Message::new(*sequence, payload.as_bytes()))
        });
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        let bytes = ready.iter().map(super::super::Ready::stored_len).sum();
        let room = self.tenants[tenant].reserve_bytes(bytes).expect("there is room");
        Ok(producing.append(ready, room).fates().await)
    }

    /// Everything there is of a topic: partition, offset and payload.
    pub async fn all(
        &self,
        tenant: usize,
        topic: &TopicName,
    ) -> Result<Vec<(u32, u64, String)>, Failure> {
        let start = Start::Earliest;
        let reading = Reading { partition: None, start, offsets: Vec::new(), follow: false };
        let mut reader = self.topics.consume(&self.tenants[tenant], topic, reading).await?;
        let mut all = Vec::new();
        // What is deleted and trimmed is passed without a message; but not without end.
        for _ in 0..1_000 {
            if reader.is_over() {
                break;
            }
            let got = reader.next(Page::default()).await?;
            all.extend(got.iter().map(|got| (got.partition, got.offset, text(got))));
        }
        all.sort();
        Ok(all)
    }

    /// A member of a group.
    pub async fn join(
        &self,
        tenant: usize,
        topic: &TopicName,
        group: &str,
    ) -> Result<Member, Failure> {
        let group = GroupName::parse(group).expect("a name");
        let joining =
            Joining { group, start: Start::Earliest, ack_timeout_ms: 60_000, in_flight_max: 0 };
        self.topics.join(&self.tenants[tenant], topic, joining).await
    }
}

/// The payload of a message.
pub fn text(got: &Got) -> String {
    let (_, payload) = got.delivery().expect("it is a message");
    String::from_utf8_lossy(&payload).into_owned()
}

pub fn name(text: &str) -> TopicName {
    TopicName::parse(text).expect("a name")
}
