use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Config, Embedded,
    disk::Disk,
    plant::{Bug, Planted},
};
use crate::store::Store;

mod crash;
mod damage;
mod faults;
mod sim;

/// A simulated disk, for suites that know nothing of this back end.
#[derive(Debug, Clone)]
pub(crate) struct Simulated(sim::SimDisk);

impl Simulated {
    pub(crate) fn new() -> Simulated {
        Simulated(sim::SimDisk::new())
    }

    /// Opens the store on it, again.
    pub(in crate::store) fn open(&self, config: &Config) -> Store {
        self.try_open(config).expect("opens")
    }

    /// Opens a store of small parts on it.
    pub(crate) fn open_small(&self) -> Result<Store, String> {
        self.try_open(&crash::config())
    }

    fn try_open(&self, config: &Config) -> Result<Store, String> {
        crash::open_with(&self.0, config)
    }

    /// The power goes at this sync, before or after it took effect.
    pub(crate) fn cut_at(&self, sync: u64, takes_effect: bool) {
        self.0.cut_at(sync, takes_effect);
    }

    /// What is left after a power cut now.
    pub(crate) fn after_cut(&self, seed: u64) -> Simulated {
        Simulated(self.0.after_cut(seed))
    }

    /// So much is free.
    pub(crate) fn free_bytes(&self, free: Option<u64>) {
        self.0.free_bytes(free);
    }

    /// Whether the power has gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    /// Flips a bit right after the occurrence with this number of some bytes, in whatever file it
    /// is. False when there are not so many.
    pub(crate) fn flip_after(&self, bytes: &[u8], number: usize) -> bool {
        let mut seen = 0;
        for file in self.0.files("").iter().filter(|name| !name.ends_with('/')) {
            let there = self.0.bytes(file);
            let places = there.windows(bytes.len()).enumerate().filter(|(_, w)| *w == bytes);
            for (place, _) in places {
                seen += 1;
                if seen == number + 1 {
                    self.0.tamper(file, |there| there[place + bytes.len()] ^= 1);
                    return true;
                }
            }
        }
        false
    }
}

/// Runs something with a bug on, in this thread and in the stores that it opens.
fn planted<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    Planted::new(Some(bug)).plant();
    let outcome = catch_unwind(AssertUnwindSafe(run));
    Planted::new(None).plant();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether a test fails with a bug on.
#[track_caller]
fn fails<F: Future<Output = ()>>(bug: Bug, test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let run = || planted(bug, || runtime.block_on(test()));
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err(), "{bug:?} went unnoticed");
}

/// Whether the power cuts find a bug.
#[track_caller]
fn is_found(bug: Bug) {
    let found = crash::notices(bug, 0..30);
    println!("{bug:?}: {}", found.as_deref().unwrap_or("unnoticed"));
    assert!(found.is_some(), "{bug:?} went unnoticed");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    is_found(Bug::EarlyAcknowledgement);
}

#[test]
fn a_group_written_before_the_sync_of_the_last_is_found() {
    is_found(Bug::SkipSync);
}

#[test]
fn a_fence_that_is_not_checked_is_found() {
    is_found(Bug::SkipFence);
}

#[test]
fn a_journal_let_go_before_the_segments_are_synced_is_found() {
    is_found(Bug::EarlyTrim);
}

#[test]
fn a_forgotten_trim_is_found() {
    is_found(Bug::ForgetTrim);
}

#[test]
fn half_a_commit_is_found() {
    is_found(Bug::HalfCommits);
}

#[test]
fn a_large_record_that_is_not_synced_is_found() {
    is_found(Bug::LargeUnsynced);
}

#[test]
fn a_sync_that_is_tried_again_is_found() {
    fails(Bug::RetrySync, faults::a_failed_sync_is_the_end);
}

#[test]
fn a_checksum_that_is_not_compared_is_found() {
    fails(Bug::SkipChecksum, damage::a_damaged_segment_is_said);
    fails(Bug::SkipChecksum, damage::damage_in_an_older_group_stops_its_scope_alone);
}

#[test]
fn damage_that_is_taken_for_the_end_is_found() {
    fails(Bug::DamageIsTheEnd, damage::damage_in_an_older_group_stops_its_scope_alone);
    fails(Bug::DamageIsTheEnd, damage::a_damaged_head_keeps_the_store_closed);
}
