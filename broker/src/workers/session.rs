//! A worker's stream as the broker sees it: what it may say, and what it is told.

use std::{
    sync::Arc,
    task::Waker,
    time::{Duration, Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;
use tollgate_protocol::limits::WORK_CREDIT_MAX;

use super::{
    Now, Workers,
    after::After,
    call::Cell,
    lease::{Held, Outgoing, Reported},
    pools,
    state::{Serving, SessionId, State},
};
use crate::{
    batch::{Error, Owner, Reply, RunError},
    events::Kind,
    tenancy::{BytesPermit, Tenant},
};

/// Who works.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// For whom.
    pub owner: Owner,
    /// The tenant's id, when it is a tenant's worker.
    pub tenant: Option<tollgate_protocol::id::TenantId>,
    /// The SPIFFE ID of its certificate.
    pub identity: String,
    /// The number of its connection.
    pub connection: u64,
}

/// A lease that this worker was never given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lease {0} was never given on this stream")]
pub(crate) struct NotLeased(pub u64);

/// What is known of the result of an open call before it is there.
pub(crate) struct Expected {
    /// Whose bytes in flight it counts against.
    pub tenant: Arc<Tenant>,
    /// The largest it may be, in bytes.
    pub result_bytes_max: usize,
    /// Bytes in flight that the item holds already and its answer may use.
    pub reserved: usize,
    /// Cancelled when nobody waits for it any more.
    pub cancel: CancellationToken,
    cell: Arc<Cell>,
}

impl Expected {
    /// Stops the time of the call while the result waits for room: that is not the worker's doing.
    pub(crate) fn stop_time(&self) -> Stopped {
        self.cell.stands_still();
        Stopped(self.cell.clone())
    }
}

/// The time of a call stands still until this is dropped.
#[must_use = "dropping it lets the time go on"]
pub(crate) struct Stopped(Arc<Cell>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.goes_on();
    }
}

/// A worker. Its leases are lost when this is dropped.
pub(crate) struct Session {
    pub(super) workers: Workers,
    pub(super) id: SessionId,
    owner: Owner,
}

impl Workers {
    /// A worker has come. It serves nothing until it registers recipes.
    pub(crate) fn enter(&self, who: Who, credit: u32) -> Session {
        let credit = credit.min(self.0.config.credit_max).min(WORK_CREDIT_MAX);
        let serving = Serving {
            owner: who.owner,
            identity: who.identity.as_str().into(),
            tenant: who.tenant.as_ref().map(ToString::to_string),
            connection: who.connection,
            since: SystemTime::now(),
            recipes: Vec::new(),
            listed: Vec::new(),
            pool: None,
            credit,
            leases: Default::default(),
            next_lease: 1,
            draining: false,
            outgoing: Vec::new(),
            waker: None,
            answered: 0,
            failed: 0,
        };
        let id = self.look(|state| state.enter(serving));
        let joined = Kind::WorkerJoined { worker: id, identity: who.identity };
        self.0.events.publish(who.tenant.as_ref(), joined);
        Session { workers: self.clone(), id, owner: who.owner }
    }
}

impl Session {
    /// For whom it works.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Moves what the worker is to be told into an empty list, and asks to be woken when there is
    /// more.
    pub(crate) fn take(&self, into: &mut Vec<Outgoing>, waker: &Waker) {
        self.workers.look(|state| {
            let Some(serving) = state.sessions.get_mut(&self.id) else { return };
            if !serving.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                serving.waker = Some(waker.clone());
            }
            std::mem::swap(&mut serving.outgoing, into);
        })
    }

    /// The worker takes this many calls more at once, as far as a worker may.
    pub(crate) fn add_credit(&self, add: u32) {
        let max = self.workers.0.config.credit_max.min(WORK_CREDIT_MAX);
        self.workers.with(|state, after| {
            let Some(serving) = state.sessions.get_mut(&self.id) else { return };
            let before = serving.free();
            serving.credit = serving.credit.saturating_add(add).min(max);
            let more = serving.free() - before;
            let Some(pool) = serving.pool else { return };
            if let Some(pool) = state.pools.get_mut(&pool) {
                pool.free += more;
            }
            state.enlist(self.id);
            self.workers.dispatch(state, pool, self.workers.now(), after);
        });
    }

    /// The worker takes no more calls.
    pub(crate) fn drain(&self) {
        self.workers.look(|state| {
            let Some(serving) = state.sessions.get_mut(&self.id) else { return };
            let free = serving.free();
            serving.draining = true;
            if let Some(pool) = serving.pool.and_then(|pool| state.pools.get_mut(&pool)) {
                pool.free = pool.free.saturating_sub(free);
            }
        });
    }

    /// Whether the worker drains and has answered everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.workers.look(|state| {
            let serving = state.sessions.get(&self.id);
            serving.is_none_or(|s| s.draining && s.leases.is_empty())
        })
    }

    /// The worker says how far a call has come. Reports that come too often are dropped.
    ///
    /// # Errors
    /// [`NotLeased`].
    pub(crate) fn progress(
        &self,
        lease: u64,
        done: u64,
        total: u64,
        message: &str,
    ) -> Result<(), NotLeased> {
        let now = Instant::now();
        let found = self.workers.look(|state| {
            let Some(serving) = state.sessions.get_mut(&self.id) else { return Ok(None) };
            let Some(open) = serving.leases.get_mut(&lease) else {
                return if serving.gave(lease) { Ok(None) } else { Err(NotLeased(lease)) };
            };
            let held = Held { done, total, message: message.to_owned() };
            match &mut open.reported {
                Some(last) if now.duration_since(last.at) < REPORT_INTERVAL => {
                    // The one before it is dropped for good.
                    state.reports_dropped += u64::from(last.held.is_some());
                    last.held = Some(held);
                    return Ok(None);
                }
                last => *last = Some(Box::new(Reported { at: now, held: None })),
            }
            Ok(open.cell.clone().map(|cell| (cell, open.attempt, held)))
        })?;
        if let Some((cell, attempt, held)) = found {
            let waker = cell.reports(attempt, &held, false);
            waker.into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    /// The worker answers a call; `room` is what a large result took of its tenant's bytes in
    /// flight.
    ///
    /// # Errors
    /// [`NotLeased`]; an answer that nobody waits for any more is counted, and no error.
    pub(crate) fn answer(
        &self,
        lease: u64,
        answer: Result<Reply, WorkError>,
        room: Option<BytesPermit>,
    ) -> Result<(), NotLeased> {
        self.answers([(lease, answer, room)])
    }

    /// The worker answers calls, as many as were read in one go.
    ///
    /// # Errors
    /// [`NotLeased`]: those after it are not heard.
    pub(crate) fn answers(&self, all: impl IntoIterator<Item = Answered>) -> Result<(), NotLeased> {
        let now = self.workers.now();
        self.workers.with(|state, after| {
            let heard = state.answered(self.id, all, now, after);
            self.workers.went_on(state, self.id, now, after);
            heard
        })
    }

    /// The payload of a call that is open.
    pub(crate) fn payload(&self, lease: u64) -> Option<bytes::Bytes> {
        self.workers.look(|state| {
            let lease = state.sessions.get(&self.id)?.leases.get(&lease)?;
            lease.cell.as_ref().map(|cell| cell.task.payload.clone())
        })
    }

    /// What an open call allows its result; or that nobody waits for one any more.
    ///
    /// # Errors
    /// [`NotLeased`].
    pub(crate) fn expects(&self, lease: u64) -> Result<Option<Expected>, NotLeased> {
        self.workers.look(|state| {
            let Some(serving) = state.sessions.get(&self.id) else { return Ok(None) };
            match serving.leases.get(&lease) {
                Some(open) => Ok(open.cell.as_ref().map(|cell| Expected {
                    tenant: cell.task.common.tenant.clone(),
                    result_bytes_max: cell.task.common.entry.spec().result_bytes_max,
                    reserved: cell.task.payload.len(),
                    cancel: cell.cancel().clone(),
                    cell: cell.clone(),
                })),
                None if serving.gave(lease) => Ok(None),
                None => Err(NotLeased(lease)),
            }
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let workers = self.workers.clone();
        let left = workers.with(|state, after| workers.left(state, self.id, after));
        if let Some((tenant, identity, lost)) = left {
            let kind = Kind::WorkerLeft { worker: self.id, identity, lost };
            let tenant = tenant.and_then(|t| tollgate_protocol::id::TenantId::parse(&t).ok());
            workers.0.events.publish(tenant.as_ref(), kind);
        }
    }
}

/// A lease, what it came to, and the room that a large result took.
pub(crate) type Answered = (u64, Result<Reply, WorkError>, Option<BytesPermit>);

/// What a worker reports instead of a result.
#[derive(Debug)]
pub(crate) enum WorkError {
    /// The recipe failed.
    Failed(Error),
    /// It panicked, with this message.
    Panicked(String),
    /// The answer did not come whole.
    Cut,
}

impl State {
    fn answered(
        &mut self,
        session: SessionId,
        all: impl IntoIterator<Item = Answered>,
        now: Now,
        after: &mut After,
    ) -> Result<(), NotLeased> {
        let State { sessions, recipes, pools, .. } = self;
        let Some(serving) = sessions.get_mut(&session) else { return Ok(()) };
        let mut pool = serving.pool.and_then(|pool| pools.get_mut(&pool));
        let all = all.into_iter();
        after.expect(all.size_hint().0);
        let mut again = Vec::new();
        let mut heard = Ok(());
        for (number, answer, room) in all {
            let Some(mut lease) = serving.leases.remove(&number) else {
                if !serving.gave(number) {
                    heard = Err(NotLeased(number));
                    break;
                }
                self.late += 1;
                continue;
            };
            match &answer {
                Ok(_) => serving.answered += 1,
                Err(_) => serving.failed += 1,
            }
            // A worker that drains is told once it has nothing left.
            if serving.draining && serving.leases.is_empty() {
                after.wakers.extend(serving.waker.take());
            }
            let took = now.ns.saturating_sub(lease.since_ns);
            let mut bytes = answer.as_ref().map_or(0, |reply| reply.payload().len());
            if let Some(cell) = &lease.cell {
                bytes += cell.task.payload.len();
            }
            if let Some(known) = recipes.get_mut(&lease.recipe) {
                known.mean_ns = pools::learn(known.mean_ns, took);
            }
            if let Some(pool) = &mut pool {
                pool.free += u64::from(!serving.draining && serving.free() > 0);
                if let Some(charged) = lease.charged {
                    let more = i128::from(pools::cost(took, bytes)) - i128::from(charged);
                    let more = more.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
                    pool.queue.correct(lease.tenant, lease.weight, more);
                }
            }
            after.slots.extend(lease.slot.take());
            let Some(cell) = lease.cell.take() else {
                self.late += 1;
                continue;
            };
            match &answer {
                Ok(_) => self.succeeded += 1,
                Err(_) => self.failed += 1,
            }
            if matches!(answer, Err(WorkError::Cut)) && may_run_again(&cell) {
                again.push(cell);
                continue;
            }
            let held = lease.reported.and_then(|reported| reported.held);
            let reports = held.is_some();
            after.reports.extend(held.map(|held| (cell.clone(), lease.attempt, held)));
            let outcome = answer.map_err(|e| match e {
                WorkError::Failed(e) => RunError::Failed(e),
                WorkError::Panicked(message) => RunError::Panicked(message),
                WorkError::Cut => RunError::Lost("its answer was cut off".to_owned()),
            });
            let returned = cell.ends(outcome, now.at, reports, room);
            after.ends(cell, returned);
        }
        for cell in again {
            self.stands_again(&cell, after);
        }
        heard
    }

    /// A call whose attempt was lost stands in line for another.
    fn stands_again(&mut self, cell: &Arc<Cell>, after: &mut After) {
        after.wakers.extend(cell.waits_again());
        self.push(cell);
    }
}

/// Whether a call that was begun, and lost, may be begun again.
fn may_run_again(cell: &Cell) -> bool {
    let common = &cell.task.common;
    let spec = common.entry.spec();
    // Who tries just once keeps count elsewhere.
    spec.idempotent && cell.attempts() < spec.retry.attempts_max && common.once.is_none()
}

impl Workers {
    /// A worker is gone: its calls go to others or end, its recipes may have nobody left.
    fn left(
        &self,
        state: &mut State,
        session: SessionId,
        after: &mut After,
    ) -> Option<(Option<String>, String, u64)> {
        let mut serving = state.sessions.remove(&session)?;
        if let Some(pool) = serving.pool.and_then(|pool| state.pools.get_mut(&pool)) {
            // Its leases are not in this map any more once they are taken out below.
            pool.free = pool.free.saturating_sub(serving.free());
            pool.sessions.retain(|s| *s != session);
        }
        let now = self.now();
        for recipe in &serving.recipes {
            let Some(known) = state.recipes.get_mut(recipe) else { continue };
            known.serving.retain(|(s, _)| *s != session);
            known.ready.retain(|(s, _)| *s != session);
            if known.serving.is_empty() {
                known.left = Some(now.at);
                state.set_apart(*recipe);
            }
        }
        let mut leases: Vec<_> = serving.leases.drain().collect();
        leases.sort_unstable_by_key(|(number, _)| *number);
        let mut lost = 0;
        for (_, mut lease) in leases {
            after.slots.extend(lease.slot.take());
            // Also those that nobody waits for any more: it never answered them.
            lost += 1;
            let Some(cell) = lease.cell.take() else { continue };
            Workers::lose(state, cell, now.at, after);
        }
        state.lost += lost;
        after.outgoing.append(&mut serving.outgoing);
        self.dispatch_all(state, now, after);
        Some((serving.tenant, serving.identity.to_string(), lost))
    }

    /// A call's worker is gone: it stands in line again, or ends.
    fn lose(state: &mut State, cell: Arc<Cell>, now: Instant, after: &mut After) {
        if may_run_again(&cell) && state.recipes.contains_key(&cell.recipe) {
            state.stands_again(&cell, after);
            return;
        }
        let message = match cell.attempts() {
            1 => "its worker is gone".to_owned(),
            n => format!("its worker is gone, the {n}th that had it"),
        };
        let returned = cell.ends(Err(RunError::Lost(message)), now, false, None);
        after.ends(cell, returned);
    }
}

/// Progress of one call is passed on at most this often; somewhat more than workers are asked for.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);
