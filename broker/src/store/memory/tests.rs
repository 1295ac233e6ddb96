use super::super::*;

const A: Stream = Stream(1);

fn record(body: &str) -> Vec<Record> {
    vec![Record::new(A, Kind::Tenant, body.as_bytes().to_vec())]
}

async fn count(scope: &Scope) -> usize {
    scope.read(A, Offset::ZERO, Page::default()).await.expect("reads").len()
}

#[tokio::test]
async fn a_failed_sync_is_the_end() {
    let (store, faults) = Store::memory_with_faults();
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    faults.fail_sync(1);
    scope.commit(&fence, record("1")).await.expect("the first is synced");
    let unknown = scope.commit(&fence, record("2")).await;
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    store.failed().await;
    let refused = scope.commit(&fence, record("3")).await;
    assert!(matches!(refused, Err(CommitError::Poisoned(_))), "{refused:?}");
    assert!(scope.claim().await.is_err());
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_lets_deletions_go_on() {
    let (store, faults) = Store::memory_with_faults();
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record("1")).await.expect("commits");
    faults.full(true);
    let refused = scope.commit(&fence, record("2")).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert_eq!(count(&scope).await, 1);
    scope.trim(&fence, A, Offset(1)).await.expect("deletions go on");
    faults.full(false);
    scope.commit(&fence, record("2")).await.expect("there is room again");
}

#[tokio::test]
async fn a_power_cut_keeps_what_was_acknowledged() {
    let (store, faults) = Store::memory_with_faults();
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record("1")).await.expect("commits");
    faults.hold(true);
    let held = (2..5).map(|n| {
        let (scope, fence) = (scope.clone(), fence.clone());
        tokio::spawn(async move { scope.commit(&fence, record(&n.to_string())).await })
    });
    let held: Vec<_> = held.collect();
    tokio::task::yield_now().await;
    assert_eq!(faults.held(), 3);
    assert_eq!(count(&scope).await, 1, "what is not durable is not read");
    let (after, _) = faults.power_cut(1);
    for held in held {
        assert!(matches!(held.await.expect("no panic"), Err(CommitError::Unknown(_))));
    }
    assert_eq!(count(&after.system()).await, 2);
    assert!(scope.read(A, Offset::ZERO, Page::default()).await.is_err());
    let fence = after.system().claim().await.expect("claims");
    assert_eq!(after.system().commit(&fence, record("5")).await, Ok(vec![Offset(2)]));
}

#[tokio::test]
async fn a_claim_comes_after_what_is_under_way() {
    let (store, faults) = Store::memory_with_faults();
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    faults.hold(true);
    let task = {
        let scope = scope.clone();
        tokio::spawn(async move { scope.commit(&fence, record("1")).await })
    };
    tokio::task::yield_now().await;
    scope.claim().await.expect("claims");
    assert_eq!(task.await.expect("no panic"), Ok(vec![Offset(0)]));
    assert_eq!(count(&scope).await, 1);
}
