//! One connection of a gateway, two tenants: one far over its rate and one not. The one is paced to
//! its rate, and the other is not disturbed.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tollgate_broker::{
    batch::{Catalog, Spec},
    recipes,
    tenancy::Settings,
};
use tollgate_certs::Identity;
use tollgate_protocol::BrokerFrame;
use tollgate_tests::{
    Rig,
    raw::{self, RawReader},
    stage::plain,
};

use super::{at_most, limit};

/// Bytes a second that tenant A may send.
const RATE: u64 = 1 << 20;
/// Bytes of one of its items.
const ITEM: usize = 16 << 10;

/// How many windows are looked at, after the first.
fn windows() -> u64 {
    if std::env::var_os("TOLLGATE_LONG").is_some() { 10 } else { 2 }
}

/// Bytes that A's items brought, and when.
type Seen = Arc<Mutex<Vec<(Instant, u64)>>>;

fn catalog(seen: Seen) -> Catalog {
    let weigh = plain(move |_, payload, _| {
        seen.lock().expect("not poisoned").push((Instant::now(), payload.len() as u64));
        Ok(())
    });
    recipes::builtin().inline("weigh", Spec::default(), weigh).build().expect("a catalog")
}

/// Reads results until there are so many; how often the stream was told to wait before the first
/// result that came after it, at most.
async fn read(reader: &mut RawReader, items: u64) -> u64 {
    let (mut results, mut throttled) = (0, 0);
    while results < items {
        let frame = reader.next(|f| match f {
            BrokerFrame::Result(r) => {
                assert_eq!(r.code, 0, "item {}", r.id);
                (1, 0)
            }
            BrokerFrame::Throttled(t) => {
                assert_eq!((t.quota, t.limit), ("bytes_per_second", RATE));
                assert!(t.resume_ms <= 1_000, "{t:?}");
                (0, 1)
            }
            _ => (0, 0),
        });
        let (r, t) = frame.await.expect("the stream goes on");
        (results, throttled) = (results + r, throttled + t);
    }
    throttled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tenants_of_a_gateway_the_one_over_its_rate_waits_alone() {
    let seen = Seen::default();
    let rig = Rig::with_catalog(catalog(seen.clone()), |_| {}).await;
    for tenant in ["acme", "globex"] {
        let list = |s: &mut Settings| s.gateways = vec!["edge".into()];
        rig.broker.tenants().update(tenant, None, list).await.expect("there is one");
    }
    limit(&rig, "acme", |q| q.bytes_per_second = at_most(RATE)).await;
    let edge = Identity::gateway("edge").expect("an identity");
    let edge = raw::connect(rig.addr(), &rig.credentials_of(&edge)).await;

    // A offers more than the windows allow, as fast as the broker takes it.
    let windows = windows();
    let items = (windows + 1) * RATE / ITEM as u64;
    let a = edge.batch_with(|open| open.tenant = Some("acme")).await;
    let (mut send, mut reader) = (a.send, a.reader);
    let began = Instant::now();
    let sender = tokio::spawn(async move {
        let payload = vec![0; ITEM];
        for id in 0..items + 64 {
            let request = tollgate_protocol::batch::Request::new(id, "weigh", &payload);
            let mut out = Vec::new();
            let frame = tollgate_protocol::ClientFrame::Request(request);
            tollgate_protocol::encode(&frame, &mut out);
            if send.write_all(&out).await.is_err() {
                return;
            }
        }
    });
    let told = tokio::spawn(async move { (read(&mut reader, items).await, reader) });

    // B goes on beside it, on the same connection: each of its batches is answered.
    let mut batches = 0;
    while !told.is_finished() {
        let mut b = edge.batch_with(|open| open.tenant = Some("globex")).await;
        b.request(1, "echo", b"well").await;
        b.seal(1).await;
        let lines = b.transcript().await;
        assert_eq!(lines, ["accepted", "result 1 OK well", "summary Sealed 1/1"]);
        batches += 1;
    }
    let (throttled, reader) = told.await.expect("no panic");
    assert!(throttled > 0 && batches > 10, "{throttled} times told, {batches} batches of B");

    // Never over the rate: by when so much had run, so many windows had begun.
    let seen = seen.lock().expect("not poisoned");
    let mut sum = 0;
    for &(at, bytes) in seen.iter() {
        sum += bytes;
        let buckets = at.duration_since(began).as_millis() as u64 / 100 + 2;
        assert!(sum <= buckets.div_ceil(10) * RATE, "{sum} bytes after {:?}", at - began);
    }
    // After the first window: what was taken in those that follow. For people: how fast a machine
    // is no test judges.
    let from = began + Duration::from_secs(1);
    let until = from + Duration::from_secs(windows);
    let within = seen.iter().filter(|(at, _)| (from..until).contains(at));
    let taken: u64 = within.map(|(_, bytes)| bytes).sum();
    let share = taken as f64 * 100.0 / (RATE * windows) as f64;
    println!("A took {share:.1} % of its rate in {windows} windows; B had {batches} batches");
    drop(reader);
    sender.abort();
}
