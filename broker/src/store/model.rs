//! Random operations against a model, on every back end: what the port says, whatever the order.
//!
//! The model is the plainest thing that could be meant: maps and vectors.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::{conformance::small, *};

/// An operation. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Claim {
        scope: u64,
    },
    /// With the fence of the last claim, or the one before.
    Commit {
        scope: u64,
        old: bool,
        records: Vec<(u64, usize)>,
    },
    Read {
        scope: u64,
        stream: u64,
        from: u64,
        count_max: usize,
        bytes_max: usize,
    },
    Trim {
        scope: u64,
        stream: u64,
        before: u64,
    },
    Checkpoint {
        scope: u64,
        stream: u64,
        upto: u64,
        key: u8,
        put: bool,
    },
    View {
        scope: u64,
        stream: u64,
        count_max: usize,
    },
    Drop {
        scope: u64,
    },
    /// Closed and opened again: for a back end that lies somewhere.
    Reopen,
}

#[derive(Debug, Default)]
struct Log {
    first: u64,
    records: Vec<Vec<u8>>,
    upto: u64,
    view: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug, Default)]
struct Model {
    logs: BTreeMap<(u64, u64), Log>,
    fences: BTreeMap<u64, Vec<Fence>>,
    /// Scopes whose last fence still counts.
    owned: BTreeMap<u64, bool>,
    written: u64,
}

fn op() -> impl Strategy<Value = Op> {
    let (scope, stream) = (1..4u64, 1..4u64);
    let record = (stream.clone(), prop_oneof![4 => 0..300usize, 1 => 513..2_000usize]);
    let records = prop::collection::vec(record, 1..6);
    prop_oneof![
        1 => scope.clone().prop_map(|scope| Op::Claim { scope }),
        8 => (scope.clone(), prop::bool::weighted(0.1), records)
            .prop_map(|(scope, old, records)| Op::Commit { scope, old, records }),
        4 => (scope.clone(), stream.clone(), 0..40u64, 0..9usize, 0..3_000usize).prop_map(
            |(scope, stream, from, count_max, bytes_max)| {
                Op::Read { scope, stream, from, count_max, bytes_max }
            }
        ),
        2 => (scope.clone(), stream.clone(), 0..40u64)
            .prop_map(|(scope, stream, before)| Op::Trim { scope, stream, before }),
        2 => (scope.clone(), stream.clone(), 0..20u64, 0..5u8, any::<bool>()).prop_map(
            |(scope, stream, upto, key, put)| Op::Checkpoint { scope, stream, upto, key, put }
        ),
        2 => (scope.clone(), stream, 0..4usize)
            .prop_map(|(scope, stream, count_max)| Op::View { scope, stream, count_max }),
        1 => scope.prop_map(|scope| Op::Drop { scope }),
        1 => Just(Op::Reopen),
    ]
}

impl Model {
    async fn fence(&mut self, store: &Store, scope: u64) -> Fence {
        if !self.owned.get(&scope).copied().unwrap_or(false) {
            let fence = store.scope(ScopeId(scope)).claim().await.expect("claims");
            self.fences.entry(scope).or_default().push(fence);
            self.owned.insert(scope, true);
        }
        self.fences[&scope].last().expect("just claimed").clone()
    }

    async fn run(&mut self, store: &Store, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Claim { scope } => {
                self.owned.insert(*scope, false);
                self.fence(store, *scope).await;
            }
            Op::Commit { scope, old, records } => {
                let mut fence = self.fence(store, *scope).await;
                let fences = &self.fences[scope];
                let old = *old && fences.len() > 1;
                if old {
                    fence = fences[fences.len() - 2].clone();
                }
                self.commit(store, *scope, &fence, old, records).await?;
            }
            Op::Read { scope, stream, from, count_max, bytes_max } => {
                let page = Page { count_max: *count_max, bytes_max: *bytes_max };
                let handle = store.scope(ScopeId(*scope));
                let read = handle.read(Stream(*stream), Offset(*from), page).await.expect("reads");
                self.read(*scope, *stream, *from, page, &read)?;
            }
            Op::Trim { scope, stream, before } => {
                let fence = self.fence(store, *scope).await;
                let handle = store.scope(ScopeId(*scope));
                handle.trim(&fence, Stream(*stream), Offset(*before)).await.expect("trims");
                if let Some(log) = self.logs.get_mut(&(*scope, *stream)) {
                    log.first = log.first.max((*before).min(log.records.len() as u64));
                }
                self.ends(store, *scope, *stream).await?;
            }
            Op::Checkpoint { scope, stream, upto, key, put } => {
                let fence = self.fence(store, *scope).await;
                let (name, value) = (vec![*key], vec![*key; usize::from(*key)]);
                let change = match put {
                    true => Change::put(name.clone(), value.clone()),
                    false => Change::delete(name.clone()),
                };
                let handle = store.scope(ScopeId(*scope));
                let changes = vec![change];
                let done = handle.checkpoint(&fence, Stream(*stream), Offset(*upto), changes).await;
                let (min, max) = self
                    .logs
                    .get(&(*scope, *stream))
                    .map_or((0, 0), |log| (log.upto, log.records.len() as u64));
                prop_assert_eq!(done.is_ok(), (min..=max).contains(upto), "{:?}", done);
                if done.is_ok() {
                    let log = self.logs.entry((*scope, *stream)).or_default();
                    log.upto = *upto;
                    match put {
                        true => drop(log.view.insert(name, value)),
                        false => drop(log.view.remove(&name)),
                    }
                }
            }
            Op::View { scope, stream, count_max } => {
                self.view(store, *scope, *stream, *count_max).await?;
            }
            Op::Drop { scope } => {
                store.scope(ScopeId(*scope)).drop().await.expect("drops");
                self.logs.retain(|(of, _), _| of != scope);
                self.owned.insert(*scope, false);
            }
            Op::Reopen => {}
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        store: &Store,
        scope: u64,
        fence: &Fence,
        old: bool,
        records: &[(u64, usize)],
    ) -> Result<(), TestCaseError> {
        let mut made = Vec::new();
        for (stream, len) in records {
            self.written += 1;
            let mut body = self.written.to_le_bytes().to_vec();
            body.resize(*len, 7);
            made.push(Record::new(Stream(*stream), Kind::Revocation, body));
        }
        let outcome = store.scope(ScopeId(scope)).commit(fence, made.clone()).await;
        if old {
            prop_assert_eq!(outcome, Err(CommitError::Fenced { scope: ScopeId(scope) }));
            return Ok(());
        }
        let mut expected = Vec::new();
        for record in made {
            let log = self.logs.entry((scope, record.stream.0)).or_default();
            expected.push(Offset(log.records.len() as u64));
            log.records.push(record.body.to_vec());
        }
        prop_assert_eq!(outcome, Ok(expected));
        Ok(())
    }

    fn read(
        &self,
        scope: u64,
        stream: u64,
        from: u64,
        page: Page,
        read: &[Stored],
    ) -> Result<(), TestCaseError> {
        let none = Log::default();
        let log = self.logs.get(&(scope, stream)).unwrap_or(&none);
        let from = from.max(log.first);
        let left = (log.records.len() as u64).saturating_sub(from);
        prop_assert_eq!(read.is_empty(), left == 0);
        prop_assert!(read.len() <= page.count_max.max(1));
        let bytes: usize = read.iter().map(|record| record.body.len()).sum();
        prop_assert!(read.len() < 2 || bytes <= page.bytes_max, "{} bytes", bytes);
        for (at, record) in read.iter().enumerate() {
            prop_assert_eq!(record.offset, Offset(from + at as u64));
            prop_assert_eq!(&record.body[..], &log.records[record.offset.0 as usize][..]);
            prop_assert_eq!((record.kind, record.layout), (Kind::Revocation, 1));
        }
        Ok(())
    }

    async fn ends(&self, store: &Store, scope: u64, stream: u64) -> Result<(), TestCaseError> {
        let ends = store.scope(ScopeId(scope)).ends(Stream(stream)).await.expect("reads");
        let log = self.logs.get(&(scope, stream));
        let expected = log.map_or((0, 0), |log| (log.first, log.records.len() as u64));
        prop_assert_eq!((ends.first.0, ends.next.0), expected);
        Ok(())
    }

    async fn view(
        &self,
        store: &Store,
        scope: u64,
        stream: u64,
        count_max: usize,
    ) -> Result<(), TestCaseError> {
        let mut view = store.scope(ScopeId(scope)).restore(Stream(stream)).await.expect("reads");
        let mut pairs = BTreeMap::new();
        let mut last: Option<Pair> = None;
        loop {
            let page = Page { count_max, bytes_max: 10 };
            let page = view.next(page).await.expect("reads");
            if page.is_empty() {
                break;
            }
            for pair in page {
                prop_assert!(last.is_none_or(|last| last.key < pair.key), "in order");
                pairs.insert(pair.key.to_vec(), pair.value.to_vec());
                last = Some(pair);
            }
        }
        let none = Log::default();
        let log = self.logs.get(&(scope, stream)).unwrap_or(&none);
        prop_assert_eq!((view.upto().0, &pairs), (log.upto, &log.view));
        Ok(())
    }

    /// Everything is as it should be.
    async fn all(&self, store: &Store) -> Result<(), TestCaseError> {
        let scopes: Vec<_> = store.scopes(None, 100).iter().map(|scope| scope.0).collect();
        let mut expected: Vec<_> = self.logs.keys().map(|(scope, _)| *scope).collect();
        expected.dedup();
        prop_assert_eq!(scopes, expected);
        for scope in 1..4 {
            for stream in 1..4 {
                self.ends(store, scope, stream).await?;
                self.view(store, scope, stream, 2).await?;
                let mut from = 0;
                loop {
                    let page = Page { count_max: 5, bytes_max: 1_000 };
                    let handle = store.scope(ScopeId(scope));
                    let read = handle.read(Stream(stream), Offset(from), page).await;
                    let read = read.expect("reads");
                    self.read(scope, stream, from, page, &read)?;
                    match read.last() {
                        Some(last) => from = last.offset.0 + 1,
                        None => break,
                    }
                }
            }
        }
        Ok(())
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        runtime().block_on(async {
            let (store, mut model) = (Store::memory(), Model::default());
            for op in &ops {
                model.run(&store, op).await?;
            }
            model.all(&store).await
        })?;
    }

    #[test]
    fn the_disk_does_what_the_model_does(ops in prop::collection::vec(op(), 1..60)) {
        runtime().block_on(async {
            let disk = Simulated::new();
            let config = Config { segment_bytes: 1 << 10, ..small() };
            let (mut store, mut model) = (disk.open(&config), Model::default());
            for op in &ops {
                model.run(&store, op).await?;
                if matches!(op, Op::Reopen) {
                    drop(store);
                    store = disk.open(&config);
                    model.owned.clear();
                    model.all(&store).await?;
                }
            }
            model.all(&store).await
        })?;
    }
}
