//! Answers to `Describe`: what a client may ask about the broker and about itself.

use std::{sync::Arc, time::Instant};

use tollgate_protocol::{
    ALPN, BrokerFrame, Code, Extensions,
    describe::{Describe, Limits, Subject, Usage, UsageLine, Version, workers_extension},
    limits::BATCH_ITEMS_HARD_MAX,
};

use super::{
    connection::{Caller, Peer},
    output::Output,
    stream::refuse_critical,
};
use crate::{
    batch::{Failure, foreign},
    tenancy::Tenant,
};

/// Writes the answer, up to and with its `End` frame.
pub(super) fn answer(peer: &Peer, ask: &Describe<'_>, out: &mut Output) -> Result<(), Failure> {
    refuse_critical(&ask.extensions)?;
    let tenant = tenant(peer, ask.tenant)?;
    match ask.subject {
        Subject::Version => {
            let protocol = std::str::from_utf8(ALPN).unwrap_or_default();
            let broker = concat!("tollgate ", env!("CARGO_PKG_VERSION"));
            out.frame(&BrokerFrame::Version(Version { protocol, broker }));
        }
        Subject::Recipes => {
            let of = tenant.as_ref().map(|t| t.index());
            let entries = peer.services.engine.directory.list(of);
            let standings = peer.services.workers.standings(of);
            for entry in entries {
                let mut recipe = entry.describe();
                let standing = standings.get(&entry.index());
                let workers = standing.map(|s| u32::try_from(s.workers).unwrap_or(u32::MAX));
                let extensions = workers.map(workers_extension).unwrap_or_default();
                recipe.extensions = extensions.as_extensions();
                out.frame(&BrokerFrame::Recipe(recipe));
            }
        }
        Subject::Limits => {
            let tenant = tenant.ok_or_else(no_tenant)?;
            let limits = limits(peer, &tenant);
            out.frame(&BrokerFrame::Limits(limits));
        }
        Subject::Usage => {
            let lines = tenant.ok_or_else(no_tenant)?.usage(Instant::now());
            let line = |l: &crate::tenancy::UsageLine| UsageLine {
                quota: l.quota.name(),
                current: l.current,
                limit: l.limit,
            };
            out.frame(&BrokerFrame::Usage(Usage { lines: lines.iter().map(line).collect() }));
        }
    }
    out.frame(&BrokerFrame::End);
    Ok(())
}

fn tenant(peer: &Peer, named: Option<&str>) -> Result<Option<Arc<Tenant>>, Failure> {
    match (&peer.caller, named) {
        (Caller::Tenant(tenant), None) => Ok(Some(tenant.clone())),
        (Caller::Tenant(_) | Caller::Worker(_), Some(_)) => Err(foreign()),
        (Caller::Worker(worker), None) => Ok(worker.tenant.clone()),
        (Caller::Gateway(_), None) => Ok(None),
        (Caller::Gateway(gateway), Some(id)) => {
            peer.tenant_of(gateway, id).map(Some).ok_or_else(foreign)
        }
    }
}

fn no_tenant() -> Failure {
    Failure::new(
        Code::ValidationError,
        "a gateway names the tenant it asks about, and a platform worker has none",
    )
    .detail("field", "tenant")
}

fn limits(peer: &Peer, tenant: &Tenant) -> Limits<'static> {
    let record = tenant.record();
    let frame_bytes_max = peer.services.config.limits.frame_bytes_max;
    Limits {
        frame_bytes_max: frame_bytes_max as u32,
        payload_bytes_max: record.quotas.payload_bytes.get().min(frame_bytes_max as u64),
        batch_items_max: record.quotas.batch_items.get().min(BATCH_ITEMS_HARD_MAX),
        concurrency_max: record.settings.concurrency,
        batches_in_flight_max: record.quotas.batches_in_flight.get(),
        extensions: Extensions::EMPTY,
    }
}
