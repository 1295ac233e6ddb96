//! A disk that is full, a sync that fails, bits that flip: what callers are told, and what goes on.

use tollgate_protocol::{
    Code,
    id::{BatchId, JobId},
};

use super::{
    super::{Chosen, Deed},
    rig::{Rig, soon, text, told},
};
use crate::{
    batch::Told,
    rules::job::State,
    store::{Simulated, Space, Store},
};

/// What a submission is refused with.
async fn refused(rig: &Rig, payload: &str) -> crate::batch::Failure {
    let job = rig.new_job(0, 3, "echo", payload);
    match rig.submit(0, BatchId::random(), job).await {
        Told::Refused { item: 3, failure } | Told::Lost(failure) => failure,
        other => panic!("{other:?}"),
    }
}

async fn state(rig: &Rig, job: JobId) -> State {
    rig.jobs.get(&rig.tenants[0], job).await.expect("it is there").state
}

#[tokio::test]
async fn a_full_disk_refuses_submissions_and_recovers_by_itself() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    // Before anything is kept, and after.
    for _ in 0..2 {
        faults.full(true);
        let failure = refused(&rig, "no room").await;
        assert_eq!(failure.code, Code::StorageFull, "{failure:?}");
        assert!(failure.side_effect_free, "{failure:?}");
        let batch = BatchId::random();
        let opened = rig.jobs.open_batch(&rig.tenants[1], batch, false).await;
        if let Err(failure) = opened {
            assert_eq!(failure.code, Code::StorageFull);
        }
        faults.full(false);
        let job = rig.accepted(0, "echo", "room").await;
        assert_eq!(text(&rig.ended(0, job).await.expect("over")), "0 1 ok room");
    }
    let listed = rig.jobs.list(&rig.tenants[0], &Default::default(), None, 10).await;
    assert_eq!(listed.expect("a list").jobs.len(), 2, "what was refused is not there");
}

#[tokio::test]
async fn what_was_accepted_ends_on_a_full_disk() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let running = rig.accepted(0, "hang", "").await;
    let later = rig.accepted(0, "hang", "").await;
    while state(&rig, running).await != State::Running {
        tokio::task::yield_now().await;
    }
    faults.full(true);
    for job in [running, later] {
        let done = rig.jobs.act(&rig.tenants[0], Chosen::One(job), Deed::CancelAll).await;
        assert_eq!(done.expect("it is cancelled"), 1);
        let end = rig.ended(0, job).await.expect("over");
        assert_eq!(end.outcome.expect_err("cancelled").code, Code::Cancelled);
    }
    let done = rig.jobs.act(&rig.tenants[0], Chosen::One(later), Deed::Purge).await;
    assert_eq!(done.expect("it is purged"), 1);
}

#[tokio::test]
async fn an_end_that_finds_no_room_waits_for_it() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let job = rig.accepted(0, "hang", "").await;
    faults.full_to_the_last();
    let tenant = rig.tenants[0].clone();
    let jobs = rig.jobs.clone();
    let cancelled =
        tokio::spawn(async move { jobs.act(&tenant, Chosen::One(job), Deed::CancelAll).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!cancelled.is_finished(), "it is not told before it is kept");
    assert!(!state(&rig, job).await.is_over());
    faults.full(false);
    let done = soon("a cancellation", cancelled).await.expect("told").expect("no panic");
    assert_eq!(done.expect("it is cancelled"), 1);
    assert_eq!(state(&rig, job).await, State::Cancelled);
}

#[tokio::test]
async fn while_an_end_waits_for_room_jobs_are_purged_and_new_ones_are_refused() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let over = rig.accepted(0, "echo", "").await;
    rig.ended(0, over).await.expect("over");
    let job = rig.accepted(0, "hang", "").await;
    faults.used(Space::Reserve);
    let (jobs, tenant) = (rig.jobs.clone(), rig.tenants[0].clone());
    let cancelled =
        tokio::spawn(async move { jobs.act(&tenant, Chosen::One(job), Deed::CancelAll).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!cancelled.is_finished(), "it is not told before it is kept");
    let failure = refused(&rig, "new").await;
    assert_eq!(failure.code, Code::StorageFull, "{failure:?}");
    let purged = rig.jobs.act(&rig.tenants[0], Chosen::One(over), Deed::Purge);
    assert_eq!(soon("a purge", purged).await.expect("told").expect("done"), 1);
    assert!(!cancelled.is_finished() && !state(&rig, job).await.is_over());
    faults.full(false);
    let done = soon("a cancellation", cancelled).await.expect("told").expect("no panic");
    assert_eq!(done.expect("it is cancelled"), 1);
    let job = rig.accepted(0, "echo", "room").await;
    assert!(rig.ended(0, job).await.is_ok());
}

#[tokio::test]
async fn who_waits_for_room_stops_with_the_broker_and_with_the_tenant() {
    for deleted in [false, true] {
        let (store, faults) = Store::memory_with_faults();
        let rig = Rig::start(&store).await;
        let job = rig.accepted(0, "hang", "").await;
        faults.full_to_the_last();
        let (jobs, tenant) = (rig.jobs.clone(), rig.tenants[0].clone());
        let cancelled =
            tokio::spawn(async move { jobs.act(&tenant, Chosen::One(job), Deed::CancelAll).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let code = if deleted {
            rig.registry.delete_now("acme", None).await.expect("deleted");
            Code::NotFound
        } else {
            rig.jobs.stop_now();
            Code::Draining
        };
        let done = soon("an answer", cancelled).await.expect("told").expect("no panic");
        assert_eq!(done.expect_err("it is not cancelled").code, code);
        rig.jobs.stop_now();
        rig.jobs.0.owners.close();
        soon("the end of the owner", rig.jobs.0.owners.wait()).await.expect("it ends");
    }
}

#[tokio::test]
async fn of_a_failed_sync_the_outcome_is_unknown_and_nothing_is_acknowledged() {
    for durable in [false, true] {
        let (store, faults) = Store::memory_with_faults();
        let rig = Rig::start(&store).await;
        let done = rig.accepted(0, "echo", "before").await;
        assert!(rig.ended(0, done).await.is_ok());
        let batch = BatchId::random();
        if durable {
            rig.jobs.open_batch(&rig.tenants[0], batch, false).await.expect("opens");
        }
        let mut line = rig.line(0, batch, durable);
        faults.hold(true);
        line.submit(rig.new_job(0, 3, "echo", "first")).expect("within its quotas");
        while faults.held() == 0 {
            tokio::task::yield_now().await;
        }
        // This one waits for the group that fails.
        line.submit(rig.new_job(0, 4, "echo", "second")).expect("within its quotas");
        let purged = rig.jobs.act(&rig.tenants[0], Chosen::One(done), Deed::Purge);
        faults.fail_sync(0);
        faults.hold(false);
        let mut unknown = Vec::new();
        loop {
            match soon("a failed sync", told(&mut *line)).await.expect("told") {
                Told::Lost(failure) => {
                    assert_eq!(failure.code, Code::StoreUnavailable);
                    assert!(!failure.side_effect_free, "what became of it is not known");
                    break;
                }
                Told::Refused { item, failure } => {
                    assert_eq!(failure.code, Code::StoreUnavailable);
                    unknown.push((item, failure.side_effect_free));
                    if unknown.len() == 2 {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!unknown.contains(&(3, true)), "what became of the first is not known");
        let purged = soon("an act", purged).await.expect("told");
        assert_eq!(purged.expect_err("it is lost").code, Code::StoreUnavailable);
        let failure = refused(&rig, "after").await;
        assert_eq!(failure.code, Code::StoreUnavailable);
        let reason = soon("the end of the store", store.failed()).await.expect("it is told");
        assert!(reason.reason.contains("sync"), "{reason:?}");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_said_and_never_taken_for_fewer_jobs() {
    let (mut refused, mut whole) = (0, 0);
    for number in 0.. {
        let disk = Simulated::new();
        let store = disk.open_small().expect("opens");
        let rig = Rig::start(&store).await;
        let mut jobs = Vec::new();
        for n in 0..6 {
            let job = rig.accepted(0, "echo", &format!("needle{n}")).await;
            rig.ended(0, job).await.expect("over");
            jobs.push(job);
        }
        // Behind them, so that none of them is in what was written last.
        for _ in 0..2 {
            let job = rig.accepted(1, "echo", "").await;
            rig.ended(1, job).await.expect("over");
        }
        rig.stop().await;
        drop(store);
        let disk = disk.after_cut(1);
        // Payloads and results, wherever they are.
        if !disk.flip_after(b"needle", number) {
            break;
        }
        let Ok(store) = disk.open_small() else {
            refused += 1;
            continue;
        };
        let rig = Rig::start(&store).await;
        let mut read = 0;
        for (n, job) in jobs.iter().enumerate() {
            match rig.ended(0, *job).await {
                Ok(end) if end.outcome.is_ok() => {
                    assert_eq!(text(&end), format!("0 1 ok needle{n}"), "flip {number}");
                    read += 1;
                }
                // The result or all of the jobs can not be read, and that is what is said.
                Ok(_) => {}
                Err(why) => assert!(!why.contains("NotFound"), "flip {number}: {why}"),
            }
        }
        *if read == jobs.len() { &mut whole } else { &mut refused } += 1;
        rig.stop().await;
    }
    println!("{refused} flipped bits were noticed, {whole} hit nothing");
    assert!(refused >= 6, "{refused} were noticed");
}

#[tokio::test]
async fn on_a_disk_without_room_jobs_end_and_new_ones_are_refused_until_there_is_some() {
    let disk = Simulated::new();
    let store = disk.open_small().expect("opens");
    let rig = Rig::start(&store).await;
    let job = rig.accepted(0, "hang", "").await;
    while state(&rig, job).await != State::Running {
        tokio::task::yield_now().await;
    }
    disk.free_bytes(Some(0));
    let failure = refused(&rig, &"x".repeat(400)).await;
    assert_eq!(failure.code, Code::StorageFull, "{failure:?}");
    let done = rig.jobs.act(&rig.tenants[0], Chosen::One(job), Deed::CancelAll);
    assert_eq!(soon("a cancellation", done).await.expect("told").expect("done"), 1);
    disk.free_bytes(None);
    // The store looks again by itself; until it did, jobs are refused.
    let recovers = async {
        loop {
            let new = rig.new_job(0, 3, "echo", "room");
            match rig.submit(0, BatchId::random(), new).await {
                Told::Accepted(accepted) => return accepted.job,
                Told::Refused { failure, .. } => assert_eq!(failure.code, Code::StorageFull),
                other => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
    };
    let job = soon("room", recovers).await.expect("it recovers by itself");
    assert!(rig.ended(0, job).await.expect("over").outcome.is_ok());
}
