//! Power cuts at every sync of small generated workloads of jobs, and what must be true afterwards.
//!
//! What was told to somebody is there; what was asked for and not answered is there or not; and the
//! jobs go on to their ends as if nothing had been.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use futures::FutureExt;
use tollgate_protocol::{
    Code,
    batch::{Ended, Number},
    id::{BatchId, JobId},
};

use super::{
    super::{Chosen, Deed, Subject, load, record, service::read_kept},
    rig::{Rig, Tried, soon, text, told},
};
use crate::{
    batch::{Failure, Told},
    rules::job::{Jobs as Sum, Keep},
    store::{ScopeId, Simulated, Store},
};

const KEEP: Keep = Keep { job_ms: 1 << 40, key_ms: 1 << 40, unsealed_ms: 1 << 40 };

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

#[derive(Debug, Clone)]
enum Step {
    Batch {
        tenant: usize,
        durable: bool,
        seal: bool,
        items: Vec<(&'static str, bool)>,
    },
    /// What is done to a job, and to which one of those there are.
    Act(Deed, usize),
    /// A key is sent once more.
    Again(usize),
}

/// A job, as it was told of.
#[derive(Debug, Clone)]
struct Known {
    tenant: usize,
    batch: BatchId,
    item: u64,
    recipe: &'static str,
    payload: String,
    key: Option<String>,
    accepted: Number,
    ended: Option<(Number, String)>,
    /// What was asked for, and whether that was answered.
    asked: Option<(Deed, bool)>,
}

/// What is known of the whole.
#[derive(Debug)]
struct Model {
    disk: Simulated,
    store: Option<Store>,
    jobs: BTreeMap<JobId, Known>,
    /// Durable batches: their tenant, and the number of their summary.
    batches: BTreeMap<[u8; 16], (usize, Option<Number>)>,
    made: u64,
    steps_done: usize,
}

fn steps(seed: u64) -> Vec<Step> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d);
    let recipes = ["echo", "echo", "flaky", "never", "dies", "hang"];
    let mut step = |n: usize| match dice.below(10) {
        5 if n > 0 => Step::Act(Deed::CancelAll, dice.below(100)),
        6 if n > 0 => Step::Act(Deed::Replay, dice.below(100)),
        7 if n > 0 => Step::Act(Deed::Purge, dice.below(100)),
        8 if n > 0 => Step::Again(dice.below(100)),
        _ => Step::Batch {
            tenant: usize::from(dice.below(4) == 0),
            durable: dice.below(2) == 0,
            seal: dice.below(4) > 0,
            items: (0..1 + dice.below(4))
                .map(|_| (recipes[dice.below(recipes.len())], dice.below(4) == 0))
                .collect(),
        },
    };
    (0..5).map(&mut step).collect()
}

/// Whether the store is lost, as this says; else what is wrong.
fn lost(what: &str, failure: &Failure) -> Result<(), String> {
    // Of a disk that is dead it may also be said that there is no room on it.
    let codes = [Code::StoreUnavailable, Code::StorageFull, Code::Draining];
    if codes.contains(&failure.code) { Ok(()) } else { Err(format!("{what}: {failure:?}")) }
}

impl Model {
    fn new(disk: &Simulated) -> Model {
        let (jobs, batches) = (BTreeMap::new(), BTreeMap::new());
        Model { disk: disk.clone(), store: None, jobs, batches, made: 0, steps_done: 0 }
    }

    /// Waits for something. Once the power is gone it need not come, unless the store knows that
    /// it is lost: then whoever waits is told.
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

    /// Runs the steps until they are over or the store is lost.
    async fn run(&mut self, rig: &Rig, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            let done = match step {
                Step::Batch { tenant, durable, seal, items } => {
                    self.batch(rig, *tenant, (*durable, *seal), items).await
                }
                Step::Act(deed, at) => self.act(rig, *deed, *at).await,
                Step::Again(at) => self.again(rig, *at).await,
            };
            let done = done.map_err(|why| format!("{step:?}: {why}"))?;
            if done.is_none() {
                return Ok(());
            }
            self.steps_done += 1;
            self.others_see_nothing(rig).await?;
        }
        Ok(())
    }

    async fn batch(
        &mut self,
        rig: &Rig,
        tenant: usize,
        (durable, seal): (bool, bool),
        items: &[(&'static str, bool)],
    ) -> Tried<()> {
        let batch = BatchId::random();
        if durable {
            let opened = rig.jobs.open_batch(&rig.tenants[tenant], batch, false);
            match self.unless_dead("an opening", opened).await? {
                None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(failure)) => return lost("open", &failure).map(|()| None),
            }
            self.batches.insert(batch.0, (tenant, None));
        }
        let mut line = rig.line(tenant, batch, durable);
        let mut sent = Vec::new();
        for (n, (recipe, keyed)) in items.iter().enumerate() {
            self.made += 1;
            let (item, payload) = (n as u64, format!("payload {} of {tenant}", self.made));
            let key = keyed.then(|| format!("key {}", self.made));
            let mut job = rig.new_job(tenant, item, recipe, &payload);
            job.key = key.as_deref().map(Into::into);
            sent.push(Known {
                tenant,
                batch,
                item,
                recipe,
                payload,
                key,
                accepted: Number::default(),
                ended: None,
                asked: None,
            });
            if let Err(failure) = line.submit(job) {
                return lost("submit", &failure).map(|()| None);
            }
        }
        let ends = items.iter().filter(|(recipe, _)| *recipe != "hang").count();
        let summary = durable && seal && ends == items.len();
        let (mut accepted, mut ended, mut over, mut sealed) = (0, 0, false, false);
        while accepted < items.len() || ended < ends || summary && !over {
            if accepted == items.len() && durable && seal && !sealed {
                line.seal(Ended::Sealed, Some(items.len() as u64 - 1), &[]);
                sealed = true;
            }
            let Some(told) = self.unless_dead("a batch", told(&mut *line)).await? else {
                return Ok(None);
            };
            match told {
                Told::Accepted(a) => {
                    let known = Known { accepted: a.number, ..sent[a.item as usize].clone() };
                    if let Some(twin) = self.jobs.insert(a.job, known) {
                        return Err(format!("{} was {twin:?}", a.job));
                    }
                    accepted += 1;
                }
                Told::Ended(end) => {
                    let of = |k: &&mut Known| k.batch == batch && k.item == end.item;
                    let known = self.jobs.values_mut().find(of);
                    let known = known.ok_or("an end before it was accepted")?;
                    known.ended = Some((end.number, text(&end)));
                    ended += 1;
                }
                Told::Over(summary) => {
                    self.batches.insert(batch.0, (tenant, Some(summary.number)));
                    over = true;
                }
                Told::Refused { failure, .. }
                | Told::Contradicts { failure, .. }
                | Told::Lost(failure) => {
                    return lost("told", &failure).map(|()| None);
                }
                Told::Progress(_) => {}
            }
        }
        Ok(Some(()))
    }

    async fn act(&mut self, rig: &Rig, deed: Deed, at: usize) -> Tried<()> {
        let suits = |known: &&JobId| match deed {
            Deed::CancelAll => self.jobs[known].recipe == "hang",
            Deed::Replay => ["never", "dies"].contains(&self.jobs[known].recipe),
            _ => self.jobs[known].ended.is_some(),
        };
        let open: Vec<JobId> = self.jobs.keys().filter(suits).copied().collect();
        let open: Vec<JobId> =
            open.into_iter().filter(|id| self.jobs[id].asked.is_none()).collect();
        if open.is_empty() {
            return Ok(Some(()));
        }
        let id = open[at % open.len()];
        let known = self.jobs.get_mut(&id).expect("chosen");
        known.asked = Some((deed, false));
        let tenant = rig.tenants[known.tenant].clone();
        let done = rig.jobs.act(&tenant, Chosen::One(id), deed);
        let Some(done) = self.unless_dead("an act", done).await? else { return Ok(None) };
        let known = self.jobs.get_mut(&id).expect("chosen");
        match done {
            Ok(1) => known.asked = Some((deed, true)),
            Ok(n) => return Err(format!("done to {n} of {known:?}")),
            Err(failure) => return lost("act", &failure).map(|()| None),
        }
        if deed == Deed::CancelAll {
            let hangs = |k: &&Known| k.recipe == "hang" && k.asked.is_none();
            let hang = self.jobs.values().filter(hangs).count();
            let stopped = async {
                while rig.hanging.load(std::sync::atomic::Ordering::Relaxed) > hang {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let stopped = tokio::time::timeout(Duration::from_secs(2), stopped).await;
            stopped.map_err(|_| "a job that was cancelled runs on")?;
        }
        Ok(Some(()))
    }

    /// The same key gives the same job, in whatever batch.
    async fn again(&mut self, rig: &Rig, at: usize) -> Tried<()> {
        let keyed = |k: &(&JobId, &Known)| k.1.key.is_some() && k.1.asked.is_none();
        let keyed: Vec<JobId> = self.jobs.iter().filter(keyed).map(|k| *k.0).collect();
        if keyed.is_empty() {
            return Ok(Some(()));
        }
        let id = keyed[at % keyed.len()];
        let known = &self.jobs[&id];
        let mut job = rig.new_job(known.tenant, 77, known.recipe, &known.payload);
        job.key = known.key.as_deref().map(Into::into);
        let mut line = rig.line(known.tenant, BatchId::random(), false);
        if let Err(failure) = line.submit(job) {
            return lost("submit", &failure).map(|()| None);
        }
        let Some(told) = self.unless_dead("a key", told(&mut *line)).await? else {
            return Ok(None);
        };
        match told {
            Told::Accepted(a) if (a.job, a.existing) == (id, true) => Ok(Some(())),
            Told::Refused { failure, .. } | Told::Lost(failure) => {
                lost("told", &failure).map(|()| None)
            }
            other => Err(format!("the key of {id} gives {other:?}")),
        }
    }

    async fn others_see_nothing(&self, rig: &Rig) -> Result<(), String> {
        for (id, known) in &self.jobs {
            let other = &rig.tenants[1 - known.tenant];
            if let Ok(info) = rig.jobs.get(other, *id).await {
                return Err(format!("a foreign job is shown: {info:?}"));
            }
        }
        Ok(())
    }

    /// Looks at what is kept, before anybody goes on with it.
    async fn check(&self, store: &Store, scopes: [ScopeId; 2]) -> Result<(), String> {
        let mut sums = Vec::new();
        for id in scopes {
            let scope = store.scope(id);
            let loaded = load::load(&scope, Sum::new(KEEP)).await;
            let loaded = loaded.map_err(|error| format!("refused to open: {error}"))?;
            loaded.jobs.check()?;
            sums.push((scope, loaded));
        }
        for (id, known) in &self.jobs {
            let (scope, loaded) = &sums[known.tenant];
            let wrong =
                |why: &str| Err(format!("{why}: {id} {known:?} {:?}", loaded.jobs.get(*id)));
            let Some(job) = loaded.jobs.get(*id) else {
                match known.asked {
                    Some((Deed::Purge, _)) => continue,
                    _ => return wrong("lost"),
                }
            };
            let number = |sequence| Number { epoch: loaded.epoch.unwrap_or(0), sequence };
            if known.asked == Some((Deed::Purge, true)) {
                return wrong("purged, and there");
            }
            let (batch, item, key) = (job.batch, job.item, job.key.as_deref());
            if (batch, item, key) != (known.batch, known.item, known.key.as_deref()) {
                return wrong("another job");
            }
            if number(job.accepted) != known.accepted {
                return wrong("another number");
            }
            let kept = read_kept(scope, job.payload.at).await?;
            let kept = record::payload(&kept).map_err(|error| error.to_string())?;
            if kept.1 != known.payload.as_bytes() {
                return wrong("another payload");
            }
            let replayed = matches!(known.asked, Some((Deed::Replay, _)));
            if let Some((ended, _)) = &known.ended {
                let is = number(job.finished);
                let replayed = replayed && (job.finished == 0 || is > *ended);
                if is != *ended && !replayed {
                    return wrong("it ended, and that is not known");
                }
                let must = known.asked == Some((Deed::Replay, true));
                if must && is == *ended {
                    return wrong("replayed, and that is not known");
                }
            }
            if known.asked == Some((Deed::CancelAll, true)) && !job.state.is_over() {
                return wrong("cancelled, and it goes on");
            }
            if job.state.is_over() {
                let kept = read_kept(scope, job.result.at).await?;
                record::result(&kept).map_err(|error| error.to_string())?;
            }
        }
        for (id, (tenant, summary)) in &self.batches {
            let (_, loaded) = &sums[*tenant];
            let batch = loaded.jobs.batch(BatchId(*id)).filter(|batch| batch.durable);
            let batch = batch.ok_or("a durable batch is lost")?;
            let ended = batch
                .ended
                .map(|(_, sequence)| Number { epoch: loaded.epoch.unwrap_or(0), sequence });
            if let Some(number) = summary
                && (ended != Some(*number) || batch.sealed.is_none())
            {
                return Err(format!("it ended with {number:?}: {batch:?}"));
            }
        }
        Ok(())
    }

    /// Everything goes on to its end, and tells again what it told before.
    async fn goes_on(&mut self, rig: &Rig) -> Result<(), String> {
        let highest = |tenant: usize| {
            let of = self.jobs.values().filter(move |known| known.tenant == tenant);
            of.flat_map(|k| [Some(k.accepted), k.ended.as_ref().map(|e| e.0)]).flatten().max()
        };
        let highest = [highest(0).unwrap_or_default(), highest(1).unwrap_or_default()];
        for (id, known) in &self.jobs {
            let tenant = &rig.tenants[known.tenant];
            let there = rig.jobs.get(tenant, *id).await;
            if there.is_err() && matches!(known.asked, Some((Deed::Purge, _))) {
                continue;
            }
            if known.recipe == "hang" {
                let done = rig.jobs.act(tenant, Chosen::One(*id), Deed::CancelAll);
                soon("a cancellation", done).await?.map_err(|e| format!("{id}: {e:?}"))?;
            }
            let end = rig.ended(known.tenant, *id).await?;
            let replayed = matches!(known.asked, Some((Deed::Replay, _)));
            match &known.ended {
                Some((number, told))
                    if !replayed && (end.number, &text(&end)) != (*number, told) =>
                {
                    return Err(format!("{id} ended with {known:?} and with {end:?}"));
                }
                _ if known.ended.is_none()
                    && end.number <= highest[known.tenant]
                    && known.asked.is_none() =>
                {
                    return Err(format!("the number of {end:?} was used: {highest:?}"));
                }
                _ => {}
            }
            let attempts = rig.jobs.get(tenant, *id).await.map_err(|e| format!("{e:?}"))?;
            let (least, most) = match known.recipe {
                "flaky" => (2, 2),
                "dies" => (2, 2),
                "hang" => (0, u32::MAX),
                _ => (1, 2),
            };
            if attempts.attempts < least || attempts.attempts > most.max(3) {
                return Err(format!("{} attempts: {attempts:?}", attempts.attempts));
            }
            let subject = Subject::Batch(known.batch);
            let attached = rig.jobs.attach(tenant, subject, Number::default(), false).await;
            attached.map_err(|failure| format!("{failure:?}"))?;
        }
        for (id, (tenant, _)) in &self.batches {
            soon("the end of a sealed batch", rig.batch_ends(*tenant, BatchId(*id))).await??;
        }
        for at in 0..3 {
            self.again(rig, at).await?;
        }
        self.others_see_nothing(rig).await
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
    let mut model = Model::new(&disk);
    let mut scopes = [ScopeId(1), ScopeId(2)];
    if let Ok(store) = disk.open_small() {
        let rig = Rig::start(&store).await;
        scopes = [0, 1].map(|tenant: usize| ScopeId(rig.tenants[tenant].index().into()));
        model.store = Some(store);
        let ran = model.run(&rig, &steps).await;
        model.store = None;
        rig.stop().await;
        ran?;
    }
    let syncs = cut.map_or(0, |(sync, _)| sync);
    let disk = disk.after_cut(seed ^ syncs << 8);
    let store = disk.open_small()?;
    model.check(&store, scopes).await?;
    let rig = Rig::start(&store).await;
    rig.jobs.resume().await;
    let on = model.goes_on(&rig).await;
    rig.stop().await;
    on.map_err(|why| format!("second life: {why}"))?;
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
fn power_cuts_at_every_sync_lose_no_job() {
    let threads: Vec<_> = [0..25, 25..50].map(|s| std::thread::spawn(|| explore(s))).into();
    let mut all = 0;
    for thread in threads {
        all += thread.join().expect("no panic").unwrap_or_else(|why| panic!("{why}"));
    }
    println!("50 workloads, {all} power cuts: 0 jobs lost, 0 stores refused");
    assert!(all > 500, "{all} power cuts");
}
