//! The load generator, through its real binary and against real brokers: what it counts, what it
//! finds wrong, what it writes, how it ends.
//!
//! Nothing here judges a time, but for lower bounds that follow from what was asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tollgate_tests::process::{Ran, Served, binary, run_with};

#[path = "loadgen/docs.rs"]
mod docs;
#[path = "loadgen/jobs.rs"]
mod jobs;
#[path = "loadgen/meanwhile.rs"]
mod meanwhile;
#[path = "loadgen/mistakes.rs"]
mod mistakes;
#[path = "loadgen/reports.rs"]
mod reports;
#[path = "loadgen/scenarios.rs"]
mod scenarios;
#[path = "loadgen/storms.rs"]
mod storms;
#[path = "loadgen/topics.rs"]
mod topics;

/// The exit codes that the help documents.
mod exit {
    pub const OK: i32 = 0;
    pub const FAILURE: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const THRESHOLD: i32 = 3;
    pub const UNREACHABLE: i32 = 4;
    pub const UNAUTHORISED: i32 = 5;
    pub const QUOTA: i32 = 6;
}

/// The binary, to be run in a directory.
fn loadgen(dir: &Path) -> Command {
    let path: PathBuf = binary().with_file_name("tollgate-loadgen");
    assert!(path.exists(), "{} is missing: cargo build -p tollgate-loadgen", path.display());
    let mut command = Command::new(path);
    command.current_dir(dir).env_remove("TOLLGATE_ADDR");
    command
}

/// A short run as `acme`.
fn short(served: &Served, command: &str, flags: &str) -> Ran {
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args([command, "--certs", &acme]);
    for (flag, value) in [("--duration", "400ms"), ("--warm-up", "50ms")] {
        if !flags.contains(flag) {
            c.args([flag, value]);
        }
    }
    run_with(c.args(flags.split_whitespace()), "")
}

/// A scenario, run; its certificates are in the broker's directory.
fn scenario(served: &Served, text: &str, flags: &str) -> Ran {
    fs::write(served.dir.path().join("s.toml"), text).expect("written");
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["run", "s.toml"]);
    run_with(c.args(flags.split_whitespace()), "")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Shows that people are told all of this.
#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(part), "{all} does not say {part:?}");
    }
}

#[test]
fn a_closed_loop_is_answered_and_counted() {
    let served = Served::start(&[]);
    let ran = short(&served, "run", "--in-flight 2 --batch-items 10 --output json");
    assert!(ran.stderr.is_empty(), "nothing is seen on a pipe: {}", ran.stderr);
    let report = ran.ends_with(exit::OK).json();
    let total = &report["phases"][0]["total"];
    let (batches, items) = (number(&total["operations"]), number(&total["items_succeeded"]));
    assert!(batches > 0 && items == batches * 10, "{total}");
    assert_eq!(number(&total["latency"]["count"]), batches);
    assert_eq!(number(&total["item_latency"]["count"]), items);
    assert_eq!((report["passed"].as_bool(), number(&report["report_version"])), (Some(true), 2));
    let points = report["timeline"]["points"].as_array().expect("a course");
    let over_time: u64 = points.iter().map(|p| number(&p["items"][0])).sum();
    assert!(over_time >= items, "{over_time} of {items}");
}

#[test]
fn an_open_loop_sends_what_is_due_and_counts_from_when_it_was() {
    let served = Served::start(&[]);
    // Each takes 100 ms, one is due every 50 ms, and only one may be under way: the last of ten
    // waits for the others.
    let flags = "--recipe delay --payload {\"ms\":100} --batch-items 1 --batches-per-second 20 \
                 --in-flight 1 --output json --duration 500ms --warm-up 0s";
    let report = short(&served, "run", flags).ends_with(exit::OK).json();
    let total = &report["total"];
    assert_eq!(number(&total["operations"]), 10);
    let max_ms = total["latency"]["max_us"].as_f64().expect("a latency") / 1e3;
    assert!(max_ms >= 10.0 * 100.0 - 9.0 * 50.0, "{max_ms} ms hides the wait");
}

#[test]
fn what_was_due_and_found_no_room_fails_the_run_unless_it_may() {
    let served = Served::start(&[]);
    let flags = "--recipe delay --payload {\"ms\":50} --batch-items 1 --batches-per-second 100 \
                 --in-flight 1 --drain 400ms --warm-up 0s";
    let ran = short(&served, "run", flags).ends_with(exit::THRESHOLD);
    says(&ran, &["rate was not kept up", "never sent"]);
    let allowed = format!("{flags} --allow-not-sent");
    says(&short(&served, "run", &allowed).ends_with(exit::OK), &["never sent"]);
}

#[test]
fn errors_are_named_and_fail_the_run_unless_they_are_allowed() {
    let served = Served::start(&[]);
    let flags = "--recipe no.such --batch-items 3 --in-flight 1";
    let ran = short(&served, "run", flags).ends_with(exit::FAILURE);
    says(&ran, &["RECIPE_NOT_FOUND", "allow_errors", "FAILED"]);
    let allowed = format!("{flags} --allow-error RECIPE_NOT_FOUND");
    says(&short(&served, "run", &allowed).ends_with(exit::OK), &["× RECIPE_NOT_FOUND", "passed"]);
}

#[test]
fn a_quota_that_bites_is_said_to_bite() {
    let served = Served::start(&[]);
    served
        .operate(&[
            "tenant",
            "update",
            "acme",
            "--quota",
            "requests_per_second=50",
            "--policy",
            "reject",
        ])
        .ends_with(0);
    let ran = short(&served, "run", "--batch-items 10 --in-flight 4").ends_with(exit::FAILURE);
    says(&ran, &["RATE_LIMITED", "its quotas are lower than this load"]);
}

#[test]
fn progress_is_told_line_by_line_where_it_is_asked_for() {
    let served = Served::start(&[]);
    let ran = short(&served, "run", "--progress plain --in-flight 1 --duration 3s");
    says(&ran.ends_with(exit::OK), &["measuring: ", " items/s, p99 "]);
}

#[test]
fn recipes_sizes_and_batches_vary_as_the_scenario_says() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let text = format!(
        "duration = \"1s\"\nwarm_up = \"0s\"\n[[tenants]]\ncerts = {acme:?}\nin_flight = 2\n\
         batch_items = \"1..9\"\nconnections = 2\npayload_bytes = \"0:1,5000:1,100:2\"\n\
         recipes = [{{ name = \"echo\", weight = 3 }}, \
         {{ name = \"sha256\", payload = \"x\", check = \"same\" }}, \
         {{ name = \"fail\", payload = \"{{}}\" }}]\nallow_errors = [\"RECIPE_EXECUTION\"]"
    );
    let report = scenario(&served, &text, "--output json").ends_with(exit::OK).json();
    let total = &report["total"];
    let [batches, good, bad] =
        ["operations", "items_succeeded", "items_failed"].map(|key| number(&total[key]));
    let items = good + bad;
    assert!(items > batches && items < batches * 9, "{batches} batches, {items} items");
    // One of five fails, as near as chance has it.
    assert!(bad > 0 && good > 2 * bad, "{good} good, {bad} bad");
    assert_eq!(number(&total["errors"]["RECIPE_EXECUTION"]), bad);
}

#[test]
fn the_highest_rate_is_searched_for_step_by_step() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let find = |flags: &str| {
        let mut c = loadgen(served.dir.path());
        c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["find-max", "--certs", &acme]);
        c.args("--batch-items 5 --window 200ms --warm-up 0s --output json".split(' '));
        run_with(c.args(flags.split_whitespace()), "")
    };
    let found = find("--p99-max-ms 60000 --from 100 --to 350 --out f").ends_with(exit::OK).json();
    let page = fs::read_to_string(served.dir.path().join("f/find-max.html")).expect("written");
    assert!(page.contains("<svg") && page.contains("highest rate with p99"));
    assert_eq!(found["max_items_per_s"].as_f64(), Some(350.0));
    assert_eq!(found["limited_by"], "bound");
    let offered: Vec<_> = found["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|s| s["offered_items_per_s"].as_f64().expect("a rate").round())
        .collect();
    assert_eq!(offered, [100.0, 200.0, 350.0]);
    // No network is as fast as that: no rate does, however low.
    let none = find("--p99-max-ms 0.001 --from 100 --tries 1").ends_with(exit::THRESHOLD).json();
    assert!(none["max_items_per_s"].is_null());
    assert!(none["steps"][0]["why"].as_str().expect("a reason").contains("ms > 0.001 ms"));
}

#[test]
fn a_worker_with_a_set_time_serves_what_is_asked_of_it() {
    let served = Served::start(&[]);
    let worker = served.issue(&["--role", "platform-worker", "--name", "w1"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["worker", "--certs", &worker]);
    let mut child = c.args(["--recipe", "work", "--time", "1ms"]).spawn().expect("it runs");
    // Items for a recipe that nobody serves yet are refused: so the first to be answered waits.
    let ready = (0..2_000).any(|_| {
        let list = served.operate(&["worker", "list", "--output", "json"]).stdout;
        list.contains("work")
    });
    let flags = "--recipe work --check echo --batch-items 4 --in-flight 2";
    let ran = short(&served, "run", flags);
    child.kill().expect("it was there");
    child.wait().expect("it is gone");
    assert!(ready, "the worker registered");
    ran.ends_with(exit::OK);
}
