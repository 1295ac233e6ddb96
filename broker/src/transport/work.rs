//! A stream of work: a worker's registrations and answers in, calls for it out.
//!
//! One task polls all of it. It is never left unread for a client's sake: what a worker says is about
//! many tenants.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use foldhash::HashMap;
use tollgate_protocol::{
    Code,
    close::StreamCode,
    work::{DispatchFrame, WorkOpen},
};

use super::{
    connection::{Caller, Peer, WorkerCaller},
    stream::{End, Stream, refuse_critical, varint},
};
use crate::{
    batch::{Failure, Owner},
    tenancy::Permit,
    workers::{Session, Who},
};

mod apart;
mod drive;
mod heard;

pub(super) use apart::{deliver, fetch};
use drive::{Drive, Over};

/// The streams of work of a connection, by their QUIC ids: for those beside them that carry large
/// payloads.
#[derive(Debug, Default)]
pub(super) struct Works(Mutex<HashMap<u64, Weak<Session>>>);

impl Works {
    fn enter(&self, id: u64, session: &Arc<Session>) {
        let mut works = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        works.retain(|_, session| session.strong_count() > 0);
        works.insert(id, Arc::downgrade(session));
    }

    fn find(&self, id: u64) -> Option<Arc<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id)?.upgrade()
    }
}

/// A stream of work that was admitted.
pub(super) struct Opened {
    session: Arc<Session>,
    /// A tenant's worker counts among its consumers.
    permit: Option<Permit>,
}

/// Judges the open frame, and takes the permit of a tenant's worker.
pub(super) fn open(peer: &Peer, open: &WorkOpen<'_>) -> Result<Opened, Failure> {
    refuse_critical(&open.extensions)?;
    let worker = worker(peer)?;
    let permit = worker.tenant.as_ref().map(|tenant| {
        tenant.consumer().map_err(|refusal| {
            let items = peer.services.metrics.items();
            items.refused(refusal.quota.name(), refusal.scope, 1);
            // A worker that leaves makes room.
            Failure { retryable: true, ..Failure::quota(refusal) }
        })
    });
    let permit = permit.transpose()?;
    let who = Who {
        owner: worker.tenant.as_ref().map_or(Owner::Everyone, |t| Owner::Tenant(t.index())),
        tenant: worker.tenant.as_ref().map(|t| t.id().clone()),
        identity: worker.identity.clone(),
        connection: peer.connection,
    };
    let session = Arc::new(peer.services.workers.enter(who, open.credit));
    Ok(Opened { session, permit })
}

/// The worker that a connection is of.
fn worker(peer: &Peer) -> Result<&WorkerCaller, Failure> {
    match &peer.caller {
        Caller::Worker(worker) => Ok(worker),
        Caller::Tenant(_) | Caller::Gateway(_) => {
            let message = "only the certificate of a worker may serve recipes";
            Err(Failure::new(Code::Forbidden, message))
        }
    }
}

/// Answers a stream of work that is not admitted, in its own frames.
pub(super) async fn refuse(mut stream: Stream, failure: &Failure) -> End {
    let (code, failure) = (failure.code.number(), failure.as_wire());
    stream.output.frame(&DispatchFrame::Error { code, failure });
    stream.finish(End::Unfinished).await
}

/// Serves a worker until it leaves.
pub(super) async fn serve(peer: &Arc<Peer>, stream: Stream, opened: Opened) -> End {
    let Opened { session, permit } = opened;
    peer.works.enter(stream.recv.id().into(), &session);
    let mut drive = Drive::new(peer, stream, session);
    let over = poll_fn(|cx| drive.poll(cx)).await;
    let (mut stream, session) = drive.into_parts();
    // Its calls go to others before it hears of its end.
    drop((session, permit));
    match over {
        Over::Drained => {
            stream.output.frame(&DispatchFrame::End);
            stream.finish(End::Completed).await
        }
        Over::Failed(failure) => refuse(stream, &failure).await,
        Over::ReaderGone => {
            let _ = stream.send.reset(varint(StreamCode::ReaderGone));
            let _ = stream.recv.stop(varint(StreamCode::ReaderGone));
            End::Unfinished
        }
        Over::Left | Over::Lost => End::Unfinished,
    }
}
