use serde_json::json;

use super::*;
use crate::batch::{Context, Error, InlineContext, Reply};

struct Nothing;

impl Inline for Nothing {
    fn run(&self, _: &InlineContext<'_>, _: &[u8], _: &mut Reply) -> Result<(), Error> {
        Ok(())
    }
}

impl Recipe for Nothing {
    async fn run(&self, _: Context, _: bytes::Bytes) -> Result<Reply, Error> {
        Ok(Reply::new())
    }
}

fn json_spec(schema: serde_json::Value) -> Spec {
    Spec { encoding: Encoding::Json, schema: Some(schema), ..Spec::default() }
}

#[track_caller]
fn refused(name: &str, spec: Spec, part: &str) {
    let e = Catalog::builder().inline(name, spec, Nothing).build().expect_err("must be refused");
    assert!(e.to_string().contains(part), "{e} does not say {part:?}");
}

#[test]
fn recipes_are_found_by_name_and_listed_in_order() {
    let catalog = Catalog::builder()
        .inline("b", Spec::default(), Nothing)
        .recipe("a.x", Spec { timeout: Some(Duration::from_secs(9)), ..Spec::default() }, Nothing)
        .inline("c", json_spec(json!({"type": "object"})), Nothing)
        .build()
        .expect("valid");
    let listed: Vec<_> = catalog.iter().map(|e| (e.name.as_str(), e.index)).collect();
    assert_eq!(listed, [("a.x", 0), ("b", 1), ("c", 2)]);
    assert_eq!(catalog.find("a.x").expect("there").timeout(), Duration::from_secs(9));
    assert!(matches!(catalog.find("a.x").expect("there").handler, Handler::Recipe(_)));
    assert!(matches!(catalog.find("b").expect("there").handler, Handler::Inline(_)));
    for absent in ["", "B", "a", "\u{1b}[31m", &"x".repeat(100_000)] {
        assert!(catalog.find(absent).is_none());
    }
    let described = catalog.find("c").expect("there").describe();
    assert_eq!(described.schema, Some(r#"{"type":"object"}"#));
    assert_eq!((described.timeout_ms, described.queue_timeout_ms), (5_000, 30_000));
}

#[test]
fn an_empty_catalog_is_a_catalog() {
    let catalog = Catalog::builder().build().expect("valid");
    assert!(catalog.is_empty() && catalog.find("echo").is_none());
}

#[test]
fn wrong_names_are_refused() {
    refused("", Spec::default(), "recipe name is empty");
    refused("Echo", Spec::default(), "'E' at byte 0");
    refused(&"x".repeat(10_000), Spec::default(), "has 10000 bytes, at most 128");
    let twice = Catalog::builder()
        .inline("x", Spec::default(), Nothing)
        .recipe("x", Spec::default(), Nothing)
        .build();
    assert!(matches!(twice, Err(CatalogError::Duplicate { name }) if name.as_str() == "x"));
}

#[test]
fn wrong_schemas_are_refused() {
    let spec = Spec { encoding: Encoding::Bytes, ..json_spec(json!(true)) };
    refused("x", spec, "needs the encoding Json, not Bytes");
    refused("x", json_spec(json!({"properties": {"a": {"type": "strin"}}})), "/properties/a/type");
    refused("x", json_spec(json!({"$ref": "https://example.com/schema"})), "nothing is fetched");
    refused("x", json_spec(json!({"$ref": "file:///etc/passwd"})), "nothing is fetched");
    refused("x", json_spec(json!({"pattern": "(a)\\1"})), "is not a");
    refused("x", json_spec(json!({"title": "x".repeat(70_000)})), "schema in bytes");
}

#[test]
fn numbers_outside_their_bounds_are_refused() {
    let d = Spec::default;
    let year = Duration::from_secs(365 * 24 * 3_600);
    refused("x", Spec { timeout: Some(Duration::ZERO), ..d() }, "timeout in ms is 0");
    refused("x", Spec { timeout: Some(Duration::MAX), ..d() }, "timeout in ms");
    refused("x", Spec { queue_timeout: Duration::ZERO, ..d() }, "queue_timeout in ms is 0");
    refused("x", Spec { estimated_duration: year, ..d() }, "in ms is");
    refused("x", Spec { concurrency_max: Some(0), ..d() }, "concurrency_max is 0");
    refused("x", Spec { payload_bytes_max: (16 << 20) + 1, ..d() }, "payload_bytes_max");
    refused("x", Spec { result_bytes_max: usize::MAX, ..d() }, "result_bytes_max");
    refused("x", Spec { description: "x".repeat(4_097), ..d() }, "description in bytes is 4097");
    let retry = |retry| Spec { retry, ..d() };
    use crate::batch::Retry;
    refused("x", retry(Retry { attempts_max: 0, ..Retry::default() }), "attempts_max is 0");
    for factor in [f64::NAN, f64::INFINITY, 0.5, -1.0] {
        refused("x", retry(Retry { factor, ..Retry::default() }), "retry.factor");
    }
}

#[test]
fn what_blocks_runs_on_the_pool() {
    let catalog = Catalog::builder()
        .inline("always", Spec { blocking: true, ..Spec::default() }, Nothing)
        .inline("large", Spec { inline_bytes_max: Some(16), ..Spec::default() }, Nothing)
        .inline("never", Spec::default(), Nothing)
        .build()
        .expect("valid");
    let on_pool = |name, len| catalog.find(name).expect("there").runs_on_pool(len);
    assert!(on_pool("always", 0));
    assert!(!on_pool("large", 16) && on_pool("large", 17));
    assert!(!on_pool("never", usize::MAX));
}
