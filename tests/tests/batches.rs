//! What a batch promises, over real QUIC.

use bytes::Bytes;
use tollgate_client::Request;
use tollgate_tests::Rig;

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
