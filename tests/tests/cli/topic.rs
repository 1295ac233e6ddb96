//! `tollgate topic`, `group`, `binding`, `produce` and `consume`: what they print, ask and end with.

use std::{
    fs,
    time::{Duration, Instant},
};

use tollgate_tests::{
    SOON,
    process::{Ran, Served, run_with},
};

use super::{exit, says};

fn acme(served: &Served, args: &[&str]) -> Ran {
    served.operate(&[args, &["--tenant", "acme"]].concat())
}

#[test]
fn messages_go_in_and_come_out() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    let made = acme(&served, &["topic", "create", "orders", "--partitions", "2"]);
    assert_eq!(made.ends_with(exit::OK).stdout.trim(), "created orders");
    says(&acme(&served, &["topic", "create", "orders"]).ends_with(exit::FAILURE), &["CONFLICT"]);
    let args = ["produce", "orders", "--message", "hello", "--message", "world", "--key", "k"];
    let produced = served.run(&certs, &args).ends_with(exit::OK).stdout;
    assert!(produced.starts_with("appended 2 messages"), "{produced}");
    let mut command = served.command(&certs);
    command.args(["produce", "orders", "--input", "-", "--key-separator", "|", "--output", "json"]);
    let lines = run_with(&mut command, "a|{\"n\":1}\nb|two\n").ends_with(exit::OK).json_lines();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["offset"].is_u64()), "{lines:?}");
    let args = ["consume", "orders", "--from", "earliest", "--until-end", "--output", "json"];
    let messages = served.run(&certs, &args).ends_with(exit::OK).json_lines();
    assert_eq!(messages.len(), 4);
    let with =
        |key: &str, value: serde_json::Value| messages.iter().any(|message| message[key] == value);
    assert!(with("payload", serde_json::json!({ "n": 1 })), "{messages:?}");
    assert!(with("payload_text", "two".into()) && with("key", "b".into()), "{messages:?}");
    let args = ["consume", "orders", "--from", "earliest", "--until-end"];
    let table = served.run(&certs, &args).ends_with(exit::OK).stdout;
    assert!(table.contains("k  hello"), "{table}");
    let shown = acme(&served, &["topic", "show", "orders"]).ends_with(exit::OK).stdout;
    assert!(shown.contains("PARTITION") && shown.contains("as the quota says"), "{shown}");
    let listed = acme(&served, &["topic", "list"]).ends_with(exit::OK).stdout;
    assert!(listed.contains("orders") && listed.contains("MESSAGES"), "{listed}");
    let args = ["topic", "update", "orders", "--retain-for", "12h", "--retain-bytes", "1000000"];
    let kept = acme(&served, &args).ends_with(exit::OK).stdout;
    assert!(kept.contains("a partition"), "{kept}");
    let refused = acme(&served, &["topic", "delete", "orders"]).ends_with(exit::USAGE);
    says(&refused, &["nothing was done", "--yes"]);
    acme(&served, &["topic", "delete", "orders", "--yes"]).ends_with(exit::OK);
    says(&acme(&served, &["topic", "show", "orders"]).ends_with(exit::FAILURE), &["NOT_FOUND"]);
    let gone = served.run(&certs, &["produce", "orders", "--message", "x"]);
    says(&gone.ends_with(exit::FAILURE), &["there is no such topic"]);
}

#[test]
fn a_group_goes_on_where_it_was() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    acme(&served, &["topic", "create", "t"]).ends_with(exit::OK);
    let file = served.dir.path().join("lines.txt");
    fs::write(&file, "1\n2\n3\n4\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    served.run(&certs, &["produce", "t", "--input", path]).ends_with(exit::OK);
    let consume = |more: &[&str]| {
        let args = ["consume", "t", "--group", "g", "--from", "earliest", "--output", "json"];
        let ran = served.run(&certs, &[&args[..], more].concat()).ends_with(exit::OK);
        ran.json_lines().iter().map(|m| m["payload"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(consume(&["--limit", "3"]), [1, 2, 3]);
    let shown = acme(&served, &["group", "show", "t", "g"]).ends_with(exit::OK).stdout;
    assert!(shown.contains("POSITION") && shown.contains("lag"), "{shown}");
    assert_eq!(consume(&["--until-end"]), [4]);
    let args = ["group", "reset", "t", "g", "--offset", "1"];
    acme(&served, &args).ends_with(exit::OK);
    assert_eq!(consume(&["--until-end"]), [2, 3, 4]);
    let listed = acme(&served, &["group", "list"]).ends_with(exit::OK).stdout;
    assert!(listed.contains("LAG"), "{listed}");
    let refused = acme(&served, &["group", "delete", "t", "g"]).ends_with(exit::USAGE);
    says(&refused, &["--yes"]);
    acme(&served, &["group", "delete", "t", "g", "--yes"]).ends_with(exit::OK);
    says(&acme(&served, &["group", "show", "t", "g"]).ends_with(exit::FAILURE), &["NOT_FOUND"]);
}

#[test]
fn a_binding_runs_a_recipe_for_each_message() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    acme(&served, &["topic", "create", "t"]).ends_with(exit::OK);
    for message in ["1", "2", "3"] {
        served.run(&certs, &["produce", "t", "--message", message]).ends_with(exit::OK);
    }
    let create = ["binding", "create", "t", "b", "--recipe", "echo"];
    acme(&served, &create).ends_with(exit::OK);
    let state = || {
        let ran = acme(&served, &["binding", "show", "t", "b", "--output", "json"]);
        let shown = ran.ends_with(exit::OK).json();
        (shown["lag"].as_u64(), shown["in_flight"].as_u64())
    };
    let deadline = Instant::now() + SOON;
    while state() != (Some(0), Some(0)) {
        assert!(Instant::now() < deadline, "it never was done: {:?}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
    let listed = acme(&served, &["binding", "list", "--topic", "t"]).ends_with(exit::OK).stdout;
    assert!(listed.contains("echo") && listed.contains("RECIPE"), "{listed}");
    let other = ["binding", "create", "t", "b", "--recipe", "sha256"];
    says(&acme(&served, &other).ends_with(exit::FAILURE), &["CONFLICT"]);
    let refused = acme(&served, &["binding", "delete", "t", "b"]).ends_with(exit::USAGE);
    says(&refused, &["--yes"]);
    acme(&served, &["binding", "delete", "t", "b", "--yes"]).ends_with(exit::OK);
    says(&acme(&served, &["binding", "show", "t", "b"]).ends_with(exit::FAILURE), &["NOT_FOUND"]);
    // Its group stays, where it was.
    acme(&served, &["group", "show", "t", "b"]).ends_with(exit::OK);
}

#[test]
fn a_line_that_can_not_be_sent_is_refused_alone_and_named() {
    let served = Served::start(&[]);
    let certs = served.issue(&["--tenant", "acme"]);
    acme(&served, &["topic", "create", "t"]).ends_with(exit::OK);
    let file = served.dir.path().join("lines.txt");
    let large = "x".repeat(1_100_000);
    fs::write(&file, format!("a|1\nnosep\nb|{large}\nc|\n")).expect("written");
    let path = file.to_str().expect("UTF-8");
    let args = ["produce", "t", "--input", path, "--key-separator", "|", "--output", "json"];
    let lines = served.run(&certs, &args).ends_with(exit::FAILURE).json_lines();
    let told = |n: u32| {
        let source = format!("{path}:{n}");
        let line = lines.iter().find(|line| line["source"] == source).expect("it is told of");
        (line["offset"].as_u64(), line["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(told(1), (Some(0), String::new()));
    assert_eq!(told(2), (None, "VALIDATION_ERROR".to_owned()));
    assert_eq!(told(3), (None, "FRAME_TOO_LARGE".to_owned()));
    assert_eq!(told(4), (Some(1), String::new()));
    let args = ["produce", "t", "--input", path, "--key-separator", "|"];
    let ran = served.run(&certs, &args).ends_with(exit::FAILURE);
    assert!(ran.stdout.contains("appended 2 messages"), "{}", ran.stdout);
    assert!(ran.stderr.contains(&format!("{path}:2: VALIDATION_ERROR")), "{}", ran.stderr);
}
