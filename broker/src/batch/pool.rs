//! The bounded pool of threads for recipes that block a core, shared fairly between tenants.
//!
//! Who is next is decided by `rules::fair`: weighted deficit round robin over tenants, where the
//! cost is running time, charged at the recipe's mean and corrected when it is known. Nothing here
//! interrupts a thread: an item that timed out occupies its own until the recipe returns.

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context as Poller, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;
use tollgate_protocol::Code;

use super::{
    Context, Error, Reply,
    catalog::{Entry, Handler},
    outcome::Failure,
    pending::panic_message,
    remote::{Call, Phase},
    validate,
};
use crate::rules::fair::{Claim, Fair, Id, Turns};

/// How large the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Threads, each at most one recipe at a time. Default: one a core, at least 2.
    pub threads: usize,
    /// Items of one tenant that wait; 1 024. One more is refused.
    pub queue_per_tenant_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Config { threads: cores.max(2), queue_per_tenant_max: 1_024 }
    }
}

/// A tenant's claim to a thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// The tenant's index.
    pub tenant: u32,
    /// Its share relative to others'.
    pub weight: u32,
    /// Among its own items, 7 first.
    pub priority: u8,
}

/// What a tenant is charged for before it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// The index of the recipe, whose mean running time it is.
    index: u32,
    /// What it is as long as the recipe has never run.
    guess: Duration,
}

impl Cost {
    pub(crate) fn of(recipe: &Entry) -> Self {
        Cost { index: recipe.index, guess: recipe.spec.estimated_duration }
    }
}

/// The tenant has as many items waiting as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many blocking items of the tenant wait")]
pub(crate) struct Full;

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The recipe reported an error.
    Failed(Error),
    /// The payload did not pass; the recipe was not started.
    Refused(Error),
    /// The recipe panicked, with this message.
    Panicked(String),
    /// It never started: the tenant has too many waiting.
    Full,
    /// What ran it is gone, and nobody knows how far it came.
    Lost(String),
}

/// What the pool is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Threads that run a recipe, those whose item has ended already among them.
    pub running: usize,
    /// Items that wait for a thread.
    pub queued: usize,
}

/// The pool. Cheap to clone; the threads end, each after what it runs, with the last clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Owner>);

struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signalled once for each job that is queued, and for all at the end.
    work: Condvar,
    queue_per_tenant_max: usize,
    threads: usize,
    base: Instant,
}

struct State {
    queue: Fair<u32, Queued>,
    /// The mean running time of each recipe, by its index, in nanoseconds; 0: never ran.
    means: Vec<u64>,
    running: usize,
    closing: bool,
}

struct Queued {
    job: Job,
    weight: u32,
    recipe: u32,
    /// What the tenant was charged, in nanoseconds.
    charged: u64,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(config: Config) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Fair::new(TURNS),
                means: Vec::new(),
                running: 0,
                closing: false,
            }),
            work: Condvar::new(),
            queue_per_tenant_max: config.queue_per_tenant_max,
            threads: config.threads.max(1),
            base: Instant::now(),
        });
        // Made before the threads: if one can not start, those that did end with it.
        let pool = Pool(Arc::new(Owner(shared.clone())));
        for i in 0..shared.threads {
            let shared = shared.clone();
            thread::Builder::new().name(format!("pool-{i}")).spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// How many threads there are.
    pub(crate) fn threads(&self) -> usize {
        self.0.0.threads
    }

    /// Queues a job of a recipe; the place is where it waits. A panic in it is caught.
    pub(crate) fn submit(
        &self,
        turn: Turn,
        recipe: Cost,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<Id<u32>, Full> {
        let Turn { tenant, weight, priority } = turn;
        let shared = &self.0.0;
        let job = Box::new(job);
        let now = shared.now();
        let mut state = shared.lock();
        if state.queue.len_of(&tenant) >= shared.queue_per_tenant_max {
            return Err(Full);
        }
        let charged = match state.means.get(recipe.index as usize) {
            None | Some(0) => nanos(recipe.guess.max(FIRST_GUESS)),
            Some(&mean) => mean,
        };
        let queued = Queued { job, weight, recipe: recipe.index, charged };
        let claim = Claim { key: tenant, class: (), weight, priority, cost: charged };
        let place = state.queue.push(claim, now, queued);
        drop(state);
        shared.work.notify_one();
        Ok(place)
    }

    /// Runs an item on the pool. Dropping the future takes the item out of its place, with its
    /// payload, or cancels the context's token once it runs.
    pub(crate) fn run(
        &self,
        turn: Turn,
        entry: Arc<Entry>,
        ctx: Context,
        payload: Bytes,
        timeout: Duration,
    ) -> Running {
        let (answer, outcome) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let cancel = ctx.cancellation().clone();
        // A recipe that waits needs the runtime's timers and sockets; one that only computes does
        // not.
        let runtime = Handle::try_current().ok();
        let cost = Cost::of(&entry);
        let task = Task { entry, ctx, payload, timeout, runtime, begin, answer };
        let place = self.submit(turn, cost, move || task.run()).ok();
        let begun = Some(begun);
        Running {
            queued: Instant::now(),
            begun,
            started: None,
            outcome,
            place,
            cancel,
            shared: self.0.0.clone(),
        }
    }

    /// Checks a long payload against its recipe's schema, on a thread. Dropping the future does not
    /// take the check out of its place.
    pub(crate) fn check(
        &self,
        turn: Turn,
        entry: Arc<Entry>,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), RunError>> + Send + use<> {
        let (answer, outcome) = oneshot::channel();
        let place = self.submit(turn, Cost::of(&entry), move || {
            // Nobody waits any more when the item was cancelled.
            let _ = answer.send(validate::check(&entry, &payload));
        });
        async move {
            place.map_err(|Full| RunError::Full)?;
            outcome.await.unwrap_or_else(|_| Err(stopped())).map_err(RunError::Refused)
        }
    }

    /// What it is doing now.
    pub(crate) fn stats(&self) -> Stats {
        let state = self.0.0.lock();
        Stats { running: state.running, queued: state.queue.len() }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pool").field(&self.stats()).finish()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closing = true;
        let unstarted = std::mem::replace(&mut state.queue, Fair::new(TURNS));
        drop(state);
        self.0.work.notify_all();
        // Those who wait for what never started are told; not under the lock.
        drop(unstarted);
    }
}

impl Shared {
    /// One thread's life.
    fn work(&self) {
        while let Some((tenant, Queued { job, weight, recipe, charged })) = self.next() {
            let started = Instant::now();
            // What the job touches is its own: nothing half-done is seen after a panic.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a job of the pool panicked outside its recipe");
            }
            let took = nanos(started.elapsed());
            let mut state = self.lock();
            state.running -= 1;
            let more = i128::from(took) - i128::from(charged);
            let more = more.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            state.queue.correct(tenant, weight, more);
            state.learn(recipe, took);
        }
    }

    /// Waits for the next job; `None` when the pool ends.
    fn next(&self) -> Option<(u32, Queued)> {
        let mut state = self.lock();
        loop {
            if state.closing {
                return None;
            }
            if let Some(next) = state.queue.pop(self.now()) {
                state.running += 1;
                return Some(next);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn now(&self) -> u64 {
        nanos(self.base.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Moves the recipe's mean an eighth of the way to the newest running time.
    fn learn(&mut self, recipe: u32, took: u64) {
        let recipe = recipe as usize;
        if recipe >= self.means.len() {
            self.means.resize(recipe + 1, 0);
        }
        let mean = &mut self.means[recipe];
        // At least 1, which tells a recipe that ran from one that never did.
        *mean = if *mean == 0 { took.max(1) } else { (*mean - *mean / 8 + took / 8).max(1) };
    }
}

/// An item on its way to a thread.
struct Task {
    entry: Arc<Entry>,
    ctx: Context,
    payload: Bytes,
    /// How long it may run, from when a thread begins with it.
    timeout: Duration,
    runtime: Option<Handle>,
    begin: oneshot::Sender<Instant>,
    answer: oneshot::Sender<Result<Reply, RunError>>,
}

impl Task {
    fn run(self) {
        let Task { entry, mut ctx, payload, timeout, runtime, begin, answer } = self;
        let now = Instant::now();
        ctx.deadline = Some(now + timeout);
        // Nobody cares any more when the item was cancelled.
        let _ = begin.send(now);
        let ran = catch_unwind(AssertUnwindSafe(|| run_here(&entry, ctx, payload, runtime)));
        let outcome = match ran {
            Ok(outcome) => outcome,
            Err(panic) => Err(RunError::Panicked(panic_message(&*panic))),
        };
        // Nobody waits any more when the item timed out.
        let _ = answer.send(outcome);
    }
}

fn run_here(
    entry: &Entry,
    ctx: Context,
    payload: Bytes,
    runtime: Option<Handle>,
) -> Result<Reply, RunError> {
    if entry.checks_on_pool(payload.len()) {
        validate::check(entry, &payload).map_err(RunError::Refused)?;
    }
    match &entry.handler {
        Handler::Inline(recipe) => {
            let mut reply = Reply::new();
            recipe.run(&ctx.as_inline(), &payload, &mut reply).map_err(RunError::Failed)?;
            Ok(reply)
        }
        Handler::Remote(_) => Err(RunError::Failed(Error::internal("it runs elsewhere"))),
        Handler::Recipe(recipe) => {
            let runtime =
                runtime.ok_or_else(|| RunError::Failed(Error::internal("there is no runtime")))?;
            let cancel = ctx.cancellation().clone();
            let future = recipe.clone().start(ctx, payload);
            let outcome = runtime.block_on(async {
                tokio::select! {
                    // Biased: what is cancelled already does not begin.
                    biased;
                    () = cancel.cancelled() => Err(stopped()),
                    outcome = future => outcome,
                }
            });
            outcome.map_err(RunError::Failed)
        }
    }
}

/// An item on the pool; resolves when it ended.
pub(crate) struct Running {
    queued: Instant,
    begun: Option<oneshot::Receiver<Instant>>,
    started: Option<Instant>,
    outcome: oneshot::Receiver<Result<Reply, RunError>>,
    /// Where it waits, or waited; `None` when there was no room.
    place: Option<Id<u32>>,
    cancel: CancellationToken,
    shared: Arc<Shared>,
}

impl Call for Running {
    fn phase(&self) -> Phase {
        self.started.map_or(Phase::Waits(self.queued), Phase::Runs)
    }

    fn attempts(&self) -> u32 {
        u32::from(self.started.is_some())
    }

    fn gave_up(&self, entry: &Entry) -> Failure {
        never_ran(entry)
    }

    fn withdraw(mut self: Pin<&mut Self>) -> bool {
        let waiting = self.place.and_then(|place| self.shared.lock().queue.remove(place));
        if waiting.is_some() {
            self.place = None;
        }
        waiting.is_some()
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Result<Reply, RunError>> {
        Future::poll(self, cx)
    }
}

impl Future for Running {
    type Output = Result<Reply, RunError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        if self.place.is_none() {
            return Poll::Ready(Err(RunError::Full));
        }
        if let Some(begun) = &mut self.begun
            && let Poll::Ready(at) = Pin::new(begun).poll(cx)
        {
            (self.begun, self.started) = (None, at.ok());
        }
        let answer = std::task::ready!(Pin::new(&mut self.outcome).poll(cx));
        // It may have begun, and ended, since the look above.
        if let Some(mut begun) = self.begun.take() {
            self.started = begun.try_recv().ok();
        }
        // The sender is dropped unused only when the pool ends with the item still queued.
        Poll::Ready(answer.unwrap_or_else(|_| Err(RunError::Failed(stopped()))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
        if self.outcome.is_terminated() {
            return;
        }
        let waiting = self.place.take().and_then(|place| self.shared.lock().queue.remove(place));
        // The payload goes with it; not under the lock.
        drop(waiting);
    }
}

/// No thread began with the item in time.
pub(super) fn never_ran(entry: &Entry) -> Failure {
    let ms = entry.spec.queue_timeout.as_millis();
    let message = format!("not started within {ms} ms: every thread that may block was busy");
    let failure = Failure::never_started(Code::Timeout, message).detail("phase", "queued");
    Failure { retryable: true, ..failure }
}

/// The pool of blocking threads has no room for another item of the tenant.
pub(super) fn no_thread() -> Failure {
    let message = "too many items of the tenant wait for a thread that may block";
    Failure::never_started(Code::Overloaded, message)
        .detail("config_key", "batch.blocking_queue_max")
}

fn stopped() -> Error {
    Error::with_code(Code::Cancelled, "stopped before it was done")
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// A turn is some milliseconds of a thread; who waits 30 s rises by one priority.
const TURNS: Turns = Turns { quantum: 5_000_000, rise_ns: 30_000_000_000 };
/// What a recipe is charged that has never run and does not say how long it takes.
const FIRST_GUESS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
