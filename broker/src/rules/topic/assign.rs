//! Who of a group has which partition: as even as it can be, and with as few moves as that takes.
//!
//! Sticky, as Kafka's cooperative assignor is (KIP-54): a partition stays where it is unless its
//! member is gone or has more than its share.

use std::collections::BTreeMap;

/// Gives every partition to one of the members; none when there are none. `now` is who has each.
pub fn assign(now: &[Option<u64>], members: &[u64]) -> Vec<Option<u64>> {
    if members.is_empty() {
        return vec![None; now.len()];
    }
    let (share, more) = (now.len() / members.len(), now.len() % members.len());
    let mut has: BTreeMap<u64, usize> = members.iter().map(|m| (*m, 0)).collect();
    for member in now.iter().flatten() {
        if let Some(n) = has.get_mut(member) {
            *n += 1;
        }
    }
    // Those that have most already get what does not divide evenly: so the fewest move.
    let mut order: Vec<u64> = members.to_vec();
    order.sort_by_key(|m| (std::cmp::Reverse(has[m]), *m));
    let mut room: BTreeMap<u64, usize> =
        order.iter().enumerate().map(|(n, m)| (*m, share + usize::from(n < more))).collect();
    let mut then: Vec<Option<u64>> = now
        .iter()
        .map(|member| {
            let left = room.get_mut(&(*member)?)?;
            *left = left.checked_sub(1)?;
            *member
        })
        .collect();
    let mut free = order.iter().flat_map(|m| std::iter::repeat_n(*m, room[m]));
    for place in then.iter_mut().filter(|place| place.is_none()) {
        *place = free.next();
    }
    then
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(then: &[Option<u64>], members: &[u64]) -> Vec<usize> {
        members.iter().map(|m| then.iter().filter(|t| **t == Some(*m)).count()).collect()
    }

    #[test]
    fn a_member_that_comes_takes_its_share_and_no_more() {
        let one = assign(&[None; 6], &[1]);
        assert_eq!(one, [Some(1); 6]);
        let two = assign(&one, &[1, 2]);
        assert_eq!(counts(&two, &[1, 2]), [3, 3]);
        let moved = one.iter().zip(&two).filter(|(a, b)| a != b).count();
        assert_eq!(moved, 3);
        assert_eq!(assign(&two, &[2]), [Some(2); 6]);
        assert_eq!(assign(&two, &[]), [None; 6]);
        assert_eq!(counts(&assign(&[None; 2], &[1, 2, 3]), &[1, 2, 3]), [1, 1, 0]);
    }

    proptest! {
        #[test]
        fn shares_differ_by_one_at_most_and_nothing_moves_without_need(
            partitions in 0_usize..40,
            changes in prop::collection::vec((any::<bool>(), 0_u64..12), 0..30),
        ) {
            let mut now = vec![None; partitions];
            let mut members: Vec<u64> = Vec::new();
            for (comes, member) in changes {
                members.retain(|m| *m != member);
                if comes {
                    members.push(member);
                }
                let then = assign(&now, &members);
                prop_assert!(then.iter().flatten().all(|m| members.contains(m)));
                prop_assert_eq!(then.iter().all(Option::is_some), !members.is_empty() || partitions == 0);
                let counts = counts(&then, &members);
                if let (Some(least), Some(most)) = (counts.iter().min(), counts.iter().max()) {
                    prop_assert!(most - least <= 1);
                    // Who kept less than the smallest share would have lost something needlessly.
                    for (place, member) in then.iter().zip(&now) {
                        let lost = member.filter(|m| members.contains(m) && *place != Some(*m));
                        if let Some(lost) = lost {
                            let had = now.iter().filter(|m| **m == Some(lost)).count();
                            prop_assert!(had > *least, "{lost} had {had}");
                        }
                    }
                }
                prop_assert_eq!(assign(&then, &members), then.clone(), "and then nothing moves");
                now = then;
            }
        }
    }
}
