use serde_json::json;
use tollgate_protocol::Code;

use super::*;
use crate::recipes::tests::{detail, inline};

fn run(schema: &Value, value: &Value) -> Result<Value, Error> {
    let payload = json!({"schema": schema, "value": value}).to_string();
    inline(&JsonValidate, payload.as_bytes())
        .map(|answer| serde_json::from_str(&answer).expect("JSON"))
}

#[track_caller]
fn refused(schema: &Value, value: &Value, field: &str, part: &str) {
    let e = run(schema, value).expect_err("must be refused");
    assert_eq!(e.code(), Code::ValidationError);
    assert!(e.message().contains(part), "{:?} does not say {part:?}", e.message());
    assert_eq!(detail(e, "field").as_deref(), Some(field));
}

#[test]
fn a_valid_value_is_valid() {
    let answer = run(&json!({"type": "integer"}), &json!(7)).expect("an answer");
    assert_eq!(answer, json!({"valid": true, "errors": [], "complete": true}));
    assert_eq!(run(&json!(true), &json!(null)).expect("an answer")["valid"], true);
}

#[test]
fn an_invalid_value_is_an_answer_with_its_errors() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"items": {"minimum": 3}}},
        "required": ["c"],
    });
    let answer = run(&schema, &json!({"a": "x", "b": [3, 2, 1]})).expect("an answer");
    assert_eq!((&answer["valid"], &answer["complete"]), (&json!(false), &json!(true)));
    let errors = answer["errors"].as_array().expect("a list");
    let mut paths: Vec<_> = errors.iter().map(|e| e["path"].as_str().expect("text")).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["", "/a", "/b/1", "/b/2"]);
    assert!(errors.iter().any(|e| e["message"] == "\"c\" is a required property"), "{answer}");
}

#[test]
fn the_list_of_errors_is_bounded() {
    let schema = json!({"items": {"type": "string"}});
    let answer = run(&schema, &json!(vec![1; 33])).expect("an answer");
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(ERRORS_LISTED));
    assert_eq!(answer["complete"], false);
    let answer = run(&schema, &json!(vec![1; 32])).expect("an answer");
    assert_eq!(answer["complete"], true);
    let answer = run(&schema, &json!(vec![1; 100_000])).expect("an answer");
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1));
    let either = json!({"anyOf": [schema, {"type": "object"}]});
    let answer = run(&either, &json!(vec![1; 100_000])).expect("an answer");
    assert_eq!(answer, json!({"valid": false, "errors": [], "complete": false}));
}

#[test]
fn wrong_payloads_are_refused_with_their_place() {
    let refused = |payload: &str| {
        let e = inline(&JsonValidate, payload.as_bytes()).expect_err("refused");
        (e.code(), detail(e, "field").expect("a field"))
    };
    let bad = Code::ValidationError;
    assert_eq!(refused(""), (bad, String::new()));
    assert_eq!(refused("{\"schema\": {}"), (bad, "/schema".into()));
    assert_eq!(refused("{\"schema\": {}}"), (bad, "/value".into()));
    assert_eq!(refused("{\"schema\": {}, \"value\": {\"a\": [1, ?]}}"), (bad, "/value/a/1".into()));
}

#[test]
fn wrong_schemas_are_refused_with_their_place() {
    let one = json!(1);
    refused(&json!(1), &one, "/schema", "1");
    refused(&json!({"properties": {"a": {"type": "int"}}}), &one, "/schema/properties/a/type", "");
    refused(&json!({"pattern": "("}), &one, "/schema", "is not a \"regex\"");
    refused(&json!({"title": "x".repeat(70_000)}), &one, "/schema", "at most 65536");
    for reference in ["https://example.com/s", "other.json", "#name", "#/%24defs/a"] {
        refused(&json!({"$ref": reference}), &one, "/schema", "JSON pointer into the schema");
    }
    refused(&json!({"$ref": "#/$defs/a"}), &one, "/schema", "refers to nothing");
    let id = json!({"$defs": {"a": {"$id": "x"}}});
    refused(&id, &one, "/schema/$defs/a/$id", "is not taken here");
    let patterns: Vec<_> = (0..40).map(|i| json!({"pattern": format!("a{{{i}}}")})).collect();
    refused(&json!({"anyOf": patterns}), &one, "/schema/anyOf/pattern", "more than 32 patterns");
}

#[test]
fn an_ordinary_recursive_schema_is_taken() {
    let schema = json!({
        "$defs": {"node": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }},
        "$ref": "#/$defs/node",
        "examples": [{"id": "data, not a keyword"}],
    });
    let leaf = json!({"id": "leaf"});
    let tree =
        json!({"id": "root", "children": vec![json!({"id": "a", "children": vec![leaf; 50]}); 20]});
    assert_eq!(run(&schema, &tree).expect("an answer")["valid"], true);
    let bad = json!({"id": "root", "children": [{"id": 1}]});
    assert_eq!(run(&schema, &bad).expect("an answer")["errors"][0]["path"], "/children/0/id");
}

/// Two references from each definition to the next: 2^n ways through n definitions.
fn doubling(levels: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for i in 0..levels {
        let next = format!("#/$defs/d{}", i + 1);
        defs.insert(format!("d{i}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
    }
    defs.insert(format!("d{levels}"), json!({"type": "object"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

const TOO_MUCH: &str = "steps that a payload of its length may";

#[test]
fn a_schema_that_takes_too_many_steps_is_refused() {
    assert_eq!(run(&doubling(8), &json!({})).expect("an answer")["valid"], true);
    refused(&doubling(60), &json!({}), "/schema", TOO_MUCH);
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let twice = json!({"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
    refused(&twice, &deep, "/schema", TOO_MUCH);
    let names: Vec<_> = (0..5_000).map(|i| json!(i)).collect();
    let many = json!({"items": {"enum": names}});
    refused(&many, &json!(vec![-1; 5_000]), "/schema", TOO_MUCH);
    refused(&json!({"$ref": "#"}), &json!(1), "/schema", "in a circle");
    let pattern = json!({"pattern": "[abc]*a[abc]{900}a[abc]{900}[d-g]"});
    refused(&pattern, &json!("abc".repeat(10_000)), "/schema", TOO_MUCH);
    let uuid = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
    let value = json!("0190163d-8694-739b-aea5-966c26f8ad91");
    assert_eq!(run(&json!({"pattern": uuid}), &value).expect("an answer")["valid"], true);
}

/// The features of a real collection, each held against a schema of its own.
#[test]
fn real_records_are_valid_and_broken_ones_are_not() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/earthquakes.json");
    let collection: Value =
        serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON");
    let schema = json!({
        "type": "object",
        "required": ["type", "properties", "geometry", "id"],
        "properties": {
            "type": {"const": "Feature"},
            "id": {"type": "string", "pattern": "^[a-z]{2}[0-9a-z]+$"},
            "properties": {
                "type": "object",
                "required": ["mag", "place", "time"],
                "properties": {
                    "mag": {"type": ["number", "null"], "maximum": 10},
                    "place": {"type": ["string", "null"]},
                    "time": {"type": "integer"},
                },
            },
            "geometry": {
                "type": "object",
                "properties": {
                    "type": {"enum": ["Point"]},
                    "coordinates": {
                        "type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"},
                    },
                },
            },
        },
    });
    let features = collection["features"].as_array().expect("a list");
    assert_eq!(features.len(), 1_707);
    for feature in features {
        let answer = run(&schema, feature).expect("an answer");
        assert_eq!(answer["valid"], true, "{answer} of {}", feature["id"]);
    }
    let mut broken = features[0].clone();
    broken["geometry"]["coordinates"][1] = json!("north");
    let answer = run(&schema, &broken).expect("an answer");
    assert_eq!(answer["errors"][0]["path"], "/geometry/coordinates/1");
}
