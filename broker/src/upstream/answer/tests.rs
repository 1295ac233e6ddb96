use super::*;

#[track_caller]
fn check(status: u16, code: Code, permanent: bool) {
    assert_eq!(meaning(status), (code, permanent), "{status}");
}

#[test]
fn a_status_has_its_code() {
    check(200, Code::Ok, false);
    check(204, Code::Ok, false);
    check(302, Code::UpstreamFailed, true);
    check(304, Code::UpstreamFailed, true);
    check(400, Code::ValidationError, true);
    check(401, Code::Unauthorized, true);
    check(403, Code::Forbidden, true);
    check(404, Code::NotFound, true);
    check(408, Code::UpstreamFailed, false);
    check(409, Code::RecipeExecution, true);
    check(422, Code::ValidationError, true);
    check(429, Code::RateLimited, false);
    check(451, Code::RecipeExecution, true);
    check(500, Code::UpstreamFailed, false);
    check(599, Code::UpstreamFailed, false);
    check(777, Code::UpstreamFailed, true);
}

#[test]
fn the_documentation_has_the_same_table() {
    let page = include_str!("../../../../docs/upstreams.md");
    for row in &TABLE {
        let (first, last) = (row.statuses.start(), row.statuses.end());
        let statuses = match (first, last) {
            (100, 999) => "any other, redirects too".to_owned(),
            (400, 499) => "any other 4xx".to_owned(),
            (first, last) if first == last => first.to_string(),
            (first, _) => format!("{}xx", first / 100),
        };
        let again = match (row.code, row.permanent) {
            (Code::Ok, _) => "",
            (_, true) => "no",
            (_, false) => "if idempotent",
        };
        let line = format!("| {statuses} | `{}` | {again} |", row.code);
        assert!(page.lines().any(|l| l == line), "the page has no line `{line}`");
    }
}

#[test]
fn a_problem_document_speaks_for_itself() {
    let body = br#"{"type": "https://e.example/out-of-paper", "title": "No paper", "status": 503,
        "detail": "tray \u0007 2 is\nempty", "app_code": "PAPER-7", "retry_after_ms": 1500,
        "details": {"tray": 2, "ok": false, "deep": {"a": 1}, "none": null, "note": "a\u001b[31mb"}}"#;
    let e = failure(503, Some("application/problem+json; charset=utf-8"), None, body).into_inner();
    assert_eq!(e.code, Code::UpstreamFailed);
    assert_eq!(e.message, "No paper: tray   2 is empty");
    assert_eq!(e.app_code.as_deref(), Some("PAPER-7"));
    assert_eq!(e.retry_after, Some(Duration::from_millis(1_500)));
    assert!(!e.permanent);
    let details: Vec<_> = e.details.as_pairs().iter().collect();
    let expected = [
        ("http_status", "503"),
        ("problem_type", "https://e.example/out-of-paper"),
        ("note", "a [31mb"),
        ("ok", "false"),
        ("tray", "2"),
    ];
    assert_eq!(details, expected);
}

#[test]
fn any_other_body_is_an_excerpt() {
    let long = format!("<html>\n{}", "é".repeat(9_000));
    let e = failure(500, Some("text/html"), None, long.as_bytes()).into_inner();
    assert_eq!(e.message, "the upstream answered 500");
    let excerpt = e.details.as_pairs().find("body").expect("an excerpt").to_owned();
    assert!(excerpt.starts_with("<html> éé") && excerpt.len() <= EXCERPT_BYTES_MAX);
    let not_json = failure(400, Some("application/problem+json"), None, b"\xff{").into_inner();
    assert_eq!(not_json.message, "the upstream answered 400");
    assert!(not_json.permanent);
    let empty = failure(404, None, None, b"").into_inner();
    assert_eq!(empty.details.as_pairs().iter().collect::<Vec<_>>(), [("http_status", "404")]);
}

#[test]
fn a_flood_of_words_is_bounded() {
    let details: BTreeMap<String, String> =
        (0..500).map(|n| (format!("{n:0200}"), "v".repeat(2_000))).collect();
    let body = serde_json::json!({"title": "t".repeat(50_000), "details": details}).to_string();
    let e = failure(500, Some("application/problem+json"), None, body.as_bytes()).into_inner();
    assert!(e.message.len() <= MESSAGE_BYTES_MAX);
    assert!(e.details.as_pairs().len() <= 1 + DETAILS_MAX);
    assert!(e.details.as_pairs().iter().all(|(k, v)| k.len() <= 64 && v.len() <= 512));
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: jiff::Timestamp = "1994-11-06T08:49:30Z".parse().expect("a time");
    let check = |text, expected: Option<u64>| {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    };
    check("120", Some(120));
    check(" 0 ", Some(0));
    check("Sun, 06 Nov 1994 08:49:37 GMT", Some(7));
    check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
    check("99999999999", Some(24 * 3_600));
    check("soon", None);
    check("-1", None);
    check("", None);
}
