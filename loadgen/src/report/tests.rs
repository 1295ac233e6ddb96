use super::*;
use crate::{
    check::Wrong,
    drive::{Reread, TopicDone},
    record::{Delivered, Outcome, Recorder},
    scenario::{Overrides, ScenarioFile},
};

fn scenario(top: &str) -> Scenario {
    scenario_of(top, "")
}

fn scenario_of(top: &str, tenant: &str) -> Scenario {
    let text = format!("{top}\n[[tenants]]\ncerts = \"acme\"\n{tenant}");
    let file: ScenarioFile = toml::from_str(&text).expect("TOML");
    file.parse(Overrides::default()).expect("fine")
}

fn report(top: &str, outcome: &Outcome) -> Report {
    let scenario = scenario(top);
    let slots = scenario.phases.len() * scenario.rounds;
    let recorder = Recorder::new(slots);
    (0..slots).for_each(|slot| recorder.outcome(outcome, Some(slot)));
    Report::new(&scenario, &Measured::of(&scenario, &[recorder]), 1)
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
    assert_eq!(json["phases"][0]["tenants"][0]["tenant"], "acme");
    assert_eq!(json["scenario"]["tenants"][0]["pace"]["in_flight"], 64);
    assert_eq!(json["generator"]["was_bottleneck"], false);
    let p50 = json["total"]["item_latency"]["p50_us"].as_f64().expect("a number");
    assert!((p50 - 2_000.0).abs() < 5.0, "{p50}");
    assert!(text(&r).contains("0 wrong answers; passed"));
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

#[test]
fn goals_are_computed_in_each_round_and_judged_by_the_median() {
    let top = |bound: &str| {
        format!(
            "rounds = 3\n[[phases]]\nname = \"a\"\n[[phases]]\nname = \"b\"\n\
             [[goals]]\nname = \"the ratio\"\nfigure = \"p99\"\nphase = \"b\"\nto_phase = \"a\"\n\
             {bound}\n[[goals]]\nfigure = \"jain\"\nphase = \"a\"\nmin = 0.98"
        )
    };
    let r = report(&top("max = 1.1"), &good());
    assert_eq!(r.exit(), Exit::Ok, "{:?}", r.complaints);
    assert_eq!(
        (r.goals[0].value, r.goals[0].met, r.goals[0].rounds.len()),
        (Some(1.0), Some(true), 3)
    );
    assert_eq!((r.goals[1].value, r.goals[1].name.as_str()), (Some(1.0), "all: jain a"));
    let missed = report(&top("max = 0.9"), &good());
    assert_eq!(missed.exit(), Exit::Threshold);
    let text = text(&missed);
    assert!(text.contains("the ratio") && text.contains("MISSED"), "{text}");
}

#[test]
fn many_tenants_are_cut_short_for_people_and_only_for_them() {
    let text_of = "[[tenants]]\nname = \"t{n}\"\ncerts = \"c\"\ncount = 100";
    let file: ScenarioFile = toml::from_str(text_of).expect("TOML");
    let scenario = file.parse(Overrides::default()).expect("fine");
    let record = |_| {
        let recorder = Recorder::new(1);
        let errors = vec![("TIMEOUT".into(), 1, true)];
        recorder.outcome(&Outcome { errors, ..good() }, Some(0));
        recorder
    };
    let records: Vec<_> = (0..100).map(record).collect();
    let r = Report::new(&scenario, &Measured::of(&scenario, &records), 1);
    let text = text(&r);
    for part in ["t40 ", "60 more tenants", "all: 100 × TIMEOUT"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("t41 ") && r.phases[0].tenants.len() == 100);
}

#[test]
fn jobs_that_were_read_again_are_told() {
    let mut r = report("", &good());
    r.phases[0].tenants[0].reread =
        Some(Reread { batches_audited: 3, jobs_audited: 30, ..Reread::default() });
    assert!(text(&r).contains("30 jobs of 3 batches read again"));
}

#[test]
fn deliveries_are_told_in_every_form() {
    let scenario = scenario_of("[[goals]]\nfigure = \"delivered_p50\"", "operation = \"produce\"");
    let recorder = Recorder::new(1);
    recorder.outcome(&good(), Some(0));
    let latency = Duration::from_millis(7);
    // What was due in the warm-up has no figures.
    recorder.delivered(&[
        Delivered { slot: Some(0), latency, bytes: 64 },
        Delivered { slot: None, latency, bytes: 64 },
    ]);
    let mut r = Report::new(&scenario, &Measured::of(&scenario, &[recorder]), 1);
    let done = TopicDone { name: "orders".into(), delivered: 2, ..TopicDone::default() };
    r.phases[0].tenants[0].topic = Some(done);
    assert_eq!(r.goals[0].value.map(f64::round), Some(7.0));
    assert!(r.histograms.iter().any(|h| h.name == "run-acme-delivered"));
    let text = text(&r);
    assert!(text.contains("1 messages delivered after p50 7.0"), "{text}");
    assert!(
        text.contains("\"orders\": 2 messages read over the whole run, 0 delivered again"),
        "{text}"
    );
    let page = html::page(&r);
    assert!(page.contains("1 messages delivered after p50 7.0"));
    assert!(page.contains("2 messages read over the whole run"), "{page}");
    let json = serde_json::to_value(&r).expect("JSON");
    assert_eq!(json["phases"][0]["tenants"][0]["delivered_latency"]["count"], 1);
    assert_eq!(
        (&json["total"]["bytes_received"], &json["total"]["items_succeeded"]),
        (&64.into(), &100.into())
    );
}

#[test]
fn the_page_stands_alone_and_names_are_text() {
    let page = html::page(&report("addr = \"<b>:1\"", &good()));
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for part in ["Latency by percentile", "Throughput over time", "prefers-color-scheme", "acme"] {
        assert!(page.contains(part), "{part}");
    }
    for strange in ["http://", "https://", "<script", "src=", "url(", "<b>:1"] {
        assert!(!page.contains(strange), "{strange}");
    }
}

#[test]
fn a_directory_gets_the_report_and_a_histogram_for_each_tenant() {
    let dir = tempfile::tempdir().expect("a directory");
    report("", &good()).write(dir.path()).expect("written");
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names, ["report.html", "report.json", "run-acme-items.hgrm", "run-acme.hgrm"]);
}
