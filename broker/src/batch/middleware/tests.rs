use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context as Poller, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;
use tollgate_protocol::Code;
use tower_service::Service;

use super::*;
use crate::batch::{Context, Error, Inline, InlineContext, Recipe, Reply, typed};

/// A layer that says when it is passed.
#[derive(Clone)]
struct Marking {
    name: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

struct Marked<R>(R, Marking);

impl<R> Layer<R> for Marking {
    type Service = Marked<R>;

    fn layer(&self, inner: R) -> Marked<R> {
        Marked(inner, self.clone())
    }
}

impl Marking {
    fn mark(&self, what: &str) {
        self.seen.lock().expect("not poisoned").push(format!("{what} {}", self.name));
    }
}

impl<R: Recipe> Recipe for Marked<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        self.1.mark("into");
        let outcome = self.0.run(ctx, payload).await;
        self.1.mark("out of");
        outcome
    }
}

impl<R: Inline> Inline for Marked<R> {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        self.1.mark("into");
        let outcome = self.0.run(ctx, payload, out);
        self.1.mark("out of");
        outcome
    }
}

fn ctx() -> Context {
    Context::for_test("acme", "x")
}

async fn run(recipe: &impl Recipe, payload: &'static str) -> Result<String, Error> {
    let reply = recipe.run(ctx(), Bytes::from_static(payload.as_bytes())).await?;
    Ok(String::from_utf8(reply.payload().to_vec()).expect("text"))
}

fn run_inline(recipe: &impl Inline, payload: &str) -> Result<String, Error> {
    let mut out = Reply::new();
    recipe.run(&ctx().as_inline(), payload.as_bytes(), &mut out)?;
    Ok(String::from_utf8(out.payload().to_vec()).expect("text"))
}

fn echo() -> impl Recipe {
    typed::bytes(|_: Context, b: Bytes| async move { Ok(b) })
}

fn echo_inline() -> impl Inline {
    typed::inline_bytes(|_: &InlineContext<'_>, b: &[u8], out: &mut Reply| {
        out.extend_from_slice(b);
        Ok(())
    })
}

fn fails() -> impl Recipe {
    typed::bytes(|_: Context, _: Bytes| async move { Err::<Bytes, _>(Error::not_found("no")) })
}

fn waits() -> impl Recipe {
    typed::bytes(|_: Context, b: Bytes| async move {
        std::future::pending::<()>().await;
        Ok(b)
    })
}

#[tokio::test]
async fn the_first_layer_of_a_tuple_is_outermost() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mark = |name| Marking { name, seen: seen.clone() };
    let layers = (mark("a"), mark("b"), mark("c"));
    let order = ["into a", "into b", "into c", "out of c", "out of b", "out of a"];
    run(&layers.layer(echo()), "").await.expect("echo");
    assert_eq!(*seen.lock().expect("not poisoned"), order);
    seen.lock().expect("not poisoned").clear();
    run_inline(&layers.layer(echo_inline()), "").expect("echo");
    assert_eq!(*seen.lock().expect("not poisoned"), order);
}

#[tokio::test]
async fn every_layer_wraps_both_shapes_and_changes_no_answer() {
    let layers =
        (
            Tracing::new(),
            Metrics::new(),
            Concurrency::new(1),
            Validation::new(|_, payload| {
                if payload.is_empty() { Err(Error::validation("empty")) } else { Ok(()) }
            }),
        );
    assert_eq!(
        run(&(layers.clone(), Timeout::new(MINUTE)).layer(echo()), "a").await.expect("ok"),
        "a"
    );
    assert_eq!(run_inline(&layers.layer(echo_inline()), "a").expect("ok"), "a");
    let e = run_inline(&layers.layer(echo_inline()), "").expect_err("empty");
    assert_eq!(e.code(), Code::ValidationError);
}

#[tokio::test]
async fn a_timeout_ends_what_it_wraps() {
    let e = run(&Timeout::new(Duration::from_millis(2)).layer(waits()), "")
        .await
        .expect_err("too long");
    assert_eq!(e.code(), Code::Timeout);
    assert_eq!(e.message(), "not done within 2 ms");
    assert_eq!(run(&Timeout::new(MINUTE).layer(echo()), "a").await.expect("ready"), "a");
}

#[tokio::test]
async fn metrics_count_every_way_to_end() {
    let metrics = Metrics::new();
    run(&metrics.layer(echo()), "").await.expect("echo");
    run(&metrics.layer(fails()), "").await.expect_err("fails");
    let waits = metrics.layer(waits());
    let waiting = run(&waits, "");
    assert_eq!(metrics.snapshot().started, 2, "a future that was not polled has not started");
    tokio::time::timeout(Duration::ZERO, waiting).await.expect_err("waits for ever");
    let panics = metrics.layer(typed::inline_bytes(
        |_: &InlineContext<'_>, _: &[u8], _: &mut Reply| -> Result<(), Error> { panic!("oh") },
    ));
    std::panic::catch_unwind(|| run_inline(&panics, "")).expect_err("panics");
    let s = metrics.snapshot();
    assert_eq!((s.started, s.succeeded, s.failed, s.abandoned, s.running()), (4, 1, 1, 2, 0));
    assert!(s.quantile(0.5) > Duration::ZERO && s.quantile(0.5) <= s.quantile(1.0));
    assert_eq!(Metrics::new().snapshot().quantile(0.5), Duration::ZERO);
}

#[tokio::test]
async fn concurrency_makes_recipes_wait_and_refuses_inline_ones() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let gated = typed::bytes(move |_: Context, b: Bytes| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(b)
        }
    });
    let bound = Concurrency::new(1);
    let (gated, inline) = (bound.layer(gated), bound.layer(echo_inline()));
    let first = run(&gated, "1");
    let second = run(&gated, "2");
    tokio::pin!(first, second);
    assert!(futures::poll!(first.as_mut()).is_pending());
    assert!(futures::poll!(second.as_mut()).is_pending());
    let e = run_inline(&inline, "").expect_err("the slot is taken");
    assert_eq!(e.code(), Code::RateLimited);
    gate.add_permits(2);
    // The second may pass the gate only when the first gave its slot back.
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert_eq!(first.await.expect("echo"), "1");
    assert_eq!(second.await.expect("echo"), "2");
    run_inline(&inline, "").expect("the slot is free");
}

#[tokio::test]
async fn validation_refuses_before_the_recipe_runs() {
    let schema = Validation::schema(&json!({"type": "array", "items": {"type": "integer"}}));
    let layer = schema.expect("a schema");
    let checked = layer.layer(echo());
    assert_eq!(run(&checked, "[1]").await.expect("valid"), "[1]");
    let e = run(&checked, "[1, true]").await.expect_err("not an integer");
    assert_eq!(e.code(), Code::ValidationError);
    assert!(e.message().starts_with("/1: "), "{e}");
    run(&checked, "[1").await.expect_err("not JSON");
    let e = Validation::schema(&json!({"type": 1})).expect_err("not a schema");
    assert_eq!(e.at, "/type");
}

/// A service that can take one request after each time it was polled ready.
#[derive(Clone)]
struct Upper {
    ready: bool,
    answer: fn(&Call) -> Result<Bytes, Error>,
}

impl Service<Call> for Upper {
    type Response = Bytes;
    type Error = Error;
    type Future = Ready<Result<Bytes, Error>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        ready((self.answer)(&call))
    }
}

/// A layer as those of `tower`: it boxes the errors of what it wraps.
#[derive(Clone)]
struct Boxing<S>(S);

impl<S> Service<Call> for Boxing<S>
where
    S: Service<Call, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let called = self.0.call(call);
        Box::pin(async move { called.await.map_err(Into::into) })
    }
}

#[tokio::test]
async fn a_service_is_a_recipe() {
    let upper = Upper { ready: false, answer: |c| Ok(c.payload.to_ascii_uppercase().into()) };
    assert_eq!(run(&from_service(upper.clone()), "abc").await.expect("upper"), "ABC");
    assert_eq!(run(&from_service(Boxing(upper)), "abc").await.expect("upper"), "ABC");
}

#[tokio::test]
async fn an_error_keeps_its_code_through_layers_that_box_it() {
    let refuses = Upper {
        ready: false,
        answer: |c| Err(Error::forbidden(format!("not {}", c.ctx.tenant())).app_code("E7")),
    };
    let e = run(&from_service(Boxing(refuses)), "").await.expect_err("refused");
    assert_eq!((e.code(), e.message()), (Code::Forbidden, "not acme"));
    assert_eq!(e.into_inner().app_code.as_deref(), Some("E7"));
}

#[tokio::test]
async fn a_foreign_error_is_told_with_its_causes() {
    #[derive(Clone)]
    struct Broken;

    impl Service<Call> for Broken {
        type Response = Bytes;
        type Error = BoxError;
        type Future = Ready<Result<Bytes, BoxError>>;

        fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
            let cause = std::io::Error::other("no route");
            Poll::Ready(Err(std::io::Error::other(Outer(cause)).into()))
        }

        fn call(&mut self, _: Call) -> Self::Future {
            panic!("it never was ready")
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("connect")]
    struct Outer(#[source] std::io::Error);

    let e = run(&from_service(Broken), "").await.expect_err("broken");
    assert_eq!((e.code(), e.message()), (Code::RecipeExecution, "connect: no route"));
}

const MINUTE: Duration = Duration::from_secs(60);
