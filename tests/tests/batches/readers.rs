//! Readers that are slow, or gone: nothing is lost, memory is bounded, nobody else is disturbed.

use std::sync::Arc;

use quinn::{TransportConfig, VarInt};
use tollgate_protocol::{ClientFrame, batch::Request, close::StreamCode, encode};
use tollgate_tests::{
    Rig, eventually,
    raw::{self, Ending, Raw, RawStream},
    resident_bytes,
};

/// A client whose streams take no more than 16 KiB before they are read.
async fn narrow(rig: &Rig, tenant: &str) -> Raw {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(16 << 10));
    raw::connect_with(rig.addr(), &rig.credentials(tenant), transport).await
}

fn requests(ids: std::ops::Range<u64>, recipe: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        encode(&ClientFrame::Request(Request::new(id, recipe, payload)), &mut bytes);
    }
    bytes
}

#[tokio::test]
async fn a_reader_through_a_narrow_window_loses_nothing_and_disturbs_nobody() {
    const ITEMS: u64 = 4_000;
    let (rig, _stage) = Rig::staged(|_| {}).await;
    let raw = narrow(&rig, "acme").await;
    let globex = rig.raw("globex").await;
    let before = resident_bytes();
    let RawStream { mut send, mut reader } = raw.batch().await;
    let write = tokio::spawn(async move {
        let payload = [b'p'; 4_096];
        for first in (0..ITEMS).step_by(100) {
            send.write_all(&requests(first..first + 100, "echo", &payload)).await.expect("sent");
        }
        let mut seal = Vec::new();
        encode(&ClientFrame::Seal { items: ITEMS }, &mut seal);
        send.write_all(&seal).await.expect("sent");
        send
    });
    reader.until("accepted").await;
    for id in 0..ITEMS {
        assert_eq!(reader.until("result").await, [format!("result {id} OK 4096 bytes")]);
        if id % 500 == 0 {
            assert!(globex.serves().await);
        }
    }
    let expected = format!("summary Sealed {ITEMS}/{ITEMS}");
    assert_eq!(reader.transcript().await, [expected]);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes for what passed through");
    write.await.expect("written");
    rig.idle().await;
}

/// One that sends `requests` and never reads: until it counts as gone.
async fn check_gone(recipe: &str, payload: &[u8], items: u64) -> Rig {
    let (rig, stage) = Rig::staged(|c| c.limits.reader_timeout_ms = 300).await;
    stage.open(items as usize);
    let raw = narrow(&rig, "acme").await;
    let RawStream { mut send, mut reader } = raw.batch().await;
    let bytes = requests(0..items, recipe, payload);
    let write = tokio::spawn(async move {
        let _ = send.write_all(&bytes).await;
        send.stopped().await
    });
    let stopped = tokio::time::timeout(tollgate_tests::SOON, write).await.expect("in time");
    let stopped = stopped.expect("no panic").expect("told");
    assert_eq!(stopped, Some(VarInt::from_u32(StreamCode::ReaderGone.number())));
    assert_eq!(reader.ending().await, Ending::Reset(StreamCode::ReaderGone));
    assert!(raw.serves().await, "the connection is kept");
    assert!(rig.raw("globex").await.serves().await);
    rig.idle().await;
    rig
}

#[tokio::test]
async fn a_reader_that_never_reads_counts_as_gone() {
    check_gone("echo", &[b'p'; 4_096], 2_000).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_what_async_recipes_answer_counts_as_gone() {
    check_gone("gate", &[b'p'; 4_096], 2_000).await;
}

/// Tiny requests for results of 1 MiB each, which nobody reads: how many of them are made.
async fn check_made(recipe: &str) -> usize {
    let (rig, stage) = Rig::staged(|_| {}).await;
    stage.open(2_000);
    let raw = narrow(&rig, "acme").await;
    let mut batch = raw.batch().await;
    batch.bytes(&requests(0..2_000, recipe, b"1048576")).await;
    // What was taken in is charged: it stands still once the broker reads no further.
    let globex = rig.raw("globex").await;
    let made = || stage.seen().finished.len();
    let mut last = usize::MAX;
    while last != made() {
        last = made();
        assert!(globex.serves().await && raw.serves().await);
    }
    drop(batch);
    rig.idle().await;
    last
}

#[tokio::test]
async fn small_requests_for_large_results_that_nobody_reads_fill_no_memory() {
    for recipe in ["blow.counted", "gate.blow"] {
        let made = check_made(recipe).await;
        // A send window of 1 MiB, and one that did not fit any more; some leave for the rest.
        assert!((1..=8).contains(&made), "{recipe}: {made} results of 1 MiB wait in memory");
    }
}

#[tokio::test]
async fn a_reader_that_pauses_is_given_everything() {
    let (rig, stage) = Rig::staged(|_| {}).await;
    let raw = narrow(&rig, "acme").await;
    let RawStream { mut send, mut reader } = raw.batch().await;
    let sent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done = sent.clone();
    let write = tokio::spawn(async move {
        send.write_all(&requests(0..1_000, "echo", &[b'p'; 4_096])).await.expect("sent");
        let mut seal = Vec::new();
        encode(&ClientFrame::Seal { items: 1_000 }, &mut seal);
        send.write_all(&seal).await.expect("sent");
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        send
    });
    // A whole pause: other work on the connection, during which this stream is full.
    let mut pause = raw.batch().await;
    pause.request(1, "gate", b"pause").await;
    stage.running(1).await;
    for _ in 0..20 {
        assert!(raw.serves().await);
    }
    assert!(!sent.load(std::sync::atomic::Ordering::SeqCst), "4 MiB do not fit the windows");
    stage.open(1);
    pause.seal(1).await;
    pause.until("summary").await;
    assert_eq!(reader.until("summary").await.len(), 1_002);
    write.await.expect("written");
    eventually("all is sent", || sent.load(std::sync::atomic::Ordering::SeqCst)).await;
    rig.idle().await;
}
