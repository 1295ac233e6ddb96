use super::*;
use crate::{
    record::{Outcome, Recorder},
    scenario::{Overrides, ScenarioFile},
};

fn report(top: &str, outcome: &Outcome) -> Report {
    let text = format!("{top}\n[[tenants]]\ncerts = \"acme\"");
    let file: ScenarioFile = toml::from_str(&text).expect("TOML");
    let scenario = file.parse(Overrides::default()).expect("fine");
    let recorder = Recorder::default();
    recorder.outcome(outcome, true);
    let tenants = [(&scenario.tenants[0], recorder.stats())];
    let cpu = Some(Duration::from_secs(1));
    Report::new(&scenario, &tenants, Generator { started_at: SystemTime::now(), cpu })
}

fn good() -> Outcome {
    Outcome {
        latency: Duration::from_millis(5),
        item_ns: vec![2_000_000; 100],
        succeeded: 100,
        complete: true,
        ..Outcome::default()
    }
}

#[test]
fn a_good_run_passes_and_says_everything() {
    let r = report("", &good());
    assert_eq!(r.exit(), Exit::Ok);
    let json = serde_json::to_value(&r).expect("JSON");
    assert_eq!(json["total"]["items_succeeded"], 100);
    assert_eq!(json["tenants"][0]["tenant"], "acme");
    assert_eq!(json["scenario"]["tenants"][0]["pace"]["in_flight"], 64);
    assert_eq!(json["generator_cpu_us_per_item"], 10_000.0);
    let p50 = json["total"]["item_latency"]["p50_us"].as_f64().expect("a number");
    assert!((p50 - 2_000.0).abs() < 5.0, "{p50}");
    assert!(text(&r).contains("0 wrong answers: passed"));
}

#[test]
fn a_wrong_answer_is_graver_than_a_slow_one() {
    let slow = report("p99_max_ms = 4", &good());
    assert_eq!(slow.exit(), Exit::Threshold);
    let wrong = Wrong { duplicate: 1, ..Wrong::default() };
    let both = report("p99_max_ms = 4", &Outcome { wrong, ..good() });
    assert_eq!((both.exit(), both.complaints.len()), (Exit::Failure, 2));
}

#[test]
fn errors_fail_the_run_unless_they_are_allowed() {
    let with = |allowed| Outcome { errors: vec![("TIMEOUT".into(), 3, allowed)], ..good() };
    assert_eq!(report("", &with(false)).exit(), Exit::Failure);
    let allowed = report("", &with(true));
    assert_eq!(allowed.exit(), Exit::Ok);
    assert!(text(&allowed).contains("3 × TIMEOUT"));
}
