//! Permits and charges under every order of threads: the same files as the broker's, compiled over
//! scheduled atomics and locks.
//!
//! What the checker is worth is shown by a count that is wrong on purpose: it is found.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use shuttle::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use self::{
    count::Count,
    metered::{Look, Metered},
};
use crate::rules::{
    quota::{Cost, Limits, Load, Policy, Rate},
    window::Shape,
};

#[allow(clippy::duplicate_mod, reason = "over other atomics it is another module")]
#[path = "../count.rs"]
mod count;
#[allow(clippy::duplicate_mod, reason = "over other locks it is another module")]
#[path = "../metered.rs"]
mod metered;

mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use shuttle::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
}

/// Orders of threads that are tried of each.
const ORDERS: usize = 2_000;

fn limits(requests: u64, bytes: u64) -> Limits {
    Limits { requests, bytes, messages: 4 }
}

/// What a count is asked for.
trait Counts: Send + Sync + 'static {
    fn take(&self, n: u64, limit: u64) -> Result<(), u64>;
    fn give_back(&self, n: u64);
}

impl Counts for Count {
    fn take(&self, n: u64, limit: u64) -> Result<(), u64> {
        Count::take(self, n, limit)
    }

    fn give_back(&self, n: u64) {
        Count::give_back(self, n);
    }
}

/// Checks, then counts: in two steps.
struct TwoSteps(AtomicU64);

impl Counts for TwoSteps {
    fn take(&self, n: u64, limit: u64) -> Result<(), u64> {
        let out = self.0.load(Ordering::SeqCst);
        if out + n > limit {
            return Err(out);
        }
        self.0.fetch_add(n, Ordering::SeqCst);
        Ok(())
    }

    fn give_back(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::SeqCst);
    }
}

/// Three threads take and give back; what is inside at once never exceeds the limit.
fn race<C: Counts>(count: C) {
    const LIMIT: u64 = 3;
    let (count, inside) = (Arc::new(count), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = [1, 2, 2]
        .into_iter()
        .map(|n| {
            let (count, inside) = (count.clone(), inside.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    match count.take(n, LIMIT) {
                        Ok(()) => {
                            let now = inside.fetch_add(n, Ordering::SeqCst) + n;
                            assert!(now <= LIMIT, "one over");
                            inside.fetch_sub(n, Ordering::SeqCst);
                            count.give_back(n);
                        }
                        Err(out) => assert!(out + n > LIMIT, "it would have fitted"),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    assert_eq!(count.take(LIMIT, LIMIT), Ok(()), "all of it was given back");
}

#[test]
fn a_count_is_exact_in_every_order_of_threads() {
    shuttle::check_random(|| race(Count::new()), ORDERS);
    let last = || {
        let count = Count::new();
        count.take(2, 2).expect("room");
        count.give_back(2);
        assert_eq!(count.now(), 0);
    };
    shuttle::check_random(last, 1);
}

#[test]
fn a_count_that_checks_and_counts_in_two_steps_is_found() {
    let planted = || shuttle::check_random(|| race(TwoSteps(AtomicU64::new(0))), ORDERS);
    let found = catch_unwind(AssertUnwindSafe(planted));
    assert!(found.is_err(), "the checker does not find what it is for");
}

#[test]
fn charges_are_exact_in_every_order_of_threads() {
    let charges = || {
        let metered = Metered::new(Shape::default(), limits(3, 50), Policy::Reject);
        let metered = Arc::new(metered);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let metered = metered.clone();
                thread::spawn(move || {
                    let costs = [Cost::one(20), Cost::one(10)];
                    let items = metered.charge(0, Load::Items, costs.into_iter());
                    let messages = metered.charge(0, Load::Produced, costs.into_iter());
                    let (given, _) = metered.take_out(0, 20);
                    (items.admitted, messages.admitted, given)
                })
            })
            .collect();
        let admitted: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
        let bytes = |n: usize| [0, 20, 30][n];
        let sum: u64 = admitted.iter().map(|&(i, m, _)| bytes(i) + bytes(m)).sum();
        let items: usize = admitted.iter().map(|(i, ..)| i).sum();
        let given: u64 = admitted.iter().map(|(.., given)| given).sum();
        let rates = [Rate::Requests, Rate::MessagesIn, Rate::BytesIn, Rate::BytesOut];
        let [requests, messages, used, out] = metered.used(0, rates);
        assert!(out == given && out <= 50, "what was given is what was counted");
        assert!(requests <= 3 && messages <= 4 && used <= 50, "one over");
        assert_eq!((requests, used), (items as u64, sum), "what was admitted is what was counted");
        assert!(used >= 40, "what fits is admitted");
    };
    shuttle::check_random(charges, ORDERS);
}

#[test]
fn of_two_changes_the_newer_stays_in_every_order_of_threads() {
    let changes = || {
        let metered = Arc::new(Metered::new(Shape::default(), limits(0, 0), Policy::Reject));
        // What a tenant's record is: stored first, then put in force.
        let record = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = [5, 9]
            .map(|allowed| {
                let (metered, record) = (metered.clone(), record.clone());
                thread::spawn(move || {
                    record.store(allowed, Ordering::SeqCst);
                    let first = metered
                        .change(|| (limits(record.load(Ordering::SeqCst), 0), Policy::Reject));
                    assert!(first.is_none(), "nobody waits");
                })
            })
            .into();
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
        let stop = metered.charge(0, Load::Items, [Cost::one(0)].into_iter()).stop;
        // Bytes are 0: nothing fits, and the limit of requests is told by what fits otherwise.
        assert!(stop.is_some());
        drop(metered.change(|| (limits(record.load(Ordering::SeqCst), 1), Policy::Reject)));
        let costs = std::iter::repeat_n(Cost::one(0), 20);
        let admitted = metered.charge(0, Load::Items, costs).admitted as u64;
        assert_eq!(admitted, record.load(Ordering::SeqCst));
    };
    shuttle::check_random(changes, ORDERS);
}

#[test]
fn whoever_is_first_in_line_is_charged_and_no_one_else_in_every_order_of_threads() {
    let line = || {
        let metered = Arc::new(Metered::new(Shape::default(), limits(2, 100), Policy::Pace));
        let (first, epoch) = metered.join();
        let second = {
            let metered = metered.clone();
            thread::spawn(move || {
                let (place, _) = metered.join();
                let costs = [Cost::one(1)].into_iter();
                let (charged, epoch) = metered.charge_in_line(place, 0, Load::Items, costs);
                let look = metered.look(place, epoch, Waker::noop());
                // Once first, it stays first; before, it was charged nothing.
                assert!(look == Look::Same || charged.admitted == 0);
                assert!(metered.leave(place).is_none(), "nobody is behind it");
                charged.admitted
            })
        };
        let barges = metered.charge(0, Load::Items, [Cost::one(1)].into_iter());
        assert_eq!(barges.admitted, 0, "past one who waits");
        let costs = [Cost::one(1)].into_iter();
        let (charged, same) = metered.charge_in_line(first, 0, Load::Items, costs);
        assert_eq!((charged.admitted, same), (1, epoch));
        // The one behind may have asked to be woken by now.
        drop(metered.leave(first));
        let second = second.join().expect("no panic") as u64;
        assert_eq!(metered.used(0, [Rate::Requests]), [1 + second]);
        assert_eq!((metered.waiting(), metered.is_quiet(0)), (0, false));
    };
    shuttle::check_random(line, ORDERS);
}
