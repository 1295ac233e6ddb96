//! The tenants of a process, by id, and the gateways by name.
//!
//! In memory: what is set here is gone with the process. Every change is published as a new number;
//! whoever holds a tenant looks again then. An id never leads to what another tenant of the same id
//! had counted.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::sync::watch;
use tollgate_protocol::id::{NameError, TenantId};

use super::{
    Config,
    file::{FileError, TenantsFile},
    gateway::{Gateway, GatewayLimits},
    settings::{Settings, State},
    tenant::{Common, Tenant},
};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Why a tenant was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] NameError),
    /// There is one.
    #[error("tenant {0} exists")]
    Exists(TenantId),
}

/// No tenant has this id, or it was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such tenant")]
pub struct UnknownTenant;

/// Why a tenant was not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RemoveError {
    /// No tenant has this id, or it was deleted.
    #[error("there is no such tenant")]
    Unknown,
    /// It may still do things.
    #[error("the tenant is active; suspend it first")]
    Active,
    /// Something of it is open.
    #[error("the tenant is not idle yet")]
    Busy,
}

/// The tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    common: Common,
    tenants: RwLock<Map<TenantId, Arc<Tenant>>>,
    /// Held by whoever changes anything: changes come one after the other.
    changing: Mutex<()>,
    next_index: AtomicU32,
    generation: watch::Sender<u64>,
    gateways: Mutex<Map<String, Arc<Gateway>>>,
    gateway_default: GatewayLimits,
}

impl Registry {
    /// A registry without tenants; the file that the configuration names is not read.
    pub fn new(config: &Config) -> Registry {
        let gateways = config
            .gateways
            .iter()
            .map(|(name, &limits)| (name.clone(), Arc::new(Gateway::new(name, limits))))
            .collect();
        Registry(Arc::new(Inner {
            common: Common {
                // tokio's, so that a paused clock counts from the same base.
                base: tokio::time::Instant::now().into_std(),
                shape: config.window.0,
                in_flight_max: config.tenant_in_flight_bytes.max(1),
            },
            tenants: RwLock::default(),
            changing: Mutex::new(()),
            next_index: AtomicU32::new(0),
            generation: watch::Sender::new(0),
            gateways: Mutex::new(gateways),
            gateway_default: config.gateway_default,
        }))
    }

    /// A registry with the tenants of the file that the configuration names, if it names one.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read or is wrong.
    pub fn open(config: &Config) -> Result<Registry, FileError> {
        let registry = Registry::new(config);
        if let Some(path) = &config.tenants_file {
            registry.apply_file(TenantsFile::load(path)?);
        }
        Ok(registry)
    }

    /// The tenant of an id, in whatever state; a deleted one until the id is used again.
    pub fn get(&self, id: &str) -> Option<Arc<Tenant>> {
        self.0.tenants.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Every tenant, in whatever state, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let tenants = self.0.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = tenants.values().cloned().collect();
        drop(tenants);
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Tells of changes: the number grows with each.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Creates a tenant.
    ///
    /// # Errors
    /// [`CreateError`] when the id is not one, or in use. The id of a deleted tenant is free.
    pub fn create(&self, id: &str, settings: Settings) -> Result<Arc<Tenant>, CreateError> {
        let id = TenantId::parse(id)?;
        let _changing = self.changing();
        if self.living(id.as_str()).is_some() {
            return Err(CreateError::Exists(id));
        }
        let tenant = self.insert(id, settings);
        self.publish();
        Ok(tenant)
    }

    /// Changes what is set for a tenant. It acts at once, on what is open too.
    ///
    /// # Errors
    /// [`UnknownTenant`] when there is none.
    pub fn update(
        &self,
        id: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Arc<Tenant>, UnknownTenant> {
        let _changing = self.changing();
        let tenant = self.living(id).ok_or(UnknownTenant)?;
        let mut settings = Settings::clone(&tenant.settings());
        change(&mut settings);
        tenant.change(settings);
        self.publish();
        Ok(tenant)
    }

    /// Stops a tenant from doing anything; its connections are closed by those who hold them.
    ///
    /// # Errors
    /// [`UnknownTenant`] when there is none.
    pub fn suspend(&self, id: &str) -> Result<Arc<Tenant>, UnknownTenant> {
        self.update(id, |s| s.state = State::Suspended)
    }

    /// Lets a suspended tenant go on.
    ///
    /// # Errors
    /// [`UnknownTenant`] when there is none.
    pub fn activate(&self, id: &str) -> Result<Arc<Tenant>, UnknownTenant> {
        self.update(id, |s| s.state = State::Active)
    }

    /// Deletes a tenant that is suspended and idle.
    ///
    /// # Errors
    /// [`RemoveError`] when there is none, or it is not.
    pub fn remove(&self, id: &str) -> Result<(), RemoveError> {
        let _changing = self.changing();
        let tenant = self.living(id).ok_or(RemoveError::Unknown)?;
        if tenant.state() != State::Suspended {
            return Err(RemoveError::Active);
        }
        if !tenant.is_idle() {
            return Err(RemoveError::Busy);
        }
        delete(&tenant);
        self.publish();
        Ok(())
    }

    /// Deletes a tenant whatever it does; its connections are closed by those who hold them.
    ///
    /// # Errors
    /// [`UnknownTenant`] when there is none.
    pub fn remove_now(&self, id: &str) -> Result<(), UnknownTenant> {
        let _changing = self.changing();
        let tenant = self.living(id).ok_or(UnknownTenant)?;
        delete(&tenant);
        self.publish();
        Ok(())
    }

    /// Makes the tenants those of a file: creates, changes, and deletes what it does not list,
    /// those created otherwise too.
    pub fn apply_file(&self, file: TenantsFile) {
        let _changing = self.changing();
        let listed: HashSet<TenantId> = file.tenants.keys().cloned().collect();
        for (id, settings) in file.tenants {
            match self.living(id.as_str()) {
                Some(tenant) if *tenant.settings() == settings => {}
                Some(tenant) => tenant.change(settings),
                None => {
                    self.insert(id, settings);
                }
            }
        }
        for tenant in self.all() {
            if tenant.state() != State::Deleted && !listed.contains(&tenant.id) {
                delete(&tenant);
            }
        }
        self.publish();
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

    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self, id: &str) -> Option<Arc<Tenant>> {
        self.get(id).filter(|t| t.state() != State::Deleted)
    }

    fn insert(&self, id: TenantId, settings: Settings) -> Arc<Tenant> {
        let index = self.0.next_index.fetch_add(1, Ordering::Relaxed);
        let tenant = Tenant::new(id.clone(), index, self.0.common, settings);
        let mut tenants = self.0.tenants.write().unwrap_or_else(PoisonError::into_inner);
        // The key is the new one too: an old tenant's memory goes with its last holder.
        tenants.remove(&id);
        tenants.insert(id, tenant.clone());
        tenant
    }

    fn publish(&self) {
        self.0.generation.send_modify(|n| *n += 1);
    }
}

fn delete(tenant: &Tenant) {
    let mut settings = Settings::clone(&tenant.settings());
    settings.state = State::Deleted;
    tenant.change(settings);
}
