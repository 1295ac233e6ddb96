//! Every permit to its limit and one over, and counts that are exact while threads race.

use std::{
    iter::once,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tollgate_protocol::{Code, batch::Scope};

use super::*;

/// Takes `limit` of a quota, then one more; gives one back, and takes it again.
#[track_caller]
fn to_the_limit_and_one_over(
    quota: Quota,
    limit: u64,
    set: impl FnOnce(&mut Quotas, Limit),
    take: impl Fn(&Arc<Tenant>) -> Result<Permit, Refusal>,
) -> Code {
    let mut quotas = Quotas::DEFAULT;
    set(&mut quotas, Limit::at_most(limit));
    let t = tenant(|s| s.overrides = Overrides::all(&quotas));
    let mut held: Vec<_> = (0..limit).map(|_| take(&t).expect("within the limit")).collect();
    let refusal = take(&t).expect_err("one over");
    assert_eq!(refusal, Refusal { quota, scope: Scope::Tenant, current: limit, limit });
    assert_eq!(t.used(quota, now()), limit);
    held.pop();
    held.push(take(&t).expect("one was given back"));
    assert!(take(&t).is_err());
    drop(held);
    assert_eq!(t.used(quota, now()), 0);
    assert!(t.is_idle());
    refusal.code()
}

/// One row for each quota of the table: what it is, and how it says no.
#[test]
fn every_quota_holds_at_its_limit_and_says_why() {
    use Quota as Q;
    for &quota in Quota::ALL {
        let code = match quota {
            Q::Connections => {
                to_the_limit_and_one_over(quota, 10, |q, l| q.connections = l, |t| t.connection())
            }
            Q::BatchesInFlight => {
                to_the_limit_and_one_over(quota, 3, |q, l| q.batches_in_flight = l, |t| t.batch())
            }
            Q::Producers => {
                to_the_limit_and_one_over(quota, 5, |q, l| q.producers = l, |t| t.producer())
            }
            Q::Consumers => {
                to_the_limit_and_one_over(quota, 2, |q, l| q.consumers = l, |t| t.consumer())
            }
            Q::ConsumerGroups => counted(quota, |q, l| q.consumer_groups = l),
            Q::Topics => counted(quota, |q, l| q.topics = l),
            Q::Partitions => counted(quota, |q, l| q.partitions = l),
            Q::StorageBytes => counted(quota, |q, l| q.storage_bytes = l),
            Q::JobsQueued => counted(quota, |q, l| q.jobs_queued = l),
            Q::RetentionHours | Q::BatchItems | Q::PayloadBytes => one_thing(quota),
            Q::RequestsPerSecond => rate(quota, |t, cost| t.charge(now(), once(cost.bytes))),
            Q::BytesPerSecond => rate(quota, |t, cost| t.charge(now(), once(cost.n))),
            Q::MessagesPerSecond => {
                rate(quota, |t, cost| t.deliver_messages(now(), once(cost)));
                rate(quota, |t, cost| t.charge_messages(now(), once(cost)))
            }
            Q::Streams => unreachable!("a gateway's"),
        };
        let expected = match quota {
            Q::BatchItems => Code::BatchTooLarge,
            Q::StorageBytes => Code::StorageFull,
            _ => Code::QuotaExceeded,
        };
        assert_eq!(code, expected, "{quota}");
    }
}

/// A quota on what exists, taken by its name.
fn counted(quota: Quota, set: impl FnOnce(&mut Quotas, Limit)) -> Code {
    to_the_limit_and_one_over(quota, 7, set, |t| t.permit(quota, 1))
}

/// A quota on single things.
fn one_thing(quota: Quota) -> Code {
    let t = tenant(|_| ());
    let limit = Quotas::DEFAULT.get(quota).get();
    assert_eq!(t.check(quota, limit), Ok(()));
    let refusal = t.check(quota, limit + 1).expect_err("one over");
    assert_eq!(refusal, Refusal { quota, scope: Scope::Tenant, current: limit + 1, limit });
    refusal.code()
}

/// A rate of 10: taken one by one (or, of bytes, ten at once), then one over, then none at all.
fn rate(quota: Quota, charge: impl Fn(&Arc<Tenant>, Cost) -> Charged) -> Code {
    let limited = |limit| {
        tenant(|s| {
            s.policy = Policy::Reject;
            let limit = Some(limit);
            match quota {
                Quota::RequestsPerSecond => s.overrides.requests_per_second = limit,
                Quota::BytesPerSecond => s.overrides.bytes_per_second = limit,
                _ => s.overrides.messages_per_second = limit,
            }
        })
    };
    let t = limited(Limit::at_most(10));
    for _ in 0..10 {
        assert_eq!(charge(&t, Cost { n: 1, bytes: 1 }).admitted, 1, "{quota}");
    }
    assert_eq!(t.used(quota, now()), 10);
    let over = charge(&t, Cost { n: 1, bytes: 1 });
    let stop = over.stop.expect("one over");
    assert_eq!((over.admitted, stop.code()), (0, Code::RateLimited));
    let refusal = Refusal { quota, scope: Scope::Tenant, current: 10, limit: 10 };
    assert_eq!(stop.refusal(), refusal);
    assert!((1..=1_000).contains(&stop.wait_ms().expect("it comes free")), "{stop:?}");
    let none = charge(&limited(Limit::NONE), Cost { n: 1, bytes: 1 }).stop.expect("none at all");
    assert_eq!((none.kind, none.wait_ms()), (Kind::Never, None));
    assert_eq!(charge(&limited(Limit::UNLIMITED), Cost { n: 1, bytes: 1 }).admitted, 1);
    none.code()
}

#[test]
fn a_retention_up_to_the_limit_is_allowed_and_unlimited_is_never_too_long() {
    let t = tenant(|s| s.overrides.retention_hours = Some(Limit::UNLIMITED));
    assert_eq!(t.check(Quota::RetentionHours, u64::MAX - 1), Ok(()));
    let t = tenant(|s| s.overrides.retention_hours = Some(Limit::NONE));
    assert_eq!(t.check(Quota::RetentionHours, 1).map_err(|r| r.limit), Err(0));
}

#[test]
fn a_permit_of_many_is_all_or_nothing() {
    let t = tenant(|s| s.overrides.storage_bytes = Some(Limit::at_most(1_000)));
    let held = t.permit(Quota::StorageBytes, 600).expect("within the limit");
    let refusal = t.permit(Quota::StorageBytes, 401).expect_err("one over");
    assert_eq!((refusal.current, refusal.limit), (600, 1_000));
    let _rest = t.permit(Quota::StorageBytes, 400).expect("exactly the rest");
    assert_eq!((held.quota(), held.amount()), (Quota::StorageBytes, 600));
    drop(held);
    assert_eq!(t.used(Quota::StorageBytes, now()), 400);
}

#[test]
fn no_limit_does_not_overflow_and_none_admits_nothing() {
    let t = tenant(|s| {
        s.overrides.storage_bytes = Some(Limit::UNLIMITED);
        s.overrides.producers = Some(Limit::NONE);
    });
    let _most = t.permit(Quota::StorageBytes, u64::MAX - 1).expect("no limit");
    assert!(t.permit(Quota::StorageBytes, 2).is_err());
    assert_eq!(t.producer().expect_err("none").limit, 0);
}

#[test]
fn a_gateway_has_limits_of_its_own() {
    let mut config = Config::default();
    let few = GatewayLimits { connections: 1, streams: 2, ..GatewayLimits::default() };
    config.gateways.insert("edge".into(), few);
    let registry = Registry::in_memory(&config);
    let edge = registry.gateway("edge");
    let _connection = edge.connection().expect("the first");
    let refusal = registry.gateway("edge").connection().expect_err("the same gateway");
    let expected =
        Refusal { quota: Quota::Connections, scope: Scope::Gateway, current: 1, limit: 1 };
    assert_eq!(refusal, expected);
    let streams = [edge.stream().expect("room"), edge.stream().expect("room")];
    let refusal = edge.stream().expect_err("one over");
    assert_eq!((refusal.quota.name(), refusal.current, refusal.limit), ("streams", 2, 2));
    drop(streams);
    assert_eq!(edge.used(Quota::Streams), 0);
    let other: Vec<_> = (0..17).map(|_| registry.gateway("other").connection()).collect();
    assert_eq!(other.iter().filter(|c| c.is_ok()).count(), 16);
}

#[test]
fn racing_threads_never_go_one_over_and_leave_nothing_behind() {
    let t = tenant(|s| s.overrides.connections = Some(Limit::at_most(100)));
    let (inside, most, admitted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let barrier = Barrier::new(64);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..20 {
                    // Three of 64 threads hold three places each at a time, or try to.
                    let held: Vec<_> = (0..3).filter_map(|_| t.connection().ok()).collect();
                    let n = held.len() as u64;
                    let now_inside = inside.fetch_add(n, Ordering::SeqCst) + n;
                    most.fetch_max(now_inside, Ordering::SeqCst);
                    admitted.fetch_add(n, Ordering::SeqCst);
                    thread::yield_now();
                    inside.fetch_sub(n, Ordering::SeqCst);
                    drop(held);
                }
            });
        }
    });
    assert!(most.into_inner() <= 100, "more than the limit were inside at once");
    assert!(admitted.into_inner() > 0);
    assert_eq!(t.used(Quota::Connections, now()), 0);
}

#[test]
fn of_many_that_come_at_once_exactly_the_limit_gets_in() {
    let t = tenant(|s| s.overrides.connections = Some(Limit::at_most(100)));
    for _ in 0..20 {
        let barrier = Barrier::new(64);
        let held: Vec<Permit> = thread::scope(|scope| {
            let connect = || {
                barrier.wait();
                (0..16).filter_map(|_| t.connection().ok()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect()
        });
        assert_eq!(held.len(), 100);
        assert_eq!(t.used(Quota::Connections, now()), 100);
        drop(held);
        assert_eq!(t.used(Quota::Connections, now()), 0);
    }
}

#[test]
fn racing_charges_admit_exactly_the_limit() {
    for policy in [Policy::Pace, Policy::Reject] {
        let t = tenant(|s| {
            s.policy = policy;
            s.overrides.requests_per_second = Some(Limit::at_most(1_000));
            s.overrides.bytes_per_second = Some(Limit::at_most(64_000));
        });
        let (now, barrier) = (now(), Barrier::new(64));
        let admitted: usize = thread::scope(|scope| {
            let charge = || {
                barrier.wait();
                (0..10).map(|_| t.charge(now, [64; 3].into_iter()).admitted).sum::<usize>()
            };
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(charge)).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).sum()
        });
        assert_eq!(admitted, 1_000);
        assert_eq!(t.used(Quota::RequestsPerSecond, now), 1_000);
        assert_eq!(t.used(Quota::BytesPerSecond, now), 64_000);
    }
}

#[test]
fn racing_messages_are_admitted_exactly_to_the_limit_each_way() {
    let t = tenant(|s| {
        s.policy = Policy::Reject;
        s.overrides.messages_per_second = Some(Limit::at_most(1_000));
    });
    let (now, barrier) = (now(), Barrier::new(64));
    let race = || {
        barrier.wait();
        let mut admitted = (0, 0);
        for _ in 0..10 {
            admitted.0 += t.charge_messages(now, [Cost::one(64); 3].into_iter()).admitted;
            admitted.1 += t.deliver_messages(now, [Cost::one(64); 3].into_iter()).admitted;
        }
        admitted
    };
    let admitted: Vec<(usize, usize)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(race)).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    let sum = |of: fn(&(usize, usize)) -> usize| admitted.iter().map(of).sum::<usize>();
    assert_eq!((sum(|a| a.0), sum(|a| a.1)), (1_000, 1_000));
    assert_eq!(t.used(Quota::MessagesPerSecond, now), 1_000);
}

#[tokio::test]
async fn a_lowered_limit_keeps_what_is_out_and_refuses_what_is_new() {
    let registry = Registry::in_memory(&Config::default());
    let t = registry.create_named("acme", Settings::default()).await.expect("a valid id");
    let mut held: Vec<_> = (0..3).map(|_| t.connection().expect("room")).collect();
    let lower = |s: &mut Settings| s.overrides.connections = Some(Limit::at_most(2));
    registry.update("acme", None, lower).await.expect("it exists");
    let refusal = t.connection().expect_err("over");
    assert_eq!((refusal.current, refusal.limit), (3, 2));
    let line = t.usage(now())[0];
    assert_eq!((line.quota, line.utilisation()), (Quota::Connections, 150.0));
    held.truncate(1);
    held.push(t.connection().expect("room again"));
    assert!(t.connection().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_grows_in_flight_has_room_or_goes_beyond_it_one_at_a_time() {
    let config = Config { tenant_in_flight_bytes: 1_000, ..Config::default() };
    let registry = Registry::in_memory(&config);
    let t = registry.create_named("acme", Settings::default()).await.expect("a valid id");
    let held = t.reserve_bytes(700).expect("room");
    let fits = t.grow_bytes_wait(300).await;
    let beyond = t.grow_bytes_wait(400).await;
    assert_eq!((beyond.amount(), t.bytes_in_flight()), (400, 1_400));
    assert!(t.reserve_bytes(1).is_none(), "it makes no room");
    let next = tokio::spawn({
        let t = t.clone();
        async move { t.grow_bytes_wait(200).await }
    });
    let given_up = t.grow_bytes_wait(200);
    assert!(tokio::time::timeout(Duration::from_secs(1), given_up).await.is_err());
    assert!(!next.is_finished(), "one at a time");
    drop(beyond);
    let next = done(next).await;
    assert_eq!(t.bytes_in_flight(), 1_200, "the next goes beyond it");
    drop((next, fits));
    let fits = t.grow_bytes_wait(300).await;
    assert_eq!(t.bytes_in_flight(), 1_000, "there is room again, and who gave up took none");
    drop((held, fits));
    assert_eq!(t.bytes_in_flight(), 0);
    let mut all = t.reserve_bytes(1_000).expect("room");
    let part = all.split(400);
    assert_eq!((all.amount(), part.amount()), (600, 400));
    drop(all);
    assert_eq!(t.bytes_in_flight(), 400);
    let both = BytesPermit::merged(Some(part), t.reserve_bytes(100).expect("room"));
    assert_eq!(both.as_ref().map(BytesPermit::amount), Some(500));
    drop(both);
    assert_eq!(t.bytes_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_exact_and_what_is_too_large_goes_alone() {
    let config = Config { tenant_in_flight_bytes: 1_000, ..Config::default() };
    let registry = Registry::in_memory(&config);
    let t = registry.create_named("acme", Settings::default()).await.expect("a valid id");
    let mut held = t.reserve_bytes(600).expect("room");
    assert!(t.reserve_bytes(401).is_none(), "one over");
    held.shrink_to(599);
    assert!(held.covers(&t, 599) && !held.covers(&t, 600));
    let rest = t.reserve_bytes(401).expect("exactly the rest");
    let large = tokio::spawn({
        let t = t.clone();
        async move { t.reserve_bytes_wait(5_000).await }
    });
    tokio::task::yield_now().await;
    drop(rest);
    tokio::task::yield_now().await;
    assert!(!large.is_finished());
    assert!(t.reserve_bytes(1).is_none(), "nobody passes who waits");
    drop(held);
    let large = done(large).await;
    assert_eq!((large.amount(), t.bytes_in_flight()), (1_000, 1_000));
    assert!(large.covers(&t, 9_999));
    drop(large);
    assert_eq!(t.bytes_in_flight(), 0);
}
