//! What one batch counts of its items, and tells statistics and metrics now and then.
//!
//! Between two tellings it is the batch's own: an item costs some additions, no lock, no atomic and
//! no reading of the clock. It never decides anything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::batch::Scope;

use super::outcome::Failure;
use crate::{
    metrics::{self, How, Metrics},
    tenancy::{self, Book, Quota, Tenant},
};

/// The books of a batch. What is left in them is told when it is dropped, and that the batch is
/// over.
pub(super) struct Ledger {
    book: Book,
    metrics: Metrics,
    /// Of whom and of what the laps are; a change of either tells them.
    tenant: Option<Arc<Tenant>>,
    recipe: Option<u32>,
    of_tenant: tenancy::Lap,
    of_recipe: metrics::Lap,
    refusals: Vec<(Quota, Scope, u64)>,
    how: How,
    now: Instant,
}

/// How long an item waited, and then ran, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub queued: u64,
    pub running: u64,
}

impl Ledger {
    /// The books of a batch that opens now.
    pub(super) fn open(book: Book, metrics: Metrics, now: Instant) -> Self {
        metrics.items().batch_opened();
        Ledger {
            book,
            metrics,
            tenant: None,
            recipe: None,
            of_tenant: tenancy::Lap::default(),
            of_recipe: metrics::Lap::default(),
            refusals: Vec::new(),
            how: How::Lost,
            now,
        }
    }

    /// How the batch ends, if it is not lost.
    pub(super) fn ends(&mut self, how: How) {
        self.how = how;
    }

    /// How the batch ends, as far as that is known.
    pub(super) fn how(&self) -> How {
        self.how
    }

    /// It is so late now, or some moments later.
    pub(super) fn is_at(&mut self, now: Instant) {
        self.now = now;
    }

    /// An item's recipe was started, and ended well.
    #[inline]
    pub(super) fn ran(
        &mut self,
        tenant: &Arc<Tenant>,
        recipe: u32,
        lens: (usize, usize),
        times: Times,
    ) {
        self.succeeded(tenant, recipe, lens, times);
        self.of_recipe.started += 1;
    }

    /// An item's recipe is started.
    #[inline]
    pub(super) fn started(&mut self, recipe: u32) {
        self.turn_to_recipe(Some(recipe));
        self.of_recipe.started += 1;
    }

    /// An item ended well.
    #[inline(always)]
    pub(super) fn succeeded(
        &mut self,
        tenant: &Arc<Tenant>,
        recipe: u32,
        (payload_len, result_len): (usize, usize),
        times: Times,
    ) {
        self.turn_to(tenant);
        self.turn_to_recipe(Some(recipe));
        let Times { queued, running } = times;
        self.of_tenant.succeeded(payload_len, result_len, queued.wrapping_add(running));
        self.of_recipe.succeeded += 1;
        self.of_recipe.running.note(running);
        self.of_recipe.queued.note(queued);
    }

    /// An item failed. `tenant` and `recipe` as far as they are known; `times` when it had been
    /// started.
    pub(super) fn failed(
        &mut self,
        tenant: Option<&Arc<Tenant>>,
        recipe: Option<u32>,
        payload_len: usize,
        failure: &Failure,
        times: Option<Times>,
    ) {
        self.turn_to_recipe(recipe);
        self.of_recipe.failed(failure.code);
        if let Some(times) = times {
            self.of_recipe.running.note(times.running);
            self.of_recipe.queued.note(times.queued);
        }
        if let Some(tenant) = tenant {
            self.turn_to(tenant);
            let latency = times.map(|t| t.queued.wrapping_add(t.running));
            self.of_tenant.failed(payload_len, failure.code, latency);
        }
        if let Some(refusal) = &failure.quota {
            let (quota, scope) = (refusal.quota, refusal.scope);
            match self.refusals.iter_mut().find(|r| (r.0, r.1) == (quota, scope)) {
                Some(r) => r.2 += 1,
                None => self.refusals.push((quota, scope, 1)),
            }
        }
    }

    /// A stream of the tenant waited for a rate.
    pub(super) fn throttled(&mut self, tenant: &Arc<Tenant>, time: Duration) {
        self.turn_to(tenant);
        self.of_tenant.throttled(time);
    }

    /// Tells what was counted: before a wait, as nobody knows how long that is.
    pub(super) fn settle(&mut self) {
        if let Some(tenant) = &self.tenant {
            self.book.fold(tenant, &mut self.of_tenant, self.now);
        }
        self.settle_recipe();
        for (quota, scope, times) in self.refusals.drain(..) {
            self.metrics.items().refused(quota.name(), scope, times);
        }
    }

    #[inline]
    fn turn_to(&mut self, tenant: &Arc<Tenant>) {
        let same = self.tenant.as_ref().is_some_and(|t| Arc::ptr_eq(t, tenant));
        if !same || self.of_tenant.is_full() {
            self.turn_to_other(tenant);
        }
    }

    #[cold]
    fn turn_to_other(&mut self, tenant: &Arc<Tenant>) {
        if let Some(before) = &self.tenant {
            self.book.fold(before, &mut self.of_tenant, self.now);
        }
        self.tenant = Some(tenant.clone());
    }

    #[inline]
    fn turn_to_recipe(&mut self, recipe: Option<u32>) {
        if self.recipe != recipe {
            self.settle_recipe();
            self.recipe = recipe;
        }
    }

    fn settle_recipe(&mut self) {
        if !self.of_recipe.is_empty() {
            self.metrics.items().fold(self.recipe, &mut self.of_recipe);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.settle();
        self.metrics.items().batch_ended(self.how);
    }
}
