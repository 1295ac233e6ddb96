//! One connection: who it is, decided once from its certificate, and its streams until it ends.
//!
//! Closes itself when its certificate expires or is revoked, when its tenant is suspended or
//! deleted, when the broker stops, and when the peer churns streams.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use quinn::{Connection, VarInt};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tollgate_certs::{Identity, Rejection, Role, validity};
use tollgate_protocol::close::CloseCode;
use tracing::Instrument;

use super::{
    abuse::Abuse,
    config::ms,
    gate::UnderWay,
    hold::Holds,
    live::Entered,
    signals::Signals,
    stream::{self, End},
    window::Raise,
    work::Works,
};
use crate::{
    batch::Holder,
    broker::{Drain, Pressure, Services},
    metrics::{Handshake, OpenConnection, StreamEnd},
    tenancy::{Changes, Gateway, Permit, State, Tenant},
};

/// For whom a connection acts.
pub(super) enum Caller {
    /// A tenant's client: for that tenant.
    Tenant(Arc<Tenant>),
    /// A gateway: for the tenants that list it.
    Gateway(GatewayCaller),
    /// A worker: for one tenant, or for all.
    Worker(WorkerCaller),
}

/// A worker that is connected.
pub(super) struct WorkerCaller {
    /// None serves every tenant.
    pub tenant: Option<Arc<Tenant>>,
    /// The SPIFFE ID of its certificate.
    pub identity: String,
}

impl Caller {
    /// The one tenant for whom it acts, if there is one.
    fn tenant(&self) -> Option<&Arc<Tenant>> {
        match self {
            Caller::Tenant(tenant) => Some(tenant),
            Caller::Worker(worker) => worker.tenant.as_ref(),
            Caller::Gateway(_) => None,
        }
    }
}

/// A gateway that is connected.
pub(super) struct GatewayCaller {
    pub name: String,
    record: Arc<Gateway>,
}

/// What the streams of a connection share.
pub(super) struct Peer {
    pub services: Arc<Services>,
    pub caller: Caller,
    /// Whose raises of the window, and whose mixed batches, are counted together.
    pub holder: Holder,
    pub holds: Arc<Holds>,
    pub signals: Signals,
    pub works: Works,
    /// Its number.
    pub connection: u64,
}

/// Why a connection is turned away or closed, with a word for people.
#[derive(Debug)]
struct Closing(CloseCode, String);

impl Closing {
    fn new(code: CloseCode, why: impl Into<String>) -> Self {
        Closing(code, why.into())
    }

    fn close(self, conn: &Connection) {
        /// Reasons are for people; QUIC wants them within one packet.
        const REASON_BYTES_MAX: usize = 512;
        let Closing(code, why) = self;
        let reason = tollgate_protocol::truncate(&why, REASON_BYTES_MAX);
        conn.close(VarInt::from_u32(code.number()), reason.as_bytes());
    }
}

/// Serves a connection from its handshake to its end. `generation` is that of the trust which the
/// handshake is judged by.
pub(super) async fn serve(
    services: Arc<Services>,
    connecting: quinn::Connecting,
    under_way: UnderWay,
    generation: u64,
) {
    let limit = ms(services.config.limits.handshake_timeout_ms);
    let counted = services.metrics.handshake_begins();
    let handshake = tokio::select! {
        // Biased: a broker that ends waits for no handshake.
        biased;
        () = services.stop.cancelled() => return,
        handshake = timeout(limit, connecting) => handshake,
    };
    let conn = match handshake {
        Ok(Ok(conn)) => conn,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            return services.metrics.handshake(Handshake::Failed);
        }
        Err(_) => return services.metrics.handshake(Handshake::TimedOut),
    };
    services.metrics.handshake(Handshake::Completed);
    drop((under_way, counted));
    let metrics = services.metrics.clone();
    match Admitted::judge(services, &conn, generation) {
        Ok(admitted) => {
            let (identity, address) = (admitted.entered.identity(), conn.remote_address());
            let span = tracing::debug_span!("connection", identity, %address);
            admitted.run(conn).instrument(span).await;
        }
        Err(closing) => {
            metrics.connection_refused(closing.0);
            let (code, address) = (closing.0, conn.remote_address());
            tracing::info!(%code, reason = closing.1, %address, "a connection was turned away");
            // The endpoint tells the peer, also after this handle is gone.
            closing.close(&conn);
        }
    }
}

/// A connection whose holder is known and may be here.
struct Admitted {
    peer: Arc<Peer>,
    chain: Vec<CertificateDer<'static>>,
    expires: SystemTime,
    entered: Entered,
    _counted: OpenConnection,
    /// A platform worker is nobody's: only the process bounds its connections.
    _permit: Option<Permit>,
}

impl Admitted {
    fn judge(services: Arc<Services>, conn: &Connection, generation: u64) -> Result<Self, Closing> {
        let connections_max = services.config.limits.connections_max;
        if services.live.len() >= connections_max || services.memory.pressure() >= Pressure::Shed {
            return Err(full());
        }
        let chain = conn
            .peer_identity()
            .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
            .ok_or_else(|| Closing::new(CloseCode::IdentityInvalid, "no client certificate"))?;
        let trust = services.trust.borrow().clone();
        let leaf = chain
            .first()
            .ok_or_else(|| Closing::new(CloseCode::IdentityInvalid, "no client certificate"))?;
        let identity = if trust.generation == generation {
            Identity::from_certificate(leaf, trust.trust.domain())
                .map_err(|e| Closing::new(CloseCode::IdentityInvalid, e.to_string()))?
        } else {
            // Trust changed while the handshake was under way.
            trust.trust.check(&chain, UnixTime::now()).map_err(|e| rejected(&e))?
        };
        let expires = validity(leaf).map_err(|e| rejected(&e))?.not_after;
        let spiffe_id = identity.spiffe_id(trust.trust.domain());
        let (caller, permit, holder) = admit(&services, &identity, &spiffe_id)?;
        let tenant = identity.tenant().cloned();
        let who = (spiffe_id, tenant, holder.clone(), identity.role());
        let entered = services.live.enter(connections_max, who, conn);
        let entered = entered.ok_or_else(full)?;
        let limits = &services.config.limits;
        let holds = Holds::new(limits.stream_window_bytes, limits.connection_window_bytes);
        conn.set_receive_window(VarInt::from_u32(limits.connection_window_bytes));
        conn.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams_first));
        let signals = Signals::default();
        if let Some(tenant) = caller.tenant() {
            services.tenants.book().seen(tenant);
        }
        let counted = services.metrics.connection(identity.role().as_str());
        let (works, connection) = (Works::default(), entered.id());
        let peer = Peer { services, caller, holder, holds, signals, works, connection };
        let peer = Arc::new(peer);
        let chain = *chain;
        Ok(Admitted { peer, chain, expires, entered, _counted: counted, _permit: permit })
    }

    /// Accepts streams until something ends the connection.
    async fn run(self, conn: Connection) {
        let mut streams = Streams::new(&self, &conn);
        let mut trust = self.peer.services.trust.clone();
        let mut tenants = TenantChanges::of(&self.peer.caller);
        let mut drain = self.peer.services.drain.subscribe();
        // A new receiver counts what was said before it as seen; what was said during the
        // handshake, or since the tenant was judged, is news to this connection.
        drain.mark_changed();
        let services = self.peer.services.clone();
        let stop = services.stop.cancelled();
        tokio::pin!(stop);
        let mut expiry = Expiry::new(&self);
        let closing = loop {
            // Biased: what closes the connection goes before what it is used for.
            tokio::select! {
                biased;
                _ = conn.closed() => break None,
                () = &mut stop => break Some(drained()),
                Ok(()) = trust.changed() => {
                    if let Err(closing) = self.check_trust() { break Some(closing) }
                }
                () = tenants.changed() => {
                    if let Err(closing) = self.check_tenant(&streams) { break Some(closing) }
                }
                Ok(()) = drain.changed() => {
                    let now = *drain.borrow_and_update();
                    if let Some(closing) = self.drain(now, &mut streams).await { break Some(closing) }
                }
                over = expiry.next() => {
                    if over {
                        let why = "the certificate has expired";
                        break Some(Closing::new(CloseCode::CertificateExpired, why));
                    }
                    self.peer.signals.update(|s| s.expiring = Some(self.expires));
                }
                Some(end) = streams.ended() => {
                    if let Some(closing) = streams.judge_all(end) { break Some(closing) }
                    if streams.is_empty() && drain.borrow().until().is_some() {
                        break Some(drained());
                    }
                    if let Err(closing) = self.check_leaving(&streams) { break Some(closing) }
                }
                accepted = conn.accept_bi() => match accepted {
                    Ok((send, recv)) => {
                        streams.begin(send, recv);
                        // Many come at once: nothing else is asked for in between.
                        while let Some(Ok((send, recv))) = conn.accept_bi().now_or_never() {
                            streams.begin(send, recv);
                        }
                    }
                    Err(_) => break None,
                },
            }
        };
        if let Some(closing) = closing {
            let (code, identity) = (closing.0, self.entered.identity());
            tracing::info!(%code, reason = closing.1, identity, "a connection is closed");
            services.metrics.connection_closed(closing.0);
            closing.close(&conn);
        }
        // Streams see the connection end, and give back what they hold.
        streams.drop_all().await;
    }

    fn check_trust(&self) -> Result<(), Closing> {
        let trust = self.peer.services.trust.borrow().trust.clone();
        trust.check(&self.chain, UnixTime::now()).map(|_| ()).map_err(|e| rejected(&e))
    }

    /// Looks at whom the connection acts for again. A tenant that is being deleted may finish what
    /// it has begun.
    fn check_tenant(&self, streams: &Streams<'_>) -> Result<(), Closing> {
        let Some(tenant) = self.peer.caller.tenant() else {
            self.peer.signals.update(|s| s.tenants += 1);
            return Ok(());
        };
        if let (true, Some(at)) = (tenant.may_go_on(), tenant.leaves_at()) {
            self.peer.signals.update(|s| (s.draining, s.leaving) = (Some(at), true));
            return self.check_leaving(streams);
        }
        active(tenant)
    }

    /// Ends the connection of a tenant that is being deleted once nothing is open on it.
    fn check_leaving(&self, streams: &Streams<'_>) -> Result<(), Closing> {
        match self.peer.caller.tenant() {
            Some(tenant) if streams.is_empty() && tenant.leaves_at().is_some() => active(tenant),
            _ => Ok(()),
        }
    }

    async fn drain(&self, drain: Drain, streams: &mut Streams<'_>) -> Option<Closing> {
        /// How long what is ended at the last moment has to reach its client.
        const LAST_WORDS: Duration = Duration::from_secs(2);
        match drain {
            Drain::No => None,
            Drain::Until(at) => {
                self.peer.signals.update(|s| s.draining = Some(at));
                streams.is_empty().then(drained)
            }
            Drain::Over => {
                self.peer.signals.update(|s| s.over = true);
                let all = async { while streams.ended().await.is_some() {} };
                let _ = timeout(LAST_WORDS, all).await;
                Some(drained())
            }
        }
    }
}

fn full() -> Closing {
    Closing::new(CloseCode::Overloaded, "the broker has no room for another connection")
}

fn drained() -> Closing {
    Closing::new(CloseCode::Draining, "the broker is shutting down")
}

/// Finds whom an identity may act for, and takes the connection's permit.
fn admit(
    services: &Services,
    identity: &Identity,
    spiffe_id: &str,
) -> Result<(Caller, Option<Permit>, Holder), Closing> {
    let quota = |r: crate::tenancy::Refusal| {
        services.metrics.items().refused(r.quota.name(), r.scope, 1);
        let why = format!("the quota `{}` allows {}", r.quota.name(), r.limit);
        Closing::new(CloseCode::QuotaExceeded, why)
    };
    match (identity.role(), identity.tenant(), identity.name()) {
        (role @ (Role::Client | Role::TenantWorker), Some(id), _) => {
            let tenant = services.tenants.get(id.as_str()).ok_or_else(|| {
                Closing::new(CloseCode::TenantUnknown, format!("there is no tenant `{id}` here"))
            })?;
            active(&tenant)?;
            let permit = tenant.connection().map_err(quota)?;
            let holder = Holder::Tenant(tenant.index());
            let caller = match role {
                Role::TenantWorker => {
                    let identity = spiffe_id.to_owned();
                    Caller::Worker(WorkerCaller { tenant: Some(tenant), identity })
                }
                _ => Caller::Tenant(tenant),
            };
            Ok((caller, Some(permit), holder))
        }
        (Role::PlatformWorker, _, Some(name)) => {
            let worker = WorkerCaller { tenant: None, identity: spiffe_id.to_owned() };
            Ok((Caller::Worker(worker), None, Holder::Worker(name.to_owned())))
        }
        (Role::Gateway, _, Some(name)) => {
            let record = services.tenants.gateway(name);
            active_gateway(&record)?;
            let permit = record.connection().map_err(quota)?;
            let holder = Holder::Gateway(name.to_owned());
            let gateway = GatewayCaller { name: name.to_owned(), record };
            Ok((Caller::Gateway(gateway), Some(permit), holder))
        }
        (role, ..) => {
            let why = format!("a certificate of the role {role} has no business on this listener");
            Err(Closing::new(CloseCode::Forbidden, why))
        }
    }
}

fn active(tenant: &Tenant) -> Result<(), Closing> {
    match tenant.state() {
        State::Active => Ok(()),
        State::Suspended if tenant.leaves_at().is_some() => {
            Err(Closing::new(CloseCode::TenantDeleted, "the tenant is being deleted"))
        }
        State::Suspended => {
            Err(Closing::new(CloseCode::TenantSuspended, "the tenant is suspended"))
        }
        State::Deleted => Err(Closing::new(CloseCode::TenantDeleted, "the tenant was deleted")),
    }
}

fn active_gateway(gateway: &Gateway) -> Result<(), Closing> {
    match gateway.state() {
        State::Active => Ok(()),
        _ => Err(Closing::new(CloseCode::TenantSuspended, "the gateway is suspended")),
    }
}

fn rejected(rejection: &Rejection) -> Closing {
    let code = match rejection {
        Rejection::Revoked | Rejection::Denied => CloseCode::CertificateRevoked,
        Rejection::Expired => CloseCode::CertificateExpired,
        Rejection::UnknownIssuer => CloseCode::TrustRemoved,
        _ => CloseCode::IdentityInvalid,
    };
    Closing::new(code, rejection.to_string())
}

/// Tells a connection when it must look at its tenants again: at first, and after every change.
struct TenantChanges {
    first: bool,
    of: ChangesOf,
}

enum ChangesOf {
    /// A platform worker's: nothing that changes is about it.
    Nobody,
    Tenant(Changes),
    Gateway(watch::Receiver<()>),
}

impl TenantChanges {
    fn of(caller: &Caller) -> Self {
        let of = match caller {
            Caller::Tenant(tenant) | Caller::Worker(WorkerCaller { tenant: Some(tenant), .. }) => {
                ChangesOf::Tenant(tenant.subscribe())
            }
            Caller::Worker(_) => ChangesOf::Nobody,
            Caller::Gateway(gateway) => ChangesOf::Gateway(gateway.record.subscribe()),
        };
        TenantChanges { first: true, of }
    }

    async fn changed(&mut self) {
        if std::mem::take(&mut self.first) {
            return;
        }
        match &mut self.of {
            ChangesOf::Nobody => std::future::pending().await,
            ChangesOf::Tenant(changes) => changes.changed().await,
            // The sender is in the gateway's record, which this connection holds.
            ChangesOf::Gateway(receiver) => drop(receiver.changed().await),
        }
    }
}

/// The two moments of a certificate's end: the notice and the expiry itself.
struct Expiry {
    notice: SystemTime,
    expires: SystemTime,
    noticed: bool,
}

impl Expiry {
    fn new(of: &Admitted) -> Self {
        let ahead = ms(of.peer.services.config.limits.expiry_notice_ms);
        let notice = of.expires.checked_sub(ahead).unwrap_or(SystemTime::UNIX_EPOCH);
        Expiry { notice, expires: of.expires, noticed: false }
    }

    /// Waits for the next of them; true at the expiry. Wall time is looked at again now and then:
    /// clocks are set.
    async fn next(&mut self) -> bool {
        const LOOK_EVERY: Duration = Duration::from_secs(600);
        loop {
            let at = if self.noticed { self.expires } else { self.notice };
            match at.duration_since(SystemTime::now()) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK_EVERY)).await,
                _ => return std::mem::replace(&mut self.noticed, true),
            }
        }
    }
}

fn end_of(task: Result<End, JoinError>) -> End {
    task.unwrap_or_else(|error| {
        tracing::error!(%error, "a stream's task failed");
        End::Unfinished
    })
}

/// The streams of a connection.
struct Streams<'a> {
    of: &'a Admitted,
    conn: &'a Connection,
    tasks: JoinSet<End>,
    /// Streams the peer may have open, and its window, as last told.
    allowed: u32,
    window: u32,
    raises: Vec<Raise>,
    abuse: Abuse,
}

impl<'a> Streams<'a> {
    fn new(of: &'a Admitted, conn: &'a Connection) -> Self {
        let limits = &of.peer.services.config.limits;
        Streams {
            of,
            conn,
            tasks: JoinSet::new(),
            allowed: limits.streams_first,
            window: limits.connection_window_bytes,
            raises: Vec::new(),
            abuse: Abuse::new(limits, Instant::now()),
        }
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn begin(&mut self, mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
        let peer = self.of.peer.clone();
        let permit = match &peer.caller {
            Caller::Gateway(gateway) => match gateway.record.stream() {
                Ok(permit) => Some(permit),
                Err(r) => {
                    peer.services.metrics.items().refused(r.quota.name(), r.scope, 1);
                    let code = stream::varint(tollgate_protocol::close::StreamCode::Refused);
                    let _ = (send.reset(code), recv.stop(code));
                    return;
                }
            },
            Caller::Tenant(_) | Caller::Worker(_) => None,
        };
        // Counted beside its permit, so that there is never one without the other.
        let held = (self.of.entered.stream(), permit);
        // Boxed: a task moves its future some six times from its making to its end.
        self.tasks.spawn(Box::pin(async move {
            let end = stream::serve(peer, send, recv).await;
            drop(held);
            end
        }));
        self.grow();
    }

    /// Allows more streams once half of those allowed are open, and a larger window once they need
    /// it and none is held.
    fn grow(&mut self) {
        let limits = &self.of.peer.services.config.limits;
        let open = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        if open >= self.allowed / 2 && self.allowed < limits.streams_max {
            self.allowed = (self.allowed * 2).min(limits.streams_max);
            self.conn.set_max_concurrent_bi_streams(VarInt::from_u32(self.allowed));
        }
        let wanted =
            open.saturating_mul(limits.stream_window_bytes).min(limits.connection_window_max_bytes);
        // In steps of a doubling, so that it is rarely done.
        let next = self.window.saturating_mul(2).min(limits.connection_window_max_bytes);
        if wanted > self.window && next > self.window && !self.of.peer.holds.any() {
            let by = next - self.window;
            let Some(raise) = self.of.peer.services.windows.take(&self.of.peer.holder, by) else {
                return;
            };
            self.raises.push(raise);
            self.window = next;
            self.conn.set_receive_window(VarInt::from_u32(next));
            self.of.peer.holds.resize(limits.stream_window_bytes, next);
        }
    }

    /// The end of the next stream that ends; never, while there is none.
    async fn ended(&mut self) -> Option<End> {
        self.tasks.join_next().await.map(end_of)
    }

    /// Judges this end, and those of all streams that have ended by now.
    fn judge_all(&mut self, first: End) -> Option<Closing> {
        let mut end = first;
        loop {
            if let Some(closing) = self.judge(end) {
                return Some(closing);
            }
            end = end_of(self.tasks.try_join_next()?);
        }
    }

    fn judge(&mut self, end: End) -> Option<Closing> {
        self.of.peer.services.metrics.stream_ended(match end {
            End::Completed => StreamEnd::Completed,
            End::Reset => StreamEnd::Reset,
            End::Unfinished => StreamEnd::Unfinished,
        });
        let why = self.abuse.note(end, Instant::now())?;
        Some(Closing::new(CloseCode::Abuse, why))
    }

    async fn drop_all(mut self) {
        /// Streams end by themselves once the connection is closed.
        const END_BY_THEMSELVES: Duration = Duration::from_secs(2);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(END_BY_THEMSELVES, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
