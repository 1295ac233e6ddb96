//! The rules of topics, as sentences.

use proptest::prelude::*;
use tollgate_protocol::id::{GroupName, TopicName};

use super::{
    Done, Event, Retention, Topics,
    group::{Group, Terms},
    ranges::Ranges,
};

const TERMS: Terms = Terms { handover_ms: 1_000, ahead_max: 100, deliveries_max: 3 };

fn group(partitions: usize) -> Group {
    Group::new(TERMS, &vec![Done::default(); partitions])
}

fn taken(group: &mut Group, member: u64, partition: u32, end: u64, now: u64) -> Vec<(u64, u32)> {
    let mut out = Vec::new();
    group.take(member, partition, (end, usize::MAX), now, &mut out);
    out
}

#[test]
fn what_is_not_acknowledged_in_time_is_delivered_again_and_then_put_aside() {
    let mut g = group(1);
    let a = g.join(10, 30, 0);
    assert_eq!(taken(&mut g, a, 0, 3, 0), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(taken(&mut g, a, 0, 3, 0), []);
    assert_eq!(g.ack(a, 0, 1, 1), [(1, 1)]);
    assert_eq!(g.look().next().map(|l| (l.position, l.in_flight)), Some((0, 2)));
    assert!(!g.on_time(29));
    assert_eq!(g.next_due(), Some(30));
    assert!(g.on_time(30));
    assert_eq!(taken(&mut g, a, 0, 3, 30), [(0, 2), (2, 2)]);
    assert_eq!(g.ack(a, 0, 0, 0), [(0, 0)]);
    assert_eq!(g.look().next().map(|l| l.position), Some(2));
    g.on_time(60);
    assert_eq!(taken(&mut g, a, 0, 3, 60), [(2, 3)]);
    g.on_time(90);
    assert_eq!(taken(&mut g, a, 0, 3, 90), [], "that was the last time");
    assert_eq!(g.take_dead(9), [(0, 2, 3)]);
    assert_eq!(g.take_dead(9), [], "once");
    g.done(0, 2);
    assert_eq!(g.look().next().map(|l| l.position), Some(3));
}

#[test]
fn only_who_was_given_a_message_can_acknowledge_it() {
    let mut g = group(2);
    let a = g.join(10, 30, 0);
    let b = g.join(10, 30, 0);
    let of = |g: &Group, m| g.assigned(m).collect::<Vec<_>>();
    assert_eq!((of(&g, a).len(), of(&g, b).len()), (1, 1));
    let (pa, pb) = (of(&g, a)[0], of(&g, b)[0]);
    assert_eq!(taken(&mut g, a, pb, 5, 0), [], "it is not its partition");
    assert_eq!(taken(&mut g, a, pa, 2, 0), [(0, 1), (1, 1)]);
    assert_eq!(g.ack(b, pa, 0, 1), []);
    assert_eq!(g.ack(a, pa, 0, 9), [(0, 1)]);
    assert_eq!(g.ack(a, pa, 0, 9), [], "once");
    assert_eq!(g.ack(a, 77, 0, 9), [], "there is no such partition");
}

#[test]
fn a_partition_moves_once_its_old_owner_is_done_with_it() {
    let mut g = group(2);
    let a = g.join(10, 30_000, 0);
    for p in 0..2 {
        assert_eq!(taken(&mut g, a, p, 1, 0), [(0, 1)]);
    }
    let b = g.join(10, 30_000, 100);
    assert_eq!(g.assigned(b).count(), 0);
    let kept: Vec<u32> = g.assigned(a).collect();
    assert_eq!(kept.len(), 1, "of what moves its old owner is given no more");
    let moving = 1 - kept[0];
    assert_eq!(taken(&mut g, a, moving, 5, 100), []);
    assert_eq!(taken(&mut g, b, moving, 5, 100), []);
    let generation = g.generation();
    assert_eq!(g.ack(a, moving, 0, 0), [(0, 0)]);
    assert!(g.generation() > generation);
    assert_eq!(g.assigned(b).collect::<Vec<_>>(), [moving]);
    assert_eq!(taken(&mut g, b, moving, 2, 100), [(1, 1)]);
}

#[test]
fn a_partition_moves_without_its_old_owner_after_a_while() {
    let mut g = group(1);
    let a = g.join(10, 30_000, 0);
    assert_eq!(taken(&mut g, a, 0, 1, 0), [(0, 1)]);
    g.leave(a, 1);
    let b = g.join(10, 30_000, 1);
    assert_eq!(taken(&mut g, b, 0, 1, 1), [(0, 2)], "who is gone is not waited for");
    let mut g = group(2);
    let a = g.join(10, 30_000, 0);
    assert_eq!(taken(&mut g, a, 0, 1, 0).len() + taken(&mut g, a, 1, 1, 0).len(), 2);
    let b = g.join(10, 30_000, 0);
    assert_eq!(g.next_due(), Some(1_000));
    assert!(g.on_time(1_000));
    let moved: Vec<u32> = g.assigned(b).collect();
    assert_eq!(taken(&mut g, b, moved[0], 1, 1_000), [(0, 2)]);
    assert_eq!(g.ack(a, moved[0], 0, 0), [], "it came too late");
}

#[test]
fn a_group_goes_only_so_far_ahead_of_its_position() {
    let mut g = group(1);
    let a = g.join(1_000, 30, 0);
    assert_eq!(taken(&mut g, a, 0, 500, 0).len(), 100);
    assert_eq!(g.ack(a, 0, 1, 99), [(1, 99)]);
    assert_eq!(taken(&mut g, a, 0, 500, 0), []);
    assert_eq!(g.ack(a, 0, 0, 0), [(0, 0)]);
    assert_eq!(taken(&mut g, a, 0, 500, 0).len(), 100);
}

#[test]
fn what_is_gone_is_not_waited_for() {
    let mut g = group(1);
    let a = g.join(1_000, 30, 0);
    assert_eq!(taken(&mut g, a, 0, 4, 0).len(), 4);
    g.nack(a, 0, 0, 1);
    g.trimmed(0, 3);
    assert_eq!(g.look().next().map(|l| l.position), Some(3));
    assert_eq!(taken(&mut g, a, 0, 5, 0), [(4, 1)]);
    g.ack(a, 0, 0, 9);
    assert_eq!(g.look().next().map(|l| (l.position, l.in_flight)), Some((5, 0)));
}

#[test]
fn streams_of_deleted_topics_are_used_again_after_what_they_held() {
    let mut all = Topics::default();
    let name = |n: &str| TopicName::parse(n).expect("a name");
    let made = all.create(name("a"), 2, Retention::default(), true, 5);
    all.apply(&made);
    assert_eq!(all.counted(), (1, 2));
    let streams: Vec<u64> = all.find("a").expect("a").parts.iter().map(|p| p.stream).collect();
    assert_eq!(streams, [2, 3]);
    all.apply(&Event::Deleted { topic: 0 });
    assert!(all.find("a").is_none());
    assert_eq!(all.leaving().collect::<Vec<_>>(), [2, 3]);
    all.apply(&Event::Freed { stream: 3, base: 70 });
    let made = all.create(name("b"), 2, Retention::default(), true, 6);
    let Event::Created { topic: 1, parts, .. } = &made else { panic!("{made:?}") };
    assert_eq!(parts[..], [(2, 3, 70), (3, 4, 0)]);
    all.apply(&made);
    assert_eq!(all.by_number(3).map(|(t, p)| (t.number, p)), Some((1, 1)));
    assert_eq!(all.by_number(0), None);
}

#[test]
fn a_groups_position_never_goes_back_by_itself() {
    let mut all = Topics::default();
    let group = GroupName::parse("g").expect("a name");
    let name = TopicName::parse("a").expect("a name");
    all.apply(&all.create(name, 1, Retention::default(), true, 5));
    all.apply(&Event::GroupCreated { topic: 0, group: group.clone(), positions: vec![4] });
    let acked = |ranges: &[(u64, u64)]| Event::Acked {
        topic: 0,
        group: group.clone(),
        partition: 0,
        ranges: ranges.to_vec(),
    };
    let at = |all: &Topics| all.groups(0).expect("groups")[&group][0].position;
    all.apply(&acked(&[(6, 7), (9, 9)]));
    assert_eq!(at(&all), 4);
    all.apply(&acked(&[(1, 5)]));
    assert_eq!(at(&all), 8);
    all.apply(&Event::Trimmed { topic: 0, partition: 0, first: 9, gone: 1 });
    assert_eq!(at(&all), 10);
    all.apply(&Event::Trimmed { topic: 0, partition: 0, first: 3, gone: 1 });
    assert_eq!(at(&all), 10);
}

proptest! {
    #[test]
    fn ranges_are_a_set(ops in prop::collection::vec((0_u8..3, 0_u64..40, 0_u64..6), 0..60)) {
        let (mut ranges, mut model) = (Ranges::default(), std::collections::BTreeSet::new());
        for (op, at, n) in ops {
            if op < 2 {
                ranges.insert(at, at + n);
                model.extend(at..=at + n);
            } else {
                ranges.forget_before(at);
                model.retain(|o| *o >= at);
            }
            for offset in 0..50 {
                prop_assert_eq!(ranges.contains(offset), model.contains(&offset));
                let end = (offset..).find(|o| !model.contains(o)).filter(|e| *e > offset);
                prop_assert_eq!(ranges.end_of(offset), end);
            }
            let all: Vec<_> = ranges.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{:?}", all);
        }
    }

    /// Members come, go, take, acknowledge and are late, in any order: nothing is delivered to two
    /// at once, nothing is lost, and everything is done or dead in the end.
    #[test]
    fn every_message_is_done_or_dead(
        steps in prop::collection::vec((0_u8..7, 0_usize..4, 0_u64..30), 0..120),
        partitions in 1_usize..5,
    ) {
        const END: u64 = 20;
        let mut g = group(partitions);
        let (mut now, mut members) = (0, Vec::new());
        let mut held: std::collections::BTreeMap<(u32, u64), u64> = Default::default();
        let mut acked = std::collections::BTreeSet::new();
        let finish = [(0, 0, 0)].into_iter().chain([(2, 0, 0), (5, 0, 29)].repeat(8 * partitions * END as usize));
        for (op, who, n) in steps.into_iter().chain(finish) {
            let member = members.get(who).or(members.last()).copied();
            match (op, member) {
                (0, _) if members.len() < 4 => members.push(g.join(7, 40, now)),
                (1, Some(member)) => {
                    members.retain(|m| *m != member);
                    held.retain(|_, m| *m != member);
                    g.leave(member, now);
                }
                (2, Some(_)) => {
                    for member in members.clone() {
                        for p in 0..partitions as u32 {
                            for (offset, deliveries) in taken(&mut g, member, p, END, now) {
                                prop_assert!(deliveries <= TERMS.deliveries_max);
                                prop_assert!(held.insert((p, offset), member).is_none(), "two have it");
                                prop_assert!(!acked.contains(&(p, offset)), "it was done");
                            }
                        }
                    }
                }
                (3, Some(member)) => {
                    let p = n as u32 % partitions as u32;
                    for (first, last) in g.ack(member, p, n / 2, n) {
                        for offset in first..=last {
                            prop_assert_eq!(held.remove(&(p, offset)), Some(member));
                            acked.insert((p, offset));
                        }
                    }
                }
                (4, Some(member)) => {
                    let p = n as u32 % partitions as u32;
                    g.nack(member, p, n / 2, n);
                    held.retain(|(q, offset), m| *m != member || *q != p || !(n / 2..=n).contains(offset));
                }
                (5, _) => {
                    now += n * 40;
                    // Whatever was given before this is over.
                    if g.on_time(now) && n > 0 {
                        held.clear();
                    }
                    for (p, offset, _) in g.take_dead(3) {
                        g.done(p, offset);
                        acked.insert((p, offset));
                    }
                }
                _ => {}
            }
        }
        let positions: Vec<u64> = g.look().map(|l| l.position).collect();
        prop_assert_eq!(positions, vec![END; partitions]);
    }
}
