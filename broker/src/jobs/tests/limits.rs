//! The bounds of what is on its way: at the limit, and one over.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tollgate_protocol::id::{BatchId, JobId};

use super::{
    super::{Chosen, Config, Deed, shelf::Recent},
    rig::{Rig, soon},
};
use crate::{
    rules::job::{State, Which},
    store::Store,
};

/// Waits until so many of `hang` run.
async fn run(rig: &Rig, hanging: usize) {
    let runs = async {
        while rig.hanging.load(Relaxed) != hanging {
            tokio::task::yield_now().await;
        }
    };
    soon("a start", runs).await.expect("it starts");
}

/// Whatever may be started was started: the owner has had its turn, and what it starts has too.
async fn all_is_started(rig: &Rig) {
    let none = Which { batch: Some(BatchId::random()), ..Which::default() };
    let done = rig.jobs.act(&rig.tenants[0], Chosen::All(none), Deed::Purge).await;
    assert_eq!(done.expect("done"), 0);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn state(rig: &Rig, job: JobId) -> State {
    rig.jobs.get(&rig.tenants[0], job).await.expect("it is there").state
}

async fn cancel(rig: &Rig, job: JobId) {
    let done = rig.jobs.act(&rig.tenants[0], Chosen::One(job), Deed::CancelAll).await;
    assert_eq!(done.expect("done"), 1);
}

#[tokio::test]
async fn so_many_of_a_recipe_are_on_their_way_and_the_next_waits() {
    let config = Config { in_flight_max: 2, ..Config::default() };
    let rig = Rig::with(&Store::memory(), &config).await;
    let first = rig.accepted(0, "hang", "").await;
    let second = rig.accepted(0, "hang", "").await;
    run(&rig, 2).await;
    let third = rig.accepted(0, "hang", "").await;
    all_is_started(&rig).await;
    assert_eq!(state(&rig, third).await, State::Queued);
    assert_eq!(rig.hanging.load(Relaxed), 2);
    cancel(&rig, first).await;
    run(&rig, 2).await;
    cancel(&rig, second).await;
    run(&rig, 1).await;
    assert!(matches!(state(&rig, third).await, State::Queued | State::Running));
}

#[tokio::test]
async fn so_many_bytes_are_on_their_way_and_one_more_waits() {
    let config = Config { in_flight_bytes_max: 10, ..Config::default() };
    let rig = Rig::with(&Store::memory(), &config).await;
    let first = rig.accepted(0, "hang", "12345").await;
    rig.accepted(0, "hang", "12345").await;
    run(&rig, 2).await;
    let over = rig.accepted(0, "hang", "1").await;
    let none = rig.accepted(0, "hang", "").await;
    run(&rig, 3).await;
    all_is_started(&rig).await;
    assert_eq!(state(&rig, over).await, State::Queued, "{none} needs no room");
    cancel(&rig, first).await;
    run(&rig, 3).await;
}

#[tokio::test]
async fn a_payload_beyond_the_bound_is_on_its_way_alone() {
    let config = Config { in_flight_bytes_max: 1, ..Config::default() };
    let rig = Rig::with(&Store::memory(), &config).await;
    let first = rig.accepted(0, "hang", "12345").await;
    run(&rig, 1).await;
    let second = rig.accepted(0, "hang", "12345").await;
    all_is_started(&rig).await;
    assert_eq!(state(&rig, second).await, State::Queued);
    cancel(&rig, first).await;
    run(&rig, 1).await;
}

#[test]
fn so_many_bytes_of_the_newest_stay_in_memory() {
    let bytes = |n| Bytes::from(vec![0; n]);
    let mut recent = Recent::new(100);
    recent.put(1, bytes(26));
    assert!(recent.get(1).is_none(), "one that is more than a quarter would drive others out");
    for number in 2..=5 {
        recent.put(number, bytes(25));
    }
    assert!((2..=5).all(|n| recent.get(n).is_some()), "at the limit");
    recent.put(6, bytes(1));
    let left: Vec<u64> = (1..=6).filter(|n| recent.get(*n).is_some()).collect();
    assert_eq!(left, [3, 4, 5, 6], "one over, and the oldest goes");
    let mut none = Recent::new(0);
    none.put(1, bytes(1));
    assert!(none.get(1).is_none());
}

#[tokio::test]
async fn what_is_not_in_memory_is_read_from_the_store() {
    let config = Config { recent_bytes_max: 0, ..Config::default() };
    let rig = Rig::with(&Store::memory(), &config).await;
    let job = rig.accepted(0, "echo", "payload").await;
    let end = rig.ended(0, job).await.expect("over");
    assert_eq!(super::rig::text(&end), "0 1 ok payload");
}
