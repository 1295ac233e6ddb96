//! Every recipe there is now: those of the catalog, and those that come and go with their workers.
//!
//! Names resolve to a tenant's own recipe, then to one for everybody, then to the catalog's. Knows
//! nothing of who runs what.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use tollgate_protocol::id::RecipeName;

use super::catalog::{Catalog, Entry};

/// Whose a recipe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Every tenant may name it.
    Everyone,
    /// Only the tenant of this index may.
    Tenant(u32),
}

/// The recipes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    /// Rises with every change, so that what was looked up can be kept until then.
    generation: AtomicU64,
    live: ArcSwap<Live>,
    /// Changes are made one after the other; also hands out indexes.
    numbers: Arc<Mutex<Numbers>>,
}

type Names = HashMap<RecipeName, Arc<Entry>, RandomState>;

#[derive(Default, Clone)]
struct Live {
    everyone: Arc<Names>,
    tenants: HashMap<u32, Arc<Names>, RandomState>,
}

/// Indexes that tell entries apart: used again once an entry is gone, so that they stay small.
#[derive(Debug)]
struct Numbers {
    next: u32,
    free: Vec<u32>,
}

/// An index that is an entry's until it is dropped.
#[derive(Debug)]
pub(super) struct Number {
    index: u32,
    of: Arc<Mutex<Numbers>>,
}

impl Drop for Number {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.index);
    }
}

impl Directory {
    /// The recipes of a catalog, and no others yet.
    pub(crate) fn new(catalog: Catalog) -> Self {
        let next = u32::try_from(catalog.len()).unwrap_or(u32::MAX);
        Directory(Arc::new(Inner {
            catalog,
            generation: AtomicU64::new(0),
            live: ArcSwap::default(),
            numbers: Arc::new(Mutex::new(Numbers { next, free: Vec::new() })),
        }))
    }

    /// Changes whenever a look-up may have another answer than before.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// What a tenant means by a name; any text may be asked for.
    pub(crate) fn find(&self, tenant: u32, name: &str) -> Option<Arc<Entry>> {
        if self.generation() > 0 {
            let live = self.0.live.load();
            let own = live.tenants.get(&tenant).and_then(|names| names.get(name));
            if let Some(entry) = own.or_else(|| live.everyone.get(name)) {
                return Some(entry.clone());
            }
        }
        self.0.catalog.find(name).cloned()
    }

    /// What a tenant can name, or what everyone can, by name.
    pub(crate) fn list(&self, tenant: Option<u32>) -> Vec<Arc<Entry>> {
        let live = self.0.live.load();
        let mut all: HashMap<&RecipeName, &Arc<Entry>, RandomState> =
            self.0.catalog.iter().map(|entry| (&entry.name, entry)).collect();
        all.extend(live.everyone.iter());
        if let Some(own) = tenant.and_then(|tenant| live.tenants.get(&tenant)) {
            all.extend(own.iter());
        }
        let mut all: Vec<_> = all.into_values().cloned().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Makes a recipe known, in the place of one of the same name and owner. `label` is what it is
    /// counted under.
    pub(crate) fn publish(&self, owner: Owner, mut entry: Entry, label: u32) -> Arc<Entry> {
        let mut numbers = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let index = numbers.free.pop().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        });
        (entry.index, entry.label) = (index, label);
        entry._number = Some(Arc::new(Number { index, of: self.0.numbers.clone() }));
        let entry = Arc::new(entry);
        let mut live = Live::clone(&self.0.live.load());
        let names = match owner {
            Owner::Everyone => &mut live.everyone,
            Owner::Tenant(tenant) => live.tenants.entry(tenant).or_default(),
        };
        Arc::make_mut(names).insert(entry.name.clone(), entry.clone());
        let before = self.0.live.swap(Arc::new(live));
        self.0.generation.fetch_add(1, Ordering::Release);
        drop(numbers);
        // May hold the last of an entry, whose number goes back: not under the lock.
        drop(before);
        entry
    }

    /// Forgets a recipe, if it is still this one.
    pub(crate) fn withdraw(&self, owner: Owner, entry: &Arc<Entry>) {
        let numbers = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = Live::clone(&self.0.live.load());
        let names = match owner {
            Owner::Everyone => Some(&mut live.everyone),
            Owner::Tenant(tenant) => live.tenants.get_mut(&tenant),
        };
        let Some(names) = names else { return };
        if !names.get(&entry.name).is_some_and(|e| Arc::ptr_eq(e, entry)) {
            return;
        }
        let names = Arc::make_mut(names);
        names.remove(&entry.name);
        if let Owner::Tenant(tenant) = owner
            && names.is_empty()
        {
            live.tenants.remove(&tenant);
        }
        let before = self.0.live.swap(Arc::new(live));
        self.0.generation.fetch_add(1, Ordering::Release);
        drop(numbers);
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{InlineContext, Reply, Spec, catalog};

    struct Nothing;

    fn entry(name: &str) -> Entry {
        catalog::entry(name, Spec::bytes(), catalog::Handler::Inline(Arc::new(Nothing)))
            .expect("valid")
    }

    impl super::super::Inline for Nothing {
        fn run(
            &self,
            _: &InlineContext<'_>,
            _: &[u8],
            _: &mut Reply,
        ) -> Result<(), super::super::Error> {
            Ok(())
        }
    }

    fn directory() -> Directory {
        Directory::new(
            Catalog::builder().inline("echo", Spec::bytes(), Nothing).build().expect("valid"),
        )
    }

    #[test]
    fn a_tenants_own_comes_before_everyones_and_that_before_the_catalogs() {
        let d = directory();
        let embedded = d.find(1, "echo").expect("there");
        let everyones = d.publish(Owner::Everyone, entry("echo"), 0);
        let own = d.publish(Owner::Tenant(1), entry("echo"), 0);
        let is = |tenant, entry: &Arc<Entry>| {
            Arc::ptr_eq(&d.find(tenant, "echo").expect("there"), entry)
        };
        assert!(is(1, &own) && is(2, &everyones));
        assert_eq!((d.list(Some(1)).len(), d.list(None).len()), (1, 1));
        d.withdraw(Owner::Everyone, &everyones);
        d.withdraw(Owner::Tenant(1), &own);
        assert!(is(1, &embedded) && is(2, &embedded));
    }

    #[test]
    fn a_change_is_seen_by_who_kept_what_was_found() {
        let d = directory();
        let before = d.generation();
        let x = d.publish(Owner::Tenant(7), entry("x"), 0);
        assert_ne!(d.generation(), before);
        assert!(d.find(7, "x").is_some() && d.find(8, "x").is_none());
        let between = d.generation();
        d.withdraw(Owner::Tenant(7), &x);
        assert_ne!(d.generation(), between);
        assert!(d.find(7, "x").is_none());
        d.withdraw(Owner::Tenant(7), &x);
    }

    #[test]
    fn what_was_replaced_is_not_withdrawn_with_its_successor() {
        let d = directory();
        let first = d.publish(Owner::Everyone, entry("x"), 0);
        let second = d.publish(Owner::Everyone, entry("x"), 0);
        d.withdraw(Owner::Everyone, &first);
        assert!(Arc::ptr_eq(&d.find(1, "x").expect("there"), &second));
    }

    #[test]
    fn indexes_are_used_again_once_their_entry_is_gone() {
        let d = directory();
        let x = d.publish(Owner::Everyone, entry("x"), 0);
        let y = d.publish(Owner::Everyone, entry("y"), 0);
        assert_eq!((x.index, y.index), (1, 2), "after the catalog's");
        d.withdraw(Owner::Everyone, &x);
        let z = d.publish(Owner::Everyone, entry("z"), 0);
        assert_eq!(z.index, 3, "somebody still has `x`");
        drop(x);
        assert_eq!(d.publish(Owner::Everyone, entry("w"), 0).index, 1);
    }
}
