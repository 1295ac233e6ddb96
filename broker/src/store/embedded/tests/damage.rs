//! Bytes that changed on the disk: what is torn, what is damaged, and what is not the store's.

use super::{
    super::group::{BLOCK, Head},
    crash::{config, open, open_with},
    faults::{A, B, bodies, record},
    sim::{Dice, SimDisk},
};
use crate::store::{ClaimError, Config, Offset, Page, ReadError, ScopeId, Store, Stream};

const JOURNAL: &str = "journal/0000000000000001.log";
const ONE: ScopeId = ScopeId(1);
const TWO: ScopeId = ScopeId(2);

/// A store with ten groups in its journal, of two scopes in turn, and the power gone.
async fn written() -> SimDisk {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let (one, two) = (store.scope(ONE), store.scope(TWO));
    let (first, second) = (one.claim().await.expect("claims"), two.claim().await.expect("claims"));
    for n in 0..5 {
        one.commit(&first, record(A, &format!("one {n}"))).await.expect("commits");
        two.commit(&second, record(A, &format!("two {n}"))).await.expect("commits");
    }
    drop(store);
    disk.after_cut(4)
}

/// Where the groups are, and where their bodies are.
fn groups(disk: &SimDisk) -> Vec<(usize, usize)> {
    let format = disk.bytes("FORMAT");
    let format = String::from_utf8_lossy(&format).into_owned();
    let salt = format.lines().find_map(|line| line.strip_prefix("salt ")).expect("a salt");
    let salt = u64::from_str_radix(salt, 16).expect("a number");
    let journal = disk.bytes(JOURNAL);
    let mut at = 0;
    let mut groups = Vec::new();
    while let Some(head) = Head::parse(salt, &journal[at..]) {
        groups.push((at, at + head.len() as usize));
        at += head.extent() as usize;
        assert_eq!(at as u64 % BLOCK, 0);
    }
    groups
}

async fn count(disk: &SimDisk, scope: ScopeId) -> usize {
    bodies(&open(disk).expect("opens").scope(scope), A).await.len()
}

#[tokio::test]
async fn a_torn_end_is_dropped_and_overwritten() {
    // In the body; in the head.
    for case in 0..2 {
        let disk = written().await;
        let (head, body) = *groups(&disk).last().expect("groups");
        disk.tamper(JOURNAL, |bytes| match case {
            0 => bytes[body + 42] ^= 1,
            _ => bytes[head + 20] ^= 1,
        });
        let store = open(&disk).expect("opens");
        assert_eq!(bodies(&store.scope(TWO), A).await.len(), 4, "case {case}");
        assert_eq!(bodies(&store.scope(ONE), A).await.len(), 5, "case {case}");
        assert!(disk.bytes(JOURNAL)[head..].iter().all(|byte| *byte == 0), "case {case}");
        let fence = store.scope(TWO).claim().await.expect("claims");
        let offsets = store.scope(TWO).commit(&fence, record(A, "again")).await;
        assert_eq!(offsets, Ok(vec![Offset(4)]));
        drop(store);
        assert_eq!(count(&disk.after_cut(1), TWO).await, 5, "case {case}");
    }
}

#[tokio::test]
async fn a_file_that_was_cut_is_not_taken_for_a_torn_end() {
    let groups = groups(&written().await);
    let (third, last) = (groups[2].0, groups[9]);
    // Between two groups, within the last one, after it, and all of it.
    for len in [third, last.1 + 10, last.0 + 2 * BLOCK as usize, 0] {
        let disk = written().await;
        disk.tamper(JOURNAL, |bytes| bytes.truncate(len));
        let refused = open(&disk).expect_err("it had another length");
        assert!(refused.contains(JOURNAL) && refused.contains("was cut"), "{len}: {refused}");
        assert_eq!(disk.bytes(JOURNAL).len(), len, "nothing was added or repaired");
    }
}

/// So many commits that the journal comes to another file, in a store that is then dropped.
async fn fill_files(store: Store, first: u64) -> u64 {
    let scope = store.scope(ONE);
    let fence = scope.claim().await.expect("claims");
    for n in first..first + 60 {
        let body = format!("{n} {}", "f".repeat(300));
        let offsets = scope.commit(&fence, record(A, &body)).await.expect("commits");
        assert_eq!(offsets, [Offset(n)]);
    }
    first + 60
}

#[tokio::test]
async fn a_file_of_the_journal_that_is_missing_is_said() {
    let disk = SimDisk::new();
    let (mut next, mut several) = (0, 0);
    for round in 0..8 {
        next = fill_files(open(&disk).expect("opens"), next).await;
        let mut files = disk.files("journal/0");
        files.reverse();
        several += usize::from(files.len() > 1);
        for (at, file) in files.iter().take(2).enumerate() {
            let disk = disk.copy();
            disk.take(file);
            match open(&disk) {
                Err(refused) => assert!(refused.contains("is missing"), "{round}: {refused}"),
                // It may be let go already; the newest never is.
                Ok(store) => {
                    assert!(at > 0, "{round}: nobody misses {file}");
                    let found = bodies(&store.scope(ONE), A).await.len() as u64;
                    assert_eq!(found, next, "{round}: {file}");
                }
            }
        }
        let disk = disk.copy();
        disk.take("index.redb");
        let refused = open(&disk).expect_err("data without an index");
        assert!(refused.contains("index.redb is missing"), "{refused}");
    }
    assert!(several > 0, "the journal never had two files");
}

#[tokio::test]
async fn files_of_another_length_are_read_and_used_up() {
    let disk = SimDisk::new();
    let mut next = 0;
    for kib in [192, 256, 320, 192, 256] {
        let bytes = kib << 10;
        let config = Config { journal_file_bytes: bytes, journal_bytes: 8 * bytes, ..config() };
        let store = open_with(&disk, &config).expect("opens");
        assert_eq!(bodies(&store.scope(ONE), A).await.len() as u64, next, "{kib}");
        next = fill_files(store, next).await;
    }
}

pub async fn damage_in_an_older_group_stops_its_scope_alone() {
    let disk = written().await;
    // The sixth group is the third of scope two.
    let (_, body) = groups(&disk)[5];
    let before = disk.bytes(JOURNAL);
    disk.tamper(JOURNAL, |bytes| bytes[body + 42] ^= 1);
    let kept = disk.bytes(JOURNAL);
    assert_ne!(before, kept);
    let mut disk = disk;
    // The second time it is known from the index.
    for round in 0..2 {
        let store = open(&disk).expect("opens");
        let two = store.scope(TWO);
        let read = two.read(A, Offset::ZERO, Page::default()).await.expect("what is before");
        assert_eq!(read.len(), 2, "round {round}");
        let damaged = two.read(A, Offset(2), Page::default()).await;
        assert!(matches!(damaged, Err(ReadError::Corrupt(_))), "round {round}: {damaged:?}");
        let refused = two.claim().await;
        assert!(matches!(refused, Err(ClaimError::Corrupt(_))), "round {round}: {refused:?}");
        assert!(two.restore(A).await.is_err());
        let one = store.scope(ONE);
        assert_eq!(bodies(&one, A).await.len(), 5 + round);
        let fence = one.claim().await.expect("claims");
        one.commit(&fence, record(A, "goes on")).await.expect("commits");
        let evidence = "journal/damaged-0000000000000001.log";
        assert_eq!(disk.bytes(evidence), kept, "nothing was cut or repaired");
        drop(store);
        disk = disk.after_cut(4);
    }
    let store = open(&disk).expect("opens");
    store.scope(TWO).drop().await.expect("drops");
    let fence = store.scope(TWO).claim().await.expect("claims");
    let offsets = store.scope(TWO).commit(&fence, record(A, "new")).await;
    assert_eq!(offsets, Ok(vec![Offset(0)]));
}

#[tokio::test]
async fn damage_is_of_its_scope_alone() {
    damage_in_an_older_group_stops_its_scope_alone().await;
}

pub async fn a_damaged_head_keeps_the_store_closed() {
    for lost in [20, 44] {
        let disk = written().await;
        let (head, _) = groups(&disk)[5];
        disk.tamper(JOURNAL, |bytes| bytes[head + lost] ^= 1);
        let before = disk.bytes(JOURNAL);
        let refused = open(&disk).expect_err("whose records they were is not known");
        assert!(refused.contains("group 6"), "{refused}");
        assert_eq!(disk.bytes(JOURNAL), before, "nothing was cut or repaired");
    }
}

#[tokio::test]
async fn a_damaged_head_is_the_whole_store_s() {
    a_damaged_head_keeps_the_store_closed().await;
}

pub async fn a_damaged_segment_is_said() {
    let disk = SimDisk::new();
    let store = open(&disk).expect("opens");
    let scope = store.scope(ONE);
    let fence = scope.claim().await.expect("claims");
    for n in 0..12 {
        let body = format!("{n:03} {}", "s".repeat(300));
        scope.commit(&fence, record(A, &body)).await.expect("commits");
        scope.commit(&fence, record(B, &format!("{body}{}", "l".repeat(500)))).await.expect("room");
    }
    drop(store);
    let disk = disk.after_cut(4);
    // Everything is in segments now.
    drop(open(&disk).expect("opens"));
    let segments = disk.files("scopes/0000000000000001/0000000000000001-");
    assert!(segments.len() > 2, "{segments:?}");
    disk.tamper(&segments[1], |bytes| bytes[44] ^= 1);
    let large = disk.files("scopes/0000000000000001/0000000000000002-");
    let large = large.iter().find(|name| name.ends_with(".large")).expect("large records");
    disk.tamper(large, |bytes| bytes[3] ^= 1);
    let store = open(&disk).expect("opens");
    let scope = store.scope(ONE);
    let damaged = async |stream: Stream| {
        let mut from = Offset::ZERO;
        loop {
            match scope.read(stream, from, Page::default()).await {
                Ok(page) => from = page.last().expect("damage comes before the end").offset.next(),
                Err(error) => return (from, error),
            }
        }
    };
    let (at, error) = damaged(A).await;
    assert!((1..11).contains(&at.0), "{at}: {error}");
    assert!(matches!(error, ReadError::Corrupt(_)), "{error}");
    let (at, error) = damaged(B).await;
    assert_eq!(at, Offset(0), "{error}");
    disk.take(&segments[0]);
    drop(store);
    let store = open(&disk).expect("opens");
    let missing = store.scope(ONE).read(A, Offset::ZERO, Page::default()).await;
    assert!(matches!(missing, Err(ReadError::Corrupt(_))), "{missing:?}");
}

#[tokio::test]
async fn damage_in_a_segment_is_said_where_it_is_read() {
    a_damaged_segment_is_said().await;
}

#[tokio::test]
async fn what_is_not_the_store_s_is_left_alone() {
    let disk = written().await;
    let mine = [
        "notes.txt",
        "journal/notes.txt",
        "scopes/0000000000000001/notes.txt",
        "scopes/0000000000000001/1-2.segment",
    ];
    drop(open(&disk).expect("opens"));
    mine.iter().for_each(|path| disk.add(path, b"mine"));
    let store = open(&disk).expect("opens");
    store.scope(ONE).drop().await.expect("drops");
    // The next claim waits until the scope is gone.
    store.scope(ONE).claim().await.expect("claims");
    drop(store);
    drop(open(&disk).expect("opens"));
    for path in mine {
        assert_eq!(disk.bytes(path), b"mine", "{path}");
    }
    let left = disk.files("scopes/0000000000000001/0");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn any_damage_of_the_journal_is_said_or_costs_the_newest_group_alone() {
    let mut dice = Dice::new(7);
    let whole = written().await;
    let end = groups(&whole).last().expect("groups").1 + BLOCK as usize;
    for round in 0..300 {
        let disk = whole.after_cut(4);
        let (at, len) = (dice.below(end), 1 + dice.below(200));
        disk.tamper(JOURNAL, |bytes| {
            for byte in bytes.iter_mut().skip(at).take(len) {
                *byte = dice.below(256) as u8;
            }
        });
        let Ok(store) = open(&disk) else { continue };
        let mut missing = 0;
        for scope in [ONE, TWO].map(|id| store.scope(id)) {
            let mut from = Offset::ZERO;
            while from < Offset(5) {
                match scope.read(A, from, Page::default()).await {
                    Ok(page) if page.is_empty() => {
                        missing += 5 - from.0;
                        break;
                    }
                    Ok(page) => from = page.last().expect("looked").offset.next(),
                    Err(ReadError::Corrupt(_)) => break,
                    Err(error) => panic!("round {round}: {error}"),
                }
            }
        }
        assert!(missing <= 1, "round {round}: {missing} records are missing without a word");
    }
}
