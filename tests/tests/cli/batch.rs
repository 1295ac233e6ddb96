//! `tollgate batch run`: where items come from, how results look, how it ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tollgate_tests::process::{Served, run_with};

use super::{directory, exit, nobody, says, write};

/// The lines of an event.
fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["event"] == event).collect()
}

#[test]
fn lines_files_texts_and_elements_are_items() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let dir = served.dir.path();
    write(dir, "lines", "one\n\ntwo\r\n");
    write(dir, "a.txt", "whole\nfile\n");
    write(dir, "doc.json", r#"{"a": {"list": [1.50, {"k": "v"}, "s"]}}"#);
    let payloads = |args: &[&str], stdin: &str| {
        let common = ["batch", "run", "--recipe", "echo", "--output", "json"];
        let order = ["--order", "submission"];
        let mut command = served.command(&acme);
        let ran = run_with(command.args(common).args(order).args(args), stdin).ends_with(exit::OK);
        let lines = ran.json_lines();
        let summary = of(&lines, "summary")[0].clone();
        let results = of(&lines, "result");
        assert_eq!(summary["succeeded"].as_u64(), Some(results.len() as u64));
        assert_eq!(lines.last(), Some(&summary), "the summary comes last");
        let payload = |r: &&Value| match &r["payload"] {
            Value::Null => r["payload_text"].clone(),
            json => json.clone(),
        };
        results.iter().map(payload).collect::<Vec<_>>()
    };
    assert_eq!(payloads(&["--payload", "x", "--payload", "y"], ""), [json!("x"), json!("y")]);
    assert_eq!(payloads(&["--input", "lines"], ""), [json!("one"), json!("two")]);
    assert_eq!(payloads(&["--input", "-"], "1\n2\n3"), [json!(1), json!(2), json!(3)]);
    assert_eq!(payloads(&["--file", "a.txt", "a.txt"], "").len(), 2);
    let elements = payloads(&["--input", "doc.json", "--field", "/a/list"], "");
    assert_eq!(elements, [json!(1.5), json!({"k": "v"}), json!("s")]);
}

#[test]
fn an_item_that_fails_is_its_own_line_and_the_end_is_1() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let args = ["batch", "run", "--recipe", "json.validate", "--output", "json"];
    let good = r#"{"schema": {}, "value": 1}"#;
    let ran =
        served.run(&acme, &[&args[..], &["--payload", good, "--payload", "nonsense"]].concat());
    let lines = ran.ends_with(exit::FAILURE).json_lines();
    let codes: Vec<_> = of(&lines, "result").iter().map(|l| l["code"].clone()).collect();
    assert!(
        codes.contains(&json!("OK")) && codes.contains(&json!("VALIDATION_ERROR")),
        "{codes:?}"
    );
    assert_eq!(of(&lines, "summary")[0]["failed"], json!({"VALIDATION_ERROR": 1}));

    // A recipe that panics is no more than that, and one that is not there neither.
    for (recipe, code) in [("panic", "PANIC"), ("no.such", "RECIPE_NOT_FOUND")] {
        let ran = served.run(&acme, &["batch", "run", "--recipe", recipe, "--payload", "x"]);
        let ran = ran.ends_with(exit::FAILURE);
        assert!(ran.stdout.contains(code), "{}", ran.stdout);
        says(&ran, &["1 failed"]);
    }
    // A file that cannot be read is that item's failure too.
    write(served.dir.path(), "there", "x");
    let files = ["batch", "run", "--recipe", "echo", "--file", "missing", "there"];
    let ran = served.run(&acme, &files).ends_with(exit::FAILURE);
    assert!(ran.stdout.contains("UNREADABLE"), "{}", ran.stdout);
    says(&ran, &["1 of 2 items succeeded"]);
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let cases: &[(&[&str], &str)] = &[
        (&["--recipe", "echo"], "--input"),
        (&["--payload", "x"], "--recipe"),
        (&["--recipe", "echo", "--payload", "x", "--file", "y"], "--file"),
        (&["--recipe", "echo", "--payload", "x", "--priority", "8"], "--priority"),
        (&["--recipe", "echo", "--payload", "x", "--deadline", "soon"], "--deadline"),
        (&["--recipe", "echo", "--payload", "x", "--addr", "a b"], "--addr"),
        (&["--recipe", "echo", "--payload", "x", "--certs", "nowhere"], "nowhere"),
    ];
    for (args, part) in cases {
        let ran = served.run(&acme, &[&["batch", "run"], *args].concat()).ends_with(exit::USAGE);
        says(&ran, &[part]);
    }
}

#[test]
fn no_broker_ends_with_4() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let nobody = nobody();
    let args = ["batch", "run", "--recipe", "echo", "--payload", "x", "--addr", &nobody];
    let args = [&args[..], &["--connect-timeout", "500ms"]].concat();
    says(&served.run(&acme, &args).ends_with(exit::UNREACHABLE), &[&nobody, "no answer within"]);
    let json = [&args[..], &["--output", "json"]].concat();
    let ran = served.run(&acme, &json).ends_with(exit::UNREACHABLE);
    let error: Value = serde_json::from_str(&ran.stderr).expect("an error is JSON too");
    assert_eq!(error["exit_code"], 4);
}

#[test]
fn no_way_in_ends_with_5() {
    let served = Served::start(&[]);
    let echo = ["batch", "run", "--recipe", "echo", "--payload", "x"];
    let cases: &[(&[&str], &str)] = &[
        (&["--tenant", "nobody"], "TENANT_UNKNOWN"),
        (&["--tenant", "acme", "--role", "worker"], "FORBIDDEN"),
        (&["--role", "operator", "--name", "root"], "FORBIDDEN"),
    ];
    for (holder, code) in cases {
        let certs = served.issue(holder);
        says(&served.run(&certs, &echo).ends_with(exit::UNAUTHORISED), &[code]);
    }
    // A name that the broker's certificate does not have: this side refuses.
    let acme = served.issue(&["--tenant", "acme"]);
    let named = [&echo[..], &["--server-name", "broker.example.org"]].concat();
    let ran = served.run(&acme, &named).ends_with(exit::UNAUTHORISED);
    says(&ran, &["the broker's certificate is not trusted"]);
}

#[test]
fn a_quota_that_refuses_the_batch_ends_with_6() {
    let dir = directory();
    let profiles = "[tenancy.profiles]\nnone = { connections = 0 }\n\
                    idle = { batches_in_flight = 0 }\nfew = { batch_items = 1 }\n";
    write(dir.path(), "tollgate.toml", profiles);
    let tenants = ["none=none", "idle=idle", "few=few"].map(|t| ["--tenant", t]);
    let served = Served::start_in(dir, "127.0.0.1:0", &tenants.concat());
    let run = |tenant: &str| {
        let certs = served.issue(&["--tenant", tenant]);
        let echo = ["batch", "run", "--recipe", "echo", "--payload", "x", "--payload", "y"];
        served.run(&certs, &echo)
    };
    says(&run("none").ends_with(exit::QUOTA), &["connections"]);
    says(&run("idle").ends_with(exit::QUOTA), &["batches_in_flight"]);
    // One item beyond a quota is that item's failure.
    let ran = run("few").ends_with(exit::FAILURE);
    assert!(ran.stdout.contains("BATCH_TOO_LARGE"), "{}", ran.stdout);
}

#[test]
fn what_came_over_the_wire_cannot_steer_a_terminal() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let hostile = "a\u{1b}]0;title\u{7}b\u{202e}c";
    let echo = ["batch", "run", "--recipe", "echo", "--payload", hostile];
    let shown = served.run(&acme, &echo).ends_with(exit::OK).stdout;
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
    // In JSON it is all there, escaped.
    let json = served.run(&acme, &[&echo[..], &["--output", "json"]].concat()).ends_with(exit::OK);
    assert_eq!(json.json_lines()[0]["payload_text"], hostile);
    assert!(!json.stdout.contains('\u{1b}'), "{:?}", json.stdout);
}

/// A batch that runs, and what it has told up to the first line that has this in it.
fn running(
    served: &Served,
    certs: &str,
    args: &[&str],
    until: &str,
) -> (Child, BufReader<ChildStdout>) {
    let mut command = served.command(certs);
    command.args(["batch", "run", "--output", "json"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    // More than the broker reads now; the command may end before all of it is taken.
    std::thread::spawn(move || {
        for n in 0..100_000 {
            if writeln!(stdin, "{n}").is_err() {
                return;
            }
        }
    });
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(until) {
        line.clear();
        assert!(out.read_line(&mut line).expect("readable") > 0, "it ended before {until}");
    }
    (child, out)
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill is there");
    assert!(sent.success());
}

#[test]
fn an_interrupted_batch_ends_at_once_although_it_is_paced() {
    let dir = directory();
    write(dir.path(), "tollgate.toml", "[tenancy.profiles]\nslow = { requests_per_second = 2 }\n");
    let served = Served::start_in(dir, "127.0.0.1:0", &["--tenant", "slow=slow"]);
    let slow = served.issue(&["--tenant", "slow"]);
    let (mut child, out) =
        running(&served, &slow, &["--recipe", "echo", "--input", "-"], "\"throttled\"");
    interrupt(&child);
    let last = out.lines().map(|line| line.expect("readable")).last().expect("a summary");
    let summary: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&summary["event"], &summary["ended"]), (&json!("summary"), &json!("cancelled")));
    assert!(summary["not_run"].as_u64() > Some(0), "{summary}");
    assert_eq!(child.wait().expect("it ends").code(), Some(exit::FAILURE));
}

#[test]
fn interrupted_twice_what_runs_is_not_waited_for() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let args = ["--recipe", "delay", "--payload", r#"{"ms": 600000, "steps": 1}"#];
    let quick = ["--payload", r#"{"ms": 0, "steps": 1}"#];
    let (mut child, out) = running(&served, &acme, &[&args[..], &quick].concat(), "\"result\"");
    let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
    for part in ["has not started", "cancelled"] {
        interrupt(&child);
        let line = said.next().expect("a word").expect("readable");
        assert!(line.contains(part), "{line}");
    }
    let last = out.lines().map(|line| line.expect("readable")).last().expect("a summary");
    let summary: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&summary["not_run"], &summary["ended"]), (&json!(1), &Value::Null), "{summary}");
    assert_eq!(child.wait().expect("it ends").code(), Some(exit::FAILURE));
}

#[test]
fn results_that_nobody_reads_are_no_success() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let args = ["--recipe", "echo", "--input", "-"];
    let (mut child, out) = running(&served, &acme, &args, "\"result\"");
    drop(out);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(exit::FAILURE));
}
