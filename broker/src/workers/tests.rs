//! Workers without a socket: what is counted is what there is, and every call ends once.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context as Poller, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Config, Outgoing, Registration, Session, Who, WorkError, Workers};
use crate::{
    batch::{
        Call, Catalog, Claim, Common, Context, Directory, Entry, Error, Mailbox, Owner, Phase,
        Reply, RunError, Single, Slots, Spec, Task,
    },
    events::Events,
    metrics::Metrics,
    tenancy::{self, Registry, Settings, Tenant},
};

struct House {
    workers: Workers,
    directory: Directory,
    slots: Slots,
    tenants: Vec<Arc<Tenant>>,
}

fn house(config: &Config, slots: u32) -> House {
    let catalog = Catalog::builder().build().expect("an empty catalog");
    let (directory, slots) = (Directory::new(catalog), Slots::new(slots));
    let metrics = Metrics::new(&crate::metrics::Config::default(), std::iter::empty());
    let events = Events::default();
    let workers = Workers::new(config, directory.clone(), slots.clone(), metrics, events);
    let registry = Registry::in_memory(&tenancy::Config::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let tenant = |n: usize| {
        let id = format!("t{n}");
        let created = registry.create_named(&id, Settings::default());
        runtime.block_on(created).expect("a tenant")
    };
    let tenants = (0..3).map(tenant).collect();
    House { workers, directory, slots, tenants }
}

impl House {
    fn enter(&self, owner: Owner, credit: u32) -> Session {
        let who = Who { owner, tenant: None, identity: "w".into(), connection: 1 };
        self.workers.enter(who, credit)
    }

    fn serve(&self, session: &Session, name: &str, idempotent: bool) {
        self.serve_with(session, name, Spec { idempotent, ..Spec::bytes() });
    }

    fn serve_with(&self, session: &Session, name: &str, spec: Spec) {
        let registration = Registration { name: name.into(), spec, schema: None, wire: Vec::new() };
        let prepared = registration.prepare(session.owner()).expect("in order");
        session.register(prepared).expect("taken");
    }

    fn entry(&self, tenant: usize, name: &str) -> Option<Arc<Entry>> {
        self.directory.find(self.tenants[tenant].index(), name)
    }

    fn claim(&self, tenant: usize, entry: &Entry) -> Claim {
        let tenant = &self.tenants[tenant];
        Claim {
            tenant: tenant.index(),
            tenant_max: 4,
            weight: 1,
            recipe: entry.index(),
            recipe_max: entry.spec().concurrency_max,
            group: None,
            priority: 3,
        }
    }

    fn call(&self, tenant: usize, name: &str) -> Option<Single> {
        let entry = self.entry(tenant, name)?;
        let common = Common {
            tenant: self.tenants[tenant].clone(),
            entry: entry.clone(),
            shared: Context::for_test("acme", "w").shared,
            claim: self.claim(tenant, &entry),
            returns: Arc::default(),
            once: None,
        };
        let task = Task {
            common: Arc::new(common),
            key: Default::default(),
            seq: 0,
            item_id: 1,
            payload: Bytes::from_static(b"x"),
            metadata: None,
            timeout: Duration::from_secs(5),
        };
        Some(Single::send(&**entry.handler.remote()?, task))
    }

    /// What is counted is what there is.
    fn check(&self) {
        let running = self.workers.look(|state| {
            let mut slots = 0;
            for (id, pool) in &state.pools {
                let of = |s: &u64| {
                    let serving = state.sessions.get(s).expect("it is there");
                    assert_eq!(serving.pool, Some(*id));
                    serving.free()
                };
                assert_eq!(pool.free, pool.sessions.iter().map(of).sum::<u64>(), "free credit");
                for recipe in &pool.recipes {
                    assert_eq!(state.recipes[recipe].pool, *id);
                }
            }
            for (id, known) in &state.recipes {
                assert!(state.pools[&known.pool].recipes.contains(id));
                for (session, number) in &known.serving {
                    let serving = &state.sessions[session];
                    assert_eq!(serving.recipes[*number as usize], *id);
                    assert_eq!(serving.pool, Some(known.pool), "they share a line");
                    let listed = known.ready.iter().filter(|r| **r == (*session, *number)).count();
                    assert_eq!(listed, usize::from(serving.listed[*number as usize]));
                    assert!(listed == 1 || serving.free() == 0, "who has credit is ready");
                }
                assert!(known.ready.iter().all(|ready| known.serving.contains(ready)));
                for tenant in known.blocked.keys() {
                    let in_line = |class: &super::pools::Class| class.recipe == *id;
                    let waiting = state.pools[&known.pool].queue.len_of_where(tenant, in_line);
                    assert!(waiting > 0, "or nobody tells them");
                }
            }
            for serving in state.sessions.values() {
                assert!(serving.leases.len() <= serving.credit as usize);
                for lease in serving.leases.values() {
                    assert_eq!(lease.cell.is_some(), lease.slot.is_some(), "wanted, so it counts");
                    slots += u32::from(lease.slot.is_some());
                }
            }
            slots
        });
        assert_eq!(self.slots.running(), running);
    }
}

fn poll(call: &mut Single) -> Poll<Result<Reply, RunError>> {
    Pin::new(call).poll(&mut Poller::from_waker(Waker::noop()))
}

/// The leases that a worker was given since the last look.
fn given(session: &Session) -> Vec<u64> {
    let mut told = Vec::new();
    session.take(&mut told, Waker::noop());
    let lease = |o: Outgoing| match o {
        Outgoing::Dispatch(d) => Some(d.lease),
        Outgoing::Cancel(_) => None,
    };
    told.into_iter().filter_map(lease).collect()
}

#[test]
fn a_call_waits_runs_and_ends() {
    let house = house(&Config::default(), 16);
    let session = house.enter(Owner::Everyone, 1);
    house.serve(&session, "w", false);
    let mut first = house.call(0, "w").expect("known");
    let mut second = house.call(0, "w").expect("known");
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    assert!(matches!((first.phase(), second.phase()), (Phase::Runs(_), Phase::Waits(_))));
    assert_eq!((first.attempts(), second.attempts()), (1, 0));
    assert_eq!(given(&session), [1]);
    session.answer(1, Ok(Reply::from("a")), None).expect("leased");
    assert!(matches!(poll(&mut first), Poll::Ready(Ok(reply)) if reply.payload() == b"a"));
    assert_eq!(given(&session), [2]);
    house.check();
    session.answer(2, Err(WorkError::Failed(Error::new("no"))), None).expect("leased");
    assert!(matches!(poll(&mut second), Poll::Ready(Err(RunError::Failed(_)))));
    assert!(session.answer(3, Ok(Reply::new()), None).is_err(), "never given");
    house.check();
}

#[test]
fn recipes_that_share_a_worker_share_a_line_and_part_when_nobody_serves_one() {
    let house = house(&Config::default(), 16);
    let pools = || house.workers.look(|state| state.pools.len());
    let (a, b) = (house.enter(Owner::Everyone, 0), house.enter(Owner::Everyone, 0));
    house.serve(&a, "x", false);
    house.serve(&b, "y", false);
    let calls: Vec<_> = (0..6).map(|n| house.call(n % 3, ["x", "y"][n % 2])).collect();
    assert_eq!(pools(), 2);
    let both = house.enter(Owner::Everyone, 0);
    house.serve(&both, "x", false);
    house.serve(&both, "y", false);
    assert_eq!(pools(), 1);
    house.check();
    drop((a, both));
    assert_eq!(pools(), 2, "nobody serves `x`");
    house.check();
    b.add_credit(10);
    assert_eq!(given(&b).len(), 3, "those of `y`");
    drop(calls);
    house.check();
    assert_eq!(house.workers.counts().waiting, 0);
}

#[test]
fn a_tenant_at_its_bound_waits_for_its_own_and_not_for_credit() {
    let house = house(&Config::default(), 16);
    let session = house.enter(Owner::Everyone, 10);
    house.serve(&session, "w", false);
    let _calls: Vec<_> = (0..6).map(|_| house.call(0, "w")).collect();
    assert_eq!(given(&session), [1, 2, 3, 4], "four at once, see `claim`");
    session.answer(2, Ok(Reply::new()), None).expect("leased");
    assert_eq!(given(&session), [5], "its slot came free");
    house.check();
}

#[test]
fn what_waits_for_room_in_its_own_bound_keeps_its_place_and_holds_up_nobody() {
    let house = house(&Config::default(), 16);
    let session = house.enter(Owner::Everyone, 0);
    let bound = |max| Spec { concurrency_max: Some(max), ..Spec::bytes() };
    house.serve_with(&session, "w", bound(1));
    let old: Vec<_> = (0..3).map(|_| house.call(0, "w")).collect();
    drop(session);
    // The recipe is another now, and may run more at once: what came before it counts as it did.
    let session = house.enter(Owner::Everyone, 10);
    house.serve_with(&session, "w", bound(3));
    assert_eq!(given(&session), [1], "the old bound is one");
    let _new: Vec<_> = (0..2).map(|_| house.call(1, "w")).collect();
    assert_eq!(given(&session), [2, 3], "others go past it");
    session.answer(1, Ok(Reply::new()), None).expect("leased");
    assert_eq!(given(&session), [4]);
    session.answer(4, Ok(Reply::new()), None).expect("leased");
    assert_eq!(given(&session), [5]);
    house.check();
    drop(old);
    house.check();
}

#[test]
fn the_time_of_a_call_stands_still_while_its_answer_waits_for_room() {
    let house = house(&Config::default(), 16);
    let session = house.enter(Owner::Everyone, 1);
    house.serve(&session, "w", true);
    let call = house.call(0, "w").expect("known");
    let later = |before: Phase| {
        std::thread::sleep(Duration::from_millis(2));
        match (before, call.phase()) {
            (Phase::Runs(before), Phase::Runs(now)) => now > before,
            other => panic!("it runs: {other:?}"),
        }
    };
    assert!(!later(call.phase()));
    let expected = session.expects(1).expect("leased").expect("wanted");
    let still = expected.stop_time();
    assert!(later(call.phase()), "as if it had just begun");
    let stopped = call.phase();
    drop(still);
    assert!(later(stopped), "what it stood still for is no running time");
    assert!(!later(call.phase()));
}

#[test]
fn workers_with_credit_take_turns() {
    let house = house(&Config::default(), 16);
    let all: Vec<_> = [2, 0, 1, 3].map(|credit| house.enter(Owner::Everyone, credit)).into();
    all.iter().for_each(|session| house.serve(session, "w", false));
    let mut calls: Vec<_> = (0..3).map(|n| house.call(n, "w")).collect();
    let taken = || all.iter().map(|session| given(session).len()).collect::<Vec<_>>();
    assert_eq!(taken(), [1, 0, 1, 1]);
    calls.extend((0..4).map(|n| house.call(n % 3, "w")));
    assert_eq!(taken(), [1, 0, 0, 2], "one waits");
    house.check();
    all[1].add_credit(1);
    assert_eq!(taken(), [0, 1, 0, 0]);
    all[2].answer(1, Ok(Reply::new()), None).expect("leased");
    calls.push(house.call(0, "w"));
    assert_eq!(taken(), [0, 0, 1, 0], "its credit came back");
    house.check();
}

/// Fills a tenant's line, then gives credit one by one: after how much of it those that wait for room
/// are told.
fn told_after(line_max: usize) -> u32 {
    let config = Config { queue_per_tenant_max: line_max, ..Config::default() };
    let house = house(&config, 16);
    let session = house.enter(Owner::Everyone, 0);
    house.serve(&session, "w", false);
    let entry = house.entry(0, "w").expect("known");
    let remote = entry.handler.remote().expect("a worker's").clone();
    let (claim, mailbox) = (house.claim(0, &entry), Arc::new(Mailbox::default()));
    let _calls: Vec<_> = (0..line_max).map(|_| house.call(0, "w")).collect();
    let count = Arc::new(Count::default());
    mailbox.take(&count.clone().into());
    assert_eq!(remote.room(&claim, 1, &mailbox), 0);
    assert_eq!(remote.room(&house.claim(1, &entry), 1, &mailbox), 1, "another tenant's line");
    let mut given = 0;
    while count.0.load(Relaxed) == 0 {
        session.add_credit(1);
        given += 1;
    }
    assert_eq!(remote.room(&claim, 1, &mailbox), 1);
    given
}

#[test]
fn who_has_no_room_in_line_is_nudged_when_a_quarter_is_free() {
    assert_eq!([1, 2, 4, 5, 8, 12].map(told_after), [1, 1, 1, 2, 2, 3]);
}

#[test]
fn who_waits_for_room_longest_has_it_first() {
    let config = Config { queue_per_tenant_max: 8, ..Config::default() };
    let house = house(&config, 16);
    let session = house.enter(Owner::Everyone, 0);
    house.serve(&session, "w", false);
    let entry = house.entry(0, "w").expect("known");
    let remote = entry.handler.remote().expect("a worker's").clone();
    let claim = house.claim(0, &entry);
    let mut calls: Vec<_> = (0..7).map(|_| house.call(0, "w")).collect();
    let boxes: Vec<_> = (0..4).map(|_| Arc::new(Mailbox::default())).collect();
    let told: Vec<_> = boxes.iter().map(|_| Arc::new(Count::default())).collect();
    let listen = || boxes.iter().zip(&told).for_each(|(b, c)| drop(b.take(&c.clone().into())));
    let counts = || told.iter().map(|c| c.0.load(Relaxed)).collect::<Vec<_>>();
    listen();
    assert_eq!(remote.room(&claim, 3, &boxes[0]), 1, "for one of three");
    calls.push(house.call(0, "w"));
    assert_eq!(remote.room(&claim, 2, &boxes[1]), 0);
    assert_eq!(remote.room(&claim, 2, &boxes[2]), 0);
    session.add_credit(1);
    assert_eq!(counts(), [0, 0, 0, 0], "less than a quarter is free");
    session.add_credit(1);
    assert_eq!(counts(), [1, 0, 0, 0], "two places are for the two that are left");
    assert_eq!(remote.room(&claim, 1, &boxes[3]), 0, "who comes now goes behind");
    assert_eq!(remote.room(&claim, 2, &boxes[0]), 2, "and not before it");
    assert_eq!(remote.room(&claim, 1, &boxes[0]), 0, "it had its turn");
    listen();
    session.add_credit(2);
    assert_eq!(counts(), [2, 1, 1, 1], "half is free: those told before may not want it any more");
    assert_eq!([3, 2, 1].map(|n| remote.room(&claim, 1, &boxes[n])), [1; 3]);
    drop(calls);
    house.check();
}

#[test]
fn who_wants_more_than_a_line_holds_is_told_though_nobody_has_to_stand_in_it() {
    let config = Config { queue_per_tenant_max: 2, ..Config::default() };
    let house = house(&config, 16);
    let session = house.enter(Owner::Everyone, 10);
    house.serve(&session, "w", false);
    let entry = house.entry(0, "w").expect("known");
    let remote = entry.handler.remote().expect("a worker's").clone();
    let claim = house.claim(0, &entry);
    let (mailbox, told) = (Arc::new(Mailbox::default()), Arc::new(Count::default()));
    mailbox.take(&told.clone().into());
    assert_eq!(remote.room(&claim, 5, &mailbox), 2);
    let other = Arc::new(Mailbox::default());
    assert_eq!(remote.room(&claim, 1, &other), 1, "nobody is in line");
    let _calls: Vec<_> = (0..2).map(|_| house.call(0, "w")).collect();
    assert_eq!(given(&session).len(), 2, "at once");
    assert_eq!(told.0.load(Relaxed), 1);
    assert_eq!(remote.room(&claim, 2, &mailbox), 2);
    house.check();
}

#[derive(Default)]
struct Count(std::sync::atomic::AtomicU32);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn forget(house: &House, now: std::time::Instant) {
    use futures::FutureExt;
    house.workers.forget_old(now).now_or_never().expect("nothing is kept, so nothing waits");
}

#[test]
fn a_recipe_is_forgotten_when_nobody_served_it_for_long_and_nobody_waits() {
    let house = house(&Config { recipe_ttl_ms: 1_000, ..Config::default() }, 16);
    let session = house.enter(Owner::Everyone, 0);
    house.serve(&session, "w", false);
    let long = std::time::Instant::now() + Duration::from_secs(3_600);
    forget(&house, long);
    assert!(house.entry(0, "w").is_some(), "it is served");
    let call = house.call(0, "w");
    drop(session);
    forget(&house, std::time::Instant::now());
    forget(&house, long);
    assert!(house.entry(0, "w").is_some(), "somebody waits");
    drop(call);
    forget(&house, long);
    assert!(house.entry(0, "w").is_none());
    house.check();
}

#[derive(Debug, Clone)]
enum Op {
    Enter { everyone: bool, credit: u32 },
    Serve { session: usize, recipe: usize },
    Leave { session: usize },
    Credit { session: usize, add: u32 },
    Drain { session: usize },
    Call { tenant: usize, recipe: usize },
    GiveUp { call: usize },
    Answer { session: usize, lease: usize, well: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => (any::<bool>(), 0..4_u32).prop_map(|(everyone, credit)| Op::Enter { everyone, credit }),
        4 => (0..6_usize, 0..3_usize)
            .prop_map(|(session, recipe)| Op::Serve { session, recipe }),
        1 => (0..6_usize).prop_map(|session| Op::Leave { session }),
        1 => (0..6_usize, 1..3_u32).prop_map(|(session, add)| Op::Credit { session, add }),
        1 => (0..6_usize).prop_map(|session| Op::Drain { session }),
        8 => (0..3_usize, 0..3_usize).prop_map(|(tenant, recipe)| Op::Call { tenant, recipe }),
        2 => (0..20_usize).prop_map(|call| Op::GiveUp { call }),
        8 => (0..6_usize, 0..4_usize, any::<bool>())
            .prop_map(|(session, lease, well)| Op::Answer { session, lease, well }),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_counted_is_what_there_is_and_every_call_ends_once(ops in ops()) {
        const NAMES: [&str; 3] = ["x", "y", "z"];
        let house = house(&Config::default(), 5);
        let mut sessions: Vec<(Session, Vec<usize>, Vec<u64>)> = Vec::new();
        let mut calls: Vec<Single> = Vec::new();
        for op in ops {
            match op {
                Op::Enter { everyone, credit } => {
                    let owner = match everyone {
                        true => Owner::Everyone,
                        false => Owner::Tenant(house.tenants[0].index()),
                    };
                    sessions.push((house.enter(owner, credit), Vec::new(), Vec::new()));
                }
                Op::Serve { session, recipe } => {
                    let Some((s, serves, _)) = sessions.get_mut(session) else { continue };
                    if !serves.contains(&recipe) {
                        serves.push(recipe);
                        // The second and third may run again on another worker.
                        house.serve(s, NAMES[recipe], recipe > 0);
                    }
                }
                Op::Leave { session } if session < sessions.len() => {
                    sessions.remove(session);
                }
                Op::Leave { .. } => {}
                Op::Credit { session, add } => {
                    if let Some((s, ..)) = sessions.get(session) {
                        s.add_credit(add);
                    }
                }
                Op::Drain { session } => {
                    if let Some((s, ..)) = sessions.get(session) {
                        s.drain();
                    }
                }
                Op::Call { tenant, recipe } => calls.extend(house.call(tenant, NAMES[recipe])),
                Op::GiveUp { call } if call < calls.len() => {
                    calls.swap_remove(call);
                }
                Op::GiveUp { .. } => {}
                Op::Answer { session, lease, well } => {
                    let Some((s, _, leases)) = sessions.get_mut(session) else { continue };
                    leases.extend(given(s));
                    if lease < leases.len() {
                        let answer = match well {
                            true => Ok(Reply::from("r")),
                            false => Err(WorkError::Panicked("p".into())),
                        };
                        prop_assert!(s.answer(leases.remove(lease), answer, None).is_ok());
                    }
                }
            }
            house.check();
            calls.retain_mut(|call| poll(call).is_pending());
        }
        // With workers enough, everything ends.
        let last = house.enter(Owner::Everyone, 1_000);
        let own = house.enter(Owner::Tenant(house.tenants[0].index()), 1_000);
        for (n, name) in NAMES.into_iter().enumerate() {
            house.serve(&last, name, n > 0);
            house.serve(&own, name, n > 0);
        }
        sessions.clear();
        for _ in 0..1_000 {
            for session in [&last, &own] {
                for lease in given(session) {
                    prop_assert!(session.answer(lease, Ok(Reply::new()), None).is_ok());
                }
            }
            house.check();
            calls.retain_mut(|call| poll(call).is_pending());
        }
        prop_assert!(calls.is_empty(), "{} calls never ended", calls.len());
        prop_assert_eq!(house.slots.running(), 0);
    }
}
