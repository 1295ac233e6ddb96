//! What a run leaves, and what is made of it.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use super::{meanwhile::Meanwhile, *};

#[test]
fn a_directory_gets_everything_and_reports_compare() {
    let served = Served::start(&[]);
    for out in ["a", "b"] {
        let flags = format!("--in-flight 2 --batch-items 10 --out {out}");
        let ran = short(&served, "run", &flags).ends_with(exit::OK);
        assert_eq!(ran.stderr.trim(), format!("wrote {out}/report.html"));
    }
    let read = |name: &str| fs::read_to_string(served.dir.path().join(name)).expect("written");
    let names = ["a/report.html", "a/report.json"].map(read);
    assert!(names[0].contains("<svg") && names[1].contains("\"report_version\": 2"));
    let hgrm = fs::read_dir(served.dir.path().join("a"))
        .expect("a directory")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".hgrm"))
        .count();
    assert_eq!(hgrm, 2, "of batches and of items");
    let compare = |flags: &str| {
        let mut c = loadgen(served.dir.path());
        run_with(c.args(["compare", "a"]).args(flags.split_whitespace()), "")
    };
    let same = compare("a/report.json --fail-if-slower 0%").ends_with(exit::OK);
    says(&same, &["ok/s", "p99 ms", "1.000", "passed"]);
    let json = compare("b/report.json --output json").ends_with(exit::OK).json();
    let rows = json["rows"].as_array().expect("rows");
    assert!(rows.iter().any(|r| r["figure"] == "p99 ms" && r["ratio"].is_number()));
    // What took twice as long is found out.
    let mut slow: Value = serde_json::from_str(&names[1]).expect("JSON");
    let p99 = &mut slow["phases"][0]["tenants"][0]["latency"]["p99_us"];
    *p99 = (p99.as_f64().expect("a latency") * 2.0).into();
    fs::write(served.dir.path().join("slow.json"), slow.to_string()).expect("written");
    let slower = compare("slow.json --fail-if-slower 50%").ends_with(exit::THRESHOLD);
    says(&slower, &["WORSE", "2.000", "FAILED"]);
    compare("slow.json --fail-if-slower 150%").ends_with(exit::OK);
}

#[test]
fn thresholds_end_with_a_code_of_their_own() {
    let served = Served::start(&[]);
    let ran = short(&served, "run", "--in-flight 1 --p99-max-ms 0.0001");
    says(&ran.ends_with(exit::THRESHOLD), &["p99 of latency is", "at most 0.0001 ms is asked"]);
}

#[test]
fn the_brokers_process_is_watched_where_it_is_known() {
    let served = Served::start(&[]);
    let pid = std::process::id();
    // Any process will do to be watched: this one.
    let flags = format!("--in-flight 1 --broker-pid {pid} --output json");
    let report = short(&served, "run", &flags).ends_with(exit::OK).json();
    assert!(number(&report["phases"][0]["broker_resident_bytes"]) > 1_000_000);
    let generator = &report["generator"];
    assert!(generator["cores_used"].is_number() && generator["reasons"].is_array());
    assert!(number(&generator["loop_lag"]["count"]) > 0, "{generator}");
}

#[test]
fn help_teaches_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let help = |args: &[&str]| run_with(loadgen(dir.path()).args(args), "").ends_with(exit::OK);
    says(&help(&["--help"]), &["run", "find-max", "storm", "compare", "Exit codes: 0 ok"]);
    for command in ["run", "find-max", "storm", "compare", "worker"] {
        says(&help(&[command, "--help"]), &["Examples:", "tollgate-loadgen"]);
    }
    for shell in ["bash", "zsh", "fish"] {
        says(&help(&["completions", shell]), &["tollgate-loadgen", "find-max"]);
    }
}

/// Nothing is under way at most moments: then everybody stops at once.
#[test]
fn whoever_is_interrupted_between_two_operations_says_so() {
    let served = Served::start(&[]);
    for _ in 0..5 {
        let flags = "--batches-per-second 5 --batch-items 1 --duration 1h";
        let came = Meanwhile::start(&served, flags).interrupt();
        came.is_good();
        assert!(came.report["cut_short_after_s"].is_f64(), "{:?}", came.told);
    }
}

#[test]
fn a_run_that_is_interrupted_tells_what_it_measured() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let mut c = loadgen(served.dir.path());
    c.env("TOLLGATE_ADDR", served.addr.to_string()).args(["run", "--certs", &acme]);
    c.args("--duration 1h --warm-up 0s --in-flight 2 --progress plain --output json".split(' '));
    let mut child = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut seen = BufReader::new(child.stderr.take().expect("piped")).lines();
    let busy = seen.by_ref().map_while(Result::ok).find(|line| line.contains("measuring"));
    assert!(busy.is_some(), "it makes load");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    let mut stdout = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut stdout).expect("text");
    assert!(child.wait().expect("it ends").success());
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let seconds = |key: &str| report[key].as_f64().expect("a time");
    assert!(seconds("cut_short_after_s") >= 1.0 && seconds("measured_s") >= 1.0);
    let total = &report["total"];
    let (items, rate) = (number(&total["items_succeeded"]), &total["succeeded_per_s"]);
    let expected = items as f64 / seconds("measured_s");
    assert!((rate.as_f64().expect("a rate") / expected - 1.0).abs() < 0.01, "{total}");
}
