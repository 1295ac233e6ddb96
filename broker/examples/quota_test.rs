//! How one tests quotas: exactly to the limit, one over, and when it fits again.
//!
//! Each function would be a `#[test]` or `#[tokio::test]` of its own. The first two need no broker
//! and no clock: time is a parameter. The others run the same over real QUIC.
//!
//! ```sh
//! cargo run -p tollgate-broker --example quota_test
//! ```

use std::{
    iter::{once, repeat_n},
    time::{Duration, Instant},
};

use anyhow::Context;
use tollgate_broker::{
    recipes,
    tenancy::{
        Config as Tenancy, Kind, Limit, Overrides, Policy, Quota, Registry, Settings, Window,
    },
};
use tollgate_client::{Client, Code, Request, RetryPolicy};

mod support;

/// The rate under test, in requests a second.
const RATE: u64 = 10;
/// The length of every payload here.
const PAYLOAD: &str = "0123456789";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    a_rate_is_exact_and_so_is_the_wait().await?;
    a_count_is_given_back().await?;
    to_the_limit_and_one_over_by_quic().await?;
    the_client_waits_and_comes_back().await
}

/// `RATE` requests a second, and no more: what is over fails at once and says when to come back.
fn rejecting() -> Settings {
    let rate = Some(Limit::at_most(RATE));
    let overrides = Overrides { requests_per_second: rate, ..Overrides::NOTHING };
    Settings { overrides, policy: Policy::Reject, ..Settings::default() }
}

async fn a_rate_is_exact_and_so_is_the_wait() -> anyhow::Result<()> {
    let registry = Registry::in_memory(&Tenancy::default());
    let tenant = registry.create_named("acme", rejecting()).await?;
    let now = Instant::now();
    let length = PAYLOAD.len() as u64;

    let charged = tenant.charge(now, repeat_n(length, 11));
    assert_eq!(charged.admitted, 10);
    let stop = charged.stop.context("one is over")?;
    assert_eq!((stop.quota, stop.current, stop.limit), (Quota::RequestsPerSecond, 10, 10));
    let Kind::Wait(wait) = stop.kind else { anyhow::bail!("waiting helps: {stop:?}") };
    println!("the eleventh fits after {wait:?}");
    assert!(wait <= Duration::from_secs(1));

    // Exactly then: not a nanosecond earlier.
    assert_eq!(tenant.charge(now + wait - Duration::from_nanos(1), once(length)).admitted, 0);
    assert_eq!(tenant.charge(now + wait, once(length)).admitted, 1);

    // Both sides of a charge are taken together: requests and bytes.
    let used = |quota| tenant.used(quota, now + wait);
    assert_eq!((used(Quota::RequestsPerSecond), used(Quota::BytesPerSecond)), (1, length));

    // A rate of 0 is none at all, and no waiting helps.
    let none = Some(Limit::NONE);
    registry.update("acme", None, |s| s.overrides.requests_per_second = none).await?;
    let stop = tenant.charge(now + wait, once(length)).stop.context("there is none")?;
    assert_eq!((stop.kind, stop.wait_ms()), (Kind::Never, None));
    Ok(())
}

async fn a_count_is_given_back() -> anyhow::Result<()> {
    let registry = Registry::in_memory(&Tenancy::default());
    let two = Some(Limit::at_most(2));
    let overrides = Overrides { batches_in_flight: two, ..Overrides::NOTHING };
    let settings = Settings { overrides, ..Settings::default() };
    let tenant = registry.create_named("acme", settings).await?;

    let (first, _second) = (tenant.batch()?, tenant.batch()?);
    let refusal = tenant.batch().err().context("two are open")?;
    assert_eq!((refusal.quota, refusal.current, refusal.limit), (Quota::BatchesInFlight, 2, 2));

    let usage = tenant.usage(Instant::now());
    let line = usage.iter().find(|l| l.quota == Quota::BatchesInFlight).context("a line each")?;
    assert_eq!(line.utilisation(), 100.0);

    // A permit is a value: dropping it gives it back, on every path.
    drop(first);
    let _third = tenant.batch()?;
    Ok(())
}

/// The same through a broker: ten of eleven items succeed, the last says why not.
async fn to_the_limit_and_one_over_by_quic() -> anyhow::Result<()> {
    // A window of a minute: however slow the machine, nothing leaves it while this runs. A rate is
    // per second whatever the window, so 1 a second is 60 in this one.
    let window = Window::new(10, 6_000)?;
    let local = support::Local::start_with(recipes::builtin().build()?, |config| {
        config.tenancy.window = window;
    })
    .await?;
    let mut settings = rejecting();
    settings.overrides.requests_per_second = Some(Limit::at_most(1));
    local.broker.tenants().create_named("acme", settings).await?;
    let client = local.client("acme").await?;

    let codes = |result: tollgate_client::BatchResult| -> Vec<_> {
        result.iter().filter_map(|item| item.code()).collect()
    };
    // Exactly to the limit.
    assert_eq!(codes(echo(&client, 60).await?), [Code::Ok; 60]);
    // One over. The rest of its batch would go on, and so does the connection.
    let result = echo(&client, 1).await?;
    let failure = result.get(0).and_then(|item| item.failure()).context("it is one over")?;
    println!("{failure}");
    assert_eq!((failure.code(), result.by_status(429).count()), (Some(Code::RateLimited), 1));
    assert!(failure.retryable && failure.side_effect_free);
    let wait = failure.retry_after.context("it says when to come back")?;
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60), "{wait:?}");
    let refused = failure.quota.as_ref().context("it says which quota")?;
    assert_eq!((&*refused.quota, refused.current, refused.limit), ("requests_per_second", 60, 60));

    // What is used, as the client sees it: refused items cost nothing.
    let usage = client.usage().await?;
    let line = usage.quota("requests_per_second").context("a line each")?;
    assert_eq!((line.current, line.limit), (60, Some(60)));

    // A change acts at once, on open connections too: 2 a second are 120 in the window.
    let two = Some(Limit::at_most(2));
    let change = |s: &mut Settings| s.overrides.requests_per_second = two;
    local.broker.tenants().update("acme", None, change).await?;
    assert_eq!(codes(echo(&client, 60).await?), [Code::Ok; 60]);

    client.close().await;
    local.stop().await
}

/// A client with its usual retries need not know: it waits as long as it is asked to.
async fn the_client_waits_and_comes_back() -> anyhow::Result<()> {
    let local = support::Local::start(recipes::builtin().build()?).await?;
    local.broker.tenants().create_named("acme", rejecting()).await?;
    let client = local.client("acme").await?;
    let started = Instant::now();
    let requests = repeat_n(Request::new("echo", PAYLOAD), RATE as usize + 1);
    let items = client.execute(requests).await?.into_result()?;
    println!("{} items at {RATE} a second took {:?}", items.len(), started.elapsed());
    assert_eq!(items.len() as u64, RATE + 1);
    client.close().await;
    local.stop().await
}

/// Runs a batch of so many items, and takes every answer as it is.
async fn echo(client: &Client, items: usize) -> anyhow::Result<tollgate_client::BatchResult> {
    let requests = repeat_n(Request::new("echo", PAYLOAD), items);
    Ok(client.batch().retry(RetryPolicy::none()).execute(requests).await?)
}
