use std::sync::{Barrier, mpsc};

use super::*;
use crate::batch::{Catalog, Inline, InlineContext, Recipe, Spec, typed};

/// Longer than any test.
const LIMIT: Duration = Duration::from_secs(60);

const ACME: Turn = Turn { tenant: 1, weight: 1, priority: 3 };
const ZETA: Turn = Turn { tenant: 2, weight: 1, priority: 3 };

fn pool(threads: usize, queue_per_tenant_max: usize) -> Pool {
    Pool::new(Config { threads, queue_per_tenant_max }).expect("threads")
}

fn inline(recipe: impl Inline) -> Arc<Entry> {
    let catalog = Catalog::builder().inline("x", Spec::default(), recipe).build().expect("valid");
    catalog.find("x").expect("there").clone()
}

fn waiting(recipe: impl Recipe) -> Arc<Entry> {
    let catalog = Catalog::builder().recipe("x", Spec::default(), recipe).build().expect("valid");
    catalog.find("x").expect("there").clone()
}

fn nothing() -> Arc<Entry> {
    inline(typed::inline_bytes(|_: &InlineContext<'_>, _: &[u8], _: &mut Reply| Ok(())))
}

fn ctx() -> Context {
    Context::for_test("acme", "x")
}

/// Keeps one thread busy until the sender is used or dropped.
fn occupy(pool: &Pool, turn: Turn) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    let job = move || {
        started.send(()).expect("the test waits");
        let _ = released.recv();
    };
    pool.submit(turn, Cost::of(&nothing()), job).expect("room");
    running.recv().expect("started");
    release
}

#[tokio::test]
async fn both_shapes_run_on_the_pool() {
    let pool = pool(2, 8);
    let echo = inline(typed::inline_bytes(|_: &InlineContext<'_>, b: &[u8], out: &mut Reply| {
        assert!(thread::current().name().is_some_and(|n| n.starts_with("pool-")));
        out.extend_from_slice(b);
        Ok(())
    }));
    let reply = pool.run(ACME, echo, ctx(), "abc".into(), LIMIT).await.expect("echo");
    assert_eq!(reply.payload(), b"abc");
    let sleeps = waiting(typed::bytes(|_: Context, b: Bytes| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(b)
    }));
    let reply = pool.run(ACME, sleeps, ctx(), "abc".into(), LIMIT).await.expect("echo");
    assert_eq!(reply.payload(), b"abc");
    let fails = waiting(typed::bytes(|_: Context, _: Bytes| async move {
        Err::<Bytes, _>(Error::not_found("no"))
    }));
    let e = pool.run(ACME, fails, ctx(), Bytes::new(), LIMIT).await.expect_err("fails");
    assert!(matches!(e, RunError::Failed(e) if e.code() == Code::NotFound));
}

#[tokio::test]
async fn a_panic_is_an_answer_and_costs_no_thread() {
    let pool = pool(1, 8);
    let panics = inline(typed::inline_bytes(
        |_: &InlineContext<'_>, b: &[u8], _: &mut Reply| -> Result<(), Error> {
            panic!("{}", String::from_utf8_lossy(b))
        },
    ));
    for _ in 0..3 {
        let e =
            pool.run(ACME, panics.clone(), ctx(), "oh no".into(), LIMIT).await.expect_err("panics");
        assert!(matches!(e, RunError::Panicked(m) if m.contains("oh no")));
    }
    pool.submit(ACME, Cost::of(&nothing()), || panic!("outside a recipe")).expect("room");
    pool.run(ACME, nothing(), ctx(), Bytes::new(), LIMIT).await.expect("the thread lives");
}

#[tokio::test]
async fn a_tenant_with_too_much_waiting_is_refused_and_another_is_not() {
    let pool = pool(1, 2);
    let release = occupy(&pool, ACME);
    let run = |turn| pool.run(turn, nothing(), ctx(), Bytes::new(), LIMIT);
    let (a, b) = (run(ACME), run(ACME));
    assert!(matches!(run(ACME).await, Err(RunError::Full)));
    let c = run(ZETA);
    assert_eq!(pool.stats(), Stats { running: 1, queued: 3 });
    // A place is free again when what waits is given up.
    drop(a);
    let d = run(ACME);
    assert_eq!(pool.stats(), Stats { running: 1, queued: 3 });
    drop(release);
    for running in [b, c, d] {
        running.await.expect("runs");
    }
}

#[tokio::test]
async fn giving_up_frees_the_payload_of_what_waits_and_tells_what_runs() {
    let pool = pool(1, 8);
    let release = occupy(&pool, ACME);
    let payload = Bytes::from(vec![7; 1024]);
    let given_up = pool.run(ACME, nothing(), ctx(), payload.clone(), LIMIT);
    assert!(!payload.is_unique());
    drop(given_up);
    assert!(payload.is_unique());
    drop(release);

    let (stopped, saw) = mpsc::channel();
    let (started, running) = mpsc::channel();
    let (stopped, started) = (Mutex::new(stopped), Mutex::new(started));
    let spins =
        inline(typed::inline_bytes(move |ctx: &InlineContext<'_>, _: &[u8], _: &mut Reply| {
            started.lock().expect("not poisoned").send(()).expect("the test waits");
            while !ctx.is_cancelled() {
                thread::yield_now();
            }
            stopped.lock().expect("not poisoned").send(()).expect("the test waits");
            Ok(())
        }));
    let given_up = pool.run(ACME, spins, ctx(), Bytes::new(), LIMIT);
    running.recv().expect("started");
    drop(given_up);
    saw.recv().expect("it was told");
}

#[tokio::test]
async fn what_waits_is_withdrawn_and_what_began_is_not() {
    let pool = pool(1, 8);
    let release = occupy(&pool, ACME);
    let run = || Box::pin(pool.run(ACME, nothing(), ctx(), Bytes::new(), LIMIT));
    let (mut waits, mut began) = (run(), run());
    assert!(waits.as_mut().withdraw());
    assert!(!waits.as_mut().withdraw(), "it is not there any more");
    assert_eq!(pool.stats().queued, 1);
    drop(release);
    // Whoever comes next begins when it has ended.
    drop(occupy(&pool, ACME));
    assert!(!began.as_mut().withdraw());
    began.as_mut().await.expect("it ran");
    assert_eq!(began.attempts(), 1);
}

#[tokio::test]
async fn a_recipe_that_waits_is_dropped_when_it_is_given_up() {
    struct OnDrop(mpsc::Sender<()>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let pool = pool(1, 8);
    let (started, running) = mpsc::channel();
    let (dropped, gone) = mpsc::channel();
    let waits = waiting(typed::bytes(move |_: Context, b: Bytes| {
        let (started, guard) = (started.clone(), OnDrop(dropped.clone()));
        async move {
            let _guard = guard;
            started.send(()).expect("the test waits");
            std::future::pending::<()>().await;
            Ok(b)
        }
    }));
    let given_up = pool.run(ACME, waits, ctx(), Bytes::new(), LIMIT);
    tokio::task::spawn_blocking(move || running.recv().expect("started")).await.expect("runs");
    drop(given_up);
    tokio::task::spawn_blocking(move || gone.recv().expect("dropped")).await.expect("runs");
}

/// One tenant has many items waiting; the single one of another tenant is among the next few.
#[test]
fn a_tenant_with_many_items_does_not_keep_another_waiting() {
    let pool = pool(1, 1_024);
    let release = occupy(&pool, ACME);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (done, all_done) = mpsc::channel();
    let takes = Duration::from_millis(5);
    let spec = Spec { estimated_duration: takes, ..Spec::default() };
    let recipe = typed::inline_bytes(|_: &InlineContext<'_>, _: &[u8], _: &mut Reply| Ok(()));
    let catalog = Catalog::builder().inline("x", spec, recipe).build().expect("valid");
    let entry = catalog.find("x").expect("there");
    for turn in std::iter::repeat_n(ACME, 20).chain([ZETA]) {
        let (order, done) = (order.clone(), done.clone());
        let job = move || {
            order.lock().expect("not poisoned").push(turn.tenant);
            thread::sleep(takes);
            let _ = done.send(());
        };
        pool.submit(turn, Cost::of(entry), job).expect("room");
    }
    drop(release);
    for _ in 0..21 {
        all_done.recv().expect("runs");
    }
    let order = order.lock().expect("not poisoned");
    let place = order.iter().position(|&t| t == ZETA.tenant).expect("it ran");
    assert!(place <= 3, "it came after {place} others");
}

#[test]
fn all_threads_work_at_once_and_end_with_the_pool() {
    let pool = pool(3, 8);
    let together = Arc::new(Barrier::new(4));
    for _ in 0..3 {
        let together = together.clone();
        let job = move || {
            together.wait();
        };
        pool.submit(ACME, Cost::of(&nothing()), job).expect("room");
    }
    together.wait();
    let shared = Arc::downgrade(&pool.0.0);
    drop(pool);
    // Each thread holds the shared part until it has seen the end.
    while shared.strong_count() > 0 {
        thread::yield_now();
    }
}

#[tokio::test]
async fn what_waits_when_the_pool_ends_is_told() {
    let pool = pool(1, 8);
    let release = occupy(&pool, ACME);
    let running = pool.run(ACME, nothing(), ctx(), Bytes::new(), LIMIT);
    drop(pool);
    drop(release);
    let e = running.await.expect_err("it never ran");
    assert!(matches!(e, RunError::Failed(e) if e.code() == Code::Cancelled));
}

#[test]
fn the_mean_follows_what_was_measured() {
    let mut state =
        State { queue: Fair::new(TURNS), means: Vec::new(), running: 0, closing: false };
    state.learn(2, 8_000);
    assert_eq!(state.means, [0, 0, 8_000]);
    state.learn(2, 16_000);
    assert_eq!(state.means[2], 9_000);
    for _ in 0..100 {
        state.learn(2, 0);
    }
    assert!(state.means[2] >= 1);
}
