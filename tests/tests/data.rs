//! Real input through the real binary, against answers that Python computed.
//!
//! `examples/data` has the files, `tests/data/expected` what `tests/data/csv_expected.py` makes of
//! them with Python's own modules. What is expected of `json.validate` is computed here from the
//! records, in plain code.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_tests::process::Served;

fn data(name: &str) -> String {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project");
    let path: PathBuf = project.join(name);
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn expected(name: &str) -> Value {
    let text = std::fs::read_to_string(data(&format!("tests/data/expected/{name}.json")));
    serde_json::from_str(&text.expect("what is expected")).expect("JSON")
}

/// Equal, with floats within 1e-9 of each other, relative to the larger.
#[track_caller]
fn same(at: &str, found: &Value, expected: &Value) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = |o: &serde_json::Map<String, Value>| o.keys().cloned().collect::<Vec<_>>();
            let (mut ours, mut theirs) = (keys(a), keys(b));
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{at}");
            a.iter().for_each(|(key, value)| same(&format!("{at}/{key}"), value, &b[key]));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            a.iter().zip(b).enumerate().for_each(|(n, (a, b))| same(&format!("{at}/{n}"), a, b));
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (a.as_f64().expect("a float"), b.as_f64().expect("a float"));
            assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()), "{at}: {a} is not {b}");
        }
        (a, b) => assert_eq!(a, b, "{at}"),
    }
}

/// Runs a batch and gives its results, in the order of the items, and its summary.
fn batch(served: &Served, certs: &str, args: &[&str], code: i32) -> (Vec<Value>, Value) {
    let common = ["batch", "run", "--output", "json", "--order", "submission"];
    let mut lines = served.run(certs, &[&common[..], args].concat()).ends_with(code).json_lines();
    let summary = lines.pop().expect("a summary");
    assert_eq!(summary["event"], "summary");
    lines.retain(|l| l["event"] == "result");
    (lines, summary)
}

#[test]
fn csv_files_are_profiled_as_python_would() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let files = [
        ("airports", data("examples/data/airports.csv")),
        ("seattle-weather", data("examples/data/seattle-weather.csv")),
        ("awkward", data("tests/data/awkward.csv")),
    ];
    let mut args = vec!["--recipe", "csv.profile", "--file"];
    args.extend(files.iter().map(|(_, path)| path.as_str()));
    let (results, summary) = batch(&served, &acme, &args, 0);
    assert_eq!(summary["succeeded"], 3);
    for ((name, path), result) in files.iter().zip(&results) {
        assert_eq!(result["source"], **path);
        same(name, &result["payload"], &expected(name));
    }
}

#[test]
fn a_file_larger_than_a_frame_names_the_limits_and_works_once_they_are_raised() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let (large, small) =
        (data("examples/data/birdstrikes.csv"), data("examples/data/seattle-weather.csv"));
    let args = ["--recipe", "csv.profile", "--file", &large, &small];
    let (results, summary) = batch(&served, &acme, &args, 1);
    assert_eq!(results[0]["code"], "FRAME_TOO_LARGE", "{}", results[0]);
    let error = results[0]["error"].to_string();
    assert!(error.contains("limits.frame_bytes_max"), "{error} names the key");
    assert_eq!(results[1]["code"], "OK", "the other item goes on");
    assert_eq!(
        (&summary["succeeded"], &summary["failed"]),
        (
            &json!(1),
            &json!({
                "FRAME_TOO_LARGE": 1
            })
        )
    );

    // Raised as the error says: then it is the tenant's quota, which is named as well.
    let raise = ["--set", "limits.frame_bytes_max=4194304", "--config", "tollgate.toml"];
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("tollgate.toml");
    std::fs::write(&config, "").expect("written");
    let served = Served::start_in(dir, "127.0.0.1:0", &raise);
    let acme = served.issue(&["--tenant", "acme"]);
    let (results, _) = batch(&served, &acme, &["--recipe", "csv.profile", "--file", &large], 1);
    let error = results[0].to_string();
    assert!(error.contains("payload_bytes"), "{error} names the quota");

    let profile = "[tenancy.profiles.default]\npayload_bytes = 4194304\n";
    std::fs::write(&config, profile).expect("written");
    served.signal(libc::SIGHUP);
    served.logs("were reloaded");
    let args = ["--recipe", "csv.profile", "--file", &large, &small];
    let (results, _) = batch(&served, &acme, &args, 0);
    same("birdstrikes", &results[0]["payload"], &expected("birdstrikes"));
    same("seattle-weather", &results[1]["payload"], &expected("seattle-weather"));
}

/// What a record of the earthquakes must be, and what is wrong with one that is not, in plain code.
fn faults(record: &Value) -> Vec<&'static str> {
    let properties = &record["properties"];
    let mut faults = Vec::new();
    if record["type"] != "Feature" {
        faults.push("/type");
    }
    if properties["mag"].as_f64().is_none_or(|mag| mag < 1.0) {
        faults.push("/properties/mag");
    }
    if !properties["place"].is_string() {
        faults.push("/properties/place");
    }
    let coordinates = record["geometry"]["coordinates"].as_array().expect("coordinates");
    if coordinates.len() != 3 {
        faults.push("/geometry/coordinates");
    }
    faults
}

#[test]
fn every_record_of_a_json_file_is_validated() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let path = data("examples/data/earthquakes.json");
    let text = std::fs::read_to_string(&path).expect("the file");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let records = document["features"].as_array().expect("features");
    let schema = json!({
        "type": "object",
        "required": ["type", "properties", "geometry"],
        "properties": {
            "type": { "const": "Feature" },
            "properties": {
                "type": "object",
                "required": ["mag", "place"],
                "properties": {
                    "mag": { "type": "number", "minimum": 1.0 },
                    "place": { "type": "string" }
                }
            },
            "geometry": {
                "properties": { "coordinates": { "minItems": 3, "maxItems": 3 } }
            }
        }
    });
    std::fs::write(served.dir.path().join("quake.schema.json"), schema.to_string())
        .expect("written");
    let args = [
        "--recipe",
        "json.validate",
        "--schema",
        "quake.schema.json",
        "--input",
        &path,
        "--field",
        "/features",
    ];
    let (results, summary) = batch(&served, &acme, &args, 0);
    assert_eq!(results.len(), records.len());
    assert_eq!(summary["succeeded"], records.len());
    let mut wrong = 0;
    for (n, (record, result)) in records.iter().zip(&results).enumerate() {
        let expected = faults(record);
        let answer = &result["payload"];
        assert_eq!(answer["valid"], expected.is_empty(), "record {n}: {answer}");
        let mut found: Vec<_> =
            answer["errors"].as_array().expect("errors").iter().map(|e| &e["path"]).collect();
        found.sort_by_key(|path| path.to_string());
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(found, expected, "record {n}");
        wrong += usize::from(!expected.is_empty());
    }
    assert!(wrong > 100 && wrong < records.len(), "both kinds are there: {wrong}");
}
