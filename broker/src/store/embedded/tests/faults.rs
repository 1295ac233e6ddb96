//! Disks that fail, fill up, or are somebody else's.

use super::{
    crash::{config, open},
    sim::SimDisk,
};
use crate::store::{
    Change, CheckpointError, CommitError, Config, Kind, Offset, OpenError, Page, Record, Scope,
    ScopeId, Space, Store, Stream,
};

pub const A: Stream = Stream(1);
pub const B: Stream = Stream(2);

pub fn record(stream: Stream, body: &str) -> Vec<Record> {
    vec![Record::new(stream, Kind::Tenant, body.as_bytes().to_vec())]
}

pub async fn bodies(scope: &Scope, stream: Stream) -> Vec<String> {
    let mut bodies = Vec::new();
    let mut from = Offset::ZERO;
    loop {
        let page = scope.read(stream, from, Page::default()).await.expect("reads");
        let Some(last) = page.last() else { return bodies };
        from = last.offset.next();
        bodies.extend(page.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()));
    }
}

pub async fn a_failed_sync_is_the_end() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.system();
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record(A, "1")).await.expect("commits");
    disk.fail_sync(0);
    let unknown = scope.commit(&fence, record(A, "2")).await;
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    store.failed().await;
    let refused = scope.commit(&fence, record(A, "3")).await;
    assert!(matches!(refused, Err(CommitError::Poisoned(_))), "{refused:?}");
    assert!(scope.claim().await.is_err());
    assert!(scope.read(A, Offset::ZERO, Page::default()).await.is_err());
    drop(store);
    let store = open(&disk.after_cut(1)).expect("opens");
    assert_eq!(bodies(&store.system(), A).await, ["1"]);
}

#[tokio::test]
async fn a_sync_that_failed_is_not_tried_again() {
    a_failed_sync_is_the_end().await;
}

#[tokio::test]
async fn on_a_full_disk_deletions_and_reads_go_on_and_it_recovers_by_itself() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let (scope, other) = (store.scope(ScopeId(1)), store.scope(ScopeId(2)));
    let fence = scope.claim().await.expect("claims");
    let others = other.claim().await.expect("claims");
    for n in 0..20 {
        scope.commit(&fence, record(A, &format!("{n} {}", "x".repeat(300)))).await.expect("room");
    }
    other.commit(&others, record(A, "other")).await.expect("room");
    disk.free_bytes(Some(0));
    let refused = scope.commit(&fence, record(A, "no")).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    assert_eq!(bodies(&scope, A).await.len(), 20);
    let refused = scope.checkpoint(&fence, A, Offset(1), vec![Change::put("a", "1")]).await;
    assert!(matches!(refused, Err(CheckpointError::Full { .. })), "{refused:?}");
    scope.trim(&fence, A, Offset(15)).await.expect("deletions go on");
    other.drop().await.expect("deletions go on");
    assert_eq!(bodies(&scope, A).await.len(), 5);
    let again = scope.claim().await.expect("claims");
    disk.free_bytes(None);
    // The keeper looks again by itself; until it did, commits are refused.
    while scope.commit(&again, record(A, "yes")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bodies(&scope, A).await.len(), 6);
    let others = other.claim().await.expect("claims");
    other.commit(&others, record(A, "new")).await.expect("there is room again");
    drop(store);
    let store = open(&disk.after_cut(1)).expect("opens");
    assert_eq!(bodies(&store.scope(ScopeId(1)), A).await.len(), 6);
    assert_eq!(bodies(&store.scope(ScopeId(2)), A).await, ["new"]);
}

#[tokio::test]
async fn a_disk_that_fills_up_while_redb_writes_puts_the_next_checkpoint_off() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    for n in 0..4 {
        scope.commit(&fence, record(A, &n.to_string())).await.expect("room");
    }
    let mut written = 0;
    let mut checkpoint = async || {
        written += 1;
        let put = |n| Change::put(format!("{written} {n}"), "v".repeat(4_000));
        scope.checkpoint(&fence, A, Offset(1), (0..20).map(put).collect()).await.map(|()| written)
    };
    checkpoint().await.expect("room");
    // When the second one is done, segments have what was committed: only redb writes from here on.
    checkpoint().await.expect("room");
    disk.taken_after(1);
    let mut last = 0;
    while !disk.is_taken() {
        last = checkpoint().await.expect("what was begun is brought to its end");
    }
    let refused = checkpoint().await;
    assert!(matches!(refused, Err(CheckpointError::Full { .. })), "{refused:?}");
    assert_eq!(bodies(&scope, A).await.len(), 4);
    scope.trim(&fence, A, Offset(1)).await.expect("deletions go on");
    disk.free_bytes(None);
    checkpoint().await.expect("there is room again");
    drop((store, scope));
    let store = open(&disk.after_cut(1)).expect("opens");
    let mut view = store.scope(ScopeId(1)).restore(A).await.expect("restores");
    let mut pairs = 0;
    loop {
        match view.next(Page::default()).await.expect("reads").len() {
            0 => break,
            n => pairs += n,
        }
    }
    assert_eq!(pairs as u64, 20 * (last + 1), "all that was told, and nothing else");
}

#[tokio::test]
async fn what_needs_the_reserve_has_it_and_leaves_room_for_deletions() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record(A, "0")).await.expect("commits");
    disk.free_bytes(Some(0));
    let refused = scope.commit(&fence, record(A, "no")).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    let mut kept = 0;
    let refused = loop {
        match scope.commit_from_reserve(&fence, record(A, "yes")).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Full { .. }), "{refused:?}");
    assert!(kept >= 3, "{kept} found room");
    let refused = loop {
        let last = scope.commit_in(Space::LastReserve, &fence, record(A, "last"));
        // What is refused beside it takes none of its room.
        let large = record(B, &"x".repeat(500));
        match tokio::join!(last, scope.commit(&fence, large)) {
            (Ok(_), Err(_)) => kept += 1,
            (Err(error), Err(_)) => break error,
            (_, new) => panic!("{new:?}"),
        }
    };
    assert!(matches!(refused, CommitError::Full { .. }), "{refused:?}");
    assert!(kept >= 6, "{kept} found room");
    scope.trim(&fence, A, Offset(1)).await.expect("deletions go on");
    store.scope(ScopeId(2)).drop().await.expect("deletions go on");
    drop((store, scope));
    let store = open(&disk.after_cut(1)).expect("opens");
    assert_eq!(bodies(&store.scope(ScopeId(1)), A).await.len(), kept);
}

#[tokio::test]
async fn many_deletions_find_room_on_a_full_disk() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record(A, "1")).await.expect("commits");
    disk.free_bytes(Some(0));
    // Commits leave room in the journal's file for them.
    for _ in 0..5 {
        scope.trim(&fence, A, Offset(1)).await.expect("deletions go on");
    }
}

#[tokio::test]
async fn a_store_opens_on_a_full_disk_and_recovers() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let fence = store.system().claim().await.expect("claims");
    for n in 0..10 {
        store.system().commit(&fence, record(A, &n.to_string())).await.expect("commits");
    }
    drop(store);
    let disk = disk.after_cut(4);
    disk.free_bytes(Some(0));
    let store = open(&disk).expect("opens");
    assert_eq!(bodies(&store.system(), A).await.len(), 10);
    let fence = store.system().claim().await.expect("claims");
    let refused = store.system().commit(&fence, record(A, "no")).await;
    assert!(matches!(refused, Err(CommitError::Full { .. })), "{refused:?}");
    disk.free_bytes(None);
    // The keeper looks again by itself; until it did, commits are refused.
    while store.system().commit(&fence, record(A, "yes")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bodies(&store.system(), A).await.len(), 11);
}

#[tokio::test]
async fn a_directory_is_one_process_s_and_outlives_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(Some(dir.path()), &config()).expect("opens");
    let fence = store.system().claim().await.expect("claims");
    let large = "y".repeat(5_000);
    for body in ["1", &large, "3"] {
        store.system().commit(&fence, record(A, body)).await.expect("commits");
    }
    let changes = vec![Change::put("key", "value")];
    store.system().checkpoint(&fence, A, Offset(2), changes).await.expect("takes it");
    let second = Store::open(Some(dir.path()), &config());
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    let boot = store.boot();
    drop(store);
    let store = Store::open(Some(dir.path()), &config()).expect("opens");
    assert_eq!(bodies(&store.system(), A).await, ["1", &large, "3"]);
    assert_eq!(store.boot(), boot + 1);
    let view = store.system().restore(A).await.expect("restores");
    assert_eq!(view.upto(), Offset(2));
    let later = store.system().claim().await.expect("claims");
    assert!(later.epoch() > fence.epoch());
    assert!(store.system().commit(&fence, record(A, "4")).await.is_err());
    assert_eq!(store.system().commit(&later, record(A, "4")).await, Ok(vec![Offset(3)]));
}

#[tokio::test]
async fn a_trim_of_nothing_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    scope.trim(&fence, A, Offset(3)).await.expect("trims");
    drop((store, scope));
    let store = open(&disk.after_cut(1)).expect("opens");
    assert_eq!(store.scopes(None, 10), []);
    assert_eq!(store.scope(ScopeId(1)).streams().await, Ok(vec![]));
}

#[tokio::test]
async fn a_trim_past_the_end_spares_what_comes_after() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ScopeId(1));
    let fence = scope.claim().await.expect("claims");
    scope.commit(&fence, record(A, "before")).await.expect("commits");
    scope.trim(&fence, A, Offset(100)).await.expect("trims");
    scope.commit(&fence, record(A, "after")).await.expect("commits");
    drop((store, scope));
    let disk = disk.after_cut(1);
    // Recovered once, and once more from what the first time has left.
    for _ in 0..2 {
        let store = open(&disk).expect("opens");
        assert_eq!(bodies(&store.scope(ScopeId(1)), A).await, ["after"]);
    }
}

#[tokio::test]
async fn a_trim_past_the_end_is_replayed_as_what_it_was() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let (scope, other) = (store.scope(ScopeId(1)), store.scope(ScopeId(2)));
    let fence = scope.claim().await.expect("claims");
    let others = other.claim().await.expect("claims");
    other.commit(&others, record(A, "other")).await.expect("commits");
    // The journal is to begin here, once there is room for segments and for saying so: before the
    // trim, which is replayed upon segments that have what came after it.
    disk.free_bytes(Some(0));
    other.drop().await.expect("deletions go on");
    scope.commit_from_reserve(&fence, record(A, "before")).await.expect("commits");
    scope.trim(&fence, A, Offset(100)).await.expect("trims");
    scope.commit_from_reserve(&fence, record(A, "after")).await.expect("commits");
    disk.free_bytes(None);
    // What comes after a drop waits for that.
    other.claim().await.expect("claims");
    drop((store, scope, other));
    let store = open(&disk.after_cut(1)).expect("opens");
    assert_eq!(bodies(&store.scope(ScopeId(1)), A).await, ["after"]);
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let disk = SimDisk::new();
    drop(open(&disk).expect("opens"));
    disk.tamper("FORMAT", |bytes| {
        let text = String::from_utf8_lossy(bytes).replace("format 1", "format 2");
        *bytes = text.into_bytes();
    });
    let refused = open(&disk).expect_err("it is newer");
    assert!(refused.contains("format 2"), "{refused}");
    disk.take("FORMAT");
    let refused = open(&disk).expect_err("data without a format");
    assert!(refused.contains("FORMAT is missing"), "{refused}");
}

#[test]
fn impossible_numbers_are_refused() {
    let check = |key: &str, config: Config| {
        let dir = tempfile::tempdir().expect("a directory");
        match Store::open(Some(dir.path()), &config) {
            Err(OpenError::BadConfig { key: found, .. }) => assert!(found.contains(key), "{found}"),
            other => panic!("{key}: {other:?}"),
        }
    };
    let config = Config::default();
    check("group_bytes", Config { group_bytes: 1, ..config.clone() });
    check("group_records", Config { group_records: 1, ..config.clone() });
    check("commit_records", Config { commit_records: 4_096, ..config.clone() });
    check("journal_file_bytes", Config { journal_file_bytes: 1 << 20, ..config.clone() });
    check("journal_bytes", Config { journal_bytes: 64 << 20, ..config.clone() });
    check("large_bytes", Config { large_bytes: 4 << 20, ..config.clone() });
    check("record_bytes", Config { record_bytes: 1, ..config.clone() });
    check("queue_bytes", Config { queue_bytes: 0, ..config });
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_at_the_bound_it_is_not() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let (scope, config) = (store.system(), config());
    let fence = scope.claim().await.expect("claims");
    let largest = "z".repeat(config.record_bytes);
    scope.commit(&fence, record(A, &largest)).await.expect("at the bound");
    let refused = scope.commit(&fence, record(A, &format!("{largest}z"))).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    let many = |count| (0..count).flat_map(|_| record(B, "b")).collect::<Vec<_>>();
    scope.commit(&fence, many(config.commit_records)).await.expect("at the bound");
    let refused = scope.commit(&fence, many(config.commit_records + 1)).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    let small = "s".repeat(config.large_bytes);
    let bytes = |count| (0..count).flat_map(|_| record(B, &small)).collect::<Vec<_>>();
    scope.commit(&fence, bytes(14)).await.expect("half a group");
    let refused = scope.commit(&fence, bytes(16)).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    assert_eq!(bodies(&scope, A).await, [largest]);
    assert_eq!(bodies(&scope, B).await.len(), config.commit_records + 14);
}

#[tokio::test]
async fn a_journal_that_is_full_many_times_over_loses_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let config = config();
    let fence = store.system().claim().await.expect("claims");
    let mut committed = 0;
    for n in 0..500 {
        let records = (0..10).flat_map(|_| record(Stream(n % 3), &"j".repeat(400))).collect();
        store.system().commit(&fence, records).await.expect("commits");
        committed += 10;
        let journal = disk.files("journal/").len() as u64;
        assert!(journal * config.journal_file_bytes <= 2 * config.journal_bytes, "{journal}");
    }
    let count = async |store: &Store| {
        let mut count = 0;
        for n in 0..3 {
            count += bodies(&store.system(), Stream(n)).await.len();
        }
        count
    };
    assert_eq!(count(&store).await, committed);
    drop(store);
    assert_eq!(count(&open(&disk.after_cut(2)).expect("opens")).await, committed);
}
