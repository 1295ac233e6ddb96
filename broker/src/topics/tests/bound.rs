//! What is bound to a recipe: read by itself, tried again, put aside, gone on with.

use std::time::Duration;

use tollgate_protocol::id::{GroupName, RecipeName};

use super::{
    super::{Config, Retention, Start},
    rig::{Rig, name, soon},
};
use crate::{store::Store, tenancy::Settings};

fn group() -> GroupName {
    GroupName::parse("b").expect("a name")
}

fn recipe() -> RecipeName {
    RecipeName::parse("note").expect("a name")
}

async fn noted(rig: &Rig, count: usize) -> Vec<String> {
    let there = async {
        loop {
            let noted = rig.noted.lock().expect("no panic").clone();
            if noted.len() >= count {
                return noted;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon("what is bound", there).await.expect("it comes")
}

async fn until(what: &str, rig: &Rig, holds: impl Fn(&super::super::BindingInfo) -> bool) {
    let there = async {
        loop {
            let info = rig.topics.binding(&rig.tenants[0], &name("t"), &group()).await;
            if holds(&info.expect("it is bound")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, there).await.expect("it comes to that");
}

fn messages(texts: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(texts.iter().map(|t| (*t).to_owned())).collect()
}

#[tokio::test]
async fn messages_become_items_and_what_fails_becomes_a_dead_letter() {
    let store = Store::memory();
    let config = Config { binding_idle_ms: 50, ..Config::default() };
    let rig = Rig::with(&store, &config).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    rig.append(0, &t, None, &messages(&["a", "bad", "c"])).await.expect("kept");
    rig.topics.bind(&acme, &t, &group(), &recipe(), Start::Earliest).await.expect("bound");
    let mut seen = noted(&rig, 5).await;
    seen.sort();
    assert_eq!(seen, ["a", "bad", "bad", "bad", "c"], "three attempts, as the recipe says");
    until("all is done", &rig, |b| b.lag == 0).await;
    let dead = rig.all(0, &name("t.dead")).await.expect("there");
    assert_eq!(dead, [(0, 0, "bad".to_owned())]);
    until("it sleeps when there is nothing", &rig, |b| !b.awake).await;
    let needed = rig.topics.delete_group(&acme, &t, &group()).await.expect_err("it is read as");
    assert_eq!(needed.code, tollgate_protocol::Code::Conflict);
    rig.append(0, &t, None, &messages(&["d"])).await.expect("kept");
    assert!(noted(&rig, 6).await.contains(&"d".to_owned()), "and wakes by itself");
    let other = RecipeName::parse("other").expect("a name");
    let taken = rig.topics.bind(&acme, &t, &group(), &other, Start::Latest).await;
    assert_eq!(taken.expect_err("taken").code, tollgate_protocol::Code::Conflict);
    rig.topics.unbind(&acme, &t, &group()).await.expect("taken back");
    rig.append(0, &t, None, &messages(&["e"])).await.expect("kept");
    // Bound again it goes on where it was, in another life of the broker too.
    rig.stop().await;
    let rig = Rig::with(&store, &config).await;
    let acme = rig.tenants[0].clone();
    rig.topics.resume().await;
    assert!(rig.topics.bindings(&acme, None).await.expect("read").is_empty());
    rig.topics.bind(&acme, &t, &group(), &recipe(), Start::Latest).await.expect("bound");
    assert_eq!(noted(&rig, 1).await, ["e"]);
    until("all is done", &rig, |b| b.lag == 0).await;
    rig.stop().await;
    let rig = Rig::with(&store, &config).await;
    rig.topics.resume().await;
    rig.append(0, &t, None, &messages(&["f"])).await.expect("kept");
    assert_eq!(noted(&rig, 1).await, ["f"], "a binding outlives a restart");
}

#[tokio::test]
async fn a_binding_to_a_recipe_that_is_not_there_can_be_taken_back() {
    let store = Store::memory();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    rig.append(0, &t, None, &messages(&["a", "b"])).await.expect("kept");
    let none = RecipeName::parse("no.such").expect("a name");
    rig.topics.bind(&acme, &t, &group(), &none, Start::Earliest).await.expect("bound");
    until("it waits for its recipe", &rig, |b| b.in_flight > 0).await;
    rig.topics.unbind(&acme, &t, &group()).await.expect("taken back");
    rig.topics.bind(&acme, &t, &group(), &recipe(), Start::Earliest).await.expect("bound");
    let mut seen = noted(&rig, 2).await;
    seen.sort();
    assert_eq!(seen, ["a", "b"], "the other recipe does them");
}

#[tokio::test]
async fn dead_letters_have_none_of_their_own() {
    let store = Store::memory();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    rig.append(0, &t, None, &messages(&["bad"])).await.expect("kept");
    rig.topics.bind(&acme, &t, &group(), &recipe(), Start::Earliest).await.expect("bound");
    noted(&rig, 3).await;
    until("it is put aside", &rig, |b| b.lag == 0).await;
    let dead = name("t.dead");
    rig.topics.bind(&acme, &dead, &group(), &recipe(), Start::Earliest).await.expect("bound");
    noted(&rig, 6).await;
    let passed = async {
        while rig.topics.binding(&acme, &dead, &group()).await.expect("bound").lag > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon("a dead letter", passed).await.expect("it is passed");
    assert_eq!(rig.all(0, &dead).await.expect("there").len(), 1, "and stays where it is");
    assert!(rig.topics.get(&acme, &name("t.dead.dead")).await.is_err());
}

#[tokio::test]
async fn a_suspended_tenants_messages_wait_and_workers_change_at_once() {
    let store = Store::memory();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    let set = |workers| move |settings: &mut Settings| settings.workers = workers;
    rig.registry.update("acme", None, set(0)).await.expect("there");
    rig.topics.bind(&acme, &t, &group(), &recipe(), Start::Earliest).await.expect("bound");
    rig.append(0, &t, None, &messages(&["a", "b"])).await.expect("kept");
    until("its reader is there", &rig, |b| b.awake).await;
    assert!(rig.noted.lock().expect("no panic").is_empty(), "with no workers nothing runs");
    rig.registry.update("acme", None, set(1)).await.expect("there");
    assert_eq!(noted(&rig, 2).await, ["a", "b"]);
    rig.registry.suspend("acme", None).await.expect("there");
    until("its reader goes", &rig, |b| !b.awake).await;
    rig.append(0, &t, None, &messages(&["c"])).await.expect("kept");
    assert_eq!(rig.noted.lock().expect("no panic").len(), 2);
    rig.registry.activate("acme", None).await.expect("there");
    assert_eq!(noted(&rig, 3).await, ["a", "b", "c"]);
}
