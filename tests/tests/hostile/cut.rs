//! A good conversation, cut at every byte.

use tollgate_protocol::{ClientFrame, batch::Request};
use tollgate_tests::raw::Ending;

use super::{Scene, bytes, open};

/// An opening, two items, and a seal: where each frame ends, and the bytes.
fn conversation() -> (Vec<usize>, Vec<u8>) {
    let (mut ends, mut all) = (Vec::new(), Vec::new());
    let requests = [Request::new(1, "echo", b"one"), Request::new(300, "later", b"two")];
    let [one, two] = requests.map(ClientFrame::Request);
    for frame in [open(), one, two, ClientFrame::Seal { items: 2 }] {
        all.extend(bytes(&[frame]));
        ends.push(all.len());
    }
    (ends, all)
}

#[tokio::test]
async fn a_stream_that_ends_at_any_byte_is_a_cut_batch_or_none() {
    let scene = Scene::new().await;
    let (_, all) = conversation();
    for cut in 0..all.len() {
        // A batch's id is free again when it has ended.
        let (ends, all) = conversation();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let mut stream = scene.raw.stream().await;
        stream.bytes(&all[..cut]).await;
        stream.fin();
        let lines = stream.transcript().await;
        if whole == 0 {
            assert_eq!(lines, [""; 0], "cut at {cut}");
            continue;
        }
        // What was read of the batch has its result, and the summary says that it was cut.
        let summary = lines.last().expect("a summary");
        let read = whole - 1;
        assert!(summary.starts_with("summary Cut"), "cut at {cut}: {lines:?}");
        assert!(summary.ends_with(&format!("/{read}")), "cut at {cut}: {lines:?}");
        assert_eq!(lines.len(), 2 + read, "cut at {cut}: {lines:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_stream_that_is_reset_at_any_byte_leaves_nothing() {
    let scene = Scene::new().await;
    let len = conversation().1.len();
    for cut in 0..len {
        let (_, all) = conversation();
        let mut stream = scene.raw.stream().await;
        stream.bytes(&all[..cut]).await;
        stream.reset([0, 1, 2, 9][cut % 4]);
        // What a reset overtook was not read: whatever was, ends well.
        let end = stream.ending().await;
        assert_eq!(end, Ending::Finished, "cut at {cut}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_conversation_byte_by_byte_is_a_conversation() {
    let scene = Scene::new().await;
    let (_, all) = conversation();
    let mut stream = scene.raw.stream().await;
    for byte in all {
        stream.bytes(&[byte]).await;
        // Each byte is on its way alone.
        tokio::task::yield_now().await;
    }
    let mut lines = stream.transcript().await;
    lines.sort();
    let expected = ["accepted", "result 1 OK one", "result 300 OK two", "summary Sealed 2/2"];
    assert_eq!(lines, expected);
    scene.end().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_at_any_byte_leaves_nothing() {
    let scene = Scene::new().await;
    let (_, all) = conversation();
    for cut in (0..all.len()).step_by(7) {
        let (_, all) = conversation();
        let raw = scene.rig.raw("acme").await;
        let mut stream = raw.stream().await;
        stream.bytes(&all[..cut]).await;
        raw.conn.close(0u32.into(), b"");
        raw.endpoint.wait_idle().await;
    }
    scene.end().await;
}
