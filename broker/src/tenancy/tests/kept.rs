//! What outlives a process: tenants come back as they were acknowledged, whatever happens.

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};

use super::*;
use crate::{
    events::{Events, News},
    store::{Kind, Page, ScopeId, Space, Store, Stream, record::system::TENANTS},
};

mod model;

async fn open(store: &Store) -> Registry {
    let fence = store.system().claim().await.expect("a fence");
    let events = Events::default();
    Registry::open(&Config::default(), store.clone(), fence, events).await.expect("good records")
}

/// Settings that differ from the defaults in everything.
fn odd() -> Settings {
    Settings {
        name: "Odd, Inc.".into(),
        state: State::Suspended,
        profile: "free".into(),
        overrides: Overrides { topics: Some(Limit::UNLIMITED), ..Overrides::NOTHING },
        policy: Policy::Reject,
        concurrency: 1,
        workers: 2,
        weight: 3,
        gateways: vec!["edge".into()],
        metadata: [("tier".to_owned(), "gold".to_owned())].into(),
    }
}

#[tokio::test]
async fn tenants_come_back_as_they_were() {
    let store = Store::memory();
    let r = open(&store).await;
    let odd = r.create_named("odd", odd()).await.expect("free");
    r.create_named("acme", Settings::default()).await.expect("free");
    r.update("acme", None, |s| s.weight = 7).await.expect("it exists");
    r.create_named("gone", Settings::default()).await.expect("free");
    r.delete_now("gone", None).await.expect("it exists");
    let acme = r.get("acme").expect("created");

    let again = open(&store).await;
    assert_eq!(again.len(), 2);
    for before in [&odd, &acme] {
        let after = again.get(before.id().as_str()).expect("it was kept");
        assert_eq!((after.record(), after.index()), (before.record(), before.index()));
    }
    assert!(again.get("gone").is_none());
    let new = again.create_named("gone", Settings::default()).await.expect("free");
    assert_eq!(new.index(), 4, "a number is never used again");

    // The old process is not the owner any more.
    let late = r.update("acme", None, |s| s.weight = 8).await.expect_err("it lost the store");
    assert!(matches!(late, UpdateError::NotKept(NotKept::Failed(_))), "{late}");
    assert_eq!(acme.weight(), 7, "what is not kept is not in force");
}

#[tokio::test]
async fn without_room_nothing_changes_until_there_is_room() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    let acme = r.create_named("acme", Settings::default()).await.expect("free");
    disk.full_to_the_last();
    let outcomes =
        join_all((0..5).map(|n| r.update("acme", None, move |s| s.weight = 10 + n))).await;
    for outcome in outcomes {
        assert_eq!(outcome.map(drop), Err(UpdateError::NotKept(NotKept::Full)));
    }
    let error = r.create_named("new", Settings::default()).await.expect_err("no room");
    assert_eq!(error.code(), tollgate_protocol::Code::StorageFull);
    assert_eq!((acme.weight(), acme.record().revision, r.len()), (1, 1, 1));
    disk.full(false);
    r.update("acme", Some(1), |s| s.weight = 3).await.expect("there is room again");
    assert_eq!((acme.weight(), acme.record().revision), (3, 2));
    r.create_named("new", Settings::default()).await.expect("there is room again");
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_created_and_everything_else_goes_on() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    for id in ["acme", "globex", "hooli"] {
        r.create_named(id, Settings::default()).await.expect("free");
    }
    disk.full(true);
    r.suspend("acme", None).await.expect("out of the reserve");
    r.delete("acme", None).await.expect("out of the reserve");
    r.delete_now("globex", None).await.expect("out of the reserve");
    // What is refused takes along what was decided upon it, and nothing else.
    let (new, upon, other) = tokio::join!(
        r.create_named("new", Settings::default()),
        r.update("new", None, |s| s.weight = 2),
        r.update("hooli", None, |s| s.weight = 3),
    );
    assert_eq!(new.map(drop), Err(CreateError::NotKept(NotKept::Full)));
    assert_eq!(upon.map(drop), Err(UpdateError::NotKept(NotKept::Full)));
    assert_eq!(other.expect("out of the reserve").weight(), 3);
    let again = open(&store).await;
    assert_eq!(again.all().iter().map(|t| t.id().as_str()).collect::<Vec<_>>(), ["hooli"]);
    assert_eq!(again.get("hooli").expect("kept").weight(), 3);
}

#[tokio::test]
async fn updates_leave_room_for_suspending_and_deleting() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    for id in ["acme", "globex", "hooli"] {
        r.create_named(id, Settings::default()).await.expect("free");
    }
    r.suspend("hooli", None).await.expect("free");
    disk.used(Space::Reserve);
    // What is refused takes along nothing that may take other room.
    let (update, suspend, activate) = tokio::join!(
        r.update("acme", None, |s| s.weight = 2),
        r.suspend("globex", None),
        r.activate("hooli", None),
    );
    assert_eq!(update.map(drop), Err(UpdateError::NotKept(NotKept::Full)));
    suspend.expect("out of the last reserve");
    assert_eq!(activate.map(drop), Err(UpdateError::NotKept(NotKept::Full)));
    r.delete("globex", None).await.expect("out of the last reserve");
    r.delete_now("acme", None).await.expect("out of the last reserve");
    disk.full_to_the_last();
    assert!(r.delete("hooli", None).await.is_err(), "nothing is left");
}

#[tokio::test]
async fn a_key_creates_one_tenant_also_across_restarts() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    let once = |key: &str, n: u8| Once { key: key.into(), digest: [n; 32] };
    let new = |id: &str| NewTenant { id: TenantId::parse(id).ok(), ..NewTenant::default() };
    let (first, second) = tokio::join!(
        r.create_once(new("acme"), once("a", 1)),
        r.create_once(new("acme"), once("a", 1)),
    );
    let first = first.expect("free");
    assert!(Arc::ptr_eq(&first, &second.expect("the same")), "asked for twice at once");
    let other = r.create_once(new("globex"), once("a", 2)).await;
    assert_eq!(other.map(drop), Err(CreateError::KeyUsed));
    disk.full(true);
    let refused = r.create_once(new("globex"), once("b", 2)).await;
    assert_eq!(refused.map(drop), Err(CreateError::NotKept(NotKept::Full)));
    disk.full(false);
    r.create_once(new("globex"), once("b", 3)).await.expect("the key was free again");

    let (store, _) = disk.power_cut(0);
    let r = open(&store).await;
    let again = r.create_once(new("acme"), once("a", 1)).await.expect("the same");
    assert_eq!(again.index(), first.index());
    let other = r.create_once(new("hooli"), once("b", 2)).await;
    assert_eq!(other.map(drop), Err(CreateError::KeyUsed));
    r.delete_now("acme", None).await.expect("it exists");
    r.create_named("acme", Settings::default()).await.expect("free again");
    let gone = r.create_once(new("acme"), once("a", 1)).await;
    assert_eq!(gone.map(drop), Err(CreateError::KeyGone), "not its successor");
}

#[tokio::test]
async fn a_failed_sync_is_final_and_what_was_kept_shows_at_the_next_start() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    r.create_named("acme", Settings::default()).await.expect("free");
    disk.fail_sync(0);
    let error = r.suspend("acme", None).await.expect_err("it failed");
    assert_eq!(error.code(), tollgate_protocol::Code::StoreUnavailable);
    assert_eq!(r.get("acme").expect("created").state(), State::Active);
    let error = r.activate("acme", None).await.map(drop);
    assert_eq!(error, Ok(()), "it is active: there is nothing to keep");
    assert!(r.suspend("acme", None).await.is_err(), "it stays lost");
}

#[tokio::test]
async fn nothing_is_in_force_before_it_is_kept() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    let acme = r.create_named("acme", Settings::default()).await.expect("free");
    disk.hold(true);
    let first = tokio::spawn(change(&r, |s| s.weight = 5));
    while disk.held() == 0 {
        tokio::task::yield_now().await;
    }
    // Decided upon what is not kept yet.
    let second = tokio::spawn(change(&r, |s| s.weight *= 2));
    let nothing = tokio::spawn(change(&r, |s| s.weight *= 1));
    tokio::task::yield_now().await;
    let conflict = r.update("acme", Some(1), |s| s.weight = 9).await.map(drop);
    assert!(matches!(conflict, Err(UpdateError::Conflict { .. })));
    assert_eq!(acme.weight(), 1);
    assert!(!nothing.is_finished(), "who finds it as wished waits until it is kept");
    disk.hold(false);
    for task in [first, second, nothing] {
        task.await.expect("no panic").expect("kept");
    }
    assert_eq!((acme.weight(), acme.record().revision), (10, 3));
}

/// A change of `acme` for a task of its own.
fn change(
    r: &Registry,
    change: impl FnOnce(&mut Settings) + Send + 'static,
) -> impl Future<Output = Result<(), UpdateError>> + Send + 'static {
    let r = r.clone();
    async move { r.update("acme", None, change).await.map(drop) }
}

#[tokio::test]
async fn who_asks_and_goes_away_has_changed_it_all_the_same() {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    let acme = r.create_named("acme", Settings::default()).await.expect("free");
    let mut changes = acme.subscribe();
    disk.hold(true);
    let task = tokio::spawn(change(&r, |s| s.weight = 5));
    while disk.held() == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    disk.hold(false);
    changes.changed().await;
    assert_eq!(acme.weight(), 5);
    assert_eq!(open(&store).await.get("acme").expect("kept").weight(), 5);
}

#[tokio::test]
async fn a_checkpoint_is_only_a_quicker_start() {
    let store = Store::memory();
    let r = open(&store).await;
    for id in ["a", "b", "c", "d"] {
        r.create_named(id, Settings::default()).await.expect("free");
    }
    r.delete_now("b", None).await.expect("it exists");
    r.checkpoint().await;
    let ends = store.system().ends(TENANTS).await.expect("readable");
    assert_eq!((ends.first, ends.first == ends.next), (ends.next, true), "all is in the view");
    r.update("a", None, |s| s.weight = 2).await.expect("it exists");
    r.delete_now("c", None).await.expect("it exists");
    r.create_named("b", odd()).await.expect("free again");
    let again = open(&store).await;
    let state = |r: &Registry| -> Vec<_> {
        r.all().iter().map(|t| (t.id().clone(), t.index(), t.record())).collect()
    };
    assert_eq!(state(&again), state(&r));
    again.checkpoint().await;
    let third = open(&store).await;
    assert_eq!(state(&third), state(&r));
    assert_eq!(third.create_named("e", Settings::default()).await.expect("free").index(), 6);
}

#[tokio::test]
async fn the_view_follows_by_itself() {
    let store = Store::memory();
    let r = open(&store).await;
    r.create_named("acme", Settings::default()).await.expect("free");
    let mut changes = FuturesUnordered::new();
    for n in 0..5_000_u32 {
        changes.push(r.update("acme", None, move |s| s.workers = n));
    }
    while changes.next().await.is_some() {}
    let trimmed = async {
        while store.system().ends(TENANTS).await.expect("readable").first.0 < 4_096 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), trimmed).await.expect("it was trimmed");
    assert_eq!(open(&store).await.get("acme").expect("kept").settings().workers, 4_999);
}

#[tokio::test]
async fn a_deleted_tenants_data_is_dropped_also_when_the_process_died_in_between() {
    let store = Store::memory();
    let r = open(&store).await;
    let put = async |number: u32| {
        let scope = store.scope(ScopeId(number.into()));
        let fence = scope.claim().await.expect("a fence");
        let record = crate::store::Record::new(Stream(1), Kind::Tenant, b"data".to_vec());
        scope.commit(&fence, vec![record]).await.expect("room");
    };
    let number = r.create_named("acme", Settings::default()).await.expect("free").index();
    put(number).await;
    r.suspend("acme", None).await.expect("it exists");
    r.delete("acme", None).await.expect("idle");
    assert_eq!(store.scopes(None, 9), [ScopeId::SYSTEM]);

    // Deleted, and not dropped: what a kill leaves, in the records and in the view.
    for checkpoint in [false, true] {
        let r = open(&store).await;
        let number = r.create_named("acme", Settings::default()).await.expect("free").index();
        put(number).await;
        let fence = store.system().claim().await.expect("a fence");
        let gone = stored::StoredDeletion { id: "acme", number }.encode();
        let record = crate::store::Record::new(TENANTS, Kind::TenantDeleted, gone);
        store.system().commit(&fence, vec![record]).await.expect("room");
        assert_eq!(store.scopes(None, 9).len(), 2);
        let r = open(&store).await;
        if checkpoint {
            r.checkpoint().await;
        }
        let dropped = async {
            while store.scopes(None, 9).len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), dropped).await.expect("it is dropped");
        assert!(r.is_empty());
    }
}

#[tokio::test]
async fn records_of_a_newer_program_are_not_guessed_at() {
    let store = Store::memory();
    let r = open(&store).await;
    r.create_named("acme", Settings::default()).await.expect("free");
    let fence = store.system().claim().await.expect("a fence");
    let record = crate::store::Record::new(TENANTS, Kind::Tenant, b"nonsense".to_vec());
    store.system().commit(&fence, vec![record]).await.expect("room");
    let config = Config::default();
    let error = Registry::open(&config, store.clone(), fence, Events::default()).await;
    let error = error.expect_err("it does not decode").to_string();
    assert!(error.contains("the record at 1"), "{error}");
    let kept = store.system().read(TENANTS, crate::store::Offset::ZERO, Page::default()).await;
    assert_eq!(kept.expect("readable").len(), 2, "nothing was thrown away");
}

#[tokio::test]
async fn what_changes_is_told_once_it_is_kept() {
    let store = Store::memory();
    let fence = store.system().claim().await.expect("a fence");
    let events = Events::default();
    let mut told = events.subscribe(None);
    let r = Registry::open(&Config::default(), store, fence, events).await.expect("empty");
    let mut next = || match told.try_next() {
        Some(News::Event(event)) => {
            Some((event.tenant.clone().expect("a tenant's"), event.kind.name()))
        }
        Some(News::Lost(n)) => panic!("{n} are lost"),
        None => None,
    };
    r.create_named("acme", Settings::default()).await.expect("free");
    r.update("acme", None, |s| s.weight = 2).await.expect("it exists");
    r.update("acme", None, |_| ()).await.expect("it exists");
    r.suspend("acme", None).await.expect("it exists");
    r.activate("acme", None).await.expect("it exists");
    r.delete_now("acme", None).await.expect("it exists");
    let kinds: Vec<_> = std::iter::from_fn(|| next().map(|(_, kind)| kind)).collect();
    let expected = ["created", "updated", "suspended", "activated", "suspended", "deleted"];
    assert_eq!(kinds, expected.map(|kind| format!("tenant_{kind}")));
}
