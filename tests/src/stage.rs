//! Recipes that a test holds in its hands: what has started, and what may go on, is the test's to
//! see and to say. Nothing here waits for a time.

use std::{
    future::{Future, pending},
    panic::panic_any,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Semaphore, sync::watch, time::timeout};
use tollgate_broker::batch::{
    Catalog, CatalogBuilder, Context, Error, Inline, InlineContext, Recipe, Reply, Spec,
};

use crate::SOON;

/// What the recipes of one test share with it. Cheap to clone.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

struct Inner {
    seen: watch::Sender<Seen>,
    gate: Semaphore,
    pool: (Mutex<usize>, Condvar),
}

/// What was seen of the recipes that wait.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The payloads of items that started, in the order of their starts.
    pub started: Vec<String>,
    /// Items that run now, and the most that ever did at once.
    pub running: usize,
    /// See `running`.
    pub most: usize,
    /// The payloads of items that came to their own end.
    pub finished: Vec<String>,
    /// The payloads of items that were dropped before it.
    pub dropped: Vec<String>,
}

impl Default for Stage {
    fn default() -> Self {
        Stage(Arc::new(Inner {
            seen: watch::Sender::default(),
            gate: Semaphore::new(0),
            pool: Default::default(),
        }))
    }
}

impl Stage {
    /// Lets `n` items (or steps) go on that wait at the gate, now or later.
    pub fn open(&self, n: usize) {
        self.0.gate.add_permits(n);
    }

    /// Lets `n` items go on that wait on a thread of the pool, now or later.
    pub fn open_pool(&self, n: usize) {
        *self.0.pool.0.lock().expect("not poisoned") += n;
        self.0.pool.1.notify_all();
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.0.seen.borrow().clone()
    }

    /// Waits until what was seen is so.
    ///
    /// # Panics
    /// When it never is.
    pub async fn until(&self, what: &str, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.0.seen.subscribe();
        let waited = timeout(SOON, seen.wait_for(holds)).await;
        match waited {
            Ok(Ok(seen)) => seen.clone(),
            _ => panic!("never came to hold: {what}: {:?}", self.seen()),
        }
    }

    /// Waits until so many items run at once.
    pub async fn running(&self, n: usize) -> Seen {
        self.until(&format!("{n} items run"), |s| s.running == n).await
    }

    fn enter(&self, payload: &[u8]) -> Running {
        let name = String::from_utf8_lossy(payload).into_owned();
        self.0.seen.send_modify(|s| {
            s.started.push(name.clone());
            s.running += 1;
            s.most = s.most.max(s.running);
        });
        Running { stage: self.clone(), name, finished: false }
    }

    /// The recipes, as a catalog.
    ///
    /// # Panics
    /// Never: the recipes are good.
    pub fn catalog(&self) -> Catalog {
        self.recipes().build().expect("a good catalog")
    }

    /// The recipes:
    ///
    /// - inline: `echo`, `fail`, `invalid`, `panic`, `blow` and `blow.counted` (so many bytes as the
    ///   payload says, at most 1 MiB), `who` (tenant and trace context), `small` (takes 10 bytes, gives 10);
    /// - async: `quick` (ready at once), `later` (ready after a turn), `later.fail`,
    ///   `later.panic`, `gate` (waits for [`Stage::open`]), `gate.two` (two at once),
    ///   `gate.impatient` (waits 50 ms for its start), `gate.fail`, `gate.blow`, `steps` (as many
    ///   as the payload says, an opening each, with progress), `hang`;
    /// - on the pool: `pool` (waits for [`Stage::open_pool`], then reports progress), `pool.panic`.
    pub fn recipes(&self) -> CatalogBuilder {
        let s = Spec::default;
        let (steps, on_pool, blow) = (self.clone(), self.clone(), self.clone());
        let two = Spec { concurrency_max: Some(2), ..s() };
        let impatient = Spec { queue_timeout: Duration::from_millis(50), ..s() };
        let slow = Spec { timeout: Some(Duration::from_secs(120)), ..s() };
        let small = Spec { payload_bytes_max: 10, result_bytes_max: 10, ..s() };
        let blocking = Spec { blocking: true, ..s() };
        Catalog::builder()
            .inline("echo", s(), plain(|_, p, out| give(out, p)))
            .inline("fail", s(), plain(|_, _, _| Err(failed())))
            .inline("invalid", s(), plain(|_, _, _| Err(Error::validation("not what is wanted"))))
            .inline("panic", s(), plain(|_, _, _| panic!("as asked")))
            .inline("panic.odd", s(), plain(|_, _, _| panic_any(17)))
            .inline("blow", s(), plain(|_, p, out| give(out, &vec![b'x'; number(p)])))
            .inline(
                "blow.counted",
                s(),
                plain(move |_, p, out| {
                    blow.enter(p).finish();
                    give(out, &vec![b'x'; number(p)])
                }),
            )
            .inline("small", small.clone(), plain(|_, p, out| give(out, &p.repeat(2))))
            .inline("who", s(), plain(|c, _, out| give(out, who(c).as_bytes())))
            .recipe("quick", s(), Async(|_, p| async { Ok(reply(p)) }))
            .recipe("later", s(), Async(|_, p| later(Ok(reply(p)))))
            .recipe("later.fail", s(), Async(|_, _| later(Err(failed()))))
            .recipe("later.panic", s(), Async(|_, _| later_panic()))
            .recipe("gate", slow.clone(), self.gate(|p| Ok(reply(p))))
            .recipe("gate.two", two, self.gate(|p| Ok(reply(p))))
            .recipe("gate.impatient", impatient, self.gate(|p| Ok(reply(p))))
            .recipe("gate.fail", slow.clone(), self.gate(|_| Err(failed())))
            .recipe("gate.blow", slow.clone(), self.gate(|p| Ok(vec![b'x'; number(&p)].into())))
            .recipe("steps", slow, Async(move |c, p| steps.clone().steps(c, p)))
            .recipe("hang", s(), self.hang())
            .inline("pool", blocking.clone(), plain(move |c, p, out| on_pool.on_pool(c, p, out)))
            .inline("pool.panic", blocking, plain(|_, _, _| panic!("on the pool")))
    }

    fn gate(&self, end: fn(Bytes) -> Result<Reply, Error>) -> impl Recipe {
        let stage = self.clone();
        Async(move |_, payload: Bytes| {
            let stage = stage.clone();
            async move {
                let running = stage.enter(&payload);
                stage.step().await;
                running.finish();
                end(payload)
            }
        })
    }

    fn hang(&self) -> impl Recipe {
        let stage = self.clone();
        Async(move |_, payload: Bytes| {
            let stage = stage.clone();
            async move {
                let _running = stage.enter(&payload);
                pending().await
            }
        })
    }

    async fn step(&self) {
        self.0.gate.acquire().await.expect("never closed").forget();
    }

    /// Reports before the first step and after each; in between it reports less, which must not be
    /// seen.
    async fn steps(self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let running = self.enter(&payload);
        let total = number(&payload) as u64;
        ctx.progress(0, total, "begun");
        for done in 1..=total {
            self.step().await;
            ctx.progress(done, total, "on it");
            ctx.progress(done - 1, total, "back again");
        }
        running.finish();
        Ok(reply(payload))
    }

    fn on_pool(&self, ctx: &InlineContext<'_>, p: &[u8], out: &mut Reply) -> Result<(), Error> {
        let running = self.enter(p);
        let (permits, opened) = &self.0.pool;
        let mut permits = permits.lock().expect("not poisoned");
        while *permits == 0 {
            permits = opened.wait(permits).expect("not poisoned");
        }
        *permits -= 1;
        drop(permits);
        // Whoever timed out meanwhile says so all the same.
        ctx.progress(1, 2, "late");
        running.finish();
        give(out, p)
    }
}

/// An item that runs.
struct Running {
    stage: Stage,
    name: String,
    finished: bool,
}

impl Running {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (name, finished) = (std::mem::take(&mut self.name), self.finished);
        self.stage.0.seen.send_modify(|s| {
            s.running -= 1;
            let ended = if finished { &mut s.finished } else { &mut s.dropped };
            ended.push(name);
        });
    }
}

/// A closure as an inline recipe.
pub struct Plain<F>(F);

/// Makes an inline recipe of a closure.
pub fn plain<F>(run: F) -> Plain<F>
where
    F: Fn(&InlineContext<'_>, &[u8], &mut Reply) -> Result<(), Error> + Send + Sync + 'static,
{
    Plain(run)
}

impl<F> Inline for Plain<F>
where
    F: Fn(&InlineContext<'_>, &[u8], &mut Reply) -> Result<(), Error> + Send + Sync + 'static,
{
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        (self.0)(ctx, payload, out)
    }
}

/// A closure as an async recipe.
pub struct Async<F>(pub F);

impl<F, Fut> Recipe for Async<F>
where
    F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, Error>> + Send,
{
    fn run(
        &self,
        ctx: Context,
        payload: Bytes,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        (self.0)(ctx, payload)
    }
}

fn give(out: &mut Reply, bytes: &[u8]) -> Result<(), Error> {
    out.extend_from_slice(bytes);
    Ok(())
}

fn reply(payload: Bytes) -> Reply {
    payload.into()
}

fn failed() -> Error {
    Error::new("failed as asked").detail("part", "gearbox").app_code("E42")
}

fn who(ctx: &InlineContext<'_>) -> String {
    format!("{} {}", ctx.tenant(), ctx.traceparent().unwrap_or("-"))
}

/// A number in a payload; 0 when there is none.
fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).ok().and_then(|s| s.parse().ok()).unwrap_or(0)
}

async fn turn() {
    tokio::task::yield_now().await;
}

async fn later_panic() -> Result<Reply, Error> {
    turn().await;
    panic!("after a turn")
}

async fn later(outcome: Result<Reply, Error>) -> Result<Reply, Error> {
    turn().await;
    outcome
}
