//! A batch on its stream: frames in, results out, and when to read, to hold and to end.
//!
//! One task polls all of it: nothing is spawned and no channel is crossed for an item.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use tollgate_protocol::{
    BrokerFrame, Code, Extensions,
    batch::{Accepted, BatchOpen, Durability, Ended},
    close::StreamCode,
    limits,
};
use tracing::Instrument;

use super::{
    connection::{Caller, GatewayCaller, Peer},
    stream::{End, Stream, error_frame, refuse_critical, varint},
    window::Holder,
};
use crate::{
    batch::{Ending, Failure, Run, Terms, Whose, foreign},
    broker::Pressure,
    tenancy::{Permit, Refusal, State, Tenant},
};

mod drive;
mod ids;
mod intake;
mod timers;

use drive::{Drive, Over};
use ids::OpenId;
pub(crate) use ids::OpenIds;

/// A batch that was admitted and has not begun.
pub(super) struct Opened {
    run: Run,
    tenants: Tenants,
    /// Given back before the final frame, so that a client at its limit can open the next batch
    /// as soon as it has read it.
    permits: (Option<Permit>, OpenId),
    accepted: Accepted<'static>,
}

/// For whom the items of a batch are.
enum Tenants {
    /// All for one; named by the certificate, or by the open frame of a gateway.
    One(Arc<Tenant>),
    /// Each names its own: a gateway's mixed batch.
    Each,
}

impl Tenants {
    /// Whose an item is whose own tenant is not known.
    fn whose(&self) -> Whose<'_> {
        match self {
            Tenants::One(tenant) => Whose::Of(tenant),
            Tenants::Each => Whose::Named(None),
        }
    }
}

/// Judges the open frame, takes the batch's permit and makes its engine.
pub(super) fn open(peer: &Peer, open: &BatchOpen<'_>) -> Result<Opened, Failure> {
    refuse_critical(&open.extensions)?;
    if open.durability == Durability::Durable {
        let message = "durable batches are not available here yet: open it as Ephemeral";
        return Err(Failure::new(Code::InvalidAction, message).detail("field", "durability"));
    }
    if peer.services.memory.pressure() >= Pressure::Refuse {
        let message = "the broker's memory is nearly used up";
        return Err(
            Failure::new(Code::Overloaded, message).detail("config_key", "limits.memory_bytes")
        );
    }
    let tenants = tenants(peer, open.tenant)?;
    let (permit, record) = match &tenants {
        Tenants::One(tenant) => {
            let permit = tenant.batch().map_err(|refusal| no_batch(peer, refusal))?;
            (Some(permit), Some(tenant.record()))
        }
        Tenants::Each => (None, None),
    };
    let holder = match &tenants {
        Tenants::One(tenant) => Holder::Tenant(tenant.index()),
        Tenants::Each => peer.holder.clone(),
    };
    let open_id = peer.services.open_ids.enter(holder, open.batch_id)?;
    let engine = peer.services.engine.clone();
    let asked = if open.concurrency_max == 0 { u32::MAX } else { open.concurrency_max };
    let granted = record.as_ref().map_or(u32::MAX, |r| r.settings.concurrency);
    let items_max = record.as_ref().map_or(limits::BATCH_ITEMS_HARD_MAX, |r| {
        r.quotas.batch_items.get().min(limits::BATCH_ITEMS_HARD_MAX)
    });
    let frame_bytes_max = peer.services.config.limits.frame_bytes_max;
    let payload_bytes_max = record
        .as_ref()
        .map_or(u64::MAX, |r| r.quotas.payload_bytes.get())
        .min(frame_bytes_max as u64);
    let now = Instant::now();
    // A deadline beyond what the clock can say is none.
    let deadline = open.deadline_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
    let concurrency_max = asked.min(granted).min(engine.config.concurrency_max);
    let tenant = match &tenants {
        Tenants::One(tenant) => Some(tenant.id().clone()),
        Tenants::Each => None,
    };
    let terms = Terms {
        tenant,
        mode: open.mode,
        order: open.order,
        priority: open.priority,
        concurrency_max,
        items_max,
        deadline,
        names_tenants: matches!(peer.caller, Caller::Gateway(_)),
    };
    let accepted = Accepted {
        concurrency_max,
        items_max,
        frame_bytes_max: frame_bytes_max as u32,
        payload_bytes_max,
        deadline_ms: open.deadline_ms,
        last_id: None,
        extensions: Extensions::EMPTY,
    };
    Ok(Opened {
        run: Run::new(engine, terms, open, now),
        tenants,
        permits: (permit, open_id),
        accepted,
    })
}

/// A batch that ends makes room, nobody knows when.
fn no_batch(peer: &Peer, refusal: Refusal) -> Failure {
    peer.services.metrics.items().refused(refusal.quota.name(), refusal.scope, 1);
    Failure { retryable: true, ..Failure::quota(refusal, None) }
}

fn tenants(peer: &Peer, named: Option<&str>) -> Result<Tenants, Failure> {
    match (&peer.caller, named) {
        (Caller::Tenant(tenant), None) => Ok(Tenants::One(tenant.clone())),
        (Caller::Tenant(_), Some(_)) => Err(Failure::new(
            Code::Forbidden,
            "the certificate says for which tenant this is: only gateways name one",
        )),
        (Caller::Gateway(_), None) => Ok(Tenants::Each),
        (Caller::Gateway(gateway), Some(id)) => {
            peer.tenant_of(gateway, id).map(Tenants::One).ok_or_else(foreign)
        }
    }
}

impl Peer {
    /// The tenant of a name, if it exists, is active and admits the gateway: nobody can tell which
    /// of these it lacks.
    pub(super) fn tenant_of(&self, gateway: &GatewayCaller, id: &str) -> Option<Arc<Tenant>> {
        let tenant = self.services.tenants.get(id)?;
        let admitted = tenant.state() == State::Active && tenant.admits_gateway(&gateway.name);
        admitted.then_some(tenant)
    }
}

/// Runs an admitted batch to its final frame.
pub(super) async fn serve(peer: &Arc<Peer>, mut stream: Stream, opened: Opened) -> End {
    let Opened { run, tenants, permits, accepted } = opened;
    // Results are usually about as long as their requests.
    stream.output.expect(stream.splitter.buffered());
    stream.output.frame(&BrokerFrame::Accepted(accepted));
    let over_at_once = run.deadline().is_some_and(|at| at <= Instant::now());
    let mut drive = Drive::new(peer, stream, run, tenants);
    if over_at_once {
        drive.cancel(true, Ending::DEADLINE);
    }
    let span = drive.run.span().clone();
    let over = poll_fn(|cx| drive.poll(cx)).instrument(span).await;
    let (mut stream, run) = drive.into_parts();
    drop(permits);
    match over {
        Over::Ended(ended) => {
            stream.output.frame(&BrokerFrame::Summary(run.summary(ended)));
            stream.finish(completed(ended)).await
        }
        Over::Failed(failure) => {
            run.fails();
            error_frame(&mut stream.output, &failure);
            stream.finish(End::Unfinished).await
        }
        Over::ReaderGone => {
            drop(run);
            let _ = stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = stream.recv.stop(varint(StreamCode::ReaderGone));
            End::Unfinished
        }
        Over::Lost => End::Unfinished,
    }
}

/// Whether a batch that ended so was of use to somebody.
fn completed(ended: Ended) -> End {
    match ended {
        Ended::Cut => End::Unfinished,
        _ => End::Completed,
    }
}
