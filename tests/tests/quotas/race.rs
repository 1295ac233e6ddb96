//! Many connections of one tenant racing for its rates: never one over, in any window.
//!
//! What is admitted is seen by a recipe in the broker: an item runs after it was charged, so of what
//! has run until any moment, no more may have been charged than the windows until then allow.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use tollgate_broker::{
    batch::{Catalog, Spec},
    recipes,
    tenancy::{Policy, Quota, Quotas},
};
use tollgate_client::{Client, Code, Request, RetryPolicy};
use tollgate_tests::{Rig, eventually, stage::plain};

use super::{at_most, endless, limit};

/// Connections that race.
const CONNECTIONS: usize = 64;
/// Bytes of a payload, and of a result.
const LEN: u64 = 20;

/// How long they race: a minute with `TOLLGATE_LONG=1`.
fn length() -> Duration {
    Duration::from_secs(if std::env::var_os("TOLLGATE_LONG").is_some() { 60 } else { 2 })
}

/// When items ran.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Instant>>>);

impl Seen {
    fn catalog(&self) -> Catalog {
        let seen = self.clone();
        let mark = plain(move |_, payload, out| {
            seen.0.lock().expect("not poisoned").push(Instant::now());
            out.extend_from_slice(payload);
            Ok(())
        });
        recipes::builtin().inline("mark", Spec::default(), mark).build().expect("a catalog")
    }

    fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

async fn connect(rig: &Rig) -> Vec<Client> {
    // Ten share a socket.
    let sockets: Vec<_> = (0..CONNECTIONS.div_ceil(10))
        .map(|_| quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket"))
        .collect();
    let credentials = rig.credentials("acme");
    let connect = |n: usize| {
        let builder = rig.builder("acme").credentials(credentials.clone());
        let once = RetryPolicy::default().tries_max(1);
        builder.retry(once).endpoint(sockets[n / 10].clone()).connect()
    };
    let clients = join_all((0..CONNECTIONS).map(connect)).await;
    clients.into_iter().map(|c| c.expect("a connection")).collect()
}

/// One batch of a connection; how many items succeeded. What did not was over its rate.
async fn offer(client: &Client, items: usize) -> usize {
    let payload = vec![b'x'; LEN as usize];
    let requests = (0..items).map(|_| Request::new("mark", payload.clone()));
    let result = client.execute(requests).await.expect("a batch");
    for failure in result.failures() {
        assert_eq!(failure.code(), Some(Code::RateLimited));
        let told = failure.failure().expect("a failure");
        assert!(told.retry_after.is_some() && told.side_effect_free, "{told:?}");
    }
    result.successes().count()
}

/// All connections offer far more than the rate for a while, over windows of 1 s.
async fn race(quota: Quota, per_second: u64, set: impl FnOnce(&mut Quotas)) {
    let seen = Seen::default();
    let rig = Rig::with_catalog(seen.catalog(), |c| c.tenancy.audit_interval_ms = 100).await;
    let tenants = rig.broker.tenants();
    tenants.update("acme", None, |s| s.policy = Policy::Reject).await.expect("there is one");
    limit(&rig, "acme", set).await;
    let clients = connect(&rig).await;
    let began = Instant::now();
    let tasks = clients.iter().cloned().map(|client| {
        tokio::spawn(async move {
            let mut succeeded = 0;
            while began.elapsed() < length() {
                succeeded += offer(&client, 50).await;
            }
            succeeded
        })
    });
    let mut succeeded = 0;
    for task in tasks.collect::<Vec<_>>() {
        succeeded += task.await.expect("no panic");
    }
    let mut ran = seen.take();
    ran.sort_unstable();
    assert_eq!(ran.len(), succeeded, "what ran is what succeeded");
    let weight = if quota == Quota::BytesPerSecond { LEN } else { 1 };
    for (n, at) in (1..).zip(&ran) {
        // So many buckets were touched until then, at most; so many windows cover them.
        let buckets = at.duration_since(began).as_millis() as u64 / 100 + 2;
        let most = buckets.div_ceil(10) * per_second;
        assert!(n * weight <= most, "{n} items after {:?}, allowed are {most}", *at - began);
    }
    assert!(succeeded as u64 * weight >= per_second, "a window's worth at least");
    drop(clients);
    rig.idle().await;
    let acme = tenants.get("acme").expect("there is one");
    eventually("connections are given back", || acme.used(Quota::Connections, Instant::now()) == 0)
        .await;
    assert_eq!(tenants.drift(), 0, "{:?}", tenants.drifts());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_connections_never_exceed_the_rate_of_requests() {
    race(Quota::RequestsPerSecond, 2_000, |q| q.requests_per_second = at_most(2_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_connections_never_exceed_the_rate_of_bytes() {
    race(Quota::BytesPerSecond, 30_000, |q| q.bytes_per_second = at_most(30_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_connections_exactly_the_limit_of_a_window_gets_in() {
    let seen = Seen::default();
    let rig = Rig::with_catalog(seen.catalog(), |c| {
        endless(c);
        c.tenancy.audit_interval_ms = 100;
    })
    .await;
    let tenants = rig.broker.tenants();
    tenants.update("acme", None, |s| s.policy = Policy::Reject).await.expect("there is one");
    let clients = connect(&rig).await;
    // Of both rates at once: first the one bites, then the other.
    for (requests, bytes, expected) in [(1, 1_000, 720), (100, 30, 720 * 30 / LEN)] {
        limit(&rig, "acme", |q| {
            (q.requests_per_second, q.bytes_per_second) = (at_most(requests), at_most(bytes));
        })
        .await;
        let succeeded = join_all(clients.iter().map(|client| offer(client, 40))).await;
        let before: usize = if requests == 1 { 0 } else { 720 };
        assert_eq!(succeeded.iter().sum::<usize>() + before, expected as usize);
    }
    assert_eq!(seen.take().len() as u64, 720 * 30 / LEN);
    drop(clients);
    rig.idle().await;
    assert_eq!(tenants.drift(), 0, "{:?}", tenants.drifts());
}
