//! A broker within one's own program: own recipes of every shape, hooks, and a graceful end.
//!
//! ```sh
//! cargo run -p tollgate-broker --example embedding
//! ```

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_broker::{
    Broker, Config,
    batch::{
        Catalog, Context, Error, HookOutcome, HookRequest, Hooks, Inline, InlineContext, Recipe,
        Reply, Spec, typed,
    },
    tenancy::Settings,
};
use tollgate_certs::{Identity, IssueOptions};
use tollgate_client::{Client, ClientCredentials, Code, Event, NoticeKind, Request, RetryPolicy};
use tollgate_protocol::id::TenantId;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let counted = Arc::new(Counted::default());
    let catalog = catalog(counted.clone())?;
    let dir = tempfile::tempdir()?;
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: Some(dir.path().into()),
        ..Config::default()
    };
    let broker = Broker::start(config, catalog).await?;
    broker.tenants().create_named("acme", Settings::default()).await?;
    let client = connect(&broker, "acme").await?;

    every_shape(&client).await?;
    assert_eq!(counted.started.load(Ordering::Relaxed), counted.ended.load(Ordering::Relaxed));
    assert!(counted.failed.load(Ordering::Relaxed) > 0);
    a_recipe_alone().await?;
    a_graceful_end(broker, &client).await
}

/// The recipes of this program, and the hooks around them. Nothing of the built-in ones is here:
/// `recipes::register` would add them.
fn catalog(counted: Arc<Counted>) -> anyhow::Result<Catalog> {
    let stock =
        Stock(Arc::new(HashMap::from([("nail".to_owned(), 10_000), ("saw".to_owned(), 3)])));
    let catalog = Catalog::builder()
        .inline("reverse", Spec { idempotent: true, ..Spec::bytes() }, Reverse)
        .recipe(
            "stock.reserve",
            Spec {
                // Clients see it, and the time-out follows from it: four times that, at least 5 s.
                estimated_duration: Duration::from_millis(500),
                // In the whole broker, whoever asks.
                concurrency_max: Some(8),
                description: "Reserves an article, slowly.".into(),
                ..Spec::bytes()
            },
            stock,
        )
        .recipe(
            "price",
            Spec {
                // Checked before an item is queued, and shown to clients.
                schema: Some(json!({
                    "type": "object",
                    "required": ["article", "pieces"],
                    "properties": {"pieces": {"type": "integer", "minimum": 1}},
                })),
                ..Spec::json()
            },
            typed::json(|ctx: Context, order: Order| async move { price(&ctx, &order) }),
        )
        .inline(
            "primes",
            // It blocks a core, so it runs on the pool of blocking threads. Nothing can interrupt
            // it there: when its time is up its item fails, and it should notice that itself.
            Spec { blocking: true, timeout: Some(Duration::from_secs(2)), ..Spec::json() },
            typed::inline_json(primes),
        )
        .hooks(CountingHooks(counted))
        .build()?;
    Ok(catalog)
}

/// The first shape: `Inline`. It answers at once, on the stream's own task, and costs no future and
/// no copy of the payload.
struct Reverse;

impl Inline for Reverse {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        let mut reversed = payload.to_vec();
        reversed.reverse();
        out.extend_from_slice(&reversed);
        // A string map travels beside the answer.
        out.metadata("length", &payload.len().to_string())?;
        Ok(())
    }
}

/// The second shape: `Recipe`. It may wait; its future is dropped when the item is cancelled.
struct Stock(Arc<HashMap<String, u32>>);

impl Recipe for Stock {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        // Any standard error becomes `RECIPE_EXECUTION` by `?`; this one deserves better.
        let article = std::str::from_utf8(&payload)
            .map_err(|e| Error::validation(format!("an article's name is UTF-8: {e}")))?;
        let pieces = *self.0.get(article).ok_or_else(|| {
            Error::not_found("no such article").app_code("NO_ARTICLE").detail("article", article)
        })?;
        for step in 1..=10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ctx.progress(step, 10, "asking the shelves");
        }
        Ok(format!("{pieces} of {article} for {}", ctx.tenant()).into())
    }
}

/// The third shape: a function over serde, `typed::json` (async) or `typed::inline_json`.
#[derive(Serialize, Deserialize)]
struct Order {
    article: String,
    pieces: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Quote {
    cents: u64,
    customer: String,
}

fn price(ctx: &Context, order: &Order) -> Result<Quote, Error> {
    let each = match order.article.as_str() {
        "nail" => 2,
        "saw" => 1_250,
        other => return Err(Error::not_found("no such article").detail("article", other)),
    };
    Ok(Quote { cents: each * u64::from(order.pieces), customer: ctx.tenant().to_string() })
}

/// Blocking code: the same as an inline recipe, with `Spec::blocking`.
fn primes(ctx: &InlineContext<'_>, below: u32) -> Result<usize, Error> {
    let mut found: Vec<u32> = Vec::new();
    for n in 2..below {
        if n % 1_024 == 0 && ctx.is_cancelled() {
            return Err(Error::new("given up"));
        }
        if found.iter().take_while(|p| *p * *p <= n).all(|p| n % p != 0) {
            found.push(n);
        }
    }
    Ok(found.len())
}

/// What the hooks count. Hooks watch every attempt and change nothing.
#[derive(Default)]
struct Counted {
    started: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
}

struct CountingHooks(Arc<Counted>);

impl Hooks for CountingHooks {
    fn on_start(&self, _: &HookRequest<'_>) {
        self.0.started.fetch_add(1, Ordering::Relaxed);
    }

    fn on_complete(&self, request: &HookRequest<'_>, outcome: &HookOutcome<'_>, took: Duration) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        if outcome.code != Code::Ok {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
        }
        println!("{} for {}: {} in {took:?}", request.recipe, request.tenant, outcome.code);
    }
}

async fn connect(broker: &Broker, tenant: &str) -> anyhow::Result<Client> {
    let authority = broker.dev_authority().context("certificates are configured")?;
    let identity = Identity::client(TenantId::parse(tenant)?, None)?;
    let issued = authority.issue(&identity, &IssueOptions::default())?;
    let credentials = ClientCredentials::from_pem(
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        issued.ca_pem.as_bytes(),
    )?;
    Ok(Client::connect(broker.local_addr(), "localhost", credentials).await?)
}

async fn every_shape(client: &Client) -> anyhow::Result<()> {
    let names: Vec<_> = client.recipes().await?.into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["price", "primes", "reverse", "stock.reserve"].map(Box::from));

    let items = client.execute([Request::new("reverse", "stressed")]).await?.into_result()?;
    assert_eq!(items[0].payload().map(|p| &p[..]), Some(&b"desserts"[..]));
    assert_eq!(items[0].metadata.get("length"), Some("8"));

    let answer = client
        .call_bytes("stock.reserve", "saw")
        .on_progress(|p| println!("{}: {} of {}", p.message, p.done, p.total))
        .await?;
    assert_eq!(answer, "3 of saw for acme");
    let error = client.call_bytes("stock.reserve", "spoon").await.err().context("no spoons")?;
    let failure = error.failure().context("the recipe says why")?;
    assert_eq!(
        (failure.code(), failure.app_code.as_deref()),
        (Some(Code::NotFound), Some("NO_ARTICLE"))
    );

    let order = Order { article: "nail".into(), pieces: 500 };
    let quote: Quote = client.call("price", &order).await?;
    assert_eq!(quote, Quote { cents: 1_000, customer: "acme".into() });
    // The schema refuses this one; the recipe never sees it.
    let none: Result<Quote, _> =
        client.call("price", &json!({"article": "saw", "pieces": 0})).await;
    let error = none.err().context("no pieces")?;
    assert_eq!(error.code(), Some(Code::ValidationError));
    assert_eq!(error.failure().and_then(|f| f.details.get("field")), Some("/pieces"));

    let count: usize = client.call("primes", &100_000).await?;
    assert_eq!(count, 9_592);
    Ok(())
}

/// A recipe needs no broker to be tested: it is called with a context made for that.
async fn a_recipe_alone() -> anyhow::Result<()> {
    let stock = Stock(Arc::new(HashMap::from([("axe".to_owned(), 1)])));
    let ctx = Context::for_test("acme", "stock.reserve");
    let reply = stock.run(ctx, "axe".into()).await.map_err(|e| anyhow::anyhow!("{e}"))?;
    assert_eq!(reply.payload(), b"1 of axe for acme");
    Ok(())
}

/// `shutdown`: nothing new begins, clients are told, what runs may finish.
async fn a_graceful_end(broker: Broker, client: &Client) -> anyhow::Result<()> {
    let mut batch = client.batch().open().await?;
    batch.send(Request::new("stock.reserve", "nail")).await?;
    batch.finish().await?;
    // Its first progress shows that it runs.
    while !matches!(batch.next().await.context("it has not ended")??, Event::Progress(_)) {}

    let ending = tokio::spawn(broker.shutdown(Duration::from_secs(5)));
    let mut told = false;
    let mut answer = None;
    while let Some(event) = batch.next().await {
        match event? {
            Event::Notice(notice) => {
                println!("{:?}: {}", notice.kind, notice.message);
                told = notice.kind == NoticeKind::Draining;
                let late = [Request::new("reverse", "too late")];
                let refused = client.batch().retry(RetryPolicy::none()).execute(late).await;
                assert_eq!(refused.err().and_then(|e| e.code()), Some(Code::Draining));
            }
            Event::Result(item) => answer = item.payload().cloned(),
            _ => {}
        }
    }
    assert!(told);
    assert_eq!(answer.as_deref(), Some(&b"10000 of nail for acme"[..]));
    ending.await?;
    Ok(())
}
