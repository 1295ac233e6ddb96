//! Power cuts at every sync of small generated workloads of topics, and what must be true
//! afterwards.
//!
//! What was told to somebody is there; what was asked for and not answered is there or not; offsets
//! are never used again, positions never go back, and what comes again is not kept twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use futures::FutureExt;
use tollgate_protocol::{Code, id::GroupName, topic::Producer};

use super::{
    super::{Fate, Page, Retention},
    rig::{Rig, name, soon},
};
use crate::{
    batch::Failure,
    store::{Simulated, Store},
};

/// A small generator of numbers: the same seed gives the same ones.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Create {
        partitions: u32,
    },
    Append {
        count: usize,
        named: bool,
    },
    /// What was appended last by the producer comes once more.
    Again,
    /// A member takes so many, and acknowledges some of them.
    Group {
        take: usize,
        skip: usize,
    },
    DeleteMessage(usize),
    /// Only so many bytes are kept of each partition.
    Keep(u64),
    Delete,
}

const TOPIC: &str = "t";
/// Within so long what is kept no longer goes.
const TURN: Duration = Duration::from_millis(6);
const PRODUCER: Producer = Producer { id: [7; 16], epoch: 3 };

/// One tenant's topic, as it was told of.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Whether it is there; none when that was asked for and not answered.
    there: Option<bool>,
    /// What was acknowledged, by partition and offset.
    kept: BTreeMap<(u32, u64), String>,
    /// What was asked to be kept and not answered.
    maybe: BTreeSet<String>,
    /// Offsets that were asked to be deleted, and whether that was answered.
    deleted: BTreeMap<(u32, u64), bool>,
    /// Of the group: what was asked to be acknowledged, and how far it was told that it is.
    acked: BTreeSet<(u32, u64)>,
    positions: BTreeMap<u32, u64>,
    /// Whether the oldest messages may have gone.
    trims: bool,
    /// What the producer sent last.
    last: Vec<(u64, String)>,
    /// Its messages by their sequences: the offsets that were told.
    of_producer: BTreeMap<u64, (u32, u64)>,
}

/// What is known of the whole.
struct Model {
    disk: Simulated,
    store: Option<Store>,
    known: [Known; 2],
    made: u64,
    steps_done: usize,
}

fn steps(seed: u64) -> Vec<(usize, Step)> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1);
    let mut all = vec![(0, Step::Create { partitions: 1 + dice.below(2) as u32 })];
    all.push((1, Step::Create { partitions: 1 }));
    all.push((0, Step::Append { count: 1 + dice.below(4), named: true }));
    for _ in 0..7 {
        let tenant = usize::from(dice.below(5) == 0);
        let step = match dice.below(14) {
            0..5 => Step::Append { count: 1 + dice.below(5), named: dice.below(2) == 0 },
            5 | 6 => Step::Again,
            7..10 => Step::Group { take: 1 + dice.below(6), skip: dice.below(4) },
            10 => Step::DeleteMessage(dice.below(100)),
            11 => Step::Keep(60 + dice.below(150) as u64),
            _ => Step::Delete,
        };
        all.push((tenant, step));
        if matches!(step, Step::Delete) {
            // What it held is used again.
            all.push((tenant, Step::Create { partitions: 1 + dice.below(2) as u32 }));
            all.push((tenant, Step::Append { count: 2, named: false }));
        }
    }
    all
}

/// Nothing when the store is lost, as this says; else what is wrong.
fn lost(what: &str, failure: &Failure) -> Result<(), String> {
    // Of a disk that is dead it may also be said that there is no room on it.
    let codes = [Code::StoreUnavailable, Code::StorageFull, Code::Draining];
    if codes.contains(&failure.code) { Ok(()) } else { Err(format!("{what}: {failure:?}")) }
}

/// How an attempt to do something ended that a lost store may end: nothing then.
type Tried<T> = Result<Option<T>, String>;

impl Model {
    /// Waits for something. Once the power is gone it need not come, unless the store knows that it
    /// is lost: then whoever waits is told.
    async fn unless_dead<T>(&self, what: &str, waits: impl Future<Output = T>) -> Tried<T> {
        let dead = async {
            loop {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let lost = self.store.as_ref().and_then(|store| store.failed().now_or_never());
                if self.disk.is_dead() && lost.is_none() {
                    return;
                }
            }
        };
        soon(what, async {
            tokio::select! {
                biased;
                came = waits => Some(came),
                () = dead => None,
            }
        })
        .await
    }

    async fn run(&mut self, rig: &Rig, steps: &[(usize, Step)]) -> Result<(), String> {
        for (tenant, step) in steps {
            let done = self.step(rig, *tenant, *step).await;
            match done.map_err(|why| format!("{step:?} of {tenant}: {why}"))? {
                None => return Ok(()),
                Some(()) => self.steps_done += 1,
            }
        }
        Ok(())
    }

    async fn step(&mut self, rig: &Rig, tenant: usize, step: Step) -> Tried<()> {
        let (who, topic) = (&rig.tenants[tenant], name(TOPIC));
        let there = self.known[tenant].there == Some(true);
        match step {
            Step::Create { partitions } if !there => {
                self.known[tenant] = Known { there: None, ..Known::default() };
                let made = rig.topics.create(who, &topic, partitions, Retention::default());
                match self.unless_dead("create", made).await? {
                    Some(Ok(_)) => self.known[tenant].there = Some(true),
                    Some(Err(failure)) => return lost("create", &failure).map(|()| None),
                    None => return Ok(None),
                }
            }
            Step::Append { count, named } if there => {
                let base = self.known[tenant].of_producer.len() as u64 * 10 + 1;
                let messages: Vec<(u64, String)> = (0..count as u64)
                    .map(|n| {
                        self.made += 1;
                        (base + n, format!("message {} of {tenant}", self.made))
                    })
                    .collect();
                return self.append(rig, tenant, named, messages).await;
            }
            Step::Again if there && !self.known[tenant].last.is_empty() => {
                let last = self.known[tenant].last.clone();
                return self.append(rig, tenant, true, last).await;
            }
            Step::Group { take, skip } if there => {
                return self.group(rig, tenant, (take, skip)).await;
            }
            Step::DeleteMessage(at) if there => {
                let known = &self.known[tenant];
                let places: Vec<_> =
                    known.kept.keys().filter(|k| !known.deleted.contains_key(k)).copied().collect();
                let Some(place) = places.get(at % places.len().max(1)).copied() else {
                    return Ok(Some(()));
                };
                let id = match self.id_of(rig, tenant, place).await? {
                    Some(Some(id)) => id,
                    // Its time was over.
                    Some(None) => return Ok(Some(())),
                    None => return Ok(None),
                };
                self.known[tenant].deleted.insert(place, false);
                let deleted = rig.topics.delete_message(who, id);
                match self.unless_dead("delete a message", deleted).await? {
                    Some(Ok(())) => _ = self.known[tenant].deleted.insert(place, true),
                    Some(Err(f)) if f.code == Code::NotFound && self.known[tenant].trims => {}
                    Some(Err(failure)) => return lost("delete", &failure).map(|()| None),
                    None => return Ok(None),
                }
            }
            Step::Keep(bytes) if there => {
                self.known[tenant].trims = true;
                let retention = Retention { age_ms: None, bytes: Some(bytes) };
                match self.unless_dead("keep", rig.topics.keep(who, &topic, retention)).await? {
                    Some(Ok(_)) => {}
                    Some(Err(failure)) => return lost("keep", &failure).map(|()| None),
                    None => return Ok(None),
                }
                // The oldest go within a turn of it.
                tokio::time::sleep(TURN).await;
            }
            Step::Delete if there => {
                self.known[tenant].there = None;
                match self.unless_dead("delete", rig.topics.delete(who, &topic)).await? {
                    Some(Ok(())) => {
                        self.known[tenant] = Known { there: Some(false), ..Known::default() };
                        // What it held goes within a turn.
                        tokio::time::sleep(TURN).await;
                    }
                    Some(Err(failure)) => return lost("delete", &failure).map(|()| None),
                    None => return Ok(None),
                }
            }
            _ => {}
        }
        Ok(Some(()))
    }

    async fn append(
        &mut self,
        rig: &Rig,
        tenant: usize,
        named: bool,
        messages: Vec<(u64, String)>,
    ) -> Tried<()> {
        let known = &mut self.known[tenant];
        known.maybe.extend(messages.iter().map(|(_, text)| text.clone()));
        if named {
            known.last.clone_from(&messages);
        }
        let producer = named.then_some(PRODUCER);
        let topic = name(TOPIC);
        let appended = rig.append(tenant, &topic, producer, &messages);
        let fates = match self.unless_dead("append", appended).await? {
            Some(Ok(fates)) => fates,
            Some(Err(failure)) => return lost("append", &failure).map(|()| None),
            None => return Ok(None),
        };
        let known = &mut self.known[tenant];
        for fate in fates {
            match fate {
                Fate::Kept { sequence, count, partition, offset, duplicate } => {
                    for n in 0..u64::from(count) {
                        let text = messages.iter().find(|(s, _)| *s == sequence + n);
                        let text = text.ok_or("an answer to nothing")?.1.clone();
                        let place = (partition, offset + n);
                        if named
                            && let Some(before) = known.of_producer.insert(sequence + n, place)
                            && before != place
                        {
                            return Err(format!("{text} was at {before:?} and is at {place:?}"));
                        }
                        known.maybe.remove(&text);
                        let before = known.kept.insert(place, text.clone());
                        if before.is_some_and(|before| before != text || !duplicate) {
                            return Err(format!("{place:?} was used again"));
                        }
                    }
                }
                Fate::Refused { failure, .. } => {
                    return lost("append", &failure).map(|()| None);
                }
            }
        }
        Ok(Some(()))
    }

    /// A member takes some messages and acknowledges all but every `skip`th.
    async fn group(&mut self, rig: &Rig, tenant: usize, (take, skip): (usize, usize)) -> Tried<()> {
        let topic = name(TOPIC);
        let mut member = match self.unless_dead("join", rig.join(tenant, &topic, "g")).await? {
            Some(Ok(member)) => member,
            Some(Err(failure)) => return lost("join", &failure).map(|()| None),
            None => return Ok(None),
        };
        let page = Page { count_max: take, bytes_max: 1 << 20 };
        let got = match self.unless_dead("take", member.next(page)).await? {
            Some(Ok(got)) => got,
            Some(Err(failure)) => return lost("take", &failure).map(|()| None),
            None => return Ok(None),
        };
        for (n, got) in got.iter().enumerate() {
            let place = (got.partition, got.offset);
            if self.known[tenant].deleted.get(&place) == Some(&true) {
                return Err(format!("{place:?} was deleted, and is delivered"));
            }
            if skip == 0 || n % (skip + 1) != 0 {
                self.known[tenant].acked.insert(place);
                member.ack(got.partition, got.offset, got.offset);
            }
        }
        let kept = async {
            while !member.is_kept() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if self.unless_dead("acknowledge", kept).await?.is_none() {
            return Ok(None);
        }
        for (partition, position) in member.committed() {
            let told = self.known[tenant].positions.entry(partition).or_default();
            if position < *told {
                return Err(format!("a position went back from {told} to {position}"));
            }
            *told = position;
        }
        Ok(Some(()))
    }

    async fn id_of(&self, rig: &Rig, tenant: usize, place: (u32, u64)) -> Tried<Option<[u8; 16]>> {
        let (who, topic) = (&rig.tenants[tenant], name(TOPIC));
        let listed = rig.topics.messages(who, &topic, None, 1_000);
        match self.unless_dead("list", listed).await? {
            Some(Ok(page)) => {
                let at = page.messages.iter().find(|got| (got.partition, got.offset) == place);
                Ok(Some(at.and_then(|got| got.delivery().ok().map(|(d, _)| d.id))))
            }
            Some(Err(failure)) => lost("list", &failure).map(|()| None),
            None => Ok(None),
        }
    }

    /// What must be true in another life.
    async fn check(&mut self, rig: &Rig) -> Result<(), String> {
        let mut foreign = Vec::new();
        for tenant in 0..2 {
            let (who, topic) = (&rig.tenants[tenant], name(TOPIC));
            let info = match rig.topics.get(who, &topic).await {
                Ok(info) => Some(info),
                Err(failure) if failure.code == Code::NotFound => None,
                Err(failure) => return Err(format!("{failure:?}")),
            };
            match (self.known[tenant].there, &info) {
                (Some(true), None) => return Err(format!("the topic of {tenant} is lost")),
                (Some(false), Some(_)) => return Err(format!("the topic of {tenant} is back")),
                (_, None) => continue,
                _ => {}
            }
            let all = rig.all(tenant, &topic).await.map_err(|f| format!("{f:?}"))?;
            // Again, and after: the oldest go on going.
            let info = rig.topics.get(who, &topic).await.map_err(|f| format!("{f:?}"))?;
            self.check_messages(tenant, &all, &info)?;
            self.check_group(rig, tenant, &all).await?;
            self.goes_on(rig, tenant).await?;
            let page = rig.topics.messages(who, &topic, None, 1_000).await;
            let page = page.map_err(|f| format!("{f:?}"))?;
            let ids = page.messages.iter().filter_map(|g| g.delivery().ok().map(|(d, _)| d.id));
            foreign.extend(ids.map(|id| (1 - tenant, id)));
        }
        // Before they are looked for: the oldest go on going.
        let mut own = Vec::new();
        for tenant in 0..2 {
            own.push(rig.all(tenant, &name(TOPIC)).await.unwrap_or_default());
        }
        for (tenant, id) in foreign {
            if let Ok(found) = rig.topics.message(&rig.tenants[tenant], id).await {
                // Two tenants' messages may share an id: then it is one's own.
                let text = super::rig::text(&found.got);
                if !own[tenant].iter().any(|(_, _, t)| *t == text)
                    || text.ends_with(&format!("{}", 1 - tenant))
                {
                    return Err(format!("{tenant} reads {text}"));
                }
            }
        }
        let settled = async {
            loop {
                let all = rig.topics.holdings();
                if all.values().flatten().flatten().all(|(counted, found)| counted == found) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon("counts are what there is", settled).await
    }

    fn check_messages(
        &self,
        tenant: usize,
        all: &[(u32, u64, String)],
        info: &super::super::TopicInfo,
    ) -> Result<(), String> {
        let known = &self.known[tenant];
        let there: BTreeMap<(u32, u64), &String> =
            all.iter().map(|(partition, offset, text)| ((*partition, *offset), text)).collect();
        for ((partition, offset), text) in &known.kept {
            let place = (*partition, *offset);
            let gone = known.trims && *offset < info.partitions[*partition as usize].first;
            match there.get(&place) {
                Some(found) if *found != text => {
                    return Err(format!("{place:?} was {text} and is {found}"));
                }
                Some(_) if known.deleted.get(&place) == Some(&true) => {
                    return Err(format!("{text} was deleted, and is back"));
                }
                Some(_) => {}
                None if gone || known.deleted.contains_key(&place) => {}
                None => return Err(format!("{text} was kept at {place:?} and is lost")),
            }
        }
        let mut seen = BTreeSet::new();
        for (place, text) in &there {
            let told = known.kept.get(place) == Some(text);
            if !told && !known.maybe.contains(*text) {
                return Err(format!("{text} is there at {place:?}, and nobody wrote it"));
            }
            if !seen.insert(*text) {
                return Err(format!("{text} is there twice"));
            }
        }
        for (partition, part) in (0..).zip(&info.partitions) {
            let last = known.kept.keys().filter(|(p, _)| *p == partition).map(|(_, o)| *o).max();
            if last.is_some_and(|last| part.next <= last) {
                return Err(format!("{partition} goes on at {}, before {last:?}", part.next));
            }
            if !known.trims && part.first > 0 && known.deleted.is_empty() {
                return Err(format!("{partition} begins at {}, and nothing went", part.first));
            }
        }
        Ok(())
    }

    /// Positions are where they were told to be, and nothing that was not acknowledged is passed.
    async fn check_group(
        &self,
        rig: &Rig,
        tenant: usize,
        all: &[(u32, u64, String)],
    ) -> Result<(), String> {
        let known = &self.known[tenant];
        let group = GroupName::parse("g").map_err(|e| e.to_string())?;
        let info = match rig.topics.group(&rig.tenants[tenant], &name(TOPIC), &group).await {
            Ok(info) => info,
            Err(_) if known.positions.is_empty() => return Ok(()),
            Err(failure) => return Err(format!("the group: {failure:?}")),
        };
        for (partition, part) in (0..).zip(&info.partitions) {
            let told = known.positions.get(&partition).copied().unwrap_or(0);
            if part.position < told {
                return Err(format!("the position {told} went back to {}", part.position));
            }
            let passed = all.iter().find(|(p, offset, _)| {
                *p == partition && *offset < part.position && !known.acked.contains(&(*p, *offset))
            });
            if let Some((_, offset, text)) = passed {
                return Err(format!("{text} at {offset} was passed and never acknowledged"));
            }
        }
        Ok(())
    }

    /// What the producer sent last comes again: it is kept once. And what is new is at the end.
    async fn goes_on(&mut self, rig: &Rig, tenant: usize) -> Result<(), String> {
        let topic = name(TOPIC);
        self.known[tenant].there = Some(true);
        let last = self.known[tenant].last.clone();
        if !last.is_empty() {
            let again = self.append(rig, tenant, true, last.clone()).await?;
            again.ok_or("what comes again has no answer")?;
        }
        self.made += 1;
        let new = vec![(1 << 40, format!("message {} of {tenant}", self.made))];
        self.append(rig, tenant, false, new).await?.ok_or("what is new has no answer")?;
        let all = rig.all(tenant, &topic).await.map_err(|f| format!("{f:?}"))?;
        let texts: BTreeSet<&String> = all.iter().map(|(_, _, text)| text).collect();
        if texts.len() < all.len() {
            return Err(format!("something is there twice: {all:?}"));
        }
        let info = rig.topics.get(&rig.tenants[tenant], &topic).await;
        let info = info.map_err(|f| format!("{f:?}"))?;
        self.check_messages(tenant, &all, &info)
    }
}

/// One workload, its power cut at a sync, and a second life after it. What went wrong, if anything;
/// whether the power went before all was done.
async fn live(seed: u64, cut: Option<(u64, bool)>) -> Result<bool, String> {
    let disk = Simulated::new();
    if let Some((sync, takes_effect)) = cut {
        disk.cut_at(sync, takes_effect);
    }
    let steps = steps(seed);
    let mut model = Model {
        disk: disk.clone(),
        store: None,
        known: Default::default(),
        made: 0,
        steps_done: 0,
    };
    model.known.iter_mut().for_each(|known| known.there = Some(false));
    if let Ok(store) = disk.open_small() {
        let rig = Rig::start(&store).await;
        model.store = Some(store);
        let ran = model.run(&rig, &steps).await;
        model.store = None;
        rig.stop().await;
        ran?;
    }
    let syncs = cut.map_or(0, |(sync, _)| sync);
    let disk = disk.after_cut(seed ^ syncs << 8);
    let store = disk.open_small()?;
    let rig = Rig::start(&store).await;
    rig.topics.resume().await;
    let checked = model.check(&rig).await;
    rig.stop().await;
    checked.map_err(|why| format!("second life: {why}"))?;
    Ok(model.steps_done < steps.len())
}

/// Every sync of these workloads; gives how many power cuts there were, or the first thing that
/// went wrong.
pub fn explore(seeds: Range<u64>) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut cuts = 0;
        for seed in seeds {
            live(seed, None).await.map_err(|why| format!("workload {seed}: {why}"))?;
            'syncs: for sync in 1.. {
                for takes_effect in [false, true] {
                    let outcome = live(seed, Some((sync, takes_effect))).await;
                    let cut = outcome.map_err(|why| {
                        format!("workload {seed}, cut at {sync} ({takes_effect}): {why}")
                    })?;
                    if !cut {
                        // It was over before that sync came.
                        break 'syncs;
                    }
                    cuts += 1;
                }
            }
        }
        Ok(cuts)
    })
}

#[test]
fn power_cuts_at_every_sync_lose_no_message() {
    let threads: Vec<_> = [0..15, 15..30].map(|s| std::thread::spawn(|| explore(s))).into();
    let mut all = 0;
    for thread in threads {
        all += thread.join().expect("no panic").unwrap_or_else(|why| panic!("{why}"));
    }
    println!("30 workloads, {all} power cuts: 0 messages lost, 0 stores refused");
    assert!(all > 500, "{all} power cuts");
}
