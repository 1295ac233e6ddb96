//! A store that fails: a full disk refuses messages and nothing else, a lost one is said to be.

use tollgate_protocol::{Code, topic::Producer};

use super::{
    super::{Config, Fate, Retention},
    rig::{Rig, name, soon},
};
use crate::{
    store::{Offset, Store, Stream},
    tenancy::{Limit, Quota, Settings},
};

fn messages(n: std::ops::Range<u64>) -> Vec<(u64, String)> {
    n.map(|n| (n, format!("{n}"))).collect()
}

#[track_caller]
fn all_refused(fates: &[Fate], code: Code) {
    assert!(!fates.is_empty());
    for fate in fates {
        match fate {
            Fate::Refused { failure, .. } => assert_eq!(failure.code, code),
            Fate::Kept { .. } => panic!("{fate:?}"),
        }
    }
}

#[tokio::test]
async fn on_a_full_disk_messages_are_refused_and_everything_else_goes_on() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    let producer = Some(Producer { id: [1; 16], epoch: 1 });
    rig.append(0, &t, producer, &messages(1..4)).await.expect("kept");
    faults.full(true);
    let refused = rig.append(0, &t, producer, &messages(4..6)).await.expect("answered");
    all_refused(&refused, Code::StorageFull);
    assert_eq!(rig.all(0, &t).await.expect("read").len(), 3);
    let mut member = rig.join(0, &t, "g").await.expect("a group is made");
    let got = member.next(Default::default()).await.expect("read");
    assert_eq!(got.len(), 3);
    member.ack(0, 0, 1);
    let kept = async {
        while !member.is_kept() {
            tokio::task::yield_now().await;
        }
    };
    soon("an acknowledgement", kept).await.expect("kept in the reserve");
    assert_eq!(member.committed(), [(0, 2)]);
    faults.full(false);
    // What was refused comes again under its own sequences, and is new.
    let kept = rig.append(0, &t, producer, &messages(4..6)).await.expect("kept");
    assert!(
        matches!(kept[..], [Fate::Kept { offset: 3, count: 2, duplicate: false, .. }]),
        "{kept:?}"
    );
    rig.topics.delete(&acme, &t).await.expect("deleted");
    assert_eq!(acme.used(Quota::StorageBytes, std::time::Instant::now()), 0);
}

#[tokio::test]
async fn a_store_that_is_lost_is_said_to_be() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    rig.append(0, &t, None, &messages(1..4)).await.expect("kept");
    faults.fail_sync(0);
    let refused = rig.append(0, &t, None, &messages(4..5)).await.expect("answered");
    all_refused(&refused, Code::StoreUnavailable);
    let gone = rig.all(0, &t).await.expect_err("nothing can be read");
    assert_eq!(gone.code, Code::StoreUnavailable);
}

#[tokio::test]
async fn messages_that_are_missing_are_an_error_and_not_passed_over() {
    for missing in [2, 4] {
        let store = Store::memory();
        let config = Config { recent_bytes_max: 0, ..Config::default() };
        let rig = Rig::with(&store, &config).await;
        let (acme, t) = (rig.tenants[0].clone(), name("t"));
        rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
        rig.append(0, &t, None, &messages(1..5)).await.expect("kept");
        assert_eq!(rig.all(0, &t).await.expect("read").len(), 4);
        let shelf = rig.topics.0.open(&acme).await.expect("open");
        let stream = {
            let state = shelf.lock();
            Stream(state.topics.find("t").expect("there").parts[0].stream)
        };
        let fence = shelf.scope.claim().await.expect("claimed");
        shelf.scope.trim(&fence, stream, Offset(missing)).await.expect("trimmed");
        let error = rig.all(0, &t).await.expect_err("some are missing");
        assert_eq!(error.code, Code::StoreUnavailable, "{missing} missing");
    }
}

#[tokio::test]
async fn what_comes_again_in_one_commit_that_fails_is_not_called_kept() {
    let (store, faults) = Store::memory_with_faults();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    let producer = Some(Producer { id: [1; 16], epoch: 1 });
    faults.full(true);
    let (same, all) = (messages(1..3), messages(1..3));
    let (one, other) =
        tokio::join!(rig.append(0, &t, producer, &same), rig.append(0, &t, producer, &all));
    all_refused(&one.expect("answered"), Code::StorageFull);
    all_refused(&other.expect("answered"), Code::StorageFull);
}

#[tokio::test]
async fn storage_is_taken_up_to_the_limit_within_a_handful() {
    let store = Store::memory();
    let rig = Rig::start(&store).await;
    let (acme, t) = (rig.tenants[0].clone(), name("t"));
    rig.topics.create(&acme, &t, 1, Retention::default()).await.expect("made");
    rig.append(0, &t, None, &messages(1..2)).await.expect("kept");
    let one = acme.used(Quota::StorageBytes, std::time::Instant::now());
    let set = move |settings: &mut Settings| {
        settings.overrides.storage_bytes = Some(Limit::at_most(one * 4));
    };
    rig.registry.update("acme", None, set).await.expect("there");
    let fates = rig.append(0, &t, None, &messages(2..9)).await.expect("answered");
    assert!(matches!(fates[0], Fate::Kept { sequence: 2, count: 3, .. }), "{fates:?}");
    all_refused(&fates[1..], Code::StorageFull);
    assert_eq!(fates.len(), 5);
    let holdings = rig.topics.holdings();
    let [(counted, found), ..] = holdings[&acme.index()].expect("settled");
    assert_eq!((counted, found), (one * 4, one * 4));
}
