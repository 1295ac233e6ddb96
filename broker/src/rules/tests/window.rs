//! The sliding window beside a list of everything that was ever charged.

use std::time::Duration;

use proptest::prelude::*;

use super::MS;
use crate::rules::window::{BUCKETS_MAX, Clock, Shape, ShapeError, Window, wait};

/// A window with a clock of its own.
#[derive(Debug, Clone)]
struct Alone {
    clock: Clock,
    window: Window,
}

impl Alone {
    fn new(shape: Shape) -> Self {
        Alone { clock: Clock::new(shape), window: Window::EMPTY }
    }

    /// Adds `n` when it fits under `limit`; says whether it did.
    fn charge(&mut self, now: u64, n: u64, limit: u64) -> bool {
        self.clock.advance(now, [&mut self.window]);
        let fits = limit > 0 && n <= self.window.room(limit);
        if fits {
            self.window.add(&self.clock, n);
        }
        fits
    }

    /// How long to wait, from `now`, until `n` fits under `limit`: `None` when it never can.
    fn retry_after(&mut self, now: u64, n: u64, limit: u64) -> Option<Duration> {
        self.clock.advance(now, [&mut self.window]);
        self.window.fits_at(&self.clock, n, limit).map(|at| wait(now, at))
    }
}

/// Every charge, by its bucket; sums without a bound on their size.
#[derive(Debug, Default)]
pub(super) struct Model {
    charges: Vec<(u64, u128)>,
    bucket: u64,
}

impl Model {
    pub(super) fn advance(&mut self, shape: Shape, now: u64) {
        self.bucket = self.bucket.max(now / shape.bucket_ns());
    }

    pub(super) fn used(&self, shape: Shape) -> u128 {
        let buckets = u64::from(shape.buckets());
        self.charges.iter().filter(|(b, _)| b + buckets > self.bucket).map(|(_, n)| n).sum()
    }

    /// Nothing fits under a limit of 0; under any other, a charge of 0 always does.
    pub(super) fn fits(&self, shape: Shape, n: u64, limit: u64) -> bool {
        limit > 0 && (n == 0 || self.used(shape) + u128::from(n) <= limit.into())
    }

    pub(super) fn add(&mut self, n: u64) {
        self.charges.push((self.bucket, n.into()));
    }
}

pub(super) fn shapes() -> impl Strategy<Value = Shape> {
    let any = (1..=BUCKETS_MAX as u8, prop_oneof![Just(1), Just(7), Just(100), Just(1_000)])
        .prop_map(|(buckets, ms)| Shape::new(buckets, ms).expect("within bounds"));
    prop_oneof![Just(Shape::default()), any]
}

/// Steps of a clock, in nanoseconds: mostly within a window, sometimes back, sometimes far.
pub(super) fn steps() -> impl Strategy<Value = i64> {
    let window = 1_000 * MS as i64;
    prop_oneof![
        3 => Just(0),
        4 => 0..window / 5,
        2 => 0..window * 3,
        1 => -window..0,
        1 => Just(100 * MS as i64),
        1 => Just(100 * MS as i64 - 1),
        1 => 0..i64::MAX / 64,
    ]
}

fn amounts() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..40_u64, 1 => Just(0), 1 => Just(100), 1 => Just(101), 1 => any::<u64>()]
}

fn limits() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(100_u64), 2 => 0..200_u64, 1 => Just(0), 1 => Just(u64::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_window_is_exact(
        shape in shapes(),
        ops in prop::collection::vec((steps(), amounts(), limits()), 1..80),
    ) {
        let mut window = Alone::new(shape);
        let mut model = Model::default();
        let mut now = 0_u64;
        for (step, n, limit) in ops {
            now = now.saturating_add_signed(step);
            model.advance(shape, now);
            let fits = model.fits(shape, n, limit);

            let mut waiting = window.clone();
            match waiting.retry_after(now, n, limit) {
                None => prop_assert!(limit == 0 || n > limit, "only what never fits"),
                Some(Duration::ZERO) => prop_assert!(fits),
                Some(wait) => {
                    prop_assert!(!fits);
                    prop_assert!(limit > 0 && n <= limit);
                    let at = now + wait.as_nanos() as u64;
                    prop_assert!(!waiting.clone().charge(at - 1, n, limit), "1 ns too early");
                    prop_assert!(waiting.charge(at, n, limit), "at the time it was told");
                }
            }

            prop_assert_eq!(window.charge(now, n, limit), fits);
            if fits {
                model.add(n);
            }
            prop_assert_eq!(u128::from(window.window.used()), model.used(shape));
            prop_assert_eq!(
                u128::from(window.window.room(limit)),
                u128::from(limit).saturating_sub(model.used(shape))
            );
        }
    }
}

#[test]
fn a_charge_leaves_with_its_bucket_and_not_before() {
    let mut w = Alone::new(Shape::default());
    assert!(w.charge(99 * MS, 10, 10));
    assert!(!w.charge(99 * MS, 1, 10));
    // The bucket of 0 to 100 ms is in the window until the one of 900 ms ends.
    assert_eq!(w.retry_after(99 * MS, 1, 10), Some(Duration::from_millis(901)));
    assert!(!w.charge(1_000 * MS - 1, 1, 10));
    assert!(w.charge(1_000 * MS, 10, 10));
}

#[test]
fn windows_that_share_a_clock_move_together() {
    let mut clock = Clock::new(Shape::default());
    let (mut a, mut b) = (Window::EMPTY, Window::EMPTY);
    a.add(&clock, 1);
    assert_eq!(clock.advance(450 * MS, [&mut a, &mut b]), 4);
    b.add(&clock, 2);
    assert_eq!((a.current(&clock), b.current(&clock)), (0, 2));
    assert_eq!(clock.advance(1_000 * MS, [&mut a, &mut b]), 6);
    assert_eq!((a.used(), b.used()), (0, 2), "the first has left");
    assert_eq!(clock.advance(1_399 * MS, [&mut a, &mut b]), 3);
    assert_eq!(b.used(), 2);
    assert_eq!(clock.advance(1_400 * MS, [&mut a, &mut b]), 1);
    assert_eq!(b.used(), 0);
    assert_eq!(clock.bucket_start(), 1_400 * MS);
}

#[test]
fn a_clock_at_its_end_does_not_overflow() {
    let mut w = Alone::new(Shape::default());
    assert!(w.charge(u64::MAX, 10, 10));
    assert!(!w.charge(u64::MAX, 1, 10));
    assert!(w.retry_after(u64::MAX, 1, 10).is_some());
}

#[test]
fn shapes_have_bounds() {
    assert_eq!(Shape::new(0, 100), Err(ShapeError::Buckets(0)));
    assert_eq!(Shape::new(13, 100), Err(ShapeError::Buckets(13)));
    assert_eq!(Shape::new(10, 0), Err(ShapeError::Width(0)));
    assert_eq!(Shape::new(10, 60_001), Err(ShapeError::Width(60_001)));
}

#[test]
fn a_rate_per_second_scales_with_the_window() {
    let of = |buckets, ms, rate| Shape::new(buckets, ms).expect("within bounds").limit(rate);
    assert_eq!(of(10, 100, 1_000), 1_000);
    assert_eq!(of(10, 1_000, 1_000), 10_000);
    assert_eq!(of(1, 100, 1_000), 100);
    assert_eq!(of(1, 1, 5), 1, "a rate above 0 is never rounded to none");
    assert_eq!(of(1, 1, 0), 0);
    assert_eq!(of(12, 60_000, u64::MAX), u64::MAX, "no limit stays none");
    assert_eq!(of(12, 60_000, u64::MAX - 1), u64::MAX - 1);
}
