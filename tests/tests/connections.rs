//! Many connections, hostile ones, lost ones: what is admitted is exact, and all of it is given
//! back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn::Endpoint;
use tollgate_broker::{
    events::{Kind, News},
    tenancy::{Limit, Quota},
};
use tollgate_client::{Client, ClientBuilder, CloseCode, ConnectError, Transport};
use tollgate_tests::{Rig, SOON, eventually};

#[path = "connections/flood.rs"]
mod flood;
#[path = "connections/restart.rs"]
mod restart;
#[path = "connections/storm.rs"]
mod storm;

/// A socket of a client; many connections share one, so that a test does not run out of files.
fn endpoint() -> Endpoint {
    endpoint_at([127, 0, 0, 1])
}

fn endpoint_at(ip: [u8; 4]) -> Endpoint {
    Endpoint::client(SocketAddr::from((ip, 0))).expect("a socket")
}

/// Sets the quota `connections` of a tenant.
async fn allow(rig: &Rig, tenant: &str, connections: u64) {
    let change = |s: &mut tollgate_broker::tenancy::Settings| {
        s.overrides.connections = Some(Limit::at_most(connections));
    };
    rig.broker.tenants().update(tenant, None, change).await.expect("the tenant");
}

fn used(rig: &Rig, tenant: &str) -> u64 {
    let tenant = rig.broker.tenants().get(tenant).expect("the tenant");
    tenant.used(Quota::Connections, Instant::now())
}

/// Waits until every counter of connections is back at 0.
async fn nothing_is_left(rig: &Rig) {
    rig.idle().await;
    eventually("no connection is left", || rig.broker.counters().connections == 0).await;
    for tenant in rig.broker.tenants().all() {
        assert_eq!(used(rig, tenant.id().as_str()), 0, "{}", tenant.id());
    }
}

/// A client that waits as long as it takes: the machine may be busy.
fn patient(builder: ClientBuilder) -> ClientBuilder {
    let transport = Transport { idle_timeout: SOON * 3, ..Transport::default() };
    builder.connect_timeout(SOON * 3).transport(transport)
}

async fn serves(client: &Client) {
    let answer: String = client.call("echo", "hello").await.expect("an answer");
    assert_eq!(answer, "hello");
}

fn refused_with(result: Result<Client, ConnectError>) -> Option<CloseCode> {
    result.err().and_then(|e| e.close_code())
}

#[tokio::test]
async fn the_process_has_room_for_so_many_connections_and_no_more() {
    let rig = Rig::with(|c| c.limits.connections_max = 3).await;
    let mut open = Vec::new();
    for tenant in ["acme", "globex", "acme"] {
        open.push(rig.client(tenant).await);
    }
    for tenant in ["acme", "globex"] {
        let refused = refused_with(rig.builder(tenant).connect().await);
        assert_eq!(refused, Some(CloseCode::Overloaded), "{tenant}");
    }
    for client in &open {
        serves(client).await;
    }
    open.pop().expect("a client").close().await;
    eventually("a place is free", || rig.broker.counters().connections == 2).await;
    open.push(rig.client("globex").await);
    drop(open);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn connections_that_come_and_go_are_told_of() {
    let rig = Rig::start().await;
    let mut told = rig.broker.events().subscribe(None);
    rig.client("acme").await.close().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let news = tokio::time::timeout(SOON, told.next()).await.expect("news");
        let Some(News::Event(event)) = news else { panic!("{news:?}") };
        assert_eq!(event.tenant.as_ref().map(|t| t.as_str()), Some("acme"));
        seen.push(match &event.kind {
            Kind::ConnectionOpened { connection, identity, .. }
            | Kind::ConnectionClosed { connection, identity } => {
                (event.kind.name(), *connection, identity.clone())
            }
            kind => panic!("{kind:?}"),
        });
    }
    let identity = "spiffe://tollgate.local/tenant/acme/client";
    let id = seen[0].1;
    assert_eq!(seen[0], ("connection_opened", id, identity.to_owned()));
    assert_eq!(seen[1], ("connection_closed", id, identity.to_owned()));
}

#[tokio::test]
async fn one_tenants_connections_take_nothing_from_anothers() {
    let rig = Rig::start().await;
    allow(&rig, "acme", 1).await;
    let first = rig.client("acme").await;
    let error = rig.builder("acme").connect().await.expect_err("the quota is used up");
    assert_eq!(error.close_code(), Some(CloseCode::QuotaExceeded));
    assert!(error.to_string().contains("`connections` allows 1"), "{error} says how many");
    assert!(error.retryable(), "it may help to wait");
    serves(&first).await;
    serves(&rig.client("globex").await).await;
    // A lower limit takes nothing away from who is there.
    allow(&rig, "acme", 0).await;
    serves(&first).await;
    assert_eq!(used(&rig, "acme"), 1);
}

#[tokio::test]
async fn a_source_that_knocks_too_fast_is_refused_and_others_are_not() {
    let rig = Rig::with(|c| {
        c.limits.source_loopback_exempt = false;
        // Without a refill, so that the count is exact however slow the machine.
        c.limits.source_connections_per_second = 0;
        c.limits.source_connections_burst = 3;
    })
    .await;
    let from = |ip| patient(rig.builder("acme")).endpoint(endpoint_at(ip));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(from([127, 0, 0, 1]).connect().await.expect("within the burst"));
    }
    let error = from([127, 0, 0, 1]).connect().await.expect_err("beyond the burst");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(error.retryable(), "{error}");
    open.push(from([127, 0, 0, 2]).connect().await.expect("another source"));
    for client in &open {
        serves(client).await;
    }
    drop(open);
    nothing_is_left(&rig).await;
}

#[tokio::test]
async fn a_source_that_waited_may_knock_again() {
    let rig = Rig::with(|c| {
        c.limits.source_loopback_exempt = false;
        c.limits.source_connections_per_second = 2;
        c.limits.source_connections_burst = 1;
    })
    .await;
    let again = async {
        let mut refused = 0;
        for _ in 0..3 {
            while rig.builder("acme").connect().await.is_err() {
                refused += 1;
            }
        }
        refused
    };
    let refused = tokio::time::timeout(SOON, again).await.expect("its bucket fills again");
    assert!(refused > 0, "it was never refused");
}

#[tokio::test]
async fn a_client_that_vanished_gives_its_place_back() {
    let rig = Rig::with(|c| c.limits.idle_timeout_ms = 1_000).await;
    allow(&rig, "acme", 1).await;
    let builder = rig.builder("acme");
    // Its runtime is torn away: no packet says good-bye.
    let runtime = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(builder.connect()).expect("a connection");
        std::mem::forget(client);
        runtime
    });
    let runtime = tokio::task::spawn_blocking(|| runtime.join().expect("a client"));
    let runtime = runtime.await.expect("a client");
    assert_eq!(used(&rig, "acme"), 1);
    runtime.shutdown_timeout(Duration::ZERO);
    nothing_is_left(&rig).await;
    serves(&rig.client("acme").await).await;
}
