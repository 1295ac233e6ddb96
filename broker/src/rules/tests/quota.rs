//! Rates: never one over, exact waits, both charges or none, and release in equal shares.

use proptest::prelude::*;

use super::{
    MS,
    window::{Model, shapes, steps},
};
use crate::rules::{
    line::Line,
    quota::{Charged, Cost, Kind, Limits, Load, Policy, Rate, Rates, Stop, Turn},
    window::Shape,
};

fn rates(requests: u64, bytes: u64, policy: Policy) -> Rates {
    Rates::new(Shape::default(), limits_of(requests, bytes), policy)
}

fn limits_of(requests: u64, bytes: u64) -> Limits {
    Limits { requests, bytes, messages: u64::MAX }
}

fn charge(r: &mut Rates, now: u64, lens: &[u64]) -> Charged {
    r.charge(now, Turn::Own, Load::Items, lens.iter().map(|&len| Cost::one(len)))
}

/// How long a stop says to wait, in nanoseconds.
fn wait_ns(stop: Option<Stop>) -> u64 {
    match stop.expect("a stop").kind {
        Kind::Wait(d) => d.as_nanos() as u64,
        Kind::Never => panic!("it can never fit"),
    }
}

fn costs() -> impl Strategy<Value = Vec<Cost>> {
    let n = prop_oneof![6 => Just(1_u64), 2 => 0..30_u64, 1 => any::<u64>()];
    let bytes = prop_oneof![6 => 0..40_u64, 1 => Just(0), 1 => 90..110_u64, 1 => any::<u64>()];
    let cost = (n, bytes).prop_map(|(n, bytes)| Cost { n, bytes });
    prop::collection::vec(cost, 0..12)
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || prop_oneof![6 => 1..150_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    let limits = (limit(), limit(), limit());
    limits.prop_map(|(requests, bytes, messages)| Limits { requests, bytes, messages })
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Pace), Just(Policy::Reject)]
}

/// What goes through a tenant's rates.
#[derive(Debug, Clone)]
enum Op {
    Charge(Load, Vec<Cost>),
    TakeOut(u64),
    Change(Limits, Policy),
}

fn ops() -> impl Strategy<Value = Vec<(i64, Op)>> {
    let load = prop_oneof![Just(Load::Items), Just(Load::Produced), Just(Load::Consumed)];
    let op = prop_oneof![
        8 => (load, costs()).prop_map(|(load, costs)| Op::Charge(load, costs)),
        2 => (0..300_u64).prop_map(Op::TakeOut),
        1 => (limits(), policies()).prop_map(|(l, p)| Op::Change(l, p)),
    ];
    prop::collection::vec((steps(), op), 1..60)
}

/// Every rate as a list of all its charges, in numbers without a bound, and what is allowed.
struct Tenant {
    shape: Shape,
    limits: Limits,
    policy: Policy,
    rates: [Model; 5],
}

const RATES: [Rate; 5] =
    [Rate::Requests, Rate::BytesIn, Rate::BytesOut, Rate::MessagesIn, Rate::MessagesOut];

impl Tenant {
    fn rate(&mut self, rate: Rate) -> &mut Model {
        &mut self.rates[RATES.iter().position(|r| *r == rate).expect("a rate")]
    }

    fn limit(&self, rate: Rate) -> u64 {
        match rate {
            Rate::Requests => self.limits.requests,
            Rate::BytesIn | Rate::BytesOut => self.limits.bytes,
            Rate::MessagesIn | Rate::MessagesOut => self.limits.messages,
        }
    }

    fn fits(&mut self, load: Load, cost: Cost) -> bool {
        let shape = self.shape;
        rates_of(load).into_iter().zip([cost.n, cost.bytes]).all(|(rate, n)| {
            let limit = self.limit(rate);
            self.rate(rate).fits(shape, n, limit)
        })
    }

    fn add(&mut self, load: Load, cost: Cost) {
        let [count, bytes] = rates_of(load);
        self.rate(count).add(cost.n);
        self.rate(bytes).add(cost.bytes);
    }

    /// Whether it fits at no time: a part of it alone is more than is allowed.
    fn never(&self, load: Load, cost: Cost) -> bool {
        let mut parts = rates_of(load).into_iter().zip([cost.n, cost.bytes]);
        parts.any(|(rate, n)| self.limit(rate) == 0 || n > self.limit(rate))
    }
}

fn rates_of(load: Load) -> [Rate; 2] {
    match load {
        Load::Items => [Rate::Requests, Rate::BytesIn],
        Load::Produced => [Rate::MessagesIn, Rate::BytesIn],
        Load::Consumed => [Rate::MessagesOut, Rate::BytesOut],
    }
}

/// Charges both; the same must come of it.
fn check_charge(
    rates: &mut Rates,
    model: &mut Tenant,
    now: u64,
    load: Load,
    costs: &[Cost],
) -> Result<(), TestCaseError> {
    let one = |cost: Cost| std::iter::once(cost);
    let Charged { admitted, stop } = rates.charge(now, Turn::Own, load, costs.iter().copied());
    for &cost in &costs[..admitted] {
        prop_assert!(model.fits(load, cost), "one over");
        model.add(load, cost);
    }
    prop_assert_eq!(stop.is_none(), admitted == costs.len());
    let Some(stop) = stop else { return Ok(()) };
    let cost = costs[admitted];
    prop_assert!(rates_of(load).contains(&stop.rate));
    prop_assert_eq!(stop.limit, model.limit(stop.rate));
    let shape = model.shape;
    prop_assert_eq!(u128::from(stop.current), model.rate(stop.rate).used(shape));
    if model.policy == Policy::Reject && load != Load::Consumed {
        prop_assert!(!model.fits(load, cost), "what fits is admitted");
    }
    match stop.kind {
        Kind::Never => prop_assert!(model.never(load, cost)),
        Kind::Wait(wait) => {
            prop_assert!(!model.never(load, cost));
            let at = now + wait.as_nanos() as u64;
            prop_assert!(at > now);
            let early = rates.clone().charge(at - 1, Turn::Own, load, one(cost));
            prop_assert_eq!(early.admitted, 0, "1 ns too early");
            let there = rates.clone().charge(at, Turn::Own, load, one(cost));
            prop_assert_eq!(there.admitted, 1, "at the time it was told");
        }
    }
    Ok(())
}

/// Takes bytes out of both; never one over, and the wait is worth it.
fn check_take(
    rates: &mut Rates,
    model: &mut Tenant,
    now: u64,
    want: u64,
) -> Result<(), TestCaseError> {
    let (granted, stop) = rates.take_out(now, want);
    let (shape, limit) = (model.shape, model.limits.bytes);
    let before = model.rate(Rate::BytesOut).used(shape);
    model.rate(Rate::BytesOut).add(granted);
    // What was taken under a limit that was lowered stays.
    prop_assert!(granted == 0 || before + u128::from(granted) <= limit.into(), "one over");
    prop_assert_eq!(stop.is_none(), granted == want);
    match stop.map(|s| s.kind) {
        None => {}
        Some(Kind::Never) => prop_assert_eq!(limit, 0),
        Some(Kind::Wait(wait)) => {
            let at = now + wait.as_nanos() as u64;
            let (more, _) = rates.clone().take_out(at, want - granted);
            prop_assert!(more > 0, "nothing at the time it was told");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_rate_is_exact_whatever_goes_through_it(
        shape in shapes(),
        limits in limits(),
        policy in policies(),
        ops in ops(),
    ) {
        let mut rates = Rates::new(shape, limits, policy);
        let mut model = Tenant { shape, limits, policy, rates: Default::default() };
        let mut now = 0_u64;
        for (step, op) in ops {
            now = now.saturating_add_signed(step);
            model.rates.iter_mut().for_each(|m| m.advance(shape, now));
            match op {
                Op::Charge(load, costs) => check_charge(&mut rates, &mut model, now, load, &costs)?,
                Op::TakeOut(want) => check_take(&mut rates, &mut model, now, want)?,
                Op::Change(l, p) => {
                    (model.limits, model.policy) = (l, p);
                    rates.change(l, p);
                }
            }
            for rate in RATES {
                prop_assert_eq!(
                    u128::from(rates.used(now, rate)),
                    model.rate(rate).used(shape),
                    "{:?}",
                    rate
                );
            }
            let empty = model.rates.iter().all(|m| m.used(shape) == 0);
            prop_assert_eq!(rates.is_empty(now), empty);
        }
    }
}

#[test]
fn a_handful_of_messages_and_its_bytes_are_taken_together_or_not_at_all() {
    let limits = Limits { requests: 0, bytes: 100, messages: 10 };
    for load in [Load::Produced, Load::Consumed] {
        let mut r = Rates::new(Shape::default(), limits, Policy::Reject);
        let charge =
            |r: &mut Rates, n, bytes| r.charge(0, Turn::Own, load, [Cost { n, bytes }].into_iter());
        assert_eq!(charge(&mut r, 7, 60).admitted, 1);
        let over = charge(&mut r.clone(), 4, 1).stop.expect("one message over");
        assert_eq!((over.rate, over.current, over.limit), (rates_of(load)[0], 7, 10));
        let over = charge(&mut r.clone(), 1, 41).stop.expect("one byte over");
        assert_eq!((over.rate, over.current, over.limit), (rates_of(load)[1], 60, 100));
        let never = charge(&mut r.clone(), 11, 1).stop.expect("more than is allowed");
        assert_eq!(never.kind, Kind::Never);
        assert_eq!(charge(&mut r, 3, 40).admitted, 1, "exactly the rest");
        assert_eq!(rates_of(load).map(|rate| r.used(0, rate)), [10, 100]);
    }
}

#[test]
fn what_is_produced_and_what_is_consumed_are_apart_and_items_are_no_messages() {
    let limits = Limits { requests: 10, bytes: 1_000, messages: 10 };
    let mut r = Rates::new(Shape::default(), limits, Policy::Reject);
    for load in [Load::Produced, Load::Consumed, Load::Items] {
        let c = r.charge(0, Turn::Own, load, [Cost::one(10); 11].into_iter());
        assert_eq!(c.admitted, 10, "{load:?}");
    }
    assert_eq!(RATES.map(|rate| r.used(0, rate)), [10, 200, 100, 10, 10]);
}

#[test]
fn what_is_consumed_is_paced_whatever_the_policy() {
    let limits = Limits { requests: 0, bytes: u64::MAX, messages: 100 };
    let mut r = Rates::new(Shape::default(), limits, Policy::Reject);
    let mut charge = |now, load| {
        let c = r.charge(now, Turn::Own, load, [Cost::one(1); 101].into_iter());
        (c.admitted, wait_ns(c.stop))
    };
    assert_eq!(charge(0, Load::Consumed), (100, 1_000 * MS));
    assert_eq!(charge(0, Load::Produced), (100, 1_000 * MS));
    assert_eq!(charge(1_000 * MS, Load::Consumed), (1, 5 * MS), "a tenth a bucket, in slices");
    assert_eq!(charge(1_000 * MS, Load::Produced), (100, 1_000 * MS), "all at once");
}

#[test]
fn an_item_takes_both_charges_or_none() {
    let mut r = rates(10, 100, Policy::Reject);
    let c = charge(&mut r, 0, &[60, 41, 1]);
    assert_eq!(c.admitted, 1, "the order is kept: the one behind that would fit waits too");
    assert_eq!((r.used(0, Rate::Requests), r.used(0, Rate::BytesIn)), (1, 60));
    let stop = c.stop.expect("41 do not fit");
    assert_eq!((stop.rate, stop.current, stop.limit), (Rate::BytesIn, 60, 100));
}

#[test]
fn what_can_never_fit_is_said_so_and_not_paced() {
    let never = |requests, bytes, len, rate, limit| {
        let mut r = rates(requests, bytes, Policy::Pace);
        let stop = charge(&mut r, 0, &[len]).stop.expect("a stop");
        assert_eq!((stop.rate, stop.kind, stop.limit), (rate, Kind::Never, limit));
        stop
    };
    never(10, 100, 101, Rate::BytesIn, 100);
    never(0, 100, 1, Rate::Requests, 0);
    never(10, 0, 1, Rate::BytesIn, 0);
    never(10, 0, 0, Rate::BytesIn, 0);
    // It does not slow the others down either.
    let mut r = rates(10, 100, Policy::Pace);
    assert!(charge(&mut r, 0, &[101]).stop.is_some());
    assert_eq!(charge(&mut r, 0, &[50, 50]).admitted, 2);
}

#[test]
fn a_lowered_limit_admits_nothing_until_enough_has_left() {
    let mut r = rates(100, u64::MAX, Policy::Reject);
    assert_eq!(charge(&mut r, 0, &[0; 80]).admitted, 80);
    r.change(limits_of(50, u64::MAX), Policy::Reject);
    let c = charge(&mut r, 500 * MS, &[0]);
    assert_eq!(c.admitted, 0);
    assert_eq!(wait_ns(c.stop), 500 * MS);
    r.change(limits_of(81, u64::MAX), Policy::Reject);
    assert_eq!(charge(&mut r, 500 * MS, &[0, 0]).admitted, 1);
}

#[test]
fn nobody_waits_longer_than_a_window_after_a_limit_was_lowered() {
    let mut r = rates(u64::MAX, 10_000_000, Policy::Pace);
    assert_eq!(charge(&mut r, 0, &[10_000_000, 1]).admitted, 1);
    r.change(limits_of(u64::MAX, 10), Policy::Pace);
    let c = charge(&mut r, 1, &[1]);
    assert!(wait_ns(c.stop) <= 1_000 * MS, "{c:?}");
}

/// A client that always has more of one size, and comes back exactly when it is told to. Returns
/// what was admitted in each bucket of `windows` windows after the burst's own.
fn greedy(limit: u64, len: u64, windows: u64) -> Vec<u64> {
    let mut r = rates(u64::MAX, limit, Policy::Pace);
    let mut buckets = vec![0; 10 * (windows as usize + 1)];
    let mut now = 0;
    loop {
        // A window's worth and a half, so that it ends even when nothing is ever refused.
        let handful = std::iter::repeat_n(Cost::one(len), (limit / len) as usize * 3 / 2 + 1);
        let c = r.charge(now, Turn::Own, Load::Items, handful);
        let bucket = (now / (100 * MS)) as usize;
        if bucket >= buckets.len() {
            return buckets.split_off(10);
        }
        buckets[bucket] += c.admitted as u64 * len;
        let wait = wait_ns(c.stop);
        assert!(wait > 0, "what fits now was not admitted");
        now += wait;
    }
}

#[test]
fn a_throttled_tenant_gets_a_tenth_a_bucket() {
    for (limit, len) in [(1_000, 1), (1 << 20, 64), (10 << 20, 1_000)] {
        let buckets = greedy(limit, len, 10);
        for n in &buckets {
            // An item that begins within a share may exceed it.
            assert!(*n < limit.div_ceil(10) + len, "{n} of {limit} in one bucket");
            // And the window may hold one back that would end beyond it.
            assert!(*n + 2 * len > limit / 10, "{n} of {limit} in one bucket");
        }
    }
}

#[test]
fn a_share_is_given_in_slices() {
    let mut r = rates(u64::MAX, 16_000, Policy::Pace);
    assert_eq!(charge(&mut r, 0, &[16_000, 1]).admitted, 1);
    // 1,600 a bucket, in 16 slices of 100, 5 ms apart; then nothing until the next bucket.
    let mut now = 1_000 * MS;
    for slice in 1..=32 {
        let c = charge(&mut r, now, &[10; 200]);
        assert_eq!(c.admitted, 10, "slice {slice}");
        let wait = if slice % 16 == 0 { 25 } else { 5 };
        assert_eq!(wait_ns(c.stop), wait * MS, "after slice {slice}");
        now += wait * MS;
    }
    // Who comes late gets what was given meanwhile, of this bucket.
    assert_eq!(charge(&mut r, now + 42 * MS, &[10; 200]).admitted, 90);
}

#[test]
fn a_throttled_tenant_reaches_its_limit_whatever_the_size_of_its_items() {
    for (limit, len) in [(15, 1), (5, 1), (19, 1), (1 << 20, 64 << 10), (1 << 20, 4_096), (20, 5)] {
        let total: u64 = greedy(limit, len, 10).iter().sum();
        let share = total as f64 / (limit * 10) as f64;
        assert!((0.95..=1.0).contains(&share), "{share} of {limit} with items of {len}");
    }
}

#[test]
fn an_item_larger_than_a_share_begins_when_nothing_is_owed() {
    let mut r = rates(u64::MAX, 100, Policy::Pace);
    assert_eq!(charge(&mut r, 0, &[100, 35]).admitted, 1);
    assert_eq!(charge(&mut r, 1_000 * MS, &[35, 1]).admitted, 1);
    // 35 are three and a half shares of 10: the next item begins in the last of them, with the
    // ninth of its 16 slices.
    let c = charge(&mut r, 1_000 * MS, &[1]);
    assert_eq!(wait_ns(c.stop), 340 * MS);
}

#[test]
fn shares_end_after_a_window_without_throttling() {
    let mut r = rates(100, u64::MAX, Policy::Pace);
    let c = charge(&mut r, 0, &[0; 101]);
    assert_eq!((c.admitted, wait_ns(c.stop)), (100, 1_000 * MS));
    // It comes back a window later: still no burst.
    let c = charge(&mut r, 1_000 * MS, &[0; 100]);
    assert_eq!((c.admitted, wait_ns(c.stop)), (1, 5 * MS));
    // That wait ended at 1.005 s, and a window passed since.
    let c = charge(&mut r, 2_005 * MS, &[0; 101]);
    assert_eq!(c.admitted, 100);
}

#[test]
fn rejecting_is_not_paced() {
    let mut r = rates(100, u64::MAX, Policy::Reject);
    assert_eq!(charge(&mut r, 0, &[0; 101]).admitted, 100);
    assert_eq!(charge(&mut r, 1_000 * MS, &[0; 101]).admitted, 100);
    // And who is told to reject from now on is free of shares at once.
    let mut r = rates(100, u64::MAX, Policy::Pace);
    assert_eq!(charge(&mut r, 0, &[0; 101]).admitted, 100);
    r.change(limits_of(100, u64::MAX), Policy::Reject);
    assert_eq!(charge(&mut r, 1_000 * MS, &[0; 101]).admitted, 100);
}

#[test]
fn who_is_behind_others_gets_nothing_though_there_is_room() {
    let mut r = rates(100, 100, Policy::Pace);
    let c = r.charge(0, Turn::Behind, Load::Items, [Cost::one(1); 2].into_iter());
    assert_eq!((c.admitted, wait_ns(c.stop)), (0, 0));
    assert_eq!(r.used(0, Rate::Requests), 0);
    assert_eq!(r.charge(0, Turn::Behind, Load::Items, std::iter::empty()).stop, None);
}

#[test]
fn a_line_is_first_come_first_served_and_any_may_leave() {
    let mut line = Line::new();
    let [a, b, c] = [line.join(), line.join(), line.join()];
    line.keep(b, "b");
    line.keep(c, "c");
    assert!(line.is_first(a) && !line.is_first(b));
    assert_eq!(line.leave(b), None, "one behind leaves: nobody is woken");
    assert_eq!(line.leave(a), Some("c"));
    assert_eq!(line.leave(a), None, "twice is once");
    assert!(line.is_first(c));
    assert_eq!((line.leave(c), line.is_empty()), (None, true));
}
