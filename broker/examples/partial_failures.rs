//! Items fail one by one: what a failure says, how failures are found, and when one ends it all.
//!
//! ```sh
//! cargo run -p tollgate-broker --example partial_failures
//! ```

use std::{panic, time::Duration};

use anyhow::Context;
use serde_json::json;
use tollgate_broker::{recipes, tenancy::Settings};
use tollgate_client::{BatchError, Client, Code, Ended, Mode, Request, RetryPolicy};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let local = support::Local::start(recipes::builtin().build()?).await?;
    local.broker.tenants().create_named("acme", Settings::default()).await?;
    let client = local.client("acme").await?;

    the_others_go_on(&client).await?;
    a_failure_says_why(&client).await?;
    failures_cannot_be_overlooked(&client).await?;
    the_first_failure_can_end_it(&client).await?;

    client.close().await;
    local.stop().await
}

/// `BestEffort`, the default mode: one item's failure is that item's result and nobody else's.
async fn the_others_go_on(client: &Client) -> anyhow::Result<()> {
    // The broker catches a recipe's panic; the program's panic hook hears of it all the same. The
    // usual one prints a backtrace where that is wanted, this one a line.
    panic::set_hook(Box::new(|info| eprintln!("(panic hook: {info})")));
    let result = client
        .execute([
            Request::new("echo", "fine"),
            Request::new("no.such.recipe", ""),
            Request::new("panic", "oh no"),
            Request::new("delay", "").json(&json!({"ms": "soon"})),
            // An item may shorten its recipe's time-out.
            Request::new("delay", "").json(&json!({"ms": 60_000})).timeout(ms(20)),
            Request::new("echo", "fine too"),
        ])
        .await?;

    for item in &result {
        match &item.outcome {
            Ok(payload) => println!("item {}: {payload:?}", item.id),
            Err(failure) => println!("item {}: HTTP {} {failure}", item.id, item.status),
        }
    }
    let codes: Vec<_> = result.iter().filter_map(|item| item.code()).collect();
    let expected = [
        Code::Ok,
        Code::RecipeNotFound,
        Code::Panic,
        Code::ValidationError,
        Code::Timeout,
        Code::Ok,
    ];
    assert_eq!(codes, expected);

    // A batch whose items failed has still come to a regular end.
    assert_eq!(result.ended(), Ended::Sealed);
    assert_eq!((result.summary().succeeded, result.summary().failed_total()), (2, 4));
    // Finding them, all or of one kind.
    assert_eq!(result.failures().map(|item| item.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(result.by_status(404).map(|item| item.id).collect::<Vec<_>>(), [1]);
    Ok(())
}

/// A failure is for people (`message`) and for programs: the table's code, the recipe's own code,
/// details, and whether trying again makes sense.
async fn a_failure_says_why(client: &Client) -> anyhow::Result<()> {
    let order = json!({
        "code": "NOT_FOUND",
        "message": "no such customer",
        "app_code": "CUSTOMER_UNKNOWN",
        "details": {"customer": "4711"},
    });
    let result = client.execute([Request::new("fail", "").json(&order)]).await?;
    let item = result.get(0).context("the first item has the id 0")?;
    let failure = item.failure().context("it fails as asked")?;
    assert_eq!((item.status, failure.code_name()), (404, "NOT_FOUND"));
    assert_eq!(&*failure.message, "no such customer");
    assert_eq!(failure.app_code.as_deref(), Some("CUSTOMER_UNKNOWN"));
    assert_eq!(failure.details.get("customer"), Some("4711"));
    // What says `retryable`, `execute` tries again by itself; this would only fail again.
    assert!(!failure.retryable);
    Ok(())
}

/// Where every item must succeed, failures become one error.
async fn failures_cannot_be_overlooked(client: &Client) -> anyhow::Result<()> {
    let requests = [Request::new("echo", "a"), Request::new("fail", ""), Request::new("fail", "")];
    let error = match client.execute(requests).await?.into_result() {
        Err(error) => error,
        Ok(_) => anyhow::bail!("two items fail"),
    };
    println!("{error}");
    assert!(matches!(error, BatchError::ItemsFailed { failed: 2, total: 3, first_id: 1, .. }));
    assert_eq!(error.code(), Some(Code::RecipeExecution));
    Ok(())
}

/// `FailFast`: after the first failure nothing more is started. What runs may finish.
async fn the_first_failure_can_end_it(client: &Client) -> anyhow::Result<()> {
    let requests = ["echo", "fail", "echo", "echo"].map(|recipe| Request::new(recipe, ""));
    let result = client
        .batch()
        .mode(Mode::FailFast)
        // One after the other, so that it is certain what has not started.
        .concurrency_max(1)
        .retry(RetryPolicy::none())
        .execute(requests)
        .await?;
    let codes: Vec<_> = result.iter().filter_map(|item| item.code()).collect();
    assert_eq!(codes, [Code::Ok, Code::RecipeExecution, Code::Cancelled, Code::Cancelled]);
    assert_eq!(result.ended(), Ended::FailFast);
    // What was cancelled says that it never ran: it may safely be sent again.
    let cancelled = result.get(3).and_then(|item| item.failure()).context("cancelled")?;
    assert!(cancelled.side_effect_free);
    Ok(())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
