use std::{pin::pin, thread};

use futures::StreamExt;

use super::*;

fn bus(kept_max: usize) -> Events {
    Events::new(&Config { kept_max })
}

fn happen(bus: &Events, n: u64) -> Vec<u64> {
    (0..n).map(|revision| bus.publish(None, Kind::TenantUpdated { revision })).collect()
}

fn id(news: Option<News>) -> u64 {
    match news.expect("there is news") {
        News::Event(event) => event.id,
        News::Lost(n) => panic!("{n} lost"),
    }
}

#[tokio::test]
async fn a_subscriber_is_told_what_happens_from_then_on_in_order() {
    let bus = bus(8);
    happen(&bus, 3);
    let mut told = bus.subscribe(None);
    assert_eq!(told.try_next(), None);
    let ids = happen(&bus, 4);
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1));
    for &expected in &ids {
        assert_eq!(id(told.next().await), expected);
    }
    assert_eq!(told.try_next(), None);
}

#[tokio::test]
async fn no_more_is_kept_than_was_said_and_the_slow_are_told_how_much_they_lost() {
    let bus = bus(4);
    let mut slow = bus.subscribe(None);
    let ids = happen(&bus, 10);
    assert_eq!(bus.recent().iter().map(|e| e.id).collect::<Vec<_>>(), ids[6..]);
    assert_eq!(slow.next().await, Some(News::Lost(6)));
    assert_eq!(id(slow.next().await), ids[6]);
    // Falls behind again, by less.
    happen(&bus, 2);
    assert_eq!(slow.next().await, Some(News::Lost(1)));
    assert_eq!(id(slow.next().await), ids[8]);
}

#[test]
fn who_comes_back_goes_on_after_what_it_has_seen() {
    let bus = bus(4);
    let ids = happen(&bus, 3);
    let mut told = bus.subscribe(Some(ids[0]));
    assert_eq!((id(told.try_next()), id(told.try_next())), (ids[1], ids[2]));
    assert_eq!(told.try_next(), None);
    assert_eq!(bus.subscribe(Some(ids[2])).try_next(), None, "all of it was seen");
    happen(&bus, 4);
    assert_eq!(bus.subscribe(Some(ids[0])).try_next(), Some(News::Lost(2)));
    assert_eq!(id(bus.subscribe(Some(ids[2])).try_next()), ids[2] + 1, "nothing is lost");
}

#[test]
fn who_has_seen_nothing_is_told_of_what_is_lost_only() {
    let bus = bus(4);
    assert_eq!(bus.subscribe(Some(0)).try_next(), None);
    let ids = happen(&bus, 4);
    let mut told = bus.subscribe(Some(0));
    assert_eq!((id(told.try_next()), id(told.try_next())), (ids[0], ids[1]), "all of it is kept");
    happen(&bus, 2);
    let mut told = bus.subscribe(Some(0));
    assert_eq!(told.try_next(), Some(News::Lost(2)));
    assert_eq!(id(told.try_next()), ids[2]);
}

#[test]
fn what_another_process_published_is_known_to_be_lost() {
    let bus = bus(4);
    let before = bus.subscribe(Some(7)).try_next();
    assert_eq!(before, Some(News::Lost(1)));
    let ids = happen(&bus, 6);
    let mut told = bus.subscribe(Some(7));
    assert_eq!(told.try_next(), Some(News::Lost(3)), "two of its own and the unknown");
    assert_eq!(id(told.try_next()), ids[2]);
    // The clock stepped back over a restart.
    let mut told = bus.subscribe(Some(u64::MAX));
    assert_eq!(told.try_next(), Some(News::Lost(3)));
    assert_eq!(id(told.try_next()), ids[2]);
}

#[tokio::test]
async fn a_subscription_ends_with_the_bus_after_the_last_news() {
    let bus = bus(4);
    let told = bus.subscribe(None);
    let ids = happen(&bus, 1);
    let mut told = pin!(told.into_stream());
    let again = bus.clone();
    drop(bus);
    assert_eq!(id(told.next().await), ids[0]);
    drop(again);
    assert_eq!(told.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscribers_are_each_told_everything_while_threads_publish() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let bus = bus((THREADS * EACH) as usize);
    let told: Vec<_> = (0..16)
        .map(|_| {
            let told = bus.subscribe(None).into_stream();
            tokio::spawn(told.map(|n| id(Some(n))).collect::<Vec<_>>())
        })
        .collect();
    let publishers: Vec<_> = (0..THREADS)
        .map(|_| {
            let bus = bus.clone();
            thread::spawn(move || happen(&bus, EACH))
        })
        .collect();
    let mut published: Vec<u64> =
        publishers.into_iter().flat_map(|p| p.join().expect("no panic")).collect();
    published.sort_unstable();
    drop(bus);
    for told in told {
        let told = told.await.expect("no panic");
        assert_eq!(told, published);
    }
}

#[test]
fn an_event_is_one_flat_object() {
    let bus = bus(4);
    let acme = TenantId::parse("acme").expect("an id");
    let used = QuotaUse { quota: "connections", current: 96, limit: 100 };
    let at = bus.publish(Some(&acme), Kind::QuotaCritical(used));
    bus.publish(None, Kind::Draining { until_unix_ms: 5 });
    let [critical, draining] = &bus.recent()[..] else { panic!("two events") };
    let json = serde_json::to_value(&**critical).expect("JSON");
    let when = json["at"].as_str().expect("text").parse::<jiff::Timestamp>().expect("RFC 3339");
    assert!(jiff::Timestamp::now().duration_since(when).abs().as_secs() < 60, "{when}");
    assert_eq!((json["id"].as_u64(), &json["tenant"]), (Some(at), &"acme".into()));
    assert_eq!((&json["kind"], &json["quota"]), (&"quota_critical".into(), &"connections".into()));
    assert_eq!((&json["current"], &json["limit"]), (&96.into(), &100.into()));
    let json = serde_json::to_value(&**draining).expect("JSON");
    assert_eq!((&json["kind"], json.get("tenant")), (&"draining".into(), None));
}

#[test]
fn every_kind_is_named_as_it_is_written() {
    let used = QuotaUse { quota: "topics", current: 1, limit: 1 };
    let text = String::new;
    let address = "127.0.0.1:1".parse().expect("an address");
    let kinds = [
        Kind::TenantCreated,
        Kind::TenantUpdated { revision: 1 },
        Kind::TenantSuspended,
        Kind::TenantActivated,
        Kind::TenantDeleted,
        Kind::QuotaWarning(used),
        Kind::QuotaCritical(used),
        Kind::QuotaNormal(used),
        Kind::ConnectionOpened { connection: 1, identity: text(), address },
        Kind::ConnectionClosed { connection: 1, identity: text() },
        Kind::RevocationAdded { revocation: text() },
        Kind::RevocationRemoved { revocation: text() },
        Kind::Drift { scope: "tenant", gateway: None, quota: "topics", counted: 1, found: 0 },
        Kind::Draining { until_unix_ms: 1 },
    ];
    for kind in kinds {
        let json = serde_json::to_value(&kind).expect("JSON");
        assert_eq!(json["kind"], kind.name());
        assert!(Kind::NAMES.contains(&kind.name()));
    }
}
