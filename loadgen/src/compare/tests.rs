use serde_json::{Value, json};

use super::*;

fn report(items_per_s: f64, p99_us: f64, errors: u64) -> Value {
    let latency = json!({
        "count": 10, "p50_us": 100.0, "p90_us": 200.0, "p99_us": p99_us, "p99_9_us": 2e3, "max_us": 3e3,
    });
    let figures = json!({
        "tenant": "acme", "succeeded_per_s": items_per_s, "operations_per_s": 1.0,
        "errors": { "TIMEOUT": errors }, "wrong": {}, "latency": latency, "item_latency": latency,
        "accepted_latency": null,
    });
    json!({
        "report_version": 2, "generator": { "was_bottleneck": p99_us > 1e3 },
        "phases": [{
            "name": "run", "tenants": [figures.clone()], "total": figures,
            "generator_cpu_us_per_item": 1.0, "broker_cpu_us_per_item": null,
            "broker_resident_bytes": null,
        }],
    })
}

fn compared(a: &Value, b: &Value, margin: Option<f64>) -> Result<Compared, BadScenario> {
    let dir = tempfile::tempdir().expect("a directory");
    let (x, y) = (dir.path().join("a.json"), dir.path().join("b.json"));
    fs::write(&x, a.to_string()).expect("written");
    fs::write(&y, b.to_string()).expect("written");
    compare(&x, &y, margin)
}

#[test]
fn what_is_worse_by_more_than_the_margin_is_told() {
    let (a, b) = (report(100.0, 900.0, 0), report(95.0, 1_100.0, 0));
    let c = compared(&a, &b, Some(0.1)).expect("fine");
    let worse: Vec<_> = c.rows.iter().filter(|r| r.worse == Some(true)).map(|r| r.figure).collect();
    assert_eq!(worse, ["p99 ms", "item p99 ms"]);
    assert_eq!((c.exit(), c.notes.len()), (Exit::Threshold, 1));
    assert!(c.text().contains("WORSE") && c.text().contains("FAILED"));
    assert_eq!(compared(&b, &a, Some(0.1)).expect("fine").exit(), Exit::Ok);
    let unjudged = compared(&a, &b, None).expect("fine");
    assert_eq!(unjudged.exit(), Exit::Ok);
    let ratio = unjudged.rows.iter().find(|r| r.figure == "ok/s").and_then(|r| r.ratio);
    assert_eq!(ratio, Some(0.95));
}

#[test]
fn an_error_more_is_worse_whatever_the_margin() {
    let c = compared(&report(1.0, 1.0, 0), &report(1.0, 1.0, 1), Some(1.0)).expect("fine");
    assert_eq!(c.exit(), Exit::Threshold);
}

#[test]
fn what_is_no_report_or_has_nothing_in_common_is_refused() {
    let good = report(1.0, 1.0, 0);
    let mut other = good.clone();
    other["report_version"] = json!(1);
    assert!(compared(&good, &other, None).expect_err("old").to_string().contains("report_version"));
    assert!(compared(&json!([]), &good, None).is_err());
    let mut other = good.clone();
    other["phases"][0]["name"] = json!("peak");
    assert!(compared(&good, &other, None).expect_err("apart").to_string().contains("no phase"));
}
