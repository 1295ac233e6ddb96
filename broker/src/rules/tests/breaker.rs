//! The breaker against a model that remembers everything that ever happened.

use proptest::prelude::*;

use super::MS;
use crate::rules::breaker::{Breaker, Change, Ending, Phase, Settings, Ticket};

const SETTINGS: Settings = Settings {
    failures: 3,
    ratio_percent: 0,
    requests_min: 0,
    window_ns: 1_000 * MS,
    open_ns: 100 * MS,
    probes: 2,
};

/// One that is let through and ends so, at once.
#[track_caller]
fn one(b: &mut Breaker<u8>, user: u8, ending: Ending, now: u64) -> Option<Change> {
    let ticket = b.admit(now).expect("let through");
    b.end(ticket, &user, ending, now)
}

#[track_caller]
fn opened(settings: Settings, at: u64) -> Breaker<u8> {
    let mut b = Breaker::new(Settings { failures: 1, ..settings });
    assert_eq!(one(&mut b, 1, Ending::Failed, at), Some(Change::Opened));
    b
}

#[test]
fn failures_in_a_row_open_it_and_one_that_is_served_begins_anew() {
    let mut b = Breaker::new(SETTINGS);
    for ending in [Ending::Failed, Ending::Failed, Ending::Served, Ending::Failed, Ending::Failed] {
        assert_eq!(one(&mut b, 1, ending, 0), None);
    }
    assert_eq!(one(&mut b, 1, Ending::Unknown, 0), None, "which counts for nothing");
    assert_eq!(b.phase(0), Phase::Closed);
    assert_eq!(one(&mut b, 1, Ending::Failed, 0), Some(Change::Opened));
    assert_eq!(b.phase(0), Phase::Open);
}

#[test]
fn it_refuses_for_its_time_then_lets_a_few_through_and_closes_when_all_are_served() {
    let mut b = opened(SETTINGS, 0);
    assert_eq!(b.admit(1), Err(100 * MS - 1));
    assert_eq!(b.admit(100 * MS - 1), Err(1));
    assert_eq!(b.phase(100 * MS), Phase::HalfOpen);
    let two = [b.admit(100 * MS).expect("a probe"), b.admit(100 * MS).expect("a probe")];
    assert_eq!(b.admit(100 * MS), Err(25 * MS), "no third");
    assert_eq!(b.end(two[0], &1, Ending::Served, 101 * MS), None);
    assert_eq!(b.admit(101 * MS), Err(25 * MS), "one that was good still counts");
    assert_eq!(b.end(two[1], &2, Ending::Served, 101 * MS), Some(Change::Closed));
    assert_eq!(b.phase(101 * MS), Phase::Closed);
}

#[test]
fn a_probe_that_fails_opens_it_again_without_news_and_one_that_is_given_up_makes_room() {
    let mut b = opened(SETTINGS, 0);
    let first = b.admit(100 * MS).expect("a probe");
    let second = b.admit(100 * MS).expect("a probe");
    assert_eq!(b.end(first, &1, Ending::Unknown, 100 * MS), None);
    let third = b.admit(100 * MS).expect("the place of the first");
    assert_eq!(b.end(second, &1, Ending::Failed, 110 * MS), None);
    assert_eq!(b.admit(110 * MS), Err(100 * MS));
    assert_eq!(b.end(third, &1, Ending::Served, 111 * MS), None, "too late to count");
    assert_eq!(b.phase(209 * MS), Phase::Open);
    assert_eq!(b.phase(210 * MS), Phase::HalfOpen);
}

#[test]
fn what_was_let_through_before_it_opened_does_not_count_after_it() {
    let mut b = Breaker::new(SETTINGS);
    let early: Vec<Ticket> = (0..9).map(|_| b.admit(0).expect("closed")).collect();
    let mut changes = Vec::new();
    for ticket in early {
        changes.extend(b.end(ticket, &1, Ending::Failed, 1));
    }
    assert_eq!(changes, [Change::Opened], "once");
}

#[test]
fn a_share_of_failures_in_the_window_opens_it() {
    let settings = Settings { failures: 0, ratio_percent: 50, requests_min: 4, ..SETTINGS };
    let mut b = Breaker::new(settings);
    for ending in [Ending::Failed, Ending::Served, Ending::Failed] {
        assert_eq!(one(&mut b, 1, ending, 0), None, "too few to judge");
    }
    assert_eq!(one(&mut b, 1, Ending::Failed, 400 * MS), Some(Change::Opened));
    let mut b = Breaker::new(settings);
    for ending in [Ending::Failed, Ending::Served, Ending::Failed] {
        one(&mut b, 1, ending, 0);
    }
    assert_eq!(one(&mut b, 1, Ending::Failed, 1_000 * MS), None, "those are out of the window");
}

#[test]
fn what_fails_for_one_alone_does_not_take_it_from_the_others() {
    let mut b = Breaker::new(SETTINGS);
    one(&mut b, 2, Ending::Served, 0);
    for _ in 0..50 {
        assert_eq!(one(&mut b, 1, Ending::Failed, 1_000 * MS), None, "another was served lately");
    }
    let mut fails_for_two = Breaker::new(SETTINGS);
    one(&mut fails_for_two, 3, Ending::Served, 0);
    one(&mut fails_for_two, 1, Ending::Failed, 1);
    one(&mut fails_for_two, 1, Ending::Failed, 2);
    assert_eq!(one(&mut fails_for_two, 2, Ending::Failed, 3), Some(Change::Opened));
    assert_eq!(
        one(&mut b, 1, Ending::Failed, 1_001 * MS),
        Some(Change::Opened),
        "nobody was served for a window"
    );
}

/// What happened, in order: everything a model needs.
#[derive(Debug, Clone, Copy)]
struct Ended {
    user: u8,
    ending: Ending,
    at: u64,
}

/// Whether what ended while closed, the last of it just now, opens the breaker.
fn model_opens(s: Settings, served: &[(u8, u64)], closed: &[Ended]) -> bool {
    let known: Vec<_> = closed.iter().filter(|e| e.ending != Ending::Unknown).collect();
    let Some(newest) = known.last().filter(|e| e.ending == Ending::Failed) else { return false };
    let others_served = |failed: &[&&Ended]| {
        let user = failed[0].user;
        let since = newest.at.saturating_sub(s.window_ns);
        failed.iter().all(|f| f.user == user)
            && served.iter().any(|(u, at)| *u != user && *at >= since)
    };
    let streak: Vec<_> = known.iter().rev().take_while(|e| e.ending == Ending::Failed).collect();
    let in_a_row = s.failures > 0 && streak.len() >= s.failures as usize && !others_served(&streak);
    let half = s.window_ns / 2;
    let window: Vec<_> = known.iter().filter(|e| newest.at / half - e.at / half <= 1).collect();
    let failed: Vec<_> = window.iter().copied().filter(|e| e.ending == Ending::Failed).collect();
    let in_window = s.ratio_percent > 0
        && window.len() >= s.requests_min as usize
        && failed.len() * 100 >= window.len() * s.ratio_percent as usize
        && !others_served(&failed);
    in_a_row || in_window
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Admit,
    End { which: usize, user: u8, ending: Ending },
    Wait { ms: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let ending = prop_oneof![
        3 => Just(Ending::Failed),
        3 => Just(Ending::Served),
        1 => Just(Ending::Unknown)
    ];
    prop_oneof![
        5 => Just(Op::Admit),
        5 => (any::<usize>(), 0..3_u8, ending)
            .prop_map(|(which, user, ending)| Op::End { which, user, ending }),
        2 => (0..400_u64).prop_map(|ms| Op::Wait { ms }),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..5_u32, 0..101_u32, 0..8_u32, 2..1_000_u64, 1..500_u64, 1..4_u32).prop_map(
        |(failures, ratio_percent, requests_min, window, open, probes)| Settings {
            failures,
            ratio_percent,
            requests_min,
            window_ns: window * MS,
            open_ns: open * MS,
            probes,
        },
    )
}

proptest! {
    #[test]
    fn it_is_what_the_model_says(s in settings(), ops in prop::collection::vec(op(), 1..200)) {
        let mut b = Breaker::new(s);
        let (mut now, mut era) = (0, 0_u64);
        // What is out, with the era it was let through in.
        let mut out: Vec<(Ticket, u64)> = Vec::new();
        let mut served = Vec::new();
        let mut closed: Vec<Ended> = Vec::new();
        let mut opened_at: Option<u64> = None;
        let mut good = 0;
        for op in ops {
            // Open for its time is half-open, from the first that asks.
            let half_open = opened_at.is_some_and(|at| now >= at + s.open_ns);
            match op {
                Op::Wait { ms } => now += ms * MS,
                Op::Admit => {
                    let probes = out.iter().filter(|(_, e)| *e == era).count() as u32;
                    let passes = opened_at.is_none() || half_open && probes + good < s.probes;
                    match b.admit(now) {
                        Ok(ticket) => {
                            prop_assert!(passes, "{op:?}");
                            out.push((ticket, era));
                        }
                        Err(wait) => {
                            prop_assert!(!passes && wait > 0 && wait <= s.open_ns);
                        }
                    }
                }
                Op::End { .. } if out.is_empty() => {}
                Op::End { which, user, ending } => {
                    let (ticket, of) = out.swap_remove(which % out.len());
                    let change = b.end(ticket, &user, ending, now);
                    if of != era {
                        prop_assert_eq!(change, None, "it is of an earlier time");
                        continue;
                    }
                    if opened_at.is_none() {
                        closed.push(Ended { user, ending, at: now });
                        if ending == Ending::Served {
                            served.push((user, now));
                        }
                        let opens = model_opens(s, &served, &closed);
                        prop_assert_eq!(change, opens.then_some(Change::Opened));
                        if opens {
                            (opened_at, era) = (Some(now), era + 1);
                            closed.clear();
                        }
                    } else if ending == Ending::Served {
                        good += 1;
                        let closes = good == s.probes;
                        prop_assert_eq!(change, closes.then_some(Change::Closed));
                        if closes {
                            served.push((user, now));
                            (opened_at, era, good) = (None, era + 1, 0);
                        }
                    } else {
                        prop_assert_eq!(change, None);
                        if ending == Ending::Failed {
                            (opened_at, era, good) = (Some(now), era + 1, 0);
                        }
                    }
                }
            }
            let phase = match opened_at {
                None => Phase::Closed,
                Some(at) if now < at + s.open_ns => Phase::Open,
                Some(_) => Phase::HalfOpen,
            };
            prop_assert_eq!(b.phase(now), phase);
        }
    }
}
