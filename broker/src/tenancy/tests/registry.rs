//! Tenants come, change and go.

use super::*;

fn registry() -> Registry {
    Registry::new(&Config::default())
}

fn apply(registry: &Registry, text: &str) {
    registry.apply_file(TenantsFile::parse(text).expect("a file without mistakes"));
}

#[test]
fn a_tenant_lives_from_create_to_remove() {
    let r = registry();
    let t = r.create("acme", Settings::default()).expect("free");
    assert!(matches!(r.create("acme", Settings::default()), Err(CreateError::Exists(_))));
    assert!(matches!(r.create("Acme", Settings::default()), Err(CreateError::Id(_))));
    assert_eq!(r.remove("acme"), Err(RemoveError::Active));
    let held = t.batch().expect("room");
    r.suspend("acme").expect("it exists");
    assert_eq!(t.state(), State::Suspended);
    assert_eq!(r.remove("acme"), Err(RemoveError::Busy));
    r.activate("acme").expect("it exists");
    assert_eq!(t.state(), State::Active);
    r.suspend("acme").expect("it exists");
    drop(held);
    assert_eq!(r.remove("acme"), Ok(()));
    assert_eq!(t.state(), State::Deleted);
    assert_eq!(r.remove("acme"), Err(RemoveError::Unknown));
    assert_eq!(r.activate("acme").map(|_| ()), Err(UnknownTenant));
    assert_eq!(r.get("acme").expect("a deleted one is still known").state(), State::Deleted);
    assert!(r.get("other").is_none());
}

#[test]
fn a_tenant_of_the_same_id_is_another() {
    let r = registry();
    let old = r.create("acme", Settings::default()).expect("free");
    let held = old.connection().expect("room");
    assert_eq!(old.charge(now(), [5].into_iter()).admitted, 1);
    r.remove_now("acme").expect("it exists");
    let new = r.create("acme", Settings::default()).expect("free again");
    assert_ne!(old.index(), new.index());
    assert_eq!((old.state(), new.state()), (State::Deleted, State::Active));
    assert_eq!(new.used(Quota::Connections, now()), 0);
    assert_eq!(new.used(Quota::BytesPerSecond, now()), 0);
    drop(held);
    assert_eq!(old.used(Quota::Connections, now()), 0);
    assert!(Arc::ptr_eq(&r.get("acme").expect("the new one"), &new));
    assert_eq!(r.all().len(), 1);
}

#[test]
fn every_change_is_told() {
    let r = registry();
    let seen = r.subscribe();
    let told = |expected| {
        assert_eq!(*seen.borrow(), expected);
    };
    told(0);
    r.create("acme", Settings::default()).expect("free");
    told(1);
    r.update("acme", |s| s.weight = 3).expect("it exists");
    told(2);
    assert_eq!(r.clone().get("acme").expect("it exists").weight(), 3);
    r.suspend("acme").expect("it exists");
    told(3);
    assert!(r.update("other", |_| ()).is_err());
    told(3);
    r.remove("acme").expect("idle");
    told(4);
    apply(&r, "");
    told(5);
}

#[test]
fn a_file_replaces_the_whole_set() {
    let r = registry();
    r.create("mine", Settings::default()).expect("free");
    apply(&r, "[tenants.a]\n[tenants.b]\nconcurrency = 7");
    let [a, b] = ["a", "b"].map(|id| r.get(id).expect("listed"));
    assert_eq!(r.get("mine").expect("still known").state(), State::Deleted);
    assert_eq!(b.settings().concurrency, 7);
    let held = a.connection().expect("room");
    apply(&r, "[tenants.a]\n[tenants.a.quotas]\nconnections = 1");
    assert!(Arc::ptr_eq(&a, &r.get("a").expect("listed")), "the same, changed");
    assert!(a.connection().is_err());
    drop(held);
    assert_eq!(b.state(), State::Deleted);
    apply(&r, "[tenants.a]\n[tenants.b]");
    let again = r.get("b").expect("listed");
    assert_eq!((again.state(), b.state()), (State::Active, State::Deleted));
    assert_ne!(again.index(), b.index());
}

#[test]
fn gateways_act_for_those_who_list_them() {
    let r = registry();
    let t = r.create("acme", Settings::default()).expect("free");
    assert!(!t.admits_gateway("edge"));
    r.update("acme", |s| s.gateways.push("edge".into())).expect("it exists");
    assert!(t.admits_gateway("edge") && !t.admits_gateway("edg"));
}

#[test]
fn usage_has_a_line_for_every_quota() {
    let r = registry();
    let t = r.create("acme", Settings::default()).expect("free");
    let (_c, _b) = (t.connection().expect("room"), t.batch().expect("room"));
    let now = now();
    assert_eq!(t.charge(now, [100, 200].into_iter()).admitted, 2);
    assert_eq!(t.take_out(now, 5_000).0, 5_000);
    let usage = t.usage(now);
    assert_eq!(usage.iter().map(|l| l.quota).collect::<Vec<_>>(), Quota::ALL);
    let of = |q| *usage.iter().find(|l| l.quota == q).expect("a line each");
    assert_eq!(of(Quota::Connections).current, 1);
    assert_eq!(
        of(Quota::BatchesInFlight),
        UsageLine { quota: Quota::BatchesInFlight, current: 1, limit: Some(256) }
    );
    assert_eq!(of(Quota::RequestsPerSecond).current, 2);
    assert_eq!(of(Quota::BytesPerSecond).current, 5_000, "the larger of in and out");
    assert_eq!(of(Quota::Connections).utilisation(), 0.2);
    r.update("acme", |s| s.quotas = Quotas::UNLIMITED).expect("it exists");
    assert!(t.usage(now).iter().all(|l| l.limit.is_none() && l.utilisation() == 0.0));
}

#[test]
fn changes_race_with_permits_and_readers_without_losing_any() {
    let r = registry();
    let t = r.create("acme", Settings::default()).expect("free");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..200).for_each(|_| drop(t.connection())));
            scope.spawn(|| {
                for _ in 0..50 {
                    r.update("acme", |s| s.workers += 1).expect("it exists");
                }
            });
        }
    });
    assert_eq!(t.settings().workers, 3 + 8 * 50, "no change is lost");
    assert_eq!(*r.subscribe().borrow(), 1 + 8 * 50);
    assert_eq!(t.used(Quota::Connections, now()), 0);
}
