use std::sync::Arc;

use proptest::prelude::*;
use tollgate_protocol::{Code, PairsBuf};

use super::*;

fn context(metadata: &[(&str, &str)]) -> Context {
    let mut pairs = PairsBuf::new();
    for (key, value) in metadata {
        pairs.push(key, value).expect("within bounds");
    }
    let mut ctx = Context::for_test("acme", "r");
    ctx.metadata = Some(Arc::new(pairs));
    ctx
}

#[track_caller]
fn filled(template: &str, metadata: &[(&str, &str)]) -> Result<String, Error> {
    Template::parse(template).expect("a good path").fill(&context(metadata))
}

#[track_caller]
fn check(template: &str, metadata: &[(&str, &str)], expected: &str) {
    assert_eq!(filled(template, metadata).expect("good values"), expected);
}

#[track_caller]
fn refuses(template: &str, metadata: &[(&str, &str)], part: &str) {
    let e = filled(template, metadata).expect_err("must be refused");
    assert_eq!(e.code(), Code::ValidationError);
    assert!(e.message().contains(part), "{e} does not say {part:?}");
    let inner = e.into_inner();
    assert!(inner.side_effect_free && inner.permanent);
}

#[test]
fn places_are_filled_in() {
    check("/", &[], "/");
    check("/a//b/", &[], "/a//b/");
    check("/render/{tenant}/{item}", &[], "/render/acme/1");
    check(
        "/a-{metadata.x}.json?q={metadata.y}&t={tenant}",
        &[("x", "1"), ("y", "")],
        "/a-1.json?q=&t=acme",
    );
    check("/{metadata.x}", &[("x", "old"), ("x", "new")], "/new");
}

#[test]
fn a_value_stays_a_value() {
    check(
        "/{metadata.x}",
        &[("x", "?a=b#c&d%2F:@;,é")],
        "/%3Fa%3Db%23c%26d%252F%3A%40%3B%2C%C3%A9",
    );
    check("/?q={metadata.x}", &[("x", "a&b=c/../d\r\n")], "/?q=a%26b%3Dc%2F..%2Fd%0D%0A");
    check("/{metadata.x}", &[("x", "...")], "/...");
    check("/x{metadata.x}", &[("x", "..")], "/x..");
}

#[test]
fn a_value_that_might_leave_its_segment_is_refused() {
    for value in ["/", "..\\..", "a/b", "\0", "a\nb", "\u{85}"] {
        refuses("/{metadata.x}", &[("x", value)], "may not have");
    }
    for value in [".", ".."] {
        refuses("/a/{metadata.x}/b", &[("x", value)], "no segments");
    }
    refuses("/{metadata.x}{metadata.y}", &[("x", "."), ("y", ".")], "no segments");
    refuses("/%2e{metadata.x}", &[("x", ".")], "no segments");
    refuses("/a/{metadata.x}", &[("x", "")], "is empty");
    refuses("/a?b={metadata.x}", &[], "needs this metadata");
    let long = "é".repeat(2_000);
    refuses("/{metadata.x}", &[("x", &long)], "bytes");
}

#[test]
fn a_path_that_is_none_is_named() {
    let cases = [
        ("", BadPath::NoSlash),
        ("x", BadPath::NoSlash),
        ("/a b", BadPath::Character(' ')),
        ("/é", BadPath::Character('é')),
        ("/a\\b", BadPath::Character('\\')),
        ("/%zz", BadPath::Escape),
        ("/%4", BadPath::Escape),
        ("/a/../b", BadPath::Dots),
        ("/%2E%2e/b", BadPath::Dots),
        ("/a#b", BadPath::Fragment),
        ("/{tenant", BadPath::Brace),
        ("/tenant}", BadPath::Brace),
        ("/{payload}", BadPath::Place("payload".into())),
        ("/{metadata.}", BadPath::Place("metadata.".into())),
        ("/{a/b}", BadPath::Brace),
    ];
    for (path, expected) in cases {
        assert_eq!(Template::parse(path), Err(expected), "{path}");
    }
}

proptest! {
    /// Whatever a value is, the URL that is asked has the host, the number of segments and the
    /// fixed text of the template.
    #[test]
    fn no_value_changes_what_surrounds_it(x in any::<String>(), y in any::<String>()) {
        prop_assume!(x.len() < 1_000 && y.len() < 1_000);
        let template = "/base/{metadata.x}/end?q={metadata.y}&z=1";
        let Ok(filled) = filled(template, &[("x", &x), ("y", &y)]) else { return Ok(()) };
        let base = reqwest::Url::parse("http://upstream.example:8080").expect("a URL");
        let url = base.join(&filled).expect("a URL");
        prop_assert_eq!(url.host_str(), Some("upstream.example"));
        prop_assert_eq!(url.port(), Some(8080));
        let segments: Vec<_> = url.path_segments().expect("a path").collect();
        prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "base", "end"));
        let query: Vec<_> = url.query_pairs().collect();
        prop_assert_eq!(query.len(), 2);
        prop_assert_eq!(&*query[0].1, &*y);
        prop_assert_eq!(url.fragment(), None);
    }
}
