use tollgate_protocol::Code;

use super::*;
use crate::tenancy::{Config, Registry, Settings};

fn registry(bounds: Bounds) -> Registry {
    let registry = Registry::in_memory(&Config::default());
    registry.book().bound(bounds);
    registry
}

async fn tenant(registry: &Registry, id: &str) -> Arc<Tenant> {
    registry.create_named(id, Settings::default()).await.expect("a free id")
}

fn lap(succeeded: usize, failed: usize) -> Lap {
    let mut lap = Lap::default();
    for _ in 0..succeeded {
        lap.succeeded(10, 20, 100_000);
    }
    for _ in 0..failed {
        lap.failed(10, Code::Panic, None);
    }
    lap
}

fn fold(registry: &Registry, tenant: &Arc<Tenant>, mut lap: Lap, after_ms: u64) {
    let now = registry.book().0.base + Duration::from_millis(after_ms);
    registry.book().fold(tenant, &mut lap, now);
    assert!(lap.is_empty(), "what was told is not told again");
}

#[tokio::test]
async fn what_is_folded_is_seen_of_the_tenant_and_of_all() {
    let registry = registry(Bounds::default());
    let (a, b) = (tenant(&registry, "a").await, tenant(&registry, "b").await);
    fold(&registry, &a, lap(3, 1), 0);
    fold(&registry, &a, lap(1, 0), 0);
    fold(&registry, &b, lap(1, 2), 0);
    let stats = a.stats();
    assert_eq!((stats.items_succeeded, stats.items_failed), (4, 1));
    assert_eq!((stats.bytes_in, stats.bytes_out), (50, 80));
    assert_eq!(stats.failures, BTreeMap::from([("PANIC", 1)]));
    assert_eq!((stats.latency_us.count, stats.latency_us.max), (4, 100));
    let all = registry.stats();
    assert_eq!((all.items_succeeded, all.items_failed, all.latency_us.count), (5, 3, 5));
}

#[tokio::test]
async fn a_tenant_that_was_never_active_costs_nothing() {
    let registry = registry(Bounds::default());
    let idle = tenant(&registry, "idle").await;
    assert_eq!(idle.stats(), StatsSnapshot::default());
    fold(&registry, &idle, Lap::default(), 0);
    assert!(idle.stats.get().is_none());
}

#[tokio::test]
async fn labels_are_bounded_and_stay() {
    let pinned = HashSet::from(["z".to_owned(), "other".to_owned()]);
    let registry = registry(Bounds { labels_max: 2, pinned, ..Bounds::default() });
    for id in ["a", "b", "c", "d", "other", "z"] {
        fold(&registry, &tenant(&registry, id).await, lap(1, 0), 0);
    }
    let rows = |r: &Registry| -> Vec<(String, u64)> {
        r.book().rows().into_iter().map(|r| (r.label.to_string(), r.succeeded)).collect()
    };
    let expected = [("a", 1), ("b", 1), ("z", 1), ("other", 3)].map(|(l, n)| (l.to_owned(), n));
    assert_eq!(rows(&registry), expected);
    // A tenant that is created again has its label, and counts from the beginning.
    registry.delete_now("a", None).await.expect("it is there");
    fold(&registry, &tenant(&registry, "a").await, lap(5, 0), 0);
    assert_eq!(rows(&registry)[0], ("a".to_owned(), 5));
    assert_eq!(rows(&registry)[3], ("other".to_owned(), 3));
}

#[tokio::test]
async fn latencies_are_kept_of_the_busiest_only() {
    let registry = registry(Bounds { latencies_max: 2, ..Bounds::default() });
    let mut tenants = Vec::new();
    for id in ["a", "b", "c"] {
        tenants.push(tenant(&registry, id).await);
    }
    let counts = || -> Vec<u64> { tenants.iter().map(|t| t.stats().latency_us.count).collect() };
    for t in &tenants {
        fold(&registry, t, lap(1, 0), 0);
    }
    assert_eq!(counts(), [1, 1, 0], "there is no room for the third");
    fold(&registry, &tenants[1], lap(1, 0), IDLE_MS);
    fold(&registry, &tenants[2], lap(1, 0), IDLE_MS + 1);
    assert_eq!(counts(), [0, 2, 1], "the first was idle, and made room");
    assert_eq!(tenants[0].stats().items_succeeded, 1, "its counts stay");
    assert_eq!(registry.stats().latency_us.count, 5, "of all, every latency is kept");
}

#[test]
fn a_lap_holds_many_items_of_the_same_latency() {
    let mut lap = Lap::default();
    for _ in 0..1_000 {
        lap.succeeded(0, 0, 1_000);
    }
    assert!(!lap.is_full());
    for us in 0..64 {
        assert!(!lap.is_full(), "{us}");
        lap.succeeded(0, 0, (us + 10) * 1_000);
        if us == 62 {
            break;
        }
    }
    assert!(lap.is_full());
}

#[tokio::test]
async fn a_latency_of_days_counts_as_an_hour() {
    let registry = registry(Bounds::default());
    let a = tenant(&registry, "a").await;
    let mut long = Lap::default();
    long.succeeded(0, 0, 1_000_000_000_000_000);
    fold(&registry, &a, long, 0);
    let max = a.stats().latency_us.max;
    assert!((3_600_000_000..3_700_000_000).contains(&max), "{max}");
}
