//! Each item's own outcome, and the order in which they come.

use bytes::Bytes;
use tollgate_client::Request;
use tollgate_protocol::{Code, batch::Order};
use tollgate_tests::{Rig, raw::Told};

/// Runs one batch; its lines must be these, sorted, with the summary last.
#[track_caller]
fn lines_are(mut lines: Vec<String>, expected: &[&str]) {
    let summary = lines.pop();
    lines.sort();
    lines.extend(summary);
    assert_eq!(lines, expected);
}

async fn check(items: &[(&str, &str)], expected: &[&str]) {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    for (id, (recipe, payload)) in (1..).zip(items) {
        batch.request(id, recipe, payload.as_bytes()).await;
    }
    batch.seal(items.len() as u64).await;
    lines_are(batch.transcript().await, expected);
    assert!(raw.serves().await);
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_of_echoes_comes_back_whole() {
    let rig = Rig::start().await;
    let client = rig.client("acme").await;
    let payload = |n: u64| Bytes::from(format!("payload {n}"));
    let result = client.execute((0..1_000).map(|n| Request::new("echo", payload(n)))).await;
    let items = result.expect("a batch").into_result().expect("no failures");
    assert_eq!(items.len(), 1_000);
    for (n, item) in (0..).zip(&items) {
        assert_eq!(item.payload(), Some(&payload(n)));
    }
    rig.idle().await;
}

#[tokio::test]
async fn a_batch_without_items_is_a_batch() {
    check(&[], &["accepted", "summary Sealed 0/0"]).await;
}

#[tokio::test]
async fn each_item_fails_by_itself() {
    check(
        &[
            ("echo", "one"),
            ("fail", ""),
            ("panic", ""),
            ("nope", ""),
            ("invalid", ""),
            ("small", "eleven bytes"),
            ("small", "6bytes"),
            ("echo", "eight"),
        ],
        &[
            "accepted",
            "result 1 OK one",
            "result 2 RECIPE_EXECUTION",
            "result 3 PANIC",
            "result 4 RECIPE_NOT_FOUND",
            "result 5 VALIDATION_ERROR",
            "result 6 PAYLOAD_TOO_LARGE",
            "result 7 RESULT_TOO_LARGE",
            "result 8 OK eight",
            "summary Sealed 2/8",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_panic_is_one_items_wherever_it_happens() {
    check(
        &[
            ("panic", ""),
            ("panic.odd", ""),
            ("later.panic", ""),
            ("pool.panic", ""),
            ("later", "fine"),
            ("quick", "fine"),
        ],
        &[
            "accepted",
            "result 1 PANIC",
            "result 2 PANIC",
            "result 3 PANIC",
            "result 4 PANIC",
            "result 5 OK fine",
            "result 6 OK fine",
            "summary Sealed 2/6",
        ],
    )
    .await;
}

async fn told(recipe: &str, payload: &[u8]) -> Told {
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch().await;
    batch.request(1, recipe, payload).await;
    batch.seal(1).await;
    batch.failures().await.pop().expect("a failure")
}

#[tokio::test]
async fn a_failure_says_what_a_program_needs() {
    let failed = told("fail", b"").await;
    assert_eq!(failed.code(), Some(Code::RecipeExecution));
    assert_eq!((failed.attempts, failed.detail("part")), (1, "gearbox"));
    assert!(!failed.retryable && !failed.side_effect_free, "it ran: {failed:?}");
    let panicked = told("later.panic", b"").await;
    assert!(!panicked.retryable && !panicked.side_effect_free, "it ran: {panicked:?}");
    let unknown = told("nope", b"").await;
    assert!(unknown.side_effect_free && !unknown.retryable && unknown.attempts == 0, "{unknown:?}");
    let too_large = told("small", b"eleven bytes").await;
    assert_eq!((too_large.detail("limit"), too_large.detail("length")), ("10", "12"));
    assert!(too_large.side_effect_free && too_large.attempts == 0, "{too_large:?}");
    let result = told("small", b"6bytes").await;
    assert_eq!((result.detail("limit"), result.detail("length")), ("10", "12"));
    assert!(!result.side_effect_free && result.attempts == 1, "{result:?}");
}

/// Four items, of which the first ends last: the results, in the order in which they come.
async fn check_order(order: Order) -> Vec<String> {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.order = order).await;
    batch.request(10, "gate", b"a").await;
    stage.running(1).await;
    batch.request(20, "fail", b"").await;
    batch.request(30, "gate.impatient", b"c").await;
    batch.request(40, "nope", b"").await;
    batch.seal(4).await;
    let mut lines = Vec::new();
    if order == Order::Completion {
        // Read while the first still waits.
        for _ in 0..2 {
            lines.extend(batch.until("result").await);
        }
    }
    stage.running(2).await;
    stage.open(2);
    lines.extend(batch.transcript().await);
    lines.retain(|l| l.starts_with("result"));
    rig.idle().await;
    lines
}

#[tokio::test]
async fn results_come_as_items_finish() {
    let lines = check_order(Order::Completion).await;
    assert_eq!(lines[..2], ["result 20 RECIPE_EXECUTION", "result 40 RECIPE_NOT_FOUND"]);
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn results_come_in_the_order_of_the_requests_when_asked_for() {
    let expected = [
        "result 10 OK a",
        "result 20 RECIPE_EXECUTION",
        "result 30 OK c",
        "result 40 RECIPE_NOT_FOUND",
    ];
    assert_eq!(check_order(Order::Submission).await, expected);
}

#[tokio::test]
async fn submission_order_starts_nothing_new_while_what_it_holds_back_is_full() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = rig.raw("acme").await;
    let mut batch = raw.batch_with(|open| open.order = Order::Submission).await;
    batch.request(0, "pool", b"first").await;
    stage.running(1).await;
    // 64 MiB of results at once, behind one that is not there yet: 4 MiB of them are held.
    stage.open(64);
    for id in 1..=64 {
        batch.request(id, "gate.blow", b"1048576").await;
    }
    batch.seal(65).await;
    stage.until("four are held", |s| s.finished.len() == 4).await;
    assert!(raw.serves().await);
    assert_eq!(stage.seen().started.len(), 5, "nothing new starts");
    stage.open_pool(1);
    let lines = batch.transcript().await;
    let results = lines.iter().filter_map(|l| l.strip_prefix("result ")?.split(' ').next());
    let ids: Vec<u64> = results.map(|id| id.parse().expect("an id")).collect();
    assert_eq!(ids, (0..=64).collect::<Vec<_>>());
    assert_eq!(lines.last().map(String::as_str), Some("summary Sealed 65/65"));
    rig.idle().await;
}
