//! What is told of how items and the batch ended: to statistics and metrics, to the log and the trace.
//!
//! Never a payload, nor a recipe's words: those may hold one.

use std::sync::Arc;

use tollgate_protocol::{Code, id::TenantId};

use super::Run;
use crate::{
    batch::{catalog::Entry, ledger::Times, outcome::Failure},
    tenancy::Tenant,
};

impl Run {
    /// An item failed. Its tenant and its recipe as far as they are known, its times when it had
    /// been started.
    pub(super) fn item_failed(
        &mut self,
        id: u64,
        tenant: Option<&Arc<Tenant>>,
        entry: Option<&Entry>,
        payload_len: usize,
        failure: &Failure,
        times: Option<Times>,
    ) {
        self.ledger.failed(tenant, entry.map(|e| e.label), payload_len, failure, times);
        let (batch, code) = (self.shared.batch_id, failure.code);
        let tenant = tenant.map(|t| t.id().as_str());
        let recipe = entry.map(|e| e.name.as_str());
        if code == Code::Panic {
            tracing::warn!(tenant, %batch, item = id, recipe, "a recipe panicked");
        } else {
            tracing::debug!(tenant, %batch, item = id, recipe, %code, "an item failed");
        }
    }
}

/// The batch is over, however it came to that.
impl Drop for Run {
    fn drop(&mut self) {
        // Signed, as OpenTelemetry has no other numbers.
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let ended = self.ledger.how().name();
        let (items, failed) = (number(self.tally.read), number(self.tally.failed()));
        let span = self.span();
        if !span.is_disabled() {
            span.record("ended", ended).record("items", items).record("failed", failed);
        }
        let (tenant, batch) =
            (self.terms.tenant.as_ref().map(TenantId::as_str), self.shared.batch_id);
        tracing::debug!(parent: span, tenant, %batch, ended, items, failed, "a batch ended");
    }
}
