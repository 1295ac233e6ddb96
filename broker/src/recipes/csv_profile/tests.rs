use serde_json::Value;
use tollgate_protocol::Code;

use super::*;
use crate::{
    batch::Context,
    recipes::tests::{detail, inline_with},
};

fn profile(csv: &[u8], metadata: &[(&str, &str)]) -> Value {
    let answer = inline_with(&CsvProfile, csv, metadata).expect("a profile");
    serde_json::from_str(&answer).expect("JSON")
}

fn file(path: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Equal, with floats within 1e-9 of each other, relative to the larger.
#[track_caller]
fn assert_same(ours: &Value, expected: &Value, path: &str) {
    match (ours, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |m: &serde_json::Map<String, Value>| m.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(a), keys(b), "{path}");
            for (key, value) in a {
                assert_same(value, &b[key], &format!("{path}/{key}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{path}");
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                assert_same(x, y, &format!("{path}/{i}"));
            }
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (x, y) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
            assert!((x - y).abs() <= 1e-9 * x.abs().max(y.abs()), "{path}: {x} is not {y}");
        }
        _ => assert_eq!(ours, expected, "{path}"),
    }
}

#[track_caller]
fn check_file(csv: &str, expected: &str) {
    let ours = profile(&file(csv), &[]);
    let expected = file(&format!("tests/data/expected/{expected}.json"));
    assert_same(&ours, &serde_json::from_slice(&expected).expect("JSON"), "");
}

/// The expected values are computed by Python's csv and statistics (`tests/data/csv_expected.py`).
#[test]
fn real_files_have_the_values_that_python_computes() {
    check_file("examples/data/airports.csv", "airports");
    check_file("examples/data/seattle-weather.csv", "seattle-weather");
    check_file("examples/data/birdstrikes.csv", "birdstrikes");
}

#[test]
fn an_awkward_file_has_the_values_that_python_computes() {
    check_file("tests/data/awkward.csv", "awkward");
}

#[test]
fn options_come_as_metadata() {
    let p = profile(b"1;a\n2;b\n", &[("delimiter", ";"), ("header", "false")]);
    assert_eq!(p["rows"], 2);
    assert_eq!(p["columns"][1]["name"], "column_2");
    assert_eq!(profile(b"x\ty\n1\t2\n", &[("delimiter", "tab")])["columns"][1]["p50"], 2.0);
    for (key, value) in [
        ("delimiter", ""),
        ("delimiter", ";;"),
        ("delimiter", "\""),
        ("delimiter", "\u{e9}"),
        ("header", "no"),
    ] {
        let e = inline_with(&CsvProfile, b"a\n", &[(key, value)]).expect_err("refused");
        assert_eq!((e.code(), detail(e, "field").as_deref()), (Code::ValidationError, Some(key)));
    }
}

#[test]
fn odd_payloads_are_answered_or_refused() {
    let refused = |csv: &[u8]| inline_with(&CsvProfile, csv, &[]).expect_err("refused");
    assert!(refused(b"").message().contains("is empty"));
    assert!(refused(b"\n\r\n").message().contains("is empty"));
    assert!(refused(&b",".repeat(256)).message().contains("257 columns, at most 256"));
    assert!(refused(b"caf\xe9\n").message().contains("header is not UTF-8"));

    let p = profile(b"a,b\n", &[]);
    assert_eq!((&p["rows"], &p["columns"][0]["type"]), (&0.into(), &"empty".into()));
    // Each field is broken UTF-8, though both together are not.
    let p = profile(b"a,b\nx,y\n\xc3,\xa9\n", &[]);
    assert_eq!(p["rows"], 1);
    assert_eq!(p["malformed"]["rows"][0]["problem"], "not UTF-8");
    assert_eq!(p["malformed"]["rows"][0]["line"], 3);
    let many = format!("a,b\n{}", "x\n".repeat(100));
    let p = profile(many.as_bytes(), &[]);
    assert_eq!(p["malformed"]["count"], 100);
    assert_eq!(p["malformed"]["rows"].as_array().map(Vec::len), Some(MALFORMED_LISTED));
    // An open quote swallows the rest, which is one value.
    assert_eq!(profile(b"a\n\"x\ny\nz", &[])["rows"], 1);
}

#[test]
fn too_many_distinct_values_are_at_least_so_many() {
    let mut csv = String::from("n\n");
    for n in 0..70_000 {
        csv.push_str(&format!("{n}\n"));
    }
    let p = profile(csv.as_bytes(), &[]);
    let column = &p["columns"][0];
    assert_eq!(column["distinct_at_least"], 65_537);
    assert!(column.get("distinct").is_none());
    assert_eq!((&column["count"], &column["p50"]), (&70_000.into(), &34_999.5.into()));
}

#[test]
fn numbers_out_of_range_are_null() {
    let p = profile(b"n\n1e308\n1e308\n-1e300\n", &[]);
    let column = &p["columns"][0];
    assert_eq!((&column["type"], &column["mean"]), (&"float".into(), &Value::Null));
    assert_eq!(column["max"], 1e308);
}

#[test]
fn a_cancelled_profile_stops_and_progress_ends_at_the_total() {
    let ctx = Context::for_test("acme", "csv.profile");
    let csv = file("examples/data/seattle-weather.csv");
    CsvProfile.run(&ctx.as_inline(), &csv, &mut Reply::new()).expect("a profile");
    let reports = ctx.shared.board.take(std::task::Waker::noop());
    let total = csv.len() as u64;
    assert_eq!((reports[0].done, reports[0].total), (total, total));
    ctx.cancellation().cancel();
    CsvProfile.run(&ctx.as_inline(), &csv, &mut Reply::new()).expect_err("stopped");
}
