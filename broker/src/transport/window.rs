//! Raising a connection's receive window, out of pools that bound what everyone may raise.

use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

use crate::batch::Holder;

/// What may be raised in all: by each holder (a tenant or a gateway), and by everyone together.
#[derive(Debug)]
pub(crate) struct Pool {
    holder_max: u64,
    max: u64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: u64,
    holders: HashMap<Holder, u64>,
}

impl Pool {
    pub(crate) fn new(holder_max: u32, max: u32) -> Arc<Self> {
        let (holder_max, max) = (holder_max.into(), max.into());
        Arc::new(Pool { holder_max, max, used: Mutex::default() })
    }

    /// The right to raise by `bytes`, if both pools have that much left.
    pub(super) fn take(self: &Arc<Self>, holder: &Holder, bytes: u32) -> Option<Raise> {
        let bytes = u64::from(bytes);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let of_holder = used.holders.get(holder).copied().unwrap_or(0);
        if of_holder + bytes > self.holder_max || used.all + bytes > self.max {
            return None;
        }
        used.all += bytes;
        used.holders.insert(holder.clone(), of_holder + bytes);
        drop(used);
        Some(Raise { pool: self.clone(), holder: holder.clone(), bytes })
    }
}

/// Bytes by which a window is raised; given back when the connection ends.
#[derive(Debug)]
pub(super) struct Raise {
    pool: Arc<Pool>,
    holder: Holder,
    bytes: u64,
}

impl Drop for Raise {
    fn drop(&mut self) {
        let mut used = self.pool.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.all -= self.bytes;
        if let Some(n) = used.holders.get_mut(&self.holder) {
            *n -= self.bytes;
            if *n == 0 {
                used.holders.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pools_bound_and_give_back() {
        let pool = Pool::new(10, 15);
        let (a, b) = (Holder::Tenant(1), Holder::Gateway("g".into()));
        let first = pool.take(&a, 10).expect("room");
        assert!(pool.take(&a, 1).is_none(), "the tenant's pool");
        let _second = pool.take(&b, 5).expect("room");
        assert!(pool.take(&b, 1).is_none(), "the broker's pool");
        drop(first);
        assert!(pool.take(&b, 5).is_some());
        assert_eq!(pool.used.lock().expect("not poisoned").holders.len(), 1);
    }
}
