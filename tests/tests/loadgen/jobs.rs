//! Durable batches: every accepted job ends once, over a broker that is killed too.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use super::*;

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
fn jobs_stay_where_they_are_to_stay() {
    let served = Served::start(&[]);
    let flags = "--operation job --batch-items 5 --in-flight 1 --keep-jobs";
    short(&served, "run", flags).ends_with(exit::OK);
    let left = served.operate(&["job", "list", "--tenant", "acme", "--output", "json"]);
    assert!(left.ends_with(0).json()["items"].as_array().is_some_and(|jobs| !jobs.is_empty()));
}

#[test]
fn a_broker_that_is_killed_meanwhile_loses_no_job() {
    let (report, told, passed) = killed_meanwhile("60s", |_| {});
    let wrong = &report["total"]["wrong"];
    let sum: u64 = wrong.as_object().expect("counts").values().map(number).sum();
    assert_eq!(sum, 0, "{wrong}: {told:?}");
    assert!(passed, "{told:?}");
}

#[test]
fn a_broker_that_forgets_what_it_accepted_is_found_out() {
    // The authority stays, so that clients come back; all else is gone.
    let forget = |data: &Path| {
        for entry in fs::read_dir(data).expect("data").map(|e| e.expect("an entry").path()) {
            match entry.is_dir() {
                true if entry.ends_with("dev-ca") => {}
                true => fs::remove_dir_all(entry).expect("removed"),
                false => fs::remove_file(entry).expect("removed"),
            }
        }
    };
    let (report, told, passed) = killed_meanwhile("5s", forget);
    assert!(number(&report["total"]["wrong"]["lost"]) > 0, "{told:?}");
    assert!(!passed && told.iter().any(|line| line.contains("jobs lost")), "{told:?}");
}

/// Kills the broker while durable batches are under way, does something to its data, and starts it
/// again; the report, what was told meanwhile, and whether it passed.
fn killed_meanwhile(drain: &str, between: impl Fn(&Path)) -> (Value, Vec<String>, bool) {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["run", "--certs", &acme]);
    let flags = "--operation job --recipe delay --payload {\"ms\":100} --batch-items 10 \
                 --in-flight 4 --duration 3s --warm-up 0s --progress plain --output json --drain";
    c.args(flags.split_whitespace()).arg(drain).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = c.spawn().expect("it runs");
    let mut seen = BufReader::new(child.stderr.take().expect("piped")).lines();
    let busy = seen.by_ref().map_while(Result::ok).find(|line| line.contains("measuring"));
    assert!(busy.is_some(), "it makes load");
    let listen = served.addr.to_string();
    let dir = served.kill();
    between(&dir.path().join("data"));
    let served = Served::start_in(dir, &listen, &[]);
    let rest = std::thread::spawn(move || seen.map_while(Result::ok).collect::<Vec<_>>());
    let mut stdout = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    let status = child.wait().expect("it ends");
    let told = rest.join().expect("read");
    let report = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {told:?}"));
    drop(served);
    (report, told, status.success())
}
