//! Connections by the hundred, and what becomes of them.

use super::*;

#[test]
fn connections_are_opened_at_a_rate_and_timed() {
    let served = Served::start(&[]);
    let ran = short(&served, "storm", "--per-second 50 --output json").ends_with(exit::OK);
    let tenant = &ran.json()["phases"][0]["tenants"][0];
    assert_eq!((number(&tenant["operations"]), number(&tenant["items_succeeded"])), (20, 20));
    assert_eq!(tenant["operation"], "connect");
    assert_eq!(number(&tenant["latency"]["count"]), 20);
}

#[test]
fn refusals_are_counted_by_their_code() {
    let served = Served::start(&[]);
    served.operate(&["tenant", "update", "acme", "--quota", "connections=3"]).ends_with(0);
    let flags = "--at-once 8 --hold 5s";
    let ran = short(&served, "storm", flags).ends_with(exit::FAILURE);
    says(&ran, &["× QUOTA_EXCEEDED"]);
    let allowed = format!("{flags} --allow-error QUOTA_EXCEEDED --output json");
    let report = short(&served, "storm", &allowed).ends_with(exit::OK).json();
    let tenant = &report["phases"][0]["tenants"][0];
    // Those of the run before are closed; each of the eight tries until the end, and three hold.
    assert!(number(&tenant["errors"]["QUOTA_EXCEEDED"]) > 0, "{tenant}");
    assert!(number(&tenant["items_succeeded"]) <= 3, "{tenant}");
}

#[test]
fn a_connection_that_the_broker_ends_while_it_is_held_is_an_error() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["storm", "--certs", &acme]);
    c.args("--at-once 2 --hold 60s --duration 8s --warm-up 0s --drain 5s --output json".split(' '));
    let held = std::thread::spawn(move || run_with(&mut c, ""));
    // Both are there; then the tenant is not.
    let two = || {
        let list = served.operate(&["connection", "list", "--output", "json"]).stdout;
        list.matches("\"acme\"").count() >= 2
    };
    assert!((0..2_000).any(|_| two()), "two connections are held");
    served.operate(&["tenant", "suspend", "acme"]).ends_with(0);
    let ran = held.join().expect("it ran").ends_with(exit::FAILURE);
    says(&ran, &["LOST_WHILE_HELD_"]);
}
