//! An item that was handed over to the workers, from its place in line to its answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::Ordering::Relaxed},
    task::Waker,
    time::Instant,
};

use tokio_util::sync::CancellationToken;
use tollgate_protocol::Code;

use super::{
    Inner, Now, Workers,
    after::After,
    lease::Held,
    pools::Class,
    state::{RecipeId, SessionId, State},
};
use crate::{
    batch::{
        Claim, Errand, Error, Failure, Mailbox, Phase, Remote, Reply, Report, Returned, RunError,
        Sent, Standing, Task, no_worker,
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
    fn room(&self, claim: &Claim, wanted: usize, mailbox: &Arc<Mailbox>) -> usize {
        let Some(workers) = Workers::upgrade(&self.workers) else { return wanted };
        workers.look(|state| state.room(self.recipe, claim, wanted, mailbox))
    }

    fn send(&self, tasks: &mut Vec<Task>, sent: &mut dyn FnMut(Sent)) {
        let workers = Workers::upgrade(&self.workers);
        let now = workers.as_ref().map_or_else(Now::start, Workers::now);
        let cell = |task| {
            let cell = Arc::new(Cell::new(self, task, now));
            sent(Sent::new(cell.clone()));
            cell
        };
        let cells: Vec<Arc<Cell>> = tasks.drain(..).map(cell).collect();
        if let Some(workers) = workers {
            workers.with(|state, after| workers.queue(state, self.recipe, cells, now, after));
        }
    }

    fn is_served(&self) -> bool {
        let workers = Workers::upgrade(&self.workers);
        workers.is_some_and(|w| w.look(|state| state.is_served(self.recipe)))
    }
}

/// A call, shared by its batch and by whoever runs it.
pub(super) struct Cell {
    workers: Weak<Inner>,
    pub recipe: RecipeId,
    pub task: Task,
    /// When it first stood in line, in nanoseconds since the start.
    pub queued_at: u64,
    /// Made for who asks, as most answers are there at once.
    cancel: OnceLock<CancellationToken>,
    /// A leaf.
    open: Mutex<Open>,
}

/// What changes about a call.
struct Open {
    /// Changed under the lock of the state only.
    place: Place,
    /// Whether an attempt runs, and since when it does, or does not.
    runs: bool,
    since: Instant,
    /// Since when its time stands still, if it does.
    stopped: Option<Instant>,
    attempts: u32,
    reported: bool,
    life: Life,
}

/// Where a call is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Nowhere,
    /// Its place among those of its tenant and class.
    InLine((u8, u64)),
    Leased(SessionId, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// It has its outcome, which is on its way back to its batch.
    Ended,
    /// Its batch does not wait for it any more.
    GivenUp,
}

impl Cell {
    fn new(route: &Route, task: Task, now: Now) -> Cell {
        let open = Open {
            place: Place::Nowhere,
            runs: false,
            since: now.at,
            stopped: None,
            attempts: task.common.once.as_ref().map_or(0, |once| once.attempts_before),
            reported: false,
            life: Life::Open,
        };
        Cell {
            workers: route.workers.clone(),
            recipe: route.recipe,
            task,
            queued_at: now.ns,
            cancel: OnceLock::new(),
            open: Mutex::new(open),
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self) -> Place {
        self.open().place
    }

    pub(super) fn moves(&self, to: Place) {
        self.open().place = to;
    }

    /// Cancelled when nobody waits for it any more. Asked for under the lock of the state, where it
    /// is not given up yet.
    pub(super) fn cancel(&self) -> &CancellationToken {
        self.cancel.get_or_init(CancellationToken::new)
    }

    /// An attempt begins under this lease; its number, from 1.
    pub(super) fn begins(&self, session: SessionId, lease: u64, now: Instant) -> u32 {
        let mut open = self.open();
        open.place = Place::Leased(session, lease);
        (open.runs, open.since, open.stopped) = (true, now, None);
        open.attempts += 1;
        open.attempts
    }

    /// The attempt was lost, and another is to be made. Whom to wake.
    pub(super) fn waits_again(&self) -> Option<Waker> {
        let mut open = self.open();
        (open.runs, open.since, open.stopped) = (false, Instant::now(), None);
        drop(open);
        self.task.common.returns.relapsed()
    }

    /// What follows is the broker's own delay, which is no running time: until
    /// [`goes_on`](Self::goes_on) of the same attempt.
    pub(super) fn stands_still(&self) {
        self.open().stopped.get_or_insert_with(Instant::now);
    }

    pub(super) fn goes_on(&self) {
        let mut open = self.open();
        if let Some(at) = open.stopped.take()
            && open.runs
        {
            open.since += at.elapsed();
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.open().attempts
    }

    /// It ended. What goes to its batch; `reports` when its last report goes before that.
    pub(super) fn ends(
        &self,
        outcome: Result<Reply, RunError>,
        ended: Instant,
        reports: bool,
        room: Option<BytesPermit>,
    ) -> Returned {
        let mut open = self.open();
        open.place = Place::Nowhere;
        if open.life == Life::Open {
            open.life = Life::Ended;
        }
        Returned {
            key: self.task.key.load(Relaxed),
            seq: self.task.seq,
            outcome,
            phase: open.phase(),
            ended,
            attempts: open.attempts,
            reported: open.reported || reports,
            room,
        }
    }

    /// Passes on how far it has come; the last report may come with the end. Whom to wake.
    pub(super) fn reports(&self, attempt: u32, held: &Held, is_last: bool) -> Option<Waker> {
        let Held { done, total, ref message } = *held;
        let Task { item_id, ref common, .. } = self.task;
        let report = Report::now(item_id, attempt, (done, total), message);
        let mut open = self.open();
        // Nothing may follow its result.
        let may = open.life == Life::Open || (is_last && open.life == Life::Ended);
        open.reported |= may;
        // Under this lock, so that its batch does not give it up in between.
        if may { common.shared.board.put_open(report) } else { None }
    }

    /// Where it stands in line, when it is at this place there.
    pub(super) fn id(&self, place: (u8, u64)) -> Id<u32, Class> {
        let line = self.line();
        Id::at(line.key, line.class, place)
    }

    /// How it stands in line.
    pub(super) fn line(&self) -> fair::Claim<u32, Class> {
        let claim @ Claim { tenant: key, weight, priority, .. } = self.task.common.claim;
        // Its running time is the class's, as it is known when it runs.
        let cost = super::pools::cost(0, self.task.payload.len());
        fair::Claim { key, class: Class::of(self.recipe, &claim), weight, priority, cost }
    }

    fn in_state(&self, run: impl FnOnce(&mut State, &mut After)) {
        if let Some(workers) = Workers::upgrade(&self.workers) {
            workers.with(run);
        }
    }
}

impl Open {
    /// An attempt began so much later as its time has stood still.
    fn phase(&self) -> Phase {
        match (self.runs, self.stopped) {
            (true, Some(at)) => Phase::Runs(self.since + at.elapsed()),
            (true, None) => Phase::Runs(self.since),
            (false, _) => Phase::Waits(self.since),
        }
    }
}

impl Errand for Cell {
    fn task(&self) -> &Task {
        &self.task
    }

    fn standing(&self) -> Standing {
        let open = self.open();
        Standing {
            phase: open.phase(),
            attempts: open.attempts,
            reported: open.reported,
            is_over: open.life != Life::Open,
        }
    }

    fn gave_up(&self) -> Failure {
        let entry = &self.task.common.entry;
        let ms = entry.spec().queue_timeout.as_millis();
        let served = Workers::upgrade(&self.workers)
            .is_some_and(|w| w.look(|state| state.is_served(self.recipe)));
        let failure = if served {
            let message = format!("not started within {ms} ms: its workers were busy");
            Failure::never_started(Code::Timeout, message).detail("phase", "queued")
        } else {
            no_worker(entry)
        };
        let side_effect_free = self.attempts() == 0;
        Failure {
            retryable: side_effect_free || entry.spec().idempotent,
            side_effect_free,
            ..failure
        }
    }

    fn withdraw(&self) -> bool {
        let mut withdrew = false;
        self.in_state(|state, after| {
            // One that lost its worker stands in line as well, and was begun.
            withdrew = matches!(self.place(), Place::InLine(_)) && self.attempts() == 0;
            if withdrew {
                state.give_up(self, after);
            }
        });
        withdrew
    }

    fn give_up(&self) {
        let mut open = self.open();
        // Its last report, at the latest, is not wanted any more.
        open.life = Life::GivenUp;
        let place = open.place;
        drop(open);
        // What ended is nowhere: then there is nothing to give up.
        if !matches!(place, Place::Nowhere) {
            self.in_state(|state, after| state.give_up(self, after));
            if let Some(cancel) = self.cancel.get() {
                cancel.cancel();
            }
        }
    }
}

pub(super) fn unknown() -> RunError {
    RunError::Failed(Error::internal("the recipe is not known any more"))
}
