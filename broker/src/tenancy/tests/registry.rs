//! Tenants come, change and go.

use futures::{FutureExt, future::join_all};

use super::*;

fn registry() -> Registry {
    Registry::in_memory(&Config::default())
}

async fn with(ids: &[&str]) -> Registry {
    let r = registry();
    for id in ids {
        r.create_named(id, Settings::default()).await.expect("free");
    }
    r
}

fn ids(tenants: &[Arc<Tenant>]) -> Vec<&str> {
    tenants.iter().map(|t| t.id().as_str()).collect()
}

#[tokio::test]
async fn a_tenant_lives_from_create_to_delete() {
    let r = with(&["acme"]).await;
    let t = r.get("acme").expect("created");
    let again = r.create_named("acme", Settings::default()).await;
    assert!(matches!(again, Err(CreateError::Exists(id)) if id.as_str() == "acme"));
    let wrong = r.create_named("Acme", Settings::default()).await;
    assert!(matches!(wrong, Err(CreateError::Id(_))));
    assert_eq!(r.delete("acme", None).await, Err(DeleteError::Active));
    let held = t.batch().expect("room");
    r.suspend("acme", None).await.expect("it exists");
    assert_eq!(t.state(), State::Suspended);
    let busy = r.delete("acme", None).await.expect_err("a batch is open");
    assert_eq!(busy, DeleteError::Busy(Open { batches: 1, ..Open::default() }));
    assert_eq!(busy.to_string(), "the tenant is not idle yet: it has 1 open batch");
    r.activate("acme", None).await.expect("it exists");
    assert_eq!(t.state(), State::Active);
    r.suspend("acme", None).await.expect("it exists");
    drop(held);
    assert_eq!(r.delete("acme", None).await, Ok(()));
    assert_eq!(t.state(), State::Deleted);
    assert_eq!(r.delete("acme", None).await, Err(DeleteError::Unknown));
    assert_eq!(r.activate("acme", None).await.map(|_| ()), Err(UpdateError::Unknown));
    assert_eq!(r.get("acme").expect("a deleted one is still known").state(), State::Deleted);
    assert!(r.get("other").is_none() && r.is_empty());
}

#[tokio::test]
async fn the_states_are_counted() {
    let r = with(&["a", "b", "c"]).await;
    assert_eq!(r.states(), (3, 0));
    r.suspend("a", None).await.expect("it exists");
    r.suspend("a", None).await.expect("it exists");
    r.suspend("b", None).await.expect("it exists");
    assert_eq!(r.states(), (1, 2));
    r.activate("a", None).await.expect("it exists");
    r.delete("b", None).await.expect("suspended and idle");
    r.delete_now("c", None).await.expect("it exists");
    assert_eq!(r.states(), (1, 0));
    r.create_named("b", Settings::default()).await.expect("free again");
    assert_eq!(r.states(), (2, 0));
}

#[tokio::test]
async fn a_tenant_without_an_id_gets_one_that_sorts_by_time() {
    let r = registry();
    let first = r.create(NewTenant::default()).await.expect("created");
    let second = r.create(NewTenant::default()).await.expect("created");
    let id = first.id().as_str();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id} is a UUID of version 7");
    assert!(first.id() < second.id());
}

#[tokio::test]
async fn a_tenant_of_the_same_id_is_another() {
    let r = with(&["acme"]).await;
    let old = r.get("acme").expect("created");
    let held = old.batch().expect("room");
    assert_eq!(old.charge(now(), [5].into_iter()).admitted, 1);
    tokio::time::pause();
    r.delete_now("acme", None).await.expect("it exists");
    let new = r.create_named("acme", Settings::default()).await.expect("free again");
    assert_ne!(old.index(), new.index());
    assert_eq!((old.state(), new.state()), (State::Deleted, State::Active));
    assert_eq!(new.used(Quota::BatchesInFlight, now()), 0);
    assert_eq!(new.used(Quota::BytesPerSecond, now()), 0);
    drop(held);
    assert_eq!(old.used(Quota::BatchesInFlight, now()), 0);
    assert!(Arc::ptr_eq(&r.get("acme").expect("the new one"), &new));
    assert_eq!(r.all().len(), 1);
}

#[tokio::test]
async fn a_revision_guards_against_changes_that_were_not_seen() {
    let r = with(&["acme"]).await;
    let t = r.get("acme").expect("created");
    let before = t.record();
    assert_eq!((before.revision, before.created_at), (1, before.updated_at));
    r.update("acme", Some(1), |s| s.weight = 3).await.expect("as expected");
    assert_eq!((t.record().revision, t.weight()), (2, 3));
    let conflict = UpdateError::Conflict { expected: 1, revision: 2 };
    assert_eq!(r.update("acme", Some(1), |s| s.weight = 4).await.map(drop), Err(conflict.clone()));
    assert_eq!(r.suspend("acme", Some(1)).await.map(drop), Err(conflict));
    let conflict = DeleteError::Conflict { expected: 1, revision: 2 };
    assert_eq!(r.delete("acme", Some(1)).await, Err(conflict));
    // A change of nothing is none.
    r.update("acme", Some(2), |_| ()).await.expect("as expected");
    r.activate("acme", None).await.expect("it is");
    assert_eq!(t.record().revision, 2);
    assert!(t.record().updated_at >= before.updated_at);
    assert_eq!(t.record().created_at, before.created_at);
}

#[tokio::test]
async fn of_changes_that_expect_the_same_revision_one_comes_about() {
    let r = with(&["acme"]).await;
    let change = |n| r.update("acme", Some(1), move |s| s.workers = n);
    let outcomes = join_all((10..30).map(change)).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert_eq!(r.get("acme").expect("created").record().revision, 2);
    let outcomes = join_all((0..20).map(|_| r.create_named("new", Settings::default()))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
}

#[tokio::test]
async fn settings_out_of_bounds_are_named() {
    let r = with(&["acme"]).await;
    let refused = async |field: &str, part: &str, change: fn(&mut Settings)| {
        let error = r.update("acme", None, change).await.expect_err(field);
        let UpdateError::Invalid(bad) = error else { panic!("{error}") };
        assert_eq!(bad.field, field);
        assert!(bad.problem.contains(part), "{bad} does not say {part:?}");
        let mut settings = Settings::default();
        change(&mut settings);
        let error = r.create(NewTenant { id: None, settings }).await.expect_err(field);
        assert_eq!(error, CreateError::Invalid(bad));
    };
    refused("name", "0 to 255", |s| s.name = "x".repeat(256)).await;
    refused("name", "'\\u{1b}'", |s| s.name = "\u{1b}[31m".into()).await;
    refused("profile", "`pro`", |s| s.profile = "gold".into()).await;
    refused("weight", "1 to 1000", |s| s.weight = 0).await;
    refused("workers", "allowed", |s| s.workers = 10_001).await;
    refused("concurrency", "allowed", |s| s.concurrency = u32::MAX).await;
    refused("state", "deleted", |s| s.state = State::Deleted).await;
    refused("gateways", "1 to 255", |s| s.gateways = vec![String::new()]).await;
    refused("gateways", "twice", |s| s.gateways = vec!["a".into(), "a".into()]).await;
    refused("gateways", "256", |s| s.gateways = (0..257).map(|n| n.to_string()).collect()).await;
    refused("metadata", "1 to 128", |s| {
        s.metadata.insert(String::new(), String::new());
    })
    .await;
    refused("metadata", "1024", |s| {
        s.metadata.insert("k".into(), "v".repeat(1_025));
    })
    .await;
    assert_eq!(r.get("acme").expect("created").record().revision, 1);
    assert_eq!(r.len(), 1);
}

#[tokio::test]
async fn there_are_as_many_as_the_configuration_allows() {
    let r = Registry::in_memory(&Config { tenants_max: 2, ..Config::default() });
    let outcomes = join_all((0..4).map(|_| r.create(NewTenant::default()))).await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 2);
    let error = r.create(NewTenant::default()).await.expect_err("no room");
    assert_eq!(error, CreateError::TooMany { max: 2 });
}

#[tokio::test]
async fn lists_come_in_pages_in_the_order_of_ids() {
    let r = with(&["d", "b", "a", "c", "e"]).await;
    r.suspend("b", None).await.expect("it exists");
    r.update("d", None, |s| s.profile = "free".into()).await.expect("it exists");
    let all = Filter::default();
    let first = r.page(None, 2, all);
    assert_eq!(ids(&first), ["a", "b"]);
    assert_eq!(ids(&r.page(Some(first[1].id()), 2, all)), ["c", "d"]);
    assert_eq!(ids(&r.page(Some(&TenantId::parse("bb").expect("an id")), 9, all)), ["c", "d", "e"]);
    assert!(r.page(Some(&TenantId::parse("e").expect("an id")), 9, all).is_empty());
    let suspended = Filter { state: Some(State::Suspended), ..all };
    assert_eq!(ids(&r.page(None, 9, suspended)), ["b"]);
    assert_eq!(ids(&r.page(None, 9, Filter { profile: Some("free"), ..all })), ["d"]);
    r.delete("b", None).await.expect("idle");
    assert_eq!(ids(&r.page(None, 9, all)), ["a", "c", "d", "e"]);
    assert_eq!(r.len(), 4);
}

#[tokio::test]
async fn a_profile_acts_at_once_on_all_who_have_it() {
    let r = with(&["acme", "globex"]).await;
    r.update("acme", None, |s| {
        s.profile = "free".into();
        s.overrides.topics = Some(Limit::at_most(3));
    })
    .await
    .expect("it exists");
    let t = r.get("acme").expect("created");
    let quotas = |t: &Tenant| (t.quotas().connections.bound(), t.quotas().topics.bound());
    assert_eq!(quotas(&t), (Some(10), Some(3)));
    let mut changes = t.subscribe();
    let part = Overrides { connections: Some(Limit::at_most(7)), ..Overrides::NOTHING };
    r.set_profiles(&[("free".to_owned(), part)].into()).await;
    assert!(changes.changed().now_or_never().is_some(), "who listens is told");
    assert_eq!(quotas(&t), (Some(7), Some(3)));
    assert_eq!(r.get("globex").expect("created").quotas(), Quotas::DEFAULT);
    assert_eq!(r.profiles().get("free").expect("built in").connections.bound(), Some(7));

    r.set_profiles(&[("gold".to_owned(), part)].into()).await;
    r.update("acme", None, |s| s.profile = "gold".into()).await.expect("there is one now");
    r.set_profiles(&[].into()).await;
    assert_eq!(quotas(&t), (Some(500), Some(3)), "one whose profile is gone has the default's");
    r.update("acme", None, |s| s.weight = 2).await.expect("it can still be changed");
    r.set_profiles(&[("gold".to_owned(), part)].into()).await;
    assert_eq!(quotas(&t), (Some(7), Some(3)));
    assert_eq!(t.record().revision, 4, "profiles are no change of the tenant");
}

#[tokio::test]
async fn others_have_their_turn_while_profiles_change() {
    let ids: Vec<String> = (0..2_000).map(|n| format!("t{n}")).collect();
    let r = with(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let other = async {
        for turn in 1.. {
            tokio::task::yield_now().await;
            if r.all().iter().all(|t| t.quotas().topics.bound() == Some(7)) {
                return turn;
            }
        }
        0
    };
    let part = Overrides { topics: Some(Limit::at_most(7)), ..Overrides::NOTHING };
    let parts = [("default".to_owned(), part)].into();
    let (turns, ()) = tokio::join!(other, r.set_profiles(&parts));
    assert!(turns > 4, "{turns} turns");
}

#[tokio::test]
async fn a_change_is_told_to_those_of_that_tenant_only() {
    let r = with(&["acme", "globex"]).await;
    let (acme, globex) = (r.get("acme").expect("created"), r.get("globex").expect("created"));
    assert!(!acme.is_listened_to(), "nothing is kept for nobody");
    let (mut first, mut second, mut other) =
        (acme.subscribe(), acme.subscribe(), globex.subscribe());
    r.update("acme", None, |s| s.weight = 3).await.expect("it exists");
    assert!(first.changed().now_or_never().is_some() && second.changed().now_or_never().is_some());
    assert!(other.changed().now_or_never().is_none());
    drop(first);
    r.suspend("acme", None).await.expect("it exists");
    assert!(second.changed().now_or_never().is_some());
    drop(second);
    assert!(!acme.is_listened_to() && globex.is_listened_to());
}

#[tokio::test]
async fn gateways_act_for_those_who_list_them_and_are_told_of_these() {
    let r = with(&["acme", "globex"]).await;
    let t = r.get("acme").expect("created");
    let mut edge = r.gateway("edge").subscribe();
    assert!(!t.admits_gateway("edge"));
    r.update("acme", None, |s| s.gateways.push("edge".into())).await.expect("it exists");
    assert!(t.admits_gateway("edge") && !t.admits_gateway("edg"));
    assert!(edge.changed().now_or_never().is_some());
    r.suspend("globex", None).await.expect("it exists");
    assert!(edge.changed().now_or_never().is_none(), "not its tenant");
    r.update("acme", None, |s| s.gateways.clear()).await.expect("it exists");
    assert!(edge.changed().now_or_never().is_some(), "not its tenant any more");
}

#[tokio::test(start_paused = true)]
async fn by_force_what_runs_may_finish_for_a_while() {
    let r = with(&["acme"]).await;
    let t = r.get("acme").expect("created");
    let held = t.batch().expect("room");
    let deletion = tokio::spawn({
        let r = r.clone();
        async move { r.delete_now("acme", None).await }
    });
    let mut changes = t.subscribe();
    changes.changed().await;
    assert_eq!(t.state(), State::Suspended, "nothing new begins");
    assert!(t.may_go_on() && t.leaves_at().is_some(), "what runs may finish");
    assert_eq!(r.activate("acme", None).await.map(drop), Err(UpdateError::Leaving));
    assert_eq!(r.delete_now("acme", None).await, Err(DeleteError::Leaving));
    let began = tokio::time::Instant::now();
    changes.changed().await;
    assert_eq!((t.state(), t.may_go_on()), (State::Deleted, false));
    assert!(began.elapsed() <= Duration::from_secs(5));
    drop(held);
    assert_eq!(deletion.await.expect("no panic"), Ok(()));
    assert!(r.is_empty());
}

#[tokio::test(start_paused = true)]
async fn by_force_too_only_at_the_revision_that_was_seen() {
    let r = with(&["acme"]).await;
    let mut update = std::pin::pin!(r.update("acme", Some(1), |s| s.workers = 9));
    assert!(update.as_mut().now_or_never().is_none(), "decided, and not in force yet");
    let conflict = DeleteError::Conflict { expected: 1, revision: 2 };
    assert_eq!(r.delete_now("acme", Some(1)).await, Err(conflict));
    let t = update.await.expect("it exists");
    assert_eq!((t.state(), t.settings().workers), (State::Active, 9));
    assert_eq!(r.delete_now("acme", Some(2)).await, Ok(()));
    assert_eq!(t.state(), State::Deleted);
}

#[tokio::test]
async fn usage_has_a_line_for_every_quota() {
    let r = with(&["acme"]).await;
    let t = r.get("acme").expect("created");
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
        UsageLine {
            quota: Quota::BatchesInFlight,
            current: 1,
            limit: Some(256),
            level: Level::Normal,
        }
    );
    assert_eq!(of(Quota::RequestsPerSecond).current, 2);
    assert_eq!(of(Quota::BytesPerSecond).current, 5_000, "the larger of in and out");
    assert_eq!(of(Quota::Connections).utilisation(), 0.2);
    r.update("acme", None, |s| s.profile = "enterprise".into()).await.expect("it exists");
    assert!(t.usage(now).iter().all(|l| l.limit.is_none() && l.utilisation() == 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_race_with_permits_and_readers_without_losing_any() {
    let r = with(&["acme"]).await;
    let t = r.get("acme").expect("created");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (taker, changer) = (t.clone(), r.clone());
        tasks.push(tokio::spawn(async move { (0..200).for_each(|_| drop(taker.connection())) }));
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                changer.update("acme", None, |s| s.workers += 1).await.expect("it exists");
            }
        }));
    }
    join_all(tasks).await.into_iter().for_each(|task| task.expect("no panic"));
    assert_eq!(t.settings().workers, 3 + 8 * 50, "no change is lost");
    assert_eq!(t.record().revision, 1 + 8 * 50);
    assert_eq!(t.used(Quota::Connections, now()), 0);
}
