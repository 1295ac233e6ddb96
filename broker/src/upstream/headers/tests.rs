use std::{sync::Arc, time::Duration};

use tollgate_protocol::PairsBuf;

use super::*;

fn text(name: &str, value: &str) -> BTreeMap<String, HeaderText> {
    BTreeMap::from([(name.to_owned(), HeaderText::Text(value.to_owned()))])
}

fn sent(metadata: &[(&str, &str)]) -> HeaderMap {
    let mut pairs = PairsBuf::new();
    for (key, value) in metadata {
        pairs.push(key, value).expect("within bounds");
    }
    let mut ctx = Context::for_test("acme", "report.render");
    ctx.metadata = Some(Arc::new(pairs));
    let now = Instant::now();
    ctx.deadline = Some(now + Duration::from_millis(1_500));
    let mut headers = HeaderMap::new();
    of_item(&mut headers, &ctx, now);
    headers
}

#[test]
fn an_item_is_named_by_what_the_broker_knows() {
    let headers = sent(&[]);
    let of = |name| headers.get(name).and_then(|v| v.to_str().ok());
    assert_eq!(of(TENANT), Some("acme"));
    assert_eq!(of(RECIPE), Some("report.render"));
    assert_eq!(of(ITEM), Some("1"));
    assert_eq!(of(ATTEMPT), Some("1"));
    assert_eq!(of(DEADLINE_MS), Some("1500"));
    assert_eq!(of(BATCH).map(str::len), Some(36));
    assert_eq!(headers.len(), 6);
}

#[test]
fn metadata_is_sent_when_it_is_a_header_and_stays_under_its_prefix() {
    let long = "x".repeat(1_025);
    let headers = sent(&[
        ("Size", "old"),
        ("size", "large"),
        ("x\r\ny", "1"),
        ("crlf", "a\r\nTollgate-Tenant: globex"),
        ("nul", "\0"),
        ("", "empty"),
        ("a b", "1"),
        ("a:b", "1"),
        ("é", "1"),
        ("long", &long),
        (&"k".repeat(65), "1"),
    ]);
    let metadata: Vec<_> =
        headers.iter().filter(|(name, _)| name.as_str().starts_with(METADATA_PREFIX)).collect();
    assert_eq!(metadata.len(), 1, "{metadata:?}");
    assert_eq!(headers["tollgate-metadata-size"], "large");
    assert_eq!(headers[TENANT], "acme");
}

#[test]
fn metadata_is_bounded_in_all() {
    let value = "v".repeat(1_000);
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let pairs: Vec<_> = keys.iter().map(|k| (k.as_str(), value.as_str())).collect();
    assert_eq!(sent(&pairs).len() - 6, 8, "of 12 KiB");
}

#[test]
fn a_header_that_can_not_be_set_is_named_with_its_reason() {
    let refused = |headers: BTreeMap<String, HeaderText>| plan(&headers).expect_err("refused");
    assert!(matches!(refused(text("a b", "x")).1, Problem::HeaderName));
    for name in ["Host", "content-length", "Transfer-Encoding", "tollgate-tenant", "traceparent"] {
        let (at, problem) = refused(text(name, "x"));
        assert!(matches!(problem, Problem::HeaderReserved) && at == name, "{name}: {problem}");
    }
    assert!(matches!(refused(text("Authorization", "Bearer x")).1, Problem::Secret));
    assert!(matches!(refused(text("x-a", "a\nb")).1, Problem::HeaderValue { .. }));
    let env = super::super::config::SecretEnv { env: "TOLLGATE_X".into(), prefix: String::new() };
    let headers = BTreeMap::from([("x-a".to_owned(), HeaderText::Env(env))]);
    assert!(matches!(refused(headers).1, Problem::VariableIsKey));
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let from = super::super::config::SecretFile { file: file.clone(), prefix: "Bearer ".into() };
    let headers = BTreeMap::from([("authorization".to_owned(), HeaderText::File(from))]);
    let planned = plan(&headers).expect("good");
    let read_now = read(&planned).expect("readable");
    assert_eq!(read_now["authorization"], "Bearer s3cret");
    assert!(!format!("{read_now:?}").contains("s3cret"));
    std::fs::write(&file, "\n").expect("written");
    assert!(matches!(read(&planned).expect_err("empty").1, Problem::Content { .. }));
}
