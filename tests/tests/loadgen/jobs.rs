//! Durable batches: every accepted job ends once, over a broker that is killed too.

use super::{
    meanwhile::{Meanwhile, killed},
    *,
};

#[test]
fn jobs_are_accepted_end_once_and_are_forgotten() {
    let served = Served::start(&[]);
    let flags = "--operation job --batch-items 5 --in-flight 2 --audit-batches 3 --output json \
                 --duration 2s";
    let report = short(&served, "run", flags).ends_with(exit::OK).json();
    let tenant = &report["phases"][0]["tenants"][0];
    let items = number(&tenant["items_succeeded"]);
    assert!(items > 0 && number(&tenant["jobs_accepted"]) == items, "{tenant}");
    assert_eq!(number(&tenant["accepted_latency"]["count"]), items);
    let reread = &tenant["reread"];
    assert_eq!((number(&reread["batches_audited"]), number(&reread["jobs_audited"])), (3, 15));
    assert!(number(&reread["jobs_purged"]) >= items && number(&reread["batches_left"]) == 0);
    let left = served.operate(&["job", "list", "--tenant", "acme", "--output", "json"]);
    assert_eq!(left.ends_with(0).json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn jobs_of_a_run_that_is_interrupted_are_forgotten_too() {
    let served = Served::start(&[]);
    let flags = "--operation job --in-flight 4 --batch-items 10 --duration 1h";
    let came = Meanwhile::start(&served, flags).interrupt();
    came.is_good();
    assert_eq!(number(&came.report["operations_given_up"]), 0);
    let left = served.operate(&["job", "list", "--tenant", "acme", "--output", "json"]);
    assert_eq!(left.ends_with(0).json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn jobs_that_run_when_a_run_is_interrupted_are_cancelled_and_forgotten() {
    let served = Served::start(&[]);
    let flags = "--operation job --recipe delay --payload {\"ms\":60000} --batch-items 2 \
                 --batches-per-second 10 --duration 1h";
    let came = Meanwhile::start(&served, flags).interrupt();
    came.is_good();
    assert!(number(&came.report["operations_given_up"]) > 0, "{:?}", came.told);
    let left = served.operate(&["job", "list", "--tenant", "acme", "--output", "json"]);
    assert_eq!(left.ends_with(0).json()["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn jobs_stay_where_they_are_to_stay() {
    let served = Served::start(&[]);
    let flags = "--operation job --batch-items 5 --in-flight 1 --keep-jobs";
    short(&served, "run", flags).ends_with(exit::OK);
    let left = served.operate(&["job", "list", "--tenant", "acme", "--output", "json"]);
    assert!(left.ends_with(0).json()["items"].as_array().is_some_and(|jobs| !jobs.is_empty()));
}

/// Durable batches that begin one after the other: at any time some have jobs that have not ended.
const SLOW: &str = "--operation job --recipe delay --payload {\"ms\":300} --batch-items 10 \
                    --batches-per-second 20 --duration 3s --drain";

#[test]
fn a_broker_that_is_killed_meanwhile_loses_no_job() {
    killed(&format!("{SLOW} 60s"), |_| {}).is_good();
}

#[test]
fn a_broker_that_forgets_what_it_accepted_is_found_out() {
    let came = killed(&format!("{SLOW} 5s"), forget);
    assert!(came.wrong("lost") > 0, "{:?}", came.told);
    came.failed("jobs lost");
}

/// The authority stays, so that clients come back; all else is gone.
fn forget(data: &Path) {
    for entry in fs::read_dir(data).expect("data").map(|e| e.expect("an entry").path()) {
        match entry.is_dir() {
            true if entry.ends_with("dev-ca") => {}
            true => fs::remove_dir_all(entry).expect("removed"),
            false => fs::remove_file(entry).expect("removed"),
        }
    }
}
