//! Who is known: the living by id and in order, and those who were deleted lately.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeSet, HashSet, VecDeque},
    hash::{Hash, Hasher},
    sync::Arc,
};

use tollgate_protocol::id::TenantId;

use super::Map;
use crate::tenancy::{settings::State, tenant::Tenant};

/// Who is known: a leaf.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The living. A set of tenants, not a map: a million ids are not kept twice.
    pub by_id: HashSet<ById, foldhash::fast::RandomState>,
    pub in_order: BTreeSet<ById>,
    /// Those deleted lately: whoever comes for one is told that it was.
    gone: Map<TenantId, Arc<Tenant>>,
    gone_order: VecDeque<Arc<Tenant>>,
    /// How many of the living are suspended.
    pub suspended: usize,
}

impl Known {
    pub fn get(&self, id: &str) -> Option<Arc<Tenant>> {
        self.by_id.get(id).map(|t| t.0.clone()).or_else(|| self.gone.get(id).cloned())
    }

    pub fn living(&self, id: &str) -> Option<Arc<Tenant>> {
        self.by_id.get(id).map(|t| t.0.clone())
    }

    pub fn insert(&mut self, tenant: Arc<Tenant>) {
        self.gone.remove(&tenant.id);
        self.suspended += usize::from(tenant.state() == State::Suspended);
        self.by_id.insert(ById(tenant.clone()));
        self.in_order.insert(ById(tenant));
    }

    /// A tenant's state has become another.
    pub fn changed(&mut self, before: State, after: State) {
        self.suspended += usize::from(after == State::Suspended);
        self.suspended -= usize::from(before == State::Suspended);
    }

    pub fn remove(&mut self, tenant: &Arc<Tenant>) {
        /// Deleted tenants that are remembered.
        const GONE_MAX: usize = 1_024;
        self.by_id.remove(tenant.id.as_str());
        self.in_order.remove(tenant.id.as_str());
        self.gone.insert(tenant.id.clone(), tenant.clone());
        self.gone_order.push_back(tenant.clone());
        if self.gone_order.len() > GONE_MAX
            && let Some(oldest) = self.gone_order.pop_front()
            && self.gone.get(&oldest.id).is_some_and(|t| Arc::ptr_eq(t, &oldest))
        {
            self.gone.remove(&oldest.id);
        }
    }
}

/// A tenant that is found, compared and hashed by its id.
#[derive(Debug)]
pub(super) struct ById(pub Arc<Tenant>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        self.0.id.as_str()
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.as_str().hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}
