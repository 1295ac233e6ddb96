//! Turns: shares by weight, nobody starves, order within a tenant, nothing lost or served twice.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use crate::rules::fair::{Claim, Fair, Id, Turns};

const TURNS: Turns = Turns { quantum: 100, rise_ns: 30_000_000_000 };
const RISE: u64 = TURNS.rise_ns;

fn fair<T>() -> Fair<u32, T> {
    Fair::new(TURNS)
}

fn push<T>(
    f: &mut Fair<u32, T>,
    key: u32,
    weight: u32,
    priority: u8,
    now: u64,
    cost: u64,
    item: T,
) -> Id<u32> {
    f.push(Claim { key, class: (), weight, priority, cost }, now, item)
}

/// Serves `n` items of tenants that always have more, costing what `cost` says, and returns what
/// each cost in all.
fn served(weights: &[u32], n: usize, mut cost: impl FnMut(u32, usize) -> u64) -> Vec<u64> {
    let mut f = fair();
    let mut total = vec![0; weights.len()];
    for (key, &weight) in (0..).zip(weights) {
        for i in 0..2 {
            let c = cost(key, i);
            push(&mut f, key, weight, 3, 0, c, c);
        }
    }
    for i in 0..n {
        let (key, c) = f.pop(0).expect("there is always more");
        total[key as usize] += c;
        let c = cost(key, i);
        push(&mut f, key, weights[key as usize], 3, 0, c, c);
    }
    total
}

#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 4];
    let total = served(&weights, 20_000, |_, i| 1 + (i as u64 * 7_919) % 150);
    let unit = total.iter().sum::<u64>() as f64 / 7.0;
    for (&got, &weight) in total.iter().zip(&weights) {
        let share = got as f64 / (unit * f64::from(weight));
        assert!((0.95..=1.05).contains(&share), "{total:?}");
    }
}

#[test]
fn equal_tenants_get_equal_cost_not_equal_counts() {
    // One sends what costs fifty times as much.
    let total = served(&[1; 20], 50_000, |key, _| if key == 0 { 500 } else { 10 });
    let (sum, squares) =
        total.iter().fold((0.0, 0.0), |(s, q), &n| (s + n as f64, q + (n as f64).powi(2)));
    let jain = sum * sum / (20.0 * squares);
    assert!(jain >= 0.98, "{jain}: {total:?}");
}

#[test]
fn one_item_waits_for_one_turn_of_a_tenant_that_offers_many() {
    let mut f = fair();
    for i in 0..100_000 {
        push(&mut f, 1, 1, 7, 0, 100, i);
    }
    for _ in 0..10 {
        f.pop(0);
    }
    push(&mut f, 2, 1, 0, 0, 100, 0);
    let turn = (0..).take_while(|_| f.pop(0).is_some_and(|(key, _)| key == 1)).count();
    assert!(turn <= 1, "{turn} items came before it");
}

#[test]
fn within_a_tenant_priority_comes_before_age() {
    let mut f = fair();
    for (priority, name) in [(3, "b"), (0, "d"), (7, "a"), (3, "c")] {
        push(&mut f, 1, 1, priority, 0, 1, name);
    }
    let order: Vec<_> = std::iter::from_fn(|| f.pop(0).map(|(_, n)| n)).collect();
    assert_eq!(order, ["a", "b", "c", "d"]);
}

#[test]
fn who_waits_rises_by_one_every_30_s() {
    let mut f = fair();
    push(&mut f, 1, 1, 3, 0, 1, "old");
    push(&mut f, 1, 1, 4, RISE, 1, "new");
    assert_eq!(f.pop(RISE - 1), Some((1, "new")));
    push(&mut f, 1, 1, 4, RISE, 1, "new");
    assert_eq!(f.pop(RISE), Some((1, "old")), "risen to the same, and older");
    push(&mut f, 1, 1, 0, 0, 1, "oldest");
    push(&mut f, 1, 1, 7, 7 * RISE, 1, "highest");
    assert_eq!(f.pop(1_000 * RISE), Some((1, "new")), "7 is the highest for all; then age");
    assert_eq!(f.pop(1_000 * RISE), Some((1, "oldest")));
}

#[test]
fn what_cannot_run_is_passed_over_and_keeps_its_place() {
    let mut f: Fair<u32, i32, bool> = Fair::new(TURNS);
    let of = |key, n: i32| Claim { key, class: n % 2 == 0, weight: 1, priority: 3, cost: 1 };
    for n in [1, 2, 3, 4] {
        f.push(of(1, n), 0, n);
    }
    f.push(of(2, 5), 0, 5);
    let even = |_: &u32, even: &bool| even.then_some(0);
    assert_eq!((f.len_of_where(&1, |c| *c), f.len_of_where(&2, |c| *c)), (2, 0));
    assert_eq!(f.pop_where(0, even).map(|p| p.item), Some(2));
    assert_eq!(f.pop_where(0, even).map(|p| p.item), Some(4));
    assert!(f.pop_where(0, even).is_none());
    assert_eq!((f.len(), f.len_of(&1), f.len_of(&2)), (3, 2, 1));
    let rest: Vec<_> = std::iter::from_fn(|| f.pop(0)).filter(|(k, _)| *k == 1).collect();
    assert_eq!(rest, [(1, 1), (1, 3)]);
}

#[test]
fn between_classes_priority_and_age_decide() {
    let mut f: Fair<u32, &str, u8> = Fair::new(TURNS);
    let mut push = |class, priority, name| {
        f.push(Claim { key: 1, class, weight: 1, priority, cost: 1 }, 0, name);
    };
    push(1, 3, "c");
    push(2, 3, "d");
    push(3, 0, "e");
    push(2, 7, "a");
    push(3, 5, "b");
    let order: Vec<_> = std::iter::from_fn(|| f.pop(0).map(|(_, n)| n)).collect();
    assert_eq!(order, ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_tenant_is_asked_for_once_a_class_however_much_waits() {
    let mut f: Fair<u32, u32, u8> = Fair::new(TURNS);
    for n in 0..10_000 {
        let class = (n % 3) as u8;
        f.push(Claim { key: 1, class, weight: 1, priority: 3, cost: 1 }, 0, n);
    }
    let mut asked = 0;
    let got = f.pop_where(0, |_, class| {
        asked += 1;
        (*class == 2).then_some(7)
    });
    let got = got.map(|p| (p.key, p.item, p.cost));
    assert_eq!((got, asked), (Some((1, 2, 8)), 3), "its own cost, and its class's");
}

#[test]
fn what_waits_is_counted_by_tenant_and_class() {
    let mut f: Fair<u32, (), char> = Fair::new(TURNS);
    let mut ids = Vec::new();
    for (key, class) in [(1, 'a'), (1, 'a'), (1, 'b'), (2, 'a')] {
        ids.push(f.push(Claim { key, class, weight: 1, priority: 3, cost: 1 }, 0, ()));
    }
    let counted = |f: &Fair<u32, (), char>| {
        let mut all: Vec<_> = f.classes().map(|(key, class, n)| (*key, *class, n)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(counted(&f), [(1, 'a', 2), (1, 'b', 1), (2, 'a', 1)]);
    f.remove(ids[2]);
    f.remove(ids[3]);
    assert_eq!(counted(&f), [(1, 'a', 2)]);
    f.drain().for_each(drop);
    assert_eq!(counted(&f), []);
}

#[test]
fn what_is_drained_comes_in_the_order_of_its_coming() {
    let mut f: Fair<u32, u32, u8> = Fair::new(TURNS);
    for n in 0..100 {
        let (key, class, priority) = (n % 7, (n % 3) as u8, (n % 8) as u8);
        f.push(Claim { key, class, weight: 1, priority, cost: 1 }, 0, n);
    }
    let all: Vec<_> = f.drain().map(|(_, n)| n).collect();
    assert!(all.into_iter().eq(0..100));
    assert!(f.is_empty() && f.pop(0).is_none());
}

#[test]
fn who_could_not_run_saves_nothing_up() {
    let mut f = fair();
    for _ in 0..1_000 {
        push(&mut f, 1, 1, 3, 0, 100, ());
        push(&mut f, 2, 1, 3, 0, 100, ());
    }
    for _ in 0..500 {
        let popped = f.pop_where(0, |k, ()| (*k == 2).then_some(0));
        assert_eq!(popped.map(|p| p.key), Some(2));
    }
    let first: u32 = (0..100).filter_map(|_| f.pop(0)).map(|(k, ())| u32::from(k == 1)).sum();
    assert!((49..=51).contains(&first), "{first} of 100");
}

#[test]
fn what_cost_more_than_expected_is_paid_for_later() {
    let mut f = fair();
    let mut cost = [0_u64; 2];
    for _ in 0..2 {
        push(&mut f, 0, 1, 3, 0, 10, ());
        push(&mut f, 1, 1, 3, 0, 10, ());
    }
    for _ in 0..20_000 {
        let (key, ()) = f.pop(0).expect("there is always more");
        // Tenant 0's items are thought to cost 10 and cost 90.
        let actual = if key == 0 { 90 } else { 10 };
        cost[key as usize] += actual;
        push(&mut f, key, 1, 3, 0, 10, ());
        f.correct(key, 1, actual as i64 - 10);
    }
    let share = cost[0] as f64 / (cost[0] + cost[1]) as f64;
    assert!((0.47..=0.53).contains(&share), "{cost:?}");
}

#[test]
fn a_debt_outlives_an_empty_queue_while_others_wait_and_no_longer() {
    let pops = |f: &mut Fair<u32, ()>, n: usize| -> Vec<u32> {
        (0..n).filter_map(|_| f.pop(0)).map(|(k, ())| k).collect()
    };
    let mut f = fair();
    push(&mut f, 1, 1, 3, 0, 100, ());
    for _ in 0..100 {
        push(&mut f, 2, 1, 3, 0, 100, ());
    }
    assert_eq!(pops(&mut f, 1), [1]);
    f.correct(1, 1, 1_000);
    push(&mut f, 1, 1, 3, 0, 100, ());
    assert!(!pops(&mut f, 8).contains(&1), "it owes ten turns");
    assert!(pops(&mut f, 5).contains(&1), "and then is served");
    while f.pop(0).is_some() {}
    f.correct(1, 1, 1_000_000);
    push(&mut f, 1, 1, 3, 0, 100, ());
    push(&mut f, 2, 1, 3, 0, 100, ());
    assert_eq!(pops(&mut f, 1), [1], "nobody waited for what it used");
}

#[test]
fn an_item_that_costs_a_thousand_turns_is_served_in_time() {
    let mut f = fair();
    push(&mut f, 1, 1, 3, 0, 100_000, "large");
    assert_eq!(f.pop(0), Some((1, "large")), "at once when alone");
    push(&mut f, 1, 1, 3, 0, u64::MAX, "endless");
    for _ in 0..10 {
        push(&mut f, 2, 1, 3, 0, 100, "small");
    }
    let mut seen: Vec<_> = (0..11).filter_map(|_| f.pop(0)).map(|(_, n)| n).collect();
    assert_eq!(seen.pop(), Some("endless"));
}

#[derive(Debug, Clone)]
enum Op {
    Push { key: u32, priority: u8, cost: u64 },
    Pop,
    PopOf { key: u32 },
    Remove { nth: usize },
    Correct { key: u32, delta: i64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let cost = prop_oneof![4 => 0..300_u64, 1 => any::<u64>()];
    let op = prop_oneof![
        4 => (0..5_u32, 0..9_u8, cost)
            .prop_map(|(key, priority, cost)| Op::Push { key, priority, cost }),
        3 => Just(Op::Pop),
        1 => (0..5_u32).prop_map(|key| Op::PopOf { key }),
        1 => (0..50_usize).prop_map(|nth| Op::Remove { nth }),
        1 => (0..5_u32, any::<i64>()).prop_map(|(key, delta)| Op::Correct { key, delta }),
    ];
    prop::collection::vec(op, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn everything_is_popped_once_or_removed_in_order(ops in ops()) {
        let mut f: Fair<u32, u64> = fair();
        // What waits: its tenant, priority and id, by its number.
        let mut waits: BTreeMap<u64, (u32, u8, Id<u32>)> = BTreeMap::new();
        let mut next = 0;
        let mut now = 0;
        let first_of = |waits: &BTreeMap<u64, (u32, u8, Id<u32>)>, key| {
            waits
                .iter()
                .filter(|(_, w)| w.0 == key)
                .max_by_key(|(n, w)| (w.1, std::cmp::Reverse(**n)))
                .map(|(n, _)| *n)
        };
        for op in ops {
            // Too little time for anything to rise.
            now += 1;
            match op {
                Op::Push { key, priority, cost } => {
                    let id = push(&mut f, key, key + 1, priority, now, cost, next);
                    waits.insert(next, (key, priority.min(7), id));
                    next += 1;
                }
                Op::Pop => match f.pop(now) {
                    None => prop_assert!(waits.is_empty()),
                    Some((key, n)) => {
                        prop_assert_eq!(first_of(&waits, key), Some(n));
                        waits.remove(&n);
                    }
                },
                Op::PopOf { key } => {
                    let of = |k: &u32, _: &()| (*k == key).then_some(0);
                    let got = f.pop_where(now, of).map(|p| p.item);
                    prop_assert_eq!(got, first_of(&waits, key));
                    if let Some(n) = got {
                        waits.remove(&n);
                    }
                }
                Op::Remove { nth } => {
                    let Some((&n, &(.., id))) = waits.iter().nth(nth) else { continue };
                    prop_assert_eq!(f.remove(id), Some(n));
                    prop_assert_eq!(f.remove(id), None);
                    waits.remove(&n);
                }
                Op::Correct { key, delta } => f.correct(key, key + 1, delta),
            }
            prop_assert_eq!(f.len(), waits.len());
            prop_assert_eq!(f.is_empty(), waits.is_empty());
            let mut by_key: HashMap<u32, usize> = HashMap::new();
            waits.values().for_each(|w| *by_key.entry(w.0).or_default() += 1);
            for key in 0..5 {
                prop_assert_eq!(f.len_of(&key), by_key.get(&key).copied().unwrap_or(0));
            }
        }
        let left = std::iter::from_fn(|| f.pop(now)).count();
        prop_assert_eq!(left, waits.len());
    }
}

#[test]
fn what_a_tenant_is_charged_while_it_is_alone_is_nobodys() {
    let mut f = Fair::new(Turns { quantum: 10, rise_ns: RISE });
    for n in 0..50 {
        push(&mut f, 1, 1, 3, 0, 1_000, n);
    }
    for _ in 0..20 {
        let popped = f.pop_where(0, |_, ()| Some(0)).expect("there is more");
        assert!(popped.alone);
    }
    f.correct(1, 1, -1_000_000);
    push(&mut f, 2, 1, 3, 0, 10, 0);
    let popped = f.pop_where(0, |_, ()| Some(0)).expect("there is more");
    assert_eq!((popped.key, popped.alone), (2, false), "it has saved up nothing");
}
