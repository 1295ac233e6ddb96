//! Recipes that call an HTTP service, over real QUIC and real TCP.

use bytes::Bytes;
use tollgate_client::{Client, Failure, ItemResult, Request, RetryPolicy};

#[path = "upstreams/answers.rs"]
mod answers;
#[path = "upstreams/bounds.rs"]
mod bounds;
#[path = "upstreams/breaker.rs"]
mod breaker;
#[path = "upstreams/docs.rs"]
mod docs;
#[path = "upstreams/hostile.rs"]
mod hostile;
#[path = "upstreams/process.rs"]
mod process;
#[path = "upstreams/stream.rs"]
mod stream;
#[path = "upstreams/time.rs"]
mod time;
#[path = "upstreams/tls.rs"]
mod tls;

/// The result of one item, tried once.
async fn once(client: &Client, request: Request) -> ItemResult {
    let batch = client.batch().retry(RetryPolicy::none());
    let result = batch.execute([request]).await.expect("a batch");
    result.into_vec().remove(0)
}

/// The result of one item of the recipe `call`.
async fn call(client: &Client, payload: impl Into<Bytes>) -> ItemResult {
    once(client, Request::new("call", payload)).await
}

/// Why an item failed.
#[track_caller]
fn failure(result: &ItemResult) -> &Failure {
    result.failure().unwrap_or_else(|| panic!("it succeeded: {result:?}"))
}

/// What a failure says that programs read: its code, and whether it may be tried again and did
/// nothing.
#[track_caller]
fn says(result: &ItemResult) -> (&'static str, bool, bool) {
    let f = failure(result);
    (f.code_name(), f.retryable, f.side_effect_free)
}
