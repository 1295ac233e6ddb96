//! Phases, rounds and goals; and the scenarios that are shipped.

use super::*;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../loadgen/scenarios")
}

#[test]
fn phases_are_measured_apart_and_put_beside_each_other() {
    let served = Served::start(&["--tenant", "globex"]);
    let (acme, globex) =
        (served.issue(&["--tenant", "acme"]), served.issue(&["--tenant", "globex"]));
    let text = format!(
        "duration = \"300ms\"\nwarm_up = \"1s\"\nrounds = 2\n\
         [[phases]]\nname = \"alone\"\ntenants = [\"b\"]\n[[phases]]\nname = \"beside\"\nload = 2\n\
         [[tenants]]\nname = \"a\"\ncerts = {acme:?}\nin_flight = 1\nbatch_items = 2\n\
         [[tenants]]\nname = \"b\"\ncerts = {globex:?}\nbatches_per_second = 50\nbatch_items = 3\n\
         [[goals]]\nname = \"twice as much\"\ntenant = \"b\"\nfigure = \"operations_per_s\"\n\
         phase = \"beside\"\nto_phase = \"alone\"\nmin = 2\nmax = 2\n\
         [[goals]]\ntenant = \"b\"\nfigure = \"p99\"\nphase = \"beside\"\nto_phase = \"alone\"\n"
    );
    let report = scenario(&served, &text, "--output json").ends_with(exit::OK).json();
    let [alone, beside] = [0, 1].map(|n| &report["phases"][n]);
    let names = |p: &Value| p["tenants"].as_array().map(Vec::len);
    assert_eq!((names(alone), names(beside)), (Some(1), Some(2)));
    // 50 a second for 300 ms, twice; then the same at the double rate.
    assert_eq!(number(&alone["tenants"][0]["operations"]), 30);
    assert_eq!(number(&beside["tenants"][1]["operations"]), 60);
    let goals = report["goals"].as_array().expect("goals");
    assert_eq!((goals[0]["value"].as_f64(), goals[0]["met"].as_bool()), (Some(2.0), Some(true)));
    assert_eq!(goals[1]["rounds"].as_array().map(Vec::len), Some(2));
    assert!(goals[1]["value"].is_number() && goals[1]["met"].is_null());
    let missed = text.replace("max = 2\n", "max = 1.9\n");
    let ran = scenario(&served, &missed.replace("min = 2\n", ""), "").ends_with(exit::THRESHOLD);
    says(&ran, &["goal \"twice as much\" is missed", "b: p99 beside ÷ alone"]);
}

#[test]
fn a_ramp_makes_what_its_area_says() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let text = format!(
        "duration = \"1s\"\nwarm_up = \"0s\"\n[[tenants]]\ncerts = {acme:?}\nbatch_items = 1\n\
         batches_per_second = 100\nramp_from = 0\nramp_over = \"1s\""
    );
    let report = scenario(&served, &text, "--output json").ends_with(exit::OK).json();
    assert_eq!(number(&report["total"]["operations"]), 50);
}

#[test]
fn every_shipped_scenario_is_understood() {
    let mut found = 0;
    for entry in fs::read_dir(shipped()).expect("scenarios").map(|e| e.expect("an entry").path()) {
        if entry.extension().is_some_and(|e| e == "toml") {
            let mut c = loadgen(&shipped());
            run_with(c.args(["run", "--dry-run"]).arg(&entry), "").ends_with(exit::OK);
            found += 1;
        }
    }
    assert!(found >= 8, "{found} scenarios");
}

#[test]
fn a_shipped_scenario_runs_with_one_command() {
    let bin = binary().parent().expect("a directory").to_owned();
    let mut c = Command::new(shipped().join("run"));
    c.env("LOADGEN_BIN_DIR", bin).args(["smoke", "--duration", "500ms"]);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("TOLLGATE_")) {
            c.env_remove(name);
        }
    }
    says(
        &run_with(&mut c, "").ends_with(exit::OK),
        &["connections", "jobs accepted", "messages delivered", "passed"],
    );
}
