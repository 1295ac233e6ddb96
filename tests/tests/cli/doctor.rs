//! `tollgate doctor`: what it finds, and how it ends.

use tollgate_tests::process::{Ran, Served, run};

use super::{directory, exit, nobody, write};

/// The verdict on one check.
fn verdict(ran: &Ran, check: &str) -> Option<String> {
    let json = ran.json();
    let findings = json["findings"].as_array().expect("findings").clone();
    let finding = findings.into_iter().rfind(|f| f["check"] == check)?;
    finding["verdict"].as_str().map(str::to_owned)
}

#[test]
fn a_broker_that_is_well() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let table = served.run(&acme, &["doctor"]).ends_with(exit::OK).stdout;
    assert!(table.contains("lets us in"), "{table}");
    let json = served.run(&acme, &["doctor", "--output", "json"]).ends_with(exit::OK);
    assert_eq!(json.json()["well"], true);
    for check in ["address", "udp", "broker", "limits"] {
        assert_eq!(verdict(&json, check).as_deref(), Some("good"), "{check}: {}", json.stdout);
    }
    // Without a certificate of one's own there is less to find out, and nothing wrong.
    let addr = served.addr.to_string();
    run(served.dir.path(), ["doctor", &addr]).ends_with(exit::OK);
}

#[test]
fn a_broker_that_is_not_there() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let nobody = nobody();
    let doctor = ["doctor", &nobody, "--timeout", "500ms", "--output", "json"];
    let ran = served.run(&acme, &doctor).ends_with(exit::UNREACHABLE);
    assert_eq!(verdict(&ran, "udp").as_deref(), Some("bad"), "{}", ran.stdout);
    let ran = served.run(&acme, &["doctor", "no-such-host.invalid", "--output", "json"]);
    assert_eq!(verdict(&ran.ends_with(exit::UNREACHABLE), "address").as_deref(), Some("bad"));
}

#[test]
fn a_broker_that_does_not_let_us_in() {
    let served = Served::start(&[]);
    let stranger = served.issue(&["--tenant", "stranger"]);
    let ran = served.run(&stranger, &["doctor", "--output", "json"]).ends_with(exit::UNAUTHORISED);
    assert_eq!(verdict(&ran, "broker").as_deref(), Some("bad"), "{}", ran.stdout);
    assert!(ran.stdout.contains("TENANT_UNKNOWN"), "{}", ran.stdout);

    // Another authority: this side does not trust the broker, and the broker not this side.
    let foreign = ["cert", "init", "--dir", "foreign"];
    run(served.dir.path(), foreign).ends_with(exit::OK);
    let issue = ["cert", "issue", "--ca", "foreign", "--tenant", "acme", "--out", "out"];
    run(served.dir.path(), issue).ends_with(exit::OK);
    let ran = served.run("out", &["doctor", "--output", "json"]).ends_with(exit::UNAUTHORISED);
    assert_eq!(ran.json()["well"], false);
    // The broker's roots, but a certificate that it does not know.
    std::fs::copy(
        served.dir.path().join("data/dev-ca/ca.pem"),
        served.dir.path().join("out/ca.pem"),
    )
    .expect("copied");
    let ran = served.run("out", &["doctor"]).ends_with(exit::UNAUTHORISED);
    assert!(ran.stdout.contains("it does not work"), "{}", ran.stdout);
}

#[test]
fn a_quota_that_is_used_up() {
    let dir = directory();
    write(dir.path(), "tollgate.toml", "[tenancy.profiles.default]\nconnections = 0\n");
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let ran = served.run(&acme, &["doctor"]).ends_with(exit::QUOTA);
    assert!(ran.stdout.contains("connections"), "{}", ran.stdout);
}
