//! A broker of its own for every test, over real QUIC, and clients of every kind for it.
//!
//! Nothing is mocked: certificates are issued, sockets are bound, frames cross the loopback. What
//! must be awaited is awaited as an event ([`eventually`]), never as a time.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tollgate_broker::{
    Broker, Config,
    batch::Catalog,
    config::Http,
    tenancy::{Quotas, Settings},
};
use tollgate_certs::{ClientCredentials, Identity, IssueOptions, Issued};
use tollgate_client::{Client, ClientBuilder};
use tollgate_protocol::id::TenantId;

pub mod forge;
pub mod held;
pub mod process;
pub mod raw;
pub mod stage;
pub mod upstream;
pub mod worker;

/// A bound for what should be immediate: it is only ever reached by a failure.
pub const SOON: Duration = Duration::from_secs(20);

/// A running broker with two tenants, `acme` and `globex`, whose quotas no test reaches by chance.
pub struct Rig {
    /// The broker.
    pub broker: Broker,
    /// Its data directory.
    pub dir: TempDir,
}

/// Quotas far above what a test uses, and finite.
pub fn roomy() -> Quotas {
    let mut q = Quotas::default();
    use tollgate_broker::tenancy::Limit;
    q.bytes_per_second = Limit::at_most(4 << 30);
    q.requests_per_second = Limit::at_most(10_000_000);
    q.batch_items = Limit::at_most(1_000_000);
    q.batches_in_flight = Limit::at_most(10_000);
    q.connections = Limit::at_most(2_000);
    q
}

/// Settings of a tenant with [`roomy`] quotas.
pub fn settings() -> Settings {
    Settings::with_quotas(&roomy())
}

impl Rig {
    /// Starts a broker with the built-in recipes.
    pub async fn start() -> Rig {
        Rig::with(|_| {}).await
    }

    /// Starts a broker with the built-in recipes and changed settings.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Rig {
        let catalog = tollgate_broker::recipes::builtin().build().expect("a catalog");
        Rig::with_catalog(catalog, change).await
    }

    /// Starts a broker with recipes of the test's own.
    pub async fn with_catalog(catalog: Catalog, change: impl FnOnce(&mut Config)) -> Rig {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let broker = start(dir.path(), catalog, change).await;
        for id in ["acme", "globex"] {
            broker.tenants().create_named(id, settings()).await.expect("a tenant");
        }
        Rig { broker, dir }
    }

    /// Ends the broker well, and starts another on what it kept, with the built-in recipes.
    pub async fn restart(self, change: impl FnOnce(&mut Config)) -> Rig {
        let catalog = tollgate_broker::recipes::builtin().build().expect("a catalog");
        self.restart_with(catalog, change).await
    }

    /// As [`restart`](Self::restart), with recipes of the test's own.
    pub async fn restart_with(self, catalog: Catalog, change: impl FnOnce(&mut Config)) -> Rig {
        let Rig { broker, dir } = self;
        broker.shutdown(Duration::ZERO).await;
        let broker = start(dir.path(), catalog, change).await;
        Rig { broker, dir }
    }

    /// Starts a broker with the recipes of a [`stage::Stage`].
    pub async fn staged(change: impl FnOnce(&mut Config)) -> (Rig, stage::Stage) {
        let stage = stage::Stage::default();
        (Rig::with_catalog(stage.catalog(), change).await, stage)
    }

    /// A connection of a tenant, with nothing around it.
    pub async fn raw(&self, tenant: &str) -> raw::Raw {
        raw::connect(self.addr(), &self.credentials(tenant)).await
    }

    /// Where the broker listens.
    pub fn addr(&self) -> SocketAddr {
        self.broker.local_addr()
    }

    /// Issues a certificate by the broker's own authority.
    pub fn issue(&self, identity: &Identity, options: &IssueOptions) -> Issued {
        let authority = self.broker.dev_authority().expect("a development authority");
        authority.issue(identity, options).expect("a certificate")
    }

    /// Credentials of a tenant's client, good for an hour.
    pub fn credentials(&self, tenant: &str) -> ClientCredentials {
        self.credentials_of(&client_identity(tenant))
    }

    /// Credentials of anyone, good for an hour.
    pub fn credentials_of(&self, identity: &Identity) -> ClientCredentials {
        let hour = IssueOptions {
            validity: Duration::from_secs(3_600),
            not_before: SystemTime::now() - Duration::from_secs(60),
        };
        credentials(&self.issue(identity, &hour))
    }

    /// A builder for a tenant's client.
    pub fn builder(&self, tenant: &str) -> ClientBuilder {
        Client::builder(self.addr()).server_name("localhost").credentials(self.credentials(tenant))
    }

    /// A connected client of a tenant.
    pub async fn client(&self, tenant: &str) -> Client {
        self.builder(tenant).connect().await.expect("a connection")
    }

    /// A file in the data directory.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.dir.path()).join(name)
    }

    /// Lets a tenant run so many items at once.
    pub async fn roomy_concurrency(&self, tenant: &str, items: u32) {
        let set = |s: &mut Settings| s.concurrency = items;
        self.broker.tenants().update(tenant, None, set).await.expect("there is one");
    }

    /// Waits until nothing is left of what clients did: no stream but those of workers, no item, no
    /// thread.
    pub async fn idle(&self) {
        eventually("nothing is left behind", || {
            let c = self.broker.counters();
            let streams = c.streams as usize - self.broker.workers().len().min(c.streams as usize);
            (streams, c.items_running, c.items_waiting, c.blocking_running) == (0, 0, 0, 0)
                && c.worker_queue == 0
        })
        .await;
        for tenant in self.broker.tenants().all() {
            eventually("bytes in flight and batches are given back", || {
                tenant.bytes_in_flight() == 0
                    && tenant.used(
                        tollgate_broker::tenancy::Quota::BatchesInFlight,
                        std::time::Instant::now(),
                    ) == 0
            })
            .await;
        }
    }
}

async fn start(dir: &Path, catalog: Catalog, change: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: Some(dir.into()),
        http: Http::anywhere(),
        ..Config::default()
    };
    change(&mut config);
    Broker::start(config, catalog).await.expect("a broker")
}

/// The identity of a tenant's client.
pub fn client_identity(tenant: &str) -> Identity {
    Identity::client(TenantId::parse(tenant).expect("a tenant id"), None).expect("an identity")
}

/// What a certificate says, as the client takes it.
pub fn credentials(issued: &Issued) -> ClientCredentials {
    ClientCredentials::from_pem(
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        issued.ca_pem.as_bytes(),
    )
    .expect("credentials")
}

/// Memory of this process that is in use now, in bytes.
///
/// # Panics
/// Where there is no `/proc`.
pub fn resident_bytes() -> usize {
    resident_bytes_of("self")
}

/// Memory of a process that is in use now, in bytes.
fn resident_bytes_of(process: &str) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).expect("statm");
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.expect("resident pages") * 4096
}

/// Waits until something holds; fails with its name when it never does.
///
/// # Panics
/// When it does not hold within [`SOON`].
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            // Looking again: there is no event for the broker's counters.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(SOON, poll).await.is_err() {
        panic!("never came to hold: {what}");
    }
}
