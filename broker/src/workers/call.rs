//! An item that was handed over to the workers, from its place in line to its answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::{Context as Poller, Poll, Waker},
    time::Instant,
};

use tokio_util::sync::CancellationToken;
use tollgate_protocol::Code;

use super::{
    Inner, Now, Workers,
    after::After,
    pools::Class,
    state::{RecipeId, SessionId, State},
};
use crate::{
    batch::{
        Call, Claim, Entry, Error, Failure, Mailbox, Phase, Remote, Reply, RunError, Task,
        no_worker,
    },
    rules::fair::{self, Id},
    tenancy::BytesPermit,
};

/// The way from a recipe of the directory to its workers.
pub(super) struct Route {
    pub workers: Weak<Inner>,
    pub recipe: RecipeId,
}

impl Remote for Route {
    fn has_room(&self, claim: &Claim, mailbox: &Arc<Mailbox>) -> bool {
        let Some(workers) = Workers::upgrade(&self.workers) else { return true };
        workers.look(|state| state.has_room(self.recipe, claim, mailbox))
    }

    fn call(&self, task: Task) -> Pin<Box<dyn Call>> {
        let workers = Workers::upgrade(&self.workers);
        let now = workers.as_ref().map_or_else(Now::start, Workers::now);
        let attempts = task.once.as_ref().map_or(0, |once| once.attempts_before);
        let phase = Phase::Waits(now.at);
        let public = Public { waker: None, phase, stopped: None, attempts, outcome: None };
        let cell = Arc::new(Cell {
            recipe: self.recipe,
            task,
            queued_at: now.ns,
            cancel: OnceLock::new(),
            place: Mutex::new(Place::Nowhere),
            public: Mutex::new(public),
        });
        if let Some(workers) = &workers {
            workers.with(|state, after| workers.queue(state, &cell, now, after));
        }
        Box::pin(Queued { workers: self.workers.clone(), cell, room: None })
    }

    fn is_served(&self) -> bool {
        let workers = Workers::upgrade(&self.workers);
        workers.is_some_and(|w| w.look(|state| state.is_served(self.recipe)))
    }
}

impl Workers {
    /// Puts a call in line, and gives it away at once if somebody can take it.
    fn queue(&self, state: &mut State, cell: &Arc<Cell>, now: Now, after: &mut After) {
        if self.lend_now(state, cell, now, after) {
            return;
        }
        match state.push(cell) {
            Some(pool) => self.dispatch(state, pool, now, after),
            None => after.wakers.extend(cell.ends(Err(unknown()), None)),
        }
    }
}

/// A call, shared by its batch and by whoever runs it.
pub(super) struct Cell {
    pub recipe: RecipeId,
    pub task: Task,
    /// When it first stood in line, in nanoseconds since the start.
    pub queued_at: u64,
    /// Made for who asks, as most answers are there at once.
    cancel: OnceLock<CancellationToken>,
    /// Changed under the lock of the state only.
    place: Mutex<Place>,
    /// What its batch sees. A leaf.
    public: Mutex<Public>,
}

/// Where a call is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Nowhere,
    InLine(Id<u32, Class>),
    Leased(SessionId, u64),
}

struct Public {
    waker: Option<Waker>,
    phase: Phase,
    /// Since when its time stands still, if it does.
    stopped: Option<Instant>,
    attempts: u32,
    outcome: Option<Outcome>,
}

/// How a call ended, and the room that a large result took of its tenant's bytes in flight.
type Outcome = (Result<Reply, RunError>, Option<BytesPermit>);

impl Cell {
    pub(super) fn place(&self) -> Place {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moves(&self, to: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Cancelled when nobody waits for it any more. Asked for under the lock of the state, where it
    /// is not given up yet.
    pub(super) fn cancel(&self) -> &CancellationToken {
        self.cancel.get_or_init(CancellationToken::new)
    }

    fn public(&self) -> MutexGuard<'_, Public> {
        self.public.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins; its number, from 1.
    pub(super) fn begins(&self, now: Instant) -> u32 {
        let mut public = self.public();
        (public.phase, public.stopped) = (Phase::Runs(now), None);
        public.attempts += 1;
        public.attempts
    }

    /// The attempt was lost, and another is to be made.
    pub(super) fn waits_again(&self) -> Option<Waker> {
        let mut public = self.public();
        (public.phase, public.stopped) = (Phase::Waits(Instant::now()), None);
        public.waker.take()
    }

    /// What follows is the broker's own delay, which is no running time: until
    /// [`goes_on`](Self::goes_on) of the same attempt.
    pub(super) fn stands_still(&self) {
        self.public().stopped.get_or_insert_with(Instant::now);
    }

    pub(super) fn goes_on(&self) {
        let mut public = self.public();
        public.phase = public.phase_at(Instant::now());
        public.stopped = None;
    }

    pub(super) fn attempts(&self) -> u32 {
        self.public().attempts
    }

    /// It ended; whom to wake.
    pub(super) fn ends(
        &self,
        outcome: Result<Reply, RunError>,
        room: Option<BytesPermit>,
    ) -> Option<Waker> {
        let mut public = self.public();
        public.outcome.get_or_insert((outcome, room));
        public.waker.take()
    }

    /// How it stands in line.
    pub(super) fn line(&self) -> fair::Claim<u32, Class> {
        let claim @ Claim { tenant: key, weight, priority, .. } = self.task.claim;
        // Its running time is the class's, as it is known when it runs.
        let cost = super::pools::cost(0, self.task.payload.len());
        fair::Claim { key, class: Class::of(self.recipe, &claim), weight, priority, cost }
    }
}

impl Public {
    /// An attempt began so much later as its time has stood still.
    fn phase_at(&self, now: Instant) -> Phase {
        match (self.phase, self.stopped) {
            (Phase::Runs(since), Some(at)) => {
                Phase::Runs(since + now.saturating_duration_since(at))
            }
            (phase, _) => phase,
        }
    }
}

/// The batch's end of a call.
struct Queued {
    workers: Weak<Inner>,
    cell: Arc<Cell>,
    /// Given back with the item.
    room: Option<BytesPermit>,
}

impl Call for Queued {
    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Result<Reply, RunError>> {
        let Queued { cell, room, .. } = &mut *self;
        let mut public = cell.public();
        if let Some((outcome, took)) = public.outcome.take() {
            *room = took;
            return Poll::Ready(outcome);
        }
        if !public.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            public.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn phase(&self) -> Phase {
        self.cell.public().phase_at(Instant::now())
    }

    fn attempts(&self) -> u32 {
        self.cell.attempts()
    }

    fn gave_up(&self, entry: &Entry) -> Failure {
        let ms = entry.spec().queue_timeout.as_millis();
        let served = Workers::upgrade(&self.workers)
            .is_some_and(|w| w.look(|state| state.is_served(self.cell.recipe)));
        let failure = if served {
            let message = format!("not started within {ms} ms: its workers were busy");
            Failure::never_started(Code::Timeout, message).detail("phase", "queued")
        } else {
            no_worker(entry)
        };
        let side_effect_free = self.cell.attempts() == 0;
        Failure {
            retryable: side_effect_free || entry.spec().idempotent,
            side_effect_free,
            ..failure
        }
    }

    fn withdraw(self: Pin<&mut Self>) -> bool {
        let cell = &self.cell;
        Workers::upgrade(&self.workers).is_some_and(|workers| {
            workers.with(|state, after| {
                // One that lost its worker stands in line as well, and was begun.
                let never_began = matches!(cell.place(), Place::InLine(_)) && cell.attempts() == 0;
                if never_began {
                    state.give_up(cell, after);
                }
                never_began
            })
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let outcome = self.cell.public().outcome.take();
        drop(outcome);
        // What ended is nowhere: then there is nothing to give up.
        if matches!(self.cell.place(), Place::Nowhere) {
            return;
        }
        let Some(workers) = Workers::upgrade(&self.workers) else { return };
        workers.with(|state, after| state.give_up(&self.cell, after));
        if let Some(cancel) = self.cell.cancel.get() {
            cancel.cancel();
        }
    }
}

fn unknown() -> RunError {
    RunError::Failed(Error::internal("the recipe is not known any more"))
}
