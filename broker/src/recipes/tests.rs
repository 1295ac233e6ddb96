use std::time::Duration;

use bytes::Bytes;
use tollgate_protocol::{Code, PairsBuf};

use super::*;
use crate::batch::{Context, Error, Inline, Recipe, Reply};

pub(super) fn inline(recipe: &impl Inline, payload: &[u8]) -> Result<String, Error> {
    inline_with(recipe, payload, &[])
}

pub(super) fn inline_with(
    recipe: &impl Inline,
    payload: &[u8],
    metadata: &[(&str, &str)],
) -> Result<String, Error> {
    let mut ctx = Context::for_test("acme", "x");
    let mut pairs = PairsBuf::new();
    for (key, value) in metadata {
        pairs.push(key, value).expect("within bounds");
    }
    ctx.metadata = Some(std::sync::Arc::new(pairs));
    let mut out = Reply::new();
    recipe.run(&ctx.as_inline(), payload, &mut out)?;
    Ok(String::from_utf8(out.payload().to_vec()).expect("text"))
}

pub(super) fn detail(e: Error, key: &str) -> Option<String> {
    e.into_inner().details.as_pairs().find(key).map(ToOwned::to_owned)
}

#[test]
fn the_seven_make_a_catalog() {
    let catalog = builtin().build().expect("valid");
    let names: Vec<_> = catalog.iter().map(|e| e.name().as_str()).collect();
    let expected = ["csv.profile", "delay", "echo", "fail", "json.validate", "panic", "sha256"];
    assert_eq!(names, expected);
    let on_pool = |name, len| catalog.find(name).expect("there").runs_on_pool(len);
    assert!(on_pool("csv.profile", 0));
    assert!(!on_pool("sha256", 16 << 10) && on_pool("sha256", (16 << 10) + 1));
    assert!(!on_pool("json.validate", 16 << 10) && on_pool("json.validate", (16 << 10) + 1));
    assert!(!on_pool("echo", usize::MAX));
    assert!(register(builtin()).build().is_err(), "each only once");
}

#[test]
fn echo_answers_its_payload() {
    for payload in ["", "a", &"x".repeat(100_000)] {
        assert_eq!(inline(&echo::Echo, payload.as_bytes()).expect("echo"), payload);
    }
}

/// The examples of FIPS 180-2.
#[test]
fn sha256_answers_the_digest() {
    let digest = |p: &str| inline(&sha256::Sha256, p.as_bytes()).expect("digest");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(digest(""), empty);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest("abc"), abc);
    let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    assert_eq!(digest(&"a".repeat(1_000_000)), million);
}

#[test]
fn fail_fails_as_asked() {
    let fail = |payload: &str| inline(&fail::Fail, payload.as_bytes()).expect_err("it fails");
    let e = fail("");
    assert_eq!((e.code(), e.message()), (Code::RecipeExecution, "failed as asked"));
    let e = fail(
        r#"{"message": "gone", "code": "NOT_FOUND", "permanent": true, "app_code": "E1",
            "details": {"key": "value"}}"#,
    )
    .into_inner();
    assert_eq!((e.code, &*e.message), (Code::NotFound, "gone"));
    assert_eq!((e.permanent, e.app_code.as_deref()), (true, Some("E1")));
    assert_eq!(e.details.as_pairs().find("key"), Some("value"));
    let e = fail(r#"{"code": "RATE_LIMITED", "retry_after_ms": 250}"#).into_inner();
    assert_eq!(e.retry_after, Some(Duration::from_millis(250)));
    let e = fail(r#"{"code": "OK"}"#);
    assert_eq!((e.code(), detail(e, "field")), (Code::ValidationError, Some("/code".into())));
    let e = fail(r#"{"massage": "x"}"#);
    assert!(e.message().contains("unknown field `massage`"), "{e}");
}

#[test]
#[should_panic(expected = "oh no")]
fn panic_panics_with_its_payload() {
    let _ = inline(&panic::Panic, b"oh no");
}

#[test]
#[should_panic(expected = "as asked")]
fn panic_panics_without_one() {
    let _ = inline(&panic::Panic, b"");
}

async fn delay(payload: &'static str) -> (Result<Reply, Error>, Vec<(u64, u64)>) {
    let ctx = Context::for_test("acme", "delay");
    let outcome = delay::Delay.run(ctx.clone(), Bytes::from_static(payload.as_bytes())).await;
    let reports = ctx.shared.board.take(std::task::Waker::noop());
    (outcome, reports.iter().map(|r| (r.done, r.total)).collect())
}

#[tokio::test]
async fn delay_waits_and_reports() {
    let start = std::time::Instant::now();
    let (outcome, reports) = delay(r#"{"ms": 20, "steps": 4}"#).await;
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(outcome.expect("waited").payload(), br#"{"ms":20,"steps":4}"#);
    assert_eq!(reports, [(4, 4)], "the newest report wins");
    let (outcome, reports) = delay("").await;
    assert_eq!(outcome.expect("waited").payload(), br#"{"ms":100,"steps":10}"#);
    assert_eq!(reports, [(10, 10)]);
    delay(r#"{"ms": 0}"#).await.0.expect("no wait at all");
}

#[tokio::test]
async fn delay_refuses_what_is_out_of_range() {
    for (payload, field) in [
        (r#"{"ms": 600001}"#, "/ms"),
        (r#"{"ms": 1, "steps": 0}"#, "/steps"),
        (r#"{"ms": 1, "steps": 10001}"#, "/steps"),
        (r#"{"ms": -1}"#, "/ms"),
        (r#"{"ms": "1"}"#, "/ms"),
    ] {
        let e = delay(payload).await.0.expect_err("refused");
        assert_eq!(e.code(), Code::ValidationError);
        assert_eq!(detail(e, "field").as_deref(), Some(field), "{payload}");
    }
}
