//! The tenants in use: those that hold something, or did so a moment ago.
//!
//! What looks at tenants again and again (alerts, the audit, metrics) looks at these, not at a
//! million that do nothing. Whoever is missing enters with the next thing it does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Instant,
};

use super::{registry::Registry, tenant::Tenant};

type Map = HashMap<u32, Weak<Tenant>, foldhash::fast::RandomState>;

/// The list.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<Map>);

impl InUse {
    pub(super) fn enter(&self, tenant: &Arc<Tenant>) {
        self.lock().insert(tenant.index, Arc::downgrade(tenant));
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those on the list, deleted ones too as long as they hold something.
    fn all(&self) -> Vec<Arc<Tenant>> {
        let mut list = self.lock();
        list.retain(|_, tenant| tenant.strong_count() > 0);
        list.values().filter_map(Weak::upgrade).collect()
    }
}

impl Registry {
    /// The tenants in use: those that hold something, or did so a moment ago. In no order.
    pub fn in_use(&self) -> Vec<Arc<Tenant>> {
        self.common().in_use.all()
    }
}

impl Tenant {
    /// Leaves the list when it holds nothing that changes by itself.
    pub(super) fn leave_if_quiet(self: &Arc<Self>, now: Instant) {
        if !self.is_quiet(now) {
            return;
        }
        self.common.in_use.lock().remove(&self.index);
        self.listed.store(false, Ordering::SeqCst);
        // It may have begun something meanwhile, and found itself on the list.
        if !self.is_quiet(now) && !self.listed.swap(true, Ordering::SeqCst) {
            self.common.in_use.enter(self);
        }
    }

    fn is_quiet(&self, now: Instant) -> bool {
        let metered = self.counted_yet().map(|c| &c.metered);
        self.is_idle() && metered.is_none_or(|m| m.is_quiet(self.at(now)))
    }
}
