//! A batch on its stream: frames in, results out, and when to read, to hold and to end.
//!
//! One task polls all of it: nothing is spawned and no channel is crossed for an item.

use std::{future::poll_fn, sync::Arc, time::Instant};

use tollgate_protocol::{
    BrokerFrame, Code,
    batch::{Accepted, BatchOpen, Durability, Ended, Mode},
    close::StreamCode,
    id::BatchId,
};
use tracing::Instrument;

use super::{
    connection::{Caller, GatewayCaller, Peer},
    stream::{End, Stream, error_frame, refuse_critical, varint},
};
use crate::{
    batch::{self, Ending, Failure, Holder, OpenId, Run, Terms, Whose, foreign},
    tenancy::{Permit, State, Tenant},
};

mod drive;
mod intake;
mod timers;

use drive::{Drive, Over};

/// What a batch answers beside its results: that it is accepted, and its summary.
const RESULTS_BESIDE_BYTES: usize = 128;

/// A batch that was admitted and has not begun.
pub(super) struct Opened {
    run: Run,
    tenants: Tenants,
    /// Given back before the final frame, so that a client at its limit can open the next batch
    /// as soon as it has read it.
    permits: (Option<Permit>, OpenId),
    accepted: Accepted<'static>,
    /// Of a durable batch: its id, and whether its first failure cancels what has not started.
    durable: Option<(BatchId, bool)>,
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
    peer.services.memory.admit()?;
    let tenants = tenants(peer, open.tenant)?;
    if open.durability == Durability::Durable && matches!(tenants, Tenants::Each) {
        let message = "a durable batch is one tenant's: a gateway names it in the open frame";
        return Err(Failure::validation("tenant", message));
    }
    let engine = peer.services.engine.clone();
    let (permit, holder, tenant) = match &tenants {
        Tenants::One(tenant) => {
            (Some(engine.permit(tenant)?), Holder::Tenant(tenant.index()), Some(&**tenant))
        }
        Tenants::Each => (None, peer.holder.clone(), None),
    };
    let durable = open.durability == Durability::Durable;
    let open_id = peer.services.open_ids.enter(holder, open.batch_id);
    // A durable batch may be opened again once its other stream is gone.
    let open_id = open_id.map_err(|failure| Failure { retryable: durable, ..failure })?;
    let now = Instant::now();
    let frame_bytes_max = peer.services.config.limits.frame_bytes_max;
    let (terms, accepted) = engine.grant(open, tenant, frame_bytes_max, now);
    let terms = Terms { names_tenants: matches!(peer.caller, Caller::Gateway(_)), ..terms };
    Ok(Opened {
        run: Run::new(engine, terms, open, now),
        tenants,
        permits: (permit, open_id),
        accepted,
        durable: (open.durability == Durability::Durable)
            .then_some((open.batch_id, open.mode == Mode::FailFast)),
    })
}

fn tenants(peer: &Peer, named: Option<&str>) -> Result<Tenants, Failure> {
    match (&peer.caller, named) {
        (Caller::Tenant(tenant), None) => Ok(Tenants::One(tenant.clone())),
        (Caller::Tenant(_), Some(_)) => Err(Failure::only_gateways()),
        (Caller::Worker(_), _) => {
            let message = "the certificate of a worker may serve recipes, not submit batches";
            Err(Failure::new(Code::Forbidden, message))
        }
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
    let Opened { mut run, tenants, permits, mut accepted, durable } = opened;
    if let (Some((id, fail_fast)), Tenants::One(tenant)) = (durable, &tenants) {
        match peer.services.jobs.open_batch(tenant, id, fail_fast).await {
            Ok(last_id) => accepted.last_id = last_id,
            Err(failure) => {
                run.fails();
                drop(permits);
                return stream.refuse(failure).await;
            }
        }
        run.resume_jobs(tenant);
    }
    // Results are usually a little longer than their requests.
    let buffered = stream.splitter.buffered();
    stream.output.expect(buffered + buffered / 8 + RESULTS_BESIDE_BYTES);
    stream.output.frame(&BrokerFrame::Accepted(accepted));
    let over_at_once = run.deadline().is_some_and(|at| at <= Instant::now());
    let mut drive = Drive::new(peer, stream, run, tenants);
    if over_at_once {
        drive.cancel(true, Ending::DEADLINE);
    }
    let span = drive.run.span().clone();
    let over = poll_fn(|cx| drive.poll(cx)).instrument(span).await;
    let (mut stream, run) = drive.into_parts();
    // What it held is given back before its id: nothing is held for a batch that is not open.
    match &over {
        Over::Heard(batch::Over::Ended(ended)) => {
            stream.output.frame(&BrokerFrame::Summary(run.summary(*ended)));
        }
        Over::Heard(batch::Over::Failed(_)) => run.fails(),
        Over::Heard(batch::Over::Detached) => {
            stream.output.frame(&BrokerFrame::End);
            drop(run);
        }
        Over::ReaderGone | Over::Lost => drop(run),
    }
    drop(permits);
    match over {
        Over::Heard(batch::Over::Ended(ended)) => stream.finish(completed(ended)).await,
        Over::Heard(batch::Over::Detached) => stream.finish(End::Completed).await,
        Over::Heard(batch::Over::Failed(failure)) => {
            error_frame(&mut stream.output, &failure);
            stream.finish(End::Unfinished).await
        }
        Over::ReaderGone => {
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
