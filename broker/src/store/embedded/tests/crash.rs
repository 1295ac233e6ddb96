//! Power cuts at every sync of small generated workloads, and what must be true afterwards.
//!
//! A workload is a list of steps on two scopes with three streams. Every commit writes who it is
//! into each of its records, so that what is found can be laid at its door.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;

use super::{
    super::{Embedded, disk::Disk, plant::Bug},
    sim::{Dice, SimDisk},
};
use crate::store::{
    Backend, Change, CommitError, Config, Fence, Kind, Offset, Page, Record, Scope, ScopeId, Store,
    Stream, conformance,
};

const SCOPES: [ScopeId; 2] = [ScopeId(1), ScopeId(2)];
const STREAMS: [Stream; 3] = [Stream(1), Stream(2), Stream(3)];

/// A step of a workload.
#[derive(Debug, Clone)]
enum Step {
    /// These commits at once: for each its scope, and of each record the stream and length.
    Commits(Vec<(usize, Vec<(usize, usize)>)>),
    Trim(usize, usize, u64),
    Checkpoint(usize, usize),
    Claim(usize),
    Drop(usize),
}

/// What is known of a stream by the one who wrote it.
#[derive(Debug, Clone, Default)]
struct Told {
    /// Acknowledged: offset -> commit.
    acked: BTreeMap<u64, u64>,
    trimmed: u64,
    /// What the view said after each checkpoint that was tried; the last acknowledged one.
    views: Vec<u64>,
    view_acked: Option<usize>,
}

/// What is known of the whole.
#[derive(Debug, Default)]
struct Model {
    streams: BTreeMap<(usize, usize), Told>,
    /// Commits: how many records, and whether nothing may have happened.
    commits: BTreeMap<u64, (usize, Outcome)>,
    next: u64,
    /// A drop was tried and not acknowledged.
    maybe_dropped: BTreeSet<usize>,
    maybe_trimmed: BTreeMap<(usize, usize), u64>,
    fences: BTreeMap<usize, Fence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acked,
    Refused,
    Unknown,
    /// It was in a scope that is gone, whatever became of it.
    Gone,
}

pub fn config() -> Config {
    Config { segment_bytes: 1 << 10, ..conformance::small() }
}

pub fn open(disk: &SimDisk) -> Result<Store, String> {
    open_with(disk, &config())
}

pub fn open_with(disk: &SimDisk, config: &Config) -> Result<Store, String> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let embedded = Embedded::open_on(&disk, config, None);
    let embedded = embedded.map_err(|error| format!("does not open: {error}"))?;
    Ok(Store { backend: Backend::Embedded(Arc::new(embedded)) })
}

fn steps(seed: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let commits = |dice: &mut Dice| {
        let count = 1 + dice.below(4);
        let commit = |dice: &mut Dice| {
            let records = 1 + dice.below(4);
            let length = |dice: &mut Dice| match dice.below(6) {
                // Beyond `large_bytes`.
                0 => 513 + dice.below(1_000),
                _ => 20 + dice.below(400),
            };
            let records = (0..records).map(|_| (dice.below(3), length(dice))).collect();
            (dice.below(2), records)
        };
        Step::Commits((0..count).map(|_| commit(dice)).collect())
    };
    let step = |n: usize| match dice.below(12) {
        _ if n == 0 => commits(&mut dice),
        0 | 1 => Step::Trim(dice.below(2), dice.below(3), 1 + dice.below(6) as u64),
        2 | 3 => Step::Checkpoint(dice.below(2), dice.below(3)),
        4 => Step::Claim(dice.below(2)),
        5 if dice.below(2) == 0 => Step::Drop(dice.below(2)),
        _ => commits(&mut dice),
    };
    (0..12).map(step).collect()
}

fn body(commit: u64, at: usize, of: usize, len: usize) -> Vec<u8> {
    let mut body = format!("{commit} {at} {of} ").into_bytes();
    body.resize(len.max(body.len()), b'x');
    body
}

fn parse(body: &[u8]) -> Option<(u64, usize, usize)> {
    let text = std::str::from_utf8(body).ok()?;
    let mut words = text.split(' ').map(|word| word.parse::<u64>());
    let mut word = || words.next()?.ok();
    Some((word()?, word()? as usize, word()? as usize))
}

impl Model {
    /// Runs the steps until they are over or the store is lost.
    async fn run(&mut self, store: &Store, steps: &[Step]) {
        for step in steps {
            if self.step(store, step).await.is_none() {
                return;
            }
        }
    }

    async fn fence(&mut self, store: &Store, scope: usize) -> Option<(Scope, Fence)> {
        let handle = store.scope(SCOPES[scope]);
        if let Some(fence) = self.fences.get(&scope) {
            return Some((handle, fence.clone()));
        }
        let fence = handle.claim().await.ok()?;
        self.fences.insert(scope, fence.clone());
        Some((handle, fence))
    }

    async fn step(&mut self, store: &Store, step: &Step) -> Option<()> {
        match step {
            Step::Commits(commits) => self.commits(store, commits).await,
            Step::Trim(scope, stream, more) => {
                let (handle, fence) = self.fence(store, *scope).await?;
                let key = (*scope, *stream);
                let told = self.streams.entry(key).or_default();
                let end = told.acked.keys().next_back().map_or(0, |last| last + 1);
                let before = (told.trimmed + more).min(end);
                self.maybe_trimmed.insert(key, before);
                handle.trim(&fence, STREAMS[*stream], Offset(before)).await.ok()?;
                self.streams.entry(key).or_default().trimmed = before;
                Some(())
            }
            Step::Checkpoint(scope, stream) => {
                let (handle, fence) = self.fence(store, *scope).await?;
                let told = self.streams.entry((*scope, *stream)).or_default();
                let upto = told.acked.keys().next_back().map_or(0, |last| last + 1);
                if upto == 0 {
                    // Whether it happened could not be told afterwards.
                    return Some(());
                }
                told.views.push(upto);
                let tried = told.views.len() - 1;
                let changes = vec![
                    Change::put(format!("at {upto}"), upto.to_string()),
                    Change::put("last", upto.to_string()),
                ];
                let stream_id = STREAMS[*stream];
                handle.checkpoint(&fence, stream_id, Offset(upto), changes).await.ok()?;
                self.streams.entry((*scope, *stream)).or_default().view_acked = Some(tried);
                Some(())
            }
            Step::Claim(scope) => {
                let (_, old) = self.fence(store, *scope).await?;
                self.fences.remove(scope);
                let (handle, _) = self.fence(store, *scope).await?;
                let id = self.id(1);
                let record = Record::new(STREAMS[0], Kind::Tenant, body(id, 0, 1, 0));
                let refused = handle.commit(&old, vec![record]).await;
                self.judge(id, &refused);
                assert!(refused.is_err(), "an old fence is refused");
                store.failed_now().is_none().then_some(())
            }
            Step::Drop(scope) => {
                self.maybe_dropped.insert(*scope);
                self.fences.remove(scope);
                store.scope(SCOPES[*scope]).drop().await.ok()?;
                self.maybe_dropped.remove(scope);
                self.maybe_trimmed.retain(|(of, _), _| of != scope);
                let gone = self.streams.keys().filter(|(of, _)| of == scope).copied();
                for key in gone.collect::<Vec<_>>() {
                    let told = self.streams.remove(&key).unwrap_or_default();
                    for commit in told.acked.values() {
                        self.commits.entry(*commit).or_insert((0, Outcome::Gone)).1 = Outcome::Gone;
                    }
                }
                Some(())
            }
        }
    }

    fn id(&mut self, records: usize) -> u64 {
        self.next += 1;
        self.commits.insert(self.next, (records, Outcome::Unknown));
        self.next
    }

    fn judge(&mut self, id: u64, outcome: &Result<Vec<Offset>, CommitError>) {
        let outcome = match outcome {
            Ok(_) => Outcome::Acked,
            Err(CommitError::Unknown(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        self.commits.entry(id).and_modify(|commit| commit.1 = outcome);
    }

    async fn commits(
        &mut self,
        store: &Store,
        commits: &[(usize, Vec<(usize, usize)>)],
    ) -> Option<()> {
        let mut calls = Vec::new();
        let mut whose = Vec::new();
        for (scope, records) in commits {
            let (handle, fence) = self.fence(store, *scope).await?;
            let id = self.id(records.len());
            let of = records.len();
            let record = |(at, (stream, len)): (usize, &(usize, usize))| {
                Record::new(STREAMS[*stream], Kind::Tenant, body(id, at, of, *len))
            };
            let made: Vec<_> = records.iter().enumerate().map(record).collect();
            whose.push((id, *scope, records.clone()));
            calls.push(async move { handle.commit(&fence, made).await });
        }
        for ((id, scope, records), outcome) in whose.into_iter().zip(join_all(calls).await) {
            self.judge(id, &outcome);
            for (offset, (stream, _)) in outcome.into_iter().flatten().zip(records) {
                self.streams.entry((scope, stream)).or_default().acked.insert(offset.0, id);
            }
        }
        store.failed_now().is_none().then_some(())
    }

    /// Looks at what is there after a restart.
    async fn check(&mut self, store: &Store) -> Result<(), String> {
        let mut found: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
        let mut cut: BTreeSet<u64> = BTreeSet::new();
        for (scope, id) in SCOPES.iter().enumerate() {
            let handle = store.scope(*id);
            for (at, stream) in STREAMS.iter().enumerate() {
                let told = self.streams.get(&(scope, at)).cloned().unwrap_or_default();
                let records = all(&handle, *stream).await?;
                let ends = handle.ends(*stream).await.map_err(|error| error.to_string())?;
                let empty = ends.next == Offset::ZERO;
                if empty && self.maybe_dropped.contains(&scope) {
                    cut.extend(told.acked.values());
                    self.streams.remove(&(scope, at));
                    continue;
                }
                let trimmed_max = self.maybe_trimmed.get(&(scope, at)).copied().unwrap_or(0);
                if ends.first.0 < told.trimmed || ends.first.0 > trimmed_max.max(told.trimmed) {
                    return Err(format!(
                        "{id} {stream} begins at {}, trimmed {}",
                        ends.first, told.trimmed
                    ));
                }
                for (offset, commit) in &told.acked {
                    match records.get(offset) {
                        _ if *offset < ends.first.0 => drop(cut.insert(*commit)),
                        None => return Err(format!("{id} {stream} {offset} is lost")),
                        Some((found, ..)) if found != commit => {
                            return Err(format!("{id} {stream} {offset} is another's"));
                        }
                        Some(_) => {}
                    }
                }
                for (commit, at, _) in records.values() {
                    found.entry(*commit).or_default().insert(*at);
                }
                // What was trimmed may have been of a commit that is not acknowledged.
                self.view(&handle, *stream, &told).await?;
                self.streams.entry((scope, at)).or_default().trimmed = ends.first.0;
            }
        }
        for (commit, records) in &found {
            let Some((count, outcome)) = self.commits.get(commit) else {
                return Err(format!("commit {commit} was never made"));
            };
            if *outcome == Outcome::Refused || *outcome == Outcome::Gone {
                return Err(format!("commit {commit} is there, and was {outcome:?}"));
            }
            if records.len() != *count && !cut.contains(commit) {
                return Err(format!("commit {commit} has {} of {count} records", records.len()));
            }
        }
        Ok(())
    }

    async fn view(&self, scope: &Scope, stream: Stream, told: &Told) -> Result<(), String> {
        let mut view = scope.restore(stream).await.map_err(|error| error.to_string())?;
        let mut pairs = BTreeMap::new();
        loop {
            let page = view.next(Page::default()).await.map_err(|error| error.to_string())?;
            if page.is_empty() {
                break;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            pairs.extend(page.iter().map(|pair| (text(&pair.key), text(&pair.value))));
        }
        let from = told.view_acked.map_or(0, |acked| acked + 1);
        let fits = |tried: usize| {
            let views = &told.views[..tried];
            let mut expected: BTreeMap<_, _> =
                views.iter().map(|upto| (format!("at {upto}"), upto.to_string())).collect();
            let upto = views.last().copied().unwrap_or(0);
            if !views.is_empty() {
                expected.insert("last".into(), upto.to_string());
            }
            expected == pairs && view.upto().0 == upto
        };
        if (from..=told.views.len()).any(fits) {
            return Ok(());
        }
        let upto = view.upto();
        Err(format!("{} {stream}: the view is {pairs:?} up to {upto}, {told:?}", scope.id()))
    }

    /// After a restart, what was in doubt is settled: it is there or it is not.
    async fn settle(&mut self, store: &Store) -> Result<(), String> {
        self.fences.clear();
        self.maybe_dropped.clear();
        for (scope, id) in SCOPES.iter().enumerate() {
            for (at, stream) in STREAMS.iter().enumerate() {
                let told = self.streams.entry((scope, at)).or_default();
                for (offset, (commit, ..)) in all(&store.scope(*id), *stream).await? {
                    told.acked.insert(offset, commit);
                }
                let view = store.scope(*id).restore(*stream).await;
                let upto = view.map_err(|error| error.to_string())?.upto().0;
                // A checkpoint that was tried last and did not happen is not to come.
                let kept = told.views.iter().rposition(|tried| *tried == upto);
                told.view_acked = kept;
                told.views.truncate(kept.map_or(0, |kept| kept + 1));
            }
        }
        let there: BTreeSet<_> =
            self.streams.values().flat_map(|told| told.acked.values().copied()).collect();
        for (id, (_, outcome)) in &mut self.commits {
            if *outcome == Outcome::Unknown && !there.contains(id) {
                *outcome = Outcome::Gone;
            }
        }
        Ok(())
    }
}

/// Every record of a stream: offset -> (commit, at, of).
async fn all(scope: &Scope, stream: Stream) -> Result<BTreeMap<u64, (u64, usize, usize)>, String> {
    let mut records = BTreeMap::new();
    let mut from = Offset::ZERO;
    loop {
        let page = scope.read(stream, from, Page { count_max: 7, bytes_max: 2_000 }).await;
        let page = page.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(records) };
        from = last.offset.next();
        for record in page {
            let known = parse(&record.body);
            let known = known.ok_or_else(|| format!("{stream} {} is no record", record.offset))?;
            if records.insert(record.offset.0, known).is_some() {
                return Err(format!("{stream} {} is there twice", record.offset));
            }
        }
    }
}

/// One workload, its power cut at a sync, and a second life after it. What went wrong, if anything.
async fn live(seed: u64, sync: u64, takes_effect: bool) -> Result<(), String> {
    let disk = SimDisk::new();
    disk.cut_at(sync, takes_effect);
    let steps = steps(seed);
    let mut model = Model::default();
    if let Ok(store) = open(&disk) {
        model.run(&store, &steps).await;
    }
    let disk = disk.after_cut(seed ^ sync << 8);
    let store = open(&disk)?;
    model.check(&store).await?;
    model.settle(&store).await?;
    // It goes on as if nothing had been, and is cut again.
    disk.cut_at(disk.syncs() + 1 + sync % 11, takes_effect);
    model.run(&store, &steps[..4]).await;
    drop(store);
    let disk = disk.after_cut(seed ^ sync << 16);
    model.check(&open(&disk)?).await.map_err(|error| format!("second life: {error}"))
}

/// Every sync of these workloads; gives how many power cuts there were, or the first thing that
/// went wrong.
pub fn explore(seeds: std::ops::Range<u64>) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut cuts = 0;
        for seed in seeds {
            let disk = SimDisk::new();
            let store = open(&disk)?;
            let mut model = Model::default();
            model.run(&store, &steps(seed)).await;
            model.check(&store).await.map_err(|error| format!("workload {seed}: {error}"))?;
            drop(store);
            for sync in 1..=disk.syncs() + 1 {
                for takes_effect in [false, true] {
                    let outcome = live(seed, sync, takes_effect).await;
                    outcome.map_err(|error| {
                        format!("workload {seed}, cut at {sync} ({takes_effect}): {error}")
                    })?;
                    cuts += 1;
                }
            }
        }
        Ok(cuts)
    })
}

/// As `explore`, with a bug on; whether it was noticed.
pub fn notices(bug: Bug, seeds: std::ops::Range<u64>) -> Option<String> {
    super::planted(bug, || {
        let explored = std::panic::catch_unwind(|| explore(seeds));
        match explored {
            Ok(explored) => explored.err(),
            Err(_) => Some("panicked".into()),
        }
    })
}

#[test]
fn power_cuts_at_every_sync_lose_nothing() {
    let threads: Vec<_> = [0..15, 15..30].map(|s| std::thread::spawn(|| explore(s))).into();
    for thread in threads {
        let cuts = thread.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"));
        assert!(cuts > 500, "{cuts} power cuts");
        println!("{cuts} power cuts");
    }
}
