//! What is looked at again and again: who is in use, how close to its limits, and whether the
//! counts are true.

use std::mem::forget;

use super::{
    alerts::{self, Alerts, Level},
    audit::{self, Found},
    *,
};
use crate::events::{Events, Kind, News, Subscription};

async fn registry(config: &Config) -> (Registry, Arc<Tenant>) {
    let registry = Registry::in_memory(config);
    let acme = registry.create_named("acme", Settings::default()).await.expect("a tenant");
    (registry, acme)
}

fn kind(news: Option<News>) -> Kind {
    match news {
        Some(News::Event(event)) => event.kind.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_does_nothing_costs_nothing_to_look_at() {
    let (registry, acme) = registry(&Config::default()).await;
    assert!(acme.usage(now()).iter().all(|l| l.current == 0 && l.level == Level::Normal));
    assert!(acme.is_idle() && acme.waiting() == 0);
    assert!(acme.counted_yet().is_none(), "looking counts nothing");
    assert!(registry.in_use().is_empty());
    let connection = acme.connection().expect("room");
    assert_eq!(registry.in_use().len(), 1);
    acme.leave_if_quiet(now());
    assert_eq!(registry.in_use().len(), 1, "it is connected");
    assert_eq!(acme.charge(now(), [1].into_iter()).admitted, 1);
    drop(connection);
    acme.leave_if_quiet(now());
    assert_eq!(registry.in_use().len(), 1, "its window is not empty yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    acme.leave_if_quiet(now());
    assert!(registry.in_use().is_empty());
    assert_eq!(acme.charge(now(), [1].into_iter()).admitted, 1);
    assert_eq!(registry.in_use().len(), 1, "it is back");
    drop(acme);
    registry.delete_now("acme", None).await.expect("there is one");
}

#[tokio::test]
async fn limits_that_change_before_the_first_charge_are_in_force_at_it() {
    let (registry, acme) = registry(&Config::default()).await;
    let lower = |s: &mut Settings| s.overrides.requests_per_second = Some(Limit::at_most(2));
    registry.update("acme", None, lower).await.expect("there is one");
    assert_eq!(acme.charge(now(), [0; 5].into_iter()).admitted, 2);
}

#[test]
fn a_level_rises_at_its_threshold_and_falls_well_below_it() {
    use Level::{Critical, Normal, Warning};
    let alerts = Alerts::default();
    let mut level = Normal;
    let mut at = |current| {
        level = alerts.next(level, current, Some(100));
        level
    };
    let steps = [
        (79, Normal),
        (80, Warning),
        (76, Warning),
        (75, Warning),
        (74, Normal),
        (94, Warning),
        (95, Critical),
        (200, Critical),
        (90, Critical),
        (89, Warning),
        (0, Normal),
    ];
    for (current, expected) in steps {
        assert_eq!(at(current), expected, "{current} of 100");
    }
    assert_eq!(alerts.next(Normal, u64::MAX, Some(u64::MAX)), Critical);
    assert_eq!(alerts.next(Critical, 5, None), Normal, "no bound is never near");
    assert_eq!(alerts.next(Normal, 1, Some(0)), Critical);
    assert_eq!(alerts.next(Normal, 0, Some(0)), Normal);
}

#[tokio::test(start_paused = true)]
async fn what_crosses_a_threshold_is_told_once_on_each_way() {
    let (registry, acme) = registry(&Config::default()).await;
    let lower = |s: &mut Settings| s.overrides.connections = Some(Limit::at_most(20));
    registry.update("acme", None, lower).await.expect("there is one");
    let events = Events::default();
    let mut told = events.subscribe(None);
    let watch = tokio::spawn(alerts::watch(registry, events.clone()));
    let used = |current| crate::events::QuotaUse { quota: "connections", current, limit: 20 };
    let level = |t: &Tenant| t.usage(now())[0].level;

    let mut held: Vec<_> = (0..16).map(|_| acme.connection().expect("room")).collect();
    assert_eq!(level(&acme), Level::Warning, "what is asked for is of this moment");
    assert_eq!(kind(told.next().await), Kind::QuotaWarning(used(16)));
    held.extend((0..4).map(|_| acme.connection().expect("room")));
    assert_eq!(kind(told.next().await), Kind::QuotaCritical(used(20)));
    held.truncate(18);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(told.try_next(), None, "still 90 %");
    held.truncate(17);
    assert_eq!(kind(told.next().await), Kind::QuotaWarning(used(17)));
    held.clear();
    assert_eq!(kind(told.next().await), Kind::QuotaNormal(used(0)));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(told.try_next(), None);
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_nearly_used_up_is_told() {
    let (registry, acme) = registry(&Config::default()).await;
    let events = Events::default();
    let mut told = events.subscribe(None);
    let watch = tokio::spawn(alerts::watch(registry, events.clone()));
    assert_eq!(acme.charge(now(), std::iter::repeat_n(0, 49_000)).admitted, 49_000);
    let Kind::QuotaCritical(used) = kind(told.next().await) else { panic!("98 %") };
    assert_eq!((used.quota, used.current, used.limit), ("requests_per_second", 49_000, 50_000));
    let Kind::QuotaNormal(used) = kind(told.next().await) else { panic!("it has left") };
    assert_eq!((used.quota, used.current), ("requests_per_second", 0));
    watch.abort();
}

/// A registry that is audited: nothing exists but what `found` says.
async fn audited(found: Found) -> (Registry, Arc<Tenant>, Subscription) {
    let (registry, acme) = registry(&Config::default()).await;
    let events = Events::default();
    let told = events.subscribe(None);
    let found = Arc::new(found);
    let recount = move || Found {
        connections: found.connections.clone(),
        consumers: found.consumers.clone(),
        gateways: found.gateways.clone(),
        jobs: found.jobs.clone(),
        ..Found::default()
    };
    tokio::spawn(audit::watch(registry.clone(), events, 10_000, recount));
    (registry, acme, told)
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_was_lost_is_found() {
    let (registry, acme, mut told) = audited(Found::default()).await;
    assert_eq!(registry.drift(), 0);
    forget(acme.connection());
    let t0 = tokio::time::Instant::now();
    let Kind::Drift { scope, quota, counted, found, .. } = kind(told.next().await) else {
        panic!("a drift")
    };
    assert_eq!((scope, quota, counted, found), ("tenant", "connections", 1, 0));
    assert!(t0.elapsed() <= Duration::from_secs(21), "two recounts");
    assert_eq!(registry.drift(), 1);
    let holder = Holder::Tenant(acme.id().clone());
    let drift = Drift { holder, quota: "connections", counted: 1, found: 0 };
    assert_eq!(registry.drifts(), [drift]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told.try_next(), None, "it is told once");
    forget(acme.reserve_bytes(100));
    let Kind::Drift { quota, counted, .. } = kind(told.next().await) else { panic!("a drift") };
    assert_eq!((quota, counted), ("bytes_in_flight", 100));
    assert_eq!(registry.drift(), 101);
}

#[tokio::test(start_paused = true)]
async fn what_attempts_of_jobs_hold_without_a_batch_is_no_drift() {
    let mut found = Found::default();
    found.jobs.insert(1, Some([(1, 1), (0, 0)]));
    let (registry, acme, mut told) = audited(found).await;
    assert_eq!(acme.index(), 1);
    forget(acme.reserve_bytes(100));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((registry.drift(), told.try_next()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_counted_and_not_there_is_found() {
    let (registry, acme) = registry(&Config::default()).await;
    let events = Events::default();
    let mut told = events.subscribe(None);
    let mut found = Found::default();
    found.consumers.insert(acme.index(), 1);
    let found = Arc::new(found);
    let recount = move || Found { consumers: found.consumers.clone(), ..Found::default() };
    tokio::spawn(audit::watch(registry.clone(), events, 10_000, recount));
    let _works = acme.consumer();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((registry.drift(), told.try_next()), (0, None));
    forget(acme.consumer());
    let Kind::Drift { quota, counted, found, .. } = kind(told.next().await) else {
        panic!("a drift")
    };
    assert_eq!((quota, counted, found), ("consumers", 2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_lost_is_found() {
    let mut found = Found::default();
    found.gateways.insert("edge".into(), (1, 2));
    let (registry, _acme, mut told) = audited(found).await;
    let edge = registry.gateway("edge");
    let _held = (edge.connection(), [edge.stream(), edge.stream()]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((registry.drift(), told.try_next()), (0, None));
    forget(edge.stream());
    let Kind::Drift { scope, gateway, quota, .. } = kind(told.next().await) else {
        panic!("a drift")
    };
    assert_eq!((scope, gateway.as_deref(), quota), ("gateway", Some("edge"), "streams"));
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_while_it_is_counted_is_no_drift() {
    let (registry, acme, mut told) = audited(Found::default()).await;
    // Held at every other look.
    for _ in 0..20_000 {
        let held = acme.connection().expect("room");
        tokio::time::sleep(Duration::from_millis(7)).await;
        drop(held);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((registry.drift(), told.try_next()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_difference_that_goes_away_is_told_no_more() {
    let (registry, acme, mut told) = audited(Found::default()).await;
    let held = acme.connection().expect("room");
    assert!(matches!(kind(told.next().await), Kind::Drift { .. }));
    drop(held);
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(registry.drift(), 0);
}
