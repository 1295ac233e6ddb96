//! Layers around recipes, in their order, and a service of `tower` as a recipe.
//!
//! ```sh
//! cargo run -p tollgate-broker --example middleware
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use tollgate_broker::{
    batch::{
        Catalog, Context, Error, Recipe, Reply, Spec,
        middleware::{
            Call, Concurrency, Layer, Metrics, Timeout, Tracing, Validation, from_service,
        },
        typed,
    },
    tenancy::Settings,
};
use tollgate_client::{Client, Code, Request};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let trail = Trail::default();
    let metrics = Metrics::new();
    let catalog = Catalog::builder()
        .recipe("greet", Spec::json(), in_order(&trail))
        .recipe("guarded", Spec::json(), guarded(&metrics)?)
        .recipe("shout", Spec::bytes(), shout())
        .build()?;
    let local = support::Local::start(catalog).await?;
    local.broker.tenants().create_named("acme", Settings::default()).await?;
    let client = local.client("acme").await?;

    layers_run_from_the_outside_in(&client, &trail).await?;
    the_layers_that_come_along(&client, &metrics).await?;
    a_service_is_a_recipe(&client).await?;

    client.close().await;
    local.stop().await
}

/// A layer of one's own: it notes when it is entered and left.
struct Note {
    name: &'static str,
    trail: Trail,
}

impl<R> Layer<R> for Note {
    type Service = Noted<R>;

    fn layer(&self, inner: R) -> Noted<R> {
        Noted { name: self.name, trail: self.trail.clone(), inner }
    }
}

/// A recipe in a [`Note`] layer: again a recipe. The types are known when it is compiled, so layers
/// cost no allocation and no virtual call.
struct Noted<R> {
    name: &'static str,
    trail: Trail,
    inner: R,
}

impl<R: Recipe> Recipe for Noted<R> {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        self.trail.note(format!("into {}", self.name));
        let outcome = self.inner.run(ctx, payload).await;
        self.trail.note(format!("out of {}", self.name));
        outcome
    }
}

fn in_order(trail: &Trail) -> impl Recipe + use<> {
    let note = |name| Note { name, trail: trail.clone() };
    let inside = trail.clone();
    let greet = typed::json(move |_: Context, name: String| {
        inside.note(format!("greet {name}"));
        async move { Ok(format!("hello {name}")) }
    });
    // A tuple of layers is a layer; its first member is outermost.
    (note("first"), note("second"), note("third")).layer(greet)
}

async fn layers_run_from_the_outside_in(client: &Client, trail: &Trail) -> anyhow::Result<()> {
    let greeting: String = client.call("greet", "ada").await?;
    assert_eq!(greeting, "hello ada");
    let trail = trail.take();
    println!("{}", trail.join(", "));
    let expected = [
        "into first",
        "into second",
        "into third",
        "greet ada",
        "out of third",
        "out of second",
        "out of first",
    ];
    assert_eq!(trail, expected);
    Ok(())
}

/// The layers that come along, in an order that makes sense: what watches is outermost, what
/// refuses comes before what waits, and the clock runs only for the recipe itself.
fn guarded(metrics: &Metrics) -> anyhow::Result<impl Recipe + use<>> {
    let layers = (
        Tracing::new(),
        metrics.clone(),
        Validation::schema(&json!({"type": "integer", "minimum": 0, "maximum": 60_000}))?,
        Concurrency::new(4),
        Timeout::new(Duration::from_millis(500)),
    );
    Ok(layers.layer(typed::json(|_: Context, ms: u64| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(ms)
    })))
}

async fn the_layers_that_come_along(client: &Client, metrics: &Metrics) -> anyhow::Result<()> {
    let result = client
        .execute(
            [json!(1), json!(-1), json!(60_000)].map(|ms| Request::new("guarded", "").json(&ms)),
        )
        .await?;
    for item in &result {
        match &item.outcome {
            Ok(payload) => println!("item {}: {payload:?}", item.id),
            Err(failure) => println!("item {}: {failure}", item.id),
        }
    }
    let codes: Vec<_> = result.iter().filter_map(|item| item.code()).collect();
    assert_eq!(codes, [Code::Ok, Code::ValidationError, Code::Timeout]);
    let counted = metrics.snapshot();
    println!("{} started, the slowest took {:?} at most", counted.started, counted.quantile(1.0));
    // `Metrics` is outside of the layers that refuse and end: it sees their failures as well.
    assert_eq!((counted.started, counted.succeeded, counted.failed), (3, 1, 2));
    Ok(())
}

/// Whatever `tower` builds is a recipe too: a service of [`Call`]s.
fn shout() -> impl Recipe {
    let service = tower::ServiceBuilder::new().timeout(Duration::from_secs(1)).service_fn(
        |call: Call| async move {
            if call.payload.is_empty() {
                // An error of ours keeps its code through the layers of `tower`, which box it.
                return Err(Error::validation("nothing to shout"));
            }
            Ok(Bytes::from(call.payload.to_ascii_uppercase()))
        },
    );
    from_service(service)
}

async fn a_service_is_a_recipe(client: &Client) -> anyhow::Result<()> {
    assert_eq!(client.call_bytes("shout", "hello").await?, "HELLO");
    let error = client.call_bytes("shout", "").await.err().context("nothing to shout")?;
    assert_eq!(error.code(), Some(Code::ValidationError));
    Ok(())
}

/// What the layers noted, in the order in which they did.
#[derive(Clone, Default)]
struct Trail(Arc<Mutex<Vec<String>>>);

impl Trail {
    fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
