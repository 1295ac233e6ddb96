//! What every back end must do, as cases that are run on each.
//!
//! A case gets an empty store and knows nothing of what is behind it.

use super::*;

const A: Stream = Stream(1);
const B: Stream = Stream(2);

/// So small that files, groups and segments come to their ends.
pub(super) fn small() -> Config {
    Config {
        journal_bytes: 1 << 20,
        journal_file_bytes: 192 << 10,
        group_bytes: 16 << 10,
        group_records: 64,
        commit_records: 32,
        record_bytes: 64 << 10,
        large_bytes: 512,
        segment_bytes: 4 << 10,
        queue_bytes: 64 << 10,
        behind_bytes: 64 << 10,
        free_bytes: 1 << 20,
        open_files: 4,
    }
}

fn record(stream: Stream, body: &str) -> Record {
    Record::new(stream, Kind::Tenant, body.as_bytes().to_vec())
}

fn bodies(records: &[Stored]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect()
}

async fn all(scope: &Scope, stream: Stream) -> Vec<String> {
    bodies(&scope.read(stream, Offset::ZERO, Page::default()).await.expect("reads"))
}

async fn commits_are_read_back_in_their_order(store: Store) {
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    let offsets = scope
        .commit(&fence, vec![record(A, "a0"), record(B, "b0"), record(A, "a1")])
        .await
        .expect("commits");
    assert_eq!(offsets, [Offset(0), Offset(0), Offset(1)]);
    let offsets = scope.commit(&fence, vec![record(A, "a2")]).await.expect("commits");
    assert_eq!(offsets, [Offset(2)]);
    assert_eq!(all(&scope, A).await, ["a0", "a1", "a2"]);
    assert_eq!(all(&scope, B).await, ["b0"]);
    assert_eq!(scope.streams().await.expect("reads"), [A, B]);
    let stored = scope.read(A, Offset(1), Page::default()).await.expect("reads");
    assert_eq!(stored[0].offset, Offset(1));
    assert_eq!(stored[0].kind, Kind::Tenant);
    assert_eq!(stored[0].epoch, fence.epoch());
    assert!(scope.read(A, Offset(3), Page::default()).await.expect("reads").is_empty());
    assert!(scope.read(Stream(9), Offset(0), Page::default()).await.expect("reads").is_empty());
    assert_eq!(scope.commit(&fence, Vec::new()).await, Ok(Vec::new()));
}

async fn a_page_has_an_end_and_at_least_one_record(store: Store) {
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    let records = (0..10).map(|n| record(A, &format!("record {n}"))).collect();
    scope.commit(&fence, records).await.expect("commits");
    let read = async |from, count_max, bytes_max| {
        let page = Page { count_max, bytes_max };
        scope.read(A, Offset(from), page).await.expect("reads").len()
    };
    assert_eq!(read(0, 3, 1 << 20).await, 3);
    assert_eq!(read(8, 3, 1 << 20).await, 2);
    assert_eq!(read(0, 10, 0).await, 1);
    assert_eq!(read(0, 0, 1 << 20).await, 1);
    assert!((1..10).contains(&read(0, 10, 40).await));
}

async fn a_later_claim_fences_the_earlier(store: Store) {
    let scope = store.scope(ScopeId(7));
    let first = scope.claim().await.expect("claims");
    scope.commit(&first, vec![record(A, "1")]).await.expect("commits");
    let second = scope.claim().await.expect("claims");
    assert!(second.epoch() > first.epoch());
    let fenced = CommitError::Fenced { scope: scope.id() };
    assert_eq!(scope.commit(&first, vec![record(A, "2")]).await, Err(fenced));
    let fenced = TrimError::Fenced { scope: scope.id() };
    assert_eq!(scope.trim(&first, A, Offset(1)).await, Err(fenced));
    let fenced = CheckpointError::Fenced { scope: scope.id() };
    assert_eq!(scope.checkpoint(&first, A, Offset(1), Vec::new()).await, Err(fenced));
    assert_eq!(scope.commit(&second, vec![record(A, "3")]).await, Ok(vec![Offset(1)]));
    assert_eq!(all(&scope, A).await, ["1", "3"]);
    // Another scope is not concerned.
    let other = store.scope(ScopeId(8));
    let fence = other.claim().await.expect("claims");
    scope.commit(&second, vec![record(A, "4")]).await.expect("commits");
    other.commit(&fence, vec![record(A, "other")]).await.expect("commits");
    assert_eq!(all(&other, A).await, ["other"]);
}

async fn what_is_trimmed_is_gone_and_offsets_go_on(store: Store) {
    let scope = store.scope(ScopeId(7));
    let fence = scope.claim().await.expect("claims");
    let records = (0..5).map(|n| record(A, &n.to_string())).collect();
    scope.commit(&fence, records).await.expect("commits");
    scope.trim(&fence, A, Offset(3)).await.expect("trims");
    assert_eq!(all(&scope, A).await, ["3", "4"]);
    assert_eq!(scope.ends(A).await, Ok(Ends { first: Offset(3), next: Offset(5) }));
    // Trimming again, and trimming less, change nothing.
    scope.trim(&fence, A, Offset(1)).await.expect("trims");
    assert_eq!(all(&scope, A).await, ["3", "4"]);
    scope.trim(&fence, A, Offset(u64::MAX)).await.expect("trims");
    assert_eq!(scope.ends(A).await, Ok(Ends { first: Offset(5), next: Offset(5) }));
    assert_eq!(scope.commit(&fence, vec![record(A, "5")]).await, Ok(vec![Offset(5)]));
    assert_eq!(all(&scope, A).await, ["5"]);
    scope.trim(&fence, B, Offset(3)).await.expect("what is not there is trimmed already");
}

async fn view(scope: &Scope, stream: Stream, count_max: usize) -> (Offset, Vec<String>) {
    let mut view = scope.restore(stream).await.expect("restores");
    let mut pairs = Vec::new();
    loop {
        let page = Page { count_max, ..Page::default() };
        let more = view.next(page).await.expect("reads");
        if more.is_empty() {
            return (view.upto(), pairs);
        }
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        pairs.extend(more.iter().map(|p| format!("{}={}", text(&p.key), text(&p.value))));
    }
}

async fn a_view_takes_changes_and_gives_pairs_in_order(store: Store) {
    let scope = store.scope(ScopeId(7));
    let fence = scope.claim().await.expect("claims");
    assert_eq!(view(&scope, A, 10).await, (Offset(0), vec![]));
    let records = (0..5).map(|n| record(A, &n.to_string())).collect();
    scope.commit(&fence, records).await.expect("commits");
    let changes = ["b", "a", "c"].map(|k| Change::put(k, "1")).to_vec();
    scope.checkpoint(&fence, A, Offset(2), changes).await.expect("takes it");
    assert_eq!(view(&scope, A, 1).await.1, ["a=1", "b=1", "c=1"]);
    let changes = vec![Change::put("a", "2"), Change::delete("b"), Change::delete("nothing")];
    scope.checkpoint(&fence, A, Offset(5), changes).await.expect("takes it");
    assert_eq!(view(&scope, A, 10).await, (Offset(5), vec!["a=2".into(), "c=1".into()]));
    // Views are a stream's own, and outlive the records they are made of.
    assert_eq!(view(&scope, B, 10).await, (Offset(0), vec![]));
    scope.trim(&fence, A, Offset(5)).await.expect("trims");
    assert_eq!(view(&scope, A, 10).await.1.len(), 2);
    let misplaced = |upto| CheckpointError::Misplaced { upto, min: Offset(5), max: Offset(5) };
    for upto in [Offset(4), Offset(6)] {
        let refused = scope.checkpoint(&fence, A, upto, vec![Change::put("x", "x")]).await;
        assert_eq!(refused, Err(misplaced(upto)));
    }
    let long = vec![Change::put(vec![0; KEY_BYTES_MAX + 1], "")];
    assert!(scope.checkpoint(&fence, A, Offset(5), long).await.is_err());
    assert_eq!(view(&scope, A, 10).await.1, ["a=2", "c=1"]);
}

async fn a_dropped_scope_is_gone(store: Store) {
    let scope = store.scope(ScopeId(7));
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, vec![record(A, "1"), record(B, "2")]).await.expect("commits");
    scope.checkpoint(&fence, A, Offset(1), vec![Change::put("a", "1")]).await.expect("takes it");
    assert_eq!(store.scopes(None, 10), [scope.id()]);
    assert!(scope.bytes() > 0);
    scope.drop().await.expect("drops");
    assert_eq!(store.scopes(None, 10), []);
    assert_eq!(scope.bytes(), 0);
    assert!(all(&scope, A).await.is_empty());
    assert_eq!(view(&scope, A, 10).await, (Offset(0), vec![]));
    assert!(matches!(
        scope.commit(&fence, vec![record(A, "3")]).await,
        Err(CommitError::Fenced { .. })
    ));
    scope.drop().await.expect("what is not there is dropped already");
    assert_eq!(store.system().drop().await, Err(DropError::System));
}

async fn scopes_are_listed_in_pages(store: Store) {
    for n in [3, 1, 2] {
        let scope = store.scope(ScopeId(n));
        let fence = scope.claim().await.expect("claims");
        scope.commit(&fence, vec![record(A, "x")]).await.expect("commits");
    }
    assert_eq!(store.scopes(None, 2), [ScopeId(1), ScopeId(2)]);
    assert_eq!(store.scopes(Some(ScopeId(2)), 2), [ScopeId(3)]);
}

/// A test for each case, on an empty store of each back end.
macro_rules! conform {
    ($($case:ident)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Store::memory()).await;
            })+
        }

        mod embedded {
            $(#[tokio::test]
            async fn $case() {
                let dir = tempfile::tempdir().expect("a directory");
                let store = super::Store::open(Some(dir.path()), &super::small()).expect("opens");
                super::$case(store).await;
            })+
        }
    };
}

conform! {
    commits_are_read_back_in_their_order
    a_page_has_an_end_and_at_least_one_record
    a_later_claim_fences_the_earlier
    what_is_trimmed_is_gone_and_offsets_go_on
    a_view_takes_changes_and_gives_pairs_in_order
    a_dropped_scope_is_gone
    scopes_are_listed_in_pages
}
