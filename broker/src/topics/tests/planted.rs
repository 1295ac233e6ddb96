//! Planted bugs: each is found by the power cuts or by the random lives of the rules.

use super::crash;
use crate::rules::topic::plant::{self, Bug};

#[test]
fn planted_bugs_are_found_by_the_power_cuts() {
    let mut found = 0;
    // Two owners of a partition are seen by the lives of groups, which need no store.
    let here = plant::ALL.iter().filter(|bug| **bug != Bug::TwoOwners);
    let all = here.clone().count();
    for bug in here {
        let why = plant::with(*bug, || crash::explore(0..16)).unwrap_or(Err("panicked".into()));
        println!("{bug:?}: {}", why.as_ref().err().map_or("unnoticed", |why| why));
        found += usize::from(why.is_err());
    }
    assert_eq!(found, all, "of {all} planted bugs {found} are found");
}
