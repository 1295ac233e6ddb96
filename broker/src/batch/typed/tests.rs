use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_protocol::Code;

use super::*;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Point {
    x: u32,
    y: u32,
}

fn inline(recipe: &impl Inline, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let ctx = Context::for_test("acme", "x");
    let mut out = Reply::new();
    recipe.run(&ctx.as_inline(), payload, &mut out)?;
    Ok(out.payload().to_vec())
}

#[track_caller]
fn refused<T: DeserializeOwned + 'static>(payload: &str, message: &str, details: &[(&str, &str)]) {
    let recipe = inline_json(|_: &InlineContext<'_>, _: T| -> Result<(), Error> {
        panic!("must not be called")
    });
    check_refusal(inline(&recipe, payload.as_bytes()), message, details);
}

#[track_caller]
fn check_refusal(outcome: Result<Vec<u8>, Error>, message: &str, details: &[(&str, &str)]) {
    let e = outcome.expect_err("must be refused");
    assert_eq!(e.code(), Code::ValidationError);
    assert!(e.message().contains(message), "{:?} does not say {message:?}", e.message());
    let inner = e.into_inner();
    let pairs = inner.details.as_pairs();
    for &(key, value) in details {
        assert_eq!(pairs.find(key), Some(value), "{key} in {pairs:?}");
    }
}

#[tokio::test]
async fn async_functions_are_recipes() {
    let ctx = || Context::for_test("acme", "x");
    let sum = json(|ctx: Context, p: Point| async move {
        assert_eq!(ctx.tenant().as_str(), "acme");
        Ok(p.x + p.y)
    });
    let out = Recipe::run(&sum, ctx(), r#"{"x": 1, "y": 2}"#.into()).await.expect("valid");
    assert_eq!(out.payload(), b"3");

    let flip = postcard(|_: Context, p: Point| async move { Ok(Point { x: p.y, y: p.x }) });
    let payload = ::postcard::to_allocvec(&Point { x: 300, y: 7 }).expect("encodes");
    let out = Recipe::run(&flip, ctx(), payload.into()).await.expect("valid");
    let flipped: Point = ::postcard::from_bytes(out.payload()).expect("decodes");
    assert_eq!(flipped, Point { x: 7, y: 300 });

    let same = bytes(|_: Context, b: Bytes| async move { Ok(b) });
    let out = Recipe::run(&same, ctx(), Bytes::from_static(b"abc")).await.expect("valid");
    assert_eq!(out.payload(), b"abc");
}

#[test]
fn plain_functions_are_inline_recipes() {
    let sum = inline_json(|ctx: &InlineContext<'_>, p: Point| Ok(p.x + p.y + ctx.attempt()));
    assert_eq!(inline(&sum, br#"{"x": 1, "y": 2}"#).expect("valid"), b"4");
    let double = inline_postcard(|_: &InlineContext<'_>, n: u64| Ok(2 * n));
    assert_eq!(inline(&double, &[5]).expect("valid"), [10]);
    let twice = inline_bytes(|_: &InlineContext<'_>, b: &[u8], out: &mut Reply| {
        out.extend_from_slice(b);
        out.extend_from_slice(b);
        Ok(())
    });
    assert_eq!(inline(&twice, b"ab").expect("valid"), b"abab");
}

#[test]
fn wrong_json_is_refused_with_its_place() {
    refused::<Point>("", "EOF", &[("line", "1"), ("field", "")]);
    refused::<Point>("{\"x\": 1,\n  y}", "line 2", &[("line", "2")]);
    refused::<Point>("[1]", "invalid length 1", &[("field", "")]);
    let wrong = [("field", "/x"), ("found", "string \"a\""), ("expected", "u32")];
    refused::<Point>(r#"{"x": "a", "y": 2}"#, "/x: invalid type", &wrong);
    let missing = [("field", "/y"), ("found", "nothing")];
    refused::<Point>(r#"{"x": 1}"#, "missing field `y`", &missing);
    refused::<Vec<Point>>(r#"[{"x": 1, "y": 2}, {"x": 1}]"#, "missing", &[("field", "/1/y")]);
    refused::<Vec<Point>>(
        r#"[{"x":1,"y":2}, {"x":1,"y":-3}]"#,
        "/1/y: ",
        &[("field", "/1/y"), ("found", "integer `-3`")],
    );
    refused::<Vec<u8>>("[1, [2]]", "/1: ", &[("field", "/1"), ("found", "sequence")]);
    refused::<Vec<u8>>("{\"a\": 1}", "the payload: ", &[("field", ""), ("found", "map")]);
    refused::<BTreeMap<String, u8>>(
        r#"{"a/b": 1, "c~\"d": [7]}"#,
        "invalid type",
        &[("field", "/c~0\"d"), ("found", "sequence")],
    );
    refused::<u8>("1 2", "trailing characters", &[("column", "3")]);
}

#[test]
fn wrong_postcard_is_refused_with_its_place() {
    let recipe = inline_postcard(|_: &InlineContext<'_>, _: Vec<Point>| -> Result<(), Error> {
        panic!("must not be called")
    });
    let ends = [("expected", "Vec<Point>"), ("found", "the end of the payload")];
    check_refusal(inline(&recipe, &[]), "not a Vec<Point>", &ends);
    check_refusal(inline(&recipe, &[2, 1, 1, 1]), "at byte 4", &[("position", "4")]);
    let more = [("found", "2 bytes after its end"), ("position", "3")];
    check_refusal(inline(&recipe, &[1, 1, 1, 9, 9]), "at byte 3", &more);
    // A length that nothing stands behind reserves no memory for it.
    check_refusal(inline(&recipe, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]), "the end", &[]);
}

#[test]
fn an_output_without_a_form_is_the_recipes_fault() {
    let odd = inline_json(|_: &InlineContext<'_>, (): ()| Ok(BTreeMap::from([((1, 2), 3)])));
    let e = inline(&odd, b"null").expect_err("no such key in JSON");
    assert_eq!(e.code(), Code::InternalError);
    assert!(e.message().contains("key must be a string"), "{e}");
}
