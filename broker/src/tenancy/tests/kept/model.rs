//! Tenants against a model: whatever is done in whatever order, and wherever the power is cut.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

/// Something that is done.
#[derive(Debug, Clone)]
enum Op {
    Create(usize, u32),
    Weigh(usize, u32),
    Suspend(usize),
    Activate(usize),
    Delete(usize),
    DeleteNow(usize),
    Checkpoint,
    /// The process dies, and another begins.
    Restart,
    Full(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..IDS.len();
    prop_oneof![
        3 => (id.clone(), 1..9_u32).prop_map(|(id, w)| Op::Create(id, w)),
        4 => (id.clone(), 1..9_u32).prop_map(|(id, w)| Op::Weigh(id, w)),
        3 => id.clone().prop_map(Op::Suspend),
        2 => id.clone().prop_map(Op::Activate),
        2 => id.clone().prop_map(Op::Delete),
        1 => id.prop_map(Op::DeleteNow),
        1 => Just(Op::Checkpoint),
        2 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::Full),
    ]
}

const IDS: [&str; 4] = ["a", "b", "c-c", "d0"];

/// A tenant, as far as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    number: u32,
    revision: u64,
    weight: u32,
    suspended: bool,
}

fn seen(r: &Registry) -> BTreeMap<String, Known> {
    let known = |t: &Arc<Tenant>| Known {
        number: t.index(),
        revision: t.record().revision,
        weight: t.weight(),
        suspended: t.state() == State::Suspended,
    };
    r.all().iter().map(|t| (t.id().to_string(), known(t))).collect()
}

#[derive(Default)]
struct Model {
    tenants: BTreeMap<String, Known>,
    numbers: BTreeSet<u32>,
    /// But for the reserve: then nothing is created.
    full: bool,
}

impl Model {
    /// What an operation must come to: none where it must fail.
    fn expect(&mut self, op: &Op) -> Option<()> {
        let name = |id: &usize| IDS[*id];
        let full = self.full;
        let of = |model: &'_ mut Model, id: &usize| model.tenants.get(name(id)).cloned();
        let (id, next) = match op {
            Op::Weigh(id, weight) => (id, of(self, id).map(|k| Known { weight: *weight, ..k })),
            Op::Suspend(id) => (id, of(self, id).map(|k| Known { suspended: true, ..k })),
            Op::Activate(id) => (id, of(self, id).map(|k| Known { suspended: false, ..k })),
            Op::Delete(id) => {
                of(self, id).filter(|k| k.suspended)?;
                self.tenants.remove(name(id));
                return Some(());
            }
            Op::DeleteNow(id) => {
                of(self, id)?;
                self.tenants.remove(name(id));
                return Some(());
            }
            Op::Create(id, _) => {
                return (of(self, id).is_none() && !full).then_some(());
            }
            Op::Checkpoint | Op::Restart | Op::Full(_) => return Some(()),
        };
        let (before, next) = (of(self, id)?, next?);
        if before != next {
            let next = Known { revision: next.revision + 1, ..next };
            self.tenants.insert(name(id).to_owned(), next);
        }
        Some(())
    }
}

async fn run(ops: Vec<Op>) {
    let (mut store, mut disk) = Store::memory_with_faults();
    let mut r = open(&store).await;
    let mut model = Model::default();
    for (at, op) in ops.iter().enumerate() {
        let expected = model.expect(op);
        let done = match *op {
            Op::Create(id, weight) => {
                let settings = Settings { weight, ..Settings::default() };
                let created = r.create_named(IDS[id], settings).await.ok();
                created.map(|t| {
                    let number = t.index();
                    assert!(model.numbers.insert(number), "{at}: number {number} was given twice");
                    let known = Known { number, revision: 1, weight, suspended: false };
                    model.tenants.insert(IDS[id].to_owned(), known);
                })
            }
            Op::Weigh(id, weight) => {
                r.update(IDS[id], None, |s| s.weight = weight).await.ok().map(drop)
            }
            Op::Suspend(id) => r.suspend(IDS[id], None).await.ok().map(drop),
            Op::Activate(id) => r.activate(IDS[id], None).await.ok().map(drop),
            Op::Delete(id) => r.delete(IDS[id], None).await.ok(),
            Op::DeleteNow(id) => r.delete_now(IDS[id], None).await.ok(),
            Op::Checkpoint => {
                r.checkpoint().await;
                Some(())
            }
            Op::Restart => {
                (store, disk) = disk.power_cut(0);
                disk.full(model.full);
                r = open(&store).await;
                Some(())
            }
            Op::Full(full) => {
                disk.full(full);
                model.full = full;
                Some(())
            }
        };
        assert_eq!(done, expected, "{at}: {op:?} of {ops:?}");
        assert_eq!(seen(&r), model.tenants, "after {at}: {op:?} of {ops:?}");
    }
}

/// What was asked for of one tenant, and what of it was acknowledged.
#[derive(Default)]
struct Asked {
    /// The weight that each revision was to have.
    weights: BTreeMap<u64, u32>,
    acknowledged: u64,
}

/// Many changes at once, the power cut somewhere among them.
async fn cut(changes: Vec<(usize, u32, bool)>, kept: usize) {
    let (store, disk) = Store::memory_with_faults();
    let r = open(&store).await;
    let mut asked: BTreeMap<usize, Asked> = BTreeMap::new();
    for (id, name) in IDS.iter().enumerate() {
        r.create_named(name, Settings::default()).await.expect("free");
        let asked = asked.entry(id).or_default();
        (asked.acknowledged, _) = (1, asked.weights.insert(1, 1));
    }
    let mut tasks = JoinSet::new();
    for (id, weight, hold) in changes {
        disk.hold(hold);
        let r = r.clone();
        tasks.spawn(async move {
            let mut will_be = 0;
            let outcome = r
                .update(IDS[id], None, |s| {
                    s.weight = weight;
                    // Every change is one: no two records of a tenant are the same.
                    s.workers += 1;
                    will_be = u64::from(s.workers) - 2;
                })
                .await;
            (id, will_be, weight, outcome.is_ok())
        });
        tokio::task::yield_now().await;
    }
    // Whoever got through so far got through.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    let (left, _) = disk.power_cut(kept);
    while let Some(done) = tasks.join_next().await {
        let (id, revision, weight, acknowledged) = done.expect("no panic");
        let asked = asked.entry(id).or_default();
        // After one that failed, the same revision may have been asked for again.
        if acknowledged {
            asked.weights.insert(revision, weight);
            asked.acknowledged = asked.acknowledged.max(revision);
        } else {
            asked.weights.entry(revision).or_insert(weight);
        }
    }
    let again = open(&left).await;
    for (id, name) in IDS.iter().enumerate() {
        let t = again.get(name).expect("it was acknowledged");
        let (record, asked) = (t.record(), &asked[&id]);
        assert!(record.revision >= asked.acknowledged, "{name} lost what was acknowledged");
        assert_eq!(u64::from(record.settings.workers) - 2, record.revision, "{name} is mixed");
        assert_eq!(Some(&t.weight()), asked.weights.get(&record.revision), "{name}");
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn it_is_as_the_model_has_it(ops in prop::collection::vec(op(), 1..40)) {
        block_on(run(ops));
    }

    #[test]
    fn a_cut_of_the_power_loses_nothing_acknowledged_and_mixes_nothing(
        changes in prop::collection::vec((0..IDS.len(), 1..999_u32, any::<bool>()), 1..40),
        kept in 0..4_usize,
    ) {
        block_on(cut(changes, kept));
    }
}
