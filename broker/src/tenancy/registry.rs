//! The tenants of a broker, by id and in order, and the gateways by name.
//!
//! Looking something up takes no longer with a million tenants than with one, and waits for nobody.
//! Changes are the verbs beside this file; each is in force, and told, only once it is kept. An id
//! never leads to what another tenant of the same id had counted.

use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use tollgate_protocol::id::TenantId;

use super::{
    Config,
    gateway::{Gateway, GatewayLimits},
    profiles::Profiles,
    settings::{Record, State},
    stats::{Book, StatsSnapshot},
    stored::StoredTenant,
    tenant::{Common, Tenant},
};
use crate::{
    events::Events,
    store::{Fence, Store},
};

mod create;
mod delete;
mod errors;
mod known;
mod ledger;
mod once;
mod set_profiles;
mod staging;
mod totals;
mod update;

pub use create::NewTenant;
pub use delete::Open;
pub use errors::{CreateError, DeleteError, NotKept, UpdateError};
use known::Known;
use ledger::Ledger;
pub use ledger::RestoreError;
pub use once::Once;
pub(super) use once::Used;
use staging::Staging;
use totals::Totals;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    common: Arc<Common>,
    tenants_max: usize,
    delete_drain: Duration,
    known: RwLock<Known>,
    profiles: ArcSwap<Profiles>,
    /// Held by whoever puts settings in force: profiles and settings change one after the other.
    publishing: Mutex<()>,
    staging: Mutex<Staging>,
    /// Whether changes can not be kept any more.
    broken: watch::Sender<bool>,
    /// Where they are kept, if they are.
    ledger: Option<Arc<Ledger>>,
    events: Events,
    /// What the registry's own tasks run on: that of whoever opened it, not of whoever changes
    /// something.
    runtime: Option<Handle>,
    gateways: Mutex<Map<String, Arc<Gateway>>>,
    gateway_default: GatewayLimits,
    book: Book,
    totals: Totals,
}

/// What a registry begins with.
struct Parts {
    common: Arc<Common>,
    known: Known,
    profiles: Profiles,
    staging: Staging,
    ledger: Option<Arc<Ledger>>,
    events: Events,
    runtime: Option<Handle>,
}

/// What may be left out of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those of this profile.
    pub profile: Option<&'a str>,
}

impl Filter<'_> {
    fn passes(&self, record: &Record) -> bool {
        self.state.is_none_or(|state| record.settings.state == state)
            && self.profile.is_none_or(|profile| *record.settings.profile == *profile)
    }
}

impl Registry {
    /// A registry without tenants that keeps nothing: for tests of what one builds on tenants.
    pub fn in_memory(config: &Config) -> Registry {
        let parts = Parts {
            common: Arc::new(Common::of(config)),
            known: Known::default(),
            profiles: Profiles::new(&config.profiles),
            staging: Staging::beginning_with(1, Vec::new()),
            ledger: None,
            events: Events::default(),
            runtime: None,
        };
        Registry::of(config, parts)
    }

    /// The registry that a store keeps. `fence` is the right to change the store's system scope.
    /// What a deletion left to do before the last end is done in the background.
    ///
    /// # Errors
    /// [`RestoreError`] when the tenants cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(
        config: &Config,
        store: Store,
        fence: Fence,
        events: Events,
    ) -> Result<Registry, RestoreError> {
        let profiles = Profiles::new(&config.profiles);
        let common = Arc::new(Common::of(config));
        let mut known = Known::default();
        let (ledger, keys) = Ledger::open(store, fence, |stored| {
            known.insert(restored(stored, &profiles, common.clone()));
        })
        .await?;
        let ledger = Arc::new(ledger);
        let parts = Parts {
            common,
            known,
            profiles,
            staging: Staging::beginning_with(ledger.next_number(), keys),
            ledger: Some(ledger.clone()),
            events,
            runtime: Some(Handle::current()),
        };
        let registry = Registry::of(config, parts);
        registry.spawn(async move {
            for number in ledger.dropping() {
                ledger.drop_data(number).await;
            }
        });
        registry.checkpoint_when_due();
        Ok(registry)
    }

    fn of(config: &Config, parts: Parts) -> Registry {
        let gateways = config
            .gateways
            .iter()
            .map(|(name, &limits)| (name.clone(), Arc::new(Gateway::new(name, limits))))
            .collect();
        Registry(Arc::new(Inner {
            common: parts.common,
            tenants_max: config.tenants_max,
            delete_drain: Duration::from_millis(config.delete_drain_ms),
            known: RwLock::new(parts.known),
            profiles: ArcSwap::from_pointee(parts.profiles),
            publishing: Mutex::new(()),
            staging: Mutex::new(parts.staging),
            broken: watch::Sender::new(false),
            ledger: parts.ledger,
            events: parts.events,
            runtime: parts.runtime,
            gateways: Mutex::new(gateways),
            gateway_default: config.gateway_default,
            book: Book::new(),
            totals: Totals::default(),
        }))
    }

    /// The tenant of an id, in whatever state; one that was deleted lately until its id is used
    /// again.
    pub fn get(&self, id: &str) -> Option<Arc<Tenant>> {
        self.known().get(id)
    }

    /// What became of all tenants' items since the process started.
    pub fn stats(&self) -> StatsSnapshot {
        self.0.book.snapshot()
    }

    /// The statistics of all tenants, to add to.
    pub(crate) fn book(&self) -> &Book {
        &self.0.book
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known().by_id.len()
    }

    /// How many are active, and how many suspended.
    pub fn states(&self) -> (usize, usize) {
        let known = self.known();
        (known.by_id.len().saturating_sub(known.suspended), known.suspended)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every tenant, in the order of their ids. For a long list take [`page`](Self::page)s.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.known().in_order.iter().map(|t| t.0.clone()).collect()
    }

    /// At most `limit` of the tenants that a filter lets through, in the order of their ids, from
    /// the first whose id comes after `after`.
    pub fn page(
        &self,
        after: Option<&TenantId>,
        limit: usize,
        filter: Filter<'_>,
    ) -> Vec<Arc<Tenant>> {
        /// Tenants that are looked at before writers get their turn.
        const AT_ONCE: usize = 1_024;
        let mut page = Vec::new();
        let mut last = after.cloned();
        while page.len() < limit {
            let known = self.known();
            let from = last.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
            let (mut looked, mut seen) = (0, None);
            for tenant in known.in_order.range::<str, _>((from, Bound::Unbounded)).take(AT_ONCE) {
                (looked, seen) = (looked + 1, Some(&tenant.0.id));
                if filter.passes(&tenant.0.record.load()) {
                    page.push(tenant.0.clone());
                    if page.len() == limit {
                        return page;
                    }
                }
            }
            if looked < AT_ONCE {
                break;
            }
            last = seen.cloned();
        }
        page
    }

    /// The profiles.
    pub fn profiles(&self) -> Arc<Profiles> {
        self.0.profiles.load_full()
    }

    /// The gateway of a name. One that the configuration does not list has the default limits; it
    /// is kept, so names come from certificates only.
    pub fn gateway(&self, name: &str) -> Arc<Gateway> {
        let mut gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gateway) = gateways.get(name) {
            return gateway.clone();
        }
        let gateway = Arc::new(Gateway::new(name, self.0.gateway_default));
        gateways.insert(name.to_owned(), gateway.clone());
        gateway
    }

    /// The gateways that have a record, in the order of their names.
    pub fn gateways(&self) -> Vec<Arc<Gateway>> {
        let gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = gateways.values().cloned().collect();
        drop(gateways);
        all.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Resolves when changes can not be kept any more, by a fault of the registry's own: the process
    /// should end.
    pub async fn failed(&self) {
        let mut broken = self.0.broken.subscribe();
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What all tenants have in common.
    pub(super) fn common(&self) -> &Common {
        &self.0.common
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn know(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.known.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.0.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staging(&self) -> MutexGuard<'_, Staging> {
        self.0.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) async fn checkpoint(&self) {
        if let Some(ledger) = &self.0.ledger {
            ledger.checkpoint().await;
        }
    }

    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0.runtime {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Tells the gateways that act for a tenant that it changed.
    fn tell_gateways<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        names.filter_map(|name| gateways.get(name)).for_each(|gateway| gateway.tell());
    }
}

/// A tenant as it was kept.
fn restored(stored: StoredTenant, profiles: &Profiles, common: Arc<Common>) -> Arc<Tenant> {
    let StoredTenant { id, number, mut settings, revision, created_at, updated_at } = stored;
    profiles.intern(&mut settings);
    let quotas = profiles.quotas(&settings);
    let settings = Arc::new(settings);
    let record = Record { settings, quotas, revision, created_at, updated_at };
    Tenant::new(id, number, common, record)
}

/// Tenants that a walk over all of them takes before others have their turn: some 100 µs.
const TURN: usize = 256;
