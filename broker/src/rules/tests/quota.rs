//! Rates: never one over, exact waits, both charges or none, and release in equal shares.

use proptest::prelude::*;

use super::{
    MS,
    window::{Model, shapes, steps},
};
use crate::rules::{
    line::Line,
    quota::{Charged, Kind, Limits, Policy, Rate, Rates, Stop, Turn},
    window::Shape,
};

fn rates(requests: u64, bytes: u64, policy: Policy) -> Rates {
    Rates::new(Shape::default(), Limits { requests, bytes }, policy)
}

fn charge(r: &mut Rates, now: u64, lens: &[u64]) -> Charged {
    r.charge(now, Turn::Own, lens.iter().copied())
}

/// How long a stop says to wait, in nanoseconds.
fn wait_ns(stop: Option<Stop>) -> u64 {
    match stop.expect("a stop").kind {
        Kind::Wait(d) => d.as_nanos() as u64,
        Kind::Never => panic!("it can never fit"),
    }
}

fn lens() -> impl Strategy<Value = Vec<u64>> {
    let len = prop_oneof![6 => 0..40_u64, 1 => Just(0), 1 => 90..110_u64, 1 => any::<u64>()];
    prop::collection::vec(len, 0..12)
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || prop_oneof![6 => 1..150_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    (limit(), limit()).prop_map(|(requests, bytes)| Limits { requests, bytes })
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Pace), Just(Policy::Reject)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn handfuls_are_charged_exactly(
        shape in shapes(),
        first in limits(),
        policy in policies(),
        ops in prop::collection::vec(
            (steps(), lens(), prop::option::weighted(0.1, (limits(), policies()))),
            1..60,
        ),
    ) {
        let mut rates = Rates::new(shape, first, policy);
        let (mut limits, mut policy) = (first, policy);
        let (mut requests, mut bytes) = (Model::default(), Model::default());
        let mut now = 0_u64;
        for (step, lens, change) in ops {
            now = now.saturating_add_signed(step);
            if let Some((l, p)) = change {
                (limits, policy) = (l, p);
                rates.change(limits, policy);
            }
            requests.advance(shape, now);
            bytes.advance(shape, now);
            let Charged { admitted, stop } = charge(&mut rates, now, &lens);
            let fits = |requests: &Model, bytes: &Model, len: u64| {
                requests.fits(shape, 1, limits.requests)
                    && bytes.fits(shape, len, limits.bytes)
            };
            for &len in &lens[..admitted] {
                prop_assert!(fits(&requests, &bytes, len), "one over");
                requests.add(1);
                bytes.add(len);
            }
            prop_assert_eq!(stop.is_none(), admitted == lens.len());
            prop_assert_eq!(u128::from(rates.used(now, Rate::Requests)), requests.used(shape));
            prop_assert_eq!(u128::from(rates.used(now, Rate::BytesIn)), bytes.used(shape));
            let Some(stop) = stop else { continue };
            let len = lens[admitted];
            if policy == Policy::Reject {
                prop_assert!(!fits(&requests, &bytes, len), "what fits is admitted");
            }
            match stop.kind {
                Kind::Never => prop_assert!(
                    limits.requests == 0 || limits.bytes == 0 || len > limits.bytes
                ),
                Kind::Wait(wait) => {
                    let at = now + wait.as_nanos() as u64;
                    prop_assert!(at > now);
                    let early = charge(&mut rates.clone(), at - 1, &[len]);
                    prop_assert_eq!(early.admitted, 0, "1 ns too early");
                    let there = charge(&mut rates.clone(), at, &[len]);
                    prop_assert_eq!(there.admitted, 1, "at the time it was told");
                }
            }
        }
    }

    #[test]
    fn bytes_out_are_never_one_over_and_waits_are_worth_it(
        shape in shapes(),
        limit in prop_oneof![1..2_000_u64, Just(0)],
        ops in prop::collection::vec((steps(), 0..3_000_u64), 1..60),
    ) {
        let limits = Limits { requests: 1, bytes: limit };
        let mut rates = Rates::new(shape, limits, Policy::Reject);
        let mut model = Model::default();
        let mut now = 0_u64;
        for (step, want) in ops {
            now = now.saturating_add_signed(step);
            model.advance(shape, now);
            let (granted, stop) = rates.take_out(now, Turn::Own, want);
            model.add(granted);
            prop_assert!(model.used(shape) <= limit.into(), "one over");
            prop_assert_eq!(u128::from(rates.used(now, Rate::BytesOut)), model.used(shape));
            prop_assert_eq!(stop.is_none(), granted == want);
            match stop.map(|s| s.kind) {
                None => {}
                Some(Kind::Never) => prop_assert_eq!(limit, 0),
                Some(Kind::Wait(wait)) => {
                    let at = now + wait.as_nanos() as u64;
                    let next = (want - granted).min(limit.div_ceil(shape.buckets().into()));
                    let (more, _) = rates.clone().take_out(at, Turn::Own, want - granted);
                    prop_assert!(more > 0 && more <= next.max(limit));
                }
            }
        }
    }
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
    r.change(Limits { requests: 50, bytes: u64::MAX }, Policy::Reject);
    let c = charge(&mut r, 500 * MS, &[0]);
    assert_eq!(c.admitted, 0);
    assert_eq!(wait_ns(c.stop), 500 * MS);
    r.change(Limits { requests: 81, bytes: u64::MAX }, Policy::Reject);
    assert_eq!(charge(&mut r, 500 * MS, &[0, 0]).admitted, 1);
}

#[test]
fn nobody_waits_longer_than_a_window_after_a_limit_was_lowered() {
    let mut r = rates(u64::MAX, 10_000_000, Policy::Pace);
    assert_eq!(charge(&mut r, 0, &[10_000_000, 1]).admitted, 1);
    r.change(Limits { requests: u64::MAX, bytes: 10 }, Policy::Pace);
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
        let handful = std::iter::repeat_n(len, (limit / len) as usize * 3 / 2 + 1);
        let c = r.charge(now, Turn::Own, handful);
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
    // 35 are three and a half shares of 10: the next item begins in the last of them.
    let c = charge(&mut r, 1_000 * MS, &[1]);
    assert_eq!(wait_ns(c.stop), 300 * MS);
}

#[test]
fn shares_end_after_a_window_without_throttling() {
    let mut r = rates(100, u64::MAX, Policy::Pace);
    let c = charge(&mut r, 0, &[0; 101]);
    assert_eq!((c.admitted, wait_ns(c.stop)), (100, 1_000 * MS));
    // It comes back a window later: still no burst.
    let c = charge(&mut r, 1_000 * MS, &[0; 100]);
    assert_eq!((c.admitted, wait_ns(c.stop)), (10, 100 * MS));
    // That wait ended at 1.1 s, and a window passed since.
    let c = charge(&mut r, 2_100 * MS, &[0; 101]);
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
    r.change(Limits { requests: 100, bytes: u64::MAX }, Policy::Reject);
    assert_eq!(charge(&mut r, 1_000 * MS, &[0; 101]).admitted, 100);
}

#[test]
fn who_is_behind_others_gets_nothing_though_there_is_room() {
    let mut r = rates(100, 100, Policy::Pace);
    let c = r.charge(0, Turn::Behind, [1, 1].into_iter());
    assert_eq!((c.admitted, wait_ns(c.stop)), (0, 0));
    assert_eq!(r.used(0, Rate::Requests), 0);
    assert_eq!(r.take_out(0, Turn::Behind, 5).0, 0);
    assert_eq!(r.charge(0, Turn::Behind, std::iter::empty()).stop, None);
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
