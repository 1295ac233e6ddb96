//! One attempt of one item that belongs to no stream: a job's.
//!
//! Takes its place in the same lines as the items of batches, under the same bounds, and runs the
//! same code. Who asks for it owns the retries, the record and the result.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tollgate_protocol::{Code, PairsBuf, id::BatchId};

use super::{
    Context, Entry, Handler, Mailbox, RunError,
    context::{Room, Shared},
    ending::Ending,
    engine::Engine,
    ledger::Times,
    outcome::{Failure, Outcome},
    pending::{About, End, Finished, Item, Pending, Work},
    pool::Turn,
    remote::{Begun, Call, Checked, Common, Once, Remote, Returns, Single, Task},
    run::{bounded, on_pool},
    slots::{Claim, Slot},
    trace::Trace,
};
use crate::{metrics, metrics::duration::nanos, tenancy, tenancy::Tenant};

/// What is to be run.
pub(crate) struct Alone {
    pub tenant: Arc<Tenant>,
    pub entry: Arc<Entry>,
    pub item: u64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    pub priority: u8,
    /// The longest it may run.
    pub timeout: Duration,
    pub metadata: PairsBuf,
    pub payload: Bytes,
    /// Called once, when it begins.
    pub begun: Begun,
    /// Waited for after that, before anything of it is run.
    pub gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// How it ended.
pub(crate) struct Ran {
    pub outcome: Outcome,
    pub running: Duration,
}

/// Where the progress of an attempt is seen, and what stops it.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

impl Watch {
    /// For an attempt of an item of this batch.
    pub(crate) fn new(batch: BatchId, traceparent: Option<Box<str>>) -> Watch {
        Watch(Arc::new(Shared::new(batch, Trace { traceparent, ..Trace::none() })))
    }

    /// The newest report that was not taken yet, as soon as there is one.
    pub(crate) async fn report(&self) -> super::Report {
        poll_fn(|cx| match self.0.board.take(cx.waker()).pop() {
            Some(report) => Poll::Ready(report),
            None => Poll::Pending,
        })
        .await
    }
}

/// As long as nobody has to wait who waits for a job's start.
const NO_LIMIT: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

impl Engine {
    /// Runs it, once everything that it counts against has room. Dropping the future stops it.
    pub(crate) async fn run_alone(&self, mut alone: Alone, watch: &Watch) -> Ran {
        let Alone { tenant, entry, item: id, attempt, .. } = &alone;
        let (tenant, entry, id, attempt) = (tenant.clone(), entry.clone(), *id, *attempt);
        let gate = alone.gate.take();
        let arrived = Instant::now();
        let len = alone.payload.len();
        let settings = tenant.settings();
        let claim = Claim {
            tenant: tenant.index(),
            tenant_max: settings.concurrency,
            weight: settings.weight,
            recipe: entry.index,
            recipe_max: entry.spec.concurrency_max,
            group: entry.group,
            priority: alone.priority,
        };
        // Before the slot: nobody waits for the one while holding the other.
        let bytes = tenant.reserve_bytes_wait(len + entry.result_reserve()).await;
        let item = Item {
            seq: 0,
            id,
            tenant: tenant.clone(),
            entry: entry.clone(),
            payload_len: len,
            timeout: alone.timeout,
            queue_timeout: NO_LIMIT,
            arrived,
        };
        let turn =
            Turn { tenant: tenant.index(), weight: settings.weight, priority: alone.priority };
        let shared = watch.0.clone();
        let cancel = shared.cancel.child_token();
        let metadata = (!alone.metadata.is_empty()).then(|| Arc::new(alone.metadata.clone()));
        let (payload, timeout) = (alone.payload.clone(), alone.timeout);
        let pending = match entry.handler.remote() {
            Some(remote) => {
                self.remote_room(remote, &claim).await;
                let mut begun = Some(alone.begun.clone());
                if let Some(gate) = gate {
                    begun = None;
                    (alone.begun)();
                    gate.await;
                }
                let once = Some(Once { attempts_before: attempt - 1, begun });
                let returns = Arc::new(Returns::default());
                let (tenant, entry) = (tenant.clone(), entry.clone());
                let common = Common { tenant, entry, shared, claim, returns, once };
                let common = Arc::new(common);
                let task = Task {
                    common,
                    key: AtomicUsize::default(),
                    seq: 0,
                    item_id: id,
                    payload,
                    metadata,
                    timeout,
                };
                let call: Pin<Box<dyn Call>> = if item.entry.checks_on_pool(len) {
                    Box::pin(Checked::new(&self.pool, turn, task))
                } else {
                    Box::pin(Single::send(&**remote, task))
                };
                let cancel = Some(cancel.clone());
                Pending::new(item, Instant::now(), Work::Call(call), cancel, (None, bytes)).timed()
            }
            None => {
                let slot = self.slot(claim).await;
                (alone.begun)();
                if let Some(gate) = gate {
                    gate.await;
                }
                let began = Instant::now();
                shared.board.begin(id);
                let ctx = Context {
                    shared,
                    tenant: tenant.id().clone(),
                    recipe: entry.name.clone(),
                    item_id: id,
                    attempt,
                    deadline: began.checked_add(timeout),
                    cancel: cancel.clone(),
                    metadata,
                    room: Some(Room {
                        tenant: tenant.clone(),
                        held: bytes.amount().saturating_sub(len),
                    }),
                };
                let work = match &entry.handler {
                    Handler::Recipe(recipe) if !on_pool(&entry, len) => {
                        let recipe = recipe.clone();
                        let check = entry
                            .checks_on_pool(len)
                            .then(|| self.pool.check(turn, entry.clone(), payload.clone()));
                        Work::Checked(Box::pin(async move {
                            if let Some(check) = check {
                                check.await?;
                            }
                            recipe.start(ctx, payload).await.map_err(RunError::Failed)
                        }))
                    }
                    // What answers at once may do so on the pool as well: a job is in no hurry.
                    _ => {
                        let running = self.pool.run(turn, entry.clone(), ctx, payload, timeout);
                        Work::Call(Box::pin(running))
                    }
                };
                let cancel = Some(cancel.clone());
                Pending::new(item, began, work, cancel, (Some(slot), bytes)).timed()
            }
        };
        // Whoever drops this stops what the pool or a worker has.
        let stop = cancel.drop_guard();
        let finished = pending.await;
        drop(stop);
        self.account(finished, &tenant)
    }

    async fn remote_room(&self, remote: &Arc<dyn Remote>, claim: &Claim) {
        let mailbox = Arc::new(Mailbox::default());
        poll_fn(|cx| {
            mailbox.take(cx.waker());
            match remote.room(claim, 1, &mailbox) {
                0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    async fn slot(&self, claim: Claim) -> Slot {
        if let Some(slot) = self.slots.try_take(claim) {
            return slot;
        }
        let mailbox = Arc::new(Mailbox::default());
        let place = self.slots.wait(claim, 0, &mailbox);
        poll_fn(
            |cx| {
                if mailbox.take(cx.waker()).is_empty() { Poll::Pending } else { Poll::Ready(()) }
            },
        )
        .await;
        place.redeem()
    }

    /// Counts it, as the items of batches are counted.
    fn account(&self, f: Finished, tenant: &Arc<Tenant>) -> Ran {
        let About { entry, payload_len, arrived, .. } = f.item.about();
        let End { started, ended, attempts, outcome, .. } = f.end;
        let outcome = bounded(entry, outcome);
        let running = ended.saturating_duration_since(started);
        let queued = started.saturating_duration_since(arrived);
        let times = Times { queued: nanos(queued), running: nanos(running) };
        let latency = times.queued.wrapping_add(times.running);
        let began = attempts > 0;
        let (mut of_tenant, mut of_recipe) = (tenancy::Lap::default(), metrics::Lap::default());
        if began {
            of_recipe.started += 1;
            of_recipe.running.note(times.running);
            of_recipe.queued.note(times.queued);
        }
        match &outcome {
            Ok(reply) => {
                entry.learn_result(reply.payload().len());
                of_tenant.succeeded(payload_len, reply.payload().len(), latency);
                of_recipe.succeeded += 1;
            }
            Err(failure) => {
                let latency = began.then_some(latency);
                of_tenant.failed(payload_len, failure.code, latency);
                of_recipe.failed(failure.code);
            }
        }
        self.book.fold(tenant, &mut of_tenant, ended);
        self.metrics.items().fold(Some(entry.label), &mut of_recipe);
        Ran { outcome, running }
    }
}

impl Failure {
    /// What a batch is told whose jobs are not over when the broker stops.
    pub(crate) fn jobs_go_on() -> Failure {
        let message = "the broker is shutting down: jobs go on when it is back, attach to read on";
        Failure { side_effect_free: false, ..Failure::new(Code::Draining, message) }
    }

    /// What a job is told that was given up.
    pub(crate) fn job_cancelled() -> Failure {
        Ending::CANCELLED.stopped()
    }
}
