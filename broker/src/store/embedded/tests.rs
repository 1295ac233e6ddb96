use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Config, Embedded,
    disk::Disk,
    plant::{Bug, Planted},
};
use crate::store::{Backend, Store};

mod crash;
mod damage;
mod faults;
mod sim;

/// A simulated disk, for suites that know nothing of this back end.
pub(in crate::store) struct Simulated(sim::SimDisk);

impl Simulated {
    pub(in crate::store) fn new() -> Simulated {
        Simulated(sim::SimDisk::new())
    }

    /// Opens the store on it, again.
    pub(in crate::store) fn open(&self, config: &Config) -> Store {
        let disk: Arc<dyn Disk> = Arc::new(self.0.clone());
        let embedded = Embedded::open_on(&disk, config, None).expect("opens");
        Store { backend: Backend::Embedded(Arc::new(embedded)) }
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
