//! What a batch that asks to be opened is granted: the smallest of what everyone allows.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    Extensions,
    batch::{Accepted, BatchOpen, Durability},
    limits,
};

use super::{engine::Engine, outcome::Failure, run::Terms};
use crate::tenancy::{Permit, Refusal, Tenant};

impl Engine {
    /// Takes a tenant's permit for a batch.
    pub(crate) fn permit(&self, tenant: &Arc<Tenant>) -> Result<Permit, Failure> {
        tenant.batch().map_err(|refusal: Refusal| {
            self.metrics.items().refused(refusal.quota.name(), refusal.scope, 1);
            // A batch that ends makes room, nobody knows when.
            Failure { retryable: true, ..Failure::quota(refusal) }
        })
    }

    /// The terms of a batch that was opened at `now`, and what its client is told of them. Without
    /// a tenant each item brings its own.
    pub(crate) fn grant(
        &self,
        open: &BatchOpen<'_>,
        tenant: Option<&Tenant>,
        frame_bytes_max: usize,
        now: Instant,
    ) -> (Terms, Accepted<'static>) {
        let record = tenant.map(Tenant::record);
        let asked = if open.concurrency_max == 0 { u32::MAX } else { open.concurrency_max };
        let granted = record.as_ref().map_or(u32::MAX, |r| r.settings.concurrency);
        let concurrency_max = asked.min(granted).min(self.config.concurrency_max);
        let items_max = record.as_ref().map_or(limits::BATCH_ITEMS_HARD_MAX, |r| {
            r.quotas.batch_items.get().min(limits::BATCH_ITEMS_HARD_MAX)
        });
        let payload_bytes_max = record.as_ref().map_or(u64::MAX, |r| r.quotas.payload_bytes.get());
        let terms = Terms {
            tenant: tenant.map(|t| t.id().clone()),
            mode: open.mode,
            order: open.order,
            priority: open.priority,
            concurrency_max,
            items_max,
            // A deadline beyond what the clock can say is none.
            deadline: open.deadline_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms))),
            names_tenants: false,
            durable: open.durability == Durability::Durable,
        };
        let accepted = Accepted {
            concurrency_max,
            items_max,
            frame_bytes_max: frame_bytes_max as u32,
            payload_bytes_max: payload_bytes_max.min(frame_bytes_max as u64),
            deadline_ms: open.deadline_ms,
            last_id: None,
            extensions: Extensions::EMPTY,
        };
        (terms, accepted)
    }
}
